"""Opening one split of a store as a pool, every chunk checked."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from committee.cost import Cost, CostTable
from committee.errors import (
    ChangedError,
    CommitteeError,
    DamagedError,
    StoreError,
    UnknownNameError,
)
from committee.pool import Pool
from committee.predictions import Outputs
from committee.samples import Samples
from committee.store.calibrations import KEY, read_calibrations
from committee.store.entry import CHUNK_ROWS, header, read_index, read_json, read_manifest


def load_pool(folder: Path, models: Iterable[str] | None = None, calibrated: bool = False) -> Pool:
    """Open one split of a store; see :meth:`committee.pool.Pool.load`."""
    root = folder.parent
    if not (folder / "samples.json").exists():
        _explain_missing(folder)
    index = read_index(root / "store.json")
    samples = _samples(folder, tuple(index["classes"]))
    written = {path.stem for path in folder.glob("*.json") if path.name != "samples.json"}
    begun = {path.name.removesuffix(".json.part") for path in folder.glob("*.json.part")}
    if models is None:
        names = [name for name in index["models"] if name in written | begun]
    else:
        names = list(models)
    for name in names:
        if name not in (written | begun) & set(index["models"]):
            raise UnknownNameError.of(str(folder), "model", name, written)
        if name in begun:
            raise StoreError(
                f"{folder}: model {name!r} is unfinished. Run the same committee predict again; "
                "it goes on where it stopped"
            )
    if not names:
        raise StoreError(f"{folder}: no model's outputs yet; run the same committee predict again")
    outputs = {name: _load(folder, name, samples) for name in names}
    specs = {name: index["models"][name] for name in names}
    costs = {name: [Cost(**cost) for cost in spec["costs"]] for name, spec in specs.items()}
    runnable = {name: _runnable(spec) for name, spec in specs.items() if spec["source"]}
    families = {name: spec["family"] for name, spec in specs.items() if spec.get("family")}
    calibrations = read_calibrations(root, names) if calibrated else {}
    return Pool(samples, outputs, CostTable.of(costs), runnable, families, calibrations)


def _runnable(spec: Mapping[str, Any]) -> dict[str, Any]:
    """How a model is loaded; its calibration is asked for by itself."""
    return {key: value for key, value in spec.items() if key != KEY}


def _explain_missing(folder: Path) -> None:
    if (folder / "store.json").exists():
        splits = sorted(p.parent.name for p in folder.glob("*/samples.json"))
        raise StoreError(
            f"{folder}: this is a store; name one of its splits, for example "
            f"{folder / (splits or ['val'])[0]}"
        )
    known = sorted(p.parent.name for p in folder.parent.glob("*/samples.json"))
    if known:
        raise UnknownNameError.of(str(folder.parent), "split", folder.name, known)
    raise StoreError(f"{folder}: no store is there; make one with committee predict or import")


def _samples(folder: Path, classes: tuple[str, ...]) -> Samples:
    path = folder / "samples.json"
    data = read_json(path)
    try:
        labels = None if data["labels"] is None else np.array(data["labels"], np.int64)
        samples = Samples(tuple(data["ids"]), labels, classes, data["split"])
        intact = samples.fingerprint == data["fingerprint"]
    except (CommitteeError, KeyError, TypeError, ValueError):
        intact = False
    if not intact:
        raise DamagedError(
            f"{path}: altered; it does not give its own fingerprint. "
            "Run the same committee predict or import again"
        )
    return samples


def _load(folder: Path, name: str, samples: Samples) -> Outputs:
    path = folder / f"{name}.npy"
    entry, width, checksums = read_manifest(folder / f"{name}.json")
    remedy = (
        "Run the same committee predict or import again; all other models are kept, and in "
        f"{name!r} what stands before the damage"
    )
    for key, then, now in (
        ("samples", entry.samples, samples.fingerprint),
        ("classes", entry.classes, samples.classes_fingerprint),
    ):
        if then != now:
            raise ChangedError(
                f"{path}: was computed on other {key}: fingerprint {then}, "
                f"the store has {now}. Compute it again in a new store"
            )
    if not path.exists():
        raise DamagedError(f"{path}: missing. {remedy}")
    shape, dtype = (entry.rows, width), np.dtype(entry.dtype)
    size = path.stat().st_size
    wanted = len(header(entry, width)) + dtype.itemsize * entry.rows * width
    if size != wanted:
        how = "truncated" if size < wanted else "altered"
        raise DamagedError(f"{path}: {how}, {size} bytes where {wanted} should be. {remedy}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError):
        raise DamagedError(f"{path}: altered, its header cannot be read. {remedy}") from None
    if array.shape != shape or array.dtype != dtype:
        raise DamagedError(f"{path}: holds {array.dtype} {array.shape}, not {shape}. {remedy}")
    for chunk, checksum in enumerate(checksums):
        start = chunk * CHUNK_ROWS
        if zlib.crc32(array[start : start + CHUNK_ROWS].tobytes()) != checksum:
            raise DamagedError(f"{path}: altered, first at sample {start} or after. {remedy}")
    if entry.kind == "decisions":
        return Outputs("decisions", array[:, 0].astype(np.int64), np.asarray(array[:, 1]))
    return Outputs(entry.kind, array)
