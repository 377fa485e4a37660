"""Runner: a cascade with its models loaded, deciding on images one by one or many at a time."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import weakref
from collections.abc import Collection, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from committee.errors import CascadeError, NotFiniteError
from committee.models.clip import ArrayClip, Clip, ModelInputs, inputs_of
from committee.models.inputs import ImageLike, RawSamples
from committee.models.load import specs_of
from committee.models.sources.registry import source_of
from committee.pool.evaluate import costs_of_stages
from committee.rule.cascade import Cascade
from committee.rule.flow import Decisions, joined_decisions
from committee.run.batch import SampleBatch
from committee.run.batching import Gatherer, Gathering, recipes_from
from committee.run.loading import Models, recipes_of
from committee.run.online import One
from committee.run.onnx_cascade import GraphGathering
from committee.run.open import CascadeLike, open_cascade
from committee.spec.model import ModelSpec, task_of
from committee.spec.preprocessing import Preprocessing

# Engines reserve memory in the first call and settle on how they compute in the next.
_WARM = 3
# Small images go through the flow several batches at a time, or its own work would show.
_TOGETHER = 2**22


@dataclass(frozen=True)
class Decision:
    """What a cascade decided for one image.

    Args:
        class_index: Predicted class.
        class_name: Its name, or its index where classes are unnamed.
        confidence: Score of the combination at the exit.
        stage: Stage of exit, from 0.
        cost: Cost of the stages that ran, in the runner's unit; None if costs are unknown.
    """

    class_index: int
    class_name: str
    confidence: float
    stage: int
    cost: float | None


class _Stopped(Exception):
    """Nobody waits for the decision any more."""


# All runners of this process, so that a process that is forked from it can renew them.
_RUNNERS: weakref.WeakSet[Runner] = weakref.WeakSet()


def _renew_all() -> None:
    for runner in tuple(_RUNNERS):
        runner.renew()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_renew_all)


def _executor() -> ThreadPoolExecutor:
    """Return threads for calls from an event loop; they begin when there are calls."""
    return ThreadPoolExecutor(thread_name_prefix="committee-runner")


def _opened_again(
    cascade: str | Path | Cascade, allow_code: Collection[str], threads: int, lazy: bool
) -> Runner:
    return Runner(cascade, allow_code=allow_code, threads=threads, lazy=lazy)


class Runner:
    """Runs a cascade: the same decisions as its evaluation on stored predictions.

    Several threads may call one runner at once, and processes that are forked from the one that
    loaded it. A copy, or a runner that was pickled, loads its models again.

    Args:
        cascade: A cascade file, a bundle, a cascade that is one ONNX file, or a cascade that
            knows its models; or what :func:`committee.run.open.open_cascade` returned.
        allow_code: Python files and modules that may be run, named by the user.
        threads: How many threads a model may use; 0 leaves the choice to its engine.
        lazy: Whether models of all stages but the first are loaded only when they are needed. That
            an ONNX file is missing or has changed is noticed now all the same; of torch models,
            whose fingerprint is that of their loaded weights, only that a file is missing.

    Raises:
        CascadeError: If the file cannot be read, the cascade does not say how a model is loaded, or
            its models segment.
        MisalignedError: If its models give outputs of another kind than it was chosen on.
        ModelError: If a model cannot be loaded, or has changed since it was chosen.
        UntrustedCodeError: If a model needs code that is not allowed.

    Attributes:
        cascade: The rule.
        specs: How its models are loaded, by name.
        task: What they do, and so what a sample is.
        unit: Of the costs of its decisions; empty if costs are unknown.
    """

    def __init__(
        self,
        cascade: CascadeLike,
        *,
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
        again = self.cascade if loaded.graph is None else loaded.path or self.cascade
        self._again = again, tuple(allow_code), threads, lazy
        self._numbers = recipes_of(self.specs.values())
        later = self.cascade.names[len(self.cascade.stages[0].models) :] if lazy else ()
        self._models = Models(
            # A graph holds its models; nothing is left to load.
            {} if self._graph else self.specs,
            len(self.cascade.classes),
            allow_code,
            threads,
            later,
        )
        self._one = One(self.cascade, all(spec.kind == "logits" for spec in self.specs.values()))
        self.unit, self._costs = _cumulative_costs(self.cascade, self.specs)
        self._executor = _executor()
        _RUNNERS.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """What opens it again: loaded models can be neither copied nor sent to another process."""
        return _opened_again, self._again

    def renew(self) -> None:
        """Forget the threads of the process that this one was forked from."""
        self._executor = _executor()
        self._models.renew()

    def __repr__(self) -> str:
        """The cascade, and what runs each of its models."""
        if self._graph is not None:
            return f"<Runner: {self.cascade}, one ONNX file on onnxruntime>"
        told = ", ".join(
            f"{name} on {spec.engine or source_of(spec.source).engines[0]}"
            for name, spec in self.specs.items()
        )
        return f"<Runner: {self.cascade}; {told}>"

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the models that are in memory; none if the cascade is one ONNX file."""
        return self._models.loaded

    def warm(self) -> None:
        """Load what is not loaded, and run all models on a blank sample.

        Then the first call takes no longer than others, and what is wrong with a model of a late
        stage is known before anybody waits for it.

        Raises:
            ModelError: If a model fails, or gives other classes than the cascade names.
        """
        self._models.warm(_WARM)
        blank = _blank(next(iter(self.specs.values())).preprocessing)
        for _ in range(_WARM):
            try:
                self(blank)
            except NotFiniteError:
                # Of a blank sample a model need not make sense.
                continue

    def __call__(self, sample: ImageLike | Clip) -> Decision:
        """Decide on one sample.

        Models run one after the other and stop as soon as the cascade is sure.

        Args:
            sample: An image, as bytes (H, W) or (H, W, 3) or as PIL's; or a clip, as bytes
                (frames, H, W) or (frames, H, W, 3), as :class:`~committee.models.ArrayClip`, or as
                :func:`committee.data.read_clip` reads it from a file.

        Raises:
            DataError: If the sample has a form that is not handled.
            ModelError, NotFiniteError: If a model fails or answers with NaN.
        """
        return self._decide_one(sample)

    async def async_call(self, sample: ImageLike | Clip) -> Decision:
        """As a call, in a thread of the runner's own, so that the loop goes on.

        If it is cancelled no further model is run. A model that hangs holds up its own runner only.

        Raises:
            DataError, ModelError, NotFiniteError: As a call does.
        """
        stopped = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._decide_one, sample, stopped)
        except asyncio.CancelledError:
            stopped.set()
            raise

    def decide(self, images: RawSamples, batch_size: int | None = None) -> Decisions:
        """Decide on many samples, stage by stage, survivors gathered into full batches.

        They are taken in stretches of as many batches as the task says, at the end of which no
        survivor waits any more.

        Args:
            images: Bytes (N, H, W) or (N, H, W, 3), or a sequence of images or of clips.
            batch_size: Samples a forward pass; as the task says if left out.

        Raises:
            DataError: If an image has a form that is not handled.
            ModelError, NotFiniteError: If a model fails or answers with NaN.
        """
        batch_size = batch_size or self.task.batch_size
        gatherer = self.gatherer(batch_size)
        first, later = self.recipes
        step, together = batch_size * self.task.stretch, self.together(batch_size)
        parts = []
        for start in range(0, len(images), step) or range(1):
            end = min(start + step, len(images))
            for at in range(start, end, together):
                some = images[at : min(at + together, end)]
                gatherer.add(SampleBatch(len(some), dict.fromkeys(first | later, some)))
            gathered = gatherer.finish()
            for row, reason in sorted(gathered.failed.items())[:1]:
                raise NotFiniteError(
                    f"{reason}, first at sample {start + row} (counted from 0). Mend or remove it"
                )
            parts.append(gathered.decisions)
        return joined_decisions(parts)

    def gatherer(self, batch_size: int, executor: Executor | None = None) -> Gatherer:
        """What takes batches of images and decides on them together; see :mod:`.gathering`.

        Args:
            batch_size: Samples a forward pass.
            executor: What prepares images for late stages meanwhile.
        """
        if self._graph is not None:
            return GraphGathering(self._graph, batch_size)
        return Gathering(
            self.cascade, self.specs, self._models.usable_outputs, batch_size, executor
        )

    def together(self, batch_size: int) -> int:
        """How many samples are best added to a gatherer at once: whole batches, of few bytes."""
        first, later = self.recipes
        numbers = [recipe.inputs * math.prod(recipe.shape) for recipe in first or later]
        most = batch_size * max(numbers) * np.float32().nbytes
        return batch_size * min(max(_TOGETHER // most, 1), self.task.stretch)

    @property
    def recipes(self) -> tuple[frozenset[Preprocessing], frozenset[Preprocessing]]:
        """What every image is prepared for, and what those that stay may be prepared for."""
        if self._graph is not None:
            # Preparing ends inside the graph.
            return frozenset(), frozenset(self._graph.inputs.values())
        known = recipes_from(self.cascade, self.specs)
        first = frozenset(self.specs[n].preprocessing for n in self.cascade.stages[0].models)
        return first, known[0]

    def explained(self, decisions: Decisions, row: int) -> Decision:
        """One row of many decisions, with class name and cost."""
        predicted, stage = decisions.predicted.item(row), decisions.stage.item(row)
        return self._explained(predicted, decisions.score.item(row), stage)

    def _explained(self, predicted: int, score: float, stage: int) -> Decision:
        return Decision(
            class_index=predicted,
            class_name=class_name(self.cascade.classes, predicted),
            confidence=score,
            stage=stage,
            cost=self._costs[stage] if self._costs else None,
        )

    def _decide_one(
        self, sample: ImageLike | Clip, stopped: threading.Event | None = None
    ) -> Decision:
        """Decide on one sample, prepared once for each preprocessing that is asked for."""
        samples: RawSamples
        if not isinstance(sample, np.ndarray):
            samples = [sample]
        elif self.task.views:
            samples = [ArrayClip(sample)]
        else:
            samples = sample[None]
        if self._graph is not None:
            return self.explained(self._graph.decide(samples), 0)
        known: dict[int, ModelInputs] = {}

        def run(name: str) -> Any:
            if stopped is not None and stopped.is_set():
                raise _Stopped
            number = self._numbers[name]
            if number not in known:
                known[number] = inputs_of(samples, self.specs[name].preprocessing)
            return self._models.answer(name, known[number])

        return self._explained(*self._one(run, self._models.checked))


def class_name(classes: Sequence[str], index: int) -> str:
    """Return the name of a class, or its index where classes are unnamed."""
    return classes[index] if classes else str(index)


def _blank(recipe: Preprocessing) -> ImageLike | Clip:
    """A black image, or a clip as long as a view."""
    if recipe.views is None:
        return np.zeros((*recipe.size, 3), np.uint8)
    frames = np.zeros((recipe.views.frames, *recipe.size, 3), np.uint8)
    return ArrayClip(frames, recipe.views.rate)


def _cumulative_costs(
    cascade: Cascade, specs: dict[str, ModelSpec]
) -> tuple[str, tuple[float, ...]]:
    """The unit, and the cost of a sample that exits at each stage; empty if costs are unknown."""
    table = {name: {cost.unit: cost.value for cost in spec.costs} for name, spec in specs.items()}
    shared = set.intersection(*(set(units) for units in table.values()))
    wanted = cascade.origin.unit or "macs"
    unit = wanted if wanted in shared else next(iter(sorted(shared)), "")
    if not unit:
        return "", ()
    costs = {name: units[unit] for name, units in table.items()}
    return unit, tuple(accumulate(costs_of_stages(cascade.models_of_stages, costs)))
