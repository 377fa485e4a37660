"""Runner: a cascade with its models loaded, deciding on pictures one by one or many at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import cast

import numpy as np

from committee.cascade import Cascade
from committee.evaluate import costs_of_stages
from committee.flow import Answers, Decisions, Request, decide, drive, joined_decisions
from committee.models import (
    ArrayClip,
    Clip,
    ModelSpec,
    Picture,
    Pictures,
    Preprocessing,
    load_models,
    outputs_of,
    specs_of,
    task_of,
)
from committee.predict import joined
from committee.predictions import Outputs
from committee.run.inputs import Inputs
from committee.run.opening import Opened, opened
from committee.task import VIDEO_CLASSIFICATION


@dataclass(frozen=True)
class Decision:
    """What a cascade decided for one picture.

    Args:
        class_index: Predicted class.
        class_name: Its name; empty if classes are unnamed.
        confidence: Score of the combination at the exit.
        stage: Stage of exit, from 0.
        cost: Cost of the stages that ran, in the runner's unit; None if costs are unknown.
    """

    class_index: int
    class_name: str
    confidence: float
    stage: int
    cost: float | None


class Runner:
    """Runs a cascade: the same decisions as its evaluation on stored predictions.

    Args:
        cascade: A cascade file, a bundle, a cascade that is one ONNX file, or a cascade that
            knows its models.
        allow_code: Python files and modules that may be run, named by the user.
        threads: How many threads a model may use; 0 leaves the choice to its engine.

    Raises:
        CascadeError: If the file cannot be read, or the cascade does not say how a model is loaded.
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
        cascade: str | Path | Cascade,
        *,
        allow_code: Collection[str] = (),
        threads: int = 0,
    ) -> None:
        where = "cascade" if isinstance(cascade, Cascade) else str(cascade)
        found = Opened(cascade) if isinstance(cascade, Cascade) else opened(cascade, threads)
        self.cascade, self._graph = found.cascade, found.graph
        specs = self.specs = specs_of(self.cascade, where)
        self.task = task_of(specs.values())
        # A graph holds its models; nothing is left to load.
        apart = {} if self._graph else specs
        loaded = load_models(apart.values(), allow_code, threads)
        self._loaded = dict(zip(apart, loaded, strict=True))
        self._repeated = _repeated(specs.values())
        self.unit, self._costs = _cumulative_costs(self.cascade, specs)

    def __call__(self, sample: Picture | Clip) -> Decision:
        """Decide on one sample.

        Models run one after the other and stop as soon as the cascade is sure.

        Args:
            sample: A picture, as bytes (H, W) or (H, W, 3) or as PIL's; or a clip, as bytes
                (frames, H, W) or (frames, H, W, 3), as :class:`~committee.models.ArrayClip`, or as
                :func:`committee.data.read_clip` reads it from a file.

        Raises:
            DataError: If the sample has a form that is not handled.
            ModelError, NotFiniteError: If a model fails or answers with NaN.
        """
        samples: Pictures
        if not isinstance(sample, np.ndarray):
            samples = cast("Pictures", [sample])
        elif self.task is VIDEO_CLASSIFICATION:
            samples = [ArrayClip(sample)]
        else:
            samples = sample[None]
        return self.explained(self.decide(samples), 0)

    def decide(self, pictures: Pictures, batch_size: int | None = None) -> Decisions:
        """Decide on many samples, stage by stage, survivors gathered into full batches.

        They are taken in windows of as many batches as the task says; memory holds the inputs of
        one window.

        Args:
            pictures: Bytes (N, H, W) or (N, H, W, 3), or a sequence of pictures or of clips.
            batch_size: Samples a forward pass; as the task says if left out.

        Raises:
            DataError: If a picture has a form that is not handled.
            ModelError, NotFiniteError: If a model fails or answers with NaN.
        """
        batch_size = batch_size or self.task.batch_size
        step = batch_size * self.task.window
        starts = range(0, len(pictures), step) or range(1)
        windows = [pictures[start : start + step] for start in starts]
        return joined_decisions([self._decide_window(each, batch_size) for each in windows])

    def _decide_window(self, pictures: Pictures, batch_size: int) -> Decisions:
        if self._graph is not None:
            return self._graph.decide(pictures, batch_size)
        answer = partial(self._answer, Inputs(pictures, self._repeated), batch_size)
        return drive(decide(self.cascade, len(pictures)), answer)

    def explained(self, decisions: Decisions, row: int) -> Decision:
        """One row of many decisions, with class name and cost."""
        predicted, stage = int(decisions.predicted[row]), int(decisions.stage[row])
        names = self.cascade.classes
        return Decision(
            class_index=predicted,
            class_name=names[predicted] if names else "",
            confidence=float(decisions.score[row]),
            stage=stage,
            cost=self._costs[stage] if self._costs else None,
        )

    def _answer(self, inputs: Inputs, batch_size: int, request: Request) -> Answers:
        parts: dict[str, list[Outputs]] = {name: [] for name in request.models}
        for start in range(0, len(request.rows), batch_size):
            rows = request.rows[start : start + batch_size]
            for name in request.models:
                model, spec = self._loaded[name]
                batch = inputs.batch(rows, spec.preprocessing)
                parts[name].append(outputs_of(model, spec, batch))
        return {name: joined(each) for name, each in parts.items()}


def _repeated(specs: Iterable[ModelSpec]) -> frozenset[Preprocessing]:
    """Preprocessings that more than one model takes."""
    counts = Counter(spec.preprocessing for spec in specs)
    return frozenset(recipe for recipe, count in counts.items() if count > 1)


def _cumulative_costs(
    cascade: Cascade, specs: dict[str, ModelSpec]
) -> tuple[str, tuple[float, ...]]:
    """The unit, and the cost of a sample that exits at each stage; empty if costs are unknown."""
    table = {name: {cost.unit: cost.value for cost in spec.costs} for name, spec in specs.items()}
    shared = set.intersection(*(set(units) for units in table.values()))
    wanted = str(cascade.origin.get("unit", "macs"))
    unit = wanted if wanted in shared else next(iter(sorted(shared)), "")
    if not unit:
        return "", ()
    costs = {name: units[unit] for name, units in table.items()}
    return unit, tuple(accumulate(costs_of_stages(cascade.models_of_stages, costs)))
