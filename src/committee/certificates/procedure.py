"""The procedure: choose paths on some samples, test them step by step on the others.

No sample that chooses is tested on. A path is tested from its first step on, each at the same
level, and the first failure ends it, so its many steps cost no level. Each path has a share of the
level, so the chance of any false promise is at most 1 - level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from committee.arrays import Array
from committee.certificates.paths import GRID, Chooser, Hypothesis, Outcomes, Path, Target
from committee.pool.prefixes import PrefixSource, StageSequence
from committee.selection.rules import Progress
from committee.selection.statistics import prefix_table

PROCEDURE = "nested paths 3"
# The share of the samples that choose.
CHOOSING = 0.25
# How the level is shared among paths, the best first.
_SHARES = (0.6, 0.2, 0.2)
# Standard errors by which a target must be predicted to pass, and those tried if none is.
_MARGINS = (3.0, 2.0, 1.0, 0.0)
# The share of 1 - level that tests the promise of a cost.
COST_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Rule:
    """One rule of a pool on both parts of its samples, with the sequences to try by it."""

    choosing: PrefixSource
    testing: PrefixSource
    sequences: Sequence[StageSequence]


@dataclass(frozen=True, eq=False)
class Passed:
    """A step of a path that passed, and what it did on the samples that tested."""

    path: Path
    step: int
    wins: int
    losses: int
    cost: float
    error: float


@dataclass(frozen=True, eq=False)
class Tested:
    """What the procedure found.

    Args:
        passed: The last step of each path that passed, cheapest first; empty if none did.
        steps: Committees that were tested.
        considered: Committees among which the targets were chosen.
        paths: Paths that were tested.
        enough: If none passed, about how many samples in all would do; None if no number would.
    """

    passed: tuple[Passed, ...]
    steps: int
    considered: int
    paths: int
    enough: int | None = None


def divided(samples: int, seed: int) -> tuple[Array, Array]:
    """Return the rows that choose and the rows that test, each rising."""
    order = np.random.default_rng(seed).permutation(samples)
    choosing = round(samples * CHOOSING)
    return np.sort(order[:choosing]), np.sort(order[choosing:])


def tested_paths(
    rules: Sequence[Rule],
    choosing: Hypothesis,
    testing: Hypothesis,
    unit: str,
    error: float,
    most: float,
    threads: int,
    progress: Progress | None,
) -> Tested:
    """Choose paths and test them."""
    choosers = [
        _chooser(rule, choosing, unit, len(testing), threads, _part(progress)) for rule in rules
    ]
    best = list(_best(choosers, most))
    passed, steps = [], 0
    for (number, target), share in zip(best, _shares(len(best)), strict=True):
        path = choosers[number].path(target)
        source = rules[number].testing
        costs = source.pool.sample_costs(unit)
        outcomes = path.outcomes(source, testing.goal, costs, threads)
        last = _last_passing(testing, outcomes, error * share)
        steps += min(last + 2, len(path))
        if last >= 0:
            own = (int(outcomes.wins[last]), int(outcomes.losses[last]))
            passed.append(Passed(path, last, *own, float(outcomes.cost[last]), error * share))
    considered = sum(each.considered for each in choosers)
    ranked = tuple(sorted(passed, key=lambda each: each.cost))
    enough = None if ranked else _enough(choosers, most)
    return Tested(ranked, steps, considered, len(best), enough)


def _enough(choosers: Sequence[Chooser], most: float) -> int | None:
    """Return how many samples in all would probably certify something, in doublings."""
    for times in 2 ** np.arange(1, 8):
        for chooser in choosers:
            testing = int(chooser.testing * times)
            targets = replace(chooser, testing=testing).targets(_MARGINS[0])
            if any(target.cost < most for target in targets):
                return int((chooser.testing + len(chooser.hypothesis)) * times)
    return None


def _chooser(
    rule: Rule,
    hypothesis: Hypothesis,
    unit: str,
    testing: int,
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> Chooser:
    """Return the chooser of one rule, with the statistics of all prefixes of its sequences."""
    source = rule.choosing
    keys = list(dict.fromkeys(key for each in rule.sequences for key in source.keys(each)))
    table = prefix_table(source, keys, GRID, threads=threads, progress=progress)
    costs = source.pool.sample_costs(unit)
    return Chooser(source, rule.sequences, table, costs, hypothesis, testing)


def _part(progress: Progress | None) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    report = progress
    return lambda done, every: report("prefixes", done, every)


def _shares(paths: int) -> list[float]:
    """Return each path's share of the level; they sum to 1."""
    own = _SHARES[:paths]
    return [each / sum(own) for each in own]


def _best(choosers: Sequence[Chooser], most: float) -> Iterator[tuple[int, Target]]:
    """Yield the targets of the best paths, the cheapest first, with the numbers of their rules."""
    for margin in _MARGINS:
        found = [
            (target.cost, number, target)
            for number, chooser in enumerate(choosers)
            for target in chooser.targets(margin)
            if target.cost < most
        ]
        if found:
            found.sort(key=lambda each: each[:2])
            yield from ((number, target) for _, number, target in found[: len(_SHARES)])
            return


def _last_passing(hypothesis: Hypothesis, outcomes: Outcomes, error: float) -> int:
    """Return the last step before the first that fails; -1 if the first fails."""
    pairs = zip(outcomes.wins.tolist(), outcomes.losses.tolist(), strict=True)
    for step, (wins, losses) in enumerate(pairs):
        if not hypothesis.passes(wins, losses, error):
            return step - 1
    return len(outcomes.wins) - 1
