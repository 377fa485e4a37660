"""Paths: cascades of one sequence of stages, from few exits to many, each step cheaper.

A path is chosen on some samples and tested on others, from its first step on. The samples that
choose predict how far the test will come; the path that comes to the least cost is the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from committee.arrays import Array
from committee.certificates.exact_tests import paired_p_value
from committee.pool.costs import SampleCost, costs_of_stages, spent_by_stage
from committee.pool.prefixes import Key, PrefixSource, StageSequence
from committee.rule.cascade import ALWAYS, NEVER, Cascade
from committee.selection.statistics import PrefixTable, prefix_table

# Percentiles of the score at each stage, of which a target takes one.
GRID = 40
# Steps of a path to its target, and beyond.
_STEPS, _BEYOND = 30, 25
# Standard errors by which the first step must pass on the samples that choose; most tests that
# fail there do so because chance made an ensemble look better than the reference.
_FIRST = 2.5


@dataclass(frozen=True, eq=False)
class Path:
    """Cascades of one sequence of stages; a sample exits no later than at the step before.

    Args:
        source: The rule of the cascades.
        sequence: The models of each stage.
        thresholds: Of each step, one for each stage but the last, shape (S, K - 1).
    """

    source: PrefixSource
    sequence: StageSequence
    thresholds: Array

    def __len__(self) -> int:
        return len(self.thresholds)

    def cascade(self, step: int) -> Cascade:
        """Return the cascade of one step."""
        return self.source.cascade(self.sequence, self.thresholds[step].tolist())

    def outcomes(
        self, source: PrefixSource, goal: Array, costs: Mapping[str, SampleCost], threads: int
    ) -> Outcomes:
        """Return what each step does on some samples."""
        keys = source.keys(self.sequence)
        columns = dict(zip(keys, self.thresholds.T, strict=False))
        cuts = {key: np.unique(own[np.isfinite(own)]) for key, own in columns.items()}
        cuts |= {key: np.empty(0) for key in keys[-1:]}
        table = prefix_table(source, list(cuts), cuts=cuts, threads=threads)
        levels = [_first_steps(table, key, own, cuts[key]) for key, own in columns.items()]
        gains = [table.values[table.rows[key]].astype(np.int64) - goal for key in keys]
        spent = spent_by_stage(costs_of_stages(self.sequence, costs), len(goal))
        size = len(self) + 1

        def steps(values: Sequence[Array]) -> Array:
            own = _totals(levels, values, size)
            diagonal = own if own.ndim < 2 else own[np.arange(size), np.arange(size)]
            return np.atleast_1d(diagonal)[1:] if levels else np.atleast_1d(diagonal)

        return Outcomes(
            steps([gain > 0 for gain in gains]).astype(np.int64),
            steps([gain < 0 for gain in gains]).astype(np.int64),
            steps(spent) / len(goal),
        )


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What each of S steps of a path does on some samples.

    Args:
        wins: Samples that only the cascade gets right, shape (S,); all it gets right, if there is
            no reference.
        losses: Samples that only the reference gets right, shape (S,).
        cost: Average cost, shape (S,).
    """

    wins: Array
    losses: Array
    cost: Array


def _first_steps(table: PrefixTable, key: Key, thresholds: Array, cuts: Array) -> Array:
    """Return the first step at which each sample exits, shape (N,); the number of steps if none."""
    reached = np.concatenate([[ALWAYS], cuts])
    first = np.searchsorted(-thresholds, -reached, side="left")
    steps: Array = first[table.passed[table.rows[key]]]
    return steps


@dataclass(frozen=True, eq=False)
class Target:
    """The cheapest thresholds of a sequence that are predicted to pass.

    Args:
        number: The number of the sequence.
        levels: At each stage but the last, how many of the candidate thresholds a sample needs.
        cost: Average cost on the samples that choose.
    """

    number: int
    levels: tuple[int, ...]
    cost: float


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """What is tested of a committee: its mean gain on a goal is at least ``-slack``.

    Args:
        goal: What each sample scores in the reference, shape (N,); zeros without one.
        certainty: The score of the reference, shape (N,), or zeros.
        slack: How much less than the goal the mean may be; below 0 it must be more.
        paired: True if there is a reference, so that the test is of a paired difference.
    """

    goal: Array
    certainty: Array
    slack: float
    paired: bool

    def __len__(self) -> int:
        return len(self.goal)

    def passes(self, wins: int, losses: int, error: float) -> bool:
        """Return True if the samples refuse, at an error, that the gain is too small."""
        if not self.paired:
            return _share_p_value(wins, len(self), -self.slack) <= error
        return paired_p_value(wins, losses, len(self), self.slack, 1 - error) <= error


def _share_p_value(correct: int, samples: int, share: float) -> float:
    """Return the p-value of the hypothesis that the true share is less than ``share``.

    It is the binomial tail: the chance of so many correct samples at exactly that share.

    >>> round(_share_p_value(10, 10, 0.8), 4)
    0.1074
    """
    from scipy.special import betainc

    if correct <= 0:
        return 1.0
    return float(betainc(correct, samples - correct + 1, min(max(share, 0.0), 1.0)))


@dataclass(frozen=True, eq=False)
class Chooser:
    """The samples that choose paths, with what each prefix does on them.

    Args:
        source: The rule, on the samples that choose.
        sequences: The sequences to choose from, of one to three stages.
        table: Statistics of their prefixes, with :data:`GRID` percentiles as candidates.
        costs: What a sample costs in each model, or each of the samples that choose.
        hypothesis: What will be tested, on the samples that choose.
        testing: How many samples test.
    """

    source: PrefixSource
    sequences: Sequence[StageSequence]
    table: PrefixTable
    costs: Mapping[str, SampleCost]
    hypothesis: Hypothesis
    testing: int
    _known: dict[Key, tuple[Array, Array, Array]] = field(default_factory=dict, repr=False)

    @property
    def considered(self) -> int:
        """How many cascades there are to choose from."""
        return sum((GRID + 1) ** (len(each) - 1) for each in self.sequences)

    def targets(self, margin: float) -> list[Target]:
        """Return the target of every sequence that has one; see :meth:`target`."""
        every = (self.target(number, margin) for number in range(len(self.sequences)))
        return [each for each in every if each is not None]

    def _prefix(self, key: Key) -> tuple[Array, Array, Array]:
        """Return exit level, expected gain and squared gain of each sample after a prefix.

        A sample exits at all levels above its own: at level 0 nothing exits.
        """
        if key not in self._known:
            row = self.table.rows[key]
            levels = int(self.table.widths[row]) - 1 - self.table.passed[row].astype(np.int64)
            gain = self.table.values[row].astype(np.int64) - self.hypothesis.goal
            self._known[key] = levels, _smoothed(gain, levels / GRID, self._rank), gain * gain
        return self._known[key]

    @cached_property
    def _rank(self) -> Array:
        order = np.argsort(np.argsort(self.hypothesis.certainty, kind="stable"), kind="stable")
        return order / len(order)

    def target(self, number: int, margin: float) -> Target | None:
        """Return the cheapest thresholds of a sequence that pass by a margin; None if none do."""
        sequence = self.sequences[number]
        parts = [self._prefix(key) for key in self.source.keys(sequence)]
        stages = [levels for levels, _, _ in parts[:-1]]
        samples = len(self.hypothesis)
        gains, squares = [gain for _, gain, _ in parts], [square for _, _, square in parts]
        # The first step of a path, at which nothing exits before the last stage.
        first = self._distance(gains[-1].sum(), squares[-1].sum())
        if squares[-1].any() and first * np.sqrt(samples) < min(_FIRST, margin):
            return None
        distance = self._distance(_totals(stages, gains), _totals(stages, squares))
        passing = distance * np.sqrt(self.testing) >= margin
        if not passing.any():
            return None
        spent = spent_by_stage(costs_of_stages(sequence, self.costs), samples)
        cost = np.where(passing, _totals(stages, spent) / samples, np.inf)
        best = np.unravel_index(int(cost.argmin()), cost.shape)
        return Target(number, tuple(map(int, best)), float(cost[best]))

    def _distance(self, total: Array, square: Array) -> Array:
        """Return the standard deviations of a sample by which the mean gain is above its bound."""
        samples = len(self.hypothesis)
        mean = total / samples
        # One more discordant sample keeps the error above 0 where the two never differ.
        error = np.sqrt(np.maximum((square + 1) / samples - mean**2, 1e-12))
        distance: Array = (mean + self.hypothesis.slack) / error
        return distance

    def path(self, target: Target) -> Path:
        """Return the path from no exits to a target and beyond, in equal steps of exit shares."""
        sequence = self.sequences[target.number]
        keys = self.source.keys(sequence)[:-1]
        steps = np.arange(_STEPS + _BEYOND + 1) / _STEPS if keys else np.zeros(1)
        every = np.arange(len(self.hypothesis))
        thresholds = np.empty((len(steps), len(keys)))
        for stage, (key, level) in enumerate(zip(keys, target.levels, strict=True)):
            exiting = float((self._prefix(key)[0] < level).mean())
            scores = self.source.scores(key, every)
            thresholds[:, stage] = _thresholds_at(scores, exiting * steps)
        distinct = np.ones(len(steps), bool)
        distinct[1:] = (thresholds[1:] != thresholds[:-1]).any(axis=1)
        return Path(self.source, sequence, thresholds[distinct])


def _totals(levels: Sequence[Array], values: Sequence[Array], size: int = GRID + 2) -> Array:
    """Return the sum over samples of what each scores where it exits, for all exit levels at once.

    Args:
        levels: Of each stage but the last, the exit level of each sample; at most two stages.
        values: Of each stage, what each sample scores if it exits there.
        size: One more than the highest exit level.

    Returns:
        Sums by the exit levels of each stage but the last, shape (size,) * (K - 1).
    """
    values = [np.asarray(each, np.float64) for each in values]
    last = values[-1]
    if not levels:
        return np.asarray(last.sum())

    def below(counts: Array, axis: int) -> Array:
        """Return sums over the levels below each one."""
        summed = np.roll(np.cumsum(counts, axis=axis), 1, axis)
        summed[(slice(None),) * axis + (0,)] = 0
        return summed

    first: Array = below(np.bincount(levels[0], values[0] - last, size), 0) + last.sum()
    if len(levels) == 1:
        return first
    pairs = np.bincount(levels[0] * size + levels[1], values[1] - last, size * size)
    # The second stage runs for samples that do not exit at the first.
    reaching = np.cumsum(pairs.reshape(size, size)[::-1], axis=0)[::-1]
    both: Array = first[:, None] + below(reaching, 1)
    return both


def _smoothed(gain: Array, level: Array, certainty: Array) -> Array:
    """Return the expected gain of each sample, by a logistic regression on discordant ones.

    Whether a discordant sample is a win depends smoothly on how sure both are. Its expectation
    has much less noise than itself, so that the choice follows chance less.

    Args:
        gain: 1 for a win, -1 for a loss, else 0, shape (N,).
        level: How unsure the committee is, shape (N,).
        certainty: How sure the reference is, shape (N,).
    """
    rows = np.flatnonzero(gain)
    if len(rows) < 8:
        return gain.astype(np.float64)
    columns = np.stack([np.ones(len(rows)), level[rows], certainty[rows]], axis=1)
    columns[:, 1:] -= columns[:, 1:].mean(axis=0)
    won, weights = (gain[rows] > 0).astype(np.float64), np.zeros(3)
    ridge = np.array([1e-6, 0.1, 0.1])
    for _ in range(12):
        chance = 1 / (1 + np.exp(-columns @ weights))
        slope = columns.T @ (won - chance) - ridge * weights
        bend = (columns.T * (chance * (1 - chance))) @ columns + np.diag(ridge)
        step = np.clip(np.linalg.solve(bend, slope), -2, 2)
        weights = weights + step
        if np.abs(step).max() < 1e-3:
            break
    expected = np.zeros(len(gain))
    expected[rows] = 2 / (1 + np.exp(-columns @ weights)) - 1
    return expected


def _thresholds_at(scores: Array, shares: Array) -> Array:
    """Return thresholds that shares of scores reach, halfway between neighbours, rising shares.

    At a share of 0 nothing exits; at 1 or more everything does.

    >>> _thresholds_at(np.array([0.2, 0.4, 0.8, 0.9]), np.array([0, 0.5, 1]))
    array([ inf,  0.6, -inf])
    """
    ranked = np.sort(scores)[::-1]
    count = np.round(np.clip(shares, 0, 1) * len(ranked)).astype(np.int64)
    inner = np.clip(count, 1, len(ranked) - 1) if len(ranked) > 1 else np.ones_like(count)
    above, under = ranked[inner - 1], ranked[np.minimum(inner, len(ranked) - 1)]
    middle = above / 2 + under / 2
    middle = np.where((middle > under) & (middle < above), middle, above)
    return np.where(count == 0, NEVER, np.where(shares >= 1, ALWAYS, middle))
