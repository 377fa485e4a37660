"""Evaluation against figures worked out by hand."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from committee import (
    Cascade,
    Evaluation,
    Pool,
    errors,
    evaluate,
    precomputed,
    search,
    top_k,
    weighted,
)
from committee.errors import CostError
from committee.pool.evaluate import stored_decisions


@pytest.fixture
def pool() -> Pool:
    """Five samples of class 0; the gaps of ``small`` are 4, 3, 2, 1, 0."""
    return Pool.from_arrays(
        [0, 0, 0, 0, 0],
        {
            "small": [[4, 0], [0, 3], [2, 0], [0, 1], [0, 0]],
            "large": [[0, 9], [9, 0], [0, 9], [9, 0], [0, 9]],
        },
        kind="logits",
        costs={"small": 1, "large": 10},
        split="test",
    )


def test_cascade_worked_out_by_hand(pool):
    # 4, 3 and 2 leave: right, wrong, right. Of the means of the others, (9, 1) / 2 is right and
    # (0, 9) / 2 is wrong. All five pay 1, two pay 10 more.
    assert evaluate(Cascade.of(["small", "large"], [2.0], "logit_gap"), pool) == Evaluation(
        split="test",
        samples=5,
        accuracy=0.6,
        average_cost=(5 * 1 + 2 * 10) / 5,
        worst_case_cost=11,
        unit="macs",
        exit_ratios=(0.6, 0.4),
    )


def test_decisions_worked_out_by_hand(pool):
    decisions = stored_decisions(Cascade.of(["small", "large"], [2.0], "logit_gap"), pool)
    assert decisions.predicted.tolist() == [0, 1, 0, 0, 1]
    assert decisions.score.tolist() == [4, 3, 2, 4, 4.5]
    assert decisions.stage.tolist() == [0, 0, 0, 1, 1]


def test_last_listens_to_the_newest_model_only(pool):
    decisions = stored_decisions(Cascade.of(["small", "large"], [2.0], "logit_gap", "last"), pool)
    assert decisions.score.tolist() == [4, 3, 2, 9, 9]


def test_ensemble_worked_out_by_hand(pool):
    evaluation = evaluate(Cascade.ensemble(["small", "large"]), pool)
    # The large model overrules the small one everywhere.
    assert (evaluation.correct, evaluation.accuracy) == (2, 0.4)
    assert evaluation.average_cost == evaluation.worst_case_cost == 11
    assert evaluation.exit_ratios == (1.0,)


def test_mean_of_probabilities_is_not_mean_of_logits():
    pool = Pool.from_arrays(
        [1],
        {"a": [[40.0, 0.0]], "b": [[0.0, 3.0]], "c": [[0.0, 3.0]]},
        kind="logits",
        costs={"a": 1, "b": 1, "c": 1},
    )
    # One model with a huge logit outweighs two; one with a probability of 1 does not.
    assert evaluate(Cascade.ensemble([*"abc"]), pool).correct == 0
    assert evaluate(Cascade.ensemble([*"abc"], combine="mean_probabilities"), pool).correct == 1


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [("probabilities", [[1.0, 0.0]]), ("decisions", ([0], [0.5]))],
)
def test_combination_that_cannot_be_names_the_remedy(kind, outputs):
    pool = Pool.from_arrays([0], {"a": outputs}, kind=kind, costs={"a": 1})
    remedy = {"probabilities": "mean_probabilities", "decisions": "last"}[kind]
    with pytest.raises(errors.CascadeError, match=f"'a' gives {kind}.* Use combine='{remedy}'"):
        evaluate(Cascade.of(["a"], combine="mean_logits"), pool)


@settings(max_examples=50)
@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_is_wilsons(counts):
    correct, samples = counts
    low, high = Evaluation("test", samples, correct / samples, 1, 1, "macs", (1.0,)).interval
    z = 1.959963984540054
    share = correct / samples
    middle = (share + z * z / (2 * samples)) / (1 + z * z / samples)
    half = z / (1 + z * z / samples)
    half *= math.sqrt(share * (1 - share) / samples + z * z / (4 * samples * samples))
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-9)
    assert -1e-12 <= low <= share <= high <= 1 + 1e-12


def test_json_has_every_figure():
    evaluation = Evaluation("test", 4, 0.75, 1.5, 2.0, "macs", (0.75, 0.25))
    data = evaluation.to_json()
    assert data.pop("interval") == list(evaluation.interval)
    assert data == {
        "split": "test",
        "samples": 4,
        "correct": 3,
        "accuracy": 0.75,
        "interval_level": 0.95,
        "average_cost": 1.5,
        "worst_case_cost": 2.0,
        "unit": "macs",
        "exit_ratios": [0.75, 0.25],
        "measure": "top-1",
    }


def test_unlabelled_pool_is_refused():
    pool = Pool.from_arrays(None, {"a": [[1.0]]}, kind="logits", costs={"a": 1})
    with pytest.raises(errors.MisalignedError, match="'val' has no labels; accuracy needs them"):
        evaluate(Cascade.of(["a"]), pool)


def test_unlabelled_pool_is_decided():
    pool = Pool.from_arrays(None, {"a": [[0.0, 1.0]]}, kind="logits")
    assert stored_decisions(Cascade.of(["a"]), pool).predicted.tolist() == [1]


def test_empty_split_is_refused():
    empty = np.zeros((0, 2))
    pool = Pool.from_arrays(np.zeros(0, int), {"a": empty}, kind="logits", costs={"a": 1})
    with pytest.raises(errors.MisalignedError, match="'val' has no samples"):
        evaluate(Cascade.of(["a"]), pool)


def test_missing_cost_is_refused(pool):
    with pytest.raises(errors.CostError, match="no 'dollars' for small"):
        evaluate(Cascade.of(["small"]), pool, unit="dollars")


@pytest.mark.parametrize("function", [evaluate, stored_decisions])
def test_unknown_model_gets_a_suggestion(pool, function):
    with pytest.raises(errors.UnknownNameError, match=r"no model 'larg'.* Did you mean 'large'"):
        function(Cascade.of(["larg"]), pool)


def test_a_model_without_cost_does_not_block_the_others():
    outputs = {"priced": [[1.0, 0.0]], "free": [[0.0, 1.0]]}
    pool = Pool.from_arrays([0], outputs, kind="logits", costs={"priced": 3.0})
    assert evaluate(Cascade.of(["priced"]), pool, "macs").average_cost == 3.0
    with pytest.raises(CostError, match="free"):
        evaluate(Cascade.of(["free"]), pool, "macs")


def test_a_choice_is_not_its_cascade():
    pool = Pool.from_arrays([0, 1], {"a": [[2.0, 0.0], [0.0, 1.0]]}, kind="logits", costs={"a": 1})
    choice = search(pool).matching("a")
    with pytest.raises(errors.CascadeError, match=r"give choice\.cascade"):
        evaluate(choice, pool)


def test_metrics_of_equal_numbers_are_equal_and_so_are_their_copies():
    for make in (
        lambda: weighted([1.0, 2.0]),
        lambda: precomputed({("a",): [1.0, 2.0]}),
        lambda: top_k(2),
    ):
        assert make() == make() == pickle.loads(pickle.dumps(make()))
    assert weighted([1.0, 2.0]) != weighted([1.0, 3.0])
