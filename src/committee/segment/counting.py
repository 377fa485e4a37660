"""Reduce the logits of a tile to a score and counts, for every set of models that may have run.

The exit of a tile depends on its score, and mIoU on counts of pixels. So one score and three counts
for each class are all that any cascade needs of a tile; logits need not be stored.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.errors import DataError, UnknownNameError
from committee.rule.combinations import combined
from committee.rule.outputs import Outputs
from committee.rule.scores import score
from committee.text import listed

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


def joined(tables: Sequence[Table]) -> Table:
    """Return the tables of consecutive tiles as one."""
    first = tables[0]
    return Table(
        first.keys,
        np.concatenate([each.scores for each in tables], axis=1),
        np.concatenate([each.both for each in tables], axis=1),
        np.concatenate([each.predicted for each in tables], axis=1),
        np.concatenate([each.labelled for each in tables]),
        first.combine,
        first.confidence,
    )


def keys_of(whole: Iterable[str], whole_of: Mapping[str, str], most: int) -> list[Key]:
    """Return every set of up to ``most`` models whose combination may decide on a tile.

    A mean combines all models that ran, one of which sees the whole image; ``last`` takes one.
    """
    names = [*whole, *whole_of]
    return [
        tuple(sorted(some))
        for size in range(1, most + 1)
        for some in itertools.combinations(names, size)
        if len({whole_of.get(name, name) for name in some}) == size
        and (size == 1 or not all(name in whole_of for name in some))
    ]


def count_tiles(
    logits: Mapping[str, Array],
    labels: Array,
    keys: Sequence[Key],
    confidence: str,
    ignore: int | None = None,
    combine: str = "mean_logits",
) -> Table:
    """Score and count some tiles after every set of models.

    Args:
        logits: Logits of each model, shape (N, C, height, width).
        labels: Class of each pixel, shape (N, height, width); negative where there is none.
        keys: The sets of models.
        confidence: Name of the confidence function.
        ignore: A label that does not count, as negative ones do not; no figure includes a class of
            this number.
        combine: Name of the combination.

    Raises:
        DataError: If a label is not a class of the models.
    """
    tiles, classes = next(iter(logits.values())).shape[:2]
    labelled = (labels >= 0) & (labels != (-1 if ignore is None else ignore))
    unknown = np.unique(labels[labelled & (labels >= classes)])
    if len(unknown):
        raise DataError(
            f"labels hold {listed(unknown.tolist())}, but models have classes 0 to {classes - 1}. "
            "Write ignore = NUMBER in [tiles], or use models of all classes"
        )
    offset = np.broadcast_to(np.arange(tiles)[:, None, None] * classes, labels.shape)

    def tally(values: Array, where: Array) -> Array:
        counts = np.bincount((offset + values)[where], minlength=tiles * classes)
        return counts.reshape(tiles, classes).astype(np.uint32)

    scores = np.empty((len(keys), tiles))
    both = np.empty((len(keys), tiles, classes), np.uint32)
    predicted = np.empty((len(keys), tiles, classes), np.uint32)
    for row, key in enumerate(keys):
        combination = combined({name: Outputs("logits", logits[name]) for name in key}, combine)
        classes_of_pixels = combination.predicted()
        scores[row] = score(combination, confidence)
        both[row] = tally(classes_of_pixels, labelled & (classes_of_pixels == labels))
        predicted[row] = tally(classes_of_pixels, labelled)
    if ignore is not None and ignore < classes:
        predicted[..., ignore] = 0
    rows = {key: row for row, key in enumerate(keys)}
    return Table(rows, scores, both, predicted, tally(labels, labelled), combine, confidence)
