"""Prefix statistics: what search must know of the models that have run when a sample may exit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from committee.combine import ORDER_FREE
from committee.flow import judged
from committee.pool import Pool
from committee.predictions import Array
from committee.search.thresholds import percentile_thresholds


@dataclass(frozen=True, eq=False)
class Prefix:
    """Statistics of one prefix of a sequence of models on the choosing split.

    Args:
        correct: 1 where the combination predicts right, else 0, shape (N,), int8.
        thresholds: Candidate thresholds, rising, shape (T,).
        passed: How many of the thresholds each sample's score reaches, 0 … T, shape (N,), int64.
    """

    correct: Array
    thresholds: Array
    passed: Array


class Prefixes:
    """Statistics of every prefix asked for, each computed once.

    A mean does not depend on the order of the models: all orders share one entry. ``last`` sees the
    newest model only.
    """

    def __init__(self, pool: Pool, labels: Array, confidence: str, combine: str, grid: int) -> None:
        self._pool = pool
        self._labels = labels
        self._confidence = confidence
        self._combine = combine
        self._grid = grid
        self._known: dict[tuple[str, ...], Prefix] = {}

    def key(self, models: Sequence[str]) -> tuple[str, ...]:
        """What the combination of these models, oldest first, depends on."""
        return tuple(sorted(models)) if self._combine in ORDER_FREE else (models[-1],)

    def __call__(self, models: Sequence[str]) -> Prefix:
        """Statistics of the prefix of these models, oldest first."""
        key = self.key(models)
        if key not in self._known:
            self._known[key] = self._compute(key)
        return self._known[key]

    def _compute(self, models: tuple[str, ...]) -> Prefix:
        outputs = {name: self._pool.outputs[name] for name in models}
        predicted, scores = judged(outputs, self._combine, self._confidence)
        thresholds = percentile_thresholds(scores, self._grid)
        return Prefix(
            correct=(predicted == self._labels).astype(np.int8),
            thresholds=thresholds,
            # The count of thresholds at or below a score: reaching the i-th is flow.exits.
            passed=np.searchsorted(thresholds, scores, side="right"),
        )
