"""Classes: those on which a committee loses most against its reference, and how surely."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.certificates.exact_tests import paired_lower_bound, paired_upper_bound
from committee.pool.intervals import CONFIDENCE_LEVEL, Estimate, by_chance
from committee.pool.metrics import TOP_1
from committee.pool.pool import Pool
from committee.pool.table import Column, Table
from committee.report.page import Section
from committee.report.rows import Report
from committee.selection.evaluate_many import values_on
from committee.text import listed

# Classes that are named.
_MOST = 10


@dataclass(frozen=True)
class _ClassLoss:
    """The samples of one class on which a committee and its reference differ."""

    name: str
    samples: int
    wins: int
    losses: int
    difference: Estimate


@dataclass(frozen=True)
class _ClassLosses:
    """The classes that lose most against a reference, the largest loss of recall first."""

    reference: str
    split: str
    measure: str
    looked_at: int
    worse: int
    classes: tuple[_ClassLoss, ...]

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        of = f"of {self.looked_at:,} classes"
        where = f"than with {self.reference} on {self.split}"
        if not self.worse:
            return f"None {of} is less accurate {where}."
        sure = [each.name for each in self.classes if each.difference.high < 0]
        surely = f"{listed(sure)} for certain" if sure else "none for certain"
        loses = "is less accurate" if self.worse == 1 else "are less accurate"
        return f"{self.worse:,} {of} {loses} {where}, {surely}."

    def to_json(self) -> dict[str, Any]:
        """Return every figure by name, with the level at which all intervals hold together."""
        return {**asdict(self), "interval_level": CONFIDENCE_LEVEL}


def class_losses(report: Report) -> _ClassLosses | None:
    """Return the classes on which the choice of a report loses most against its reference.

    They are of the test split, or of the validation split without one. Where samples weigh, those
    of top-1 are counted. None without classes, or if the choice is the reference.
    """
    row, front, pool = report.choice, report.front, report.test or report.front.pool
    other = None if row is None else row.versus
    if row is None or other is None or other.same or not pool.metric.needs_labels:
        return None
    metric = front.settings.metric if front.settings.metric.counted else TOP_1
    own, reference = (
        values_on(each, pool, metric).astype(np.int64)
        for each in (row.cascade, front.alone(report.reference))
    )
    return _losses_of(own - reference, pool, report.reference, metric.name)


def _losses_of(gaps: Array, pool: Pool, reference: str, measure: str) -> _ClassLosses:
    """Return the classes that lose most, from 1 for a win, -1 for a loss and else 0 of each sample.

    Each interval is exact and has the level that makes all classes with samples hold together
    (Bonferroni), because the worst of many are looked at. Classes that surely lose come first.
    """
    labels = np.asarray(pool.samples.labels)
    samples, wins, losses = (
        np.bincount(labels[some], minlength=int(labels.max()) + 1)
        for some in (gaps <= 1, gaps > 0, gaps < 0)
    )
    worse, count = np.flatnonzero(losses > wins), int(np.count_nonzero(samples))
    most = sorted(worse, key=lambda k: (wins[k] - losses[k]) / samples[k])[:_MOST]
    surest = sorted(worse, key=lambda k: by_chance(int(wins[k]), int(losses[k])))[:_MOST]
    names = pool.samples.classes
    found = [
        _loss(names[k] if names else str(k), int(samples[k]), int(wins[k]), int(losses[k]), count)
        for k in dict.fromkeys([*most, *surest])
    ]
    found.sort(key=lambda each: (each.difference.high >= 0, each.difference.value))
    split = pool.samples.split
    return _ClassLosses(reference, split, measure, count, len(worse), tuple(found[:_MOST]))


def _loss(name: str, samples: int, wins: int, losses: int, classes: int) -> _ClassLoss:
    level = 1 - (1 - CONFIDENCE_LEVEL) / (2 * classes)
    low = paired_lower_bound(wins, losses, samples, level)
    high = paired_upper_bound(wins, losses, samples, level)
    difference = Estimate((wins - losses) / samples, low, high, samples)
    return _ClassLoss(name, samples, wins, losses, difference)


def class_sections(found: _ClassLosses | None) -> tuple[Section, ...]:
    """Return the section of a page on the classes that lose most; empty without such."""
    if found is None:
        return ()
    columns = (
        Column("Class", lambda each: each.name),
        Column("Samples", lambda each: each.samples, "count"),
        Column("Only the committee correct", lambda each: each.wins, "count"),
        Column(f"Only {found.reference} correct", lambda each: each.losses, "count"),
        Column("Recall", lambda each: each.difference, "points", small="points, paired"),
    )
    note = (
        f"The intervals are exact and hold for all {found.looked_at:,} classes together with "
        "95 % certainty, so they are wider than that of one class that was named beforehand."
    )
    tables = [Table(f"On {found.split}", columns, found.classes, note)] if found.classes else []
    title = "Classes that lose most"
    return (Section(tuple(tables), (found.sentence,), name="classes", title=title),)
