"""What the user should know before trusting a choice."""

from __future__ import annotations

import itertools
import math

import numpy as np

from committee.calibration import (
    expected_calibration_error,
    says_probabilities,
    worse_note,
)
from committee.evaluate import draws
from committee.predictions import Array
from committee.search.prefixes import PrefixTable, Rule

# Two models are told apart if chance alone would differ so much in fewer cases than this.
_LEVEL = 0.05
# Fewer wholes than this are said to be few even where they tell single models apart: thousands of
# cascades are compared on them, and the bootstrap of so few is too narrow.
_FEW = 30


def warnings_of(rule: Rule, table: PrefixTable, unit: str) -> tuple[str, ...]:
    """Warnings on a search, one line each."""
    return (
        *_constant_scores(rule, table),
        *_too_few_samples(rule, table, unit),
        *_too_few_wholes(rule, table, unit),
        *_calibrated_here(rule),
        *_calibrated_worse(rule),
    )


def _calibrated_worse(rule: Rule) -> list[str]:
    samples, labels = rule.pool.samples, rule.pool.samples.labels
    if labels is None or not len(labels) or samples.labelled_by:
        return []
    found = []
    for name, calibration in sorted(rule.pool.calibrations.items()):
        raw = rule.pool.model(name)
        if says_probabilities(raw) and raw.kind != "counts":
            before = expected_calibration_error(raw, labels)
            after = expected_calibration_error(calibration.apply(raw), labels)
            found.append(worse_note(name, before, after, samples.split, len(labels)))
    return [line for line in found if line]


def _calibrated_here(rule: Rule) -> list[str]:
    pool, samples = rule.pool, rule.pool.samples
    names = sorted(n for n, c in pool.calibrations.items() if c.samples == pool.identity([n]))
    if not names:
        return []
    return [
        f"calibrations of {', '.join(names)} were fitted on {samples.split}, which chose too: "
        "committees look surer there than they are. Calibrate on a split of its own"
    ]


def _constant_scores(rule: Rule, table: PrefixTable) -> list[str]:
    names = [
        name
        for name in sorted(rule.pool.names)
        if (row := table.rows.get((name,))) is not None and table.widths[row] == 1
    ]
    if not names or len(rule.pool) < 2:
        return []
    what = "confidence" if rule.pool.kind in ("decisions", "counts") else rule.confidence
    told = ", ".join(names)
    return [
        f"{what} of {told} is the same for every sample: no cascade can stop there on some samples "
        "only. Give outputs that tell sure from unsure, or another confidence"
    ]


def _too_few_samples(rule: Rule, table: PrefixTable, unit: str) -> list[str]:
    """Models next to each other in cost that the choosing split cannot tell apart.

    What is chosen among committees closer than that is chosen by chance.
    """
    if not rule.utility.counted:
        return []
    rising = _rising(rule, table, unit)
    values: dict[str, Array] = {name: table.values[table.rows[(name,)]] for name in rising}
    best, front = -1, []
    for name in rising:
        right = int(values[name].sum(dtype=np.int64))
        if right > best:
            best = right
            front.append(name)
    close = []
    for cheap, dear in itertools.pairwise(front):
        gained = int((values[dear] > values[cheap]).sum())
        lost = int((values[cheap] > values[dear]).sum())
        if _by_chance(gained, lost) > _LEVEL:
            close.append((gained - lost, gained + lost, cheap, dear))
    if not close:
        return []
    samples = len(rule.pool)
    difference, discordant, cheap, dear = min(close)
    # Samples at which this difference, were it real, would pass McNemar's test: that with the
    # correction for continuity, (times * difference - 1)^2 = 3.84 times * discordant.
    root = 1.96 * math.sqrt(discordant)
    times = ((root + math.sqrt(root**2 + 4 * difference)) / (2 * difference)) ** 2
    needed = max(math.ceil(samples * times), samples + 1)
    return [
        f"{samples:,} samples are too few to tell {dear} from {cheap} "
        f"(+{100 * difference / samples:.2f} points, +-"
        f"{100 * 2 * math.sqrt(discordant) / samples:.2f}; about {needed:,} would do)"
        f"{_others(len(close) - 1)}: differences between committees as small as that are chance. "
        "Judge the choice on another split"
    ]


def _too_few_wholes(rule: Rule, table: PrefixTable, unit: str) -> list[str]:
    """The same where a figure is made of counts, by wholes: cells of one picture are much alike.

    The spread of a difference is the bootstrap's over wholes, widened for few as a t-interval is.

    References:
        Hesterberg (2015), What teachers should know about the bootstrap, The American
        Statistician 69, section 5.3, for the widening.
    """
    from scipy.special import stdtrit

    figure, samples = rule.utility.figure, rule.pool.samples
    if figure is None:
        return []
    count, task = samples.wholes, rule.pool.task
    judge = "Judge the choice on another split"
    few = [
        f"{count:,} {task.sample if count == 1 else task.samples} are few to choose on: what wins "
        f"there wins partly by chance. Choose on more. {judge}"
    ]
    if count < 2:
        return few
    every, drawn = np.arange(len(rule.pool)), draws(count)
    best, front = -math.inf, []
    for name in _rising(rule, table, unit):
        counts = rule.values((name,), every).reshape(count, samples.parts, -1).sum(axis=1)
        own = float(figure(counts.sum(axis=0)))
        if own > best:
            best = own
            front.append((name, own, figure(drawn @ counts)))
    widened = float(stdtrit(count - 1, 1 - _LEVEL / 2)) * math.sqrt(count / (count - 1))
    close = []
    for (cheap, less, lower), (dear, more, higher) in itertools.pairwise(front):
        spread = float(np.nanstd(higher - lower))
        if more - less < widened * spread:
            close.append((more - less, spread, cheap, dear))
    if not close:
        return few if count < _FEW else []
    difference, spread, cheap, dear = min(close)
    needed = max(math.ceil(count * (1.96 * spread / difference) ** 2), count + 1)
    return [
        f"{count:,} {task.samples} are too few to tell {dear} from {cheap} "
        f"(+{100 * difference:.2f} points, +-{100 * widened * spread:.2f}; about {needed:,} would "
        f"do){_others(len(close) - 1)}: differences between committees as small as that are "
        f"chance. {judge}"
    ]


def _rising(rule: Rule, table: PrefixTable, unit: str) -> list[str]:
    """Models by rising cost."""
    costs = rule.pool.costs.values(unit)
    there = (name for name in rule.pool.names if (name,) in table.rows)
    return sorted(there, key=lambda name: (costs[name], name))


def _others(count: int) -> str:
    return f" and {count} more such pair{'s' if count > 1 else ''}" if count else ""


def _by_chance(gained: int, lost: int) -> float:
    """Two-sided p-value of McNemar's exact test."""
    from scipy.special import bdtr

    total = gained + lost
    return min(1.0, 2 * float(bdtr(min(gained, lost), total, 0.5))) if total else 1.0
