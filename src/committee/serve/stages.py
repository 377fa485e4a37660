"""The stages of a cascade as the server runs them: by models, or as one ONNX file.

Both let samples wait, leave in batches and exit. A sample that fails does so alone; see
:mod:`committee.models.failures`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from committee.arrays import Array
from committee.models.inputs import RawSamples
from committee.rule.cascade import ALWAYS, Cascade, Stage
from committee.rule.outputs import Outputs
from committee.rule.scores import BUILT_IN, CONFIDENCES
from committee.run.batching import Gathered, run_stage
from committee.run.decision import Decision
from committee.run.runner import Runner
from committee.run.sample_batch import SampleBatch
from committee.run.stage_queues import Exits, StageBatch, StageQueues, Turn

# Why samples of a batch failed, by their places in it.
Failed = Mapping[int, str]


class Options(NamedTuple):
    """What samples of one flow have in common.

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
    def flows(self) -> Sequence[tuple[int, Array]]:
        """The first number of each flow, and its rows that are in the batch, in their order."""

    def __len__(self) -> int: ...


class Stages(Protocol):
    """Queues of samples, and what runs a batch of them.

    All need a lock but what calls models or the confidence, which may be anybody's code:
    :meth:`run`, :meth:`decide_alone` and ``Turn.decide``.
    """

    @property
    def queues(self) -> int:
        """How many queues there are."""

    @property
    def scored(self) -> bool:
        """Whether a function of a user scores samples; it may take any time."""

    def models(self, queue: int) -> str:
        """Return what runs a queue's batches, for spans."""

    def code(self, queue: int) -> str:
        """Return what runs and scores a queue's batches, as far as a user chose it, for errors."""

    def add(self, samples: RawSamples, options: Options) -> int:
        """Let samples wait in the first queue; return the number of the first."""

    def waiting(self, queue: int) -> int:
        """Return how many samples wait in a queue."""

    def next_flow(self, queue: int) -> int | None:
        """Return the first number of the flow that has waited longest in a queue, if any."""

    def take(self, queue: int, most: int) -> Any:
        """Take the samples that have waited longest in a queue, as a :class:`Batch`."""

    def run(self, batch: Any) -> tuple[Any, Failed]:
        """Run a batch; return what :meth:`give` takes, and which samples failed."""

    def give(self, batch: Any, answer: Any) -> Iterator[Turn]:
        """Yield the turns of flows that an answer lets decide."""

    def drop(self, first: int, rows: Collection[int]) -> Iterator[Turn]:
        """Let samples of a flow run no further stage; yield its turn if it waited for them."""

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
        name = runner.cascade.confidence
        self.scored = CONFIDENCES.get(name) is not BUILT_IN.get(name)
        self._rules = [limited(runner.cascade, stage) for stage in range(self.queues)]
        self.waiting, self.next_flow = self._queues.waiting, self._queues.next_flow
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
        return f"model {self.models(queue)}" + (f" or confidence {name!r}" if self.scored else "")

    def add(self, samples: RawSamples, options: Options) -> int:
        """See :class:`Stages`."""
        batch = SampleBatch(len(samples), dict.fromkeys(self._recipes.values(), samples))
        last = options.max_stage
        rule = None if last is None or last >= self.queues else self._rules[last]
        return self._queues.add(batch, rule, options.values)

    def decide_alone(self, sample: Any, begin: Callable[[int], None]) -> Decision:
        """See :class:`Stages`."""
        return self._runner.decide_one(sample, lambda name: begin(self._stages[name]))

    def run(self, batch: StageBatch) -> tuple[Mapping[str, Outputs], Failed]:
        """See :class:`Stages`."""
        made = run_stage(batch, self._recipes, self._runner.usable_outputs)
        return made.outputs, made.failed


def limited(cascade: Cascade, last: int) -> Cascade:
    """Return the cascade whose samples exit at a stage at the latest."""
    stages = (*cascade.stages[:last], Stage(cascade.stages[last].models, ALWAYS))
    return replace(cascade, stages=stages, certificate=None)


@dataclass(frozen=True, eq=False)
class _GraphBatch:
    """Samples that run together through a graph."""

    flows: Sequence[tuple[int, Array]]
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
        self._waiting: list[tuple[int, RawSamples]] = []
        self._next = 0

    def models(self, queue: int) -> str:
        """See :class:`Stages`."""
        return "the ONNX file"

    code = models
    scored = False

    def add(self, samples: RawSamples, options: Options) -> int:
        """See :class:`Stages`."""
        first, self._next = self._next, self._next + len(samples)
        self._waiting.append((first, samples))
        return first

    def waiting(self, queue: int) -> int:
        """See :class:`Stages`."""
        return sum(len(samples) for _, samples in self._waiting)

    def next_flow(self, queue: int) -> int | None:
        """See :class:`Stages`."""
        return self._waiting[0][0] if self._waiting else None

    def take(self, queue: int, most: int) -> _GraphBatch:
        """Take all; see :class:`Stages`."""
        taken, self._waiting = self._waiting, []
        samples = taken[0][1]
        if len(taken) > 1:
            samples = joined_samples([some for _, some in taken])
        flows = [(first, np.arange(len(some))) for first, some in taken]
        return _GraphBatch(flows, SampleBatch(len(samples), dict.fromkeys(self._recipes, samples)))

    def run(self, batch: _GraphBatch) -> tuple[Gathered | None, Failed]:
        """See :class:`Stages`."""
        gathered = self._graph.gathered_in_parts(batch.samples, len(batch), keep_values=True)
        return gathered, gathered.failed

    def give(self, batch: _GraphBatch, answer: Gathered | None) -> Iterator[Turn]:
        """See :class:`Stages`; the graph has decided."""
        start = 0
        for first, rows in batch.flows:
            end = start + len(rows)
            made = None if answer is None else answer.decisions.rows(slice(start, end))
            start = end
            yield _decided(Exits(first, 0, rows, rows[:0], made, True))

    def drop(self, first: int, rows: Collection[int]) -> Iterator[Turn]:
        """Do nothing: a sample that was taken is in its only batch."""
        yield from ()

    def decide_alone(self, sample: Any, begin: Callable[[int], None]) -> Decision:
        """See :class:`Stages`."""
        begin(0)
        return self._runner(sample)


def _decided(exits: Exits) -> Turn:
    """Return the turn of a flow that has decided."""
    return Turn(exits.stage, [(exits.first, exits.reached)], lambda: None, lambda: exits)


def joined_samples(parts: Sequence[RawSamples]) -> RawSamples:
    """Return the samples of several requests as one array where all are arrays of the same form."""
    if len(parts) == 1:
        return parts[0]
    arrays = [each for each in parts if isinstance(each, np.ndarray)]
    if len(arrays) < len(parts) or len({(each.shape[1:], each.dtype) for each in arrays}) > 1:
        return [each for part in parts for each in part]
    return np.concatenate(arrays)
