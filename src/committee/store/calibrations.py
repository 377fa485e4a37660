"""The calibrations of a store: one per model, in ``store.json``, with the model's fingerprint."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from committee.calibration.fitting import fit_calibrations
from committee.calibration.reliability import expected_calibration_error, says_probabilities
from committee.errors import (
    CalibrationError,
    ChangedError,
    DamagedError,
    MisalignedError,
    StoreError,
    UnknownNameError,
)
from committee.pool.comparison import shared_samples
from committee.pool.pool import Pool
from committee.rule.calibration import Calibration
from committee.rule.calibration_format import calibration_from_json
from committee.store.entry import read_index, read_manifest, write_index
from committee.store.folder import writing

KEY = "calibration"


def _write_calibrations(root: Path, calibrations: Mapping[str, Calibration]) -> None:
    """Record calibrations of models, replacing earlier ones."""
    _rewrite(
        root,
        {
            name: {**each.to_json(), "model": _fingerprint(root, name, each.split)}
            for name, each in calibrations.items()
        },
    )


def remove_calibrations(root: Path, names: Iterable[str]) -> None:
    """Remove the calibrations of models; raises as :func:`_write_calibrations` does."""
    _rewrite(root, dict.fromkeys(names))


def read_calibrations(root: Path, names: Collection[str]) -> dict[str, Calibration]:
    """Return the calibrations of some models."""
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


# The splits that select and evaluate cascades.
_IN_USE = ("val", "test")


@dataclass(frozen=True)
class CalibrationEffect:
    """The error of one model on one split without and with its calibration.

    ``before`` is None if the confidences of decisions are no probabilities.
    """

    model: str
    split: str
    samples: int
    before: float | None
    after: float


def calibrate(
    store: str | Path,
    split: str = "cal",
    method: str | None = None,
    models: Iterable[str] | None = None,
) -> dict[str, Calibration]:
    """Fit a calibration of each model on a split of a store, and write it to the store.

    Args:
        store: Folder of the store.
        split: Name of the split to fit on, which should serve nothing else. On ``val`` or ``test``
            the models then look better calibrated than they are.
        method: ``temperature`` or ``platt``, see :mod:`committee.rule.calibration`; ``per-class``
            or ``experts``, see :mod:`committee.rule.class_calibration`. If left out, ``platt`` for
            decisions and ``temperature`` otherwise.
        models: Names of the models; all if left out.
    """
    root = Path(store)
    if split not in _IN_USE and (root / "store.json").is_file():
        _check_third(root, split)
    pool = Pool.load(root / split, models)
    for other in _IN_USE:
        if other != split and (root / other).is_dir():
            _check_apart(root, pool, Pool.load(root / other))
    fitted = fit_calibrations(pool, method)
    _write_calibrations(root, fitted)
    return fitted


def calibration_effects(
    pool: Pool, calibrations: Mapping[str, Calibration], bins: int = 15
) -> list[CalibrationEffect]:
    """Return the expected calibration error of each calibrated model, before and after."""
    labels = pool.samples.labels
    if labels is None:
        raise MisalignedError(f"split {pool.samples.split!r} has no labels; accuracy needs them")
    effects = []
    for name, calibration in calibrations.items():
        raw = pool.model(name)
        known = says_probabilities(raw)
        before = expected_calibration_error(raw, labels, bins) if known else None
        after = expected_calibration_error(calibration.apply(raw), labels, bins)
        effects.append(CalibrationEffect(name, pool.samples.split, len(pool), before, after))
    return effects


def _check_third(root: Path, split: str) -> None:
    """Refuse a store that has no third split; if it has one, the name may only be misspelt."""
    if not {path.name for path in root.iterdir() if path.is_dir()} <= {*_IN_USE}:
        return
    raise UnknownNameError(
        f"{root}: no split {split!r}. Calibration needs a third split, beside val and test: "
        f"{_how(root, split)}"
    )


def _how(root: Path, split: str) -> str:
    """Return the command that makes a third split the way the store's other splits were made."""
    models = read_index(root / "store.json")["models"].values()
    kinds = {each["kind"] for each in models if "source" not in each}
    if kinds:
        kind = kinds.pop()
        return f"committee import [NAME=]FILE... --kind {kind} --split {split} --out {root}"
    return (
        f"committee predict POOL.toml --data DATA --split {split} --out {root}; with --fraction "
        "START:STOP all three come from one folder"
    )


def _check_apart(root: Path, fitted: Pool, other: Pool) -> None:
    both = shared_samples(other, fitted)
    if both.most:
        use = "selects cascades" if other.samples.split == "val" else "evaluates them"
        raise MisalignedError(
            f"{root}: {both.text()}, which {use}. Calibrate on samples of their own"
        )
