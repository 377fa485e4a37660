"""Cut an image into tiles, cut the windows that models see, and join tiles to an image.

All tiles have one shape, and so do all windows, which are tiles with context around them: a tile or
window that crosses the edge of the image is shifted inwards. So all windows fit in one batch, and
every tile costs the same. Where two tiles overlap, the pixels belong to the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from committee.arrays import Array
from committee.errors import ShapeError


@dataclass(frozen=True)
class Grid:
    """The tiling of an image.

    Args:
        image: Height and width in pixels.
        tile: Side of a tile in pixels; 0 if the whole image is one tile.
        context: Pixels that a window adds to each side of its tile.

    Raises:
        ShapeError: If a tile is larger than the image, or a number is negative.

    >>> Grid((360, 480), 120, 24).shape, Grid((360, 480), 120, 24).window
    ((3, 4), (168, 168))
    """

    image: tuple[int, int]
    tile: int = 0
    context: int = 0

    def __post_init__(self) -> None:
        height, width = self.image
        if min(self.tile, self.context) < 0 or self.tile > min(height, width):
            raise ShapeError(
                f"tiles of {self.tile} pixels with {self.context} around them do not fit an image "
                f"of {height} x {width}. Give a side of 1 to {min(height, width)}, or 'full'"
            )

    @property
    def name(self) -> str:
        """Return ``full``, or side and context: ``120+24``."""
        return f"{self.tile}+{self.context}" if self.tile else "full"

    @property
    def shape(self) -> tuple[int, int]:
        """Return the number of rows and columns of tiles."""
        if not self.tile:
            return 1, 1
        return math.ceil(self.image[0] / self.tile), math.ceil(self.image[1] / self.tile)

    def __len__(self) -> int:
        rows, columns = self.shape
        return rows * columns

    @property
    def side(self) -> tuple[int, int]:
        """Return height and width of a tile."""
        return (self.tile, self.tile) if self.tile else self.image

    @property
    def window(self) -> tuple[int, int]:
        """Return height and width of a window, the pixels that a model sees for a tile."""
        if not self.tile:
            return self.image
        wide = self.tile + 2 * self.context
        return min(wide, self.image[0]), min(wide, self.image[1])

    @property
    def overhead(self) -> float:
        """Return the pixels of all windows over the pixels of the image."""
        return len(self) * math.prod(self.window) / math.prod(self.image)

    @cached_property
    def _corners(self) -> list[tuple[int, int]]:
        """Return the top left corner of each tile, row by row."""
        (height, width), (rows, columns) = self.image, self.shape
        return [
            (
                min(row * self.tile, height - self.side[0]),
                min(col * self.tile, width - self.side[1]),
            )
            for row in range(rows)
            for col in range(columns)
        ]

    @cached_property
    def _window_corners(self) -> list[tuple[int, int]]:
        high, wide = self.window
        return [
            (
                min(max(top - self.context, 0), self.image[0] - high),
                min(max(left - self.context, 0), self.image[1] - wide),
            )
            for top, left in self._corners
        ]

    def cut(self, values: Array) -> Array:
        """Return the tiles of a map (…, height, width): (tiles, …, tile height, tile width)."""
        if not self.tile:
            return values[None]  # no copy: images are large
        return _cut(values, self._corners, self.side)

    def windows(self, values: Array, tiles: Array) -> Array:
        """Return the windows of some tiles (n,) of a map: (n, …, window height, window width)."""
        return _cut(values, [self._window_corners[tile] for tile in tiles.tolist()], self.window)

    def inner(self, values: Array, tiles: Array) -> Array:
        """Return what of the maps of windows lies in their tiles (n,): (n, …, height, width)."""
        high, wide = self.side
        out = np.empty((*values.shape[:-2], high, wide), values.dtype)
        for own, window, tile in zip(out, values, tiles.tolist(), strict=True):
            top = self._corners[tile][0] - self._window_corners[tile][0]
            left = self._corners[tile][1] - self._window_corners[tile][1]
            own[...] = window[..., top : top + high, left : left + wide]
        return out

    @cached_property
    def owned(self) -> Array:
        """Return True for the own pixels of each tile, shape (tiles, tile height, tile width)."""
        number = np.full(self.image, -1)
        for tile, (top, left) in enumerate(self._corners):
            own = number[top : top + self.side[0], left : left + self.side[1]]
            own[own < 0] = tile
        owned: Array = self.cut(number) == np.arange(len(self))[:, None, None]
        return owned

    def pasted(self, values: Array) -> Array:
        """Return the map of an image from those of its tiles, or from one number a tile."""
        if values.ndim == 1:
            values = np.broadcast_to(values[:, None, None], (len(self), *self.side))
        out = np.empty(self.image, values.dtype)
        # In reverse order, so that the first of two overlapping tiles wins.
        for tile in reversed(range(len(self))):
            top, left = self._corners[tile]
            out[top : top + self.side[0], left : left + self.side[1]] = values[tile]
        return out


def _cut(values: Array, corners: list[tuple[int, int]], side: tuple[int, int]) -> Array:
    out = np.empty((len(corners), *values.shape[:-2], *side), values.dtype)
    for own, (top, left) in zip(out, corners, strict=True):
        own[...] = values[..., top : top + side[0], left : left + side[1]]
    return out
