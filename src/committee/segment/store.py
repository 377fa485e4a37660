"""Scores and counts of tiles on disk, one chunk for each image, so that work can be resumed.

    STORE/tiles.json            models, tiles, classes and settings, all that numbers depend on
    STORE/SPLIT/images.json     ids of the images
    STORE/SPLIT/*.npz           scores and counts of an image's tiles, for every size of tiles

A split is a folder of chunks that stay; see :mod:`committee.store.chunks`. Nothing is pickled.
"""

from __future__ import annotations

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
    ChangedError,
    CommitteeError,
    DamagedError,
    StoreError,
    UnknownNameError,
    UnreadableError,
)
from committee.files import write_bytes
from committee.paths import portable, resolved, unplaced
from committee.pool.identity import content_copies
from committee.pool.layout import Layout
from committee.pool.pool import Pool
from committee.pool.pool_model import PoolModel
from committee.pool.samples import Samples, fingerprint
from committee.reading import (
    MOST_OF_STORES,
    is_sealed,
    parsed_json,
    parsed_npz,
    read_bytes,
    sealed_json,
    typed,
)
from committee.rule.namespace import all_finite
from committee.rule.outputs import Outputs
from committee.segment.counting import Key, Table, joined, keys_of
from committee.segment.pool import TilePool
from committee.segment.tiling import Grid
from committee.spec.model import ModelSpec
from committee.spec.task import SEMANTIC_SEGMENTATION
from committee.store.chunks import MANIFEST, ChunkFiles
from committee.store.entry import check_schema
from committee.store.reader import TILES
from committee.store.split import check_split_name, refuse_shared
from committee.text import listed, printable

INDEX, IMAGES, CHUNK_SUFFIX = TILES, "images.json", ".npz"
# The grid whose only tile is the image.
FULL = "full"
SCHEMA = 4
COMBINE = "mean_logits"
# Share of ignored pixels from which something is likely wrong.
_MOST_IGNORED = 0.5
# What is kept of the tiles of a grid, in this order.
_KEPT = ("scores", "both", "predicted", "labelled")


@dataclass(frozen=True, eq=False)
class Index:
    """What all numbers of a store depend on.

    Args:
        grids: The ways to divide an image.
        classes: Names of the classes.
        confidence: How tiles were scored.
        ignore: The label that was left out, or None.
        most: Most models of a committee.
        models: How each model that sees images is loaded.
        on_tiles: For each grid with tiles, how each model that sees them is loaded.
    """

    grids: tuple[Grid, ...]
    classes: tuple[str, ...]
    confidence: str
    ignore: int | None
    most: int
    models: Mapping[str, ModelSpec]
    on_tiles: Mapping[str, Mapping[str, ModelSpec]]

    def grid(self, name: str) -> Grid:
        """One of the grids.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        known = {grid.name: grid for grid in self.grids}
        if name not in known:
            raise UnknownNameError.of("tiles", "tiles of size", name, known)
        return known[name]

    def bases_of(self, grid: Grid) -> dict[str, str]:
        """The models that see the tiles of a grid, and whose weights each has."""
        return {name: spec.whole for name, spec in self.on_tiles.get(grid.name, {}).items()}

    def keys(self, grid: Grid) -> list[Key]:
        """Every set of models whose combination is kept for a grid."""
        return keys_of(self.models, self.bases_of(grid), self.most)

    @property
    def fingerprint(self) -> str:
        """Changes when numbers would, wherever the models lie."""
        return fingerprint([json.dumps(self._told(unplaced), sort_keys=True)])

    def to_json(self, file: Path) -> dict[str, Any]:
        """What a file holds; paths in it are relative to it where they can be."""
        return self._told(lambda models: portable(models, file))

    def _told(self, placed: Callable[[Mapping[str, Mapping[str, Any]]], Any]) -> dict[str, Any]:
        """All settings, models with their paths as ``placed`` returns them."""
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


def _to_json(models: Mapping[str, ModelSpec]) -> dict[str, dict[str, Any]]:
    return {name: spec.to_json() for name, spec in models.items()}


def _specs(data: Mapping[str, Any], path: Path) -> dict[str, ModelSpec]:
    models = resolved(data, path)
    return {name: ModelSpec.from_json(name, each, str(path)) for name, each in models.items()}


def _root(path: Path) -> Path | None:
    return next((each for each in (path, path.parent) if (each / INDEX).is_file()), None)


def write_index(store: Path, index: Index) -> None:
    """Write the index of a store, or see that it is the one that is there.

    Raises:
        ChangedError: If the store was made otherwise.
    """
    path = store / INDEX
    # Of a store without counts nothing was computed by what its index says.
    if not path.is_file() or not any(store.glob("*/*.npz")):
        write_bytes(path, sealed_json(index.to_json(path), 1))
        for begun in store.glob(f"*/{MANIFEST}"):
            begun.unlink()
        return
    known = _read_json(path)
    now = json.loads(json.dumps(index.to_json(path)))
    changed = [key for key in now if known.get(key) != now[key]]
    if changed:
        raise ChangedError(
            f"{path}: was made with other {', '.join(changed)}. Every number depends on them: use "
            f"another store with --out, or remove {store} to start anew"
        )


def read_index(path: str | Path) -> Index:
    """The index of a store, or of the store that a split is in.

    Raises:
        StoreError: If there is none, or it is of a newer schema.
        DamagedError: If it cannot be read.
    """
    root = _root(Path(path))
    if root is None:
        raise StoreError(f"{path}: no store of tiles; run committee predict with a pool of them")
    data = _read_json(root / INDEX)
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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = read_bytes(path, MOST_OF_STORES)
        data = parsed_json(content, strict=False)
    except (OSError, UnreadableError) as error:
        raise DamagedError(f"{path}: cannot be read ({error})") from None
    if not isinstance(data, dict) or type(data.get("schema")) is not int:
        raise DamagedError(f"{path}: altered; it is no file of a store. Predict again")
    check_schema(path, data["schema"], SCHEMA)
    if not is_sealed(content):
        raise DamagedError(f"{path}: altered, for its checksum is another. Predict again")
    return data


@dataclass(frozen=True)
class _Images:
    """The images of a split: ids, digests, and the rule by which the split was taken."""

    ids: tuple[str, ...]
    content: tuple[int, ...]
    rule: str


def _read_images(folder: Path) -> _Images:
    data = _read_json(folder / IMAGES)
    try:
        told = {key: data[key] for key in ("ids", "content", "rule")}
        return typed("images", told, _Images)
    except (KeyError, UnreadableError) as error:
        raise DamagedError(f"{folder / IMAGES}: altered ({error}). Predict again") from None


def write_images(folder: Path, ids: Sequence[str], content: Sequence[int], rule: str) -> list[str]:
    """Record the images of a split.

    Returns:
        What to know of images that other splits have under other names, or that are copies, a
        line each.

    Raises:
        StoreError: If the name of the split can be no folder's, or another split of the store has
            one of them; see :func:`committee.store.split.check_apart`.
    """
    check_split_name(folder.name)
    given = _samples(folder.name, ids, content)
    found = sorted(folder.parent.glob(f"*/{IMAGES}"))
    known = [(each.parent.name, _read_images(each.parent)) for each in found]
    notes = refuse_shared(
        folder.parent,
        [_samples(name, each.ids, each.content) for name, each in known if name != folder.name],
        given,
        SEMANTIC_SEGMENTATION.samples,
    )
    data = {"schema": SCHEMA, "rule": rule, "ids": list(ids), "content": list(content)}
    write_bytes(folder / IMAGES, sealed_json(data))
    copies = content_copies(given)
    return [*notes, copies] if copies else notes


def _samples(split: str, ids: Sequence[str], content: Sequence[int]) -> Samples:
    """The images of a split, not divided."""
    return Samples(tuple(ids), None, split=split, content=np.array(content, np.uint64))


def chunk_name(name: str) -> str:
    """Return the name of the chunk of an image."""
    return fingerprint([name])


def chunk_identity(index: Index) -> dict[str, str]:
    """Return what the chunks of a store depend on, for :class:`committee.store.chunks.Chunks`."""
    return {"settings": index.fingerprint}


def encoded_tiles(tables: Mapping[str, Table]) -> bytes:
    """Return the bytes of the chunk of one image, from its table for each grid."""
    arrays = {
        f"{name} {what}": getattr(table, what) for name, table in tables.items() for what in _KEPT
    }
    data = BytesIO()
    np.savez_compressed(data, **arrays)
    return data.getvalue()


class _TileFiles:
    """Reads the tables of a split's images.

    Args:
        folder: Folder of the split.
        index: The index of its store.
    """

    def __init__(self, folder: Path, index: Index) -> None:
        self._folder, self._index = folder, index
        self._files = ChunkFiles(folder, CHUNK_SUFFIX, chunk_identity(index))
        self._chunks = self._files.promised()

    def table(self, image: str, grid: Grid) -> Table:
        """Return the table of one image for one grid.

        Raises:
            DamagedError: If it is missing or altered.
        """
        index, keys = self._index, self._index.keys(grid)
        chunk = self._chunks.get(chunk_name(image))
        data = None if chunk is None else self._files.read(chunk)
        try:
            names = [f"{grid.name} {what}" for what in _KEPT]
            arrays = {} if data is None else parsed_npz(BytesIO(data), names)
            parts = [arrays[name] for name in names]
        except (KeyError, UnreadableError):
            parts = []
        if not parts or not _is_table(parts, len(keys), len(grid), len(index.classes)):
            raise DamagedError(
                f"{self._folder}: the tiles of {printable(image)!r} are missing or damaged. Run "
                "the same committee predict again; it goes on where it stopped"
            )
        known = {key: row for row, key in enumerate(keys)}
        scores, both, predicted, labelled = parts
        return Table(known, scores, both, predicted, labelled, COMBINE, index.confidence)


def _is_table(parts: Sequence[Array], keys: int, tiles: int, classes: int) -> bool:
    """Return whether arrays are the scores and counts of so many sets of models and tiles."""
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


def _grids_of(path: str | Path) -> list[str]:
    """Names of the grids that a store holds: ``full``, ``120+24``."""
    return [grid.name for grid in read_index(path).grids]


def load_tiles(folder: str | Path, grid: str = "full") -> TilePool:
    """One split of a store as a pool, its rows the tiles of a grid.

    Args:
        folder: ``STORE/SPLIT``.
        grid: Name of the grid.

    Raises:
        StoreError: If there is no such split.
        DamagedError: If a file is missing or altered.
        UnknownNameError: If there is no such grid.
    """
    folder = Path(folder)
    index = read_index(folder)
    if not (folder / IMAGES).is_file():
        known = sorted(path.parent.name for path in folder.parent.glob(f"*/{IMAGES}"))
        raise StoreError(f"{folder}: no such split. There are: {', '.join(known) or 'none'}")
    images = _read_images(folder)
    divided = index.grid(grid)
    files = _TileFiles(folder, index)
    table = joined([files.table(name, divided) for name in images.ids])
    pool = pool_of(table, index, divided, images.ids, folder.name, images.rule)
    content = np.repeat(np.array(images.content, np.uint64), pool.samples.parts)
    return replace(pool, samples=replace(pool.samples, content=content))


@dataclass(frozen=True)
class _LeftOut:
    """What of a split's images no figure counts.

    Args:
        pixels: Share of the pixels whose label is ignored, or negative.
        classes: Classes that no label has.
        notes: The same for people; empty if nothing is left out.
    """

    pixels: float
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def left_out(folder: str | Path) -> _LeftOut:
    """Return what of the images of a split is left out of all figures.

    Args:
        folder: ``STORE/SPLIT``.

    Raises:
        StoreError, DamagedError: If the split is missing or altered.
    """
    folder = Path(folder)
    index = read_index(folder)
    ids, grid = _read_images(folder).ids, index.grids[0]
    files = _TileFiles(folder, index)
    counts = [files.table(name, grid).labelled for name in ids]
    return _left_out(index, folder.name, len(ids), np.concatenate(counts))


def _left_out(index: Index, split: str, count: int, tiles: Array) -> _LeftOut:
    """The same from the labelled pixels of each class in all tiles of a grid, any grid.

    Args:
        index: The index of the store.
        split: Name of the split.
        count: How many images it has.
        tiles: Shape (tiles, classes).
    """
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
        told = "negative" if index.ignore is None else f"{index.ignore}, which is ignored"
        most = ", more than half: is that label a class? Then say so in [tiles]"
        notes.append(
            f"{share:.1%} of the pixels of {split!r} are not counted, for their label is "
            f"{told}{most if share > _MOST_IGNORED else ''}"
        )
    if absent:
        notes.append(
            f"no label of {split!r} has {len(absent):,} of {len(names):,} classes: "
            f"{listed(absent)}. No figure says how well these are found"
        )
    return _LeftOut(share, absent, tuple(notes))


def load_images(
    folder: str | Path,
    models: Iterable[str] | None = None,
    grids: Sequence[str] | None = None,
    *,
    calibrated: bool = False,
) -> Pool:
    """One split of a store as a pool: whole images, divided in the tiles of every other grid.

    Args:
        folder: ``STORE/SPLIT``.
        models: Names of the models that see images; all if left out.
        grids: Names of the grids; all that the store holds if left out.
        calibrated: Whether calibrations are asked for; there are none.

    Raises:
        StoreError: If there is no such split, or calibrations are asked for.
        DamagedError: If a file is missing or altered.
        UnknownNameError: If there is no such grid or model.
    """
    if calibrated:
        raise StoreError(
            f"{folder}: of tiles only scores and counts are kept, so there is nothing to calibrate"
        )
    names = list(dict.fromkeys(grids or _grids_of(folder)))
    # Committees that see nothing but whole images are those of the first.
    names.sort(key=lambda name: name != FULL)
    first, *others = (load_tiles(folder, name) for name in names)
    samples = replace(first.samples, notes=_notes(Path(folder), first))
    pool = replace(first, samples=samples, divided=tuple(others))
    if models is None:
        return pool
    wanted = {name for name in models if pool.model(name)}
    return pool.only([n for n in first.names if first.layout.whole_of.get(n, n) in wanted])


def _notes(folder: Path, pool: TilePool) -> tuple[str, ...]:
    """What to know of a split of which one grid is loaded: what is not counted, and copies."""
    images, labelled = _read_images(folder), pool.table.labelled
    left = _left_out(read_index(folder), folder.name, len(images.ids), labelled)
    copies = content_copies(_samples(folder.name, images.ids, images.content))
    return (*left.notes, *filter(None, [copies]))


def pool_of(
    table: Table, index: Index, grid: Grid, ids: Sequence[str], split: str, rule: str = ""
) -> TilePool:
    """A pool whose rows are tiles.

    Args:
        table: What is kept of the tiles.
        index: Models, classes and settings.
        grid: How images are divided.
        ids: Names of the images.
        split: Name of the split.
        rule: How it was taken from a larger set.
    """
    on_tiles = index.on_tiles.get(grid.name, {})
    specs = {**index.models, **on_tiles}
    nothing = Outputs("logits", np.empty((len(ids) * len(grid), 0), np.float32))
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
        {name: PoolModel(spec, nothing) for name, spec in specs.items()},
        Layout(whole_of=index.bases_of(grid), tiling=grid.name),
        SEMANTIC_SEGMENTATION,
        table=table,
    )
