"""Gathering: many flows at once, whose requests to a stage run together in full batches.

Every batch of images is a flow of its own. Samples that stay wait at the next stage until enough
of them, from any flow, fill a batch there. So late stages run on full batches too, and few images
are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from committee.arrays import Array
from committee.errors import NotFiniteError
from committee.models.inputs import ModelInputs
from committee.rule.cascade import Cascade
from committee.rule.flow import Decisions, joined_decisions
from committee.rule.outputs import Outputs
from committee.run.sample_batch import SampleBatch
from committee.run.stage_queues import StageBatch, StageQueues
from committee.spec.model import ModelSpec

# From a model's name and a batch to its outputs, and why rows failed that did.
Run = Callable[[str, ModelInputs], tuple[Outputs, Mapping[int, str]]]


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
        self._recipes = {name: spec.preprocessing for name, spec in specs.items()}
        self._new_queues = partial(StageQueues, cascade, specs, executor)
        self._begin()

    def _begin(self) -> None:
        self._queues = self._new_queues()
        self._decided: dict[int, Decisions] = {}
        self._failed: dict[int, str] = {}

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
        parts = [self._decided[first] for first in sorted(self._decided)]
        gathered = Gathered(joined_decisions(parts), self._failed)
        self._begin()
        return gathered

    def _run_batches(self, least: int) -> None:
        """Run batches of each stage in order, while at least so many samples wait at it."""
        for stage in range(len(self._cascade.stages)):
            while self._queues.waiting(stage) >= least:
                self._run_batch(self._queues.take(stage, self._batch_size))

    def _run_batch(self, batch: StageBatch) -> None:
        outputs = {}
        for name in batch.models:
            outputs[name], wrong = self._run(name, batch.inputs(self._recipes[name]))
            for row, reason in wrong.items():
                # The first model that fails is the one to look at.
                self._failed.setdefault(int(batch.numbers[row]), reason)
        for exits in self._queues.give(batch, outputs):
            if exits.error is not None:
                raise exits.error
            if exits.ended and exits.decisions is not None:
                self._decided[exits.first] = exits.decisions
