"""Show where in the images of a split tiles exit late, from stored scores alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.models.load import specs_of
from committee.pool.evaluate import exits_of, source_of
from committee.pool.pool import Pool
from committee.pool.table import Column, Table
from committee.report.figure import figure_svg
from committee.report.page import Section
from committee.report.rows import Report, Row
from committee.report.text import exits, named
from committee.rule.cascade import Cascade
from committee.segment.run import grid_of
from committee.segment.tiling import Grid
from committee.style import Axes, Figure, empty_figure

# Number of images whose tiles are shown.
_SHOWN = 8
# Stages of exit, from light to dark.
_STAGES = ("#eeeeee", "#7fb5d8", "#0072B2", "#003f63")


@dataclass(frozen=True, eq=False)
class _TileExits:
    """The stage of exit of every tile of the images of a split, shape (images, tiles)."""

    cascade: Cascade
    grid: Grid
    stages: Array
    names: tuple[str, ...]
    split: str

    @property
    def share(self) -> Array:
        """Return the share of images in which each tile passed stage 0, shape (rows, columns)."""
        shares: Array = (self.stages > 0).mean(axis=0).reshape(self.grid.shape)
        return shares


def _tile_exits(cascade: Cascade, pool: Pool) -> _TileExits:
    """Return the exits of the stored tiles of a split."""
    own = pool.holding(cascade.models_of_stages)
    samples = own.samples
    stages = exits_of(cascade, source_of(cascade, own))[0].reshape(samples.wholes, samples.parts)
    names = tuple(name.rpartition("#")[0] for name in samples.ids[:: samples.parts])
    return _TileExits(cascade, grid_of(specs_of(cascade)), stages, names, samples.split)


def tile_sections(report: Report) -> list[Section]:
    """Return a section on late exits of the selected committees, or the front's best; or none."""
    pool = report.front.pool if report.test is None else report.test

    def on_tiles(row: Row) -> bool:
        stages = row.cascade.models_of_stages
        return len(stages) > 1 and bool(pool.holding(stages).layout.whole_of)

    some = [row for row in report.rows if row.chosen and on_tiles(row)]
    some = some or [row for row in report.members if on_tiles(row)][-1:]
    if not some:
        return []
    maps = {named(row.cascade): (row, _tile_exits(row.cascade, pool)) for row in some}
    section = Section(
        name="tiles-went-on",
        title="Where tiles go on",
        sentences=tuple(_sentences([each for _, each in maps.values()])),
        tables=(_table(list(maps.values())),),
        svg=figure_svg(_tiles_figure([each for _, each in maps.values()])),
    )
    return [section]


def _sentences(maps: Sequence[_TileExits]) -> Iterator[str]:
    for each in maps:
        row, column = np.unravel_index(int(each.share.argmax()), each.share.shape)
        most, least = each.share.max(), each.share.min()
        rows, columns = each.grid.shape
        yield (
            f"{named(each.cascade)}: of {rows} x {columns} tiles the one in row {row + 1}, column "
            f"{column + 1} goes on most often, in {100 * most:.0f} % of the {len(each.names):,} "
            f"images of {each.split}; the least frequent one in {100 * least:.0f} %."
        )
    yield "committee run --show-tiles draws which tiles went on over the images themselves."


def _table(maps: Sequence[tuple[Row, _TileExits]]) -> Table:
    def images(name: str, share: float) -> Column:
        """Return a column of images of which this share of the tiles goes on."""

        def get(each: tuple[Row, _TileExits]) -> float:
            on = (each[1].stages > 0).mean(axis=1)
            return float((on == share).mean())

        return Column(name, get, "share")

    return Table(
        "Tiles that go on",
        (
            Column("Committee", lambda each: named(each[0].cascade)),
            Column("Tiles", lambda each: each[1].grid.name),
            Column("Tiles of an image", lambda each: len(each[1].grid), "count"),
            Column("Exit at each stage", lambda each: exits(each[0].reported)),
            images("Images of which none goes on", 0.0),
            images("Images of which all go on", 1.0),
        ),
        maps,
    )


def _tiles_figure(maps: Sequence[_TileExits]) -> Figure:
    """Draw how often each tile goes on, and the stage of exit of each tile of some images."""
    figure = empty_figure(9.0, 0.4 + 2.6 * len(maps))
    for panel, each in zip(
        figure.subfigures(len(maps), 1, squeeze=False).flat,
        maps,
        strict=True,
    ):
        left, right = panel.subfigures(1, 2, width_ratios=(1, 1.5))
        panel.suptitle(
            f"{named(each.cascade)}, {each.split}", fontsize=9, x=0.01, ha="left", parse_math=False
        )
        _draw_share(left.add_subplot(), each)
        right.suptitle("some images: grey exits at stage 0, the darker the later", fontsize=8)
        shown = np.linspace(0, len(each.names) - 1, min(_SHOWN, len(each.names))).astype(int)
        axes = right.subplots(2, -(-len(shown) // 2), squeeze=False)
        for place in axes.flat:
            place.set_axis_off()
        for place, number in zip(axes.flat, shown, strict=False):
            _draw_stages(place, each, int(number))
    return figure


def _mesh(axes: Axes, grid: Grid, values: Array, **look: object) -> None:
    """Draw tiles as rectangles; pixels of an overlap belong to the first tile."""
    height, width = grid.image
    rows, columns = grid.shape
    across = np.minimum(np.arange(columns + 1) * grid.side[1], width)
    down = np.minimum(np.arange(rows + 1) * grid.side[0], height)
    axes.pcolormesh(across, down, values, edgecolor="white", linewidth=0.8, **look)  # type: ignore[arg-type]
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _draw_share(axes: Axes, each: _TileExits) -> None:
    grid, share = each.grid, each.share
    _mesh(axes, grid, share, cmap="Blues", vmin=0, vmax=1)
    height, width = grid.image
    if len(grid) <= 64:
        for (row, column), value in np.ndenumerate(share):
            ends = (min((row + 1) * grid.side[0], height), min((column + 1) * grid.side[1], width))
            axes.text(
                (column * grid.side[1] + ends[1]) / 2, (row * grid.side[0] + ends[0]) / 2,
                f"{100 * value:.0f}", ha="center", va="center", fontsize=8,
                color="white" if value > 0.55 else "black",
            )  # fmt: skip
    axes.set_title("images in which a tile goes on, %", fontsize=8)


def _draw_stages(axes: Axes, each: _TileExits, number: int) -> None:
    from matplotlib.colors import ListedColormap

    last = len(_STAGES) - 1
    values = np.minimum(each.stages[number], last).reshape(each.grid.shape)
    _mesh(axes, each.grid, values, cmap=ListedColormap(_STAGES), vmin=0, vmax=last)
    axes.set_title(each.names[number], fontsize=6, parse_math=False)
