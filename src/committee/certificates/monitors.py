"""Monitors: do new samples exit, score and fail as those that certified the cascade?

No label is needed. The false-alarm rate is stated for ever: while nothing changes, the chance that
any monitor ever raises an alarm is at most alpha, however many samples come.

- One monitor a stage but the last: the share of samples that exit there is within ``tau`` of the
  true share of the certifying samples. That share is known from a number of samples only: half of
  the monitor's part of alpha is spent on its interval (Clopper and Pearson), and the test is of the
  interval widened by tau.
- One of the scores: the cells of new samples, stage and bin of the score, are exchangeable with
  those of the certifying samples. The rank of a sample among all before it, ties broken by chance,
  is then uniform and independent of the past (conformal test martingales), which takes the
  certifying samples as the sample that they are.
- One of failures: at most a stated share of the samples fails.

Alpha is divided evenly. Monitors assume that samples come independently: neighbouring frames of a
film raise alarms of scores.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.certificates.e_values import Null, ShareWithin, Uniform, log_weight, starts_of
from committee.certificates.exact_tests import share_lower_bound
from committee.errors import CascadeError
from committee.reading import plain, typed
from committee.rule.cascade import Cascade
from committee.rule.expected import Expected, StageExits

# Samples between two looks at the evidence.
BLOCK = 32
# Ranks fall into so many equal bins.
_RANKS = 10
# Blocks that are looked at together, which bounds memory.
_PIECE = 1024
# More samples than this are no count.
_MOST = 2**50
# Numbers that one step of the generator gives.
_DRAWS = 4
ALPHA, TAU, MOST_FAILED = 0.01, 0.02, 0.01


@dataclass(frozen=True)
class Monitor:
    """What one monitor expects.

    Args:
        name: ``exits of stage 0``, ``scores`` or ``failures``.
        null: What is expected of its categories.
        alpha: The chance of a false alarm.
        columns: The columns of a state's counts that each category sums, from and to.
        expected: The expected share of the first category; None of scores.
    """

    name: str
    null: Null
    alpha: float
    columns: tuple[tuple[tuple[int, int], ...], ...]
    expected: float | None = None

    def counts(self, table: Array) -> Array:
        """Return the counts of its categories, from a table (..., columns of the state)."""
        sums = [
            sum(table[..., first:last].sum(axis=-1) for first, last in spans)
            for spans in self.columns
        ]
        return np.stack(sums, axis=-1)


@dataclass(frozen=True)
class Reading:
    """What a monitor shows.

    Args:
        name: See :class:`Monitor`.
        share: The share of its first category among the samples looked at; None of scores, and
            before the first look.
        expected: The share that is expected.
        low: The least that is no reason for an alarm.
        high: The largest.
        evidence: Log of the e-process at the last look.
        limit: The evidence at which the alarm is raised.
        alarm_at: The sample, from 1, at which it was raised; None if it was not.
    """

    name: str
    share: float | None
    expected: float | None
    low: float | None
    high: float | None
    evidence: float
    limit: float
    alarm_at: int | None


@dataclass(frozen=True)
class State:
    """What monitors remember; it does not grow with the samples, but for their logarithm.

    Args:
        key: Fingerprint of the monitors that it belongs to.
        seed: Breaks the ties of ranks.
        blocks: Whole blocks of samples.
        totals: Counts of all cells, of failures, and of the bins of ranks.
        starts: The same at the beginning of each window, by block.
        pending: Cells of the samples after the last whole block; -1 for one that failed.
        evidence: Log of each monitor's e-process at the end of the last block.
        alarms: The sample, from 1, at which each monitor's alarm was raised, or None.
        files: Fingerprints of the exits of whole files that were counted.
    """

    key: str
    seed: int
    blocks: int
    totals: tuple[int, ...]
    starts: tuple[tuple[int, tuple[int, ...]], ...]
    pending: tuple[int, ...]
    evidence: tuple[float, ...]
    alarms: tuple[int | None, ...]
    files: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """How many samples came."""
        return self.blocks * BLOCK + len(self.pending)

    def to_json(self) -> dict[str, Any]:
        """Return the object that :meth:`Monitors.resumed` reads."""
        data: dict[str, Any] = plain(self)
        return data


def check_levels(alpha: float, tau: float, most_failed: float) -> None:
    """Refuse settings of monitors that are no shares.

    Raises:
        CascadeError: If one of them is none.
    """
    for name, value in (("alpha", alpha), ("most_failed", most_failed)):
        if not 0 < value < 1:
            raise CascadeError(f"monitors: {name} {value:g} must lie between 0 and 1")
    if not 0 <= tau < 1:
        raise CascadeError(f"monitors: tau {tau:g} must be 0 or more, and below 1")


@dataclass(frozen=True)
class Monitors:
    """The monitors of a cascade.

    Args:
        expected: The exits of the samples that certified it, or that chose it.
        alpha: The chance that any of them ever raises a false alarm.
        tau: How far an exit share may lie from the certified one.
        most_failed: The share of samples that may fail.

    Raises:
        CascadeError: If one of these is no share.
    """

    expected: Expected
    alpha: float = ALPHA
    tau: float = TAU
    most_failed: float = MOST_FAILED

    def __post_init__(self) -> None:
        check_levels(self.alpha, self.tau, self.most_failed)

    @classmethod
    def of(cls, cascade: Cascade, **settings: float) -> Monitors:
        """Return the monitors of a cascade.

        Raises:
            CascadeError: If its file does not say which exits are expected, or says it of other
                decisions.
        """
        return cls(expected_of(cascade), **settings)

    @cached_property
    def monitors(self) -> tuple[Monitor, ...]:
        """The monitors, each with its part of alpha."""
        expected, cells = self.expected, len(self.expected.counts)
        binned = any(len(each.counts) > 1 for each in expected.stages)
        stages = range(len(expected.stages) - 1)
        alpha = self.alpha / (len(stages) + binned + 1)
        found = [self._exits(stage, alpha) for stage in stages]
        if binned:
            ranks = tuple(((cells + 1 + k, cells + 2 + k),) for k in range(_RANKS))
            found.append(Monitor("scores", Uniform(_RANKS), alpha, ranks))
        failed, others = ((cells, cells + 1),), ((0, cells),)
        null = ShareWithin(0.0, self.most_failed)
        found.append(Monitor("failures", null, alpha, (failed, others), self.most_failed))
        return tuple(found)

    def _exits(self, stage: int, alpha: float) -> Monitor:
        expected = self.expected
        count, samples = expected.exits[stage], expected.samples
        level = 1 - alpha / 4  # two sides share half of alpha
        low = share_lower_bound(count, samples, level)
        high = 1 - share_lower_bound(samples - count, samples, level)
        null = ShareWithin(max(low - self.tau, 0.0), min(high + self.tau, 1.0))
        first, cells = expected.first_cells[stage], len(expected.counts)
        last = first + len(expected.stages[stage].counts)
        columns = (((first, last),), ((0, first), (last, cells)))
        return Monitor(f"exits of stage {stage}", null, alpha / 2, columns, count / samples)

    @cached_property
    def key(self) -> str:
        """A fingerprint of what is expected and of the settings."""
        data = json.dumps(plain(self), sort_keys=True)
        return hashlib.sha256(data.encode()).hexdigest()[:16]

    def cells(self, stage: Array, score: Array) -> Array:
        """Return samples as monitors take them: the cell of each, -1 of those that failed.

        Args:
            stage: Stage of exit, from 0, shape (N,); -1 of samples that failed.
            score: Score at the exit, shape (N,).

        Raises:
            CascadeError: If the cascade has no such stage.
        """
        failed, stages = stage == -1, len(self.expected.stages)
        if (wrong := (stage < -1) | (stage >= stages)).any():
            raise CascadeError(
                f"monitors: the cascade has {stages} stages, counted from 0, and a sample exited "
                f"at {int(stage[wrong][0])}. Name the cascade that was run"
            )
        return np.where(failed, -1, self.expected.cells(np.where(failed, 0, stage), score))

    def start(self, seed: int = 0) -> State:
        """Return the state before any sample; the seed breaks ties."""
        columns, many = len(self.expected.counts) + 1 + _RANKS, len(self.monitors)
        zeros = (0,) * columns
        return State(self.key, seed, 0, zeros, ((0, zeros),), (), (0.0,) * many, (None,) * many)

    def resumed(self, data: Any) -> State:
        """Return the state that :meth:`State.to_json` wrote.

        Raises:
            CascadeError: If it is of other monitors.
            UnreadableError: If it is none.
        """
        state = typed("state", data, State)
        if state.key != self.key:
            raise CascadeError(
                "state of monitors: it is of another cascade, or of another alpha, tau or share of "
                "failures. Name another file, or remove it to start anew"
            )
        if not self._fits(state):
            raise CascadeError("state of monitors: it is damaged. Remove it to start anew")
        return state

    def _fits(self, state: State) -> bool:
        """Return True if a state may be one of these monitors."""
        tables, many = [state.totals, *(each for _, each in state.starts)], len(self.monitors)
        cells, columns = len(self.expected.counts), len(self.start().totals)
        return (
            all(len(each) == columns and 0 <= min(each) <= max(each) <= _MOST for each in tables)
            and len(state.alarms) == len(state.evidence) == many
            and all(-1 <= each < cells for each in state.pending)
            and len(state.pending) < BLOCK
            and 0 <= state.blocks <= _MOST // BLOCK
            and 0 <= state.seed <= _MOST
            and {start for start, _ in state.starts} == set(_kept(state.blocks))
        )

    def advance(self, state: State, cells: Array) -> State:
        """Return the state after more samples, in their order; see :meth:`cells`.

        The result is the same however the samples are divided into calls.
        """
        cells = np.concatenate([np.array(state.pending, np.int64), cells])
        size = _PIECE * BLOCK
        while len(cells) >= BLOCK:
            whole = min(len(cells) // BLOCK * BLOCK, size)
            state = self._look(state, cells[:whole])
            cells = cells[whole:]
        return replace(state, pending=tuple(cells.tolist()))

    def readings(self, state: State) -> tuple[Reading, ...]:
        """Return what each monitor shows."""
        totals = np.array(state.totals)
        pairs = zip(self.monitors, state.evidence, state.alarms, strict=True)
        return tuple(_reading(each, totals, log_e, alarm) for each, log_e, alarm in pairs)

    def report(self, state: State) -> dict[str, Any]:
        """Return the settings and what each monitor shows."""
        readings = self.readings(state)
        return {
            "samples": state.samples,
            "certified_samples": self.expected.samples,
            "alpha": self.alpha,
            "tau": self.tau,
            "most_failed": self.most_failed,
            "alarm": any(each.alarm_at for each in readings),
            "monitors": [plain(each) for each in readings],
        }

    def _look(self, state: State, cells: Array) -> State:
        """Return the state after whole blocks."""
        table = self._block_counts(state, cells).cumsum(axis=0) + np.array(state.totals)
        ends = state.blocks + 1 + np.arange(len(table))
        earlier = dict(state.starts) | {state.blocks: state.totals}
        known = np.array([*earlier, *ends.tolist()])
        tables = np.concatenate([np.array(list(earlier.values())), table])
        order = np.argsort(known)
        # The next look begins windows at the last end too.
        starts = starts_of(np.append(ends, ends[-1] + 1), int(ends[-1]).bit_length())
        place = order[np.searchsorted(known, np.maximum(starts, 0), sorter=order)]
        windows = table[:, None] - tables[place[:-1]]
        weights = np.where(starts[:-1] >= 0, log_weight(np.maximum(starts[:-1], 0)), -np.inf)
        seen = [
            _evidence(monitor, monitor.counts(windows), weights, alarm is None)
            for monitor, alarm in zip(self.monitors, state.alarms, strict=True)
        ]
        first = [int(ends[over[0]]) * BLOCK if len(over) else None for _, over in seen]
        alarms = [b if a is None else a for a, b in zip(state.alarms, first, strict=True)]
        kept = {int(s): p for s, p in zip(starts[-1], place[-1], strict=True) if s >= 0}
        return replace(
            state,
            blocks=int(ends[-1]),
            totals=tuple(table[-1].tolist()),
            starts=tuple((s, tuple(tables[p].tolist())) for s, p in sorted(kept.items())),
            pending=(),
            evidence=tuple(each for each, _ in seen),
            alarms=tuple(alarms),
        )

    def _block_counts(self, state: State, cells: Array) -> Array:
        """Return the counts of each block, in the columns of a state."""
        many, width = len(self.expected.counts), len(state.totals)
        block = np.arange(len(cells)) // BLOCK
        ranks = self._rank_bins(state, cells)
        columns = np.where(cells < 0, many, cells)
        ranked = (many + 1 + ranks)[cells >= 0]
        at = np.concatenate([block * width + columns, block[cells >= 0] * width + ranked])
        counts = np.bincount(at, minlength=len(cells) // BLOCK * width)
        table: Array = counts.reshape(-1, width)
        return table

    def _rank_bins(self, state: State, cells: Array) -> Array:
        """Return the bin of each sample's rank among all samples before it, and itself."""
        many = len(self.expected.counts)
        seen = np.array(self.expected.counts) + np.array(state.totals[:many])
        own = np.arange(many)[:, None] == cells
        before = seen[:, None] + own.cumsum(axis=1) - own
        rows, at = np.arange(len(cells)), np.maximum(cells, 0)
        same = before[at, rows]
        less = before.cumsum(axis=0)[at, rows] - same
        # Counted, so that each place in the stream has the same numbers however it is divided.
        bits = np.random.Philox(key=state.seed, counter=state.blocks * BLOCK // _DRAWS)
        chance = np.random.Generator(bits).random(len(cells))
        rank = (less + chance * (same + 1)) / (before.sum(axis=0) + 1)
        bins: Array = np.minimum((rank * _RANKS).astype(np.int64), _RANKS - 1)
        return bins


def _kept(blocks: int) -> list[int]:
    """Return the starts of windows that are kept after some blocks; the end is the next one."""
    starts = starts_of(np.array([blocks + 1]), blocks.bit_length())[0]
    return sorted(int(each) for each in starts if each >= 0)


def _evidence(
    monitor: Monitor, counts: Array, weights: Array, is_open: bool
) -> tuple[float, Array]:
    """Return the log of the e-process at the end of the last block, and the blocks of alarms.

    Args:
        monitor: The monitor.
        counts: Its counts in each window of each block, shape (blocks, windows, categories).
        weights: Log of the capital of each window, shape (blocks, windows).
        is_open: False once an alarm was raised; then only the last block is looked at.
    """

    def mixed(log_e: Array, rows: Array) -> Array:
        whole: Array = np.logaddexp.reduce(log_e + weights[rows], axis=1)
        return whole

    rows = np.array([len(counts) - 1])
    if is_open:
        every = np.arange(len(counts))
        # Few blocks need more than the bound.
        near = np.flatnonzero(mixed(monitor.null.bound(counts), every) >= _limit(monitor))
        rows = np.union1d(near, rows)
    found = mixed(monitor.null.log_e(counts[rows]), rows)
    return float(found[-1]), rows[found >= _limit(monitor)]


def _limit(monitor: Monitor) -> float:
    return -math.log(monitor.alpha)


def _reading(monitor: Monitor, totals: Array, evidence: float, alarm_at: int | None) -> Reading:
    null, share = monitor.null, None
    low, high = (null.low, null.high) if isinstance(null, ShareWithin) else (None, None)
    if monitor.expected is not None:
        counts = monitor.counts(totals)
        share = float(counts[0] / counts.sum()) if counts.any() else None
    limit = _limit(monitor)
    return Reading(monitor.name, share, monitor.expected, low, high, evidence, limit, alarm_at)


def expected_of(cascade: Cascade) -> Expected:
    """Return the exits that a cascade's file expects; of older files only their shares.

    Raises:
        CascadeError: If it does not say, or says it of other decisions.
    """
    expected, rule = cascade.expected, cascade.rule_fingerprint
    remedy = "Search or certify it again"
    if expected is not None:
        if not expected.fits(rule, len(cascade.stages)):
            raise CascadeError(
                f"{cascade}: the exits that its file expects are of other decisions, for the "
                f"cascade was changed. {remedy}"
            )
        return expected
    promised = cascade.origin.promised
    if promised is None or len(promised.exit_ratios) != len(cascade.stages):
        raise CascadeError(f"{cascade}: its file does not say which exits to expect. {remedy}")
    counts = (round(ratio * promised.samples) for ratio in promised.exit_ratios)
    return Expected(rule, cascade.origin.split, tuple(StageExits((), (n,)) for n in counts))
