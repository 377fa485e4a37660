"""Confidence functions against closed forms, SciPy, and extremes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from committee import errors, register_confidence
from committee.rule import scores as registry
from committee.rule.namespace import all_finite
from committee.rule.outputs import Outputs
from committee.rule.scores import SUREST, logit_gap, max_prob, neg_entropy, prob_gap, score, softmax
from strategies import CONFIDENCES

every = pytest.mark.parametrize("confidence", CONFIDENCES)
LOGITS = np.random.default_rng(0).normal(0, 5, (50, 11))
PROBABILITIES = scipy.special.softmax(LOGITS, axis=1)


def reference(probabilities, confidence):
    ranked = np.sort(probabilities, axis=1)
    return {
        "max_prob": ranked[:, -1],
        "prob_gap": ranked[:, -1] - ranked[:, -2],
        "logit_gap": np.log(ranked[:, -1] / ranked[:, -2]),
        "neg_entropy": -scipy.special.entr(probabilities).sum(axis=1),
    }[confidence]


@every
@pytest.mark.parametrize(("kind", "values"), [("logits", LOGITS), ("probabilities", PROBABILITIES)])
def test_scores_are_those_of_scipy(confidence, kind, values):
    scores = score(Outputs(kind, values), confidence)
    np.testing.assert_allclose(scores, reference(PROBABILITIES, confidence), rtol=1e-12, atol=1e-14)


def test_softmax_is_scipys():
    np.testing.assert_allclose(softmax(LOGITS), PROBABILITIES, rtol=1e-14)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_uniform_rows_are_least_sure(classes):
    row = np.zeros((1, classes))
    assert max_prob(row) == pytest.approx([1 / classes])
    assert prob_gap(row) == [0]
    assert logit_gap(row) == [0]
    assert neg_entropy(row) == pytest.approx([-math.log(classes)])


def test_two_classes_have_closed_forms():
    gap = 1.25
    row = np.array([[gap, 0.0]])
    sigmoid = 1 / (1 + math.exp(-gap))
    assert max_prob(row) == pytest.approx([sigmoid])
    assert prob_gap(row) == pytest.approx([math.tanh(gap / 2)])
    assert logit_gap(row) == [gap]
    entropy = -(sigmoid * math.log(sigmoid) + (1 - sigmoid) * math.log(1 - sigmoid))
    assert neg_entropy(row) == pytest.approx([-entropy])


@pytest.mark.parametrize(
    ("function", "surest"),
    [(max_prob, 1), (prob_gap, 1), (logit_gap, SUREST), (neg_entropy, 0)],
)
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_one_class_is_surest(function, surest, kind):
    assert function(np.array([[1.0]]), kind) == [surest]


@pytest.mark.parametrize(
    ("function", "surest"),
    [(max_prob, 1), (prob_gap, 1), (logit_gap, SUREST), (neg_entropy, 0)],
)
def test_certain_distributions_are_surest(function, surest):
    assert function(np.array([[0.0, 1.0, 0.0]]), "probabilities") == [surest]


@every
@pytest.mark.parametrize("size", [1e30, 1e300, 1.7e308])
def test_huge_logits_have_finite_scores(confidence, size):
    rows = np.array([[size, -size, 0.0], [size, size, 0.0], [-size, -size, -size]])
    scores = score(Outputs("logits", rows), confidence)
    assert np.isfinite(scores).all()
    assert scores[0] > scores[1]


@every
def test_huge_float32_logits_do_not_overflow(confidence):
    rows = np.array([[3e38, -3e38], [1.0, 0.0]], np.float32)
    scores = score(Outputs("logits", rows), confidence)
    assert scores.dtype == np.float64
    assert scores[0] > scores[1]


@every
@given(st.lists(st.floats(-30, 30), min_size=2, max_size=5), st.floats(-50, 50))
def test_adding_a_constant_changes_nothing(confidence, row, constant):
    plain = score(Outputs("logits", np.array([row])), confidence)
    shifted = score(Outputs("logits", np.array([row]) + constant), confidence)
    assert shifted == pytest.approx(plain, abs=1e-12)


@every
def test_a_clearer_winner_is_surer(confidence):
    rows = np.array([[x, 0.0, 0.0] for x in (0.0, 0.5, 1.0, 2.0, 4.0)])
    assert (np.diff(score(Outputs("logits", rows), confidence)) > 0).all()


@every
@pytest.mark.parametrize("shape", [(3,), (2, 0), (1, 2, 3)])
def test_wrong_shapes_are_refused(confidence, shape):
    with pytest.raises(errors.ShapeError, match=r"must have shape \(samples, classes\), not"):
        score(Outputs("logits", np.zeros(shape)), confidence)


@every
def test_no_samples_have_no_scores(confidence):
    assert score(Outputs("logits", np.zeros((0, 3))), confidence).shape == (0,)


def test_decisions_bring_their_own_score():
    outputs = Outputs("decisions", np.array([1, 0]), np.array([0.5, 0.25]))
    assert score(outputs, "max_prob").tolist() == [0.5, 0.25]


@pytest.fixture
def registered(monkeypatch):
    """A registry of this test alone."""
    monkeypatch.setattr(registry, "CONFIDENCES", dict(registry.CONFIDENCES))
    return register_confidence


def test_own_functions_are_used_by_name(registered):
    registered("first_logit", lambda values, kind: values[:, 0])
    assert score(Outputs("logits", np.array([[3.0, 4.0]])), "first_logit") == [3]


def test_a_name_is_not_taken_twice(registered):
    registered("max_prob", max_prob)
    with pytest.raises(errors.CascadeError, match="'max_prob' is taken"):
        registered("max_prob", prob_gap)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_scores_that_no_threshold_can_hold_are_refused(registered, wrong):
    registered("broken", lambda values, kind: np.array([0.0, wrong]))
    with pytest.raises(
        errors.NotFiniteError, match=r"'broken': NaN or infinite score, .* row 1 of 2"
    ):
        score(Outputs("logits", np.zeros((2, 2))), "broken")


def test_unknown_names_get_a_suggestion():
    with pytest.raises(errors.UnknownNameError, match="Did you mean 'neg_entropy'"):
        score(Outputs("logits", np.zeros((1, 2))), "entropy")


HARD = np.concatenate([
    np.random.default_rng(1).normal(0, 4, (300, 10)).astype(np.float32).astype(np.float64),
    np.random.default_rng(2).normal(0, 1e307, (50, 10)),
    [[1.7e308, -1.7e308, *[0.0] * 8], [1e291, -1.79e308, *[0.0] * 8], [0.0] * 10],
])  # fmt: skip


@every
def test_a_row_alone_scores_as_among_others_to_the_last_bit(confidence):
    """One row takes a shorter way."""
    outputs = Outputs("logits", HARD)
    together = score(outputs, confidence)
    alone = [score(outputs.rows(slice(i, i + 1)), confidence) for i in range(len(HARD))]
    assert np.concatenate(alone).tobytes() == together.tobytes()


def test_max_prob_is_the_largest_softmax_to_the_last_bit():
    for rows in (HARD, HARD[:1], HARD[-3:-2]):
        assert max_prob(rows).tobytes() == softmax(rows).max(axis=1).tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_all_finite_sees_one_number_anywhere(bad, dtype):
    for shape in ((1, 10), (7, 3), (3,)):
        values = np.random.default_rng(0).normal(size=shape).astype(dtype)
        assert all_finite(values)
        for place in np.ndindex(shape):
            spoilt = values.copy()
            spoilt[place] = bad
            assert not all_finite(spoilt)
            assert not all_finite(np.asfortranarray(spoilt))
    assert all_finite(np.zeros((0, 4)))
    assert not all_finite(np.array([np.inf, -np.inf, np.nan]))


def test_a_function_that_needs_its_namespace_scores_stored_outputs(monkeypatch):
    monkeypatch.setitem(registry.CONFIDENCES, "spread", lambda outputs, kind, xp: xp.max(outputs))
    outputs = Outputs("logits", np.array([[3.0, 1.0]]))
    assert score(outputs, "spread").tolist() == [3.0]


def test_a_function_that_works_in_place_changes_no_outputs(monkeypatch):
    def gap(outputs, kind):
        outputs.sort(axis=1)
        return outputs[:, -1] - outputs[:, -2]

    monkeypatch.setitem(registry.CONFIDENCES, "gap", gap)
    outputs = Outputs("logits", np.array([[3.0, 1.0]]))
    assert score(outputs, "gap").tolist() == [2.0]
    assert outputs.values.tolist() == [[3.0, 1.0]]


@pytest.mark.parametrize("shape", [(), (2, 1), (3,)])
def test_a_function_gives_one_score_a_sample(monkeypatch, shape):
    monkeypatch.setitem(registry.CONFIDENCES, "odd", lambda outputs, kind: np.zeros(shape))
    with pytest.raises(errors.ShapeError, match="give one score for each"):
        score(Outputs("logits", np.zeros((2, 3))), "odd")
