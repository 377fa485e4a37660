"""Search equals a dumb brute force, and keeps its promises on targets, ties, order and threads."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brute_force
from brute_force import Oracle
from committee import Cascade, Front, Infeasible, Pool, ensembles, errors, evaluate, search
from committee.pool.prefixes import prefixes_of
from committee.rule.cascade import ALWAYS, NEVER
from committee.selection import numpy_sweep as surface_module
from committee.selection.front import undominated
from committee.selection.numpy_sweep import Step, surfaces
from committee.selection.statistics import _percentile_thresholds, prefix_table
from committee.selection.sweep import CLEARLY, dominated, pareto_envelope
from committee.spec.cost import Cost
from committee.spec.model import ImportedModel
from pool_changes import with_costs
from strategies import RULES, pools, random_pool

rules = pytest.mark.parametrize(("kind", "combine", "confidence"), RULES)


def searched(pool: Pool, oracle: Oracle, max_models: int, **options) -> Front:
    return search(
        pool,
        max_models,
        combine=oracle.combine,
        confidence=oracle.confidence,
        grid=oracle.grid,
        threads=1,
        **options,
    )


def figures(front: Front) -> set[tuple[float, int]]:
    """Average costs are the oracle's totals over samples, rounded once by the same division."""
    return {(c.evaluation.average_cost, c.evaluation.correct) for c in front}


def expected(tried: list[brute_force.Tried], samples: int) -> set[tuple[float, int]]:
    return {(cost / samples, correct) for cost, correct in brute_force.front(tried)}


@rules
@settings(max_examples=3)
@given(st.data())
def test_front_is_that_of_brute_force(kind, combine, confidence, data):
    pool = data.draw(pools(kind))
    oracle = Oracle(pool, combine, confidence, grid=data.draw(st.integers(1, 4)))
    tried = list(oracle.every(len(pool.names)))
    front = searched(pool, oracle, len(pool.names))
    assert figures(front) == expected(tried, len(pool))
    assert len(front) == len(figures(front))
    for member in front:
        same_figures(member, oracle.run(member.cascade))


def same_figures(member, tried):
    evaluation = member.evaluation
    assert evaluation.correct == tried.correct
    assert evaluation.average_cost == tried.cost / evaluation.samples
    assert evaluation.worst_case_cost == tried.worst_case
    assert evaluation.exit_ratios == tuple(n / evaluation.samples for n in tried.leaving)


@pytest.mark.parametrize("combine", ["mean_logits", "mean_probabilities", "last"])
def test_front_of_real_scores_on_the_full_grid(combine):
    pool = random_pool(seed=3, models=3, samples=30)
    oracle = Oracle(pool, combine, "max_prob", grid=100)
    front = searched(pool, oracle, 3)
    assert figures(front) == expected(list(oracle.every(3)), len(pool))
    assert len(front) > 2


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("max_models", "samples", "grid"), [(4, 6, 2), (5, 4, 1)])
def test_front_of_many_models(seed, max_models, samples, grid):
    # Five models have four thresholds, of which the first is looped over outside the histogram.
    pool = random_pool(seed, 5, samples)
    oracle = Oracle(pool, "mean_logits", "prob_gap", grid)
    front = searched(pool, oracle, max_models)
    assert figures(front) == expected(list(oracle.every(max_models)), samples)
    for member in front:
        same_figures(member, oracle.run(member.cascade))


@pytest.mark.parametrize("counts", [1, 20, 1 << 21])
@pytest.mark.parametrize("length", range(1, 6))
def test_every_point_of_a_surface_is_that_of_brute_force(length, counts, monkeypatch):
    # Few counts at once: thresholds of the first stages are looped over.
    monkeypatch.setattr(surface_module, "_BINS", counts)
    # Not the front alone: most vectors of thresholds are dominated and would not show there.
    pool = random_pool(seed=length, models=length, samples=9)
    oracle = Oracle(pool, "mean_logits", "max_prob", grid=3)
    sequence = tuple(reversed(pool.names))
    rule = prefixes_of(pool, oracle.confidence, oracle.combine)
    keys = rule.keys([(name,) for name in sequence])
    table = prefix_table(rule, keys, oracle.grid)
    steps = [Step(table.values[r], table.passed[r], int(table.widths[r])) for r in range(length)]
    thresholds = [
        [*table.thresholds(key, np.arange(step.width - 1)), NEVER]
        for key, step in zip(keys, steps, strict=True)
    ]
    seen = 0
    for surface in surfaces(steps, [oracle.costs[name] for name in sequence]):
        for inner in np.ndindex(surface.cost.shape):
            tried = oracle.attempt(stages_of(sequence, thresholds, surface.outer + inner))
            assert (surface.cost[inner], surface.value[inner]) == (tried.cost, tried.correct)
            seen += 1
    assert seen == np.prod([step.width for step in steps[:-1]])


def stages_of(sequence, thresholds, choices):
    """The stages of one vector of choices, of which the last number of each means "never"."""
    bounds = [each[choice] for each, choice in zip(thresholds, choices, strict=False)]
    return [((name,), bound) for name, bound in zip(sequence, [*bounds, ALWAYS], strict=True)]


def test_a_threshold_that_is_a_score_is_reached_by_it():
    # Nothing lies between neighbouring floats, so that the threshold is the upper score itself.
    sure = float(np.nextafter(0.5, 1))
    pool = Pool.from_arrays(
        [0, 0],
        {"a": ([0, 1], [sure, 0.5]), "b": ([1, 0], [0.5, 0.5])},
        kind="decisions",
        costs={"a": 1, "b": 4},
    )
    best = search(pool)[-1]
    assert best.cascade.thresholds == (sure,)
    assert (best.evaluation.correct, best.evaluation.average_cost) == (2, 3)


@settings(max_examples=60)
@given(st.sampled_from(RULES), st.data())
def test_of_equal_committees_the_least_worst_case_is_kept(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(pools(kind))
    oracle = Oracle(pool, combine, confidence, grid=2)
    tried = list(oracle.every(len(pool.names)))
    for member in searched(pool, oracle, len(pool.names)):
        own = oracle.run(member.cascade)
        equals = [t for t in tried if (t.cost, t.correct) == (own.cost, own.correct)]
        assert own.worst_case == min(t.worst_case for t in equals)


def test_of_two_equal_pairs_the_lesser_worst_case_is_kept():
    # One sample goes on to b for 4, or two go on to c for 2: two are right for 7 either way.
    pool = Pool.from_arrays(
        [0, 0, 0],
        {
            "a": [[9, 0], [0, 2], [0, 1]],
            "b": [[0, 9], [0, 9], [9, 0]],
            "c": [[0, 1], [9, 0], [0, 1]],
        },
        kind="logits",
        costs={"a": 1, "b": 4, "c": 2},
    )
    dearer = evaluate(Cascade.of(["a", "b"], [0.8], "max_prob"), pool)
    chosen = search(pool).at_least(accuracy=2 / 3)
    assert chosen.cascade.names == ("a", "c")
    assert chosen.evaluation.correct == dearer.correct == 2
    assert chosen.evaluation.average_cost == dearer.average_cost
    assert chosen.evaluation.worst_case_cost < dearer.worst_case_cost


@settings(max_examples=60)
@given(st.sampled_from(RULES), st.data())
def test_targets_are_those_of_brute_force(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(pools(kind))
    oracle = Oracle(pool, combine, confidence, grid=3)
    tried = list(oracle.every(len(pool.names)))
    front = searched(pool, oracle, len(pool.names))
    for name in pool.names:
        chosen = oracle.run(front.matching(name).cascade)
        goal = oracle.attempt([([name], 0)]).correct
        assert (chosen.cost, -chosen.correct) == brute_force.cheapest(tried, goal)
    for correct in range(max(t.correct for t in tried) + 1):
        chosen = oracle.run(front.at_least(accuracy=correct / len(pool)).cascade)
        assert (chosen.cost, -chosen.correct) == brute_force.cheapest(tried, correct)
    for cost in {t.cost for t in tried}:
        chosen = oracle.run(front.at_most(cost=cost / len(pool)).cascade)
        assert (chosen.correct, -chosen.cost) == brute_force.most_accurate(tried, cost)


@settings(max_examples=60)
@given(st.sampled_from(RULES), st.data())
def test_worst_case_bound_is_that_of_brute_force(rule, data):
    kind, combine, confidence = rule
    pool = data.draw(pools(kind))
    oracle = Oracle(pool, combine, confidence, grid=3)
    bound = data.draw(st.integers(min(oracle.costs.values()), sum(oracle.costs.values())))
    front = searched(pool, oracle, len(pool.names), worst_case=bound)
    within = [t for t in oracle.every(len(pool.names)) if t.worst_case <= bound]
    assert figures(front) == expected(within, len(pool))
    assert all(member.evaluation.worst_case_cost <= bound for member in front)


@settings(max_examples=20)
@given(pools())
def test_members_rise_in_cost_and_accuracy(pool):
    front = search(pool, threads=1)
    for cheaper, dearer in itertools.pairwise(front):
        assert cheaper.evaluation.average_cost < dearer.evaluation.average_cost
        assert cheaper.evaluation.correct < dearer.evaluation.correct


@settings(max_examples=20)
@given(pools(), st.randoms(use_true_random=False))
def test_order_of_the_pool_does_not_matter(pool, random):
    names = pool.names
    random.shuffle(names)
    assert written(search(pool.only(names), threads=1)) == written(search(pool, threads=1))


def test_order_of_many_models_does_not_matter():
    # More sequences than one batch holds, so that earlier batches screen later ones.
    pool = random_pool(seed=5, models=5, samples=12)
    backwards = pool.only(pool.names[::-1])
    front = search(pool, 4, grid=5, threads=1)
    assert front.settings.sequences > 64
    assert written(search(backwards, 4, grid=5, threads=1)) == written(front)


@pytest.mark.parametrize("seed", range(3))
def test_number_of_threads_does_not_matter(seed):
    pool = random_pool(seed, models=4, samples=40)
    one, two = (search(pool, 4, grid=8, threads=threads) for threads in (1, 2))
    assert written(one) == written(two)


def written(front: Front) -> str:
    data = front.to_json()
    del data["settings"]["seconds"]
    return json.dumps(data, sort_keys=True)


def test_settings_count_what_was_covered():
    pool = random_pool(seed=1, models=3, samples=9)
    front = search(pool, 2, grid=4)
    # Three models alone, six pairs; a pair has four percentiles, "always" and "never".
    assert (front.settings.sequences, front.settings.cascades) == (9, 3 + 6 * 6)
    assert front.exact


def test_progress_ends_at_all():
    seen = []
    pool = random_pool(seed=1, models=5, samples=5)
    search(pool, 4, grid=1, threads=1, progress=lambda *told: seen.append(told))
    prefixes = [told[1:] for told in seen if told[0] == "prefixes"]
    assert prefixes == [(k, 30) for k in range(1, 31)]
    sequences = [told[1:] for told in seen if told[0] == "sequences"]
    assert sequences == [(5, 205), (25, 205), (85, 205), (149, 205), (205, 205)]


def test_members_carry_what_is_needed_to_run_them():
    pool = Pool.from_arrays(
        [0, 1], {"a": [[2.0, 0.0], [0.0, 1.0]]}, kind="logits", costs={"a": 1}, classes=["x", "y"]
    )
    member = search(pool)[0].cascade
    assert member.classes == ("x", "y")
    assert member.models == pool.specs == {"a": ImportedModel("a", costs=(Cost(1.0, "macs"),))}


@pytest.fixture
def pool() -> Pool:
    return Pool.from_arrays(
        [0, 0, 1, 1],
        {
            "small": [[3, 0], [1, 0], [0, 3], [1, 0]],
            "large": [[3, 0], [0, 1], [0, 9], [0, 9]],
        },
        kind="logits",
        costs={"small": 1, "large": 4},
    )


def test_unreachable_accuracy_names_the_nearest(pool):
    with pytest.raises(
        Infeasible, match=r"^no committee reaches accuracy 150\.00 %.*'val'\. Nearest: "
    ) as e:
        search(pool).at_least(accuracy=1.5)
    best = search(pool)[-1]
    assert f"{best.cascade} with accuracy {100 * best.evaluation.accuracy:.2f} %" in str(e.value)


def test_unreachable_cost_names_the_nearest(pool):
    with pytest.raises(Infeasible, match=r"at most 0\.500 macs .*Nearest: small .* at 1\.00 macs$"):
        search(pool).at_most(cost=0.5)


def test_unreachable_worst_case_names_the_nearest(pool):
    with pytest.raises(Infeasible, match=r"at most 0\.5 macs\. Nearest: small with 1 macs$"):
        search(pool, worst_case=0.5)


def test_bound_that_rules_out_the_goal_is_told():
    pool = Pool.from_arrays(
        [0, 1],
        {"small": [[1, 0], [1, 0]], "large": [[1, 0], [0, 1]]},
        kind="logits",
        costs={"small": 1, "large": 4},
    )
    with pytest.raises(
        Infeasible, match=r"large's accuracy 100\.00 % .* worst case of 3\.00 macs\."
    ):
        search(pool, worst_case=3).matching("large")


def test_matching_an_unknown_model_suggests(pool):
    with pytest.raises(errors.UnknownNameError, match="Did you mean 'small'"):
        search(pool).matching("smal")


@pytest.mark.parametrize("max_models", [0, 3])
def test_wrong_number_of_models_is_refused(pool, max_models):
    with pytest.raises(errors.CascadeError, match=f"must be 1 to 2.* not {max_models}"):
        search(pool, max_models)


def test_nan_bounds_are_refused(pool):
    with pytest.raises(errors.CostError, match="worst_case is NaN"):
        search(pool, worst_case=float("nan"))
    with pytest.raises(errors.CostError, match="cost is NaN"):
        search(pool).at_most(cost=float("nan"))


def test_unknown_confidence_suggests(pool):
    with pytest.raises(errors.UnknownNameError, match="Did you mean 'max_prob'"):
        search(pool, confidence="maxprob")


def test_ensembles_are_all_sets_by_rising_cost():
    pool = random_pool(seed=2, models=4, samples=10)
    found = ensembles(pool, 3)
    assert {c.cascade.names for c in found} == {
        names for size in (2, 3) for names in itertools.combinations("abcd", size)
    }
    costs = [c.evaluation.average_cost for c in found]
    assert costs == sorted(costs)
    assert all(c.evaluation == evaluate(Cascade.ensemble(c.cascade.names), pool) for c in found)


def test_nothing_is_an_ensemble_where_the_last_model_decides():
    pool = random_pool(seed=2, models=3, samples=10)
    assert ensembles(pool, 3, combine="last") == ()


scores = st.lists(st.integers(-8, 8), min_size=1, max_size=20).map(lambda s: np.array(s, float))


def exit_sets(scores, thresholds) -> set[bytes]:
    """The different sets of samples that leave, "always" left out."""
    sets = {(scores >= t).tobytes() for t in thresholds}
    return sets - {np.ones(len(scores), bool).tobytes()}


# Shares in powers of two are exact, so that NumPy's rounding of ranks does not blur the comparison.
@pytest.mark.parametrize("method", ["higher", "linear"])
@given(scores, st.sampled_from([1, 2, 4, 16, 64]))
def test_thresholds_exit_what_percentiles_exit(method, scores, grid):
    percentiles = np.percentile(scores, np.arange(1, grid + 1) * (100 / grid), method=method)
    ours = _percentile_thresholds(scores, grid)
    assert exit_sets(scores, ours) == exit_sets(scores, percentiles)
    assert len(ours) == len(exit_sets(scores, ours))


def test_hundred_percentiles_exit_what_numpy_exits():
    scores = np.random.default_rng(0).normal(size=1001)
    percentiles = np.percentile(scores, np.arange(1, 101), method="higher")
    assert exit_sets(scores, _percentile_thresholds(scores, 100)) == exit_sets(scores, percentiles)


@given(scores, st.integers(1, 30))
def test_thresholds_rise_and_lie_off_the_scores(scores, grid):
    thresholds = _percentile_thresholds(scores, grid)
    assert (np.diff(thresholds) > 0).all()
    assert not np.isin(thresholds, scores).any()
    assert len(thresholds) <= grid


def test_neighbouring_floats_are_told_apart():
    low = 0.5
    high = np.nextafter(low, 1)
    assert _percentile_thresholds(np.array([low, high]), 100).tolist() == [high]


def test_huge_scores_have_a_threshold_between():
    thresholds = _percentile_thresholds(np.array([1e308, 1.7e308]), 2)
    assert 1e308 < thresholds[0] < 1.7e308


def test_empty_grid_is_refused():
    with pytest.raises(errors.ShapeError, match="grid must be 1 to 65000"):
        _percentile_thresholds(np.array([1.0]), 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_undominated_keeps_what_nothing_beats(points):
    cost, correct = np.array(points, float).reshape(-1, 2).T
    kept = undominated(cost, correct)
    expected = {
        (c, a)
        for c, a in points
        if not any(d <= c and b >= a and (d, b) != (c, a) for d, b in points)
    }
    assert [(cost[i], correct[i]) for i in kept] == sorted(expected)
    # Of equal points the first.
    assert all(points.index((cost[i], correct[i])) == i for i in kept)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_only_what_others_clearly_beat_is_beaten(points):
    cost, correct = np.array(points, float).T
    found = dominated(cost, correct, *pareto_envelope(cost, correct))
    expected = [any(d < c and b >= a for d, b in points) for c, a in points]
    assert found.tolist() == expected


def test_costs_that_rounding_may_have_parted_do_not_beat_each_other():
    cost = np.array([1.0, np.nextafter(1.0, 2), 1 / CLEARLY**2])
    known = pareto_envelope(np.array([1.0]), np.array([7]))
    assert dominated(cost, np.array([7, 7, 7]), *known).tolist() == [False, False, True]


def test_whole_numbers_as_costs_do_not_overflow():
    """Files hold multiply-adds as integers; a billion of them times samples exceeds 32 bits."""
    pool = Pool.from_arrays(
        [0, 1, 0, 1],
        {
            "small": [[3.0, 0], [0, 1], [0, 2], [1, 0]],
            "large": [[3.0, 0], [0, 3], [4, 0], [0, 3]],
        },
        kind="logits",
    )
    costs = {"small": [Cost(10**9, "macs")], "large": [Cost(2 * 10**9, "macs")]}
    whole = with_costs(pool, costs)
    found = [(c.evaluation.average_cost, c.evaluation.correct) for c in search(whole, 2)]
    assert found == [(1e9, 2), (2e9, 4)]


def test_a_front_prints_its_ends_in_one_line() -> None:
    pool = Pool.from_arrays([0, 1], {"a": np.eye(2)}, kind="logits", costs={"a": 3})
    told = (
        "<Front: 1 committee on <Samples: 2 of 'val', labelled>; a with accuracy 100.00 % at 3.00"
    )
    assert repr(search(pool)) == f"{told} macs>"


@pytest.mark.parametrize("most", [1, 2])
def test_a_later_training_of_a_family_is_matched_by_its_own_name(most):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 300)
    strength = {"r20a": 1.5, "r20b": 1.7, "r20c": 1.4}
    outputs = {n: k * np.eye(5)[labels] + rng.normal(size=(300, 5)) for n, k in strength.items()}
    pool = Pool.from_arrays(
        labels,
        outputs,
        kind="logits",
        costs=dict.fromkeys(outputs, 1.0),
        families=dict.fromkeys(outputs, "r20"),
    )
    front = search(pool, most)
    for name in outputs:
        chosen = front.matching(name)
        own = evaluate(Cascade.of([name], combine="mean_logits"), pool)
        assert chosen.evaluation.correct >= own.correct
        assert chosen.evaluation.average_cost == 1.0
    assert front.matching("r20b").cascade.names == ("r20b",)
    # A target of accuracy takes trainings in turn all the same: none is picked for its luck.
    assert all(each.cascade.names[0] == "r20a" for each in front)
    with pytest.raises(Infeasible):
        search(pool, 1, worst_case={"macs": 0.5}).matching("r20b")
