"""Counting: what is kept of the logits of a tile, for every set of models that may have run.

The exit of a tile depends on its score, and mIoU on counts of pixels. So a score and, of each
class, three counts are all that any cascade can ask of a tile; logits need not be kept.
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
    """What is kept of N tiles after each of P sets of models.

    Args:
        keys: Row of each set of models, their names sorted, in the arrays below.
        scores: Confidence, shape (P, N), float64.
        both: Pixels of each class that are labelled and predicted so, shape (P, N, C), uint32.
        predicted: Pixels predicted so, likewise.
        labelled: Pixels labelled so, shape (N, C), uint32.
        combine: How outputs were combined.
        confidence: How combinations were scored.
    """

    keys: Mapping[Key, int]
    scores: Array
    both: Array
    predicted: Array
    labelled: Array
    combine: str
    confidence: str

    def scores_of(self, models: Key, rows: Array) -> Array:
        """Return the scores of some tiles after these models, sorted by name, ran, shape (n,).

        Raises:
            UnknownNameError: If nothing is stored for that set of models.
        """
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
    """The tables of consecutive tiles as one."""
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
    """Every set of up to ``most`` models that may be heard when a tile exits.

    A mean hears all that ran, and what sees the whole is among them; ``last`` hears one alone.

    Args:
        whole: Models that see the image.
        whole_of: Of models that see tiles, the model with the same weights that sees the image.
        most: Most models of a committee.
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
        logits: Of each model, shape (N, C, height, width).
        labels: Class of each pixel, shape (N, height, width); negative where there is none.
        keys: The sets of models.
        confidence: Name of the confidence function.
        ignore: A label that is left out, besides negative ones; a class of this number has no part
            in any figure.
        combine: Name of the combination.

    Raises:
        DataError: If a label is no class that the models tell apart.
    """
    tiles, classes = next(iter(logits.values())).shape[:2]
    labelled = (labels >= 0) & (labels != (-1 if ignore is None else ignore))
    strange = np.unique(labels[labelled & (labels >= classes)])
    if len(strange):
        raise DataError(
            f"labels hold {listed(strange.tolist())}, but models have classes 0 to {classes - 1}. "
            "Say ignore = NUMBER in [tiles], or take models of all classes"
        )
    place = np.broadcast_to(np.arange(tiles)[:, None, None] * classes, labels.shape)

    def tally(of: Array, where: Array) -> Array:
        counts = np.bincount((place + of)[where], minlength=tiles * classes)
        return counts.reshape(tiles, classes).astype(np.uint32)

    scores = np.empty((len(keys), tiles))
    both = np.empty((len(keys), tiles, classes), np.uint32)
    predicted = np.empty((len(keys), tiles, classes), np.uint32)
    for row, key in enumerate(keys):
        combination = combined({name: Outputs("logits", logits[name]) for name in key}, combine)
        decided = combination.predicted()
        scores[row] = score(combination, confidence)
        both[row] = tally(decided, labelled & (decided == labels))
        predicted[row] = tally(decided, labelled)
    if ignore is not None and ignore < classes:
        predicted[..., ignore] = 0
    known = {key: row for row, key in enumerate(keys)}
    return Table(known, scores, both, predicted, tally(labels, labelled), combine, confidence)
