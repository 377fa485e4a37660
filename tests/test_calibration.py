"""Calibration: laws of the maps, fits against independent ones, and one rule for all drivers."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import minimize_scalar
from scipy.special import expit, logsumexp, softmax

import committee as cm
from committee import Calibration, Cascade, Pool
from committee.calibration.fitting import fit, fit_calibrations, ruled_out_note
from committee.calibration.reliability import (
    expected_calibration_error,
    reliability,
    says_probabilities,
)
from committee.errors import (
    CalibrationError,
    CascadeError,
    MisalignedError,
    ShapeError,
    UnknownNameError,
)
from committee.pool.comparison import identity_of
from committee.pool.evaluate import stored_decisions
from committee.rule.calibration import METHODS
from committee.rule.calibration_format import calibration_from_json
from committee.rule.outputs import Outputs
from committee.rule.scores import max_prob
from pool_changes import with_outputs
from strategies import RULES, calibrated_pools, calibrations, random_pool

# Those that one function makes of all classes.
SMOOTH = METHODS[:2]
MATRICES = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    elements=st.one_of(st.integers(-3, 3).map(float), st.floats(-1e4, 1e4)),
)


def drawn(seed, samples=4000, classes=5, spread=2.0):
    """Logits that are right as often as they say, and labels drawn by them."""
    random = np.random.default_rng(seed)
    values = random.normal(0, spread, (samples, classes))
    labels = (values + random.gumbel(size=values.shape)).argmax(axis=1)
    return values, labels


def logits(values):
    return Outputs("logits", values)


def probabilities(values):
    return Outputs("probabilities", softmax(np.float64(values), axis=1))


def loss(outputs, labels):
    """Mean negative log-likelihood."""
    values = np.float64(outputs.values)
    values = values if outputs.kind == "logits" else np.log(values)
    values = values - logsumexp(values, axis=1, keepdims=True)
    return -values[np.arange(len(labels)), labels].mean()


# The maps.


@given(MATRICES, calibrations("logits"))
def test_a_model_alone_predicts_as_before_and_ranks_as_before(values, calibration):
    for outputs in (logits(values), probabilities(values)):
        made = calibration.apply(outputs)
        assert (made.kind, made.values.dtype) == (outputs.kind, np.float64)
        np.testing.assert_array_equal(made.predicted(), outputs.predicted())
        # Nothing overtakes, but for the hair by which the leader stays ahead.
        order = np.argsort(outputs.values, axis=1, kind="stable")
        steps = np.diff(np.take_along_axis(made.values, order, axis=1), axis=1)
        assert (steps >= -1e-12 * np.abs(made.values).max(initial=1)).all()


@given(MATRICES)
def test_temperature_1_changes_nothing(values):
    one = Calibration.of_temperature(1.0)
    for outputs in (logits(values), probabilities(values)):
        np.testing.assert_array_equal(one.apply(outputs).values, outputs.values)


@given(MATRICES, st.floats(0.05, 20))
def test_a_temperature_divides_logits_and_their_softmax_agrees(values, temperature):
    calibration = Calibration.of_temperature(temperature)
    expected = values / temperature
    np.testing.assert_allclose(calibration.apply(logits(values)).values, expected, rtol=1e-14)
    close = np.float64(softmax(values, axis=1)).min() > 1e-200
    if close:
        made = calibration.apply(probabilities(values)).values
        np.testing.assert_allclose(made, softmax(expected, axis=1), rtol=1e-6, atol=1e-12)


@given(MATRICES, st.floats(0.05, 20))
def test_one_piece_is_a_temperature(values, slope):
    piece = Calibration("platt", (slope,)).apply(logits(values))
    temperature = Calibration.of_temperature(1 / slope).apply(logits(values))
    for each in (piece, temperature):
        each.values[:] -= logsumexp(each.values, axis=1, keepdims=True)
    np.testing.assert_allclose(piece.values, temperature.values, rtol=1e-9, atol=1e-9)


def test_a_rising_map_is_that_of_numpy_and_its_ends_go_on():
    calibration = Calibration("platt", (2.0, 0.5, 3.0), (-2.0, -1.0), 0.25)
    scores = np.linspace(-5, 4, 181)
    # Points of the map: from the left, slope 2 up to (-2, 0.25), 0.5 up to (-1, 0.75), then 3.
    expected = np.interp(scores, [-5, -2, -1, 4], [-5.75, 0.25, 0.75, 15.75])
    made = calibration.apply(Outputs("decisions", np.zeros(181, np.int64), scores))
    np.testing.assert_allclose(made.confidence, expit(expected), rtol=1e-12)


@given(st.data())
def test_decisions_keep_their_classes_and_the_order_of_their_confidence(data):
    confidence = np.array(data.draw(st.lists(st.floats(-100, 100), min_size=1)))
    calibration = data.draw(calibrations("decisions"))
    outputs = Outputs("decisions", np.arange(len(confidence)), confidence)
    made = calibration.apply(outputs)
    np.testing.assert_array_equal(made.values, outputs.values)
    assert says_probabilities(made)
    assert (np.diff(made.confidence[np.argsort(confidence)]) >= 0).all()


@pytest.mark.parametrize("classes", [1, 2, 10, 333])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize(
    "calibration",
    [Calibration.of_temperature(1.3), Calibration("platt", (0.4, 1.1, 2.0), (-4.0, -0.7))],
    ids=SMOOTH,
)
def test_a_row_is_calibrated_alone_as_in_a_batch(kind, dtype, classes, calibration):
    random = np.random.default_rng(classes)
    values = random.normal(0, 4, (70, classes)).astype(dtype)
    outputs = Outputs(kind, values if kind == "logits" else softmax(values, axis=1))
    whole = calibration.apply(outputs).values
    alone = [slice(i, i + 1) for i in range(70)]
    scattered = [random.permutation(70)[:size] for size in (2, 3, 5, 17, 33, 64)]
    for rows in [*alone, *scattered, slice(None, None, -1), slice(5, 60, 7)]:
        assert calibration.apply(outputs.rows(rows)).values.tobytes() == whole[rows].tobytes()
    for layout in (np.asfortranarray(outputs.values), np.repeat(outputs.values, 2, 1)[:, ::2]):
        assert calibration.apply(Outputs(kind, layout)).values.tobytes() == whole.tobytes()


def test_more_rows_than_a_block_are_calibrated_as_few():
    values, _ = drawn(0, samples=9000)
    calibration = Calibration("platt", (0.5, 2.0), (-1.0,))
    whole = calibration.apply(logits(values)).values
    parts = [calibration.apply(logits(each)).values for each in np.array_split(values, 7)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


@given(st.data(), st.sampled_from(["logits", "decisions"]))
def test_json_gives_it_back(data, kind):
    calibration = replace(data.draw(calibrations(kind)), split="cal", samples="0123")
    assert calibration_from_json(json.loads(json.dumps(calibration.to_json()))) == calibration


WRONG = {
    "no such method": {"method": "isotonic"},
    "a slope that falls": {"slopes": [-1.0]},
    "a flat slope": {"slopes": [0.0]},
    "no slope": {"slopes": []},
    "knots without slopes": {"knots": [0.0]},
    "knots that do not rise": {"slopes": [1.0, 1.0, 1.0], "knots": [0.0, 0.0]},
    "NaN": {"slopes": [float("nan")]},
    "text": {"slopes": ["1"]},
    "truth": {"offset": True},
    "not a list": {"slopes": 1.0},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_calibration_is_refused_wherever_it_stands(wrong, tmp_path):
    data = {**Calibration("platt", (1.0,)).to_json(), **WRONG[wrong]}
    with pytest.raises(CalibrationError):
        calibration_from_json(data)
    cascade = Cascade.of(["a"], calibrations={"a": Calibration("platt", (1.0,))})
    path = cascade.save(tmp_path / "cascade.json")
    path.write_text(json.dumps({**cascade.to_json(), "calibrations": {"a": data}}))
    with pytest.raises(CascadeError, match=r"cascade\.json: (calibration|no valid JSON)") as told:
        Cascade.load(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("temperature", [0, -1, float("inf"), float("nan")])
def test_no_temperature_is_refused(temperature):
    with pytest.raises(CalibrationError, match="above 0"):
        Calibration.of_temperature(temperature)


# Fits.


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_a_temperature_is_the_one_of_most_likelihood(seed, factor):
    values, labels = drawn(seed)
    outputs = logits(factor * values)

    def of(logarithm):
        return loss(logits(outputs.values / np.exp(logarithm)), labels)

    best = np.exp(minimize_scalar(of, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9}).x)
    found = 1 / fit(outputs, labels).slopes[0]
    assert found == pytest.approx(best, rel=1e-4)
    assert found == pytest.approx(factor, rel=0.1)
    given_probabilities = fit(probabilities(outputs.values), labels)
    assert 1 / given_probabilities.slopes[0] == pytest.approx(found, rel=1e-4)


def bent(outputs):
    """Logits through a bent map, so that no temperature sets them right."""
    wrong = Calibration("platt", (4.0, 0.4, 2.5), (-2.5, -0.8))
    return wrong.apply(outputs)


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_a_rising_map_sets_right_what_no_temperature_does(kind):
    values, labels = drawn(5, samples=20_000, spread=1.5)
    outputs = bent(logits(values) if kind == "logits" else probabilities(values))
    half = slice(0, 10_000), slice(10_000, None)
    errors, losses = {}, {}
    for method in SMOOTH:
        made = fit(outputs.rows(half[0]), labels[half[0]], method).apply(outputs.rows(half[1]))
        errors[method] = expected_calibration_error(made, labels[half[1]])
        losses[method] = loss(made, labels[half[1]])
    before = expected_calibration_error(outputs.rows(half[1]), labels[half[1]])
    assert errors["platt"] < 0.5 * errors["temperature"] < before
    # The logits that drew the labels are the best there is.
    best = loss(logits(values[half[1]]), labels[half[1]])
    assert losses["platt"] - best < 0.5 * (losses["temperature"] - best)


@pytest.mark.parametrize("seed", range(3))
def test_more_pieces_never_fit_worse_on_their_own_samples(seed):
    values, labels = drawn(seed, samples=1000)
    outputs = logits(values)
    one, many = (fit(outputs, labels, method) for method in SMOOTH)
    assert (len(one.slopes), len(many.slopes)) == (1, 8)
    assert loss(many.apply(outputs), labels) <= loss(one.apply(outputs), labels) + 1e-9


def test_few_samples_get_one_piece_which_is_the_temperature():
    values, labels = drawn(1, samples=150)
    one, piece = (fit(logits(values), labels, method) for method in SMOOTH)
    assert piece.slopes == one.slopes


@pytest.mark.parametrize("scale", [1e-3, 1.0, 500.0])
def test_confidence_of_decisions_becomes_how_often_they_are_right(scale):
    random = np.random.default_rng(1)
    score = random.normal(size=20_000)
    right = random.random(20_000) < expit(1 + np.where(score < 0, 0.5, 2) * score)
    outputs = Outputs("decisions", np.where(right, 3, 1), scale * score + 7)
    labels = np.full(20_000, 3)
    half = slice(0, 10_000), slice(10_000, None)
    calibration = fit(outputs.rows(half[0]), labels[half[0]], "platt")
    made = calibration.apply(outputs.rows(half[1]))
    assert expected_calibration_error(made, labels[half[1]]) < 0.015


def test_coarse_confidence_has_as_many_pieces_as_it_allows():
    random = np.random.default_rng(2)
    coarse = random.integers(0, 3, 2000) / 2
    right = random.random(2000) < 0.4 + 0.5 * coarse
    outputs = Outputs("decisions", right.astype(np.int64), coarse)
    calibration = fit(outputs, np.ones(2000, np.int64), "platt")
    assert calibration.knots == (0.5,)
    made = calibration.apply(outputs).confidence
    for value in (0.0, 0.5, 1.0):
        some = coarse == value
        assert made[some][0] == pytest.approx(right[some].mean(), abs=0.02)


VALUES, LABELS = drawn(0, samples=50)
UNFITTABLE = {
    "no labels": (logits(VALUES), None, "there are no labels"),
    "other labels": (logits(VALUES), LABELS[:9], "50 rows of outputs, 9 labels"),
    "labels of other classes": (logits(VALUES), LABELS - 1, "labels run from -1 to 3"),
    "no samples": (logits(VALUES[:0]), LABELS[:0], "all 0 samples"),
    "one class": (logits(VALUES[:, :1]), np.zeros(50, np.int64), "with one class"),
    "all right": (logits(VALUES), VALUES.argmax(1), "all 50 samples are predicted right"),
    "all wrong": (logits(VALUES), VALUES.argmin(1), "all 50 samples are predicted wrong"),
    "constant": (logits(np.ones((50, 3))), np.arange(50) % 3, "the same for every class"),
    "constant confidence": (
        Outputs("decisions", np.arange(50) % 2, np.full(50, 0.5)),
        np.zeros(50, np.int64),
        "the same for every sample",
    ),
}


@pytest.mark.parametrize("case", UNFITTABLE)
@pytest.mark.parametrize("method", SMOOTH)
def test_what_cannot_be_fitted_gets_one_line(case, method):
    outputs, labels, line = UNFITTABLE[case]
    if outputs.kind == "decisions" and method == "temperature":
        line = "use the method platt"
    with pytest.raises((CalibrationError, MisalignedError), match=line) as told:
        fit(outputs, labels, method, where="model 'a'")
    assert str(told.value).startswith("model 'a': ")
    assert "\n" not in str(told.value)


def test_an_unknown_method_is_told():
    with pytest.raises(UnknownNameError, match="There are: experts, per-class, platt, temperature"):
        fit(logits(VALUES), LABELS, "isotonic")


def test_a_temperature_of_decisions_is_refused():
    with pytest.raises(CalibrationError, match="use the method platt"):
        Calibration.of_temperature(2.0).apply(Outputs("decisions", LABELS, LABELS / 5))


# Expected calibration error.


@pytest.mark.parametrize("spread", [0.3, 2.0, 10.0, 60.0])
@pytest.mark.parametrize("bins", [1, 7, 15, 100])
def test_the_error_is_that_of_torchmetrics(spread, bins):
    torch = pytest.importorskip("torch", reason="torchmetrics needs it")
    metrics = pytest.importorskip(
        "torchmetrics.functional.classification", reason="torchmetrics is the oracle of this test"
    )
    for seed in range(2):
        values, _ = drawn(seed, samples=700, spread=spread)
        labels = np.random.default_rng(seed).integers(0, 5, 700)
        labels[:500] = values[:500].argmax(axis=1)
        outputs = probabilities(values)
        expected = metrics.multiclass_calibration_error(
            torch.tensor(outputs.values), torch.tensor(labels), 5, n_bins=bins, norm="l1"
        )
        for each in (outputs, logits(values)):
            found = expected_calibration_error(each, labels, bins)
            assert found == pytest.approx(float(expected), abs=2e-6)


def test_the_error_by_hand():
    confidence = np.array([0.9, 0.8, 0.6, 1.0])
    outputs = Outputs("decisions", np.array([0, 0, 0, 0]), confidence)
    found = reliability(outputs, np.array([0, 1, 0, 0]), bins=2)
    assert found.count.tolist() == [0, 3, 1]
    np.testing.assert_allclose(found.confidence, [0, 2.3 / 3, 1], rtol=1e-6)
    np.testing.assert_allclose(found.accuracy, [0, 2 / 3, 1])
    assert found.error == pytest.approx(0.75 * 0.1, rel=1e-5)


@pytest.mark.parametrize(
    ("outputs", "labels", "bins", "line"),
    [
        (logits(VALUES), LABELS, 0, "bins must be 1 or more"),
        (logits(VALUES), LABELS[1:], 15, "50 rows of outputs, 49 labels"),
        (logits(VALUES[:0]), LABELS[:0], 15, "0 rows of outputs"),
        (Outputs("decisions", LABELS, VALUES[:, 0]), LABELS, 15, "only of probabilities, 0 to 1"),
    ],
)
def test_an_error_that_is_none_is_refused(outputs, labels, bins, line):
    with pytest.raises((ShapeError, MisalignedError), match=line):
        expected_calibration_error(outputs, labels, bins)


# Pools and cascades.


def applied(pool):
    """A pool whose outputs are calibrated already."""
    outputs = {
        name: pool.calibrations[name].apply(each) if name in pool.calibrations else each
        for name, each in pool.outputs.items()
    }
    return with_outputs(pool.with_calibrations({}), outputs)


def figures(committees):
    """What committees are and score, without what they apply."""
    return [(replace(c.cascade, calibrations={}), c.evaluation) for c in committees]


@given(st.sampled_from(RULES), st.data())
@settings(max_examples=50)
def test_search_is_that_of_outputs_calibrated_before(case, data):
    kind, combine, confidence = case
    pool = data.draw(calibrated_pools(kind, max_models=3, max_samples=9))
    rule = {"combine": combine, "confidence": confidence}
    front = cm.search(pool, len(pool.names), grid=5, **rule)
    before = cm.search(applied(pool), len(pool.names), grid=5, **rule)
    assert figures(front) == figures(before)
    for member in front:
        names = set(member.cascade.names) & set(pool.calibrations)
        assert set(member.cascade.calibrations) == names
        assert cm.evaluate(member.cascade, pool) == member.evaluation


# What a model says of its own class: unlike top-1, a calibration changes it for one model too.
SURE = cm.Metric("sure", lambda e: max_prob(e.outputs.values, e.outputs.kind), counted=False)
WAYS = {
    "as_cascade": lambda pool: [cm.as_cascade(pool.names, pool)],
    "threshold_sweep": lambda pool: cm.threshold_sweep(pool.names[:2], pool),
    "greedy": cm.greedy,
    "guided": lambda pool: cm.guided(pool, 3, keep=3),
    "ensembles": lambda pool: cm.ensembles(pool, 3),
    "top-2": lambda pool: cm.search(pool, 2, metric=cm.top_k(2)),
    "weighted": lambda pool: cm.search(pool, 2, metric=cm.weighted(np.arange(len(pool)) + 1.5)),
    "agreement": lambda pool: cm.search(pool.labelled_by(pool.names[-2:]), 2),
    "a model to match": lambda pool: [cm.search(pool, 2, metric=SURE).matching("c")],
}


@pytest.mark.parametrize(("way", "method"), list(zip(WAYS, itertools.cycle(SMOOTH), strict=False)))
def test_every_way_of_searching_applies_them(way, method):
    whole = random_pool(seed=4, models=4, samples=900)
    # One model is far too sure: averaged as it is, it wins over all others.
    loud = Outputs("logits", 30 * whole.outputs["a"].values)
    whole = with_outputs(whole, {"a": loud})
    cal, val = whole.rows(slice(0, 500), "cal"), whole.rows(slice(500, None), "val")
    pool = val.with_calibrations(fit_calibrations(cal, method))
    assert figures(WAYS[way](pool)) == figures(WAYS[way](applied(pool)))
    assert figures(WAYS[way](pool)) != figures(WAYS[way](val))


def test_a_loud_model_no_longer_wins():
    whole = random_pool(seed=4, models=2, samples=4000)
    loud = Outputs("logits", 30 * whole.outputs["a"].values)
    whole = with_outputs(whole, {"a": loud})
    cal, test = whole.rows(slice(0, 2000), "cal"), whole.rows(slice(2000, None), "test")
    fitted = fit_calibrations(cal)
    raw, calibrated = (
        cm.evaluate(Cascade.ensemble(["a", "b"], calibrations=each), test).accuracy
        for each in ({}, fitted)
    )
    alone = {n: cm.evaluate(Cascade.of([n]), test).accuracy for n in test.names}
    assert raw == pytest.approx(alone["a"], abs=0.01)
    assert calibrated > max(alone.values()) - 0.01 > raw


def test_a_cascade_brings_its_own_calibrations_and_only_those():
    pool = random_pool(seed=1, models=3, samples=300)
    known = {name: Calibration.of_temperature(i + 0.5) for i, name in enumerate(pool.names)}
    cascade = Cascade.of(["a", "b", "c"], [0.9, -np.inf], calibrations=known)
    assert set(cascade.simplified().calibrations) == {"a", "b"}
    other = pool.with_calibrations({"a": Calibration.of_temperature(9.0)})
    assert cm.evaluate(cascade, other) == cm.evaluate(cascade, pool)
    assert cascade != replace(cascade, calibrations={})
    assert hash(cascade) == hash(replace(cascade, calibrations=dict(known)))


def test_cascade_files_with_and_without_are_read(tmp_path):
    cascade = Cascade.of(
        ["a", "b"], [0.5], calibrations={"b": Calibration("platt", (1.0, 2.0), (-0.5,))}
    )
    assert Cascade.load(cascade.save(tmp_path / "new.json")) == cascade
    old = cascade.to_json()
    del old["calibrations"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert Cascade.load(tmp_path / "old.json") == replace(cascade, calibrations={})


def test_pools_carry_them():
    pool = random_pool(seed=1, models=3, samples=90)
    known = fit_calibrations(pool.rows(slice(0, 40), "cal"))
    some = pool.rows(slice(40, None), "val").with_calibrations(known)
    assert some.only(["c", "a"]).calibrations == {n: known[n] for n in ("c", "a")}
    assert some.rows(slice(0, 9), "few").calibrations == known
    assert some.labelled_by("a").calibrations == known
    assert (known["a"].split, known["a"].samples) == (
        "cal",
        identity_of(pool.rows(slice(0, 40), "cal"), ["a"]),
    )
    with pytest.raises(UnknownNameError, match="no model 'd'"):
        pool.with_calibrations({"d": known["a"]})
    with pytest.raises(MisalignedError, match="fitted to true labels"):
        fit_calibrations(pool.labelled_by("a"))


def test_a_pool_without_labels_has_nothing_to_fit_to():
    pool = Pool.from_arrays(None, {"a": [[1.0, 2.0]]}, kind="logits")
    with pytest.raises(CalibrationError, match="model 'a' on 'val': there are no labels"):
        fit_calibrations(pool)


def test_what_calibrated_does_not_judge_and_what_chose_should_not_calibrate():
    whole = random_pool(seed=2, models=2, samples=400)
    val, test = whole.rows(slice(0, 200), "val"), whole.rows(slice(200, None), "test")
    with pytest.raises(MisalignedError, match=r"'test' holds the samples that the calibrations"):
        cm.search(val.with_calibrations(fit_calibrations(test)), test=test)
    front = cm.search(val.with_calibrations(fit_calibrations(val)), test=test)
    assert any("of a, b were fitted on val, which also chose" in each for each in front.warnings)
    assert not any("fitted" in each for each in cm.search(val).warnings)


@given(st.data())
def test_a_cascade_applies_them_to_the_rows_that_reach_a_stage(data):
    pool = data.draw(calibrated_pools("logits", max_models=3, max_samples=9))
    thresholds = [data.draw(st.floats(0.3, 1)) for _ in pool.names[1:]]
    cascade = Cascade.of(pool.names, thresholds, calibrations=pool.calibrations)
    found = stored_decisions(cascade, pool)
    expected = stored_decisions(replace(cascade, calibrations={}), applied(pool))
    for name in ("predicted", "score", "stage"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("method", ["temperature", "platt"])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_a_sample_whose_class_is_ruled_out_does_not_move_the_fit(method: str, kind: str) -> None:
    random = np.random.default_rng(3)
    values = random.normal(0, 2, (400, 4))
    labels = (values + random.normal(0, 2, values.shape)).argmax(axis=1)
    if kind == "probabilities":
        values = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    alone = fit(Outputs(kind, values[1:]), labels[1:], method)
    values[0] = [-np.inf, 0, 1, 2] if kind == "logits" else [0, 0.2, 0.3, 0.5]
    labels[0] = 0
    assert fit(Outputs(kind, values), labels, method) == alone
    assert "without 1 of 400 samples" in ruled_out_note("a", Outputs(kind, values), labels)


def test_the_default_method_fits_the_kind() -> None:
    random = np.random.default_rng(4)
    values = random.normal(0, 2, (200, 3))
    labels = (values + random.normal(0, 2, values.shape)).argmax(axis=1)
    stored_decisions = Outputs("decisions", values.argmax(axis=1), values.max(axis=1))
    assert fit(stored_decisions, labels).method == "platt"
    assert fit(Outputs("logits", values), labels).method == "temperature"


@pytest.mark.parametrize("method", ["platt", "per-class"])
def test_a_decision_that_was_not_given_moves_no_fit_and_stays_none(method: str) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 400)
    classes = np.where(random.random(400) < 0.7, labels, random.integers(0, 3, 400))
    confidence = random.normal(size=400)
    given = Outputs("decisions", classes, confidence)
    lacking = Outputs(
        "decisions", np.append(classes, [0] * 40), np.append(confidence, [-np.inf] * 40)
    )
    known = fit(given, labels, method)
    fitted = fit(lacking, np.append(labels, [0] * 40), method)
    assert fitted == known
    made = fitted.apply(lacking)
    assert (made.confidence[:400] > 0).all()
    assert np.isneginf(made.confidence[400:]).all()
    error = expected_calibration_error(known.apply(given), labels)
    assert expected_calibration_error(made, np.append(labels, [0] * 40)) == error
    assert "to which it gave no answer" in ruled_out_note("a", lacking, np.append(labels, [0] * 40))
