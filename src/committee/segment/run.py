"""Run a cascade over images: a class for each pixel, an exit for each tile."""

from __future__ import annotations

import base64
import colorsys
import csv
import io
import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.data.base import map_ahead
from committee.data.segmentation import LabelledImages
from committee.errors import CascadeError, DataError
from committee.files import disk_errors, sync_folder, write_bytes
from committee.models.inputs import prepared
from committee.models.load import load_model, specs_of
from committee.rule.cascade import Cascade
from committee.rule.flow import Answers, Request, decide, drive
from committee.rule.outputs import Outputs
from committee.run.open import CascadeLike, open_cascade
from committee.run.results import check_ending, check_free, encoded_rows, read_rows
from committee.segment.outputs import pixel_logits, window_logits
from committee.segment.settings import same_exif
from committee.segment.tiling import Grid
from committee.spec.model import ModelSpec
from committee.spec.task import SEMANTIC_SEGMENTATION
from committee.store.chunks import RowChunks, exclusive, is_begun, key_of
from committee.text import listed

# Bytes of float64 logits that a group of images may take.
_GROUP_BYTES = 5e8
_CLASSES = 32
ENDINGS = (".csv", ".jsonl")


@dataclass(frozen=True, eq=False)
class _Segmented:
    """Class of each pixel of an image, stage and confidence of each tile at its exit, and cost."""

    classes: Array
    stages: Array
    scores: Array
    cost: float | None


class Segmenter:
    """Runs a cascade of segmentation models, tile by tile.

    Args:
        cascade: A cascade file, a bundle, or a cascade that knows its models.
        allow_code: Python files and modules that may be run.
        threads: How many threads a model may use; 0 leaves the choice to its engine.

    Raises:
        CascadeError: If the cascade is not for segmentation, or mixes tiles of several sizes.
        ModelError: If a model cannot be loaded, or has changed since it was selected.

    Attributes:
        cascade: The rule.
        specs: How its models are loaded, by name.
        exif: True if EXIF rotates the images before its models see them; the data set of
            :func:`segment_into` must do the same.
    """

    def __init__(
        self,
        cascade: CascadeLike,
        *,
        allow_code: Collection[str] = (),
        threads: int = 0,
    ) -> None:
        loaded = open_cascade(cascade)
        where = str(loaded.path or "cascade")
        self.cascade = loaded.cascade
        self._arguments = self.cascade, tuple(allow_code), threads
        specs = self.specs = specs_of(self.cascade, where)
        self.grid = grid_of(specs, where)
        self.exif = same_exif(where, specs)
        self._loaded = {n: load_model(spec, allow_code, threads) for n, spec in specs.items()}
        self.unit, self._costs = self._priced(specs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to build it again: loaded models can be neither copied nor pickled."""
        return _reopened, self._arguments

    def _priced(self, specs: dict[str, ModelSpec]) -> tuple[str, tuple[float, ...]]:
        """Return the unit and the cost of each stage for all tiles of an image, or nothing."""
        wanted = self.cascade.origin.unit or "macs"
        known = {n: {c.unit: c.value for c in spec.costs} for n, spec in specs.items()}
        if not all(wanted in units for units in known.values()):
            return "", ()
        stages = self.cascade.models_of_stages
        return wanted, tuple(sum(known[n][wanted] for n in stage) for stage in stages)

    @cached_property
    def group_size(self) -> int:
        """Return how many images to decide on at once, so that late tiles fill batches."""
        height, width = self.grid.image
        classes = len(self.cascade.classes) or _CLASSES
        return max(1, min(8, int(_GROUP_BYTES / (8 * classes * height * width))))

    def decide(self, images: Array, batch_size: int = 16) -> list[_Segmented]:
        """Return the decisions on images; tiles that reach a later stage are gathered in batches.

        Args:
            images: Bytes (n, height, width, 3).
            batch_size: Windows a forward pass.

        Raises:
            DataError: If the images have another size than the models take.
            ModelError, NotFiniteError: If a model fails or answers with NaN.
        """
        if images.shape[1:3] != self.grid.image:
            raise DataError(
                f"images are {images.shape[1]} x {images.shape[2]} pixels, the cascade takes "
                f"{self.grid.image[0]} x {self.grid.image[1]}. Resize them"
            )
        count, tiles = len(images), len(self.grid)
        answer = partial(self._answer, images, batch_size)
        decisions = drive(decide(self.cascade, count * tiles), answer)
        stages = decisions.stage.reshape(count, tiles)
        return [
            _Segmented(
                self.grid.pasted(decisions.predicted[i * tiles : (i + 1) * tiles]),
                stages[i],
                decisions.score[i * tiles : (i + 1) * tiles],
                self._cost(stages[i]),
            )
            for i in range(count)
        ]

    def _cost(self, stages: Array) -> float | None:
        if not self._costs:
            return None
        reaching = [(stages >= k).mean() for k in range(len(self._costs))]
        return float(np.dot(self._costs, reaching))

    def _answer(self, images: Array, batch_size: int, request: Request) -> Answers:
        owner, tile = np.divmod(request.rows, len(self.grid))
        return {
            name: Outputs("logits", self._logits(name, images, owner, tile, batch_size))
            for name in request.models
        }

    def _logits(
        self, name: str, images: Array, owner: Array, tile: Array, batch_size: int
    ) -> Array:
        """Return the logits of some tiles of some images, shape (n, C, tile height, tile width)."""
        model, spec = self._loaded[name]
        recipe = replace(spec.image, size=self.grid.image)
        needed, position = np.unique(owner, return_inverse=True)
        inputs = prepared(images[needed], recipe)
        if spec.tile is not None:
            return window_logits(model, spec, self.grid, inputs, position, tile, batch_size)
        parts = []
        for number, image in zip(needed, inputs, strict=True):
            logits = pixel_logits(model, spec, image[None])[0]
            parts.append(self.grid.cut(logits)[tile[owner == number]])
        return np.concatenate(parts)


def _reopened(cascade: Cascade, allow_code: Collection[str], threads: int) -> Segmenter:
    return Segmenter(cascade, allow_code=allow_code, threads=threads)


def grid_of(specs: Mapping[str, ModelSpec], where: str = "cascade") -> Grid:
    """Return the grid that the models of a cascade see; ``where`` names the cascade in errors."""
    if any(spec.task != SEMANTIC_SEGMENTATION.name for spec in specs.values()):
        raise CascadeError(f"{where}: its models are not for segmentation; use committee.Runner")
    whole = {spec.image.size for spec in specs.values() if spec.tile is None}
    tiles = [spec.tile for spec in specs.values() if spec.tile is not None]
    sizes = {(tile.side, tile.context) for tile in tiles}
    if len(whole) != 1 or len(sizes) > 1:
        raise CascadeError(
            f"{where}: needs a model that sees whole images, and tiles of one size; it has "
            f"images of {sorted(whole)} and tiles of {sorted(sizes)}"
        )
    return Grid(whole.pop(), *next(iter(sizes), (0, 0)))


def segment_into(
    segmenter: Segmenter,
    dataset: LabelledImages,
    out: Path,
    batch_size: int = 16,
    show_tiles: bool = False,
    progress: Callable[[int, int], None] | None = None,
    *,
    overwrite: bool = True,
    note: Callable[[str], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Decide on all images, and write for each an image of classes and a row of a table.

    ``OUT_classes/`` gets the images of classes, ``OUT_tiles/`` those that show the exits of tiles.
    An interrupted run resumes: ``OUT.part/`` holds finished rows with their images, which move to
    their folders at the end; see :mod:`committee.store.chunks`.

    Yields:
        Each row, those of an earlier run first. The table is complete after the last.
    """
    check_table(out)
    dataset.check_exif(segmenter.exif)
    ids, step = dataset.samples.ids, segmenter.group_size
    places = [out.with_name(f"{out.stem}_{k}") for k in ("classes", "tiles")[: 1 + show_tiles]]
    identity = {
        "cascade": key_of(segmenter.cascade.to_json()),
        "samples": dataset.samples.fingerprint,
        "settings": f"{step} images together, batches of {batch_size}, tiles {show_tiles}",
    }
    with exclusive(out) as folder:
        if not overwrite:
            check_free(out)
        # A run that stopped while it moved its folders has its own images there.
        ours = {_png_name(name) for name in ids} if is_begun(out) else set()
        ours |= _png_names(out) if overwrite else set()
        _check_places(out, places, ours)
        text = {"cascade": str(segmenter.cascade), "samples": f"{len(ids):,} images"}
        chunks = RowChunks(folder, ".jsonl", identity, text)
        chunks.check(ids, dataset.digests, note or (lambda _: None))
        for path in chunks.paths():
            yield from _rows_in(path)
        starts = chunks.missing(len(ids), step)

        def read(start: int) -> tuple[Array, Array]:
            some = np.arange(start, min(start + step, len(ids)))
            images = [dataset.image(row, segmenter.grid.image) for row in some.tolist()]
            return dataset.digests(some), np.stack(images)

        for start, (digests, images) in map_ahead(read, starts, 1):
            rows = []
            segmented = segmenter.decide(images, batch_size)
            for name, image, each in zip(ids[start:], images, segmented, strict=False):
                shown = [_classes_image(each.classes)]
                if show_tiles:
                    shown.append(_stages_image(image, segmenter.grid, each.stages))
                rows.append((_row(segmenter, name, each), shown))
            chunks.write_rows(np.arange(start, start + len(rows)), _lines(rows), digests)
            yield from (row for row, _ in rows)
            if progress is not None:
                progress(chunks.rows_done, len(ids))
        with disk_errors(folder, DataError):
            table = [row for path in chunks.paths() for row in _rows_in(path)]
            _check_places(out, places, ours | {_png_name(name) for name in ids})
            _place_images(chunks.paths(), folder / "images", places)
            write_bytes(out, encoded_rows(out, table, table[0]))
        chunks.close()


def _png_name(name: str) -> str:
    return Path(name).with_suffix(".png").name


def _png_names(out: Path) -> set[str]:
    """Return the names of the images that an earlier run wrote, from its table."""
    try:
        return {_png_name(row["id"]) for row in read_rows(out)}
    except (OSError, ValueError, LookupError, TypeError, csv.Error):
        return set()


def _check_places(out: Path, places: Sequence[Path], ours: Collection[str]) -> None:
    """Raise a DataError if a folder of images is a file, or holds files that are not ours."""
    for place in places:
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise DataError(f"{place}: exists and is not a folder; name another file than {out}")
        others = {each.name for each in place.iterdir()} - set(ours) if place.exists() else set()
        if others:
            raise DataError(
                f"{place}: holds {listed(sorted(others))}, which this run may not replace; move "
                f"that folder, name another file than {out}, or replace an earlier run: --overwrite"
            )


def _place_images(parts: Sequence[Path], making: Path, places: Sequence[Path]) -> None:
    """Write the images of all parts into folders, and then rename each folder to its place."""
    shutil.rmtree(making, ignore_errors=True)
    for path in parts:
        for line in _read_lines(path):
            target = _png_name(line["row"]["id"])
            for place, image in zip(places, line["images"], strict=True):
                write_bytes(making / place.name / target, base64.b64decode(image))
    for place in places:
        if place.exists():
            place.rename(making / f"{place.name}.old")
        (making / place.name).rename(place)
    sync_folder(places[0].parent)
    shutil.rmtree(making, ignore_errors=True)


def check_table(out: Path) -> None:
    """Raise an error, before any work is done, if the table cannot be written to a path."""
    if out.suffix.lower() not in ENDINGS:
        raise DataError(f"{out}: tables of segmentation are written as {', '.join(ENDINGS)}")
    check_ending(out)


def _row(segmenter: Segmenter, name: str, each: _Segmented) -> dict[str, Any]:
    count = len(segmenter.cascade.stages)
    shares = np.bincount(each.stages, minlength=count) / len(each.stages)
    exits = {f"exit_{k}": float(share) for k, share in enumerate(shares)}
    least = float(each.scores.min())
    return {"id": name, **exits, "least_confidence": least, "cost": each.cost}


def _lines(rows: list[tuple[dict[str, Any], list[bytes]]]) -> bytes:
    """Return the lines of rows with their images; one checksum then covers both."""
    lines = (
        {"row": row, "images": [base64.b64encode(each).decode() for each in images]}
        for row, images in rows
    )
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        yield from map(json.loads, file)


def _rows_in(path: Path) -> list[dict[str, Any]]:
    return [line["row"] for line in _read_lines(path)]


# Steps of the golden ratio around the circle of hues: neighbours differ, however many there are.
_HUE_STEP = 0.61803398875


def _classes_image(classes: Array) -> bytes:
    """Return a png of class indices: with a palette, or with 16 bit if one is above 255."""
    from PIL import Image

    if classes.max() > 255:
        return _png(Image.fromarray(classes.astype(np.uint16)))
    image = Image.fromarray(classes.astype(np.uint8))
    colours = [colorsys.hsv_to_rgb(i * _HUE_STEP % 1, 0.65, 0.9) for i in range(256)]
    image.putpalette([round(255 * part) for colour in colours for part in colour])
    return _png(image)


def _stages_image(image: Array, grid: Grid, stages: Array) -> bytes:
    """Return a png of an image in which tiles that exited at stage 0 are grey.

    Other tiles are in colour; each later stage that saw a tile adds a frame.
    """
    from PIL import Image

    grey = np.repeat(image.mean(axis=2, keepdims=True) * 0.6 + 70, 3, axis=2)
    late = grid.pasted(stages > 0)
    shown = np.where(late[..., None], image, grey).astype(np.uint8)
    frames = np.zeros((len(grid), *grid.side), bool)
    for frame, stage in zip(frames, stages.tolist(), strict=True):
        for ring in range(stage):
            high, wide = (side - 3 * ring for side in grid.side)
            frame[3 * ring : high, 3 * ring : wide] = True
            frame[3 * ring + 1 : high - 1, 3 * ring + 1 : wide - 1] = False
    shown[grid.pasted(frames)] = (255, 196, 0)
    return _png(Image.fromarray(shown))


def _png(image: object) -> bytes:
    data = io.BytesIO()
    image.save(data, "png")  # type: ignore[attr-defined]
    return data.getvalue()
