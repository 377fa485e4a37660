"""Outcomes: how good each answer was, and a confidence; everything works as for decisions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import committee as cm
from committee.errors import CascadeError, CommitteeError, Infeasible, ShapeError
from committee.pool.pool import Pool
from committee.store.import_predictions import import_predictions

COSTS = {"small": 1.0, "large": 10.0}


def answers(samples=400, seed=0):
    """Values (graded 1 or 0) and confidences of two models, the large one better and dearer."""
    rng = np.random.default_rng(seed)
    hard = rng.random(samples)
    found = {}
    for name, skill in (("small", 2.0), ("large", 4.5)):
        chance = 1 / (1 + np.exp(4 * hard - skill))
        value = (rng.random(samples) < chance).astype(np.int64)
        found[name] = value, np.clip(chance + rng.normal(0, 0.1, samples), 0, 1).round(3)
    return found


def pool_of(outputs, split="val", **options):
    count = len(next(iter(outputs.values()))[0])
    ids = [f"{split}{i}" for i in range(count)]
    return Pool.from_arrays(
        None,
        outputs,
        kind="outcomes",
        costs={n: COSTS[n] for n in outputs},
        unit="dollars",
        ids=ids,
        split=split,
        **options,
    )


def figures(front):
    return [
        (each.cascade.models_of_stages, each.cascade.thresholds, each.evaluation.accuracy,
         each.evaluation.average_cost, each.evaluation.exit_ratios)
        for each in front
    ]  # fmt: skip


@st.composite
def worlds(draw):
    samples = draw(st.integers(2, 25))
    grade = st.lists(st.integers(0, 1), min_size=samples, max_size=samples)
    sure = st.lists(st.integers(0, 6), min_size=samples, max_size=samples)
    return {name: (np.array(draw(grade)), np.array(draw(sure)) / 4) for name in ("small", "large")}


@given(worlds())
def test_graded_outcomes_equal_decisions_of_the_same_correctness(outputs):
    labels = np.ones(len(outputs["small"][0]), np.int64)
    decisions = Pool.from_arrays(labels, outputs, kind="decisions", costs=COSTS, unit="dollars")
    own, other = cm.search(pool_of(outputs)), cm.search(decisions)
    assert figures(own) == figures(other)


def test_the_value_of_a_sample_is_that_of_the_model_that_answered():
    outputs = answers()
    pool = pool_of(outputs)
    cascade = cm.Cascade.of(["small", "large"], [0.6], combine="last")
    exits = outputs["small"][1] >= 0.6
    value = np.where(exits, outputs["small"][0], outputs["large"][0])
    evaluation = cm.evaluate(cascade, pool)
    assert evaluation.accuracy == value.mean()
    assert evaluation.average_cost == pytest.approx(1 + 10 * (1 - exits.mean()))
    assert evaluation.measure == "correct answers"
    assert evaluation.correct == value.sum()


def test_numbers_within_bounds_are_averaged_and_not_certified():
    outputs = {n: (v * 7.5, c) for n, (v, c) in answers().items()}
    pool = pool_of(outputs, bounds=(0, 10))
    front = cm.search(pool)
    assert front[-1].evaluation.accuracy == pytest.approx(outputs["large"][0].mean())
    low, high = front[-1].evaluation.interval
    assert low < front[-1].evaluation.accuracy < high
    with pytest.raises(CascadeError, match="certificates need 1 or 0"):
        cm.certify(pool, match="large", within=0.01)


def test_a_certificate_of_graded_answers():
    promise = cm.certify(pool_of(answers(4000)), match="large", within=0.05)
    assert promise.certificate.lower_bound >= -0.05
    assert promise.certificate.record.measure == "correct answers"
    other = pool_of(answers(4000, seed=1), "test")
    assert promise.certificate.holds_on(other).outcome in ("kept", "open")
    with pytest.raises(Infeasible):
        cm.certify(pool_of(answers(100)), min_accuracy=0.999)


def test_a_given_cascade_is_certified_on_other_answers():
    pool, other = pool_of(answers(4000)), pool_of(answers(4000, seed=1), "test")
    chosen = cm.search(pool).matching("large", within=0.01).cascade
    promise = cm.certify(other, match="large", within=0.05, cascade=chosen)
    assert promise.evaluation == cm.evaluate(chosen, other)
    assert -0.05 <= promise.certificate.lower_bound < 0.05


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda p: cm.certify(p, agree_with="large"), "which it was"),
        (lambda p: p.labelled_by("large"), "which it was"),
        (lambda p: cm.search(p, confidence="prob_gap"), "bring their own"),
        (lambda p: cm.search(p, combine="mean_logits"), "combine='last'"),
        (lambda p: cm.search(p, metric=cm.top_k(2)), "graded already"),
        (lambda p: Pool.from_arrays(None, answers(), kind="decisions", bounds=(0, 1)), "bounds"),
        (lambda p: pool_of({"small": ([0.5], [1])}), "'val0' has the value 0.5; values are 0 or 1"),
        (lambda p: pool_of({"small": ([11], [1])}, bounds=(0, 10)), "from 0 to 10"),
        (lambda p: pool_of({"small": ([1], [1])}, bounds=(3, 1)), "lower first"),
        (lambda p: pool_of({"small": ([1], [np.nan])}), "NaN"),
        (lambda p: pool_of({"small": ([1], [np.inf])}), "infinite"),
        (lambda p: pool_of({"small": ([1], [1], [1])}), "a pair of values"),
        (lambda p: pool_of({"small": ([1, 0], [1])}), "values \\(N,\\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_gets_one_line(call, word):
    with pytest.raises(CommitteeError, match=word) as found:
        call(pool_of(answers()))
    assert "\n" not in str(found.value)


def test_a_model_without_an_answer_never_exits_before_the_last_stage():
    outputs = answers()
    values, confidence = outputs["small"]
    silent = np.arange(len(values)) % 5 == 0
    outputs["small"] = values * ~silent, np.where(silent, -np.inf, confidence)
    pool = pool_of(outputs)
    for each in cm.search(pool):
        if len(each.cascade.stages) == 2:
            assert each.cascade.thresholds[0] > -np.inf
            assert each.evaluation.exit_ratios[0] <= 0.8
    assert cm.evaluate(cm.Cascade.of(["small"], combine="last"), pool).exit_ratios == (1.0,)


def test_a_store_keeps_outcomes(tmp_path):
    outputs = answers()
    for name, (value, confidence) in outputs.items():
        rows = [f"q{i},{v / 2},{c}" for i, (v, c) in enumerate(zip(value, confidence, strict=True))]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,grade,score", *rows]))
    files = {name: tmp_path / f"{name}.csv" for name in outputs}
    options = {"kind": "outcomes", "split": "val", "costs": COSTS, "unit": "dollars"}
    with pytest.raises(ShapeError, match="values are 0 or 1"):
        import_predictions(files, tmp_path / "store", **options)
    pool = import_predictions(files, tmp_path / "store", bounds=(0, 0.5), **options)
    again = Pool.load(tmp_path / "store")
    for name, (value, confidence) in outputs.items():
        assert again.outputs[name].kind == "outcomes"
        np.testing.assert_array_equal(again.outputs[name].values, value / 2)
        np.testing.assert_array_equal(again.outputs[name].confidence, confidence)
    assert figures(cm.search(pool)) == figures(cm.search(again))
    # The same again changes nothing; other bounds are another scale.
    import_predictions(files, tmp_path / "store", bounds=(0, 0.5), **options)
    with pytest.raises(CommitteeError, match="bounds"):
        import_predictions(files, tmp_path / "store", bounds=(0, 1), **options)


def test_the_bounds_that_an_error_names_hold_the_values():
    outputs = {
        n: (np.array([0.0, high]), np.array([0.1, 0.2])) for n, high in (("a", 1), ("b", 90))
    }
    with pytest.raises(CommitteeError, match=r"--bounds 0,90, in Python bounds=.0, 90"):
        cm.Pool.from_arrays(None, outputs, kind="outcomes")


def test_the_nearest_of_outcomes_is_no_ensemble():
    rng = np.random.default_rng(0)
    outputs = {n: (rng.random(2000) < p, rng.random(2000)) for n, p in (("a", 0.6), ("b", 0.7))}
    pool = cm.Pool.from_arrays(None, outputs, kind="outcomes", costs={"a": 1, "b": 5})
    with pytest.raises(CommitteeError, match="Nearest at any cost: b, which"):
        cm.certify(pool, min_accuracy=0.9)
