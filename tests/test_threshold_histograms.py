"""Threshold histograms: their counts give the figures of every vector of candidates."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import committee as cm
from committee.calibration.fitting import fit_calibrations
from committee.selection.threshold_histograms import ThresholdHistogram, threshold_histograms


def pools(kind: str, seed: int, samples: int = 60, ties: bool = False) -> tuple[cm.Pool, cm.Pool]:
    """Four models of rising strength on two splits; their scores may tie."""
    rng = np.random.default_rng(seed)
    both = []
    for split in ("val", "test"):
        labels = rng.integers(0, 3, samples)
        outputs: dict[str, Any] = {}
        for number, name in enumerate("abcd"):
            logits = rng.normal(size=(samples, 3)) + (0.6 + 0.5 * number) * np.eye(3)[labels]
            logits = np.round(logits) if ties else logits
            shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            outputs[name] = {
                "logits": logits,
                "probabilities": shares,
                "decisions": (logits.argmax(axis=1), shares.max(axis=1)),
            }[kind]
        costs = {name: float(3**number) for number, name in enumerate("abcd")}
        ids = [f"{split}{i}" for i in range(samples)]
        both.append(
            cm.Pool.from_arrays(labels, outputs, kind=kind, costs=costs, ids=ids, split=split)
        )
    return both[0], both[1]


def figures(own: ThresholdHistogram, choices: tuple[int, ...]) -> tuple[list[int], int]:
    """Return how many samples exit at each stage and how many are correct, from the counts."""
    exits, correct = [0] * len(own.stages), 0
    for passed, count, corrects in zip(own.passed, own.count, own.correct, strict=True):
        reached = [p >= c for p, c in zip(passed, choices, strict=True)]
        stage = reached.index(True) if any(reached) else len(reached)
        exits[stage] += int(count)
        correct += int(corrects[stage])
    return exits, correct


def thresholds(own: ThresholdHistogram, choices: tuple[int, ...]) -> list[float]:
    return [
        float(np.concatenate([[-np.inf], column, [np.inf]])[choice])
        for column, choice in zip(own.thresholds, choices, strict=True)
    ]


@settings(max_examples=12)
@given(
    st.sampled_from(["logits", "probabilities", "decisions"]),
    st.integers(0, 10**6),
    st.booleans(),
    st.data(),
)
def test_counts_are_evaluate_at_every_vector(kind: str, seed: int, ties: bool, data: Any) -> None:
    val, test = pools(kind, seed, ties=ties)
    front = cm.search(val, 4, grid=3, threads=1)
    histograms = threshold_histograms(front, test, threads=1)
    own = {c.cascade.models_of_stages: c.cascade for c in front if len(c.cascade.stages) > 1}
    assert set(histograms) == set(own)
    for member in front:
        for number, threshold in enumerate(member.cascade.thresholds):
            assert threshold in histograms[member.cascade.models_of_stages].thresholds[number]
    for stages, each in histograms.items():
        assert each.count.sum() == len(test)
        every = list(itertools.product(*(range(len(c) + 2) for c in each.thresholds)))
        for choices in data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=8)):
            cascade = cm.Cascade.of(
                stages, thresholds(each, choices), own[stages].confidence, own[stages].combine
            )
            evaluation = cm.evaluate(cascade, test)
            exits, correct = figures(each, choices)
            assert correct == evaluation.correct
            assert [n / len(test) for n in exits] == list(evaluation.exit_ratios)


def test_calibrations_of_the_front_are_applied() -> None:
    val, test = pools("logits", 3, samples=200)
    val = val.with_calibrations(fit_calibrations(val))
    front = cm.search(val, 2, grid=20, threads=1)
    histograms = threshold_histograms(front, test, threads=1)
    assert histograms
    for stages, each in histograms.items():
        cascade = next(c.cascade for c in front if c.cascade.models_of_stages == stages)
        assert cascade.calibrations
        choice = int(np.searchsorted(each.thresholds[0], cascade.thresholds[0])) + 1
        exits, correct = figures(each, (choice,))
        evaluation = cm.evaluate(cascade, test)
        assert (correct, exits[0] / len(test)) == (evaluation.correct, evaluation.exit_ratios[0])


def test_long_cascades_have_few_candidates_beside_their_own() -> None:
    val, test = pools("logits", 1, samples=400)
    front = cm.search(val, 4, threads=1)
    long = {s: m for s, m in threshold_histograms(front, test).items() if len(s) == 4}
    assert long
    for stages, each in long.items():
        own = [c.cascade.thresholds for c in front if c.cascade.models_of_stages == stages]
        for column, values in zip(each.thresholds, zip(*own, strict=True), strict=True):
            assert len(column) <= 20 + len(set(values))


def test_scores_that_are_not_counted_have_no_counts() -> None:
    val, test = pools("logits", 2)
    front = cm.search(val, 2, grid=5, metric=cm.weighted(np.arange(len(val)) + 0.5))
    assert threshold_histograms(front, test) == {}
