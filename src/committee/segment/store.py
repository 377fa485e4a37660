"""Store scores and counts of tiles, one chunk for each image, so that predict can resume.

    STORE/tiles.json            models, tiles, classes and settings, on which all numbers depend
    STORE/SPLIT/images.json     ids of the images
    STORE/SPLIT/*.npz           scores and counts of an image's tiles, for every size of tiles

A split is a folder of permanent chunks; see :mod:`committee.store.chunks`. Nothing is pickled.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import (
    CommitteeError,
    DamagedError,
    StoreError,
    UnknownNameError,
    UnreadableError,
)
from committee.paths import portable, resolved, unplaced
from committee.pool.identity import content_copies
from committee.pool.layout import Layout
from committee.pool.pool import Pool
from committee.pool.pool_model import PoolModel
from committee.pool.prefixes import Key
from committee.pool.samples import Samples, fingerprint
from committee.reading import (
    parsed_npz,
    typed,
)
from committee.rule.namespace import all_finite
from committee.rule.outputs import Outputs
from committee.segment.pool import Table, TilePool
from committee.segment.tiling import Grid
from committee.spec.model import ModelSpec
from committee.spec.task import SEMANTIC_SEGMENTATION
from committee.store.chunks import ChunkFiles
from committee.store.entry import read_json, write_json
from committee.store.reader import TILES
from committee.store.split import check_split_name, refuse_shared
from committee.text import listed, printable

INDEX, IMAGES, CHUNK_SUFFIX = TILES, "images.json", ".npz"
# The grid whose only tile is the image.
FULL = "full"
SCHEMA = 4
COMBINE = "mean_logits"
# A larger share of ignored pixels suggests a mistake.
_MOST_IGNORED = 0.5
# Arrays of the tiles of a grid, in this order.
_ARRAYS = ("scores", "both", "predicted", "labelled")


@dataclass(frozen=True, eq=False)
class Index:
    """The models and settings on which all numbers of a store depend."""

    grids: tuple[Grid, ...]
    classes: tuple[str, ...]
    confidence: str
    ignore: int | None
    most: int
    models: Mapping[str, ModelSpec]
    on_tiles: Mapping[str, Mapping[str, ModelSpec]]

    def grid(self, name: str) -> Grid:
        """Return the grid of a name."""
        known = {grid.name: grid for grid in self.grids}
        if name not in known:
            raise UnknownNameError.of("tiles", "tiles of size", name, known)
        return known[name]

    def bases_of(self, grid: Grid) -> dict[str, str]:
        """Map each model that sees the tiles of a grid to the model with the same weights."""
        return {name: spec.whole for name, spec in self.on_tiles.get(grid.name, {}).items()}

    def keys(self, grid: Grid) -> list[Key]:
        """Return every set of models with stored scores and counts for a grid."""
        return _keys_of(self.models, self.bases_of(grid), self.most)

    @property
    def fingerprint(self) -> str:
        """Return a digest of everything but the paths of models."""
        return fingerprint([json.dumps(self._json(unplaced), sort_keys=True)])

    def to_json(self, file: Path) -> dict[str, Any]:
        """Return the content of a file, with paths relative to it where possible."""
        return self._json(lambda models: portable(models, file))

    def _json(self, placed: Callable[[Mapping[str, Mapping[str, Any]]], Any]) -> dict[str, Any]:
        """Return all settings, with the paths of models as ``placed`` returns them."""
        return {
            "schema": SCHEMA,
            "image": list(self.grids[0].image),
            "tiles": [[grid.tile, grid.context] for grid in self.grids],
            "classes": list(self.classes),
            "confidence": self.confidence,
            "combine": COMBINE,
            "ignore": self.ignore,
            "most": self.most,
            "models": placed(_to_json(self.models)),
            "on_tiles": {grid: placed(_to_json(each)) for grid, each in self.on_tiles.items()},
        }


def _keys_of(whole: Iterable[str], whole_of: Mapping[str, str], most: int) -> list[Key]:
    """Return every set of up to ``most`` models whose combination may decide on a tile.

    A mean combines all models that ran, one of which sees the whole image; ``last`` takes one.
    """
    names = [*whole, *whole_of]
    return [
        tuple(sorted(some))
        for size in range(1, most + 1)
        for some in itertools.combinations(names, size)
        if len({whole_of.get(name, name) for name in some}) == size
        and (size == 1 or not all(name in whole_of for name in some))
    ]


def _to_json(models: Mapping[str, ModelSpec]) -> dict[str, dict[str, Any]]:
    return {name: spec.to_json() for name, spec in models.items()}


def _specs(data: Mapping[str, Any], path: Path) -> dict[str, ModelSpec]:
    models = resolved(data, path)
    return {name: ModelSpec.from_json(name, each, str(path)) for name, each in models.items()}


def _root(path: Path) -> Path | None:
    return next((each for each in (path, path.parent) if (each / INDEX).is_file()), None)


def _read_index(path: str | Path) -> Index:
    """Return the index of a store, or of the store of a split."""
    root = _root(Path(path))
    if root is None:
        raise StoreError(f"{path}: no store of tiles; run committee predict with a pool of them")
    data = read_json(root / INDEX, SCHEMA)
    try:
        image = typed("image", data["image"], tuple[int, int])
        tiles = typed("tiles", data["tiles"], list[tuple[int, int]])
        index = Index(
            grids=tuple(Grid(image, tile, context) for tile, context in tiles),
            classes=typed("classes", data["classes"], tuple[str, ...]),
            confidence=typed("confidence", data["confidence"], str),
            ignore=typed("ignore", data["ignore"], int | None),  # type: ignore[arg-type]
            most=typed("most", data["most"], int),
            models=_specs(data["models"], root / INDEX),
            on_tiles={grid: _specs(each, root / INDEX) for grid, each in data["on_tiles"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, CommitteeError) as error:
        raise DamagedError(f"{root / INDEX}: altered ({error}). Predict again") from None
    return index


@dataclass(frozen=True)
class _Images:
    """The images of a split: ids, digests, and the rule that selected them from a larger set."""

    ids: tuple[str, ...]
    content: tuple[int, ...]
    rule: str


def _read_images(folder: Path) -> _Images:
    data = read_json(folder / IMAGES, SCHEMA)
    try:
        return typed("images", {key: data[key] for key in ("ids", "content", "rule")}, _Images)
    except (KeyError, UnreadableError) as error:
        raise DamagedError(f"{folder / IMAGES}: altered ({error}). Predict again") from None


def write_images(folder: Path, ids: Sequence[str], content: Sequence[int], rule: str) -> list[str]:
    """Record the images of a split; return lines about copies, here and in other splits."""
    check_split_name(folder.name)
    samples = _samples(folder.name, ids, content)
    paths = sorted(folder.parent.glob(f"*/{IMAGES}"))
    known = [(path.parent.name, _read_images(path.parent)) for path in paths]
    notes = refuse_shared(
        folder.parent,
        [_samples(name, each.ids, each.content) for name, each in known if name != folder.name],
        samples,
        SEMANTIC_SEGMENTATION.samples,
    )
    data = {"schema": SCHEMA, "rule": rule, "ids": list(ids), "content": list(content)}
    write_json(folder / IMAGES, data, None)
    copies = content_copies(samples)
    return [*notes, copies] if copies else notes


def _samples(split: str, ids: Sequence[str], content: Sequence[int]) -> Samples:
    """Return the undivided images of a split."""
    return Samples(tuple(ids), None, split=split, content=np.array(content, np.uint64))


def chunk_name(name: str) -> str:
    """Return the name of the chunk of an image."""
    return fingerprint([name])


def chunk_identity(index: Index) -> dict[str, str]:
    """Return the identity of a store's chunks for :class:`committee.store.chunks.Chunks`."""
    return {"settings": index.fingerprint}


def encoded_tiles(tables: Mapping[str, Table]) -> bytes:
    """Return the bytes of the chunk of one image, from its table for each grid."""
    arrays = {
        f"{name} {what}": getattr(table, what) for name, table in tables.items() for what in _ARRAYS
    }
    data = BytesIO()
    np.savez_compressed(data, **arrays)
    return data.getvalue()


class _TileFiles:
    """Reads the tables of a split's images."""

    def __init__(self, folder: Path, index: Index) -> None:
        self._folder, self._index = folder, index
        self._files = ChunkFiles(folder, CHUNK_SUFFIX, chunk_identity(index))
        self._chunks = self._files.promised()

    def table(self, image: str, grid: Grid) -> Table:
        """Return the table of one image for one grid."""
        index, keys = self._index, self._index.keys(grid)
        chunk = self._chunks.get(chunk_name(image))
        data = None if chunk is None else self._files.read(chunk)
        try:
            names = [f"{grid.name} {what}" for what in _ARRAYS]
            arrays = {} if data is None else parsed_npz(BytesIO(data), names)
            parts = [arrays[name] for name in names]
        except (KeyError, UnreadableError):
            parts = []
        if not parts or not _is_table(parts, len(keys), len(grid), len(index.classes)):
            raise DamagedError(
                f"{self._folder}: the tiles of {printable(image)!r} are missing or damaged. Run "
                "the same committee predict again; it resumes"
            )
        known = {key: row for row, key in enumerate(keys)}
        scores, both, predicted, labelled = parts
        return Table(known, scores, both, predicted, labelled, COMBINE, index.confidence)


def _is_table(parts: Sequence[Array], keys: int, tiles: int, classes: int) -> bool:
    """Return True if arrays are scores and counts of these numbers of sets, tiles and classes."""
    scores, both, predicted, labelled = parts
    named = (classes,) if classes else both.shape[2:]
    return (
        scores.shape == (keys, tiles)
        and scores.dtype == np.float64
        and all_finite(scores)
        and both.shape == predicted.shape == (keys, tiles, *named)
        and labelled.shape == both.shape[1:]
        and {part.dtype for part in parts[1:]} == {np.dtype(np.uint32)}
    )


def _load_tiles(folder: str | Path, grid: str = "full") -> TilePool:
    """Return one split of a store as a pool whose rows are the tiles of a grid."""
    folder = Path(folder)
    index = _read_index(folder)
    if not (folder / IMAGES).is_file():
        known = sorted(path.parent.name for path in folder.parent.glob(f"*/{IMAGES}"))
        raise StoreError(f"{folder}: no such split. There are: {', '.join(known) or 'none'}")
    images = _read_images(folder)
    tiling = index.grid(grid)
    files = _TileFiles(folder, index)
    table = _joined([files.table(name, tiling) for name in images.ids])
    pool = _pool_of(table, index, tiling, images.ids, folder.name, images.rule)
    content = np.repeat(np.array(images.content, np.uint64), pool.samples.parts)
    return replace(pool, samples=replace(pool.samples, content=content))


def _joined(tables: Sequence[Table]) -> Table:
    """Return the tables of consecutive tiles as one."""
    first = tables[0]
    return Table(
        first.keys,
        np.concatenate([each.scores for each in tables], axis=1),
        np.concatenate([each.both for each in tables], axis=1),
        np.concatenate([each.predicted for each in tables], axis=1),
        np.concatenate([each.labelled for each in tables]),
        first.combine,
        first.confidence,
    )


@dataclass(frozen=True)
class _Uncounted:
    """The share of pixels and the classes that no figure counts, and both in sentences."""

    pixels: float
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def left_out(folder: str | Path) -> _Uncounted:
    """Return the pixels and classes of a split, ``STORE/SPLIT``, that no figure counts."""
    folder = Path(folder)
    index = _read_index(folder)
    ids, grid = _read_images(folder).ids, index.grids[0]
    files = _TileFiles(folder, index)
    counts = [files.table(name, grid).labelled for name in ids]
    return _uncounted(index, folder.name, len(ids), np.concatenate(counts))


def _uncounted(index: Index, split: str, count: int, tiles: Array) -> _Uncounted:
    """Return the same for ``count`` images from the labelled pixels of all their tiles."""
    labelled = tiles.sum(axis=0, dtype=np.int64)
    share = 1 - float(labelled.sum()) / (count * math.prod(index.grids[0].image))
    names = index.classes or tuple(map(str, range(len(labelled))))
    absent = tuple(
        name
        for number, (name, count) in enumerate(zip(names, labelled, strict=True))
        if not count and number != index.ignore
    )
    notes = []
    if share:
        label = "negative" if index.ignore is None else f"{index.ignore}, which is ignored"
        hint = ", more than half: if that label is a class, change ignore in [tiles]"
        notes.append(
            f"{share:.1%} of the pixels of {split!r} do not count because their label is "
            f"{label}{hint if share > _MOST_IGNORED else ''}"
        )
    if absent:
        notes.append(
            f"no label of {split!r} has {len(absent):,} of {len(names):,} classes: "
            f"{listed(absent)}. No figure covers these classes"
        )
    return _Uncounted(share, absent, tuple(notes))


def load_images(
    folder: str | Path,
    models: Iterable[str] | None = None,
    grids: Sequence[str] | None = None,
    *,
    calibrated: bool = False,
) -> Pool:
    """Return one split of a store as a pool of whole images with the tilings of all other grids."""
    if calibrated:
        raise StoreError(
            f"{folder}: tiles have scores and counts only, so there is nothing to calibrate"
        )
    names = list(dict.fromkeys(grids or [grid.name for grid in _read_index(folder).grids]))
    # The pool of the first grid has the committees that see whole images only.
    names.sort(key=lambda name: name != FULL)
    first, *others = (_load_tiles(folder, name) for name in names)
    samples = replace(first.samples, notes=_notes(Path(folder), first))
    pool = replace(first, samples=samples, divided=tuple(others))
    if models is None:
        return pool
    wanted = {name for name in models if pool.model(name)}
    return pool.only([n for n in first.names if first.layout.whole_of.get(n, n) in wanted])


def _notes(folder: Path, pool: TilePool) -> tuple[str, ...]:
    """Return lines about uncounted pixels and classes of a split, and about copies of images."""
    images, labelled = _read_images(folder), pool.table.labelled
    uncounted = _uncounted(_read_index(folder), folder.name, len(images.ids), labelled)
    copies = content_copies(_samples(folder.name, images.ids, images.content))
    return (*uncounted.notes, *filter(None, [copies]))


def _pool_of(
    table: Table, index: Index, grid: Grid, ids: Sequence[str], split: str, rule: str = ""
) -> TilePool:
    """Return a pool whose rows are tiles."""
    on_tiles = index.on_tiles.get(grid.name, {})
    specs = {**index.models, **on_tiles}
    no_outputs = Outputs("logits", np.empty((len(ids) * len(grid), 0), np.float32))
    samples = Samples(
        tuple(f"{name}#{tile}" for name in ids for tile in range(len(grid))),
        None,
        index.classes,
        split,
        rule=rule,
        parts=len(grid),
    )
    return TilePool(
        samples,
        {name: PoolModel(spec, no_outputs) for name, spec in specs.items()},
        Layout(whole_of=index.bases_of(grid), tiling=grid.name),
        SEMANTIC_SEGMENTATION,
        table=table,
    )
