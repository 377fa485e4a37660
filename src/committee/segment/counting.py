"""Reduce the logits of a tile to a score and counts, for every set of models that may have run.

The exit of a tile depends on its score, and mIoU on counts of pixels. So one score and three counts
for each class are all that any cascade needs of a tile; logits need not be stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.errors import UnknownNameError

Key = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Table:
    """Scores and counts of N tiles after each of P sets of models.

    Args:
        keys: Row of each set of models, their names sorted, in the arrays below.
        scores: Confidence, shape (P, N), float64.
        both: Pixels labelled and predicted as each class, shape (P, N, C), uint32.
        predicted: Pixels predicted as each class, shape (P, N, C), uint32.
        labelled: Pixels labelled as each class, shape (N, C), uint32.
        combine: Name of the combination of outputs.
        confidence: Name of the confidence function.
    """

    keys: Mapping[Key, int]
    scores: Array
    both: Array
    predicted: Array
    labelled: Array
    combine: str
    confidence: str

    def scores_of(self, models: Key, rows: Array) -> Array:
        """Return the scores of some tiles after ``models``, sorted by name, shape (n,)."""
        scores: Array = self.scores[self._row(models)][rows]
        return scores

    def counts_of(self, models: Key, rows: Array) -> Array:
        """Return the counts of some tiles, shape (n, 3 C), int64; see :meth:`scores_of`."""
        row = self._row(models)
        counts = [self.both[row][rows], self.predicted[row][rows], self.labelled[rows]]
        return np.concatenate(counts, axis=1).astype(np.int64)

    def _row(self, models: Key) -> int:
        if models not in self.keys:
            known = map("+".join, self.keys)
            raise UnknownNameError.of("tiles", "counts of", "+".join(models), known)
        return self.keys[models]
