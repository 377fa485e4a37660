"""A folder of stores, opened as one pool: each store is a shard of the samples.

A process checks a shard once, as it checks any store. After that it keeps labels, in the fewest
bytes, and maps outputs again when they are asked for: memory holds one shard at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from committee.arrays import Array
from committee.errors import ChangedError, CostError, MisalignedError, StoreError
from committee.pool.comparison import sum_of, summed_identity
from committee.pool.layout import Layout
from committee.pool.pool import Pool
from committee.pool.pool_model import PoolModel
from committee.pool.samples import CountedSamples, fingerprint
from committee.pool.sharded import Runs, ShardedPool
from committee.rule.outputs import Kind
from committee.spec.model import KnownModel, ModelSpec
from committee.spec.task import Task
from committee.store.entry import SAMPLES, read_manifest
from committee.store.reader import outputs_in
from committee.text import listed

_INDEX = "store.json"
# Rows of one store that make a shard; whole chunks.
_ROWS = 1 << 18


def is_sharded(folder: Path) -> bool:
    """Return True if a folder is no store, and stores are in it.

    Raises:
        StoreError: If it holds one store among other things, for then that one was meant.
    """
    if (folder / _INDEX).exists():
        return False
    stores = [each.parent for each in folder.glob(f"*/{_INDEX}")]
    if len(stores) == 1 and any(_is_other(each) for each in folder.iterdir()):
        raise StoreError(
            f"{folder}: is no store, but holds one among other things. Name that one: {stores[0]}"
        )
    return bool(stores)


def _is_other(path: Path) -> bool:
    """Return True if a path is not hidden and is no store, not even an unfinished one."""
    is_store = (path / _INDEX).exists() or any(path.glob(f"*/{SAMPLES}"))
    return not (is_store or path.name.startswith((".", "_")))


def open_shards(folder: Path, split: str, run: Runs[Any] = map) -> ShardedPool:
    """Return one split of all stores in a folder as a pool.

    Args:
        folder: The folder of the stores.
        split: Name of the split; each of them has it.
        run: Maps a function over shards; by default one after another in this process.

    Raises:
        StoreError: If a store cannot be read, or two hold the same samples.
        MisalignedError: If stores differ in models, classes, labels, kind of outputs or costs.
        CostError: If costs differ by sample.
    """
    _refuse_unfinished(folder, split)
    places = tuple(str(each.parent / split) for each in sorted(folder.glob(f"*/{_INDEX}")))
    facts: list[_Facts] = list(run(_facts, places))
    for place, own in zip(places, facts, strict=True):
        _check_alike(places[0], facts[0], place, own)
    _refuse_twice(places, facts)
    first = facts[0]
    samples = replace(
        first.samples,
        broken=tuple(each for own in facts for each in own.samples.broken),
        notes=tuple(dict.fromkeys(note for own in facts for note in own.samples.notes)),
        count=sum(own.samples.count for own in facts),
        contents=summed_identity(np.stack([own.total for own in facts]).sum(axis=0)),
    )
    known = tuple((place, own.state) for place, own in zip(places, facts, strict=True))
    return ShardedPool(
        samples, first.models, first.layout, first.task,
        places=known, open_shard=_open, run=run,
    )  # fmt: skip


def in_ranges(pool: Pool, folder: Path, run: Runs[Any], rows: int = _ROWS) -> ShardedPool:
    """Return the pool of a split whose shards are ranges of rows.

    Args:
        pool: The pool.
        folder: The folder that it was opened from.
        run: Maps a function over shards.
        rows: Rows of a shard.
    """
    ends = ((start, min(start + rows, len(pool))) for start in range(0, len(pool), rows))
    places = tuple((str(folder), *each) for each in ends)
    own = (pool.samples, pool.models, pool.layout, pool.task)
    return ShardedPool(*own, places=places, open_shard=_open_range, run=run)


class _Facts(NamedTuple):
    """What a shard has, without its outputs, labels and ids.

    ``total`` adds up over shards to what identifies all samples; ``state`` changes when anything in
    the shard does.
    """

    samples: CountedSamples
    models: dict[str, PoolModel]
    layout: Layout
    task: Task
    total: Array
    state: str


def _facts(place: str) -> _Facts:
    own = _checked(place, _stamp(place)).facts
    labels = None if own.samples.labels is None else own.samples.labels[:0]
    return own._replace(samples=replace(own.samples, labels=labels))


def _refuse_unfinished(folder: Path, split: str) -> None:
    """Refuse folders that have the split, and lack what a store has."""
    for each in sorted(folder.glob(f"*/{split}")):
        if each.is_dir() and not (each.parent / _INDEX).exists():
            raise StoreError(
                f"{each.parent}: has {split!r} and no {_INDEX}, so it is damaged or being written. "
                "Finish it, predict or import it again, or move it away"
            )


def _check_alike(first: str, known: _Facts, place: str, own: _Facts) -> None:
    """Refuse a shard that differs from the first."""
    for what, of in _ALIKE.items():
        there, here = of(known), of(own)
        if there != here:
            raise MisalignedError(
                f"{place}: all stores of a folder must have the same {what}: {listed(here)} here, "
                f"{listed(there)} in {first}. Predict or import that store again like the others"
            )


# What must be the same in all shards, as texts.
_ALIKE: dict[str, Callable[[_Facts], list[str]]] = {
    "models": lambda own: list(own.models),
    "weights": lambda own: [f"{n} {_weights(m.spec)}" for n, m in own.models.items()],
    "preprocessing": lambda own: [f"{n} {_prepared(m.spec)}" for n, m in own.models.items()],
    "families": lambda own: [f"{n} {m.spec.family or 'none'}" for n, m in own.models.items()],
    "bounds of values": lambda own: [f"{n} {_bounds(m.spec)}" for n, m in own.models.items()],
    "classes": lambda own: list(own.samples.classes),
    "kind of outputs": lambda own: [f"{n} {m.kind}" for n, m in own.models.items()],
    "number of outputs": lambda own: [f"{n} {m.width}" for n, m in own.models.items()],
    "labels": lambda own: ["none" if own.samples.labels is None else "a class a sample"],
    "costs": lambda own: [
        f"{name} {cost.value:.6g} {cost.unit}"
        for name, model in own.models.items()
        for cost in model.spec.costs
    ],
}


def _weights(spec: KnownModel) -> str:
    # The fingerprint of an imported model is that of its outputs.
    return spec.fingerprint if isinstance(spec, ModelSpec) else "imported"


def _prepared(spec: KnownModel) -> str:
    return str(spec.preprocessing) if isinstance(spec, ModelSpec) else "unknown"


def _bounds(spec: KnownModel) -> str:
    return "none" if isinstance(spec, ModelSpec) else str(spec.bounds)


def _refuse_twice(places: Sequence[str], facts: Sequence[_Facts]) -> None:
    known: dict[str, str] = {}
    for place, own in zip(places, facts, strict=True):
        other = known.setdefault(own.samples.contents, place)
        if other != place:
            raise StoreError(f"{place}: holds the same as {other}; remove one of the two")


@dataclass(frozen=True, eq=False)
class _Shard:
    """A shard that was checked, without its outputs; labels are in the fewest bytes."""

    facts: _Facts
    kind: Kind


def _stamp(folder: str | Path) -> tuple[tuple[str, int, int], ...]:
    """Return what changes when a file of a split, or of its store, is written."""
    own = Path(folder)
    files = ((each.name, each.stat()) for each in (own.parent / _INDEX, *sorted(own.glob("*"))))
    return tuple((name, known.st_mtime_ns, known.st_size) for name, known in files)


@cache
def _checked(place: str, stamp: object) -> _Shard:
    """Return what a shard has, whose chunks were compared with their checksums."""
    folder, pool = Path(place), Pool.load(place)
    own = pool.samples
    for name, model in pool.models.items():
        if model.sample_costs:
            raise CostError(
                f"{place}: costs of {name!r} differ by sample, whose sums over shards depend on "
                "their order. Give the model one cost for all samples"
            )
    manifests = (read_manifest(folder / f"{name}.json") for name in pool.names)
    checksums = (str(part.crc32) for manifest in manifests for part in manifest.parts)
    labels = own.labels
    if labels is not None:
        labels = labels.astype(np.min_scalar_type(int(labels.max(initial=0))))
    known = b"" if labels is None else labels.tobytes()
    total = sum_of(pool)
    samples = CountedSamples(
        (), labels, own.classes, own.split, own.labelled_by, own.rule, own.broken,
        notes=own.notes, count=len(own), contents=summed_identity(total),
    )  # fmt: skip
    state = fingerprint([own.ids_fingerprint, str(zlib.crc32(known)), *checksums])
    models = {name: model.rows(np.arange(0)) for name, model in pool.models.items()}
    return _Shard(_Facts(samples, models, pool.layout, pool.task, total, state), pool.kind)


def _open(known: tuple[str, str]) -> Pool:
    """Return a shard with its outputs mapped from disk; a process checks it once."""
    place, state = known
    shard = _checked(place, _stamp(place))
    own = shard.facts
    if own.state != state:
        raise ChangedError(f"{place}: changed while its samples were counted. Run it again")
    labels = own.samples.labels
    samples = replace(own.samples, labels=None if labels is None else labels.astype(np.int64))
    models = {}
    for name, model in own.models.items():
        array = np.load(Path(place) / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        models[name] = replace(model, outputs=outputs_in(shard.kind, array))
    return Pool(samples, models, own.layout, own.task)


# Ranges of one store follow one another.
@lru_cache(maxsize=1)
def _loaded(folder: str, stamp: object) -> Pool:
    return Pool.load(folder)


def _open_range(place: tuple[str, int, int]) -> Pool:
    folder, start, stop = place
    pool = _loaded(folder, _stamp(folder))
    return pool.rows(slice(start, stop), pool.samples.split)
