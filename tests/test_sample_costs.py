"""Costs that differ from sample to sample: averages, worst cases, search and certificates."""

import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import committee as cm
from committee.cli.output import print_json
from committee.errors import CommitteeError, CostError, Infeasible
from committee.pool.pool import Pool
from committee.report.page import page_of
from committee.report.rows import Report
from committee.selection.statistics import _percentile_thresholds

NAMES = ("a", "b", "c")


def pool_of(outputs, costs, kind="outcomes", labels=None, **options):
    return Pool.from_arrays(labels, outputs, kind=kind, costs=costs, unit="dollars", **options)


@st.composite
def worlds(draw):
    """Outcomes of three models and what each sample cost in each, in quarters of a dollar."""
    samples = draw(st.integers(2, 20))

    def numbers(most):
        some = st.lists(st.integers(0, most), min_size=samples, max_size=samples)
        return np.array(draw(some))

    outputs = {name: (numbers(1), numbers(5) / 4) for name in NAMES}
    return outputs, {name: numbers(9) / 4 for name in NAMES}


def plain_loop(stages, thresholds, outputs, costs):
    """Return mean value, mean cost and largest cost of all stages, one sample after another."""
    values, spent, worst = [], [], []
    for row in range(len(outputs["a"][0])):
        cost = 0.0
        for stage, threshold in zip(stages, [*thresholds, -np.inf], strict=True):
            cost += costs[stage][row]
            if outputs[stage][1][row] >= threshold:
                values.append(outputs[stage][0][row])
                spent.append(cost)
                break
        worst.append(sum(costs[stage][row] for stage in stages))
    return np.mean(values), np.mean(spent), max(worst)


@given(worlds(), st.permutations(NAMES), st.lists(st.integers(0, 6), min_size=2, max_size=2))
def test_costs_of_a_cascade_are_those_of_a_plain_loop(world, order, cuts):
    outputs, costs = world
    thresholds = [cut / 4 for cut in cuts]
    cascade = cm.Cascade.of(order, thresholds, combine="last")
    evaluation = cm.evaluate(cascade, pool_of(outputs, costs))
    value, average, worst = plain_loop(order, thresholds, outputs, costs)
    assert evaluation.accuracy == pytest.approx(value)
    assert evaluation.average_cost == pytest.approx(average)
    assert evaluation.worst_case_cost == pytest.approx(worst)


@given(worlds())
def test_search_finds_what_every_cascade_tried_one_by_one_gives(world):
    outputs, costs = world
    found = cm.search(pool_of(outputs, costs), 3, grid=4)
    tried = set()
    for size in (1, 2, 3):
        for stages in itertools.permutations(NAMES, size):
            choices = [
                [-np.inf, np.inf, *_percentile_thresholds(outputs[stage][1], 4)]
                for stage in stages[:-1]
            ]
            for thresholds in itertools.product(*choices):
                # Every model of a stage runs, and the last of them answers.
                tried.add(plain_loop(stages, thresholds, outputs, costs)[:2])
    best = {
        point
        for point in tried
        if not any(
            other[0] >= point[0] and other[1] <= point[1] and other != point for other in tried
        )
    }
    own = [(each.evaluation.accuracy, each.evaluation.average_cost) for each in found]
    # Quarters sum without rounding.
    assert sorted(own) == sorted(best)


def figures(front):
    return [(each.cascade.models_of_stages, each.cascade.thresholds, each.val) for each in front]


@given(worlds(), st.booleans())
def test_equal_costs_give_the_usual_front(world, guided):
    outputs, _ = world
    numbers = {"a": 1.0, "b": 2.5, "c": 7.0}
    usual = pool_of(outputs, numbers)
    samples = len(usual)
    given_each = pool_of(outputs, {n: np.full(samples, c) for n, c in numbers.items()})
    assert figures(cm.search(usual)) == figures(cm.search(given_each))
    # The same by sums over samples.
    summed = replace(
        usual,
        models={
            n: replace(m, sample_costs={"dollars": np.full(samples, numbers[n])})
            for n, m in usual.models.items()
        },
    )
    options = {"average_case": {"dollars": 4.0}} if guided else {}
    assert figures(cm.search(usual, **options)) == figures(cm.search(summed, **options))
    one, two = (cm.guided(each, 3, keep=2) for each in (usual, summed))
    assert figures(one) == figures(two)


def world(samples=3000, seed=0):
    """Two models graded 1 or 0; long questions are hard, and cost more."""
    rng = np.random.default_rng(seed)
    length = rng.lognormal(0, 0.6, samples)
    outputs, costs = {}, {}
    for name, skill, price in (("a", 2.6, 0.1), ("b", 4.0, 1.0)):
        chance = 1 / (1 + np.exp(length - skill))
        outputs[name] = rng.random(samples) < chance, chance
        costs[name] = price * length
    return outputs, costs


def test_bounds_on_costs():
    outputs, costs = world(500)
    pool = pool_of(outputs, costs)
    for each in cm.search(pool, worst_case=5.0):
        assert each.evaluation.worst_case_cost <= 5.0
    with pytest.raises(Infeasible, match="worst-case"):
        cm.search(pool, worst_case=0.05)
    every = cm.search(pool)
    bounded = cm.search(pool, average_case={"dollars": 0.5})
    assert figures(bounded) == [f for f in figures(every) if f[2].average_cost <= 0.5]


def test_costs_follow_the_rows_and_the_test_split():
    outputs, costs = world(600)
    pool = pool_of(outputs, costs)
    first, rest = pool.rows(slice(0, 400), "val"), pool.rows(slice(400, None), "test")
    alone = cm.Cascade.of(["b"], combine="last")
    assert cm.evaluate(alone, rest).average_cost == pytest.approx(costs["b"][400:].mean())
    front = cm.search(first, test=rest)
    assert front[-1].test.average_cost == cm.evaluate(front[-1].cascade, rest).average_cost


def test_decisions_and_logits_have_costs_by_sample_too():
    outputs, costs = world(300)
    labels = np.ones(300, np.int64)
    classes = {n: (v.astype(int), c) for n, (v, c) in outputs.items()}
    decisions = pool_of(classes, costs, "decisions", labels)
    assert figures(cm.search(decisions)) == [
        (stages, thresholds, replace(own, measure="top-1"))
        for stages, thresholds, own in figures(cm.search(pool_of(outputs, costs)))
    ]
    rng = np.random.default_rng(0)
    logits = {name: rng.normal(size=(300, 3)) for name in ("a", "b")}
    front = cm.search(pool_of(logits, costs, "logits", labels))
    for each in front:
        again = cm.evaluate(each.cascade, front.pool)
        assert again == each.evaluation


def test_a_certificate_of_the_cost_needs_the_most_that_a_sample_can_cost():
    outputs, costs = world()
    pool = pool_of(outputs, costs)
    promise = cm.certify(pool, match="b", within=0.05)
    record = promise.certificate.record
    assert record.average_cost == pytest.approx(promise.evaluation.average_cost)
    assert record.average_cost < record.reference_cost
    with pytest.raises(CostError, match="cost_limit"):
        cm.certify(pool, match="b", within=0.05, max_cost=1.15)
    with pytest.raises(CostError, match="but a sample cost"):
        cm.certify(pool, match="b", within=0.05, max_cost=1.15, cost_limit=1.0)
    bounded = cm.certify(pool, match="b", within=0.05, max_cost=1.15, cost_limit=20.0)
    own = bounded.certificate.record
    assert own.average_cost < own.cost_bound <= 1.15


def test_a_sample_dearer_than_the_limit_leaves_a_promise_of_cost_open(tmp_path, capsys):
    outputs, costs = world()
    samples = len(costs["a"])
    fresh = {name: own + (np.arange(samples) == 7) * 1e3 for name, own in costs.items()}
    pool = pool_of(outputs, costs, split="val")
    promise = cm.certify(pool, match="b", within=0.05, max_cost=5.0, cost_limit=20.0)
    other = pool_of(outputs, fresh, split="test", ids=[f"t{i}" for i in range(samples)])
    found = promise.certificate.holds_on(other)
    assert found.cost.high == np.inf
    assert "one cost more than the limit, 20.0 dollars" in found.cost.text
    print_json(found.to_json())
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["cost"]["high"] is None


@pytest.mark.parametrize(
    ("cost", "word"),
    [
        ([1.0, -1.0, 2.0], "sample '1' costs -1, one of 1 of 3"),
        ([1.0, np.nan, np.nan], "sample '1' costs nan, one of 2 of 3"),
        ([1.0, None, 2.0], "sample '1' costs nan, one of 1 of 3"),
        ([1.0, np.inf, 2.0], "costs inf"),
        ([1.0, 2.0], "one a sample"),
        (["1", "x", "2"], "one a sample"),
    ],
)
def test_costs_that_are_none_get_one_line(cost, word):
    with pytest.raises(CommitteeError, match=word) as found:
        pool_of({"a": ([1, 0, 1], [1, 2, 3])}, {"a": cost})
    assert "\n" not in str(found.value)


@pytest.mark.usefixtures("report_extra")
def test_the_page_shows_the_costs_of_each_split():
    """Worst cases and references are of the samples, not sums of means; nothing slides by means."""
    random = np.random.default_rng(3)
    labels = random.integers(0, 3, 400)
    signal = np.eye(3)[labels]
    outputs = {n: random.normal(size=(400, 3)) + k * signal for k, n in ((1, "a"), (3, "b"))}
    costs = {n: k * random.lognormal(size=400) for k, n in ((1, "a"), (9, "b"))}
    pool = Pool.from_arrays(labels, outputs, kind="logits", costs=costs, unit="dollars")
    val, test = pool.rows(slice(0, 200), "val"), pool.rows(slice(200, None), "test")
    front = cm.search(val, test=test)
    page = page_of(Report(front, test, "b"))
    data = json.loads(re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', page, re.S)[1])
    points = [point for point in data["points"] if point["series"] == "front"]
    for own, member in zip(points, front, strict=True):
        for split, rows in (("val", slice(0, 200)), ("test", slice(200, None))):
            known = cm.evaluate(member.cascade, val if split == "val" else test)
            assert own[split]["cost"] == known.average_cost
            assert own[split]["worst"] == known.worst_case_cost
            assert own[split]["reference"] == pytest.approx(costs["b"][rows].mean())
    assert not any("counts" in stages for stages in data["stages"])
