"""Torch tensors as an array namespace of the rule; the host waits in ``where_true`` alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from committee.arrays import Array
from committee.rule.namespace import Floats


class Torch:
    """Torch as an :class:`~committee.rule.namespace.Eager` namespace, on one device."""

    exp = staticmethod(torch.exp)
    log = staticmethod(torch.log)
    where = staticmethod(torch.where)
    copy = staticmethod(torch.clone)

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def floats(self, values: Tensor) -> Tensor:
        return values.double()

    def minimum(self, values: Tensor, bound: float) -> Tensor:
        return values.clamp(max=bound)

    def maximum(self, values: Tensor, bound: float) -> Tensor:
        return values.clamp(min=bound)

    def sum(self, values: Tensor, keepdims: bool = False) -> Tensor:
        return values.sum(1, keepdim=keepdims)

    def max(self, values: Tensor, keepdims: bool = False) -> Tensor:
        return values.amax(1, keepdim=keepdims)

    def argmax(self, values: Tensor, keepdims: bool = False) -> Tensor:
        return values.argmax(1, keepdim=keepdims)

    def two_largest(self, values: Tensor) -> tuple[Tensor, Tensor]:
        two = values.topk(2, dim=1).values
        return two[:, 0], two[:, 1]

    def next_larger(self, values: Tensor) -> Tensor:
        return values.nextafter(torch.full_like(values, torch.inf))

    def one_hot(self, index: Tensor, like: Tensor) -> Tensor:
        return torch.zeros_like(like, dtype=torch.float64).scatter(1, index, 1.0)

    def take_along(self, values: Tensor, index: Tensor) -> Tensor:
        return values.gather(1, index)

    def put_along(self, values: Tensor, index: Tensor, new: Tensor) -> Tensor:
        return values.scatter(1, index, new)

    def straight_pieces(
        self, values: Tensor, knots: Floats, heights: Floats, slopes: Floats
    ) -> Tensor:
        def table(numbers: Floats) -> Tensor:
            return _table(numbers, self._device)

        piece = torch.searchsorted(table(knots), values, right=True)
        start, height = table((knots[0], *knots)), table((heights[0], *heights))
        return height[piece] + table(slopes)[piece] * (values - start[piece])

    def column(self, values: Tensor) -> Tensor:
        return values[:, None]

    def lookup(self, table: Array, *index: Tensor) -> Tensor:
        inside = (i.clamp(max=end - 1) for i, end in zip(index, table.shape, strict=False))
        return torch.as_tensor(table, device=self._device)[tuple(inside)]

    def reached(self, values: Tensor, knots: Floats) -> Tensor:
        return torch.searchsorted(_table(knots, self._device), values, right=True)

    def by_rows(self, function: Callable[[Any], Any], values: Tensor) -> Any:
        return function(values.double())

    def checked_scores(self, scores: Tensor, confidence: str) -> Tensor:
        """Make scores that are not finite NaN, which never exits: the flow sees it at its end."""
        return torch.where(scores.isfinite(), scores, torch.nan)

    def arange(self, count: int) -> Tensor:
        return torch.arange(count, device=self._device)

    def full(self, count: int, value: int) -> Tensor:
        return torch.full((count,), value, device=self._device)

    def where_true(self, condition: Tensor) -> Tensor:
        return torch.nonzero(condition).squeeze(1)  # here the host waits


@lru_cache(maxsize=256)
def _table(values: Floats, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)
