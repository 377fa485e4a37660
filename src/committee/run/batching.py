"""Gathering: samples that stay wait at the next stage until enough of them fill a batch there.

So late stages run on full batches too, and few images are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from committee.arrays import Array
from committee.errors import NotFiniteError
from committee.models.failures import Streak, run_in_parts
from committee.models.inputs import ModelInputs
from committee.rule.cascade import Cascade
from committee.rule.flow import Decisions, joined_decisions
from committee.rule.outputs import Outputs, joined
from committee.run.sample_batch import SampleBatch
from committee.run.stage_queues import Exits, StageBatch, StageQueues
from committee.spec.model import ModelSpec
from committee.spec.recipe import Recipe

KEPT = "Fix the model, or leave these samples out. A run that is repeated goes on from here"
# From a model's name and a batch to its outputs, and why rows failed that did.
Run = Callable[[str, ModelInputs], tuple[Outputs, Mapping[int, str]]]


@dataclass(frozen=True, eq=False)
class Gathered:
    """Decisions for N samples, and by row why some failed, whose decisions mean nothing.

    ``divided`` says of models whose batches were run in parts why they were, by name.
    """

    decisions: Decisions
    failed: Mapping[int, str]
    divided: Mapping[str, str] = field(default_factory=dict)

    def sound(self, first: int) -> Decisions:
        """Return the decisions; ``first`` is the number of the first sample."""
        for row, reason in sorted(self.failed.items())[:1]:
            raise NotFiniteError(
                f"{reason}, first at sample {first + row} (counted from 0). Fix or remove it"
            )
        return self.decisions


class Gatherer(Protocol):
    """Decides on batches of images as they come."""

    @property
    def exits(self) -> Array:
        """How many samples have exited at each stage since the last :meth:`finish`."""

    def add(self, batch: SampleBatch) -> None:
        """Take a batch of images, and run every batch that is full; NaN is no failure."""

    def finish(self) -> Gathered:
        """Run what waits; return the decisions since the last call, in order, and start anew."""


def undecided(count: int) -> Decisions:
    """Return what stands for samples that all failed."""
    none = np.zeros(count, np.int64)
    return Decisions(none, np.full(count, np.nan), none)


@dataclass
class StageOutputs:
    """What the models of a stage answered to a batch, perhaps in parts.

    Args:
        outputs: By model, any row where a sample failed; none if a model failed on all.
        failed: Why samples failed, by their places in the batch.
        divided: Why a model ran the batch in parts, by name.
    """

    outputs: dict[str, Outputs] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    divided: dict[str, str] = field(default_factory=dict)


class ModelBatch(Protocol):
    """Samples that run together through models."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models."""

    def __len__(self) -> int:
        """Return how many samples there are."""

    def inputs_of(self, some: Array, recipe: Recipe) -> ModelInputs:
        """Return the inputs of some of them, by their places, rising."""


def run_stage(
    batch: ModelBatch,
    recipes: Mapping[str, Recipe],
    run: Run,
    streaks: Mapping[str, Streak] | None = None,
) -> StageOutputs:
    """Run the models of a stage on a batch; a sample that fails does so alone.

    ``streaks`` count the failures of each model, if too many are to end the work.
    """
    made = StageOutputs()
    for name in batch.models:
        each = run_in_parts(
            len(batch),
            partial(_run_some, name, batch, recipes[name], run),
            joined,
            (streaks or {}).get(name),
        )
        # The first model that fails is the one to look at.
        made.failed = {**each.failed, **made.failed}
        if each.divided:
            made.divided[name] = each.divided
        if each.answer is None:
            made.outputs.clear()
            break
        made.outputs[name] = each.answer
    return made


def _run_some(
    name: str, batch: ModelBatch, recipe: Recipe, run: Run, rows: Array
) -> tuple[Outputs, Mapping[int, str]]:
    return run(name, batch.inputs_of(rows, recipe))


class Gathering:
    """Decides with models that are loaded one by one; see :class:`Gatherer`.

    Args:
        cascade: The rule.
        specs: Its models, by name.
        run: Runs a model.
        batch_size: Samples that run together.
        executor: Prepares samples for later stages.
        go_on: Whether a sample on which a model or the confidence fails does not end the work,
            until one fails on sixteen in a row.
    """

    def __init__(
        self,
        cascade: Cascade,
        specs: Mapping[str, ModelSpec],
        run: Run,
        batch_size: int,
        executor: Executor | None = None,
        go_on: bool = False,
    ) -> None:
        self._cascade, self._run, self._batch_size = cascade, run, batch_size
        self._recipes = {name: spec.preprocessing for name, spec in specs.items()}
        self._streaks = {name: Streak() for name in specs} if go_on else {}
        self._scores = Streak()
        self._new_queues = partial(StageQueues, cascade, specs, executor, go_on)
        self._begin()

    def _begin(self) -> None:
        self._queues = self._new_queues()
        self._exits: list[Exits] = []
        self._failed: dict[int, str] = {}
        self._divided: dict[str, str] = {}

    @property
    def exits(self) -> Array:
        """See :class:`Gatherer`."""
        return self._queues.exits

    def add(self, batch: SampleBatch) -> None:
        """See :class:`Gatherer`."""
        if len(batch):
            self._queues.add(batch)
            self._run_batches(self._batch_size)

    def finish(self) -> Gathered:
        """See :class:`Gatherer`."""
        self._run_batches(1)
        parts = [each.decisions for each in self._exits if each.decisions is not None]
        if self._failed:
            parts.append(undecided(len(self._failed)))
        numbers = [each.numbers for each in self._exits] + [np.array([*self._failed], np.int64)]
        order = np.argsort(np.concatenate(numbers))
        gathered = Gathered(joined_decisions(parts).rows(order), self._failed, self._divided)
        self._begin()
        return gathered

    def _run_batches(self, least: int) -> None:
        """Run batches of each stage in order, while at least so many samples wait at it."""
        for stage in range(len(self._cascade.stages)):
            while self._queues.waiting(stage) >= least:
                self._run_batch(self._queues.take(stage, self._batch_size))

    def _run_batch(self, batch: StageBatch) -> None:
        made = self._outputs(batch)
        verdicts = self._queues.decide(batch, made.outputs, made.failed)
        for exits in self._queues.give(batch, verdicts):
            self._count(exits)
            self._failed.update(exits.failed)
            self._exits.append(exits)

    def _count(self, exits: Exits) -> None:
        """End the work if too many samples in a row could not be scored."""
        for number in exits.scored.tolist() if exits.failed else [-1]:
            if self._scores.adds(exits.failed.get(number, "")):
                raise self._scores.error(f"confidence {self._cascade.confidence!r}", KEPT)

    def _outputs(self, batch: StageBatch) -> StageOutputs:
        if self._streaks:
            made = run_stage(batch, self._recipes, self._run, self._streaks)
            self._divided = {**made.divided, **self._divided}
            for name in batch.models:
                if self._streaks[name].over:
                    raise self._streaks[name].error(f"model {name!r}", KEPT)
            return made
        made = StageOutputs()
        for name in batch.models:
            made.outputs[name], wrong = self._run(name, batch.inputs(self._recipes[name]))
            made.failed = {**wrong, **made.failed}
        return made
