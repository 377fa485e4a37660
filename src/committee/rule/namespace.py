"""Array namespaces: what the rule asks of NumPy, of torch, and of an ONNX graph under construction.

Scores, combinations, calibration and the exit are written once, with the operators of arrays and
the functions of a :class:`Namespace`. Names and meanings follow the array API standard where it has
them. The standard knows neither the two largest values of a row nor the next larger number, and
its ONNX implementations write more nodes than the rule needs, so this small protocol stands here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, cast

import numpy as np

from committee.arrays import Array
from committee.errors import NotFiniteError

Floats: TypeAlias = tuple[float, ...]
# Rows that a function of large temporary arrays sees at once.
_ROWS = 4096
# Values above which one pass beats two of fewer steps.
_SMALL = 4096


class Namespace(Protocol):
    """Functions of arrays (N, C), row by row over their classes."""

    def floats(self, values: Array) -> Array:
        """Return the values in the type of the rule: float64, or that of the graph."""

    def exp(self, values: Array) -> Array:
        """Return e to the power of each value."""

    def log(self, values: Array) -> Array:
        """Return natural logarithms; minus infinity for 0."""

    def minimum(self, values: Array, bound: float) -> Array:
        """Return values cut off above a number."""

    def maximum(self, values: Array, bound: float) -> Array:
        """Return values cut off below a number."""

    def where(self, condition: Array, values: Array | float, others: Array | float) -> Array:
        """Return values where a condition holds, and others elsewhere."""

    def sum(self, values: Array, keepdims: bool = False) -> Array:
        """Return the sum of each row, shape (N,), or (N, 1) to keep the axis."""

    def max(self, values: Array, keepdims: bool = False) -> Array:
        """Return the largest value of each row; to keep the axis, what broadcasts like (N, 1)."""

    def argmax(self, values: Array, keepdims: bool = False) -> Array:
        """Return the lowest index among the largest values of each row."""

    def two_largest(self, values: Array) -> tuple[Array, Array]:
        """Return the largest and the second largest value of each row, of two classes or more."""

    def next_larger(self, values: Array) -> Array:
        """Return the next larger number after each."""

    def one_hot(self, index: Array, like: Array) -> Array:
        """Return 1 at the index (N, 1) of each row and 0 elsewhere, in the shape of an array."""

    def take_along(self, values: Array, index: Array) -> Array:
        """Return the value of each row at its index, shape (N, 1)."""

    def put_along(self, values: Array, index: Array, new: Array) -> Array:
        """Return the values with that of each row at its index replaced; may overwrite them."""

    def straight_pieces(
        self, values: Array, knots: Floats, heights: Floats, slopes: Floats
    ) -> Array:
        """Return a function made of straight pieces at each value.

        Args:
            values: Where, of any shape.
            knots: Where one piece ends and the next begins, rising.
            heights: The function at each knot.
            slopes: Slope of each piece, one more than knots.
        """

    def column(self, values: Array) -> Array:
        """Return values (N,) as (N, 1)."""

    def lookup(self, table: Array, *index: Array) -> Array:
        """Return the entry of a NumPy array for each row; past the end of an axis, the last.

        Args:
            table: Constant numbers.
            index: Integers, not below 0, (N,) for each of the table's first axes.
        """

    def reached(self, values: Array, knots: Floats) -> Array:
        """Return how many of some rising numbers each value reaches, (N,), integers."""

    def by_rows(self, function: Callable[[Array], Array], values: Array) -> Array:
        """Apply a function that works row by row."""

    def checked_scores(self, scores: Array, confidence: str) -> Array:
        """Refuse scores that are not finite, at once or where the namespace can see them.

        Raises:
            NotFiniteError: If a score is NaN or infinite.
        """


class Eager(Namespace, Protocol):
    """A namespace whose arrays have values, so that the flow can see who exits."""

    def arange(self, count: int) -> Array:
        """Return 0 to count - 1."""

    def full(self, count: int, value: int) -> Array:
        """Return count times the same integer."""

    def copy(self, values: Array) -> Array:
        """Return values that may be overwritten."""

    def where_true(self, condition: Array) -> Array:
        """Return the indices at which a condition holds, rising."""


class _Numpy:
    """NumPy as an :class:`Eager` namespace; all computation is float64."""

    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    minimum = staticmethod(np.minimum)
    maximum = staticmethod(np.maximum)
    where = staticmethod(np.where)
    arange = staticmethod(np.arange)

    def floats(self, values: Array) -> Array:
        # In C order, so that sums run alike however rows were taken.
        return np.ascontiguousarray(values, np.float64)

    def sum(self, values: Array, keepdims: bool = False) -> Array:
        reduce: Any = np.add.reduce  # the method of arrays takes as long again
        return np.asarray(reduce(values, 1, keepdims=keepdims))

    def max(self, values: Array, keepdims: bool = False) -> Any:
        if keepdims and len(values) == 1:
            return values.item(values.argmax())  # a single sample is decided in half the time
        return values.max(axis=1, keepdims=keepdims)

    def argmax(self, values: Array, keepdims: bool = False) -> Array:
        return np.asarray(values.argmax(axis=1, keepdims=keepdims))

    def two_largest(self, values: Array) -> tuple[Array, Array]:
        two = np.partition(values, -2, axis=1)[:, -2:]
        return two[:, 1], two[:, 0]

    def next_larger(self, values: Array) -> Array:
        return np.asarray(np.nextafter(values, np.inf))

    def one_hot(self, index: Array, like: Array) -> Array:
        return self.put_along(np.zeros(like.shape), index, 1.0)

    def take_along(self, values: Array, index: Array) -> Array:
        return values[np.arange(len(values))[:, None], index]

    def put_along(self, values: Array, index: Array, new: Array | float) -> Array:
        values[np.arange(len(values))[:, None], index] = new
        return values

    def straight_pieces(
        self, values: Array, knots: Floats, heights: Floats, slopes: Floats
    ) -> Array:
        piece = np.searchsorted(knots, values, side="right")
        # The first two pieces both begin at the first knot; the first goes to the left.
        start, height = np.array((knots[0], *knots)), np.array((heights[0], *heights))
        made: Array = height[piece] + np.array(slopes)[piece] * (values - start[piece])
        return made

    def column(self, values: Array) -> Array:
        return values[:, None]

    def lookup(self, table: Array, *index: Array) -> Array:
        inside = (np.minimum(i, end - 1) for i, end in zip(index, table.shape, strict=False))
        found: Array = table[tuple(inside)]
        return found

    def reached(self, values: Array, knots: Floats) -> Array:
        return np.searchsorted(np.array(knots), values, side="right")

    def by_rows(self, function: Callable[[Array], Array], values: Array) -> Array:
        # In blocks, for temporary arrays may be many and large.
        if len(values) <= _ROWS:
            return function(self.floats(values))
        made = np.empty(values.shape)
        for start in range(0, len(values), _ROWS):
            rows = slice(start, start + _ROWS)
            made[rows] = function(self.floats(values[rows]))
        return made

    def checked_scores(self, scores: Array, confidence: str) -> Array:
        scores = np.asarray(scores, np.float64)
        if not all_finite(scores):
            finite = np.isfinite(scores)
            raise NotFiniteError(
                f"confidence {confidence!r}: NaN or infinite score, first in row "
                f"{np.argmin(finite)} of {len(finite)}. Keep the models' outputs and the "
                "function's scores finite"
            )
        return scores

    def full(self, count: int, value: int) -> Array:
        made = np.empty(count, np.int64)
        made.fill(value)
        return made

    def copy(self, values: Array) -> Array:
        return values.copy()

    def where_true(self, condition: Array) -> Array:
        return condition.nonzero()[0]


NUMPY = cast(Eager, _Numpy())


def all_finite(values: Array) -> bool:
    """Return True if every value is finite. Cheaper than ``np.isfinite(values).all()``."""
    if values.size == 1:
        return math.isfinite(values.item())
    if values.size > _SMALL:
        with np.errstate(over="ignore", invalid="ignore"):
            # One pass; large finite values may overflow.
            if np.isfinite(values.sum()):
                return True
    # A NaN is both the largest and the smallest value to NumPy.
    return not values.size or (
        math.isfinite(values.item(values.argmax())) and math.isfinite(values.item(values.argmin()))
    )
