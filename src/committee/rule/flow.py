"""The decision: which models run on which samples, when a sample exits, and with what answer.

This is the only place where the exit rule stands. :func:`decide` is a generator that asks for
outputs and receives them; evaluation on stored predictions, the offline runner and the online
runner are drivers of it that differ only in where the outputs come from.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from committee.arrays import Array
from committee.rule.calibration import calibrated
from committee.rule.cascade import Cascade
from committee.rule.combinations import combined
from committee.rule.outputs import Outputs
from committee.rule.scores import score


@dataclass(frozen=True)
class Request:
    """Run these models on these samples.

    Args:
        stage: Index of the stage, from 0.
        models: Names of the models to run.
        rows: Indices of the samples, shape (n,), rising.
    """

    stage: int
    models: tuple[str, ...]
    rows: Array


@dataclass(frozen=True, eq=False, repr=False)
class Decisions:
    """What a cascade decided for N samples.

    Args:
        predicted: Class index, shape (N,); of tiles of pixels (N, height, width).
        score: Confidence of the combination at the exit, shape (N,), float64.
        stage: Stage of exit, from 0, shape (N,).
    """

    predicted: Array
    score: Array
    stage: Array

    def __repr__(self) -> str:
        """How many samples exit at each stage."""
        exits = ", ".join(f"{count:,}" for count in np.bincount(self.stage).tolist())
        return f"<Decisions: {len(self.stage):,} samples; exits by stage {exits or 'none'}>"


Answers = Mapping[str, Outputs]
Flow = Generator[Request, Answers, Decisions]


@overload
def exits(scores: float, threshold: float) -> bool: ...
@overload
def exits(scores: Array, threshold: float) -> Array: ...
def exits(scores: float | Array, threshold: float) -> bool | Array:
    """The exit rule: a sample leaves at a stage when its score reaches the stage's threshold."""
    return scores >= threshold


def judged(outputs: Answers, combine: str, confidence: str) -> tuple[Array, Array]:
    """Combine the outputs of the models that ran, oldest first.

    Returns:
        Predicted class (n,) and score (n,) of the combination.
    """
    combination = combined(outputs, combine)
    return combination.predicted(), score(combination, confidence)


def decide(cascade: Cascade, samples: int) -> Flow:
    """Decide for ``samples`` samples; see the module's text for how it is driven.

    Outputs that come in are calibrated here, so that no driver has to.

    Args:
        cascade: The rule.
        samples: How many samples there are; requests name them 0 … samples - 1.

    Yields:
        Requests; each is to be answered with the outputs of the models asked for, by name, their
        rows in the order of ``request.rows``.

    Returns:
        The decisions, in the order of the samples.
    """
    made: Decisions | None = None
    rows = np.arange(samples)
    ran: dict[str, Outputs] = {}
    for index, stage in enumerate(cascade.stages):
        if not len(rows):
            break
        answers = yield Request(index, stage.models, rows)
        own = {name: answers[name] for name in stage.models}
        ran.update(calibrated(own, cascade.calibrations) if cascade.calibrations else own)
        # A cascade that no pool or runner has bound: what the first outputs imply.
        cascade = cascade.of_kinds({outputs.kind for outputs in own.values()})
        classes, certainty = judged(ran, cascade.combination, cascade.confidence)
        leaving = exits(certainty, stage.threshold)
        count = np.count_nonzero(leaving)
        if not count:
            continue
        if count == samples:
            # All leave together, as a single sample does: nothing has to be picked or put in place.
            return Decisions(
                classes, np.asarray(certainty, np.float64), np.full(samples, index, np.int64)
            )
        made = made or no_decisions(samples, classes)
        out = rows[leaving]
        made.predicted[out], made.score[out] = classes[leaving], certainty[leaving]
        made.stage[out] = index
        staying = ~leaving
        rows = rows[staying]
        if len(rows):
            ran = {name: outputs.rows(staying) for name, outputs in ran.items()}
    return made or no_decisions(samples)


def no_decisions(samples: int, like: Array | None = None) -> Decisions:
    """Room for the decisions on N samples, all zero.

    Args:
        samples: N.
        like: Predicted classes of some samples; of tiles of pixels a sample has many.
    """
    predicted = np.zeros(samples, np.int64)
    if like is not None and like.ndim > 1:
        predicted = np.zeros((samples, *like.shape[1:]), like.dtype)
    return Decisions(predicted, np.zeros(samples, np.float64), np.zeros(samples, np.int64))


def joined_decisions(parts: Sequence[Decisions]) -> Decisions:
    """The decisions for consecutive samples as one; no parts are those for no samples."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return no_decisions(0)
    return Decisions(
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.stage for part in parts]),
    )


def drive(flow: Flow, answer: Callable[[Request], Answers]) -> Decisions:
    """Run a flow to its end, answering each request."""
    try:
        request = next(flow)
        while True:
            request = flow.send(answer(request))
    except StopIteration as end:
        decisions: Decisions = end.value
        return decisions
