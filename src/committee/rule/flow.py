"""The decision: which models run on which samples, when a sample exits, and with what answer.

This is the only place where the exit rule stands. :func:`decide` is a generator that asks for
outputs and receives them. Evaluating stored predictions, running offline, online and as a torch
module are drivers of it that differ only in where the outputs come from; an ONNX file holds the
functions that it calls.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, overload

import numpy as np

from committee.arrays import Array
from committee.errors import NotFiniteError
from committee.rule.agreement import combine_and_score
from committee.rule.calibration import Calibration, calibrated
from committee.rule.combinations import usual_combine
from committee.rule.namespace import NUMPY, Eager
from committee.rule.outputs import Outputs


class Request(NamedTuple):
    """Run these models on these samples.

    Args:
        stage: Index of the stage, from 0.
        models: Names of the models to run.
        rows: Indices of the samples, shape (n,), rising.
        made: Decisions so far, those on samples that are not in ``rows`` being final; None if none
            exited yet.
    """

    stage: int
    models: tuple[str, ...]
    rows: Array
    made: Decisions | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Decisions:
    """What a cascade decided for N samples.

    Args:
        predicted: Class index, shape (N,); of tiles of pixels (N, height, width).
        score: Confidence of the combination at the exit, shape (N,), float64.
        stage: Stage of exit, from 0, shape (N,).
        values: The combination at the exit, shape (N, C), where :func:`decide` was to keep it.
    """

    predicted: Array
    score: Array
    stage: Array
    values: Array | None = None

    def rows(self, index: Array | slice) -> Decisions:
        """Return the decisions on some samples; ``index`` as in NumPy."""
        values = None if self.values is None else self.values[index]
        return Decisions(self.predicted[index], self.score[index], self.stage[index], values)

    def __repr__(self) -> str:
        """Return how many samples exit at each stage."""
        exits = ", ".join(f"{count:,}" for count in np.bincount(self.stage).tolist())
        return f"<Decisions: {len(self.stage):,} samples; exits by stage {exits or 'none'}>"


Answers = Mapping[str, Outputs]
# From outputs by model, and the names of combination and confidence, to both for each sample.
Scoring = Callable[[Answers, str, str, Eager], tuple[Outputs, Array]]
Flow = Generator[Request, Answers, Decisions]


class _Step(Protocol):
    """A stage of a cascade."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that run."""

    @property
    def threshold(self) -> float:
        """The score at which a sample exits."""


class Rule(Protocol):
    """What :func:`decide` needs of a cascade."""

    @property
    def stages(self) -> Sequence[_Step]:
        """Stages in order; the last has the threshold minus infinity."""

    @property
    def confidence(self) -> str:
        """Name of the confidence function."""

    @property
    def combine(self) -> str | None:
        """Name of the combination; None for what the kind of outputs implies."""

    @property
    def calibrations(self) -> Mapping[str, Calibration]:
        """What is applied to a model's outputs before they are combined, by name."""


@overload
def exits(scores: float, threshold: float) -> bool: ...
@overload
def exits(scores: Array, threshold: float) -> Array: ...
def exits(scores: float | Array, threshold: float) -> bool | Array:
    """Return True if a sample exits: its score reaches the stage's threshold."""
    return scores >= threshold


def decide(
    rule: Rule,
    samples: int,
    xp: Eager = NUMPY,
    keep_values: bool = False,
    scoring: Scoring = combine_and_score,
) -> Flow:
    """Decide for ``samples`` samples; see the module's text for how it is driven.

    Outputs that come in are calibrated here, so that no driver has to.

    Args:
        rule: The cascade.
        samples: How many samples there are; requests name them 0 … samples - 1.
        xp: Namespace of the outputs that come in.
        keep_values: Return the combinations at the exits too.
        scoring: Combines and scores; another gives the same, but may let samples fail.

    Yields:
        Requests; each is to be answered with the outputs of its models, by name, their rows in the
        order of ``request.rows``.

    Returns:
        The decisions, in the order of the samples.

    Raises:
        NotFiniteError: If a score is NaN or infinite.
    """
    combine = rule.combine
    made: Decisions | None = None
    rows = xp.arange(samples)
    ran: dict[str, Outputs] = {}
    for index, stage in enumerate(rule.stages):
        answers = yield Request(index, stage.models, rows, made)
        newest = {name: answers[name] for name in stage.models}
        ran.update(calibrated(newest, rule.calibrations, xp) if rule.calibrations else newest)
        if stage.threshold == math.inf:
            continue  # nobody exits
        combine = combine or usual_combine({each.kind for each in ran.values()})
        combination, scores = scoring(ran, combine, rule.confidence, xp)
        staying = xp.where_true(~exits(scores, stage.threshold))
        if 0 < len(rows) == len(staying):
            continue
        values = combination.values if keep_values else None
        own = Decisions(combination.predicted(), scores, xp.full(len(rows), index), values)
        made = own if made is None else _overwrite(made, rows, own)
        if not len(staying):
            return made
        if len(rows) == samples:  # arrays of outputs must not be overwritten
            made = _copied(made, xp)
        rows = rows[staying]
        ran = {name: outputs.rows(staying) for name, outputs in ran.items()}
    # Only NaN never reaches a threshold. NumPy's scores are refused as soon as they are computed.
    raise NotFiniteError(
        f"NaN or infinite outputs, first at sample {int(rows[0])} of {samples}. Are inputs and "
        "weights finite, and is the precision wide enough?"
    )


def _copied(made: Decisions, xp: Eager) -> Decisions:
    values = None if made.values is None else xp.copy(made.values)
    return Decisions(xp.copy(made.predicted), xp.copy(made.score), made.stage, values)


def _overwrite(made: Decisions, rows: Array, own: Decisions) -> Decisions:
    """Write what a stage decides into the rows that reached it; later stages overwrite theirs."""
    made.predicted[rows], made.score[rows], made.stage[rows] = own.predicted, own.score, own.stage
    if made.values is not None:
        made.values[rows] = own.values
    return made


def joined_decisions(parts: Sequence[Decisions]) -> Decisions:
    """Return the decisions for consecutive samples as one; without parts, those for no samples."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Decisions(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))
    values = [part.values for part in parts if part.values is not None]
    return Decisions(
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.stage for part in parts]),
        np.concatenate(values) if len(values) == len(parts) else None,
    )


async def drive_async(flow: Flow, answer: Callable[[Request], Awaitable[Answers]]) -> Decisions:
    """Run a flow to its end, awaiting the answer to each request."""
    step = _next_step(flow)
    while isinstance(step, Request):
        step = _next_step(flow, await answer(step))
    return step


def drive(flow: Flow, answer: Callable[[Request], Answers]) -> Decisions:
    """Run a flow to its end, answering each request."""
    step = _next_step(flow)
    while isinstance(step, Request):
        step = _next_step(flow, answer(step))
    return step


def _next_step(flow: Flow, answers: Answers | None = None) -> Request | Decisions:
    """Return what a flow asks for next, or its decisions at its end.

    A StopIteration of a model is raised outside, and so not mistaken for that end.
    """
    try:
        return next(flow) if answers is None else flow.send(answers)
    except StopIteration as end:
        decisions: Decisions = end.value
        return decisions
