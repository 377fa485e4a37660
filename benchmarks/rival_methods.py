"""Published ways to choose ensembles and cascades, each stated in a few lines, beside ours.

Every method may also choose a single model.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from importlib.util import find_spec

import numpy as np

import committee as cm
from committee.selection.front import undominated
from rival_tables import (
    OWN_TIER,
    Candidate,
    Decision,
    Plan,
    Table,
    front,
    levels,
    measured,
    single_models,
    voted,
)

# Percentiles tried for each threshold; ours has as many.
GRID = 100
# FrugalGPT's code tries so many quantiles for each threshold.
FRUGAL_GRID = 40
# Models of an ensemble or a chain.
MOST = 3
# Costs for which a greedy ensemble is built, and its rounds; AutoGluon's default are 25.
BUDGETS = 30
ROUNDS = 25
# Goals of Streeter's greedy cascades, as shares of what a reference has correct.
SHARES = (0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 1.0)


def ensembles(table: Table) -> Iterator[Candidate]:
    """Yield the mean of every set of up to three models."""
    yield from single_models(table)
    for models in sets_of_models(table):
        accuracy = table.share_correct(sum(table.outputs[model] for model in models))
        yield Candidate(table.costs[list(models)].sum(), accuracy, Plan((models,), rule="mean"))


def sets_of_models(table: Table) -> Iterator[tuple[int, ...]]:
    """Yield every set of two or three models."""
    sizes = range(2, min(MOST, len(table.costs)) + 1)
    for size in sizes:
        yield from itertools.combinations(range(len(table.costs)), size)


def best_singles(table: Table) -> list[int]:
    """Return the models that no other beats in cost and accuracy, cheapest first."""
    return [own.plan.stages[0][0] for own in front(single_models(table))]


def two_stages(
    table: Table, cost: float, first: Decision, later: Collection[int], make: Callable[..., Plan]
) -> Iterator[Candidate]:
    """Yield the cascades of a first stage and each of some models, by the first's threshold.

    Args:
        table: The samples that choose.
        cost: Of the first stage.
        first: Whether it is correct on each sample, and its score.
        later: Numbers of the models that may be second.
        make: Called with the second model and the threshold.
    """
    correct, scores = first
    thresholds, reached = levels(scores, GRID)
    size, samples = len(thresholds) + 1, len(scores)
    # Those that reach threshold i exit: they reach i + 1 or more of them.
    exits = np.bincount(reached, correct, size)[::-1].cumsum()[::-1][1:]
    goes_on = np.bincount(reached, minlength=size).cumsum()[:-1] / samples
    for model in later:
        rest = np.bincount(reached, table.correct[model], size).cumsum()[:-1]
        costs, accuracies = cost + goes_on * table.costs[model], (exits + rest) / samples
        for i in undominated(costs, accuracies):
            yield Candidate(costs[i], accuracies[i], make(model, float(thresholds[i])))


def two_models(table: Table) -> Iterator[Candidate]:
    """Yield cascades of two models; the last output decides, by the probability of its class.

    References:
        Lebovitz, Cavigelli, Magno, Muller (2023), Efficient inference with model cascades, TMLR.
    """
    yield from single_models(table)
    for a, first in enumerate(zip(table.correct, table.scores, strict=True)):

        def make(b: int, threshold: float, a: int = a) -> Plan:
            return Plan(((a,), (b,)), (threshold,))

        later = [b for b in range(len(table.costs)) if b != a]
        yield from two_stages(table, table.costs[a], first, later, make)


def agreement(table: Table) -> Iterator[Candidate]:
    """Yield cascades of a small ensemble, which decides if its models agree, and one model.

    Both rules of the paper are tried: the share of the votes, and the mean probability of the class
    with most votes. The first tier is any two or three models, which all cost; the second is any
    other single model that no other beats.

    References:
        Kolawole, Dennis, Talwalkar, Smith (2024), Agreement-based cascading for efficient
        inference, arXiv 2407.02348.
    """
    yield from single_models(table)
    every, singles = np.arange(len(table.labels)), best_singles(table)
    for models in sets_of_models(table):
        later = [b for b in singles if b not in models]
        classes, *scores = voted(table, models, every)
        for rule, score in zip(OWN_TIER, scores, strict=True):

            def make(b: int, threshold: float, models: tuple = models, rule: str = rule) -> Plan:
                return Plan((models, (b,)), (threshold,), rule)

            cost, first = table.costs[list(models)].sum(), (classes == table.labels, score)
            yield from two_stages(table, cost, first, later, make)


def frugal(table: Table) -> Iterator[Candidate]:
    """Yield chains of up to three models, cheapest first, with thresholds from a grid.

    The original scores a text by a trained network, tries 40 quantiles for each threshold, keeps
    the best within a budget and polishes it by a simplex; here the score is the model's own. As
    the grid is tried in full, one pass has the best chain for every budget.

    References:
        Chen, Zaharia, Zou (2023), FrugalGPT, arXiv 2305.05176; optimizer.py of its repository.
    """
    yield from two_models(table)
    correct, samples = table.correct, len(table.labels)
    grids = [levels(scores, FRUGAL_GRID) for scores in table.scores]
    order = np.argsort(table.costs, kind="stable").tolist()
    for a, b in itertools.combinations(order, 2):
        (first, reached), (second, also) = grids[a], grids[b]
        shape = (len(first) + 1, len(second) + 1)
        cell = reached * shape[1] + also

        def counted(
            weights: np.ndarray | None, cell: np.ndarray = cell, shape: tuple = shape
        ) -> np.ndarray:
            return np.bincount(cell, weights, shape[0] * shape[1]).reshape(shape)

        # Row i, column j: those that reach i thresholds of a and j of b.
        gone = counted(correct[a]).sum(1)[::-1].cumsum()[::-1][1:, None]
        stops = counted(correct[b]).cumsum(0)[:-1, ::-1].cumsum(1)[:, ::-1][:, 1:]
        on = counted(None).cumsum(0).cumsum(1)[:-1]
        pair_cost = table.costs[a] + table.costs[b] * on[:, -1:] / samples
        for c in order[order.index(b) + 1 :]:
            rest = counted(correct[c]).cumsum(0).cumsum(1)[:-1, :-1]
            costs = (pair_cost + table.costs[c] * on[:, :-1] / samples).ravel()
            accuracies = ((gone + stops + rest) / samples).ravel()
            for place in undominated(costs, accuracies):
                i, j = divmod(int(place), len(second))
                thresholds = (float(first[i]), float(second[j]))
                yield Candidate(
                    costs[place], accuracies[place], Plan(((a,), (b,), (c,)), thresholds)
                )


def greedy_weights(table: Table, limit: float) -> Plan:
    """Return a weighted ensemble that costs at most a limit, built greedily with replacement.

    Each round adds the model that makes the sum of probabilities most accurate, among those with
    which the ensemble keeps to the limit. The best round is kept.

    References:
        Caruana, Niculescu-Mizil, Crew, Ksikes (2004), Ensemble selection from libraries of models;
        AutoGluon's weighted ensembles are built so, under ``infer_limit``.
    """
    every, sums = table.probabilities, np.zeros(table.probabilities.shape[1:], np.float32)
    counts = np.zeros(len(table.costs), int)
    best, weights = -1.0, counts
    for _ in range(ROUNDS):
        spent = table.costs[counts > 0].sum()
        fits = (counts > 0) | (spent + table.costs <= limit * (1 + 1e-12))
        offers = {m: table.share_correct(sums + every[m]) for m in np.flatnonzero(fits).tolist()}
        chosen = max(offers, key=offers.__getitem__)
        counts[chosen] += 1
        sums += every[chosen]
        if offers[chosen] > best:
            best, weights = offers[chosen], counts.copy()
    used = np.flatnonzero(weights).tolist()
    return Plan((tuple(used),), rule="mean", weights=tuple(weights[used].tolist()))


def weighted_ensembles(table: Table) -> Iterator[Candidate]:
    """Yield greedy weighted ensembles for rising limits of cost."""
    yield from single_models(table)
    for limit in np.geomspace(table.costs.min(), 2 * table.costs.max(), BUDGETS):
        yield measured(greedy_weights(table, limit), table)


def evolved(table: Table, seconds: float, seed: int) -> Iterator[Candidate]:
    """Yield what evolution finds in some seconds: up to three models, thresholds, and a rule.

    Two members of the archive of undominated plans are crossed gene by gene, a quarter of the
    genes mutate, and the child joins the archive if no member beats it. The original is a
    multi-objective GOMEA on GPUs, and averages what models gave; here ``last`` is a gene too.

    References:
        Chebykin, Alderliesten, Bosman (2022), Evolutionary neural cascade search across
        supernetworks, arXiv 2203.04011.
    """
    begun, rng, models = time.perf_counter(), np.random.default_rng(seed), len(table.costs)
    grids = [levels(scores, GRID)[0] for scores in table.scores]
    ranges = np.array([*[models + 1] * MOST, *[GRID] * (MOST - 1), 2])
    archive = list(single_models(table))
    genomes = {own.plan: np.array([own.plan.stages[0][0] + 1, 0, 0, 0, 0, 0]) for own in archive}
    while time.perf_counter() - begun < seconds:
        a, b = (genomes[archive[i].plan] for i in rng.integers(len(archive), size=2))
        child = np.where(rng.random(len(ranges)) < 0.5, a, b)
        child = np.where(rng.random(len(ranges)) < 0.25, rng.integers(ranges), child)
        plan = plan_of_genes(child, grids)
        if plan is None or plan in genomes:
            continue
        new = measured(plan, table)
        if not any(m.cost <= new.cost and m.accuracy >= new.accuracy for m in archive):
            archive = [m for m in archive if m.cost < new.cost or m.accuracy > new.accuracy]
            archive.append(new)
            genomes[plan] = child
    yield from archive


def plan_of_genes(genes: np.ndarray, grids: Sequence[np.ndarray]) -> Plan | None:
    """Return the plan of three models, two thresholds and a rule; None if there is none.

    Gene 0 of a model is none. A threshold is a percentile of the scores of the model before it.
    """
    levels_of = zip(genes[:MOST].tolist(), [*genes[MOST:-1].tolist(), 0], strict=True)
    chosen = [(gene - 1, level) for gene, level in levels_of if gene]
    numbers = [model for model, _ in chosen]
    if not numbers or len(set(numbers)) < len(numbers):
        return None
    thresholds = tuple(
        float(grids[model][min(level, len(grids[model]) - 1)]) for model, level in chosen[:-1]
    )
    return Plan(tuple((model,) for model in numbers), thresholds, ("mean", "last")[genes[-1]])


def streeter(pool: cm.Pool, unit: str, table: Table) -> Iterator[Candidate]:
    """Yield Streeter's greedy cascades as published, one for each reference and goal.

    References:
        Streeter (2018), Approximation algorithms for cascading prediction models, ICML; stated in
        :func:`committee.greedy`.
    """
    found = cm.greedy(pool, shares=SHARES, combine="last", unit=unit, threads=1)
    yield from single_models(table)
    yield from (measured(Plan.of(own.cascade, pool), table) for own in found)


def fallback(table: Table) -> Iterator[Candidate]:
    """Yield what ``skfb.ensemble.ThresholdCascadeClassifierCV`` finds for pairs of models.

    The package has no search over models: it gets every pair of single models that no other beats,
    cheapest first. It counts the cost of the stage that decides, so a second stage is given the
    cost of both. Its default of ten thresholds up to 0.95 is replaced by ten quantiles of the
    first model's scores. Its own cross-validation measures.

    References:
        https://pypi.org/project/scikit-fallback/ 0.2.0.
    """
    from skfb.ensemble import ThresholdCascadeClassifierCV

    yield from single_models(table)
    rows = np.arange(len(table.labels))[:, None]
    for a, b in itertools.combinations(best_singles(table), 2):
        own = ThresholdCascadeClassifierCV(
            [Stored(table, a), Stored(table, b)],
            costs=np.array([table.costs[a], table.costs[a] + table.costs[b]]),
            cv_thresholds=levels(table.scores[a], 11)[0],
            strategy="min_score",
        ).fit(rows, table.labels)
        figures = (own.mean_cv_costs_, own.mean_cv_scores_, own.all_cv_thresholds_)
        for cost, accuracy, (threshold,) in zip(*figures, strict=True):
            yield Candidate(cost, accuracy, Plan(((a,), (b,)), (float(threshold),)))


class Stored:
    """A fitted scikit-learn classifier whose answers are stored; a feature is the row."""

    _estimator_type = "classifier"

    def __init__(self, table: Table, model: int):
        self.table, self.model = table, model
        self.classes_ = np.arange(table.probabilities.shape[1])

    def __sklearn_clone__(self) -> Stored:
        return self

    def fit(self, rows: np.ndarray, labels: np.ndarray) -> Stored:
        """Return the classifier, which is fitted."""
        return self

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        """Return the probabilities of some samples."""
        return self.table.probabilities[self.model][:, rows[:, 0]].T


def ours(pool: cm.Pool, unit: str, most: int) -> Iterator[Candidate]:
    """Yield the exact fronts of our search by each combination that the outputs allow."""
    rules = ["last"] if pool.kind == "decisions" else ["mean_logits", "last"]
    for combine in rules:
        found = cm.search(pool, min(most, len(pool.names)), unit=unit, combine=combine, threads=1)
        for own in found:
            figures = own.evaluation
            plan = Plan.of(own.cascade, pool)
            yield Candidate(figures.average_cost, figures.accuracy, plan)


def certified(pool: cm.Pool, unit: str, reference: str, within: float) -> Plan:
    """Return what we certify, at level 0.95, to be at most so much worse than a model."""
    rule = {"confidence": "max_prob", "unit": unit, "threads": 1}
    promise = cm.certify(pool, match=reference, within=within, level=0.95, **rule)
    return Plan.of(promise.cascade, pool)


def has_fallback() -> bool:
    """Return True if scikit-fallback is installed."""
    return find_spec("skfb") is not None
