"""Read the settings for segmentation from a pool file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from committee.errors import PoolFileError, UnreadableError
from committee.models.pool_file import PoolFile
from committee.reading import typed
from committee.segment.tiling import Grid
from committee.spec.model import ModelSpec
from committee.spec.task import SEMANTIC_SEGMENTATION
from committee.text import listed

# The smallest context in examples/camvid at which tiles of a third of an image's height lose less
# than a point of mIoU.
CONTEXT = 32
_SIDE_AND_CONTEXT = re.compile(r"(\d+)\+(\d+)")
_Natural = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class _Tiles:
    """The table ``[tiles]``; ``context`` is for sizes that name none."""

    sizes: Annotated[tuple[Annotated[int, Meta(ge=1)] | str, ...], Meta(min_length=1)] = ("full",)
    context: _Natural = CONTEXT
    counted_above: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    ignore: _Natural | None = None


@dataclass(frozen=True)
class Settings:
    """The settings for segmentation in a pool file; ``counted_above`` is the paper's t_unlab."""

    image: tuple[int, int]
    grids: tuple[Grid, ...]
    counted_above: float = 0.5
    ignore: int | None = None
    exif: bool = False

    @property
    def confidence(self) -> str:
        """Return the name of the score of a tile in cascades."""
        return f"tile_max_prob>{self.counted_above:g}"


def read_settings(pool: PoolFile) -> Settings:
    """Return the checked settings for segmentation of a pool file."""
    if pool.task is not SEMANTIC_SEGMENTATION:
        raise PoolFileError(
            f"tiles: the task is {pool.task.name}; write task = {SEMANTIC_SEGMENTATION.name!r}"
        )
    try:
        tiles = typed("[tiles]", pool.tiles, _Tiles)
    except UnreadableError as error:
        raise PoolFileError(str(error)) from None
    sizes = {model.image.size for model in pool.models}
    if len(sizes) > 1:
        text = ", ".join(f"{m.name} takes {m.image.size}" for m in pool.models)
        raise PoolFileError(
            f"tiles: models must take images of one size: {text}. Give all the same resolution"
        )
    for model in pool.models:
        if model.kind != "logits":
            raise PoolFileError(
                f"tiles: model {model.name!r} gives {model.kind}; it must give logits"
            )
    exif = same_exif("tiles", {model.name: model for model in pool.models})
    image = next(iter(sizes))
    grids = tuple(dict.fromkeys(_grid(image, side, tiles.context) for side in tiles.sizes))
    return Settings(image, grids, tiles.counted_above, tiles.ignore, exif)


def same_exif(where: str, models: Mapping[str, ModelSpec]) -> bool:
    """Return True if EXIF rotates the images that models see."""
    rotated = [name for name, model in models.items() if model.image.exif]
    if rotated and len(rotated) < len(models):
        others = [name for name in models if name not in rotated]
        raise PoolFileError(
            f"{where}: {listed(rotated)} see images rotated by EXIF, {listed(others)} do not, and "
            "labels can fit one only. Write exif once, in [preprocessing]"
        )
    return bool(rotated)


def _grid(image: tuple[int, int], side: int | str, context: int) -> Grid:
    if side == "full":
        return Grid(image)
    if isinstance(side, int):
        return Grid(image, side, context)
    both = _SIDE_AND_CONTEXT.fullmatch(side)
    if not both or not int(both[1]):
        raise PoolFileError(
            f"[tiles]: a size must be a side in pixels, 'full' or 'SIDE+CONTEXT', not {side!r}"
        )
    return Grid(image, int(both[1]), int(both[2]))
