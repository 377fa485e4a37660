"""A dumb oracle: every cascade of a pool, tried sample by sample in plain Python.

It shares with the library the stored outputs, the candidate thresholds (tested on their own against
NumPy's percentiles) and nothing else. Exponentials and logarithms are NumPy's scalar ones, so that
scores which are equal here are equal there; sums run from left to right, which is NumPy's order for
fewer than eight classes. Costs are to be integers: totals are then exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from committee import Cascade, Pool
from committee.selection.statistics import _percentile_thresholds

Row = list[float]
Stages = Sequence[tuple[Sequence[str], float]]


@dataclass(frozen=True)
class Tried:
    """One cascade and its exact figures; costs are totals over samples."""

    stages: Stages
    correct: int
    cost: int
    worst_case: int
    leaving: tuple[int, ...]


def softmax(logits: Row) -> Row:
    exponentials = [np.exp(np.float64(x) - max(logits)) for x in logits]
    total = exponentials[0]
    for other in exponentials[1:]:
        total = total + other
    return [x / total for x in exponentials]


def argmax(row: Row) -> int:
    best = 0
    for index, value in enumerate(row):
        if value > row[best]:
            best = index
    return best


def mean(rows: list[Row]) -> Row:
    total = rows[0]
    for row in rows[1:]:
        total = [x + y for x, y in zip(total, row, strict=True)]
    return [x / len(rows) for x in total]


def certainty(row: Row, kind: str, confidence: str) -> float:
    if confidence == "logit_gap":
        return _log_gap(row) if kind == "probabilities" else _gap(row, _SUREST)
    probabilities = row if kind == "probabilities" else softmax(row)
    if confidence == "max_prob":
        return max(probabilities)
    if confidence == "prob_gap":
        return _gap(probabilities, max(probabilities))
    assert confidence == "neg_entropy"
    total = 0.0
    for p in probabilities:
        total = total + (p * np.log(np.float64(p)) if p > 0 else 0.0)
    return total


_SUREST = float(np.finfo(np.float32).max)


def _gap(row: Row, alone: float) -> float:
    ranked = sorted(row, reverse=True)
    return ranked[0] - ranked[1] if len(row) > 1 else alone


def _log_gap(row: Row) -> float:
    ranked = sorted(row, reverse=True)
    if len(row) == 1 or ranked[1] == 0:
        return _SUREST
    return np.log(np.float64(ranked[0])) - np.log(np.float64(ranked[1]))


def voted(named: list[int]) -> int:
    """The class named most often; among equals the newest's, or the lowest."""
    most = [own for own in named if named.count(own) == max(map(named.count, named))]
    return named[-1] if named[-1] in most else min(most)


class Oracle:
    """Tries cascades on one pool under one rule."""

    def __init__(self, pool: Pool, combine: str, confidence: str, grid: int) -> None:
        self.pool = pool
        self.combine = combine
        self.confidence = confidence
        self.grid = grid
        self.labels = [int(label) for label in pool.samples.labels]
        self.costs = {name: int(each["macs"].value) for name, each in pool.costs.costs.items()}
        self._judged: dict[tuple[str, ...], list[tuple[int, float]]] = {}

    def judge(self, models: tuple[str, ...]) -> list[tuple[int, float]]:
        """Predicted class and score of every sample after these models, oldest first."""
        if models not in self._judged:
            self._judged[models] = [self._sample(models, i) for i in range(len(self.labels))]
        return self._judged[models]

    def _sample(self, models: tuple[str, ...], sample: int) -> tuple[int, float]:
        agree = self.confidence in ("agreement", "ranked_agreement")
        base = "max_prob" if agree else self.confidence
        own = {name: self._alone(name, sample, base) for name in models}
        if self.combine == "last":
            answer, score = own[models[-1]]
        elif self.combine == "vote":
            answer = voted([own[name][0] for name in models])
            score = self._of_voters(own, answer)
        else:
            answer, score = self._mean(models, sample, base)
        if not agree:
            return answer, score
        votes = float(sum(named == answer for named, _ in own.values()))
        if self.confidence == "agreement":
            return answer, votes / len(models)
        rank = (score / (abs(score) + 1) + 1) / 2
        return answer, (votes + rank) / (len(models) + 1)

    def _alone(self, name: str, sample: int, confidence: str) -> tuple[int, float]:
        outputs = self.pool.outputs[name]
        if outputs.kind == "decisions":
            return int(outputs.values[sample]), float(outputs.confidence[sample])
        row = [float(x) for x in outputs.values[sample]]
        return argmax(row), certainty(row, outputs.kind, confidence)

    def _of_voters(self, own: dict[str, tuple[int, float]], answer: int) -> float:
        """The mean score of the models that name the answer, in the order of their names."""
        voters = [own[name][1] for name in sorted(own) if own[name][0] == answer]
        return sum(score * (1 / len(voters)) for score in voters)

    def _mean(self, models: tuple[str, ...], sample: int, confidence: str) -> tuple[int, float]:
        kind = self.pool.kind
        rows = [
            [float(x) for x in self.pool.outputs[name].values[sample]] for name in sorted(models)
        ]
        if self.combine == "mean_logits":
            row = mean(rows)
        else:
            row = mean(rows if kind == "probabilities" else [softmax(each) for each in rows])
            kind = "probabilities"
        return argmax(row), certainty(row, kind, confidence)

    def attempt(self, stages: Stages) -> Tried:
        """Run every sample through the stages, one after another."""
        correct = cost = spent = 0
        leaving = [0] * len(stages)
        ran: tuple[str, ...] = ()
        steps = []
        for models, threshold in stages:
            ran += tuple(models)
            spent += sum(self.costs[name] for name in models)
            steps.append((self.judge(ran), threshold, spent))
        for sample, label in enumerate(self.labels):
            for index, (judged, threshold, paid) in enumerate(steps):
                predicted, score = judged[sample]
                if score >= threshold or index == len(stages) - 1:
                    correct += predicted == label
                    cost += paid
                    leaving[index] += 1
                    break
        return Tried(stages, correct, cost, spent, tuple(leaving))

    def run(self, cascade: Cascade) -> Tried:
        return self.attempt([(stage.models, stage.threshold) for stage in cascade.stages])

    def every(self, max_models: int) -> Iterator[Tried]:
        """Every ordered sequence of distinct models with every vector of thresholds."""
        for size in range(1, max_models + 1):
            for sequence in itertools.permutations(self.pool.names, size):
                choices = [self._choices(sequence[:k]) for k in range(1, size)]
                for thresholds in itertools.product(*choices):
                    models = [(name,) for name in sequence]
                    yield self.attempt(list(zip(models, [*thresholds, -math.inf], strict=True)))

    def _choices(self, prefix: tuple[str, ...]) -> list[float]:
        scores = np.array([score for _, score in self.judge(prefix)], np.float64)
        return [-math.inf, *_percentile_thresholds(scores, self.grid).tolist(), math.inf]


def beats(one: Tried, other: Tried) -> bool:
    """Whether one is no worse in cost and accuracy, and better in either."""
    no_worse = one.cost <= other.cost and one.correct >= other.correct
    return no_worse and (one.cost < other.cost or one.correct > other.correct)


def front(tried: list[Tried]) -> set[tuple[int, int]]:
    """(total cost, correct) of the cascades that no other beats."""
    figures = {(t.cost, t.correct): t for t in tried}
    return {
        pair
        for pair, one in figures.items()
        if not any(beats(other, one) for other in figures.values())
    }


def cheapest(tried: list[Tried], correct: float) -> tuple[int, int] | None:
    """(total cost, correct) of the cheapest with at least so many correct, of these the best."""
    enough = [t for t in tried if t.correct >= correct]
    return min(((t.cost, -t.correct) for t in enough), default=None)


def most_accurate(tried: list[Tried], cost: float) -> tuple[int, int] | None:
    """(correct, total cost) of the most accurate for at most this cost, of these the cheapest."""
    within = [t for t in tried if t.cost <= cost]
    return max(((t.correct, -t.cost) for t in within), default=None)
