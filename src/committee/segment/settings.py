"""Settings: what a pool file says of segmentation, and what models of it cost on tiles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from committee.errors import PoolFileError, UnknownNameError
from committee.models.pool_file import PoolFile
from committee.segment.tiling import Grid
from committee.spec.cost import Cost
from committee.spec.model import ModelSpec, Tile
from committee.spec.task import SEMANTIC_SEGMENTATION
from committee.text import listed

# The least of the contexts that examples/camvid measures with which tiles of a third of an image's
# height cost less than a point of mIoU.
CONTEXT = 32
_BOTH = re.compile(r"(\d+)\+(\d+)")
_KEYS = ("sizes", "context", "counted_above", "ignore")


@dataclass(frozen=True)
class Settings:
    """How images are divided and judged.

    Args:
        image: Height and width of all images, in pixels.
        grids: The ways to divide them that are compared.
        counted_above: Pixels whose largest probability is not above this do not count in the score
            of a tile; the paper's t_unlab.
        ignore: The label of pixels that nobody labelled; None if all are.
        exif: Whether images are turned as their EXIF says.
    """

    image: tuple[int, int]
    grids: tuple[Grid, ...]
    counted_above: float = 0.5
    ignore: int | None = None
    exif: bool = False

    @property
    def confidence(self) -> str:
        """How cascades name the score of a tile."""
        return f"tile_max_prob>{self.counted_above:g}"


def read_settings(pool: PoolFile) -> Settings:
    """What a pool file says of segmentation, checked.

    ``[tiles]`` has ``sizes``, of sides of tiles in pixels, ``"full"`` and ``"SIDE+CONTEXT"``;
    ``context``, the pixels around a tile that later models see too, where a size names none;
    ``counted_above``; and ``ignore``.

    Raises:
        PoolFileError: If the task is another, models differ in size, or a value is out of range.
        UnknownNameError: If a key is unknown.
        ShapeError: If tiles do not fit the image.
    """
    if pool.task is not SEMANTIC_SEGMENTATION:
        raise PoolFileError(
            f"tiles: the task is {pool.task.name}; write task = {SEMANTIC_SEGMENTATION.name!r}"
        )
    for key in pool.tiles:
        if key not in _KEYS:
            raise UnknownNameError.of("[tiles]", "key", key, _KEYS)
    sizes = {model.preprocessing.size for model in pool.models}
    if len(sizes) > 1:
        told = ", ".join(f"{m.name} takes {m.preprocessing.size}" for m in pool.models)
        raise PoolFileError(
            f"tiles: models must take images of one size: {told}. Give all the same resolution"
        )
    for model in pool.models:
        if model.kind != "logits":
            raise PoolFileError(f"tiles: model {model.name!r} gives {model.kind}; give logits")
    exif = same_exif("tiles", {model.name: model for model in pool.models})
    image = next(iter(sizes))
    context = _whole(pool.tiles, "context", CONTEXT)
    sides = pool.tiles.get("sizes", ["full"])
    if not isinstance(sides, list) or not sides:
        raise PoolFileError("[tiles]: sizes must be a list such as ['full', 128]")
    grids = tuple(_grid(image, side, context) for side in sides)
    above = pool.tiles.get("counted_above", 0.5)
    if isinstance(above, bool) or not isinstance(above, int | float) or not 0 <= above < 1:
        raise PoolFileError(f"[tiles]: counted_above must be 0 or more and below 1, not {above!r}")
    ignore = _whole(pool.tiles, "ignore", -1) if "ignore" in pool.tiles else None
    return Settings(image, tuple(dict.fromkeys(grids)), float(above), ignore, exif)


def same_exif(where: str, models: Mapping[str, ModelSpec]) -> bool:
    """Return whether models see images turned as their EXIF says.

    Raises:
        PoolFileError: If some do and some do not: pixels of both have one label.
    """
    turned = [name for name, model in models.items() if model.preprocessing.exif]
    if turned and len(turned) < len(models):
        others = [name for name in models if name not in turned]
        raise PoolFileError(
            f"{where}: {listed(turned)} see images turned by EXIF, {listed(others)} do not, and "
            "labels can be of one only. Write exif once, in [preprocessing]"
        )
    return bool(turned)


def _grid(image: tuple[int, int], side: Any, context: int) -> Grid:
    if side == "full":
        return Grid(image)
    if isinstance(side, str) and (both := _BOTH.fullmatch(side)) and int(both[1]):
        return Grid(image, int(both[1]), int(both[2]))
    if type(side) is not int or side < 1:
        raise PoolFileError(
            f"[tiles]: a size is a side in pixels, 'full' or 'SIDE+CONTEXT', not {side!r}"
        )
    return Grid(image, side, context)


def _whole(table: Mapping[str, Any], key: str, usual: int) -> int:
    value = table.get(key, usual)
    if type(value) is not int or (key in table and value < 0):
        raise PoolFileError(f"[tiles]: {key} must be a whole number, 0 or more, not {value!r}")
    return value


def view_of(spec: ModelSpec, grid: Grid) -> ModelSpec:
    """The model that sees tiles with the weights of one that sees images; costs not yet known."""
    return replace(
        spec,
        name=f"{spec.name}@{grid.name}",
        preprocessing=replace(spec.preprocessing, size=grid.window),
        family="",
        whole=spec.name,
        tile=Tile(grid.tile, grid.context),
        costs=(),
    )


def view_costs(whole: ModelSpec, window: ModelSpec, grid: Grid) -> tuple[Cost, ...]:
    """What seeing all tiles of an image costs, one a unit.

    Args:
        whole: The model that sees the image.
        window: The model that sees tiles, with what was counted for one window.
        grid: The tiles.
    """
    height, width = grid.window
    told = f"all {len(grid)} tiles, each seen in {height} x {width}"
    costs = []
    for cost in whole.costs:
        own = next((c for c in window.costs if c.unit == cost.unit), None)
        if own is not None and cost.source == "counted":
            costs.append(Cost(own.value * len(grid), cost.unit, "counted", told))
        else:
            # What was given for an image is given for its pixels.
            costs.append(Cost(cost.value * grid.overhead, cost.unit, cost.source, told))
    return tuple(costs)
