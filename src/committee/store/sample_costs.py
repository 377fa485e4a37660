"""Costs that differ by sample, beside the outputs of a split: one sealed file a model.

``SPLIT/costs/MODEL.json`` holds for each unit one number a sample, float64 as hexadecimal digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from committee.arrays import Array
from committee.errors import CommitteeError, DamagedError, StoreError
from committee.files import disk_errors, sync_folder
from committee.pool.costs import checked_costs
from committee.pool.samples import Samples
from committee.reading import typed
from committee.spec.model import KnownModel
from committee.store.entry import COSTS, SAMPLES, SCHEMA, read_json, write_json


@dataclass(frozen=True)
class _Record:
    """What the file of a model holds; ``samples`` is the fingerprint of their ids."""

    samples: str
    units: dict[str, str]


def write_costs(
    split: Path, model: KnownModel, samples: Samples, costs: Mapping[str, Array]
) -> None:
    """Record what each sample cost in a model; costs in other units that are there stay.

    Args:
        split: Folder of the split.
        model: The model; a unit in which it has one cost for all samples is no longer by sample.
        samples: The samples of the split.
        costs: Shape (N,), by unit.
    """
    path = _path(split, model.name)
    known = _known(path, samples)
    same = {cost.unit for cost in model.costs}
    kept = {unit: each for unit, each in known.items() if unit not in same}
    record = {**kept, **{u: each.astype(">f8").tobytes().hex() for u, each in costs.items()}}
    if record == known:
        return
    with disk_errors(path, StoreError):
        path.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(split)
        write_json(
            path, {"schema": SCHEMA, "samples": samples.ids_fingerprint, "units": record}, None
        )


def keep_costs(split: Path, samples: Samples, fewer: Samples, rows: Array) -> None:
    """Keep what some of the samples cost, ``rows`` of them, in every model of a split."""
    for path in sorted((split / COSTS).glob("*.json")):
        units = {
            unit: _numbers(path, digits, samples)[rows].astype(">f8").tobytes().hex()
            for unit, digits in _known(path, samples).items()
        }
        if units:
            with disk_errors(path, StoreError):
                write_json(
                    path, {"schema": SCHEMA, "samples": fewer.ids_fingerprint, "units": units}, None
                )


def read_costs(split: Path, model: KnownModel, samples: Samples) -> dict[str, Array]:
    """Return what each sample cost in a model, by unit; shape (N,)."""
    path = _path(split, model.name)
    own = _known(path, samples)
    try:
        return {unit: _numbers(path, digits, samples) for unit, digits in own.items()}
    except (CommitteeError, ValueError):
        raise _altered(path) from None


def splits_by_sample(store: Path, model: str, unit: str) -> list[str]:
    """Return the splits of a store in which a model has costs by sample in a unit."""
    paths = [_path(file.parent, model) for file in sorted(store.glob(f"*/{SAMPLES}"))]
    return [p.parent.parent.name for p in paths if p.exists() and unit in _read(p).units]


def _path(split: Path, model: str) -> Path:
    return split / COSTS / f"{model}.json"


def _known(path: Path, samples: Samples) -> dict[str, str]:
    """Return what is recorded of these samples; nothing if no file is there."""
    record = _read(path) if path.exists() else None
    return record.units if record and record.samples == samples.ids_fingerprint else {}


def _read(path: Path) -> _Record:
    data = read_json(path)
    del data["schema"]
    try:
        return typed("costs", data, _Record, whole=True)
    except CommitteeError:
        raise _altered(path) from None


def _numbers(path: Path, digits: str, samples: Samples) -> Array:
    numbers = np.frombuffer(bytes.fromhex(digits), ">f8").astype(np.float64)
    return checked_costs(str(path), numbers, samples.ids)


def _altered(path: Path) -> DamagedError:
    return DamagedError(f"{path}: altered. Delete it and run the same committee import again")
