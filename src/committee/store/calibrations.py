"""Calibrations in a store: one a model, in ``store.json``, with the fingerprint of the model."""

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


def models_of(root: Path) -> list[str]:
    """Names of the models of a store.

    Raises:
        StoreError: If there is no store.
    """
    return list(read_index(root / "store.json")["models"])


def keep_calibrations(root: Path, calibrations: Mapping[str, Calibration]) -> None:
    """Record calibrations of models, in place of those that they had.

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
    """Forget the calibrations of models; errors as of :func:`keep_calibrations`."""
    _rewrite(root, dict.fromkeys(names))


def read_calibrations(root: Path, names: Collection[str]) -> dict[str, Calibration]:
    """The calibrations of some models, every one of which must have one.

    Raises:
        StoreError: If a model has none.
        ChangedError: If a model is not the one that was calibrated.
        DamagedError: If one is altered.
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
        told = dict(data)
        then = told.pop("model")
        calibration = calibration_from_json(told)
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
    """Of the model; of outputs made elsewhere, of those that the calibration was fitted to."""
    models = read_index(root / "store.json")["models"]
    if name not in models:
        raise UnknownNameError.of(str(root), "model", name, models)
    of_model = str(models[name]["fingerprint"])
    return of_model or read_manifest(root / split / f"{name}.json").entry.fingerprint


def _rewrite(root: Path, told: Mapping[str, Any]) -> None:
    """Record what is told of models; None removes it."""
    path = root / "store.json"
    # Opening for writing makes the folder: not where there is no store.
    known = models_of(root)
    for name in told:
        if name not in known:
            raise UnknownNameError.of(str(root), "model", name, known)
    with writing(root):
        index = read_index(path)
        for name, each in told.items():
            index["models"][name].pop(KEY, None)
            if each is not None:
                index["models"][name][KEY] = each
        write_index(path, index)
