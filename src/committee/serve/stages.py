"""The stages of a cascade as the server runs them: by models, or as one ONNX file.

Both let samples wait, leave in batches and exit. A sample that fails does so alone; see
:mod:`committee.models.failures`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from committee.arrays import Array
from committee.models.inputs import RawSamples
from committee.rule.cascade import ALWAYS, Cascade, Stage
from committee.rule.scores import BUILT_IN, CONFIDENCES
from committee.run.batching import Gathered, run_stage
from committee.run.deciding import Decider
from committee.run.decision import Decision
from committee.run.runner import Runner
from committee.run.sample_batch import SampleBatch
from committee.run.stage_queues import Exits, StageBatch, StageQueues, Verdict


class Options(NamedTuple):
    """What the samples of a request have in common.

    Args:
        max_stage: The last stage that may run; None for all.
        values: Whether the combination at the exit is wanted.
    """

    max_stage: int | None = None
    values: bool = False


class Batch(Protocol):
    """Samples that run together."""

    @property
    def stage(self) -> int:
        """The queue that they were taken from."""

    @property
    def numbers(self) -> Array:
        """The numbers of its samples."""

    @property
    def since(self) -> float:
        """When its samples came to the queue, on average."""

    def __len__(self) -> int: ...


class Stages(Protocol):
    """Queues of samples, and what runs a batch of them.

    All need a lock but :meth:`run` and :meth:`decide_alone`, which call models and the confidence.
    """

    @property
    def queues(self) -> int:
        """How many queues there are."""

    def models(self, queue: int) -> str:
        """Return what runs a queue's batches, for spans."""

    def code(self, queue: int) -> str:
        """Return what runs and scores a queue's batches, as far as a user chose it, for errors."""

    def add(self, samples: RawSamples, options: Options, since: float) -> int:
        """Let samples wait in the first queue; number them on, and return the first number."""

    def waiting(self, queue: int) -> int:
        """Return how many samples wait in a queue."""

    def since(self, queue: int) -> float | None:
        """Return when the sample came that has waited longest in a queue, if any waits."""

    def take(self, queue: int, most: int) -> Any:
        """Take the samples that have waited longest in a queue, as a :class:`Batch`."""

    def run(self, batch: Any) -> Any:
        """Run a batch and decide; return what :meth:`give` takes."""

    def give(self, batch: Any, decided: Any, now: float) -> Sequence[Exits]:
        """Let samples of a batch wait in the next queue; return those that leave."""

    def drop(self, numbers: Collection[int]) -> None:
        """Let samples run no further stage."""

    def decide_alone(self, sample: Any, begin: Callable[[int], None]) -> Decision:
        """Return the decision on a sample that is in no queue; ``begin`` may raise.

        Args:
            sample: The sample.
            begin: Called with the stage of each model before it runs.
        """


def stages_of(runner: Runner) -> Stages:
    """Return the stages of a loaded cascade."""
    return ModelStages(runner) if runner.graph is None else GraphStages(runner)


class ModelStages:
    """The stages of a cascade whose models are loaded one by one; see :class:`Stages`."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._queues = StageQueues(runner.cascade, runner.specs, go_on=True)
        self._recipes = {name: spec.preprocessing for name, spec in runner.specs.items()}
        stages = enumerate(runner.cascade.stages)
        self._stages = {name: index for index, stage in stages for name in stage.models}
        self._deciders: dict[Options, Decider] = {}
        self.waiting, self.since = self._queues.waiting, self._queues.since
        self.take, self.give, self.drop = self._queues.take, self._queues.give, self._queues.drop

    @property
    def queues(self) -> int:
        """See :class:`Stages`."""
        return len(self._runner.cascade.stages)

    def models(self, queue: int) -> str:
        """See :class:`Stages`."""
        return "+".join(self._runner.cascade.stages[queue].models)

    def code(self, queue: int) -> str:
        """See :class:`Stages`."""
        name = self._runner.cascade.confidence
        own = CONFIDENCES.get(name) is not BUILT_IN.get(name)
        return f"model {self.models(queue)}" + (f" or confidence {name!r}" if own else "")

    def add(self, samples: RawSamples, options: Options, since: float) -> int:
        """See :class:`Stages`."""
        batch = SampleBatch(len(samples), dict.fromkeys(self._recipes.values(), samples))
        if options not in self._deciders:
            cascade, last = self._runner.cascade, options.max_stage
            rule = cascade if last is None or last >= self.queues else limited(cascade, last)
            self._deciders[options] = Decider(rule, options.values)
        return self._queues.add(batch, self._deciders[options], since)

    def decide_alone(self, sample: Any, begin: Callable[[int], None]) -> Decision:
        """See :class:`Stages`."""
        return self._runner.decide_one(sample, lambda name: begin(self._stages[name]))

    def run(self, batch: StageBatch) -> list[Verdict]:
        """See :class:`Stages`."""
        made = run_stage(batch, self._recipes, self._runner.usable_outputs)
        return self._queues.decide(batch, made.outputs, made.failed)


def limited(cascade: Cascade, last: int) -> Cascade:
    """Return the cascade whose samples exit at a stage at the latest."""
    stages = (*cascade.stages[:last], Stage(cascade.stages[last].models, ALWAYS))
    return replace(cascade, stages=stages, certificate=None)


@dataclass(frozen=True, eq=False)
class _GraphBatch:
    """Samples that run together through a graph."""

    numbers: Array
    since: float
    samples: SampleBatch
    stage: int = 0

    def __len__(self) -> int:
        return len(self.samples)


class GraphStages:
    """A cascade that is one ONNX file: one queue, and samples exit where the graph says."""

    queues = 1

    def __init__(self, runner: Runner) -> None:
        assert runner.graph is not None
        self._runner, self._graph = runner, runner.graph
        self._recipes = [*runner.recipes[1]]
        self._waiting: list[tuple[int, RawSamples, float]] = []
        self._next = 0

    def models(self, queue: int) -> str:
        """See :class:`Stages`."""
        return "the ONNX file"

    code = models

    def add(self, samples: RawSamples, options: Options, since: float) -> int:
        """See :class:`Stages`."""
        first, self._next = self._next, self._next + len(samples)
        self._waiting.append((first, samples, since))
        return first

    def waiting(self, queue: int) -> int:
        """See :class:`Stages`."""
        return sum(len(samples) for _, samples, _ in self._waiting)

    def since(self, queue: int) -> float | None:
        """See :class:`Stages`."""
        return self._waiting[0][2] if self._waiting else None

    def take(self, queue: int, most: int) -> _GraphBatch:
        """Take all; see :class:`Stages`."""
        taken, self._waiting = self._waiting, []
        samples = joined_samples([some for _, some, _ in taken])
        numbers = np.arange(taken[0][0], self._next)
        since = sum(len(some) * moment for _, some, moment in taken) / len(numbers)
        batch = SampleBatch(len(numbers), dict.fromkeys(self._recipes, samples))
        return _GraphBatch(numbers, since, batch)

    def run(self, batch: _GraphBatch) -> Gathered:
        """See :class:`Stages`."""
        return self._graph.gathered_in_parts(batch.samples, len(batch), keep_values=True)

    def give(self, batch: _GraphBatch, decided: Gathered, now: float) -> Sequence[Exits]:
        """See :class:`Stages`; those that failed stand among the numbers too."""
        numbers = batch.numbers
        failed = {numbers.item(row): reason for row, reason in decided.failed.items()}
        return [Exits(0, numbers, numbers, decided.decisions, failed)]

    def drop(self, numbers: Collection[int]) -> None:
        """Do nothing: what waits is taken at once, and no further stage follows."""

    def decide_alone(self, sample: Any, begin: Callable[[int], None]) -> Decision:
        """See :class:`Stages`."""
        begin(0)
        return self._runner(sample)


def joined_samples(parts: Sequence[RawSamples]) -> RawSamples:
    """Return the samples of several requests as one array where all are arrays of the same form."""
    if len(parts) == 1:
        return parts[0]
    arrays = [each for each in parts if isinstance(each, np.ndarray)]
    if len(arrays) < len(parts) or len({(each.shape[1:], each.dtype) for each in arrays}) > 1:
        return [each for part in parts for each in part]
    return np.concatenate(arrays)
