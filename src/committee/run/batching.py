"""Gathering: many flows at once, whose requests to a stage run together in full batches.

Every batch of images is a flow of its own. Samples that stay wait at the next stage until enough
of them, from any flow, fill a batch there. So late stages run on full batches too, and few images
are in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from committee.arrays import Array
from committee.errors import NotFiniteError
from committee.models.inputs import ModelInputs, RawSamples, ViewedClips, inputs_of
from committee.models.records import RecordBatch
from committee.predict import joined
from committee.rule.cascade import Cascade
from committee.rule.flow import Decisions, Flow, Request, decide, joined_decisions
from committee.rule.outputs import Outputs
from committee.spec.model import ModelSpec
from committee.spec.recipe import Recipe

# From a model's name and a batch to its outputs, and why rows failed that did.
Run = Callable[[str, ModelInputs], tuple[Outputs, Mapping[int, str]]]


class SampleBatch:
    """N samples, prepared once for each preprocessing that a stage needs.

    Args:
        count: N.
        images: N images that a preprocessing can be applied to, by preprocessing.
        inputs: What is prepared already, by preprocessing; see
            :func:`committee.models.inputs.inputs_of`.
    """

    def __init__(
        self,
        count: int,
        images: Mapping[Recipe, RawSamples],
        inputs: Mapping[Recipe, ModelInputs] | None = None,
    ) -> None:
        self._count = count
        self._images = images
        self._inputs = dict(inputs or {})
        self._begun: dict[Recipe, Future[ModelInputs]] = {}

    def __len__(self) -> int:
        return self._count

    def begin(self, recipe: Recipe, executor: Executor) -> None:
        """Prepare in another thread what will be needed soon."""
        if recipe not in self._inputs and recipe not in self._begun:
            self._begun[recipe] = executor.submit(inputs_of, self._images[recipe], recipe)

    def inputs(self, recipe: Recipe) -> ModelInputs:
        """Return what a model runs on: for images (N, channels, height, width), float32."""
        if recipe not in self._inputs:
            begun = self._begun.pop(recipe, None)
            self._inputs[recipe] = (
                inputs_of(self._images[recipe], recipe) if begun is None else begun.result()
            )
        return self._inputs[recipe]

    def raw(self, recipe: Recipe) -> RawSamples:
        """Return samples that a recipe can be applied to, as the data set gave them."""
        return self._images[recipe]

    def only(self, rows: Array, recipes: Collection[Recipe]) -> SampleBatch:
        """Return some of the images, for some preprocessings, without the rest."""
        inputs = {recipe: self._inputs[recipe] for recipe in recipes if recipe in self._inputs}
        images = {
            recipe: self._images[recipe]
            for recipe in recipes
            if recipe in self._images and recipe not in inputs
        }
        if len(rows) == self._count:
            return SampleBatch(self._count, images, inputs)
        return SampleBatch(
            len(rows),
            {recipe: _taken(some, rows) for recipe, some in images.items()},
            {recipe: values[rows] for recipe, values in inputs.items()},
        )


def _taken(images: RawSamples, rows: Array) -> RawSamples:
    if isinstance(images, np.ndarray):
        return images[rows]
    return [images[row] for row in rows]


@dataclass(frozen=True, eq=False)
class Gathered:
    """Decisions for N samples, and by row why some failed, whose decisions mean nothing."""

    decisions: Decisions
    failed: Mapping[int, str]

    def sound(self, first: int) -> Decisions:
        """Return the decisions; ``first`` is the number of the first sample."""
        for row, reason in sorted(self.failed.items())[:1]:
            raise NotFiniteError(
                f"{reason}, first at sample {first + row} (counted from 0). Fix or remove it"
            )
        return self.decisions


@dataclass(eq=False)
class _Waiting:
    """A request that waits for its answers, with the outputs of the rows that ran, by model."""

    first: int
    flow: Flow
    request: Request
    batch: SampleBatch
    taken: int = 0
    parts: dict[str, list[Outputs]] = field(default_factory=dict)

    @property
    def left(self) -> int:
        return len(self.batch) - self.taken


class Gatherer(Protocol):
    """Decides on batches of images as they come."""

    @property
    def exits(self) -> Array:
        """How many samples have exited at each stage since the last :meth:`finish`."""

    def add(self, batch: SampleBatch) -> None:
        """Take a batch of images, and run every batch that is full; NaN is no failure."""

    def finish(self) -> Gathered:
        """Run what waits; return the decisions since the last call, in order, and start anew."""


class Gathering:
    """Decides with models that are loaded one by one; see :class:`Gatherer`."""

    def __init__(
        self,
        cascade: Cascade,
        specs: Mapping[str, ModelSpec],
        run: Run,
        batch_size: int,
        executor: Executor | None = None,
    ) -> None:
        self._cascade, self._run, self._batch_size = cascade, run, batch_size
        self._executor = executor
        self._recipes = {name: spec.preprocessing for name, spec in specs.items()}
        self._later = recipes_from(cascade, specs)
        self._waiting: list[deque[_Waiting]] = [deque() for _ in cascade.stages]
        # How many samples reached each stage; none goes beyond the last.
        self._reached = np.zeros(len(cascade.stages) + 1, np.int64)
        self._decided: dict[int, Decisions] = {}
        self._failed: dict[int, str] = {}

    @property
    def exits(self) -> Array:
        """See :class:`Gatherer`."""
        waiting = [sum(len(each.batch) for each in stage) for stage in self._waiting]
        return self._reached[:-1] - self._reached[1:] - waiting

    def add(self, batch: SampleBatch) -> None:
        """See :class:`Gatherer`."""
        if not len(batch):
            return
        flow = decide(self._cascade, len(batch))
        self._waiting[0].append(_Waiting(int(self._reached[0]), flow, next(flow), batch))
        self._reached[0] += len(batch)
        for stage in range(len(self._waiting)):
            while self._left(stage) >= self._batch_size:
                self._step(stage)

    def finish(self) -> Gathered:
        """See :class:`Gatherer`."""
        for stage in range(len(self._waiting)):
            while self._left(stage):
                self._step(stage)
        parts = [self._decided[first] for first in sorted(self._decided)]
        gathered = Gathered(joined_decisions(parts), self._failed)
        self._reached[:], self._decided, self._failed = 0, {}, {}
        return gathered

    def _left(self, stage: int) -> int:
        return sum(each.left for each in self._waiting[stage])

    def _step(self, stage: int) -> None:
        """Run one batch of a stage, and answer the requests that it completes."""
        taken: list[tuple[_Waiting, slice]] = []
        room = self._batch_size
        for each in self._waiting[stage]:
            if not room:
                break
            count = min(room, each.left)
            taken.append((each, slice(each.taken, each.taken + count)))
            room -= count
        for name in self._cascade.stages[stage].models:
            recipe = self._recipes[name]
            pieces = [each.batch.inputs(recipe)[rows] for each, rows in taken]
            outputs, wrong = self._run(name, _joined_inputs(pieces))
            self._hand_out(name, outputs, wrong, taken)
        for each, rows in taken:
            each.taken = rows.stop
            if not each.left:
                self._waiting[stage].popleft()
                self._answer(each)

    def _hand_out(
        self,
        name: str,
        outputs: Outputs,
        wrong: Mapping[int, str],
        taken: list[tuple[_Waiting, slice]],
    ) -> None:
        start = 0
        for each, rows in taken:
            end = start + rows.stop - rows.start
            each.parts.setdefault(name, []).append(outputs.rows(slice(start, end)))
            for row, reason in wrong.items():
                if start <= row < end:
                    sample = each.first + int(each.request.rows[rows.start + row - start])
                    # The first model that fails is the one to look at.
                    self._failed.setdefault(sample, reason)
            start = end

    def _answer(self, each: _Waiting) -> None:
        answers = {name: joined(parts) for name, parts in each.parts.items()}
        try:
            request = each.flow.send(answers)
        except StopIteration as end:
            self._decided[each.first] = end.value
            return
        # Rows of both rise, and those of the next request are some of these.
        stay = np.searchsorted(each.request.rows, request.rows)
        batch = each.batch.only(stay, self._later[request.stage])
        if self._executor is not None:
            for name in request.models:
                batch.begin(self._recipes[name], self._executor)
        self._waiting[request.stage].append(_Waiting(each.first, each.flow, request, batch))
        self._reached[request.stage] += len(batch)


def recipes_from(cascade: Cascade, specs: Mapping[str, ModelSpec]) -> tuple[frozenset[Recipe], ...]:
    """Return the preprocessings that each stage or a later one needs."""
    each = [
        frozenset(specs[name].preprocessing for name in stage.models) for stage in cascade.stages
    ]
    return tuple(frozenset().union(*each[index:]) for index in range(len(each)))


def _joined_inputs(pieces: Sequence[ModelInputs]) -> ModelInputs:
    """Return inputs of one model, one after the other."""
    if len(pieces) == 1:
        return pieces[0]
    clips = [piece for piece in pieces if isinstance(piece, ViewedClips)]
    if clips:
        return clips[0].joined(clips[1:])
    records = [piece for piece in pieces if isinstance(piece, RecordBatch)]
    if records:
        return records[0].joined(records[1:])
    return np.concatenate([piece for piece in pieces if isinstance(piece, np.ndarray)])
