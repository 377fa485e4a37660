"""Gathering: many flows at once, whose requests to a stage run together in full batches.

Every batch of images is a flow of its own. Samples that stay wait at the next stage until enough
of them, from any flow, fill a batch there. So late stages run on full batches too, and few images
are in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

import numpy as np

from committee.arrays import Array
from committee.models.inputs import ModelInputs, joined_inputs
from committee.predict import joined
from committee.rule.cascade import Cascade
from committee.rule.flow import Decisions, Flow, Request, decide, joined_decisions
from committee.rule.outputs import Outputs
from committee.run.batch import SampleBatch
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing

# From a model's name and a batch to its outputs, and the rows in which it gave NaN.
Run = Callable[[str, ModelInputs], tuple[Outputs, Array]]


@dataclass(frozen=True, eq=False)
class Gathered:
    """Decisions for N samples, and failures.

    Args:
        decisions: One for each sample; they mean nothing for samples that failed.
        failed: Why a sample could not be decided, by row.
    """

    decisions: Decisions
    failed: Mapping[int, str]


@dataclass(eq=False)
class _Waiting:
    """A request that waits for its answers.

    Args:
        first: Number of its flow's first sample.
        flow: The flow that made it.
        request: The request.
        batch: The images of its rows.
        taken: How many of the rows were run.
        parts: Outputs of the rows that were run, by model.
    """

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
        """Take a batch of images, and run every batch that is full.

        Raises:
            ModelError, ShapeError: If a model fails; NaN is no such failure.
        """

    def finish(self) -> Gathered:
        """Run what waits, in batches that are not full, and start anew.

        Returns:
            The decisions for the samples since the last call, in the order in which they came.

        Raises:
            ModelError, ShapeError: If a model fails; NaN is no such failure.
        """


class Gathering:
    """Decides with models that are loaded one by one; see :class:`Gatherer`.

    Args:
        cascade: The rule.
        specs: Its models, by name.
        run: Runs one of them.
        batch_size: Samples a forward pass.
        executor: Prepares the samples that stay while the models run; without one, the thread
            that adds samples does.
    """

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
            outputs, wrong = self._run(name, joined_inputs(pieces))
            self._hand_out(name, outputs, wrong, taken)
        for each, rows in taken:
            each.taken = rows.stop
            if not each.left:
                self._waiting[stage].popleft()
                self._answer(each)

    def _hand_out(
        self, name: str, outputs: Outputs, wrong: Array, taken: list[tuple[_Waiting, slice]]
    ) -> None:
        start = 0
        for each, rows in taken:
            end = start + rows.stop - rows.start
            each.parts.setdefault(name, []).append(outputs.rows(slice(start, end)))
            for row in wrong[(wrong >= start) & (wrong < end)].tolist() if len(wrong) else ():
                sample = each.first + int(each.request.rows[rows.start + row - start])
                # The first model that fails is the one to look at.
                self._failed.setdefault(sample, f"model {name!r}: NaN or infinite outputs")
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


def joined_gathered(parts: Sequence[Gathered]) -> Gathered:
    """Return the results for consecutive samples as one."""
    starts = accumulate((len(part.decisions.stage) for part in parts), initial=0)
    failed = {
        start + row: reason
        for start, part in zip(starts, parts, strict=False)
        for row, reason in part.failed.items()
    }
    return Gathered(joined_decisions([part.decisions for part in parts]), failed)


def recipes_from(
    cascade: Cascade, specs: Mapping[str, ModelSpec]
) -> tuple[frozenset[Preprocessing], ...]:
    """Return the preprocessings that each stage or a later one needs."""
    each = [
        frozenset(specs[name].preprocessing for name in stage.models) for stage in cascade.stages
    ]
    return tuple(frozenset().union(*each[index:]) for index in range(len(each)))
