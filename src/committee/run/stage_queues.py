"""Queues: samples of many flows wait at each stage and leave it together, in batches.

This is a state machine: it runs no model, reads no clock and holds no lock. Its drivers take a
batch of a stage, run the models of that stage, and give their outputs. There are two: the offline
loop of :mod:`committee.run.batching`, and the server.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np

from committee.arrays import Array
from committee.models.failures import reason_of
from committee.models.inputs import ModelInputs
from committee.rule.agreement import combine_and_score
from committee.rule.cascade import Cascade
from committee.rule.flow import Answers, Decisions, Flow, Request, Rule, decide
from committee.rule.outputs import joined
from committee.run.sample_batch import SampleBatch, joined_inputs
from committee.run.scoring import ScoringInParts
from committee.spec.model import ModelSpec
from committee.spec.recipe import Recipe


@dataclass(eq=False)
class _Waiting:
    """A request that waits for its answers.

    Attributes:
        first: Number of the flow's first sample.
        batch: The samples of the request.
        dropped: Rows of the flow that need no answer any more.
        todo: Rows of the batch that were not taken yet, rising.
        running: How many batches under way hold some of its rows.
        answers: Rows of the batch and their outputs by model.
        scoring: How the flow scores, if samples on which that fails do so alone.
        made: What the flow asks for next, or its decisions at its end; None if it made none.
        failed: Why samples could not be scored, by row of the flow.
    """

    first: int
    flow: Flow
    request: Request
    batch: SampleBatch
    scoring: ScoringInParts | None = None
    dropped: set[int] = field(default_factory=set)
    todo: Array = field(init=False)
    running: int = 0
    answers: list[tuple[Array | slice, Answers]] = field(default_factory=list)
    made: Request | Decisions | None = None
    failed: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.todo = self.undropped(np.arange(len(self.batch)))

    def undropped(self, rows: Array) -> Array:
        """Return those of some rows of the batch that need an answer."""
        if not self.dropped:
            return rows
        return rows[~np.isin(self.request.rows[rows], list(self.dropped))]

    def decide(self) -> None:
        """Give the flow its answers, unless all its samples were dropped."""
        if not self.answers:
            return
        rows = self.request.rows
        try:
            self.made = self.flow.send(self.joined_answers())
        except StopIteration as end:
            self.made = end.value
        except Exception as error:  # of all samples
            if self.scoring is None:
                raise
            self.failed = dict.fromkeys(rows.tolist(), reason_of(error))
            return
        failed = {} if self.scoring is None else self.scoring.taken()
        self.failed = {rows.item(row): reason for row, reason in failed.items()}

    def joined_answers(self) -> Answers:
        """Return the outputs for all rows, those that were not run with the outputs of another."""
        if not self.dropped and len(self.answers) == 1:
            return self.answers[0][1]
        every = np.arange(len(self.batch))
        order = np.concatenate([every[rows] for rows, _ in self.answers])
        parts = [answers for _, answers in self.answers]
        outputs = {name: joined([part[name] for part in parts]) for name in parts[0]}
        if len(order) == len(every) and (order == every).all():
            return outputs
        places = np.zeros(len(every), np.int64)
        places[order] = np.arange(len(order))
        return {name: each.rows(places) for name, each in outputs.items()}


class _Piece(NamedTuple):
    """Some rows of a waiting request."""

    waiting: _Waiting
    rows: Array | slice
    size: int


class StageBatch:
    """Samples of any flows that run together through the models of a stage."""

    def __init__(self, stage: int, models: tuple[str, ...], pieces: Sequence[_Piece]) -> None:
        self.stage, self.models, self._pieces = stage, models, tuple(pieces)

    def __len__(self) -> int:
        return sum(piece.size for piece in self._pieces)

    @property
    def flows(self) -> list[tuple[int, Array]]:
        """The first number of each flow, and its rows that are in the batch, in their order."""
        return [(each.first, each.request.rows[rows]) for each, rows, _ in self._pieces]

    @property
    def numbers(self) -> Array:
        """The numbers of its samples, shape (N,)."""
        return np.concatenate([first + rows for first, rows in self.flows])

    def inputs(self, recipe: Recipe) -> ModelInputs:
        """Return the inputs of its samples, one after the other."""
        return joined_inputs([each.batch.inputs(recipe)[rows] for each, rows, _ in self._pieces])

    def inputs_of(self, some: Array, recipe: Recipe) -> ModelInputs:
        """Return the inputs of some of its samples; others that cannot be prepared do not matter.

        Args:
            some: Their places in this batch, rising.
            recipe: How they are prepared.
        """
        if len(some) == len(self):
            return self.inputs(recipe)
        parts, start = [], 0
        for each, rows, count in self._pieces:
            own = some[(some >= start) & (some < start + count)] - start
            start += count
            if len(own):
                kept = np.arange(len(each.batch))[rows][own]
                parts.append(each.batch.only(kept, [recipe]).inputs(recipe))
        return joined_inputs(parts)


@dataclass(frozen=True, eq=False)
class Exits:
    """What the answers to a request decided.

    Args:
        first: Number of the flow's first sample.
        stage: The stage.
        reached: Rows of the flow that reached the stage, rising.
        stayed: Those of them that wait at the next stage.
        decisions: Decisions on the samples of the flow so far; None if none exited yet.
        ended: True if no sample of the flow waits any more.
        failed: Why samples failed, by row of the flow; their decisions mean nothing.
    """

    first: int
    stage: int
    reached: Array
    stayed: Array
    decisions: Decisions | None
    ended: bool
    failed: Mapping[int, str] = field(default_factory=dict)

    @property
    def rows(self) -> Array:
        """Rows of the flow that exited now, rising; their decisions are final."""
        if self.decisions is None:
            return self.reached[:0]
        exited = np.ones(len(self.reached), bool)
        exited[np.searchsorted(self.reached, self.stayed)] = False
        return self.reached[exited]


class Turn(NamedTuple):
    """A flow that has all answers to its request: it decides on them, and then is settled.

    Deciding calls a confidence, which may be anybody's code, and touches no queue.

    Args:
        stage: The stage of the request.
        flows: The first number of the flow, and the rows of the request, as of a batch.
        decide: Lets the flow decide; called once, before ``settle``.
        settle: Lets samples that stay wait at the next stage, and returns what was decided.
    """

    stage: int
    flows: Sequence[tuple[int, Array]]
    decide: Callable[[], None]
    settle: Callable[[], Exits]

    def taken(self) -> Exits:
        """Decide and settle at once."""
        self.decide()
        return self.settle()


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
        self._recipes = {name: spec.preprocessing for name, spec in specs.items()}
        self._later = recipes_from(cascade, specs)
        self._queues: list[deque[_Waiting]] = [deque() for _ in cascade.stages]
        self._flows: dict[int, _Waiting] = {}
        self._waiting = [0] * len(cascade.stages)
        # How many samples reached each stage; none goes beyond the last.
        self._reached = np.zeros(len(cascade.stages) + 1, np.int64)

    @property
    def exits(self) -> Array:
        """How many samples have exited at each stage."""
        waiting = [sum(len(each.batch) for each in queue) for queue in self._queues]
        return self._reached[:-1] - self._reached[1:] - waiting

    def add(self, batch: SampleBatch, rule: Rule | None = None, keep_values: bool = False) -> int:
        """Put samples, at least one, into the first queue; return the number of the first.

        Args:
            batch: They become one flow.
            rule: The cascade with fewer stages, if they may not go through all.
            keep_values: Return the combinations at the exits too.
        """
        first = int(self._reached[0])
        scoring = ScoringInParts() if self._go_on else None
        flow = decide(
            rule or self._cascade,
            len(batch),
            keep_values=keep_values,
            scoring=scoring or combine_and_score,
        )
        self._wait(_Waiting(first, flow, next(flow), batch, scoring))
        return first

    def waiting(self, stage: int) -> int:
        """Return how many samples wait at a stage."""
        return self._waiting[stage]

    def next_flow(self, stage: int) -> int | None:
        """Return the first number of the flow that has waited longest at a stage, if any."""
        queue = self._queues[stage]
        return queue[0].first if queue else None

    def take(self, stage: int, most: int) -> StageBatch:
        """Take the samples that have waited longest at a stage."""
        pieces: list[_Piece] = []
        queue, before = self._queues[stage], most
        while most and queue:
            each = queue[0]
            some, each.todo = each.todo[:most], each.todo[most:]
            pieces.append(_Piece(each, _span(some), len(some)))
            each.running += 1
            most -= len(some)
            if not len(each.todo):
                queue.popleft()
        self._waiting[stage] -= before - most
        return StageBatch(stage, self._cascade.stages[stage].models, pieces)

    def give(self, batch: StageBatch, outputs: Answers) -> Iterator[Turn]:
        """Yield the turns of flows that now have all their answers.

        Args:
            batch: What :meth:`take` returned.
            outputs: By model, a row a sample; none if all its samples were dropped.
        """
        start = 0
        for each, rows, count in batch._pieces:
            some = slice(start, start + count)
            start += count
            if outputs:
                own = {name: values.rows(some) for name, values in outputs.items()}
                each.answers.append((rows, own))
            each.running -= 1
            yield from self._turn(each)

    def drop(self, first: int, rows: Collection[int]) -> Iterator[Turn]:
        """Let samples of a flow run no further stage.

        Args:
            first: Number of the flow's first sample; nothing happens if it has ended.
            rows: The samples, as rows of the flow.

        Yields:
            The turn of the flow, if it waited for these samples alone.
        """
        each = self._flows.get(first)
        if each is None:
            return
        each.dropped.update(rows)
        kept = each.undropped(each.todo)
        if len(kept) < len(each.todo):
            self._waiting[each.request.stage] -= len(each.todo) - len(kept)
            each.todo = kept
            if not len(kept):
                self._queues[each.request.stage].remove(each)
                yield from self._turn(each)

    def _wait(self, each: _Waiting) -> None:
        stage = each.request.stage
        self._flows[each.first] = each
        self._queues[stage].append(each)
        self._waiting[stage] += len(each.todo)
        self._reached[stage] += len(each.batch)

    def _turn(self, each: _Waiting) -> Iterator[Turn]:
        """Yield the turn of a flow if all answers to its request are there."""
        if not each.running and not len(each.todo):
            flows = [(each.first, each.request.rows)]
            yield Turn(each.request.stage, flows, each.decide, partial(self._settle, each))

    def _settle(self, each: _Waiting) -> Exits:
        """Go on with a flow that has decided."""
        del self._flows[each.first]
        (stage, _, rows, _), made = each.request, each.made
        if isinstance(made, Request):
            ended = not self._follow(each, made)
            return Exits(each.first, stage, rows, made.rows, made.made, ended, each.failed)
        each.flow.close()
        return Exits(each.first, stage, rows, rows[:0], made, True, each.failed)

    def _follow(self, each: _Waiting, request: Request) -> bool:
        """Let the samples that stay wait at the next stage; return True if there are any."""
        # Rows of both rise, and those of the next request are some of these.
        stay = np.searchsorted(each.request.rows, request.rows)
        batch = each.batch.only(stay, self._later[request.stage])
        following = _Waiting(each.first, each.flow, request, batch, each.scoring, each.dropped)
        if not len(following.todo):
            each.flow.close()
            return False
        if self._executor is not None:
            for name in request.models:
                batch.begin(self._recipes[name], self._executor)
        self._wait(following)
        return True


def _span(rows: Array) -> Array | slice:
    """Return rising rows as a slice if none is left out: it copies nothing."""
    first, end = rows.item(0), rows.item(-1) + 1
    return slice(first, end) if end - first == len(rows) else rows


def recipes_from(cascade: Cascade, specs: Mapping[str, ModelSpec]) -> tuple[frozenset[Recipe], ...]:
    """Return the preprocessings that each stage or a later one needs."""
    each = [
        frozenset(specs[name].preprocessing for name in stage.models) for stage in cascade.stages
    ]
    return tuple(frozenset().union(*each[index:]) for index in range(len(each)))
