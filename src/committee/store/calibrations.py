"""The calibrations of a store: one per model, in ``store.json``, with the model's fingerprint."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from committee.errors import (
    CalibrationError,
    ChangedError,
    DamagedError,
    StoreError,
    UnknownNameError,
)
from committee.rule.calibration import Calibration
from committee.rule.calibration_format import calibration_from_json
from committee.store.entry import read_index, read_manifest, write_index
from committee.store.folder import writing

KEY = "calibration"


def write_calibrations(root: Path, calibrations: Mapping[str, Calibration]) -> None:
    """Record calibrations of models, replacing earlier ones.

    Raises:
        StoreError: If there is no store, or another process writes to it.
        UnknownNameError: If the store has no such model.
    """
    _rewrite(
        root,
        {
            name: {**each.to_json(), "model": _fingerprint(root, name, each.split)}
            for name, each in calibrations.items()
        },
    )


def remove_calibrations(root: Path, names: Iterable[str]) -> None:
    """Remove the calibrations of models; raises as :func:`write_calibrations` does."""
    _rewrite(root, dict.fromkeys(names))


def read_calibrations(root: Path, names: Collection[str]) -> dict[str, Calibration]:
    """Return the calibrations of some models.

    Raises:
        StoreError: If a model has none.
        ChangedError: If a model has changed since it was calibrated.
        DamagedError: If a calibration was altered.
    """
    models = read_index(root / "store.json")["models"]
    missing = [name for name in names if KEY not in models[name]]
    if missing:
        raise StoreError(
            f"{root}: no calibration of {', '.join(missing)}. "
            f"Fit it with: committee calibrate {root} --split NAME"
        )
    return {name: _read(root, name, models[name][KEY]) for name in names}


def _read(root: Path, name: str, data: Any) -> Calibration:
    again = f"Fit it again with: committee calibrate {root} --split NAME"
    try:
        fields = dict(data)
        then = fields.pop("model")
        calibration = calibration_from_json(fields)
    except (CalibrationError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(
            f"{root / 'store.json'}: model {name!r}: altered ({error}). {again}"
        ) from None
    now = _fingerprint(root, name, calibration.split)
    if then != now:
        raise ChangedError(
            f"{root}: model {name!r} has changed since it was calibrated: fingerprint was "
            f"{then}, is {now}. {again}"
        )
    return calibration


def _fingerprint(root: Path, name: str, split: str) -> str:
    """Return a model's fingerprint; for imported outputs, that of the outputs on this split."""
    models = read_index(root / "store.json")["models"]
    if name not in models:
        raise UnknownNameError.of(str(root), "model", name, models)
    model = str(models[name]["fingerprint"])
    return model or read_manifest(root / split / f"{name}.json").entry.fingerprint


def _rewrite(root: Path, calibrations: Mapping[str, Any]) -> None:
    """Write the calibrations of some models, as JSON; None removes one."""
    path = root / "store.json"
    # Read before opening for writing, which would make the folder.
    known = read_index(path)["models"]
    for name in calibrations:
        if name not in known:
            raise UnknownNameError.of(str(root), "model", name, known)
    with writing(root):
        index = read_index(path)
        for name, each in calibrations.items():
            index["models"][name].pop(KEY, None)
            if each is not None:
                index["models"][name][KEY] = each
        write_index(path, index)
