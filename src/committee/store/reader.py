"""Load one split of a store as a pool; the checksum of every chunk is verified."""

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
from committee.calibration.cross_fitting import cross_fitted
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
from committee.rule.outputs import WITH_CONFIDENCE, Kind, Outputs, checked_outputs
from committee.spec.cost import MEAN, Cost
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
from committee.store.sample_costs import read_costs
from committee.store.split import read_split

_CHUNKS_A_TASK = 16
# The index of a store of segmentation, which committee.segment reads.
TILES = "tiles.json"


def load_pool(
    folder: Path, models: Iterable[str] | None = None, *, calibrated: bool = False
) -> Pool:
    """Load one split of a store; see :meth:`committee.pool.pool.Pool.load`."""
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
                "it resumes where it stopped"
            )
    if not names:
        raise StoreError(f"{folder}: no outputs yet; run the same committee predict again")
    files = {name: _open(folder, name, samples) for name in names}
    _check_chunks(list(files.values()))
    outputs = {name: _outputs(each) for name, each in files.items()}
    specs = {name: _spec(name, index["models"][name], root) for name in names}
    costs = {name: read_costs(folder, specs[name], samples) for name in names}
    specs = {name: _with_means(specs[name], costs[name]) for name in names}
    calibrations = read_calibrations(root, names) if calibrated else {}
    models = {n: PoolModel(specs[n], outputs[n], calibrations.get(n), costs[n]) for n in names}
    return cross_fitted(Pool(samples, models, Layout.of(specs), _task(specs.values())))


def _with_means(model: KnownModel, costs: Mapping[str, Array]) -> KnownModel:
    """Return a model that costs what these samples cost on average.

    A mean over the samples of another split says nothing of these and is left out.
    """
    means = [Cost(float(each.mean()), unit, "given", MEAN) for unit, each in costs.items()]
    others = [cost for cost in model.costs if cost.unit not in costs and cost.conditions != MEAN]
    return replace(model, costs=(*others, *means))


def _spec(name: str, data: Mapping[str, Any], root: Path) -> KnownModel:
    known = {key: value for key, value in data.items() if key != KEY}
    return model_from_json(name, known, str(root / "store.json"))


def _task(models: Iterable[KnownModel]) -> Task:
    """Return the task of the models; imported outputs do not tell, so it is classification."""
    models = list(models)
    specs = [model for model in models if isinstance(model, ModelSpec)]
    return task_of(specs) if len(specs) == len(models) else CLASSIFICATION


def _explain_missing(folder: Path) -> None:
    if any((each / TILES).exists() for each in (folder, folder.parent)):
        raise StoreError(
            f"{folder}: holds tiles of segmentation, for which only scores and counts are stored; "
            "use predict, search, evaluate, study, report or run on them"
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
    """Return the number of outputs of each finished model of a split, except damaged ones."""
    widths = {}
    for name in sorted(finished_models(folder)):
        with suppress(StoreError):
            manifest = read_manifest(folder / f"{name}.json")
            if manifest.entry.kind not in WITH_CONFIDENCE:
                widths[name] = manifest.width
    return widths


@dataclass(frozen=True, eq=False)
class _ModelFile:
    """One model's finished outputs, as a memory map."""

    path: Path
    manifest: Manifest
    array: Array
    remedy: str


def _open(folder: Path, name: str, samples: Samples) -> _ModelFile:
    path = folder / f"{name}.npy"
    manifest = read_manifest(folder / f"{name}.json")
    entry = manifest.entry
    remedy = (
        "Run the same committee predict or import again; all other models are kept, and so is "
        f"every intact chunk of {name!r}"
    )
    if entry.rows < len(samples):
        raise StoreError(
            f"{path}: has {entry.rows} of {len(samples)} samples, because some were added. Run "
            "committee predict or import with this model too; predict computes only the new ones"
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


def _check_chunks(files: Sequence[_ModelFile]) -> None:
    """Compare every chunk with its checksum, in threads: zlib releases the GIL.

    The error names all damaged chunks of the first damaged model.
    """
    blocks = [
        (each, range(first, min(first + _CHUNKS_A_TASK, len(each.manifest.parts))))
        for each in files
        for first in range(0, len(each.manifest.parts), _CHUNKS_A_TASK)
    ]
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="checksum") as threads:
        damaged: dict[Path, list[int]] = {}
        for (each, _), numbers in zip(blocks, threads.map(_damaged, blocks), strict=True):
            damaged.setdefault(each.path, []).extend(numbers)
    for each in files:
        if chunks := damaged.get(each.path):
            raise DamagedError(f"{each.path}: altered in {_named(chunks, each)}. {each.remedy}")


def _damaged(block: tuple[_ModelFile, range]) -> list[int]:
    each, chunks = block
    damaged = [
        chunk
        for chunk in chunks
        if zlib.crc32(each.array[chunk * CHUNK_ROWS : (chunk + 1) * CHUNK_ROWS].data)
        != each.manifest.parts[chunk].crc32
    ]
    if not damaged:
        _check_numbers(each, slice(chunks.start * CHUNK_ROWS, chunks.stop * CHUNK_ROWS))
    return damaged


def _check_numbers(file: _ModelFile, rows: slice) -> None:
    """Refuse numbers that their kind does not allow, since a checksum can be forged."""
    some = replace(file, array=file.array[rows])
    outputs, where = _outputs(some), str(file.path)
    if outputs.kind == "decisions" and (outputs.values != some.array[:, 0]).any():
        raise DamagedError(f"{where}: holds classes that are no indices. {file.remedy}")
    try:
        checked_outputs(where, outputs.kind, outputs.values, outputs.confidence, rows.start)
    except CommitteeError as error:
        raise DamagedError(f"{error}. {file.remedy}") from None


def _named(chunks: Sequence[int], each: _ModelFile) -> str:
    """Return a text that names the first of some chunks and its samples, and counts the others."""
    first = chunks[0] * CHUNK_ROWS
    last = first + each.manifest.parts[chunks[0]].rows - 1
    more = f" and {len(chunks) - 1} more chunks" if len(chunks) > 1 else ""
    return f"chunk {chunks[0]}, samples {first} to {last}{more}"


def _outputs(file: _ModelFile) -> Outputs:
    return outputs_in(file.manifest.entry.kind, file.array)


def outputs_in(kind: Kind, array: Array) -> Outputs:
    """Return the outputs that an array of a store holds, shape (N, columns)."""
    if kind == "decisions":
        with np.errstate(invalid="ignore"):  # NaN is refused later
            return Outputs("decisions", array[:, 0].astype(np.int64), np.asarray(array[:, 1]))
    if kind == "outcomes":
        return Outputs("outcomes", array[:, 0], array[:, 1])
    return Outputs(kind, array)
