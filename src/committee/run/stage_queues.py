"""Queues: samples wait at each stage and leave it together, in batches.

This is a state machine: it runs no model, reads no clock and holds no lock. Its drivers take a
batch of a stage, run the models of that stage, and give their outputs. There are two: the offline
loop of :mod:`committee.run.batching`, and the server. What decides on a batch touches no queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from committee.arrays import Array
from committee.models.failures import reason_of
from committee.models.inputs import ModelInputs
from committee.rule.agreement import combine_and_score
from committee.rule.cascade import Cascade
from committee.rule.flow import Answers, Decisions
from committee.rule.outputs import Outputs, joined
from committee.run.deciding import Decider
from committee.run.sample_batch import SampleBatch, joined_inputs
from committee.run.scoring import ScoringInParts
from committee.spec.model import ModelSpec
from committee.spec.recipe import Recipe


@dataclass(eq=False)
class _Waiting:
    """Samples that wait side by side.

    Attributes:
        numbers: Their numbers, rising.
        batch: The samples.
        decider: Decides on them.
        since: When they came to the stage.
        ran: What the models of earlier stages answered to them, by name.
        taken: How many were taken, the first ones.
    """

    numbers: Array
    batch: SampleBatch
    decider: Decider
    since: float
    ran: Answers
    taken: int = 0

    @property
    def left(self) -> int:
        """How many were not taken yet."""
        return len(self.numbers) - self.taken

    def only(self, rows: Array, recipes: Collection[Recipe]) -> _Waiting:
        """Return some of them."""
        ran = {name: outputs.rows(rows) for name, outputs in self.ran.items()}
        batch = self.batch.only(rows, recipes)
        return _Waiting(self.numbers[rows], batch, self.decider, self.since, ran)


class _Piece(NamedTuple):
    """Some of the samples that waited side by side, and where they begin and end in a batch."""

    waiting: _Waiting
    rows: slice
    start: int
    end: int


class StageBatch:
    """Samples that run together through the models of a stage."""

    def __init__(self, stage: int, models: tuple[str, ...], pieces: Sequence[_Piece]) -> None:
        self.stage, self.models, self.pieces = stage, models, tuple(pieces)

    def __len__(self) -> int:
        return self.pieces[-1].end if self.pieces else 0

    @property
    def numbers(self) -> Array:
        """The numbers of its samples, shape (N,)."""
        return np.concatenate([each.numbers[rows] for each, rows, *_ in self.pieces])

    @property
    def since(self) -> float:
        """When its samples came to the stage, on average."""
        moments = [each.waiting.since * (each.end - each.start) for each in self.pieces]
        return sum(moments) / len(self)

    @property
    def ran(self) -> dict[str, Outputs]:
        """What the models of earlier stages answered to its samples, by name."""
        return {
            name: joined([each.ran[name].rows(rows) for each, rows, *_ in self.pieces])
            for name in self.pieces[0].waiting.ran
        }

    def places_by_decider(self) -> list[tuple[Decider, Array]]:
        """Return who decides on its samples, and the places of those."""
        found: dict[Decider, list[Array]] = {}
        for each in self.pieces:
            found.setdefault(each.waiting.decider, []).append(np.arange(each.start, each.end))
        return [(decider, np.concatenate(places)) for decider, places in found.items()]

    def inputs(self, recipe: Recipe) -> ModelInputs:
        """Return the inputs of its samples, one after the other."""
        return joined_inputs([each.batch.inputs(recipe)[rows] for each, rows, *_ in self.pieces])

    def inputs_of(self, some: Array, recipe: Recipe) -> ModelInputs:
        """Return the inputs of some of its samples; others that cannot be prepared do not matter.

        Args:
            some: Their places in this batch, rising.
            recipe: How they are prepared.
        """
        if len(some) == len(self):
            return self.inputs(recipe)
        parts = [
            each.batch.only(rows, [recipe]).inputs(recipe) for each, rows, _ in self.among(some)
        ]
        return joined_inputs(parts)

    def among(self, some: Array) -> Iterator[tuple[_Waiting, Array, Array]]:
        """Yield where some of its samples waited, their rows there, and their places in ``some``.

        Args:
            some: Their places in this batch, rising.
        """
        for each, rows, start, end in self.pieces:
            first, last = np.searchsorted(some, (start, end)).tolist()
            if first < last:
                yield each, some[first:last] - start + rows.start, np.arange(first, last)


class Verdict(NamedTuple):
    """What is decided on samples of a batch.

    Args:
        places: Their places in the batch, of those that have outputs.
        decisions: Decisions on these; None if nobody exits.
        stay: Which of these go on, as rows of ``places``.
        ran: What all models so far answered to these.
        failed: Why others failed, or these could not be scored, by place in the batch.
    """

    places: Array
    decisions: Decisions | None
    stay: Array
    ran: Answers
    failed: dict[int, str]


class Exits(NamedTuple):
    """Samples that leave after a batch.

    Args:
        stage: The stage.
        scored: Numbers of the samples that had outputs.
        numbers: Numbers of those that exited.
        decisions: Decisions on these, in their order; None if there are none.
        failed: Why others failed, by number.
    """

    stage: int
    scored: Array
    numbers: Array
    decisions: Decisions | None
    failed: Mapping[int, str]


class StageQueues:
    """Samples that wait at the stages of a cascade.

    Args:
        cascade: The rule.
        specs: Its models, by name.
        executor: Prepares samples that stay for the stage that they wait at; None leaves it to
            the driver.
        go_on: Whether a sample that cannot be scored fails alone; else that is raised.
    """

    def __init__(
        self,
        cascade: Cascade,
        specs: Mapping[str, ModelSpec],
        executor: Executor | None = None,
        go_on: bool = False,
    ) -> None:
        self._cascade, self._executor, self._go_on = cascade, executor, go_on
        self._decider = Decider(cascade)
        self._recipes = {name: spec.preprocessing for name, spec in specs.items()}
        self._later = recipes_from(cascade, specs)
        self._queues: list[deque[_Waiting]] = [deque() for _ in cascade.stages]
        self._dropped: set[int] = set()  # of samples under way
        self._waiting = [0] * len(cascade.stages)
        self._exits = np.zeros(len(cascade.stages), np.int64)
        self._next = 0

    @property
    def exits(self) -> Array:
        """How many samples have exited at each stage, or failed there."""
        return self._exits.copy()

    def add(self, batch: SampleBatch, decider: Decider | None = None, since: float = 0.0) -> int:
        """Put samples, at least one, into the first queue; return the number of the first.

        Args:
            batch: The samples; they are numbered one after the other.
            decider: Decides on them; None for the cascade.
            since: When they came.
        """
        first, self._next = self._next, self._next + len(batch)
        numbers = np.arange(first, self._next)
        self._wait(0, _Waiting(numbers, batch, decider or self._decider, since, {}))
        return first

    def waiting(self, stage: int) -> int:
        """Return how many samples wait at a stage."""
        return self._waiting[stage]

    def since(self, stage: int) -> float | None:
        """Return when the sample came that has waited longest at a stage, if any waits."""
        queue = self._queues[stage]
        return queue[0].since if queue else None

    def take(self, stage: int, most: int) -> StageBatch:
        """Take the samples that have waited longest at a stage."""
        pieces: list[_Piece] = []
        queue, size = self._queues[stage], 0
        while size < most and queue:
            each = queue[0]
            count = min(most - size, each.left)
            rows = slice(each.taken, each.taken + count)
            pieces.append(_Piece(each, rows, size, size + count))
            each.taken += count
            size += count
            if not each.left:
                queue.popleft()
        self._waiting[stage] -= size
        return StageBatch(stage, self._cascade.stages[stage].models, pieces)

    def decide(
        self, batch: StageBatch, outputs: Answers, failed: Mapping[int, str] | None = None
    ) -> list[Verdict]:
        """Return what the outputs of a batch decide. This touches no queue.

        Args:
            batch: What :meth:`take` returned.
            outputs: By model, a row a sample; none if all failed.
            failed: Why samples failed, by place in the batch; their outputs mean nothing.
        """
        ran = {**batch.ran, **outputs}
        return [
            self._verdict(batch, decider, places, ran, failed or {})
            for decider, places in batch.places_by_decider()
        ]

    def give(self, batch: StageBatch, verdicts: Sequence[Verdict], now: float = 0.0) -> list[Exits]:
        """Let samples wait at the next stage; return those that leave.

        Args:
            batch: What :meth:`take` returned.
            verdicts: What :meth:`decide` returned.
            now: The time.
        """
        numbers = batch.numbers
        dropped = [*self._dropped.intersection(numbers.tolist())] if self._dropped else []
        self._dropped.difference_update(dropped)
        self._exits[batch.stage] += len(batch)
        left = []
        for places, decisions, staying, ran, reasons in verdicts:
            own = numbers[places]
            failed = {numbers.item(place): why for place, why in reasons.items()}
            exited = np.ones(len(own), bool)
            exited[staying] = False
            if failed or dropped:
                exited &= ~np.isin(own, [*failed, *dropped])
            on = staying[~np.isin(own[staying], dropped)] if dropped else staying
            self._exits[batch.stage] -= len(on)
            for each, rows, some in batch.among(places[on]):
                answers = {name: outputs.rows(on[some]) for name, outputs in ran.items()}
                self._follow(batch.stage + 1, each, rows, answers, now)
            made = None if decisions is None else decisions.rows(exited)
            left.append(Exits(batch.stage, own, own[exited], made, failed))
        return left

    def drop(self, numbers: Collection[int]) -> None:
        """Let samples that have not left run no further stage."""
        if not numbers:
            return
        self._dropped.update(numbers)
        for stage, queue in enumerate(self._queues):
            for _ in range(len(queue)):
                each = queue.popleft()
                rows = np.arange(each.taken, len(each.numbers))
                gone = self._dropped.intersection(each.numbers[rows].tolist())
                self._dropped -= gone
                self._waiting[stage] -= len(gone)
                if gone:
                    kept = rows[~np.isin(each.numbers[rows], [*gone])]
                    each = each.only(kept, self._later[stage])
                if each.left:
                    queue.append(each)

    def _wait(self, stage: int, each: _Waiting) -> None:
        self._queues[stage].append(each)
        self._waiting[stage] += each.left

    def _follow(self, stage: int, before: _Waiting, rows: Array, ran: Answers, now: float) -> None:
        """Let samples wait at a stage that waited side by side before."""
        batch = before.batch.only(rows, self._later[stage])
        if self._executor is not None:
            for name in self._cascade.stages[stage].models:
                batch.begin(self._recipes[name], self._executor)
        self._wait(stage, _Waiting(before.numbers[rows], batch, before.decider, now, ran))

    def _verdict(
        self,
        batch: StageBatch,
        decider: Decider,
        places: Array,
        ran: Answers,
        failed: Mapping[int, str],
    ) -> Verdict:
        """Decide on the samples of a batch that one decider decides on."""
        reasons = {place: failed[place] for place in failed if place in places}
        if failed:
            places = places[~np.isin(places, [*failed])]
        if len(places) < len(batch):
            ran = {name: outputs.rows(places) for name, outputs in ran.items()}
        scoring = ScoringInParts() if self._go_on else None
        try:
            decisions, stay = decider(batch.stage, ran, len(places), scoring or combine_and_score)
        except Exception as error:  # of all samples
            if not self._go_on:
                raise
            reasons |= dict.fromkeys(places.tolist(), reason_of(error))
            return Verdict(places[:0], None, places[:0], {}, reasons)
        for row, why in (scoring.taken() if scoring else {}).items():
            reasons[places.item(row)] = why
        return Verdict(places, decisions, stay, ran, reasons)


def recipes_from(cascade: Cascade, specs: Mapping[str, ModelSpec]) -> tuple[frozenset[Recipe], ...]:
    """Return the preprocessings that each stage or a later one needs."""
    each = [
        frozenset(specs[name].preprocessing for name in stage.models) for stage in cascade.stages
    ]
    return tuple(frozenset().union(*each[index:]) for index in range(len(each)))
