"""Hypothesis strategies for small pools in which ties and edge cases are the rule."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import strategies as st

from committee import Calibration, Pool
from committee.arrays import Array

CONFIDENCES = ("max_prob", "logit_gap", "prob_gap", "neg_entropy")
AGREEMENTS = ("agreement", "ranked_agreement")
COMBINES = {
    "logits": ("mean_logits", "mean_probabilities", "last", "vote"),
    "probabilities": ("mean_probabilities", "last", "vote"),
    "decisions": ("last", "vote"),
}
# Every rule that a pool of each kind allows; decisions bring their own confidence, or agree.
RULES = [
    (kind, combine, confidence)
    for kind, combines in COMBINES.items()
    for combine in combines
    for confidence in (*(CONFIDENCES if kind != "decisions" else ("max_prob",)), *AGREEMENTS)
]
NAMES = "abcde"


@cache
def matrices(samples: int, classes: int, values: tuple[float, ...]) -> st.SearchStrategy[Array]:
    """Matrices (samples, classes), simplest value first; often every row is the same.

    One draw of bytes for all entries: a draw each would take most of the time of these tests.
    """

    def read(drawn: bytes) -> Array:
        rows = np.frombuffer(drawn, np.uint8).reshape(-1, classes) % len(values)
        return np.array(values)[np.resize(rows, (samples, classes))]

    varied = st.binary(min_size=samples * classes, max_size=samples * classes)
    constant = st.binary(min_size=classes, max_size=classes)
    return st.one_of(varied, varied, constant).map(read)


@cache
def logits(samples: int, classes: int) -> st.SearchStrategy[Array]:
    """Small integers, so that ties are common and means of two are exact."""
    return matrices(samples, classes, (0, 1, -1, 2, -2)).map(np.float32)


@cache
def probabilities(samples: int, classes: int) -> st.SearchStrategy[Array]:
    """Distributions with zeros, ones and ties."""

    def normalised(weights: Array) -> Array:
        weights[:, 0] += weights.sum(axis=1) == 0
        return weights / weights.sum(axis=1, keepdims=True)

    return matrices(samples, classes, (0, 1, 2, 3)).map(normalised)


@cache
def decisions(samples: int, classes: int) -> st.SearchStrategy[tuple[Array, Array]]:
    """Predicted classes with one of few confidences."""
    predicted = matrices(samples, 1, tuple(range(classes))).map(np.ravel)
    confidence = matrices(samples, 1, (-1.0, 0.0, 0.25, 0.5)).map(np.ravel)
    return st.tuples(predicted, confidence)


OUTPUTS = {"logits": logits, "probabilities": probabilities, "decisions": decisions}


@st.composite
def pools(
    draw: st.DrawFn,
    kind: str | None = None,
    max_models: int = 3,
    max_samples: int = 6,
    max_classes: int = 3,
) -> Pool:
    """Labelled pools of models ``a``, ``b``, … with integer costs: comparisons are exact."""
    kind = kind or draw(st.sampled_from(tuple(OUTPUTS)))
    samples = draw(st.integers(1, max_samples))
    classes = draw(st.integers(1, max_classes))
    names = NAMES[: draw(st.integers(1, max_models))]
    labels = draw(matrices(samples, 1, tuple(range(classes)))).ravel()
    return Pool.from_arrays(
        labels,
        {name: draw(OUTPUTS[kind](samples, classes)) for name in names},
        kind=kind,
        # Few values from 0, so that equal costs and free models are common.
        costs=dict(
            zip(names, draw(matrices(1, len(names), (0, 1, 2, 3, 4)))[0].tolist(), strict=True)
        ),
    )


@st.composite
def calibrations(draw: st.DrawFn, kind: str) -> Calibration:
    """Temperatures, and rising functions of up to three pieces."""
    slopes = st.floats(0.1, 8)
    if kind != "decisions" and draw(st.booleans()):
        return Calibration.of_temperature(draw(st.one_of(st.just(1.0), slopes)))
    knots = sorted(draw(st.sets(st.sampled_from([-3.0, -1.0, -0.25, 0.0, 0.25]), max_size=2)))
    some = [draw(slopes) for _ in range(len(knots) + 1)]
    return Calibration("platt", tuple(some), tuple(knots), draw(st.floats(-2, 2)))


@st.composite
def calibrated_pools(draw: st.DrawFn, kind: str | None = None, **limits: int) -> Pool:
    """Pools of which some models, or all, have calibrations."""
    pool = draw(pools(kind, **limits))
    some = draw(st.sets(st.sampled_from(pool.names), min_size=1))
    return pool.with_calibrations({name: draw(calibrations(pool.kind)) for name in sorted(some)})


def random_pool(seed: int, models: int, samples: int, classes: int = 3) -> Pool:
    """A pool of real-valued logits, in which dearer models are more often right."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, samples)
    noise = [3.0 / (i + 1) + 0.5 for i in range(models)]
    truth = 2 * np.eye(classes)[labels]
    return Pool.from_arrays(
        labels,
        {
            name: truth + random.normal(0, spread, truth.shape)
            for name, spread in zip(NAMES, noise, strict=False)
        },
        kind="logits",
        costs={name: int(random.integers(1, 4)) * 2**i for i, name in enumerate(NAMES[:models])},
    )
