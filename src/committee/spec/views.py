"""Views: which frames of a clip a model sees, and which part of each frame.

A view is a temporal crop, so many frames at equal distances, and a spatial crop of these frames. A
model's output on a clip is the mean of its outputs on the views, and its cost that of all of them
(Wang et al. 2022, appendix F.1: 10 temporal x 3 spatial crops).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import PoolFileError, UnknownNameError, UnreadableError
from committee.reading import typed

# Order of a view's axes: channels, time, height, width. An image's model sees single frames: CHW.
LAYOUTS = ("CTHW", "TCHW", "CHW")
# Bounds far above what models take: a number mistyped must not fill the memory.
MOST_VIEWS = MOST_BLOCKS = 1_000
MOST_RATE, MOST_SIDE = 1_000.0, 16_384
_MOST = {
    "frames": 10_000,
    "stride": 100_000,
    "temporal": MOST_VIEWS,
    "spatial": MOST_VIEWS,
    "blocks": MOST_BLOCKS,
}
# Tolerance for frames that come later than they should when a clip is taken at another rate.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Views:
    """The views of a clip that a model sees.

    Temporal crops begin at equal distances, the first with the clip and the last so that it ends
    with it; a single one is taken from the middle. The last frame of a clip that is shorter than a
    view is repeated. Spatial crops lie likewise along the longer side of the frames.

    Args:
        frames: Frames of a view.
        stride: Every how many-th frame is taken.
        rate: Frames a second to which a clip is brought before every ``stride``-th is taken, each
            moment shown by the frame that stands then; 0 takes the clip's own frames.
        temporal: Temporal crops.
        spatial: Spatial crops of each.
        resized: Height and width to which frames are brought, whatever their proportions, before
            they are cut; empty leaves that to the preprocessing's ``crop`` and ``resize``.
        antialias: True to smooth frames when they shrink; torchvision's recipes do not.
        layout: Order of a view's axes, ``CTHW`` or ``TCHW``; ``CHW`` for models of images, which
            see views of one frame.
        blocks: In how many blocks of equally many views the views are divided; see ``block``.
        block: Which block this model sees, from 0. Views are dealt out one by one, so that each
            block covers the clip; the first block is the one nearest its middle, and each that
            follows the one farthest from those before it.

    Raises:
        PoolFileError: If a field is out of range, or the blocks would differ in size.
        UnknownNameError: If the layout is unknown.
    """

    frames: int
    stride: int = 1
    rate: float = 0.0
    temporal: int = 10
    spatial: int = 3
    resized: tuple[int, ...] = ()
    antialias: bool = True
    layout: str = "CTHW"
    blocks: int = 1
    block: int = 0

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise UnknownNameError.of("views", "layout", str(self.layout), LAYOUTS)
        for name in ("frames", "stride", "temporal", "spatial", "blocks"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= _MOST[name]:
                raise PoolFileError(
                    f"views: {name} must be a whole number from 1 to {_MOST[name]:,}, not {value!r}"
                )
        if self.temporal * self.spatial > MOST_VIEWS:
            raise PoolFileError(
                f"views: {self.temporal} x {self.spatial} views are too many; a clip may have "
                f"{MOST_VIEWS:,}"
            )
        if isinstance(self.rate, bool) or not 0 <= self.rate <= MOST_RATE:
            raise PoolFileError(
                f"views: rate must be frames a second, up to {MOST_RATE:,.0f}, or 0, not "
                f"{self.rate!r}"
            )
        if not isinstance(self.antialias, bool):
            raise PoolFileError(f"views: antialias must be true or false, not {self.antialias!r}")
        sides_fit = all(type(n) is int and 1 <= n <= MOST_SIDE for n in self.resized)
        if len(self.resized) not in (0, 2) or not sides_fit:
            raise PoolFileError(
                f"views: resized must be [height, width], from 1 to {MOST_SIDE:,} pixels, not "
                f"{self.resized!r}"
            )
        if self.layout == "CHW" and self.frames != 1:
            raise PoolFileError(
                f"views: layout CHW is of models of images; frames must be 1, not {self.frames}"
            )
        if not 0 <= self.block < self.blocks:
            raise PoolFileError(f"views: there is no block {self.block} of {self.blocks}")
        if self.temporal * self.spatial % self.blocks:
            raise PoolFileError(
                f"views: {self.temporal} x {self.spatial} views do not divide into {self.blocks} "
                "blocks of one size. A cascade averages its models' outputs with equal weights, so "
                "only equal blocks give the mean of all views; take a divisor of "
                f"{self.temporal * self.spatial}"
            )

    @property
    def count(self) -> int:
        """Views that the model sees of one clip."""
        return self.temporal * self.spatial // self.blocks

    def chosen(self) -> list[tuple[int, int]]:
        """Temporal and spatial number of each view of the block, in order."""
        place = _spread(self.blocks)[self.block]
        every = range(place, self.temporal * self.spatial, self.blocks)
        return [divmod(number, self.spatial) for number in every]

    def rows(self, times: Array) -> Array:
        """Return the numbers of the frames that the views show, shape (count, frames).

        ``times`` says when each frame of the clip is shown, in seconds, rising from 0.
        """
        line = np.arange(len(times))
        if self.rate:
            moments = np.arange(int(times[-1] * self.rate + _TOLERANCE) + 1) / self.rate
            line = np.searchsorted(times, moments + _TOLERANCE, side="right") - 1
        span = (self.frames - 1) * self.stride + 1
        begins = spread_out(max(len(line) - span, 0), self.temporal)
        numbers = np.array([begins[time] for time, _ in self.chosen()])
        places = numbers[:, None] + np.arange(self.frames) * self.stride
        rows: Array = line[np.minimum(places, len(line) - 1)]
        return rows

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Views:
        """Read what :meth:`to_json` wrote, or what a pool file says."""
        try:
            return typed("views", data, cls)
        except UnreadableError as error:
            missing = "views: frames is missing; write how many a view has: frames = 16"
            raise PoolFileError(missing if "frames" not in data else str(error)) from None


def spread_out(room: int, count: int) -> list[int]:
    """Return places from 0 to ``room`` at equal distances; a single one stands in the middle.

    >>> spread_out(20, 3), spread_out(20, 1)
    ([0, 10, 20], [10])
    """
    if count == 1:
        return [round(room / 2)]
    return [round(place) for place in np.linspace(0, room, count).tolist()]


@cache
def _spread(count: int) -> tuple[int, ...]:
    """Return the numbers below ``count``: the middle one, then always the farthest from all."""
    numbers, order = np.arange(count), [(count - 1) // 2]
    away = abs(numbers - order[0])
    while len(order) < count:
        order.append(int(away.argmax()))
        away = np.minimum(away, abs(numbers - order[-1]))
    return tuple(order)
