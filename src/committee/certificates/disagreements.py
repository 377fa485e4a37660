"""Disagreements: the samples whose labels decide whether a cascade is as accurate as another.

Accuracy can differ only where answers differ. Every other sample counts 0, whatever its label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.errors import MisalignedError
from committee.pool.evaluate import stored_decisions
from committee.pool.outcomes import refuse_outcomes
from committee.pool.pool import Pool
from committee.rule.cascade import Cascade
from committee.text import listed


@dataclass(frozen=True, eq=False)
class Disagreements:
    """The samples on which a cascade and its reference give different answers.

    Those come first on which the cascade is surest in comparison: there it is rather correct, so
    their labels remove most losses.

    Args:
        ids: Their ids.
        answers: The cascade's class of each, shape (n,).
        others: The reference's class of each, shape (n,).
    """

    ids: tuple[str, ...]
    answers: Array
    others: Array

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, classes: tuple[str, ...]) -> list[tuple[str, str | int, str | int, str]]:
        """Return the rows of a table to label: id, both answers, and no label yet.

        Args:
            classes: Names of the classes; without names answers are indices.
        """
        pairs = zip(self.ids, self.answers.tolist(), self.others.tolist(), strict=True)
        return [
            (name, classes[one] if classes else one, classes[two] if classes else two, "")
            for name, one, two in pairs
        ]

    def compared(self, labels: Mapping[str, int]) -> tuple[int, int, int]:
        """Return wins, losses, and how many of the losses are samples without a label.

        The exact test is monotone in wins and losses, so a promise that is kept when missing labels
        are losses is kept whatever those labels are.

        Args:
            labels: Class index by id; a sample that is missing or negative has no label.
        """
        own = np.array([labels.get(name, -1) for name in self.ids], np.int64)
        unlabelled = int((own < 0).sum())
        wins, losses = (own == self.answers).sum(), (own == self.others).sum()
        return int(wins), int(losses) + unlabelled, unlabelled


def disagreements(cascade: Cascade, reference: Cascade, pool: Pool) -> Disagreements:
    """Return the samples of a split on which two committees disagree; it needs no labels.

    Scores of different models have no common scale, so each sample's rank among all samples is
    compared.

    Raises:
        UnknownNameError: If the pool lacks a model.
    """
    refuse_outcomes("disagreements", pool.kind)
    own, other = stored_decisions(cascade, pool), stored_decisions(reference, pool)
    rows = np.flatnonzero(own.predicted != other.predicted)
    surer = _ranks(own.score)[rows] - _ranks(other.score)[rows]
    rows = rows[np.argsort(-surer, kind="stable")]
    ids = tuple(pool.samples.ids[row] for row in rows.tolist())
    return Disagreements(ids, own.predicted[rows], other.predicted[rows])


def check_labelled(found: Disagreements, pool: Pool, labels: Mapping[str, int]) -> None:
    """Refuse labels that do not belong to disagreements of this split, or are no class."""
    where = f"labels of {pool.samples.split!r}"
    if strange := _missing(labels, pool.samples.ids):
        raise MisalignedError(
            f"{where}: the split has no sample {listed(strange)}. Write ids as in the list of "
            "committee label"
        )
    if same := _missing(labels, found.ids):
        raise MisalignedError(
            f"{where}: cascade and reference give the same answer to {listed(same)}. Labels of "
            "another cascade, or of another reference? Make the list again: committee label"
        )
    classes = _classes(pool)
    beyond = [name for name, label in labels.items() if classes and label >= classes]
    if beyond:
        raise MisalignedError(
            f"{where}: sample {beyond[0]!r} has label {labels[beyond[0]]}, but classes are 0 to "
            f"{classes - 1}. Leave the label empty where none of them is right"
        )


def _missing(names: Iterable[str], known: Iterable[str]) -> list[str]:
    there = set(known)
    return [name for name in names if name not in there]


def _classes(pool: Pool) -> int:
    """Return the number of classes; 0 if it is unknown."""
    values = next(iter(pool.outputs.values())).values
    width = values.shape[1] if values.ndim == 2 else 0
    return len(pool.samples.classes) or width


def _ranks(scores: Array) -> Array:
    """Return the share of samples whose score is at most that of each, shape (N,)."""
    shares: Array = np.searchsorted(np.sort(scores), scores, side="right") / max(len(scores), 1)
    return shares
