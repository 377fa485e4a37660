"""Models x images -> scores and counts of tiles; logits are gone when an image is done."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from committee.arrays import Array
from committee.data.base import map_ahead
from committee.data.segmentation import LabelledImages
from committee.errors import DataError
from committee.files import sync_folder
from committee.models.base import Model
from committee.models.inputs import prepared
from committee.models.load import load_model
from committee.models.pool_file import PoolFile
from committee.segment.counting import Table, count_tiles
from committee.segment.outputs import pixel_logits
from committee.segment.settings import Settings, read_settings, view_costs, view_of
from committee.segment.store import (
    CHUNK_SUFFIX,
    Index,
    chunk_identity,
    chunk_name,
    encoded_tiles,
    write_images,
    write_index,
)
from committee.segment.tiling import Grid
from committee.spec.model import ModelSpec
from committee.store.chunks import Chunks, exclusive
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

    What is there already is not computed again; the call can be stopped at any moment.

    Args:
        pool: The models, and how images are divided.
        dataset: Images and their labels, with the name of the split.
        store: Folder of the store; made if it is not there.
        max_models: Most models of a committee that can be searched for.
        batch_size: Windows a forward pass; images go one by one.
        allow_code: Python files and modules that may be run.
        progress: Called with (images done, images in all).
        note: Called with a line for each thing that people should know.

    Returns:
        The folder of the split, for :func:`committee.segment.store.load_tiles`.

    Raises:
        PoolFileError: If the pool file says nothing that segmentation can work with.
        ChangedError: If the store was made with other models or settings.
        DataError: If an image or its labels cannot be used.
        ModelError, NotFiniteError: If a model cannot be loaded or used.
        StoreError: If another split has some of the images.
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
            f"{len(turned):,} images say by EXIF how to turn them, and are taken as they are "
            f"stored: {listed(turned)}. If labels are of images as they are shown, write exif = "
            "true in [preprocessing]"
        )
    return Path(store) / samples.split


def _begin(
    store: Path, dataset: LabelledImages, index: Index, note: Note
) -> tuple[Chunks, dict[int, str]]:
    """Record the images of a split.

    Returns:
        The chunks of its images, and those that are missing: the content of each by row.
    """
    samples = dataset.samples
    folder = store / samples.split
    write_index(store, index)
    sync_folder(store.parent)
    content = dataset.digests(np.arange(len(samples))).tolist()
    for line in write_images(folder, samples.ids, content, samples.rule):
        note(line)
    wanted = {
        row: f"{content[row]:016x}{dataset.label_digest(row):016x}" for row in range(len(samples))
    }
    chunks = Chunks(folder, CHUNK_SUFFIX, chunk_identity(index))
    names = [chunk_name(name) for name in samples.ids]
    right = {
        n
        for row, n in enumerate(names)
        if n in chunks.done and chunks.done[n].content == wanted[row]
    }
    for row, name in enumerate(names):
        if name in chunks.damaged:
            note(f"{samples.ids[row]}: its counts were damaged; computed again")
        elif name in chunks.done and name not in right:
            note(f"{samples.ids[row]}: changed; computed again")
    chunks.forget(chunks.done.keys() - right)
    return chunks, {row: each for row, each in wanted.items() if names[row] not in right}


def _view(whole: ModelSpec, grid: Grid, allow_code: Collection[str]) -> Loaded:
    """The model that sees the tiles of a grid, priced for all tiles of an image."""
    # Its fingerprint is that of the same weights, so that a change since is noticed here.
    model, window = load_model(view_of(whole, grid), allow_code)
    return model, replace(window, costs=view_costs(whole, window, grid))


def _tables(
    image: Array,
    labels: Array,
    settings: Settings,
    index: Index,
    whole: list[Loaded],
    on_tiles: Mapping[str, list[Loaded]],
    batch_size: int,
) -> dict[str, Table]:
    """What is kept of one image, for each grid."""
    inputs = {spec.name: prepared(image[None], spec.preprocessing)[0] for _, spec in whole}
    classes = len(index.classes)
    seen = {
        spec.name: pixel_logits(model, spec, inputs[spec.name][None], classes)[0]
        for model, spec in whole
    }
    tables = {}
    for grid in settings.grids:
        logits = {name: grid.cut(values) for name, values in seen.items()}
        for model, spec in on_tiles.get(grid.name, []):
            given = inputs[spec.whole]
            logits[spec.name] = window_logits(
                model, spec, grid, given, np.arange(len(grid)), batch_size, classes
            )
        own = np.where(grid.owned, grid.cut(labels), -1)
        tables[grid.name] = count_tiles(
            logits, own, index.keys(grid), settings.confidence, settings.ignore
        )
    return tables


def window_logits(
    model: Model,
    spec: ModelSpec,
    grid: Grid,
    given: Array,
    tiles: Array,
    batch_size: int,
    classes: int = 0,
) -> Array:
    """Logits of some tiles of an image, each seen through its window.

    Args:
        model: What to run.
        spec: What it is.
        grid: The tiles.
        given: The image as the model takes it, shape (channels, height, width).
        tiles: Numbers of the tiles, shape (n,).
        batch_size: Windows a forward pass.
        classes: How many the model must tell apart; any number if 0.

    Returns:
        Shape (n, C, tile height, tile width).
    """
    parts = []
    for start in range(0, len(tiles), batch_size):
        some = tiles[start : start + batch_size]
        values = pixel_logits(model, spec, grid.windows(given, some), classes)
        parts.append(grid.inner(values, some))
    return np.concatenate(parts)
