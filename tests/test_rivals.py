"""No rival of the board is crippled: each finds what plain loops find on a small pool."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

import committee as cm

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import rival_methods as methods
import rival_tables as tables
import rivals

MODELS = ["a", "b", "c", "d"]
COSTS = dict(zip(MODELS, [1.0, 2.0, 5.0, 7.0], strict=True))


def pool_of(kind, seed=0, samples=60, classes=4):
    """Return four models that are better the more they cost."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=samples)
    outputs = {}
    for number, name in enumerate(MODELS):
        logits = rng.normal(size=(samples, classes)).astype(np.float32)
        logits[np.arange(samples), labels] += 0.5 + 0.4 * number
        own = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        outputs[name] = logits if kind == "logits" else (own.argmax(axis=1), own.max(axis=1))
    return cm.Pool.from_arrays(labels, outputs, kind=kind, costs=COSTS)


@pytest.fixture(params=["logits", "decisions"])
def pool(request):
    return pool_of(request.param)


@pytest.fixture
def table(pool):
    return tables.Table.of(pool, "macs")


@pytest.fixture(autouse=True)
def few_thresholds(monkeypatch):
    monkeypatch.setattr(methods, "GRID", 8)
    monkeypatch.setattr(methods, "FRUGAL_GRID", 6)


def figures(candidates):
    """Return cost and accuracy of the undominated candidates."""
    return np.array([(own.cost, own.accuracy) for own in tables.front(candidates)])


def by_hand(table, plans):
    """Return the same of plans, each run by :func:`tables.decided`."""
    singles = [tables.Plan(((number,),)) for number in range(len(MODELS))]
    return figures(tables.measured(plan, table) for plan in [*singles, *plans])


def thresholds(scores, grid):
    return tables.levels(scores, grid)[0].tolist()


def chain(table, models, grid):
    """Yield the plans of a chain of models whose last output decides."""
    own = (thresholds(table.scores[model], grid) for model in models[:-1])
    for each in itertools.product(*own):
        yield tables.Plan(tuple((model,) for model in models), each)


def test_a_plan_of_ours_is_evaluated_as_the_library_does(pool, table):
    for combine in ["last"] if pool.kind == "decisions" else ["last", "mean_logits"]:
        for own in cm.search(pool, 3, combine=combine):
            plan = tables.Plan.of(own.cascade, pool)
            expected = (own.evaluation.average_cost, own.evaluation.accuracy)
            assert tables.measured(plan, table)[:2] == pytest.approx(expected)


def test_a_plan_is_decided_sample_by_sample(pool, table):
    plan = tables.Plan(((0,), (2,)), (0.5,))
    correct, cost = tables.decided(plan, table)
    for n, label in enumerate(pool.samples.labels):
        runs = [pool.model(name) for name in "ac"]
        if pool.kind == "logits":
            shares = [np.exp(own.values[n]) / np.exp(own.values[n]).sum() for own in runs]
            answers = [(own.argmax(), own.max()) for own in shares]
        else:
            answers = [(own.values[n], own.confidence[n]) for own in runs]
        stays = answers[0][1] >= 0.5
        assert correct[n] == (answers[0 if stays else 1][0] == label)
        assert cost[n] == (1 if stays else 6)


def test_two_models_are_every_pair_with_every_threshold(table):
    plans = [p for pair in itertools.permutations(range(4), 2) for p in chain(table, pair, 8)]
    assert figures(methods.two_models(table)) == pytest.approx(by_hand(table, plans))


def test_frugal_is_every_chain_of_rising_cost(table):
    pairs = [p for pair in itertools.permutations(range(4), 2) for p in chain(table, pair, 8)]
    three = [p for some in itertools.combinations(range(4), 3) for p in chain(table, some, 6)]
    assert figures(methods.frugal(table)) == pytest.approx(by_hand(table, [*pairs, *three]))


def test_ensembles_are_every_set(table):
    some = [s for size in (2, 3) for s in itertools.combinations(range(4), size)]
    expected = by_hand(table, [tables.Plan((models,), rule="mean") for models in some])
    assert figures(methods.ensembles(table)) == pytest.approx(expected)


def test_agreement_is_every_small_ensemble_before_every_good_single(table):
    plans = []
    for models in [s for size in (2, 3) for s in itertools.combinations(range(4), size)]:
        for rule in ("vote", "vote score"):
            scores = tables.RULES[rule](table, models, np.arange(len(table.labels)))[1]
            seconds = [m for m in methods.best_singles(table) if m not in models]
            for last, threshold in itertools.product(seconds, thresholds(scores, 8)):
                plans.append(tables.Plan((models, (last,)), (threshold,), rule))
    assert figures(methods.agreement(table)) == pytest.approx(by_hand(table, plans))


def test_a_vote_by_hand():
    labels = np.array([0, 0, 1])
    shares = {
        "a": [[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.1, 0.6, 0.3]],
        "b": [[0.6, 0.2, 0.2], [0.1, 0.3, 0.6], [0.1, 0.7, 0.2]],
        "c": [[0.1, 0.8, 0.1], [0.1, 0.7, 0.2], [0.7, 0.2, 0.1]],
    }
    outputs = {name: np.array(own) for name, own in shares.items()}
    pool = cm.Pool.from_arrays(
        labels, outputs, kind="probabilities", costs=dict.fromkeys(outputs, 1.0)
    )
    table = tables.Table.of(pool, "macs")
    classes, votes, probability = tables.voted(table, (0, 1, 2), np.arange(3))
    # The second sample is a tie of three, and class 1 has the largest mean probability: 1.35 / 3.
    assert classes.tolist() == [0, 1, 1]
    assert votes == pytest.approx([2 / 3, 1 / 3, 2 / 3])
    assert probability == pytest.approx([1.2 / 3, 1.35 / 3, 1.5 / 3])


@pytest.mark.parametrize("limit", [1, 3, 8.5, 15])
def test_greedy_weights_add_the_best_model_each_round(table, limit):
    plan = methods.greedy_weights(table, limit)
    rounds, best = [], (-1.0, None)
    for _ in range(methods.ROUNDS):
        offers = {}
        for model in range(4):
            own = [*rounds, model]
            if sum(COSTS[MODELS[m]] for m in set(own)) <= limit:
                answers = sum(table.probabilities[m] for m in own).argmax(axis=0)
                offers[model] = (answers == table.labels).mean()
        rounds.append(max(offers, key=offers.get))
        best = max(best, (offers[rounds[-1]], rounds.copy()), key=lambda each: each[0])
    used = sorted(set(best[1]))
    assert plan.stages == (tuple(used),)
    assert plan.weights == tuple(best[1].count(model) for model in used)
    assert tables.measured(plan, table).accuracy == pytest.approx(best[0])


def test_streeter_stops_each_model_where_it_is_as_good_as_the_reference():
    # Small is right on the three samples of which it is surest; large is right on all.
    labels = np.zeros(4, int)
    outputs = {
        "small": (np.array([0, 0, 0, 1]), np.array([0.9, 0.8, 0.7, 0.6])),
        "large": (np.zeros(4, int), np.full(4, 0.9)),
    }
    pool = cm.Pool.from_arrays(
        labels, outputs, kind="decisions", costs={"small": 1.0, "large": 10.0}
    )
    table = tables.Table.of(pool, "macs")
    found = figures(methods.streeter(pool, "macs", table))
    assert found == pytest.approx(np.array([[1, 0.75], [1 + 10 / 4, 1]]))


def test_evolution_finds_the_front_when_it_has_long_enough(monkeypatch):
    table = tables.Table.of(pool_of("logits"), "macs")
    clock = itertools.count()
    monkeypatch.setattr(methods.time, "perf_counter", lambda: next(clock))
    few = figures(methods.evolved(table, 1, seed=0))
    many = figures(methods.evolved(table, 3000, seed=0))
    assert few == pytest.approx(figures(tables.single_models(table)))
    frugal = figures(methods.two_models(table))
    # Its plans include every cascade of two models.
    for cost, accuracy in frugal:
        assert many[many[:, 0] <= cost + 1e-9, 1].max() >= accuracy - 2 / len(table.labels)


def test_scikit_fallback_gets_costs_as_they_are(monkeypatch):
    monkeypatch.setattr(methods, "best_singles", lambda table: [0, 3])
    pytest.importorskip("skfb", reason="scikit-fallback is not installed")
    table = tables.Table.of(pool_of("logits", samples=200), "macs")
    every = [own for own in methods.fallback(table) if len(own.plan.stages) == 2]
    assert every
    for own in every:
        expected = tables.measured(own.plan, table)
        assert own.cost == pytest.approx(expected.cost, abs=0.02)
        assert own.accuracy == pytest.approx(expected.accuracy, abs=0.01)


def test_a_budget_takes_what_looked_best_and_a_goal_what_is_cheapest():
    members = [
        tables.Candidate(cost, accuracy, tables.Plan(((0,),)))
        for cost, accuracy in [(1, 0.7), (2, 0.8), (3, 0.9)]
    ]
    # On the half that evaluates, the last costs less than the second.
    own = rivals.Evaluated(members, np.eye(3, dtype=bool), np.array([1.0, 2.4, 2.2]))
    assert [own.at_most(cost) for cost in (0.5, 1, 2.1, 2.2, 9)] == [0, 0, 0, 2, 2]
    assert [own.at_least(accuracy) for accuracy in (0.6, 0.8, 0.81)] == [0, 1, 2]
    assert own.along(np.array([1, 5])).tolist() == [[True, False, False], [False, False, True]]


def test_every_method_is_on_the_board(monkeypatch):
    pool = pool_of("logits", samples=100)
    monkeypatch.setattr(rivals.methods, "has_fallback", lambda: False)
    rows = list(rivals.board(pool, tables.Table.of(pool, "macs"), "tiny", "macs", split=0))
    assert [row.method for row in rows] == [n for n in rivals.METHODS if n != "scikit-fallback"]
    assert len({row.reference for row in rows}) == 1
    assert rows[0].area_gain == 0
    alone = next(row for row in rows if row.method == "single model")
    assert (alone.match_speedup, alone.match_gain) == (1, 0)
    for row in rows:
        curve = np.array(row.curve.split(), float)
        assert len(curve) == rivals.BUDGETS
        assert row.area == pytest.approx(curve.mean(), abs=1e-4)
        assert row.match_low <= row.match_gain <= row.match_high
