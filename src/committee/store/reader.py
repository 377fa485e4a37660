"""Opening one split of a store as a pool, every chunk checked."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from committee.arrays import Array
from committee.errors import (
    ChangedError,
    CommitteeError,
    DamagedError,
    StoreError,
    UnknownNameError,
)
from committee.pool.layout import Layout
from committee.pool.pool import Pool
from committee.pool.pool_model import PoolModel
from committee.pool.samples import Samples
from committee.rule.outputs import Outputs, checked_outputs
from committee.spec.model import KnownModel, ModelSpec, model_from_json, task_of
from committee.spec.task import CLASSIFICATION, Task
from committee.store.calibrations import KEY, read_calibrations
from committee.store.entry import (
    CHUNK_ROWS,
    SAMPLES,
    Manifest,
    begun_models,
    finished_models,
    header,
    is_intact,
    read_index,
    read_manifest,
)
from committee.store.split import read_split

_CHUNKS_A_TASK = 16
# The index of a store of segmentation, which committee.segment reads.
TILES = "tiles.json"


def load_pool(
    folder: Path, models: Iterable[str] | None = None, *, calibrated: bool = False
) -> Pool:
    """Open one split of a store; see :meth:`committee.pool.pool.Pool.load`."""
    root = folder.parent
    if not (folder / SAMPLES).exists():
        _explain_missing(folder)
    index = read_index(root / "store.json")
    samples = read_split(folder, tuple(index["classes"])).samples
    written, begun = finished_models(folder), begun_models(folder)
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
    opened = {name: _open(folder, name, samples) for name in names}
    _check(opened.values())
    outputs = {name: _outputs(each) for name, each in opened.items()}
    specs = {name: _spec(name, index["models"][name], root) for name in names}
    calibrations = read_calibrations(root, names) if calibrated else {}
    models = {n: PoolModel(specs[n], outputs[n], calibrations.get(n)) for n in names}
    return Pool(samples, models, Layout.of(specs), _task(specs.values()))


def _spec(name: str, data: Mapping[str, Any], root: Path) -> KnownModel:
    known = {key: value for key, value in data.items() if key != KEY}
    return model_from_json(name, known, str(root / "store.json"))


def _task(models: Iterable[KnownModel]) -> Task:
    """Return the task; for outputs made elsewhere nobody says what a sample is."""
    models = list(models)
    specs = [model for model in models if isinstance(model, ModelSpec)]
    return task_of(specs) if len(specs) == len(models) else CLASSIFICATION


def _explain_missing(folder: Path) -> None:
    if any((each / TILES).exists() for each in (folder, folder.parent)):
        raise StoreError(
            f"{folder}: holds tiles of segmentation, of which only scores and counts are kept; "
            "predict, search, evaluate, study, report and run take them"
        )
    if (folder / "store.json").exists():
        splits = sorted(p.parent.name for p in folder.glob(f"*/{SAMPLES}"))
        raise StoreError(
            f"{folder}: this is a store; name one of its splits, for example "
            f"{folder / (splits or ['val'])[0]}"
        )
    known = sorted(p.parent.name for p in folder.parent.glob(f"*/{SAMPLES}"))
    if known:
        raise UnknownNameError.of(str(folder.parent), "split", folder.name, known)
    raise StoreError(f"{folder}: no store is there; make one with committee predict or import")


def stored_widths(folder: Path) -> dict[str, int]:
    """Return how many outputs each finished model of a split has; damaged ones are left out.

    Args:
        folder: Folder of the split; it need not be there.
    """
    found = {}
    for name in sorted(finished_models(folder)):
        with suppress(StoreError):
            manifest = read_manifest(folder / f"{name}.json")
            if manifest.entry.kind != "decisions":
                found[name] = manifest.width
    return found


@dataclass(frozen=True, eq=False)
class _ModelFile:
    """One model's finished outputs, the numbers still on disk."""

    path: Path
    manifest: Manifest
    array: Array
    remedy: str


def _open(folder: Path, name: str, samples: Samples) -> _ModelFile:
    path = folder / f"{name}.npy"
    manifest = read_manifest(folder / f"{name}.json")
    entry = manifest.entry
    remedy = (
        "Run the same committee predict or import again; all other models are kept, and in "
        f"{name!r} every chunk that is not damaged"
    )
    if entry.rows < len(samples):
        raise StoreError(
            f"{path}: has {entry.rows} of {len(samples)} samples, for some were added. Run "
            "committee predict or import with this model too; predict computes only what is missing"
        )
    for key, then, now in (
        ("samples", entry.samples, samples.ids_fingerprint),
        ("classes", entry.classes, samples.classes_fingerprint),
    ):
        if then != now:
            raise ChangedError(
                f"{path}: was computed on other {key}: fingerprint {then}, "
                f"the store has {now}. Compute it again in a new store"
            )
    if not path.exists():
        raise DamagedError(f"{path}: missing. {remedy}")
    if not is_intact(path, manifest):
        _explain_damage(path, manifest, remedy)
    head = len(header(entry, manifest.width))
    array = np.memmap(path, entry.dtype, "r", head, (entry.rows, manifest.width))
    return _ModelFile(path, manifest, array, remedy)


def _explain_damage(path: Path, manifest: Manifest, remedy: str) -> NoReturn:
    head = len(header(manifest.entry, manifest.width))
    size, expected = path.stat().st_size, head + manifest.entry.rows * manifest.row_bytes
    if size == expected:
        raise DamagedError(f"{path}: altered, its header is not the one written. {remedy}")
    how = "truncated" if size < expected else "altered"
    raise DamagedError(f"{path}: {how}, {size} bytes where {expected} should be. {remedy}")


def _check(opened: Iterable[_ModelFile]) -> None:
    """Compare every chunk with its checksum; threads share the work, for it needs no GIL.

    Raises:
        DamagedError: If some differ; all of the first such model are named.
    """
    files = list(opened)
    blocks = [
        (each, range(first, min(first + _CHUNKS_A_TASK, len(each.manifest.parts))))
        for each in files
        for first in range(0, len(each.manifest.parts), _CHUNKS_A_TASK)
    ]
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="checksum") as threads:
        damaged: dict[Path, list[int]] = {}
        for (each, _), found in zip(blocks, threads.map(_damaged, blocks), strict=True):
            damaged.setdefault(each.path, []).extend(found)
    for each in files:
        chunks = damaged.get(each.path)
        if chunks:
            raise DamagedError(f"{each.path}: altered in {_named(chunks, each)}. {each.remedy}")


def _damaged(block: tuple[_ModelFile, range]) -> list[int]:
    each, chunks = block
    found = [
        chunk
        for chunk in chunks
        if zlib.crc32(each.array[chunk * CHUNK_ROWS : (chunk + 1) * CHUNK_ROWS].data)
        != each.manifest.parts[chunk].crc32
    ]
    if not found:
        _check_numbers(each, slice(chunks.start * CHUNK_ROWS, chunks.stop * CHUNK_ROWS))
    return found


def _check_numbers(opened: _ModelFile, rows: slice) -> None:
    """Hold stored numbers against their kind, as when they came in: a checksum can be made too.

    Raises:
        DamagedError: If some cannot be of that kind.
    """
    some = replace(opened, array=opened.array[rows])
    outputs, where = _outputs(some), str(opened.path)
    if outputs.kind == "decisions" and (outputs.values != some.array[:, 0]).any():
        raise DamagedError(f"{where}: holds classes that are no indices. {opened.remedy}")
    try:
        checked_outputs(where, outputs.kind, outputs.values, outputs.confidence, rows.start)
    except CommitteeError as error:
        raise DamagedError(f"{error}. {opened.remedy}") from None


def _named(chunks: Sequence[int], each: _ModelFile) -> str:
    """Chunks and their samples, for people."""
    first = chunks[0] * CHUNK_ROWS
    last = first + each.manifest.parts[chunks[0]].rows - 1
    more = f" and {len(chunks) - 1} more chunks" if len(chunks) > 1 else ""
    return f"chunk {chunks[0]}, samples {first} to {last}{more}"


def _outputs(opened: _ModelFile) -> Outputs:
    entry, array = opened.manifest.entry, opened.array
    if entry.kind == "decisions":
        with np.errstate(invalid="ignore"):  # no index comes of NaN; it is refused
            return Outputs("decisions", array[:, 0].astype(np.int64), np.asarray(array[:, 1]))
    return Outputs(entry.kind, array)
