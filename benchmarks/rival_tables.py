"""What models say on samples, and plans that decide from it: what rivals choose among.

A method yields candidates: plans with their cost and accuracy on the samples that choose.
:func:`front` keeps those that no other beats. :func:`decided` runs a plan on any table, so that all
methods are evaluated alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

import committee as cm
from committee.selection.front import undominated


@dataclass(frozen=True, eq=False)
class Table:
    """What M models say on N samples of C classes.

    For decisions, of which only a class and its probability are known, the C = M classes of a
    sample are those that the models name: class i is the one that model i was the first to name.

    Args:
        costs: Cost of each model, shape (M,).
        labels: Class of each sample, -1 if no model names it, shape (N,).
        outputs: Logits, or for decisions probabilities, shape (M, C, N).
        probabilities: Shape (M, C, N).
    """

    costs: np.ndarray
    labels: np.ndarray
    outputs: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def of(cls, pool: cm.Pool, unit: str) -> Table:
        """Return what the models of a pool say."""
        costs = np.array([pool.prices(unit)[name] for name in pool.names])
        labels, every = pool.samples.labels, [pool.model(name) for name in pool.names]
        if pool.kind != "decisions":
            outputs = np.stack([own.values.T for own in every]).astype(np.float32)
            return cls(
                costs, labels, outputs, softmax(outputs) if pool.kind == "logits" else outputs
            )
        classes = np.stack([own.values for own in every])
        first = (classes[:, None] == classes[None]).argmax(axis=1)
        named = classes == labels
        outputs = np.zeros((len(costs), len(costs), len(labels)), np.float32)
        confidence = np.stack([own.confidence for own in every]).astype(np.float32)
        np.put_along_axis(outputs, first[:, None], confidence[:, None], axis=1)
        return cls(costs, np.where(named.any(axis=0), named.argmax(axis=0), -1), outputs, outputs)

    def rows(self, rows: np.ndarray) -> Table:
        """Return some of the samples."""
        outputs = np.ascontiguousarray(self.outputs[..., rows])
        same = self.probabilities is self.outputs
        own = outputs if same else np.ascontiguousarray(self.probabilities[..., rows])
        return Table(self.costs, self.labels[rows], outputs, own)

    @cached_property
    def classes(self) -> np.ndarray:
        """The class that each model names, shape (M, N)."""
        return self.probabilities.argmax(axis=1)

    @cached_property
    def scores(self) -> np.ndarray:
        """Its probability, shape (M, N)."""
        return self.probabilities.max(axis=1)

    @cached_property
    def correct(self) -> np.ndarray:
        """True where the class is right, shape (M, N)."""
        return self.classes == self.labels

    @cached_property
    def named(self) -> np.ndarray:
        """The probability by model j of the class that model i names, shape (M, M, N) by i, j."""
        each = [np.take_along_axis(own, self.classes, axis=0) for own in self.probabilities]
        return np.stack(each, axis=1)

    def share_correct(self, outputs: np.ndarray) -> float:
        """Return the accuracy of outputs, shape (C, N)."""
        own = outputs[self.labels, np.arange(len(self.labels))]
        return float(((own >= outputs.max(axis=0)) & (self.labels >= 0)).mean())


@dataclass(frozen=True)
class Plan:
    """An ensemble or a cascade; a sample exits when the score of a stage reaches its threshold.

    Args:
        stages: Numbers of the models that run at each stage.
        thresholds: Of all stages but the last.
        rule: Name of what decides, one of :data:`RULES`.
        weights: Of the models of an ensemble; empty if they are equal.
    """

    stages: tuple[tuple[int, ...], ...]
    thresholds: tuple[float, ...] = ()
    rule: str = "last"
    weights: tuple[float, ...] = ()

    @classmethod
    def of(cls, cascade: cm.Cascade, pool: cm.Pool) -> Plan:
        """Return the plan of a cascade of ours, by the usual confidence."""
        assert cascade.confidence == "max_prob", cascade.confidence
        numbers = {name: number for number, name in enumerate(pool.names)}
        stages = tuple(tuple(numbers[name] for name in stage.models) for stage in cascade.stages)
        last_only = "last" in (cascade.combine, pool.bound(cascade).combination)
        return cls(stages, tuple(cascade.thresholds), "last" if last_only else "mean")


class Candidate(NamedTuple):
    """A plan with its average cost and its accuracy on the samples that choose."""

    cost: float
    accuracy: float
    plan: Plan


Candidates = Iterable[Candidate]
Decision = tuple[np.ndarray, np.ndarray]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, over the last axis but one."""
    powers = np.exp(logits - logits.max(axis=-2, keepdims=True))
    return powers / powers.sum(axis=-2, keepdims=True)


def last(table: Table, models: Sequence[int], rows: np.ndarray) -> Decision:
    """Return the newest model's class and its probability."""
    return table.classes[models[-1]][rows], table.scores[models[-1]][rows]


def mean(table: Table, models: Sequence[int], rows: np.ndarray) -> Decision:
    """Return the class with the largest mean, and its probability."""
    own = sum(table.outputs[model][:, rows].astype(np.float64) for model in models) / len(models)
    scores = own if table.outputs is table.probabilities else softmax(own)
    return own.argmax(axis=0), scores.max(axis=0)


def vote(table: Table, models: Sequence[int], rows: np.ndarray) -> Decision:
    """Return the class that most models name, ties by their probability, and its share."""
    classes, votes, _ = voted(table, models, rows)
    return classes, votes


def vote_score(table: Table, models: Sequence[int], rows: np.ndarray) -> Decision:
    """Return the class that most models name, and their mean probability of it."""
    classes, _, probability = voted(table, models, rows)
    return classes, probability


def voted(
    table: Table, models: Sequence[int], rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the class that most models name, the share that do, and its mean probability."""
    classes = np.stack([table.classes[model][rows] for model in models])
    votes = (classes[:, None] == classes).mean(axis=1)
    probability = np.stack(
        [sum(table.named[i, j][rows] for j in models) / len(models) for i in models]
    )
    # A probability is at most 1, and one vote is at least 1 / M.
    chosen = (votes + probability / (2 * len(models))).argmax(axis=0)[None]
    taken = (np.take_along_axis(own, chosen, axis=0)[0] for own in (classes, votes, probability))
    return tuple(taken)


RULES = {"last": last, "mean": mean, "vote": vote, "vote score": vote_score}
# Their tiers decide by themselves; those of "mean" by all models that ran.
OWN_TIER = ("vote", "vote score")


def decided(plan: Plan, table: Table) -> Decision:
    """Return for each sample whether a plan is correct, and what it costs."""
    rows = np.arange(len(table.labels))
    correct, cost = np.zeros(len(rows), bool), np.zeros(len(rows))
    models: tuple[int, ...] = ()
    for stage, threshold in zip(plan.stages, (*plan.thresholds, -np.inf), strict=True):
        models = stage if plan.rule in OWN_TIER else models + stage
        cost[rows] += table.costs[list(stage)].sum()
        if plan.weights:
            parts = zip(plan.weights, table.probabilities[list(stage)], strict=True)
            classes = sum(weight * own for weight, own in parts).argmax(axis=0)
            scores = np.zeros(len(rows))
        else:
            classes, scores = RULES[plan.rule](table, models, rows)
        exits = scores >= threshold
        correct[rows[exits]] = classes[exits] == table.labels[rows[exits]]
        rows = rows[~exits]
    return correct, cost


def measured(plan: Plan, table: Table) -> Candidate:
    """Return a plan with its cost and accuracy on a table."""
    correct, cost = decided(plan, table)
    return Candidate(cost.mean(), correct.mean(), plan)


def front(candidates: Candidates) -> list[Candidate]:
    """Return the candidates that no other beats in cost and accuracy, cheapest first."""
    every = list(candidates)
    cost, accuracy = (np.array([own[place] for own in every]) for place in (0, 1))
    return [every[number] for number in undominated(cost, accuracy)]


def single_models(table: Table) -> Iterator[Candidate]:
    """Yield every model alone."""
    for model, correct in enumerate(table.correct):
        yield Candidate(table.costs[model], correct.mean(), Plan(((model,),)))


def levels(scores: np.ndarray, grid: int) -> Decision:
    """Return thresholds, percentiles of some scores, and how many of them each score reaches."""
    thresholds = np.unique(np.quantile(scores, np.arange(1, grid) / grid, method="higher"))
    return thresholds, np.searchsorted(thresholds, scores, side="right")
