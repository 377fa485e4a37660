"""A cascade with its models loaded that decides on images one by one or many at a time."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from committee.compiled import native
from committee.errors import CascadeError, NotFiniteError
from committee.export.graph import INSIDE
from committee.models.inputs import (
    ArrayClip,
    Clip,
    ImageLike,
    ModelInputs,
    RawSamples,
    inputs_of,
)
from committee.models.load import source_of, specs_of
from committee.models.records import check_whole
from committee.pool.costs import costs_of_stages
from committee.rule.cascade import Cascade
from committee.rule.flow import Answers, Decisions, Request, decide, drive, exits, joined_decisions
from committee.rule.outputs import Outputs
from committee.run.batching import Gatherer, Gathering
from committee.run.decision import Decision, class_name, unit_of
from committee.run.functions import Function, FunctionRunner
from committee.run.loading import Models
from committee.run.open import CascadeGraph, CascadeLike, GraphGathering, open_cascade
from committee.run.sample_batch import SampleBatch
from committee.run.stage_queues import recipes_from
from committee.spec.model import ModelSpec, task_of
from committee.spec.preprocessing import Preprocessing
from committee.spec.recipe import Recipe
from committee.spec.record import Record

# Engines reserve memory in the first call and choose their algorithms in the next.
_WARM_CALLS = 3
# Bytes of small images that go through the flow at once; smaller groups would show its overhead.
_GROUP_BYTES = 2**22


class _Stopped(Exception):
    """The call was cancelled; no further model may start."""


# All runners of this process, so that a forked process can renew them.
_RUNNERS: weakref.WeakSet[Runner] = weakref.WeakSet()


def _renew_all() -> None:
    for runner in tuple(_RUNNERS):
        runner.renew()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_renew_all)


def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="committee-runner")


def _reopened(
    cascade: str | Path | Cascade, allow_code: Collection[str], threads: int, lazy: bool
) -> Runner:
    return Runner(cascade, allow_code=allow_code, threads=threads, lazy=lazy)


# From a model's name to its answer to the sample, not yet checked.
_Run = Callable[[str], Any]
# From a model's name and answer to outputs.
_Check = Callable[[str, Any], Outputs]


class _One:
    """Decides on one sample: models run one after the other until the cascade is sure.

    The commonest rule, the largest probability of the mean of logits, has a short way: one call of
    the compiled part and two of NumPy in place of the flow, 4 µs a stage in place of 28, which
    shows beside a small network. Everything else goes through :mod:`committee.rule.flow`, as do
    outputs that cannot be used; tests hold both ways to the same bits.
    """

    def __init__(self, cascade: Cascade, logits: bool) -> None:
        self._cascade = cascade
        rule = cascade.combine or "mean_logits", cascade.confidence
        common = rule == ("mean_logits", "max_prob") and logits and not cascade.calibrations
        self._short = common and native is not None
        self._classes = len(cascade.classes)

    def __call__(self, run: _Run, check: _Check) -> tuple[int, float, int]:
        """Return the predicted class, its score at the exit, and the stage of exit, from 0."""
        answers: dict[str, Any] = {}
        decided = self._decide_shortly(run, answers) if self._short else None
        if decided is not None:
            return decided

        def answer(request: Request) -> Answers:
            return {
                name: check(name, answers[name] if name in answers else run(name))
                for name in request.models
            }

        decisions = drive(decide(self._cascade, 1), answer)
        return decisions.predicted.item(), decisions.score.item(), decisions.stage.item()

    def _decide_shortly(self, run: _Run, answers: dict[str, Any]) -> tuple[int, float, int] | None:
        """Decide, keeping the answers; None if one is not the usual row of finite numbers."""
        for index, stage in enumerate(self._cascade.stages):
            for name in stage.models:
                answers[name] = answer = run(name)
                if type(answer) is not np.ndarray or answer.ndim != 2 or answer.shape[1] < 2:
                    return None
            # In the order of the names, as everywhere: the sum has the same bits.
            rows = [answer] if len(answers) == 1 else [answers[name] for name in sorted(answers)]
            below = np.empty((1, self._classes or answer.shape[1]))
            try:
                predicted = native.lead(rows, below)
            except TypeError:
                return None  # no numbers; the check of outputs says what they are
            if predicted is None:
                return None
            # The largest exponential is exp(0) = 1: this is its probability, to the last bit.
            score = 1 / np.add.reduce(np.exp(below), 1).item()
            if exits(score, stage.threshold):
                return predicted, score, index
        return None


class Runner:
    """Runs a cascade and makes the same decisions as its evaluation on stored predictions.

    Several threads may call one runner at once, as may processes forked from the one that loaded
    it. A copied or unpickled runner loads its models again.

    Args:
        cascade: A cascade file, a bundle, a cascade that is one ONNX file, or a cascade that
            knows its models; or what :func:`committee.run.open.open_cascade` returned.
        models: Functions that answer in place of models that are loaded, by name. The result is
            then a :class:`~committee.run.functions.FunctionRunner`; no other option goes with it.
        allow_code: Python files and modules that may be run.
        threads: How many threads a model may use; 0 leaves the choice to its engine.
        lazy: True to load the models of later stages only when they are needed. A missing file is
            still an error now, and so is a changed ONNX file; a changed torch model is an error
            when it is loaded, because its fingerprint covers the loaded weights.

    Raises:
        CascadeError: If the file cannot be read, the cascade does not say how a model is loaded, or
            its models are for segmentation.
        MisalignedError: If its models give outputs of another kind than it was selected on.
        ModelError: If a model cannot be loaded, or has changed since it was selected.
        UntrustedCodeError: If a model needs code that is not allowed.

    Attributes:
        cascade: The rule.
        specs: How its models are loaded, by name.
        task: The task of its models, which defines a sample.
        unit: Unit of the costs of its decisions; empty if costs are unknown.
        costs: The cost of an exit at each stage; empty if costs are unknown.
    """

    def __new__(
        cls, cascade: CascadeLike, *, models: Mapping[str, Function] | None = None, **options: Any
    ) -> Any:
        """Return a runner, or a :class:`~committee.run.functions.FunctionRunner` of functions."""
        if models is None:
            return super().__new__(cls)
        if options:
            raise CascadeError(
                f"Runner: {', '.join(options)} {'is' if len(options) == 1 else 'are'} for models "
                "that a cascade loads; functions are loaded already, so leave it out"
            )
        return FunctionRunner(cascade, models)

    def __init__(
        self,
        cascade: CascadeLike,
        *,
        models: Mapping[str, Function] | None = None,
        allow_code: Collection[str] = (),
        threads: int = 0,
        lazy: bool = False,
    ) -> None:
        loaded = open_cascade(cascade, threads)
        where = str(loaded.path or "cascade")
        self.cascade, self._graph = loaded.cascade, loaded.graph
        self.specs = specs_of(self.cascade, where)
        self.task = task_of(self.specs.values())
        if self.task.dense:
            raise CascadeError(
                f"{where}: its models segment. Run it with committee run, or in Python with "
                "committee.segment.run.Segmenter"
            )
        if loaded.graph is None and any(s.source.startswith(INSIDE) for s in self.specs.values()):
            raise CascadeError(
                f"{where}: its models are inside one ONNX file, of which this is the rule alone. "
                "Run that file: Runner('cascade.onnx') in Python, or committee run cascade.onnx"
            )
        source = self.cascade if loaded.graph is None else loaded.path or self.cascade
        self._arguments = source, tuple(allow_code), threads, lazy
        recipes = [spec.preprocessing for spec in self.specs.values()]
        # Numbers are found faster than preprocessings, which are many fields.
        self._numbers = {name: recipes.index(s.preprocessing) for name, s in self.specs.items()}
        later = self.cascade.names[len(self.cascade.stages[0].models) :] if lazy else ()
        self._models = Models(
            # A graph contains its models.
            {} if self._graph else self.specs,
            self.cascade.classes,
            allow_code,
            threads,
            later,
        )
        self._one = _One(self.cascade, all(spec.kind == "logits" for spec in self.specs.values()))
        self.unit, self.costs = cumulative_costs(self.cascade, self.specs)
        self._executor = _executor()
        _RUNNERS.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to build it again: loaded models can be neither copied nor pickled."""
        return _reopened, self._arguments

    def renew(self) -> None:
        """Replace the threads, which do not survive a fork."""
        self._executor = _executor()
        self._models.renew()

    def __repr__(self) -> str:
        """Return the cascade and the engine of each model."""
        if self._graph is not None:
            return f"<Runner: {self.cascade}, one ONNX file on onnxruntime>"
        engines = ", ".join(
            f"{name} on {spec.engine or source_of(spec.source).engines[0]}"
            for name, spec in self.specs.items()
        )
        return f"<Runner: {self.cascade}; {engines}>"

    @property
    def loaded(self) -> tuple[str, ...]:
        """Return the names of the models in memory; none if the cascade is one ONNX file."""
        return self._models.loaded

    def warm(self) -> None:
        """Load the remaining models, and run all models on a blank sample.

        The first call then takes no longer than others, and a broken model of a late stage is found
        before a call needs it.
        """
        self._models.warm(_WARM_CALLS)
        recipe = next(iter(self.specs.values())).preprocessing
        if not isinstance(recipe, Preprocessing):
            return  # there is no blank record
        blank = _blank(recipe)
        for _ in range(_WARM_CALLS):
            # A model may answer a blank sample with NaN.
            with suppress(NotFiniteError):
                self(blank)

    def __call__(self, sample: Any) -> Decision:
        """Return the decision on one sample.

        Models run one after the other; the first stage that is confident enough decides.

        Args:
            sample: An image, as bytes (H, W) or (H, W, 3) or as PIL's; or a clip, as bytes
                (frames, H, W) or (frames, H, W, 3), as ``committee.models.inputs.ArrayClip``, or
                as ``committee.data.clips.read_clip`` reads it from a file; or a record, as a dict
                of its columns or as the value of its only column.

        Raises:
            DataError: If the sample has a form that is not handled.
            ModelError, NotFiniteError: If a model fails or answers with NaN.
        """
        return self.decide_one(sample)

    async def async_call(self, sample: Any) -> Decision:
        """Same as a call, but in a thread of the runner, so that the event loop is not blocked.

        After cancellation no further model starts. A model that hangs blocks only its own runner.
        """
        stopped = threading.Event()

        def begin(_: str) -> None:
            if stopped.is_set():
                raise _Stopped

        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self.decide_one, sample, begin)
        except asyncio.CancelledError:
            stopped.set()
            raise

    def decide(self, images: RawSamples, batch_size: int | None = None) -> Decisions:
        """Return the decisions on many samples; the survivors of a stage fill batches of the next.

        Samples are processed in stretches of a number of batches that the task defines. At the end
        of a stretch no survivor waits.

        Args:
            images: Bytes (N, H, W) or (N, H, W, 3), or a sequence of images, clips or records.
            batch_size: Samples a forward pass; the task's default if None.

        Raises:
            DataError: If an image has a form that is not handled.
            ModelError, NotFiniteError: If a model fails or answers with NaN.
        """
        batch_size = batch_size or self.task.batch_size
        gatherer = self.gatherer(batch_size)
        self._check_whole(images)
        first, later = self.recipes
        step, group = batch_size * self.task.stretch, self.group_size(batch_size)
        parts = []
        for start in range(0, len(images), step) or range(1):
            end = min(start + step, len(images))
            for at in range(start, end, group):
                some = images[at : min(at + group, end)]
                gatherer.add(SampleBatch(len(some), dict.fromkeys(first | later, some)))
            parts.append(gatherer.finish().sound(start))
        return joined_decisions(parts)

    @property
    def graph(self) -> CascadeGraph | None:
        """The cascade that is one ONNX file, if it is one."""
        return self._graph

    def usable_outputs(self, name: str, inputs: ModelInputs) -> tuple[Outputs, Mapping[int, str]]:
        """Run one model on a batch; return the usable outputs, and why rows failed that did."""
        return self._models.usable_outputs(name, inputs)

    def gatherer(
        self, batch_size: int, executor: Executor | None = None, go_on: bool = False
    ) -> Gatherer:
        """Return an object that takes batches of images and decides on them together.

        With ``go_on`` a sample on which a model fails does not end it; see
        :class:`committee.run.batching.Gathering`.
        """
        if self._graph is not None:
            return GraphGathering(self._graph, batch_size, go_on)
        run = self.usable_outputs
        return Gathering(self.cascade, self.specs, run, batch_size, executor, go_on)

    def group_size(self, batch_size: int) -> int:
        """Return how many samples to add to a gatherer at once: whole batches of few bytes."""
        first, later = self.recipes
        return group_size(first or later, batch_size, self.task.stretch)

    @property
    def recipes(self) -> tuple[frozenset[Recipe], frozenset[Recipe]]:
        """Return the recipes for every image, and those for images that reach later stages."""
        if self._graph is not None:
            # The graph itself completes the preparation.
            return frozenset(), frozenset(self._graph.inputs.values())
        first = frozenset(self.specs[n].preprocessing for n in self.cascade.stages[0].models)
        return first, recipes_from(self.cascade, self.specs)[0]

    def explained(self, decisions: Decisions, row: int) -> Decision:
        """Return one row of many decisions with its class name and cost."""
        predicted, stage = decisions.predicted.item(row), decisions.stage.item(row)
        return self._explained(predicted, decisions.score.item(row), stage)

    def explained_rows(self, decisions: Decisions) -> list[Decision]:
        """Return each row of decisions with its class name and cost."""
        columns = decisions.predicted, decisions.score, decisions.stage
        return [*map(self._explained, *(column.tolist() for column in columns))]

    def _explained(self, predicted: int, score: float, stage: int) -> Decision:
        cost = self.costs[stage] if self.costs else None
        return Decision(predicted, class_name(self.cascade.classes, predicted), score, stage, cost)

    def _check_whole(self, samples: RawSamples) -> None:
        """Refuse a value without a name where models take different columns."""
        if self.task.records:
            first, later = self.recipes
            check_whole(samples, [each for each in first | later if isinstance(each, Record)])

    def decide_one(self, sample: Any, begin: Callable[[str], None] | None = None) -> Decision:
        """Same as a call, but ``begin`` is called with each model before it runs, and may raise."""
        samples: RawSamples
        if not isinstance(sample, np.ndarray):
            samples = [sample]
        elif self.task.views:
            samples = [ArrayClip(sample)]
        else:
            samples = sample[None]
        self._check_whole(samples)
        if self._graph is not None:
            return self.explained(self._graph.decide(samples), 0)
        prepared: dict[int, ModelInputs] = {}

        def run(name: str) -> Any:
            if begin is not None:
                begin(name)
            number = self._numbers[name]
            if number not in prepared:
                prepared[number] = inputs_of(samples, self.specs[name].preprocessing)
            return self._models.answer(name, prepared[number])

        return self._explained(*self._one(run, self._models.checked))


def bytes_of(recipes: Iterable[Recipe]) -> int:
    """Return the bytes of the largest input of a sample."""
    numbers = [recipe.inputs * math.prod(recipe.shape) for recipe in recipes]
    return max(numbers) * np.float32().nbytes


def group_size(recipes: Iterable[Recipe], batch_size: int, most: int) -> int:
    """Return how many samples to handle at once: whole batches of few bytes, at most ``most``."""
    return batch_size * min(max(_GROUP_BYTES // (batch_size * bytes_of(recipes)), 1), most)


def _blank(recipe: Preprocessing) -> ImageLike | Clip:
    """Return a black image, or a black clip as long as a view."""
    if recipe.views is None:
        return np.zeros((*recipe.size, 3), np.uint8)
    frames = np.zeros((recipe.views.frames, *recipe.size, 3), np.uint8)
    return ArrayClip(frames, recipe.views.rate)


def cumulative_costs(
    cascade: Cascade, specs: Mapping[str, ModelSpec]
) -> tuple[str, tuple[float, ...]]:
    """Return the unit and the cost of an exit at each stage; both empty if costs are unknown."""
    unit = unit_of(cascade, specs)
    if not unit:
        return "", ()
    costs = {n: c.value for n, spec in specs.items() for c in spec.costs if c.unit == unit}
    return unit, tuple(accumulate(costs_of_stages(cascade.models_of_stages, costs)))
