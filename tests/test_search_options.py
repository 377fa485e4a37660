"""Every option of search against a dumb brute force, with the compiled part and without."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import brute_force
import committee as cm
from brute_force import Oracle
from committee import Cascade, Front, Infeasible, Pool, errors
from committee.pool.intervals import by_chance
from committee.pool.prefixes import prefixes_of
from committee.rule.cascade import ALWAYS, NEVER
from committee.selection import approximations
from committee.selection import engine as engine_module
from committee.selection.fixed_models import threshold_front
from committee.selection.options import OPTION_HELP, SearchKeywords, SearchOptions
from committee.selection.sequences import every_sequence
from committee.selection.statistics import _percentile_thresholds, prefix_table
from committee.selection.sweep import Batch, _plain_sweep, sweep
from committee.spec.cost import Cost
from pool_changes import with_costs, with_families
from strategies import CONFIDENCES, RULES, pools, random_pool

# The attribute ``committee.search`` is the function.
engine = importlib.import_module("committee.selection.engine")
exhaustive = importlib.import_module("committee.selection.exhaustive")
guided_module = importlib.import_module("committee.selection.guided")

UNITS = ("macs", "latency_ms", "dollars")
ANY_RULE = st.sampled_from(RULES)
MEANS = st.sampled_from([rule for rule in RULES if rule[1] != "last"])
Block = tuple[str, ...]
Blocks = tuple[Block, ...]
Worth = Callable[[Block, int], Any]


def total_of(evaluation: cm.Evaluation) -> float:
    """The sum over samples of what each scores."""
    return round(evaluation.accuracy * evaluation.samples, 9)


@dataclass(frozen=True)
class Figures:
    """One cascade's exact figures; costs are totals over samples, by unit."""

    value: Any
    total: Mapping[str, int]
    worst: Mapping[str, int]
    leaving: tuple[int, ...]


class Wide(Oracle):
    """The oracle in several units, for any metric and any stages.

    Args:
        pool: With integer costs; labels if there is no ``worth``.
        combine: Name of the combination.
        confidence: Name of the confidence function.
        grid: Percentiles tried.
        worth: From the models that ran, oldest first, and a sample to what it scores; whether it
            is right if left out.
    """

    def __init__(
        self, pool: Pool, combine: str, confidence: str, grid: int, worth: Worth | None = None
    ) -> None:
        self.pool, self.combine, self.confidence, self.grid = pool, combine, confidence, grid
        labels = pool.samples.labels
        self.labels = [None] * len(pool) if labels is None else labels.tolist()
        self.prices = {
            unit: {name: int(cost) for name, cost in pool.costs.values(unit).items()}
            for unit in pool.costs.units
        }
        self.worth = worth or self.right
        self._judged = {}

    def right(self, models: Block, sample: int) -> int:
        return int(self.judge(models)[sample][0] == self.labels[sample])

    def row(self, models: Block, sample: int) -> list[float]:
        """What these models give for a sample together."""
        rows = [[float(x) for x in self.pool.outputs[name].values[sample]] for name in models]
        if self.combine == "last":
            return rows[-1]
        if self.combine == "vote":
            named = [brute_force.argmax(row) for row in rows]
            return [named.count(c) + (named[-1] == c) / 2 for c in range(len(rows[0]))]
        if self.combine == "mean_probabilities" and self.pool.kind == "logits":
            rows = [brute_force.softmax(each) for each in rows]
        return brute_force.mean([row for _, row in sorted(zip(models, rows, strict=True))])

    def figures(self, stages: brute_force.Stages) -> Figures:
        """Run every sample through the stages, one after another."""
        value, leaving = 0, [0] * len(stages)
        total = dict.fromkeys(self.prices, 0)
        for sample in range(len(self.pool)):
            ran: Block = ()
            for index, (models, threshold) in enumerate(stages):
                ran += tuple(models)
                for unit, prices in self.prices.items():
                    total[unit] += sum(prices[name] for name in models)
                if index == len(stages) - 1 or self.judge(ran)[sample][1] >= threshold:
                    value += self.worth(ran, sample)
                    leaving[index] += 1
                    break
        names = [name for models, _ in stages for name in models]
        worst = {unit: sum(p[name] for name in names) for unit, p in self.prices.items()}
        return Figures(value, total, worst, tuple(leaving))

    def of(self, cascade: Cascade) -> Figures:
        return self.figures([(stage.models, stage.threshold) for stage in cascade.stages])

    def all(self, sequences: Iterable[Blocks]) -> list[Figures]:
        """Every sequence given with every vector of thresholds."""
        return [self.figures(stages) for each in sequences for stages in self.vectors(each)]

    def vectors(self, sequence: Blocks) -> Iterator[brute_force.Stages]:
        ran = list(itertools.accumulate(sequence))
        choices = [self._choices(prefix) for prefix in ran[:-1]]
        for thresholds in itertools.product(*choices):
            yield list(zip(sequence, [*thresholds, ALWAYS], strict=True))


def orders(blocks: Iterable[str | Block], most: int) -> list[Blocks]:
    """Every ordered sequence of blocks that share no model."""
    alone = [(b,) if isinstance(b, str) else b for b in blocks]
    return [
        sequence
        for size in range(1, most + 1)
        for sequence in itertools.permutations(alone, size)
        if len(set(sum(sequence, ()))) == sum(map(len, sequence))
    ]


def best(tried: Iterable[Figures], unit: str, samples: int) -> set[tuple[float, Any]]:
    """(Average cost, value) of the cascades that no other beats."""
    most: dict[int, Any] = {}
    for each in tried:
        cost = each.total[unit]
        most[cost] = max(each.value, most.get(cost, each.value))
    kept: dict[int, Any] = {}
    for cost in sorted(most):
        if not kept or most[cost] > max(kept.values()):
            kept[cost] = most[cost]
    return {(cost / samples, value) for cost, value in kept.items()}


def points(front: Iterable[cm.Committee]) -> set[tuple[float, Any]]:
    members = list(front)
    found = {(m.evaluation.average_cost, total_of(m.evaluation)) for m in members}
    assert len(found) == len(members)
    return found


def written(front: Front) -> str:
    """All that a front says but how long it took."""
    data = front.to_json()
    del data["settings"]["seconds"]
    return json.dumps(data, sort_keys=True)


def plainly(find: Callable[[], Any]) -> Any:
    """The answer without the compiled part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(approximations, "_native", None)
        return find()


def found(pool: Pool, oracle: Wide, most: int, **options: Any) -> Front:
    """The front, which is the same with and without the compiled part and as it is evaluated."""

    def find() -> Front:
        return cm.search(
            pool,
            most,
            combine=oracle.combine,
            confidence=oracle.confidence,
            grid=oracle.grid,
            threads=1,
            **options,
        )

    front = find()
    assert written(plainly(find)) == written(front)
    unit, metric = front.settings.unit, front.settings.metric
    for member in front:
        same_figures(member, oracle, unit)
        assert cm.evaluate(member.cascade, pool, unit, metric) == member.evaluation
    return front


def same_figures(member: cm.Committee, oracle: Wide, unit: str) -> None:
    evaluation, own = member.evaluation, oracle.of(member.cascade)
    assert total_of(evaluation) == own.value
    assert evaluation.average_cost == own.total[unit] / evaluation.samples
    assert evaluation.worst_case_cost == own.worst[unit]
    assert evaluation.exit_ratios == tuple(n / evaluation.samples for n in own.leaving)


def one_line(error: pytest.ExceptionInfo[BaseException]) -> None:
    told = str(error.value)
    assert told
    assert "\n" not in told


def priced(pool: Pool, costs: Mapping[str, Sequence[float]]) -> Pool:
    """The pool with a cost of each model in each of the three units."""
    table = {
        name: [Cost(value, unit) for value, unit in zip(each, UNITS, strict=True)]
        for name, each in costs.items()
    }
    return with_costs(pool, table)


@st.composite
def wide_pools(draw: st.DrawFn, kind: str, max_models: int = 3, max_samples: int = 6) -> Pool:
    """Pools with costs in three units, integers from 0."""
    pool = draw(pools(kind, max_models, max_samples))
    three = st.tuples(*[st.integers(0, 4)] * len(UNITS))
    return priced(pool, {name: draw(three) for name in pool.names})


def unlabelled(pool: Pool) -> Pool:
    return replace(pool, samples=replace(pool.samples, labels=None))


# Families


def in_turn(sequence: Blocks, names: Sequence[str], families: Mapping[str, str]) -> bool:
    """Whether each family's models come in the order of the pool, from the first."""
    flat = [name for block in sequence for name in block]
    for family in set(families.values()):
        members = [name for name in names if families.get(name) == family]
        used = [name for name in flat if name in members]
        if used != members[: len(used)]:
            return False
    return True


@st.composite
def family_pools(draw: st.DrawFn, kind: str, max_models: int = 4) -> Pool:
    pool = draw(pools(kind, max_models, 5))
    pool = pool.only(draw(st.permutations(pool.names)))
    chosen = {name: draw(st.sampled_from(["", "x", "y"])) for name in pool.names}
    return with_families(pool, chosen)


@settings(max_examples=20)
@given(family_pools("decisions", 5), st.integers(1, 5))
def test_families_are_used_in_the_order_of_the_pool(pool, most):
    most = min(most, len(pool.names))
    listed = list(every_sequence(pool, most, pool.families, None))
    every = orders(pool.names, most)
    assert len(set(listed)) == len(listed)
    assert set(listed) == {s for s in every if in_turn(s, pool.names, pool.families)}


def test_the_papers_pool_makes_its_number_of_sequences():
    names = [f"b{size}_{training}" for training in range(4) for size in range(8)]
    pool = Pool.from_arrays(
        [0],
        dict.fromkeys(names, ([0], [0.5])),
        kind="decisions",
        costs=dict.fromkeys(names, 1),
        families={name: name[:2] for name in names},
    )
    sizes = [len(s) for s in every_sequence(pool, 4, pool.families, None)]
    assert len([size for size in sizes if size > 1]) == 4672 == 8**4 + 8**3 + 8**2
    assert sizes.count(1) == 8
    assert cm.search(pool, 4, threads=1).settings.sequences == 4680


@settings(max_examples=20)
@given(MEANS, st.data())
def test_front_of_families_is_that_of_brute_force(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(family_pools(kind))
    most = min(3, len(pool.names))
    oracle = Wide(pool, combine, confidence, grid=data.draw(st.integers(1, 3)))
    every = orders(pool.names, most)
    covered = [s for s in every if in_turn(s, pool.names, pool.families)]
    front = found(pool, oracle, most)
    assert points(front) == best(oracle.all(covered), "macs", len(pool))
    assert front.settings.sequences == len(covered)
    assert all(in_turn((m.cascade.names,), pool.names, pool.families) for m in front)
    front = found(pool, oracle, most, families=False)
    assert points(front) == best(oracle.all(every), "macs", len(pool))
    assert front.settings.sequences == len(every)


# Bounds in several units


@settings(max_examples=30)
@given(ANY_RULE, st.data())
def test_bounds_in_several_units_are_those_of_brute_force(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(wide_pools(kind))
    most = len(pool.names)
    oracle = Wide(pool, combine, confidence, grid=data.draw(st.integers(1, 3)))
    unit = data.draw(st.sampled_from(UNITS))
    worst = data.draw(st.dictionaries(st.sampled_from(UNITS), st.integers(0, 8)))
    totals = data.draw(st.dictionaries(st.sampled_from(UNITS), st.integers(0, 6 * len(pool))))
    average = {each: total / len(pool) for each, total in totals.items()}
    within = [
        each
        for each in oracle.all(orders(pool.names, most))
        if all(each.worst[u] <= bound for u, bound in worst.items())
        and all(each.total[u] <= bound for u, bound in totals.items())
    ]
    options = {"unit": unit, "worst_case": worst, "average_case": average}
    if not within:
        with pytest.raises(Infeasible) as error:
            found(pool, oracle, most, **options)
        one_line(error)
        return
    front = found(pool, oracle, most, **options)
    assert points(front) == best(within, unit, len(pool))
    for member in front:
        own = oracle.of(member.cascade)
        assert all(own.worst[u] <= bound for u, bound in worst.items())
        assert all(own.total[u] <= bound for u, bound in totals.items())


@settings(max_examples=15)
@given(ANY_RULE, st.data())
def test_a_bound_that_is_a_number_is_in_the_unit_of_the_search(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(wide_pools(kind, max_models=2))
    oracle = Wide(pool, combine, confidence, grid=2)
    unit = data.draw(st.sampled_from(UNITS))
    bound = min(oracle.prices[unit].values()) + data.draw(st.integers(0, 3))
    number = found(pool, oracle, len(pool.names), unit=unit, worst_case=bound)
    assert written(number) == written(
        found(pool, oracle, len(pool.names), unit=unit, worst_case={unit: float(bound)})
    )


ONE_TENTH_AND_TWO = {"a": (1, 0, 0.1), "b": (1, 0, 0.2), "c": (3, 0, 0.25)}


def test_rounding_breaks_no_bound():
    # Together a and b are right; 0.1 + 0.2 is a hair more than 0.3 in floating point.
    outputs = {"a": [[1.0, 2, 0]], "b": [[1.0, 0, 2]], "c": [[3.0, 0, 0]]}
    pool = priced(Pool.from_arrays([0], outputs, kind="logits"), ONE_TENTH_AND_TWO)
    front = cm.search(pool, 2, unit="macs", average_case={"dollars": 0.3})
    assert points(front) == {(1, 0), (2, 1)}
    assert points(cm.search(pool, 2, unit="macs", worst_case={"dollars": 0.3})) == {(1, 0), (2, 1)}


@pytest.mark.parametrize(
    "options",
    [{"unit": "dollars"}, {"worst_case": {"dollars": 9}}, {"average_case": {"dollars": 9}}],
)
def test_a_model_without_a_cost_in_the_unit_is_named(options):
    pool = random_pool(seed=1, models=2, samples=4)
    table = {"a": [Cost(1, "macs"), Cost(1, "dollars")], "b": [Cost(1, "macs")]}
    with pytest.raises(errors.CostError, match="no 'dollars' for b") as error:
        cm.search(with_costs(pool, table), **options)
    one_line(error)


# Utilities


@settings(max_examples=20)
@given(st.sampled_from([rule for rule in RULES if rule[0] != "decisions"]), st.data())
def test_top_k_is_that_of_brute_force(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(pools(kind))
    k = data.draw(st.integers(1, 4))

    def worth(models: Block, sample: int) -> int:
        row = oracle.row(models, sample)
        ranked = sorted(range(len(row)), key=lambda c: (-row[c], c))
        return int(oracle.labels[sample] in ranked[:k])

    oracle = Wide(pool, combine, confidence, data.draw(st.integers(1, 3)), worth)
    front = found(pool, oracle, len(pool.names), metric=cm.top_k(k))
    assert points(front) == best(oracle.all(orders(pool.names, 3)), "macs", len(pool))
    for member in front:
        low, high = member.evaluation.interval
        assert 0 <= low <= member.evaluation.accuracy <= high <= 1
        assert member.evaluation.measure == f"top-{k}"


# In eighths, so that sums are exact; some negative.
eighths = st.integers(-9, 20).map(lambda n: n / 8)


@settings(max_examples=20)
@given(ANY_RULE, st.data())
def test_weights_of_samples_are_those_of_brute_force(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(pools(kind))
    weights = data.draw(st.lists(eighths, min_size=len(pool), max_size=len(pool)))

    def worth(models: Block, sample: int) -> Fraction:
        return Fraction(weights[sample]) * oracle.right(models, sample)

    oracle = Wide(pool, combine, confidence, data.draw(st.integers(1, 3)), worth)
    front = found(pool, oracle, len(pool.names), metric=cm.weighted(weights, "kilograms"))
    assert points(front) == best(oracle.all(orders(pool.names, 3)), "macs", len(pool))
    for member in front:
        assert member.evaluation.measure == "kilograms"
        scores = [
            float(worth(*exit_of(oracle, member.cascade, sample))) for sample in range(len(pool))
        ]
        same_interval(member.evaluation, scores)


def exit_of(oracle: Wide, cascade: Cascade, sample: int) -> tuple[Block, int]:
    """The models that ran when a sample leaves, and the sample."""
    ran: Block = ()
    for stage in cascade.stages:
        ran += stage.models
        if oracle.judge(ran)[sample][1] >= stage.threshold:
            break
    return ran, sample


def same_interval(evaluation: cm.Evaluation, scores: list[float]) -> None:
    low, high = evaluation.interval
    mean = float(np.mean(scores))
    if len(set(scores)) == 1:
        assert low == pytest.approx(mean) == high
        return
    expected = scipy.stats.t.interval(0.95, len(scores) - 1, mean, scipy.stats.sem(scores))
    assert (low, high) == pytest.approx(expected)


@settings(max_examples=20)
@given(ANY_RULE, st.booleans(), st.data())
def test_weights_of_classes_are_those_of_brute_force(rule, known, data):
    kind, combine, confidence = rule
    pool = data.draw(pools(kind))
    rows = st.lists(eighths, min_size=3, max_size=3)
    weights = data.draw(st.lists(rows, min_size=len(pool), max_size=len(pool)))
    # Matrices of outputs decide how many classes there are; decisions do not.
    classes = 3 if kind == "decisions" else pool.outputs["a"].values.shape[1]
    weights = [row[:classes] for row in weights]
    # What a class is worth does not depend on labels.
    pool = pool if known else unlabelled(pool)

    def worth(models: Block, sample: int) -> Fraction:
        return Fraction(weights[sample][oracle.judge(models)[sample][0]])

    oracle = Wide(pool, combine, confidence, data.draw(st.integers(1, 3)), worth)
    front = found(pool, oracle, len(pool.names), metric=cm.weighted(weights))
    assert points(front) == best(oracle.all(orders(pool.names, 3)), "macs", len(pool))


def subsets(names: Sequence[str]) -> list[Block]:
    sizes = range(1, len(names) + 1)
    return [each for size in sizes for each in itertools.combinations(names, size)]


@settings(max_examples=20)
@given(MEANS, st.booleans(), st.data())
def test_given_scores_are_those_of_brute_force(rule, known, data):
    kind, combine, confidence = rule
    pool = data.draw(pools(kind))
    pool = pool if known else unlabelled(pool)
    random = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    # Names in any order.
    scores = {
        tuple(random.permutation(names)): random.integers(-8, 9, len(pool)) / 4
        for names in subsets(pool.names)
    }
    of_set = {frozenset(names): array for names, array in scores.items()}

    def worth(models: Block, sample: int) -> Fraction:
        return Fraction(of_set[frozenset(models)][sample])

    oracle = Wide(pool, combine, confidence, data.draw(st.integers(1, 3)), worth)
    front = found(pool, oracle, len(pool.names), metric=cm.precomputed(scores))
    assert points(front) == best(oracle.all(orders(pool.names, 3)), "macs", len(pool))


def decisions_pool() -> Pool:
    return Pool.from_arrays(
        [0, 0, 1],
        {"a": ([0, 1, 1], [0.9, 0.5, 0.3]), "b": ([0, 0, 1], [0.9, 0.5, 0.3])},
        kind="decisions",
        costs={"a": 1, "b": 2},
    )


def test_given_scores_where_the_last_model_decides():
    pool = decisions_pool()
    scores = {("a",): [1, 0, 0], ("b",): [0, 1, 1], ("a", "b"): [0, -4, -4]}

    def worth(models: Block, sample: int) -> int:
        # Only the newest model's outputs are the combination's.
        return scores[models[-1:]][sample]

    oracle = Wide(pool, "last", "max_prob", 5, worth)
    front = found(pool, oracle, 2, metric=cm.precomputed(scores))
    assert points(front) == best(oracle.all(orders(pool.names, 2)), "macs", 3)


@settings(max_examples=20)
@given(pools(max_samples=9), st.data())
def test_sums_of_any_numbers_are_told_apart_as_far_as_floats_go(pool, data):
    """No exact sums here: members must rise and be beaten by none by more than rounding."""
    real = st.floats(-1e6, 1e6, allow_subnormal=False)
    weights = data.draw(st.lists(real, min_size=len(pool), max_size=len(pool)))
    combine = {"logits": "mean_logits", "probabilities": "mean_probabilities"}.get(
        pool.kind, "last"
    )
    oracle = Wide(pool, combine, "max_prob", 2)
    oracle.worth = lambda models, i: Fraction(weights[i]) * oracle.right(models, i)
    front = found_floats(pool, cm.weighted(weights))
    tried = best(oracle.all(orders(pool.names, 3)), "macs", len(pool))
    slack = 1e-12 * (1 + sum(map(abs, weights)))
    for cost, value in tried:
        assert any(c <= cost and v >= value - slack for c, v in points(front))
    for cost, value in points(front):
        assert not any(c <= cost and v > value + slack for c, v in tried)


def found_floats(pool: Pool, metric: cm.Metric) -> Front:
    def find() -> Front:
        return cm.search(pool, grid=2, metric=metric, threads=1)

    front = find()
    assert written(plainly(find)) == written(front)
    return front


@pytest.mark.parametrize("k", [0, -1])
def test_top_0_is_refused(k):
    with pytest.raises(errors.ShapeError, match=f"k must be 1 or more, not {k}") as error:
        cm.top_k(k)
    one_line(error)


def test_top_k_of_decisions_is_refused():
    with pytest.raises(errors.ShapeError, match="decisions name one class only") as error:
        cm.search(decisions_pool(), metric=cm.top_k(2))
    one_line(error)


@pytest.mark.parametrize("weights", [[1.0, np.nan, 1.0], np.full((3, 2), np.inf), 1.0])
def test_weights_that_are_no_numbers_are_refused(weights):
    with pytest.raises(errors.ShapeError, match="weights must be finite") as error:
        cm.weighted(weights)
    one_line(error)


@pytest.mark.parametrize(
    "weights", [[1.0] * 2, [[1.0, 0.0]] * 2, [[1.0]] * 3], ids=["short", "short rows", "narrow"]
)
def test_too_few_weights_are_refused(weights):
    with pytest.raises(errors.CommitteeError) as error:
        cm.search(decisions_pool(), metric=cm.weighted(weights))
    one_line(error)


@pytest.mark.parametrize(
    "metric",
    [
        cm.weighted([1.0] * 4),
        cm.weighted([[1.0, 0.0]] * 4),
        cm.precomputed({("a",): [1.0] * 4, ("b",): [1.0] * 4}),
    ],
    ids=["weights", "weights of classes", "given"],
)
def test_scores_of_other_samples_are_refused(metric):
    with pytest.raises(errors.CommitteeError) as error:
        cm.search(decisions_pool(), 1, metric=metric)
    one_line(error)


def test_given_scores_of_too_few_samples_are_refused():
    with pytest.raises(errors.MisalignedError, match="2 scores for the 3 samples") as error:
        cm.search(decisions_pool(), 1, metric=cm.precomputed({("a",): [1, 1], ("b",): [1, 1]}))
    one_line(error)


def test_a_prefix_without_given_scores_is_named():
    pool = random_pool(seed=1, models=2, samples=4)
    with pytest.raises(errors.UnknownNameError, match=r"no scores of 'a\+b'") as error:
        cm.search(pool, 2, metric=cm.precomputed({("a",): [1] * 4, ("b",): [1] * 4}))
    one_line(error)


def test_scores_that_are_nan_are_refused():
    scores = {("a",): [1, np.nan, 1], ("b",): [1] * 3}
    with pytest.raises(errors.NotFiniteError, match="NaN or infinite for sample 1") as error:
        cm.search(decisions_pool(), 1, metric=cm.precomputed(scores))
    one_line(error)


def test_a_counted_utility_that_does_not_count_is_refused():
    half = cm.Metric("half", lambda exits: np.full(len(exits.rows), 0.5))
    with pytest.raises(errors.ShapeError, match="'half' is counted") as error:
        cm.search(decisions_pool(), metric=half)
    one_line(error)


@pytest.mark.parametrize("metric", [cm.TOP_1, cm.top_k(2), cm.weighted([1.0] * 4)])
def test_what_needs_labels_says_so(metric):
    pool = unlabelled(random_pool(seed=1, models=2, samples=4))
    with pytest.raises(errors.MisalignedError, match="has no labels") as error:
        cm.search(pool, metric=metric)
    one_line(error)


# Labels from a reference


@settings(max_examples=20)
@given(ANY_RULE, st.data())
def test_agreement_is_accuracy_with_the_reference_as_labels(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(pools(kind))
    sizes = st.just(1) if kind == "decisions" else st.integers(1, len(pool.names))
    names = tuple(data.draw(st.permutations(pool.names))[: data.draw(sizes)])
    how = data.draw(st.sampled_from([None, combine]))
    # Of several the default is the mean of what they give, whatever is searched.
    means = {"logits": "mean_logits", "probabilities": "mean_probabilities", "decisions": "last"}
    judge = Wide(pool, how or means[kind], confidence, 2)
    labels = np.array([judge.judge(names)[i][0] for i in range(len(pool))], np.int64)
    reference = names[0] if len(names) == 1 and data.draw(st.booleans()) else names
    agreeing = unlabelled(pool).labelled_by(reference, how)
    assert agreeing.samples.labels.tolist() == labels.tolist()

    plain = replace(pool, samples=replace(pool.samples, labels=labels))
    front = found(agreeing, Wide(agreeing, combine, confidence, 2), len(pool.names))
    same = found(plain, Wide(plain, combine, confidence, 2), len(pool.names))
    assert [m.cascade for m in front] == [m.cascade for m in same]
    told = "agreement with " + "+".join(sorted(names))
    for member, other in zip(front, same, strict=True):
        assert member.evaluation == replace(other.evaluation, measure=told)
        assert member.cascade.origin.promised.measure == told
    if len(names) == 1:
        assert front.matching(names[0]).evaluation.accuracy == 1


def test_an_unknown_reference_suggests():
    pool = unlabelled(random_pool(seed=1, models=2, samples=4))
    with pytest.raises(errors.UnknownNameError, match="no model 'ab'") as error:
        pool.labelled_by("ab")
    one_line(error)


def test_no_reference_is_refused():
    with pytest.raises(errors.CommitteeError) as error:
        decisions_pool().labelled_by([])
    one_line(error)


def test_decisions_of_several_models_are_no_reference():
    # Nothing combines them; which one labels depends on the order of the names.
    with pytest.raises(errors.CommitteeError) as error:
        decisions_pool().labelled_by(["a", "b"])
    one_line(error)


# Stages of several models


@st.composite
def blocks_of(draw: st.DrawFn, names: Sequence[str]) -> list[Block]:
    block = st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True).map(tuple)
    return draw(st.lists(block, min_size=1, max_size=4))


@settings(max_examples=25)
@given(MEANS, st.data())
def test_front_of_stages_is_that_of_brute_force(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(pools(kind, max_models=4, max_samples=5))
    blocks = data.draw(blocks_of(pool.names))
    distinct = list(dict.fromkeys(blocks))
    most = data.draw(st.integers(1, min(3, len(distinct))))
    oracle = Wide(pool, combine, confidence, grid=2)
    asked = [block[0] if len(block) == 1 else list(block) for block in blocks]
    front = found(pool, oracle, most, stages=asked)
    covered = orders(distinct, most)
    assert points(front) == best(oracle.all(covered), "macs", len(pool))
    assert front.settings.sequences == len(covered)


@pytest.mark.parametrize(
    ("stages", "error", "told"),
    [
        ([], errors.CascadeError, "no stage to search over"),
        ([[]], errors.CascadeError, "different models"),
        ([["a", "a"]], errors.CascadeError, "different models"),
        (["a", "z"], errors.UnknownNameError, "no model 'z'"),
    ],
)
def test_stages_that_cannot_be_are_refused(stages, error, told):
    with pytest.raises(error, match=told) as raised:
        cm.search(decisions_pool(), 1, stages=stages)
    one_line(raised)


def test_more_stages_than_given_are_refused():
    with pytest.raises(errors.CascadeError, match=r"must be 1 to 1.*stages given") as error:
        cm.search(decisions_pool(), 2, stages=["a"])
    one_line(error)


def overridden_pool(right: int) -> Pool:
    """``a2`` is always right and cheap, ``a1`` wrong and dear; ``z`` is right so many times."""
    return Pool.from_arrays(
        [0, 0, 0],
        {
            "a1": ([1, 1, 1], [0.9, 0.5, 0.3]),
            "a2": ([0, 0, 0], [0.9, 0.5, 0.3]),
            "z": ([0] * right + [1] * (3 - right), [0.1, 0.2, 0.3]),
        },
        kind="decisions",
        costs={"a1": 10, "a2": 1, "z": 5},
        families={"a1": "A", "a2": "A"},
    )


def left_out_of_the_front(right: int, **options: Any) -> set[str]:
    front = cm.search(overridden_pool(right), 2, **options)
    return {str(member.cascade) for member in front}


@pytest.mark.parametrize("options", [{}, {"stages": [["a1", "a2"], "z"]}], ids=["family", "stage"])
def test_a_model_that_is_overridden_is_left_out_before_or_not_at_all(options):
    # a2 alone costs 1 and is always right: no z can push it off, if it is on at all.
    assert ("a2" in left_out_of_the_front(2, **options)) == (
        "a2" in left_out_of_the_front(3, **options)
    )


def test_families_where_the_last_model_decides():
    pool = overridden_pool(2)
    for member in cm.search(pool, 3):
        assert in_turn((member.cascade.names,), pool.names, pool.families)


# Fixed models


@settings(max_examples=25)
@given(ANY_RULE, st.data())
def test_as_cascade_is_the_cheapest_of_brute_force(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(wide_pools(kind))
    names = data.draw(st.permutations(pool.names))[: data.draw(st.integers(1, len(pool.names)))]
    unit = data.draw(st.sampled_from(UNITS))
    oracle = Wide(pool, combine, confidence, grid=data.draw(st.integers(1, 3)))
    # Of how many samples fewer may be right, and a part of a sample that makes no difference.
    fewer, part = data.draw(st.integers(0, len(pool))), data.draw(st.sampled_from([0, 0.4]))
    bound = data.draw(st.one_of(st.none(), st.integers(0, 8)))

    def find() -> cm.Committee:
        return cm.as_cascade(
            names,
            pool,
            (fewer + part) / len(pool),
            confidence=confidence,
            combine=combine,
            grid=oracle.grid,
            unit=unit,
            worst_case=bound,
            threads=1,
        )

    goal = oracle.figures([(names, ALWAYS)]).value - fewer
    enough = [
        each
        for each in oracle.all(orders(names, len(names)))
        if each.value >= goal and (bound is None or each.worst[unit] <= bound)
    ]
    if not enough:
        with pytest.raises(Infeasible) as error:
            find()
        one_line(error)
        return
    chosen = find()
    again = plainly(find)
    assert (chosen.cascade, chosen.evaluation) == (again.cascade, again.evaluation)
    same_figures(chosen, oracle, unit)
    own = oracle.of(chosen.cascade)
    cost, value = min((each.total[unit], -each.value) for each in enough)
    assert (own.total[unit], own.value) == (cost, -value)
    assert set(chosen.cascade.names) <= set(names)


@settings(max_examples=20)
@given(MEANS, st.data())
def test_as_cascade_keeps_stages_together(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(pools(kind, max_models=4).filter(lambda pool: len(pool.names) > 2))
    first, second, third = data.draw(st.permutations(pool.names))[:3]
    oracle = Wide(pool, combine, confidence, grid=2)
    blocks = [(first, second), (third,)]
    chosen = cm.as_cascade(
        [[first, second], third], pool, confidence=confidence, combine=combine, grid=2, threads=1
    )
    goal = oracle.figures([((first, second, third), ALWAYS)]).value
    tried = [each for each in oracle.all(orders(blocks, 2)) if each.value >= goal]
    own = oracle.of(chosen.cascade)
    assert (own.total["macs"], -own.value) == min((t.total["macs"], -t.value) for t in tried)


@pytest.mark.parametrize(
    "models",
    [
        ["a", ["a", "b"]],
        ["a", "a"],
    ],
)
def test_as_cascade_of_a_model_that_stands_twice_is_refused(models):
    with pytest.raises(errors.CascadeError) as error:
        cm.as_cascade(models, decisions_pool())
    one_line(error)


@settings(max_examples=30)
@given(MEANS, st.data())
def test_in_order_is_the_front_of_brute_force_over_thresholds(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(pools(kind, max_models=3))
    names = data.draw(st.permutations(pool.names))
    oracle = Oracle(pool, combine, confidence, grid=3)
    found = threshold_front(names, pool, confidence=confidence, combine=combine, grid=3, threads=1)
    tried = [
        each
        for each in oracle.every(len(names))
        if tuple(name for models, _ in each.stages for name in models) == tuple(names)
    ]
    figures = {
        (round(each.evaluation.average_cost * len(pool)), each.evaluation.correct) for each in found
    }
    assert figures == brute_force.front(tried)
    for each in found:
        assert each.cascade.names == tuple(names[: len(each.cascade.names)])


@pytest.mark.parametrize("stages", [["a", "a"], ["a", ["a", "b"]]])
def test_in_order_refuses_a_model_that_stands_twice(stages):
    with pytest.raises(errors.CascadeError, match="must name every model once") as error:
        threshold_front(stages, random_pool(seed=1, models=3, samples=4))
    one_line(error)


@settings(max_examples=25)
@given(MEANS, st.data())
def test_threshold_sweep_goes_from_the_first_stage_to_the_ensemble(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(wide_pools(kind, max_models=4).filter(lambda pool: len(pool.names) > 1))
    names = data.draw(st.permutations(pool.names))
    cut = data.draw(st.integers(1, len(names) - 1))
    unit = data.draw(st.sampled_from(UNITS))
    grid = data.draw(st.integers(1, 4))
    oracle = Wide(pool, combine, confidence, grid)

    def find() -> tuple[cm.Committee, ...]:
        stages = [names[:cut], names[cut:]]
        return cm.threshold_sweep(
            stages, pool, confidence=confidence, combine=combine, grid=grid, unit=unit
        )

    swept = find()
    assert plainly(find) == swept
    scores = np.array([score for _, score in oracle.judge(tuple(names[:cut]))])
    thresholds = _percentile_thresholds(scores, grid).tolist()
    assert [m.cascade.thresholds for m in swept] == [(), *((t,) for t in thresholds), ()]
    assert swept[0].cascade.names == tuple(names[:cut])
    assert swept[-1].cascade.stages[0].models == tuple(names)
    for member in swept:
        same_figures(member, oracle, unit)
        assert member.evaluation == cm.evaluate(member.cascade, pool, unit)
    costs = [m.evaluation.average_cost for m in swept]
    assert costs == sorted(costs)


def test_threshold_sweep_rises_in_cost_where_the_last_model_decides():
    costs = [m.evaluation.average_cost for m in cm.threshold_sweep(["a", "b"], decisions_pool())]
    assert costs == sorted(costs)


@pytest.mark.parametrize("stages", [["a"], ["a", "b", "c"], [["a", "b"], "b"], [[], "a"]])
def test_threshold_sweep_takes_two_stages(stages):
    pool = random_pool(seed=1, models=3, samples=4)
    with pytest.raises(errors.CascadeError) as error:
        cm.threshold_sweep(stages, pool)
    one_line(error)


# The judging split


@settings(max_examples=20)
@given(ANY_RULE, st.data())
def test_members_are_judged_as_evaluated(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(wide_pools(kind))
    test = data.draw(wide_pools(kind).filter(lambda test: set(pool.names) <= set(test.names)))
    test = replace(test, samples=replace(test.samples, split="test"))
    unit = data.draw(st.sampled_from(UNITS))
    # Another number of classes is another task, and the same samples are refused.
    widths = {each.values.shape[1:] for p in (pool, test) for each in p.outputs.values()}
    if len(widths) > 1 or pool.samples.fingerprint == test.samples.fingerprint:
        return
    oracle = Wide(pool, combine, confidence, grid=2)
    front = found(pool, oracle, len(pool.names), unit=unit, test=test)
    without = found(pool, oracle, len(pool.names), unit=unit)
    assert [m.cascade for m in front] == [m.cascade for m in without]
    for member in front:
        assert member.test == cm.evaluate(member.cascade, test, unit)
        assert member.test.split == "test"
        own = Wide(test, combine, confidence, 2).of(member.cascade)
        assert total_of(member.test) == own.value
        assert member.test.average_cost == own.total[unit] / len(test)
    assert all(member.test is None for member in without)


SEARCHES = {"search": cm.search, "guided": cm.guided, "greedy": cm.greedy}


@pytest.mark.parametrize("find", SEARCHES.values(), ids=SEARCHES)
def test_the_split_that_chooses_does_not_judge(find):
    pool = random_pool(seed=1, models=3, samples=20)
    with pytest.raises(errors.MisalignedError, match="same samples") as error:
        find(pool, 2, test=pool.rows(slice(None), "test"))
    one_line(error)


@pytest.mark.parametrize("find", SEARCHES.values(), ids=SEARCHES)
def test_a_judge_without_labels_is_refused(find):
    pool = random_pool(seed=1, models=3, samples=20)
    test = unlabelled(pool.rows(slice(10, 20), "test"))
    with pytest.raises(errors.MisalignedError, match="'test' has no labels") as error:
        find(pool.rows(slice(10), "val"), 2, test=test)
    one_line(error)


# Guided search


def guided_on(pool: Pool, most: int, keep: int, **options: Any) -> tuple[Front, set[Blocks]]:
    """The front of a guided search, and the sequences that it went through."""
    seen: list[Blocks] = []

    def spy(plan: Any, sequences: list[Blocks], known: Any) -> Any:
        seen.extend(sequences)
        return engine.search_sequences(plan, sequences, known)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guided_module, "search_sequences", spy)
        front = cm.guided(pool, most, keep=keep, threads=1, **options)
    return front, set(seen)


def no_worse(one: set[tuple[float, Any]], other: set[tuple[float, Any]]) -> bool:
    """Whether every point of the other is reached or beaten by one."""
    return all(any(c <= cost and v >= value for c, v in one) for cost, value in other)


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.integers(3, 4), st.sampled_from(["", "aab", "abcaabb"]))
def test_guided_covers_what_it_says(seed, keep, letters):
    pool = random_pool(seed, models=5, samples=8)
    pool = with_families(pool, dict(zip(pool.names, letters, strict=False)))
    oracle = Wide(pool, "mean_logits", "max_prob", grid=1)
    front, seen = guided_on(pool, 3, keep, grid=1)
    every = [s for s in orders(pool.names, 3) if in_turn(s, pool.names, pool.families)]
    pairs = [s for s in every if len(s) < 3]
    kept = {name for s in seen if len(s) > 2 for block in s for name in block}
    covered = [s for s in every if len(s) < 3 or {name for (name,) in s} <= kept]
    assert seen == set(covered)
    # A family's later model is of no use where too few of it are kept before.
    assert len(kept) == keep or letters
    assert front.settings.sequences == len(covered) < len(every)
    assert points(front) == best(oracle.all(covered), "macs", len(pool))
    assert no_worse(points(cm.search(pool, 3, grid=1, threads=1)), points(front))
    assert no_worse(points(front), best(oracle.all(pairs), "macs", len(pool)))
    assert not front.exact
    assert front.inexact
    assert "\n" not in front.inexact
    assert f"of {keep} selected models" in front.inexact
    assert f"{len(covered):,} of " in front.inexact
    plain, again = plainly(lambda: guided_on(pool, 3, keep, grid=1))
    assert (written(plain), again) == (written(front), seen)


@pytest.mark.parametrize("options", [{"keep": 5, "most": 3}, {"keep": 3, "most": 2}])
def test_guided_that_leaves_nothing_out_is_exact(options):
    pool = random_pool(seed=2, models=5, samples=9)
    front = cm.guided(pool, options["most"], keep=options["keep"], grid=2, threads=1)
    assert front.exact
    assert not front.inexact
    assert written(front) == written(cm.search(pool, options["most"], grid=2, threads=1))


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.data())
def test_guided_keeps_to_bounds(seed, data):
    pool = random_pool(seed, models=5, samples=8)
    random = np.random.default_rng(seed)
    pool = priced(pool, {name: random.integers(1, 9, 3).tolist() for name in pool.names})
    weights = random.integers(-8, 9, len(pool)) / 4
    worst, total = data.draw(st.integers(8, 20)), data.draw(st.integers(64, 150))
    oracle = Wide(pool, "mean_logits", "max_prob", grid=1)
    oracle.worth = lambda models, i: Fraction(weights[i]) * oracle.right(models, i)
    front, seen = guided_on(
        pool,
        3,
        3,
        grid=1,
        unit="latency_ms",
        worst_case={"macs": worst},
        average_case={"dollars": total / len(pool)},
        metric=cm.weighted(weights),
    )
    within = [
        each
        for each in oracle.all(seen)
        if each.worst["macs"] <= worst and each.total["dollars"] <= total
    ]
    assert points(front) == best(within, "latency_ms", len(pool))


@pytest.mark.parametrize("most", [0, 6])
def test_guided_refuses_a_wrong_number_of_models(most):
    with pytest.raises(errors.CascadeError, match="max_models must be 1 to 5") as error:
        cm.guided(random_pool(seed=2, models=5, samples=9), most, keep=3)
    one_line(error)


def test_guided_members_are_judged():
    pool = random_pool(seed=2, models=5, samples=30)
    val, test = pool.rows(slice(15), "val"), pool.rows(slice(15, 30), "test")
    for member in cm.guided(val, 3, keep=3, grid=2, test=test):
        assert member.test == cm.evaluate(member.cascade, test)


# Greedy search


def rebuilt(oracle: Wide, reference: str, share: float, most: int) -> brute_force.Stages:
    """Algorithm 1 of Streeter (2018), sample by sample."""
    prices = oracle.prices["macs"]
    left, ran, stages = set(range(len(oracle.pool))), (), []
    while left:
        offers = []
        for name in sorted(set(oracle.pool.names) - set(ran)):
            if name == reference:
                answered, threshold = left, ALWAYS
            elif len(ran) + 1 < most:
                answered, threshold = surest(oracle, (*ran, name), reference, share, left)
            else:
                continue
            if answered:
                rate = Fraction(len(answered), prices[name]) if prices[name] else math.inf
                offers.append((-rate, name, answered, threshold))
        _, name, answered, threshold = min(offers, key=lambda offer: offer[:2])
        ran += (name,)
        left = left - answered
        stages.append(((name,), threshold if left else ALWAYS))
    return stages


def surest(
    oracle: Wide, models: Block, reference: str, share: float, left: set[int]
) -> tuple[set[int], float]:
    """The most samples at or above a score on which the goal is kept."""
    judged = oracle.judge(models)
    # The lowest score that will do answers the most.
    for score in sorted({judged[i][1] for i in left}):
        answered = {i for i in left if judged[i][1] >= score}
        right = sum(oracle.right(models, i) for i in answered)
        if right >= share * sum(oracle.right((reference,), i) for i in answered):
            return answered, score
    return set(), NEVER


@settings(max_examples=30)
@given(ANY_RULE, st.data())
def test_greedy_is_the_algorithm_done_by_hand(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(pools(kind, max_models=4, max_samples=9))
    most = data.draw(st.integers(1, len(pool.names)))
    share = st.sampled_from([0.25, 0.5, 0.75, 0.97, 1.0])
    shares = data.draw(st.lists(share, min_size=1, max_size=3, unique=True))

    def find() -> Front:
        return cm.greedy(pool, most, shares=shares, confidence=confidence, combine=combine)

    oracle = Wide(pool, combine, confidence, grid=1)
    by_hand = [oracle.figures([((name,), ALWAYS)]) for name in pool.names]
    for reference, goal in itertools.product(pool.names, shares):
        stages = rebuilt(oracle, reference, goal, most)
        assert len(stages) <= most
        own = oracle.figures(stages)
        if combine == "last":
            assert own.value >= goal * oracle.figures([((reference,), ALWAYS)]).value
        by_hand.append(own)
    front = find()
    assert written(plainly(find)) == written(front)
    assert points(front) == best(by_hand, "macs", len(pool))
    assert not front.exact
    assert "\n" not in front.inexact
    for member in front:
        assert len(member.cascade.names) <= most
        assert member.evaluation == cm.evaluate(member.cascade, pool)
        same_figures(member, oracle, "macs")


def test_greedy_is_no_better_than_the_exact_front():
    pool = random_pool(seed=4, models=4, samples=60)
    # As many percentiles as samples are every threshold there is.
    exact = points(cm.search(pool, 4, grid=60))
    assert no_worse(exact, points(cm.greedy(pool)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_models": 0}, "max_models must be 1 or more, not 0"),
        ({"shares": [0.5, 0.0]}, "shares must be above 0"),
        ({"shares": [math.nan]}, "shares must be above 0"),
        ({"shares": []}, "shares are empty"),
    ],
)
def test_greedy_refuses_what_cannot_be(options, told):
    with pytest.raises(errors.CascadeError, match=told) as error:
        cm.greedy(decisions_pool(), **options)
    one_line(error)


def test_greedy_members_are_judged():
    pool = random_pool(seed=2, models=3, samples=30)
    val, test = pool.rows(slice(15), "val"), pool.rows(slice(15, 30), "test")
    for member in cm.greedy(val, test=test):
        assert member.test == cm.evaluate(member.cascade, test)


# Bad input


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"grid": 0}, errors.ShapeError, "grid must be 1 to 65000 percentiles, not 0"),
        ({"grid": 70_000}, errors.ShapeError, "grid must be 1 to 65000 percentiles, not 70000"),
        ({"max_models": 0}, errors.CascadeError, "max_models must be 1 to 2"),
        ({"max_models": 3}, errors.CascadeError, "max_models must be 1 to 2"),
        ({"max_memory": 50}, errors.TooLargeError, "more than max_memory"),
        ({"unit": "euros"}, errors.CostError, "no 'euros' for a, b"),
        ({"worst_case": math.nan}, errors.CostError, "worst_case is NaN"),
        ({"worst_case": {"macs": math.nan}}, errors.CostError, "worst_case is NaN"),
        ({"average_case": {"macs": math.nan}}, errors.CostError, "average_case is NaN"),
        ({"worst_case": 0.5}, Infeasible, "Nearest: a with 1 macs"),
        ({"average_case": {"macs": 0.5}}, Infeasible, "at most 0.5 macs"),
        ({"combine": "mean"}, errors.UnknownNameError, "no combination 'mean'"),
    ],
)
@pytest.mark.parametrize("way", ["compiled", "plain"])
def test_bad_input_of_search_is_told_in_one_line(options, error, told, way):
    pool = Pool.from_arrays(
        [0, 1], {n: [[1.0, 0], [0, 2]] for n in "ab"}, kind="logits", costs={"a": 1, "b": 2}
    )
    with pytest.raises(error, match=told) as raised:
        cm.search(pool, **options) if way == "compiled" else plainly(
            lambda: cm.search(pool, **options)
        )
    one_line(raised)


@pytest.mark.parametrize(
    "way",
    [
        "compiled",
        "plain",
    ],
)
def test_an_unknown_confidence_is_refused(way):
    # Scores far apart, so that the compiled part leaves none open.
    pool = Pool.from_arrays([0, 1], {"a": [[1.0, 0], [0, 2]]}, kind="logits", costs={"a": 1})

    def find() -> Front:
        return cm.search(pool, confidence="maxprob")

    with pytest.raises(errors.UnknownNameError, match="Did you mean 'max_prob'") as error:
        find() if way == "compiled" else plainly(find)
    one_line(error)


def test_guided_checks_memory_before_it_uses_it(monkeypatch):
    computed = []
    real = guided_module.prefix_table
    monkeypatch.setattr(
        guided_module, "prefix_table", lambda *args, **kw: computed.append(1) or real(*args, **kw)
    )
    with pytest.raises(errors.TooLargeError) as error:
        cm.guided(random_pool(seed=2, models=5, samples=9), 3, keep=3, max_memory=50)
    one_line(error)
    assert not computed


def test_as_many_thresholds_as_there_may_be():
    pool = random_pool(seed=1, models=2, samples=40)
    fewer, most = (points(cm.search(pool, 2, grid=grid)) for grid in (40, 65_000))
    assert fewer == most


def test_too_many_sequences_are_refused(monkeypatch):
    monkeypatch.setattr(exhaustive, "_MOST_SEQUENCES", 14)
    pool = random_pool(seed=1, models=3, samples=4)
    with pytest.raises(errors.TooLargeError, match="more than 14 sequences of up to 3") as error:
        cm.search(pool, 3)
    one_line(error)
    monkeypatch.setattr(exhaustive, "_MOST_SEQUENCES", 15)
    assert cm.search(pool, 3, grid=1).settings.sequences == 15


def test_unreachable_targets_are_told_in_one_line():
    front = cm.search(decisions_pool(), worst_case={"macs": 3}, average_case={"macs": 3})
    for ask in (lambda: front.at_least(1.01), lambda: front.at_most(0.5)):
        with pytest.raises(Infeasible, match="Nearest: ") as error:
            ask()
        one_line(error)


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("way", ["compiled", "plain"])
def test_a_score_that_is_the_same_everywhere_is_told(confidence, way):
    constant, varied = [[2.0, 0, 0], [0, 2, 0], [2, 0, 0]], [[1.0, 0, 0], [0, 5, 0], [9, 0, 0]]
    pool = Pool.from_arrays(
        [0, 0, 0],
        {"flat": constant, "fine": varied},
        kind="logits",
        costs={"flat": 1, "fine": 2},
    )

    def find() -> Front:
        return cm.search(pool, 2, confidence=confidence)

    front = find() if way == "compiled" else plainly(find)
    (told,) = [line for line in front.warnings if "same for every sample" in line]
    assert told.startswith(f"{confidence} of flat is")
    assert "\n" not in told


@pytest.mark.parametrize("threads", [-1, -8])
def test_a_negative_number_of_threads_is_refused(threads):
    with pytest.raises(errors.CommitteeError) as error:
        cm.search(decisions_pool(), threads=threads)
    one_line(error)


# Warnings


def pool_of_two(gained: int, lost: int, agreed: int) -> Pool:
    """The dearer model is right where the cheaper is wrong ``gained`` times, and so on."""
    small = [1] * gained + [0] * lost + [0] * agreed
    large = [0] * gained + [1] * lost + [0] * agreed
    sure = np.linspace(0, 1, len(small))
    return Pool.from_arrays(
        [0] * len(small),
        {"small": (small, sure), "large": (large, sure)},
        kind="decisions",
        costs={"small": 1, "large": 2},
    )


@settings(max_examples=30)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 5))
def test_models_that_chance_tells_apart_are_named(gained, lost, agreed):
    pool = pool_of_two(gained, lost, agreed)
    front = cm.search(pool, 2, grid=1, threads=1)
    told = [line for line in front.warnings if "within chance" in line]
    # A dearer model that is no better is nobody's choice.
    chance = gained > lost and scipy.stats.binomtest(lost, gained + lost).pvalue > 0.05
    assert len(told) == chance
    if told:
        assert "\n" not in told[0]
        assert told[0].startswith("`large` and `small` differ by ")
        assert f"differ by {100 * (gained - lost) / len(pool):.2f} ± " in told[0]
        assert f" {len(pool):,} sample" in told[0]
    # So few are said to be few, whatever the pair says.
    assert any("few to choose on" in line for line in front.warnings)
    assert plainly(lambda: cm.search(pool, 2, grid=1, threads=1)).warnings == front.warnings


@given(st.integers(0, 300), st.integers(0, 300))
def test_by_chance_is_the_binomial_test(gained, lost):
    p = scipy.stats.binomtest(lost, gained + lost).pvalue if gained + lost else 1
    assert by_chance(gained, lost) == pytest.approx(p, rel=1e-9)


def test_models_out_of_the_worst_case_are_compared_too():
    pool = pool_of_two(12, 8, 1980)
    whole = cm.search(pool, 2, grid=1).warnings
    assert len(whole) == 1
    assert cm.search(pool, 2, grid=1, worst_case=1).warnings == whole


@pytest.mark.parametrize(("right", "of", "few"), [(3, 3, True), (950, 1000, False)])
def test_samples_are_few_by_the_interval_alone(right, of, few):
    pool = Pool.from_arrays(
        [0] * of,
        {"one": ([0] * right + [1] * (of - right), np.linspace(0, 1, of))},
        kind="decisions",
        costs={"one": 1},
    )
    low, high = cm.evaluate(cm.Cascade.of(["one"]), pool).interval
    told = [line for line in cm.search(pool).warnings if "few to choose on" in line]
    assert [f"±{50 * (high - low):.1f} points" in line for line in told] == [True] * few


# Interruption

LONG = """
import sys
sys.path.insert(0, {tests!r})
from strategies import random_pool
import committee as cm

pool = random_pool(seed=1, models=5, samples=3000, classes=10)
more = random_pool(seed=2, models=5, samples=3000, classes=10)
pool = cm.Pool.from_arrays(
    pool.samples.labels,
    {{**{{n: o.values for n, o in pool.outputs.items()}}, "f": more.outputs["e"].values}},
    kind="logits",
    costs={{name: 2**i for i, name in enumerate("abcdef")}},
)
if {plain}:
    from committee.selection import approximations
    approximations._native = None
def progress(what, done, total):
    print(what, done, total, flush=True)
{call}
print("ended", flush=True)
"""
LONG_SEARCHES = {
    "search": "cm.search(pool, 5, grid=100, progress=progress)",
    "guided": "cm.guided(pool, 5, keep=5, grid=100, progress=progress)",
}


@pytest.mark.parametrize(
    ("call", "part", "done", "plain"),
    [
        ("search", "prefixes", 1, False),
        ("guided", "sequences", 1, False),
        ("search", "sequences", 516, False),
        ("search", "sequences", 156, True),
    ],
)
def test_a_search_can_be_interrupted(call, part, done, plain, request):
    tests = str(request.path.parent)
    code = LONG.format(tests=tests, plain=plain, call=LONG_SEARCHES[call])
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            for line in process.stdout:
                told = line.split()
                if told[0] == part and int(told[1]) >= done:
                    break
            if done > 1:  # well within the round
                time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            # Raises if it takes longer.
            out, error = process.communicate(timeout=3)
        finally:
            process.kill()
    assert "ended" not in out
    assert error.strip().endswith("KeyboardInterrupt")


# All at once


def full_pool(samples: slice, split: str) -> Pool:
    pool = random_pool(seed=7, models=5, samples=80)
    costs = {name: (3**i, 9 - i, 0.1 * (i + 1)) for i, name in enumerate(pool.names)}
    pool = with_families(priced(pool, costs), {"b": "x", "d": "x", "e": "x"})
    return pool.rows(samples, split)


ALL = {
    "grid": 6,
    "unit": "latency_ms",
    "worst_case": {"macs": 200, "dollars": 1.2},
    "average_case": {"macs": 60, "dollars": 0.7},
    "confidence": "prob_gap",
    "combine": "mean_probabilities",
}
METRICS = {
    "top-1": cm.TOP_1,
    "top-2": cm.top_k(2),
    "weights": cm.weighted(np.random.default_rng(3).normal(size=40)),
}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("find", [cm.search, cm.guided], ids=["search", "guided"])
def test_order_threads_and_batches_make_no_difference(find, metric, monkeypatch):
    # Of a family the order is part of what is asked.
    val, test = full_pool(slice(40), "val"), full_pool(slice(40, 80), "test")
    options = {**ALL, "metric": metric, "test": test} | ({"keep": 3} if find is cm.guided else {})
    front = find(val, 3, threads=1, **options)
    expected = written(front)
    assert len(front) > 1
    for order, threads, batch in [("cbdea", 3, 64), ("bdeca", 2, 1), ("cabde", 1, 7)]:
        with monkeypatch.context() as patch:
            patch.setattr(engine, "_SEQUENCES", batch)
            again = partial(find, val.only(order), 3, threads=threads, **options)
            assert written(again()) == expected
            assert written(plainly(again)) == expected
    for member in front:
        assert member.evaluation == cm.evaluate(member.cascade, val, ALL["unit"], metric)
        assert member.test == cm.evaluate(member.cascade, test, ALL["unit"], metric)


@pytest.mark.parametrize("samples", [32_767, 32_768])
def test_many_samples_are_counted_alike(samples):
    # The compiled part counts fewer samples in 16 bits, more in 32.
    random = np.random.default_rng(samples)
    labels = np.zeros(samples, np.int64)
    outputs = {
        name: (random.integers(0, 2, samples), random.random(samples)) for name in ("a", "b")
    }
    # c is wrong everywhere and d right, so that counts go as far as they can.
    outputs["c"] = (labels + 1, random.random(samples))
    outputs["d"] = (labels, random.random(samples))
    costs = {"a": 3, "b": 2, "c": 1, "d": 9}
    pool = Pool.from_arrays(labels, outputs, kind="decisions", costs=costs)

    def find() -> Front:
        return cm.search(pool, 3, grid=9)

    front = find()
    assert front[-1].evaluation.correct == samples
    assert front[0].evaluation.correct == 0
    assert written(plainly(find)) == written(front)
    for member in list(front)[::20]:
        assert member.evaluation == cm.evaluate(member.cascade, pool)


@pytest.mark.skipif(
    approximations._native is None, reason="the compiled part is not there to compare with"
)
def test_points_that_fill_memory_are_thinned_alike():
    # Nothing is known at first, so that more vectors pass than the compiled part holds at once.
    pool = random_pool(seed=5, models=3, samples=400)
    weights = np.random.default_rng(5).normal(size=400)
    rule = prefixes_of(pool, "max_prob", "mean_logits", cm.weighted(weights))
    sequence = tuple((name,) for name in "cab")
    table = prefix_table(rule, rule.keys(sequence), 200)
    assert np.prod(table.widths[:2]) > 2 * (1 << 14)
    prefixes = np.array([[table.rows[key] for key in rule.keys(sequence)]], np.int32)
    costs = np.array([[[pool.costs.values("macs")[name] for name in "cab"]]])
    batch = Batch(prefixes, costs, np.empty(0))
    fast = sweep(table, batch, np.empty(0), np.empty(0, np.int64))
    slow = _plain_sweep(table, batch, np.empty(0), np.empty(0, np.int64))
    for name in vars(slow):
        np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name))


def test_keywords_for_type_checkers_are_the_fields_of_the_record():
    assert set(SearchKeywords.__annotations__) == set(SearchOptions.__dataclass_fields__)
    assert set(OPTION_HELP) == set(SearchOptions.__dataclass_fields__)
    with pytest.raises(TypeError, match="gird"):
        cm.search(decisions_pool(), gird=3)


def test_a_missing_compiled_part_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(engine_module, "PLAIN", "without its compiled part")
    engine_module._warn_if_plain.cache_clear()
    cm.search(decisions_pool(), 1)
    cm.search(decisions_pool(), 1)
    engine_module._warn_if_plain.cache_clear()
    assert caplog.text.count("without its compiled part") == 1
