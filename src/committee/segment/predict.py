"""Compute scores and counts of tiles of images; logits are never stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from committee.arrays import Array
from committee.data.base import map_ahead
from committee.data.segmentation import LabelledImages
from committee.errors import ChangedError, DataError
from committee.files import sync_folder
from committee.models.base import Model
from committee.models.inputs import prepared
from committee.models.load import load_model
from committee.models.pool_file import PoolFile
from committee.pool.prefixes import Key
from committee.rule.combinations import combined
from committee.rule.outputs import Outputs
from committee.rule.scores import score
from committee.segment.outputs import pixel_logits, window_logits
from committee.segment.pool import Table
from committee.segment.settings import Settings, read_settings
from committee.segment.store import (
    CHUNK_SUFFIX,
    INDEX,
    SCHEMA,
    Index,
    chunk_identity,
    chunk_name,
    encoded_tiles,
    write_images,
)
from committee.segment.tiling import Grid
from committee.spec.cost import Cost
from committee.spec.model import ModelSpec, Tile
from committee.store.chunks import MANIFEST, Chunks, exclusive
from committee.store.entry import read_json, write_json
from committee.text import listed

Progress = Callable[[int, int], None]
Note = Callable[[str], None]
Loaded: TypeAlias = tuple[Model, ModelSpec]


def predict_tiles(
    pool: PoolFile,
    dataset: LabelledImages,
    store: str | Path,
    *,
    max_models: int = 3,
    batch_size: int = 16,
    allow_code: Collection[str] = (),
    progress: Progress | None = None,
    note: Note | None = None,
) -> Path:
    """Score and count the tiles of all images, after every set of models that may have run.

    Stored images are not computed again; the call can be stopped at any moment and repeated.

    Returns:
        The folder of the split, for :func:`committee.segment.store.load_images`.
    """
    settings = read_settings(pool)
    dataset.check_exif(settings.exif)
    whole = [load_model(spec, allow_code) for spec in pool.models]
    on_tiles = {
        grid.name: [_view(spec, grid, allow_code) for _, spec in whole]
        for grid in settings.grids
        if grid.tile
    }
    samples = dataset.samples
    index = Index(
        grids=settings.grids,
        classes=samples.classes,
        confidence=settings.confidence,
        ignore=settings.ignore,
        most=min(max_models, len(whole)),
        models={spec.name: spec for _, spec in whole},
        on_tiles={name: {s.name: s for _, s in each} for name, each in on_tiles.items()},
    )
    note = note or (lambda line: None)
    with exclusive(Path(store), make_parents=True):
        chunks, due = _begin(Path(store), dataset, index, note)
        count = len(samples)
        if progress is not None:
            progress(count - len(due), count)
        turned: list[str] = []

        def read(row: int) -> tuple[Array, Array]:
            size = settings.image
            if not settings.exif and dataset.orientation(row) != 1:
                turned.append(samples.ids[row])
            return dataset.image(row, size), dataset.label(row, size)

        for done, (row, (image, labels)) in enumerate(map_ahead(read, list(due), 1), 1):
            try:
                tables = _tables(image, labels, settings, index, whole, on_tiles, batch_size)
            except DataError as error:
                raise DataError(f"{samples.ids[row]}: {error}") from None
            chunks.write(chunk_name(samples.ids[row]), encoded_tiles(tables), due[row])
            if progress is not None:
                progress(count - len(due) + done, count)
        chunks.write_journal()
    if turned:
        note(
            f"EXIF rotates {len(turned):,} images, but they are used as stored: "
            f"{listed(turned)}. If labels belong to rotated images, write exif = true in "
            "[preprocessing]"
        )
    return Path(store) / samples.split


def _begin(
    store: Path, dataset: LabelledImages, index: Index, note: Note
) -> tuple[Chunks, dict[int, str]]:
    """Record the images of a split; return its chunks, and the content of missing images by row."""
    samples = dataset.samples
    folder = store / samples.split
    _write_index(store, index)
    sync_folder(store.parent)
    content = dataset.digests(np.arange(len(samples))).tolist()
    for line in write_images(folder, samples.ids, content, samples.rule):
        note(line)
    expected = {
        row: f"{content[row]:016x}{dataset.label_digest(row):016x}" for row in range(len(samples))
    }
    chunks = Chunks(folder, CHUNK_SUFFIX, chunk_identity(index))
    names = [chunk_name(name) for name in samples.ids]
    valid = {
        n
        for row, n in enumerate(names)
        if n in chunks.done and chunks.done[n].content == expected[row]
    }
    for row, name in enumerate(names):
        if name in chunks.damaged:
            note(f"{samples.ids[row]}: its damaged counts are computed again")
        elif name in chunks.done and name not in valid:
            note(f"{samples.ids[row]}: changed; its counts are computed again")
    chunks.forget(chunks.done.keys() - valid)
    return chunks, {row: each for row, each in expected.items() if names[row] not in valid}


def _write_index(store: Path, index: Index) -> None:
    """Write the index of a store, or check that it equals the existing one."""
    path = store / INDEX
    # The index of a store without counts may be replaced.
    if not path.is_file() or not any(store.glob("*/*.npz")):
        write_json(path, index.to_json(path))
        for manifest in store.glob(f"*/{MANIFEST}"):
            manifest.unlink()
        return
    known = read_json(path, SCHEMA)
    now = json.loads(json.dumps(index.to_json(path)))
    changed = [key for key in now if known.get(key) != now[key]]
    if changed:
        raise ChangedError(
            f"{path}: was made with other {', '.join(changed)}. Every number depends on them: use "
            f"another store with --out, or remove {store} to start again"
        )


def _view(whole: ModelSpec, grid: Grid, allow_code: Collection[str]) -> Loaded:
    """Return the model that sees the tiles of a grid; its cost is that of all tiles of an image."""
    # The weights are those of the whole-image model, so loading checks their fingerprint again.
    model, window = load_model(_view_of(whole, grid), allow_code)
    return model, replace(window, costs=_view_costs(whole, window, grid))


def _tables(
    image: Array,
    labels: Array,
    settings: Settings,
    index: Index,
    whole: list[Loaded],
    on_tiles: Mapping[str, list[Loaded]],
    batch_size: int,
) -> dict[str, Table]:
    """Return the table of one image for each grid."""
    inputs = {spec.name: prepared(image[None], spec.image)[0] for _, spec in whole}
    classes = len(index.classes)
    logits_of = {
        spec.name: pixel_logits(model, spec, inputs[spec.name][None], classes)[0]
        for model, spec in whole
    }
    tables = {}
    for grid in settings.grids:
        logits = {name: grid.cut(values) for name, values in logits_of.items()}
        for model, spec in on_tiles.get(grid.name, []):
            every = np.arange(len(grid))
            logits[spec.name] = window_logits(
                model, spec, grid, inputs[spec.whole][None], 0 * every, every, batch_size, classes
            )
        own = np.where(grid.owned, grid.cut(labels), -1)
        tables[grid.name] = _count_tiles(
            logits, own, index.keys(grid), settings.confidence, settings.ignore
        )
    return tables


def _count_tiles(
    logits: Mapping[str, Array],
    labels: Array,
    keys: Sequence[Key],
    confidence: str,
    ignore: int | None = None,
    combine: str = "mean_logits",
) -> Table:
    """Score and count some tiles after every set of models.

    Args:
        logits: Logits of each model, shape (N, C, height, width).
        labels: Class of each pixel, shape (N, height, width); negative where there is none.
        keys: The sets of models.
        confidence: Name of the confidence function.
        ignore: A label that does not count, as negative ones do not; no figure includes a class of
            this number.
        combine: Name of the combination.

    Raises:
        DataError: If a label is not a class of the models.
    """
    tiles, classes = next(iter(logits.values())).shape[:2]
    labelled = (labels >= 0) & (labels != (-1 if ignore is None else ignore))
    unknown = np.unique(labels[labelled & (labels >= classes)])
    if len(unknown):
        raise DataError(
            f"labels hold {listed(unknown.tolist())}, but models have classes 0 to {classes - 1}. "
            "Write ignore = NUMBER in [tiles], or use models of all classes"
        )
    offset = np.broadcast_to(np.arange(tiles)[:, None, None] * classes, labels.shape)

    def tally(values: Array, where: Array) -> Array:
        counts = np.bincount((offset + values)[where], minlength=tiles * classes)
        return counts.reshape(tiles, classes).astype(np.uint32)

    scores = np.empty((len(keys), tiles))
    both = np.empty((len(keys), tiles, classes), np.uint32)
    predicted = np.empty((len(keys), tiles, classes), np.uint32)
    for row, key in enumerate(keys):
        combination = combined({name: Outputs("logits", logits[name]) for name in key}, combine)
        classes_of_pixels = combination.predicted()
        scores[row] = score(combination, confidence)
        both[row] = tally(classes_of_pixels, labelled & (classes_of_pixels == labels))
        predicted[row] = tally(classes_of_pixels, labelled)
    if ignore is not None and ignore < classes:
        predicted[..., ignore] = 0
    rows = {key: row for row, key in enumerate(keys)}
    return Table(rows, scores, both, predicted, tally(labels, labelled), combine, confidence)


def _view_of(spec: ModelSpec, grid: Grid) -> ModelSpec:
    """Return the spec of the model that sees tiles with the weights of ``spec``, without costs."""
    return replace(
        spec,
        name=f"{spec.name}@{grid.name}",
        preprocessing=replace(spec.image, size=grid.window),
        family="",
        whole=spec.name,
        tile=Tile(grid.tile, grid.context),
        costs=(),
    )


def _view_costs(whole: ModelSpec, window: ModelSpec, grid: Grid) -> tuple[Cost, ...]:
    """Return the costs of all tiles of an image; ``window`` has the counted costs of one."""
    height, width = grid.window
    conditions = f"all {len(grid)} tiles, each seen in {height} x {width}"
    costs = []
    for cost in whole.costs:
        own = next((c for c in window.costs if c.unit == cost.unit), None)
        if own is not None and cost.source == "counted":
            costs.append(Cost(own.value * len(grid), cost.unit, "counted", conditions))
        else:
            # Costs that the user gave for an image scale with its pixels.
            costs.append(Cost(cost.value * grid.overhead, cost.unit, cost.source, conditions))
    return tuple(costs)
