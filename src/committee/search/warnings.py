"""What the user should know before trusting a choice."""

from __future__ import annotations

import itertools
import math

import numpy as np

from committee.predictions import Array
from committee.search.prefixes import PrefixTable, Rule

# Two models are told apart if chance alone would differ so much in fewer cases than this.
_LEVEL = 0.05


def warnings_of(rule: Rule, table: PrefixTable, unit: str) -> tuple[str, ...]:
    """Warnings on a search, one line each."""
    return (
        *_constant_scores(rule, table),
        *_too_few_samples(rule, table, unit),
        *_calibrated_here(rule),
    )


def _calibrated_here(rule: Rule) -> list[str]:
    samples, calibrations = rule.pool.samples, rule.pool.calibrations
    names = sorted(n for n, each in calibrations.items() if each.samples == samples.fingerprint)
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
    costs = rule.pool.costs.values(unit)
    rising = sorted(
        (name for name in rule.pool.names if (name,) in table.rows),
        key=lambda name: (costs[name], name),
    )
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


def _others(count: int) -> str:
    return f" and {count} more such pair{'s' if count > 1 else ''}" if count else ""


def _by_chance(gained: int, lost: int) -> float:
    """Two-sided p-value of McNemar's exact test."""
    from scipy.special import bdtr

    total = gained + lost
    return min(1.0, 2 * float(bdtr(min(gained, lost), total, 0.5))) if total else 1.0
