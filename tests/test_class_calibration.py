"""Calibration by predicted class: laws, known miscalibrations, folds, files, bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

import committee as cm
from committee import Cascade, Pool
from committee.calibration.class_fitting import HALF_WEIGHT
from committee.calibration.cross_fitting import FOLDS, cross_fitted
from committee.calibration.fitting import BY_CLASS, fit, fit_calibrations
from committee.calibration.reliability import expected_calibration_error
from committee.cli import main
from committee.errors import CalibrationError, CascadeError, MisalignedError
from committee.pool.evaluate import stored_decisions
from committee.rule.calibration_format import calibration_from_json
from committee.rule.class_calibration import Experts, PerClass
from committee.rule.outputs import Outputs
from committee.selection.notes import target_of
from committee.store.calibrations import calibrate
from committee.store.import_predictions import import_predictions

SAMPLES, CLASSES, MODELS = 3000, 6, 4


def services(seed: int, samples: int = SAMPLES) -> Pool:
    """Services that are better in some classes than in others, and surer of some than of others.

    Their confidence is the logistic function of a margin, shifted by the predicted class: by -2 to
    2, in another order for each service. What is wrong is mostly one class.
    """
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, samples)
    outputs = {}
    for number in range(MODELS):
        skill, shift = (random.permutation(np.linspace(-2, 2, CLASSES)) for _ in range(2))
        margin = 0.5 + 0.5 * number + 0.75 * skill[labels] + random.normal(size=samples)
        other = np.where(
            random.random(samples) < 0.6, 1 + number, 1 + random.integers(0, 5, samples)
        )
        predicted = np.where(margin > 0, labels, (labels + other) % CLASSES)
        noise = random.normal(size=samples)
        confidence = np.round(expit(margin + noise + shift[predicted]), 2)
        outputs[f"s{number}"] = (predicted, confidence)
    costs = {name: float(2**number) for number, name in enumerate(outputs)}
    return Pool.from_arrays(labels, outputs, kind="decisions", costs=costs, unit="dollars")


def halves(seed: int) -> tuple[Pool, Pool]:
    pool = services(seed, 2 * SAMPLES)
    return pool.rows(slice(0, SAMPLES), "val"), pool.rows(slice(SAMPLES, None), "test")


def accuracies(val: Pool, test: Pool, method: str | None, budgets: list[float]) -> list[float]:
    """Accuracy on test of what is best on val within each budget."""
    known = fit_calibrations(val, method) if method else {}
    own = val.with_calibrations(known), test.with_calibrations(known)
    front = cm.search(own[0], 3, test=own[1], grid=30)
    return [front.at_most(cost=each).test.accuracy for each in budgets]


def test_classes_of_other_confidence_are_worth_more_at_equal_budget() -> None:
    val, test = halves(0)
    budgets = [2.0, 4.0, 8.0]
    plain, per_class, experts = (
        np.array(accuracies(val, test, method, budgets)) for method in (None, *BY_CLASS)
    )
    assert (per_class - plain).mean() > 0.02
    assert (per_class >= plain - 0.005).all()
    assert (experts - per_class).mean() > 0.02


def test_experts_lift_a_pool_of_weak_models_over_the_best_of_them() -> None:
    val, test = halves(5)
    known = fit_calibrations(val, "experts")
    alone = [cm.evaluate(Cascade.of([n]), test).accuracy for n in test.names]
    every = Cascade.ensemble(test.names, calibrations=known)
    assert cm.evaluate(every, test).accuracy > max(alone) + 0.05
    with pytest.raises(CascadeError, match="decisions"):
        cm.evaluate(Cascade.ensemble(test.names, combine="mean_logits"), test)


def test_the_confidence_is_how_often_each_class_is_right() -> None:
    val, test = halves(7)
    known = fit(val.model("s0"), val.samples.labels, "per-class")
    made, labels = known.apply(test.model("s0")), test.samples.labels
    for each in range(CLASSES):
        own = made.values == each
        assert expected_calibration_error(made.rows(own), labels[own]) < 0.1
    plain = fit(val.model("s0"), val.samples.labels, "platt").apply(test.model("s0"))
    errors = [
        max(
            expected_calibration_error(one.rows(one.values == c), labels[one.values == c])
            for c in range(CLASSES)
        )
        for one in (made, plain)
    ]
    assert errors[0] < errors[1] / 2


def test_a_rare_class_stands_between_its_own_map_and_that_of_all() -> None:
    random = np.random.default_rng(0)
    confidence = random.random(2010)
    predicted = np.append(np.zeros(2000, np.int64), np.ones(10, np.int64))
    labels = np.where(random.random(2010) < 0.5, predicted, 2)
    labels[2000:] = 1  # the rare class is always right
    known = fit(Outputs("decisions", predicted, confidence), labels, "per-class")
    assert isinstance(known, PerClass)
    weight = 10 / (10 + HALF_WEIGHT)
    assert known.weights[1] == pytest.approx(weight)
    # Of ten right samples, one more and a wrong one: 11 of 12.
    own = known.class_heights[1]
    assert own == pytest.approx((11 / 12,))

    def at(*classes: int) -> np.ndarray:
        some = Outputs("decisions", np.array(classes), np.full(len(classes), 0.5))
        return known.apply(some).confidence

    common, rare, unseen, far = at(0, 1, 2, 10**6)
    assert unseen == far  # a class never seen has the map of all
    assert rare == pytest.approx(weight * 11 / 12 + (1 - weight) * unseen)
    assert common < 0.6 < rare


DECISIONS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 3),
        st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(-3, 3),
    ),
    min_size=10,
    max_size=60,
)


def decided(rows: list[tuple[int, int, float]]) -> tuple[Outputs, np.ndarray]:
    predicted, labels, confidence = map(np.array, zip(*rows, strict=True))
    return Outputs("decisions", predicted.astype(np.int64), confidence.astype(np.float64)), labels


@settings(max_examples=30)
@given(DECISIONS, st.lists(st.floats(-4, 4), min_size=1, max_size=20))
def test_probabilities_rise_with_confidence_in_each_class_and_are_never_0_or_1(
    rows, others
) -> None:
    outputs, labels = decided(rows)
    known = fit(outputs, labels, "per-class")
    confidence = np.sort(np.append(outputs.confidence, others))
    for each in range(5):
        made = known.apply(Outputs("decisions", np.full(len(confidence), each), confidence))
        assert (np.diff(made.confidence) >= 0).all()
        assert made.confidence.min() > 0
        assert made.confidence.max() < 1
        # A row is calibrated alone as in a batch, bit for bit.
        alone = known.apply(made.rows([0])), Outputs("decisions", made.values[:1], confidence[:1])
        assert known.apply(alone[1]).confidence[0] == made.confidence[0]
    assert calibration_from_json(json.loads(json.dumps(known.to_json()))) == known
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = fit(outputs.rows(order), labels[order], "per-class")
    np.testing.assert_allclose(
        shuffled.apply(outputs).confidence, known.apply(outputs).confidence, atol=1e-8
    )


@settings(max_examples=30)
@given(DECISIONS)
def test_rows_of_experts_are_distributions(rows) -> None:
    outputs, labels = decided(rows)
    known = fit(outputs, labels, "experts", classes=4)
    assert isinstance(known, Experts)
    np.testing.assert_allclose(np.exp(np.array(known.logs)).sum(axis=-1), 1, atol=1e-3)
    made = known.apply(outputs)
    assert made.kind == "logits"
    assert made.values.shape == (len(rows), 4)
    assert np.isfinite(made.values).all()
    assert calibration_from_json(json.loads(json.dumps(known.to_json()))) == known


def test_each_sample_is_calibrated_by_a_fit_without_it() -> None:
    pool = services(2, 400)
    for method in BY_CLASS:
        known = fit_calibrations(pool, method)
        one = cross_fitted(pool.with_calibrations(known))
        # Another label of one sample changes that of others, never its own.
        labels = pool.samples.labels.copy()
        labels[7] = (labels[7] + 1) % CLASSES
        changed = replace(pool, samples=replace(pool.samples, labels=labels))
        two = cross_fitted(changed.with_calibrations(fit_calibrations(changed, method)))
        others = 0
        for name in pool.names:
            apart = [each.models[name].calibrated(slice(None)) for each in (one, two)]
            rows = [a.values if a.confidence is None else a.confidence for a in apart]
            np.testing.assert_array_equal(rows[0][7], rows[1][7])
            others += int((rows[0] != rows[1]).sum())
        assert others > 0
    assert cross_fitted(one) is one
    assert cross_fitted(pool) is pool


def test_choosing_on_the_fitted_rows_promises_no_more_than_it_keeps() -> None:
    gaps = {True: [], False: []}
    for seed in range(3):
        pool = services(seed, 3000)
        val, test = pool.rows(slice(0, 150), "val"), pool.rows(slice(150, None), "test")
        known = fit_calibrations(val, "experts")
        test = test.with_calibrations(known)
        for apart in (True, False):
            own = val.with_calibrations(known)
            if not apart:  # as if others had fitted them
                other = {n: replace(c, samples="others") for n, c in known.items()}
                own = val.with_calibrations(other)
            best = cm.search(own, 3, test=test)[-1]
            gaps[apart].append(best.evaluation.accuracy - best.test.accuracy)
    assert np.mean(gaps[True]) < 0.03 < np.mean(gaps[False])


def test_figures_of_a_front_are_those_of_its_pool_and_are_noted() -> None:
    val, test = halves(3)
    known = fit_calibrations(val, "per-class")
    front = cm.search(val.with_calibrations(known), 2, test=test.with_calibrations(known))
    for member in front:
        assert cm.evaluate(member.cascade, front.pool) == member.evaluation
        assert cm.evaluate(member.cascade, test).accuracy == member.test.accuracy
        assert member.cascade.combine == "last"
    assert any("fit to the other four of five folds" in each for each in front.warnings)
    assert FOLDS == 5


def test_mixed_kinds_and_means_of_decisions_get_one_line() -> None:
    val, _ = halves(1)
    known = fit_calibrations(val, "experts")
    with pytest.raises(MisalignedError, match="all or none by class"):
        cm.search(val.with_calibrations({"s0": known["s0"]}), 2)
    per_class = val.with_calibrations(fit_calibrations(val, "per-class"))
    with pytest.raises(CascadeError, match="Use combine='last'"):
        cm.search(per_class, 2, combine="mean_logits")


VALUES = np.arange(30) % 3
UNFITTABLE = {
    "no labels": (None, np.linspace(0, 1, 30), "there are no labels"),
    "few": (VALUES[:9], np.linspace(0, 1, 30)[:9], "9 samples are too few"),
    "other labels": (VALUES[:20], np.linspace(0, 1, 30), "30 rows of outputs, 20 labels"),
    "NaN": (VALUES, np.where(VALUES == 1, np.nan, 0.5), "NaN or infinite, first in row 1"),
    "far apart": (VALUES, np.where(VALUES == 1, 1e308, -1e308), "confidences are beyond 1e"),
}


@pytest.mark.parametrize("case", UNFITTABLE)
@pytest.mark.parametrize("method", BY_CLASS)
def test_what_cannot_be_fitted_gets_one_line(case: str, method: str) -> None:
    labels, confidence, line = UNFITTABLE[case]
    outputs = Outputs("decisions", VALUES[: len(confidence)], confidence)
    with pytest.raises((CalibrationError, MisalignedError), match=line) as told:
        fit(outputs, labels, method, where="model 'a'")
    assert str(told.value).startswith("model 'a': ")
    assert "\n" not in str(told.value)


def test_experts_refuse_tables_too_large_and_classes_beyond_them() -> None:
    confidence = np.linspace(0, 1, 3000)
    wide = Outputs("decisions", np.arange(3000) % 1000, confidence)
    with pytest.raises(CalibrationError, match="experts of 1,000 classes"):
        fit(wide, wide.values, "experts")
    known = fit(Outputs("decisions", VALUES, confidence[:30]), VALUES, "experts")
    with pytest.raises(CalibrationError, match="predicts class 3"):
        known.apply(Outputs("decisions", np.array([3]), np.array([0.5])))


@pytest.mark.parametrize("method", BY_CLASS)
def test_equal_confidences_all_right_or_all_wrong_are_fitted(method: str) -> None:
    outputs = Outputs("decisions", VALUES, np.full(30, 0.5))
    for labels in (VALUES, (VALUES + 1) % 3):
        made = fit(outputs, labels, method).apply(outputs)
        assert (made.predicted() == labels).all() or method == "per-class"
        score = made.confidence if made.confidence is not None else made.values
        assert np.isfinite(score).all()


def test_a_missing_answer_is_fitted_to_by_nobody_and_stays_one() -> None:
    pool = services(4, 600)
    own, labels = pool.model("s0"), pool.samples.labels
    missing = np.arange(600) % 3 == 0
    some = Outputs("decisions", own.values, np.where(missing, -np.inf, own.confidence))
    for method in BY_CLASS:
        known = fit(some, labels, method, classes=CLASSES)
        assert known == fit(own.rows(~missing), labels[~missing], method, classes=CLASSES)
        made = known.apply(some)
        if made.confidence is not None:
            assert (np.isneginf(made.confidence) == missing).all()
        else:
            assert (made.values[missing] == 0).all()
            assert (made.values[~missing] < 0).all()


WRONG = {
    "a class twice": {"classes": [0, 0]},
    "no weight": {"weights": []},
    "a weight of 1": {"weights": [1.0, 0.5]},
    "a map that falls": {"class_heights": [[0.9, 0.1], [0.5]]},
    "beyond 1": {"class_heights": [[0.1, 1.1], [0.5]]},
    "knots that fall": {"class_knots": [[0.5, 0.1], [0.5]]},
    "a knot too many": {"class_knots": [[0.1, 0.5, 0.6], [0.5]]},
    "another method": {"method": "experts"},
    "a text": {"weights": ["0.5", 0.5]},
    "a field too many": {"code": "import os"},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_altered_files_are_refused(wrong: str) -> None:
    data = PerClass(
        "per-class", (0.0, 1.0, 0.0), (0.1, 0.5), 0.2, "cal", "", (0, 4), (0.5, 0.5),
        ((0.1, 0.5), (0.5,)), ((0.1, 0.9), (0.5,)),
    ).to_json()  # fmt: skip
    assert calibration_from_json(data).to_json() == data
    with pytest.raises(CalibrationError):
        calibration_from_json({**data, **WRONG[wrong]})


def test_altered_experts_are_refused() -> None:
    half = np.log(0.5)
    square = ((half, half), (half, half))
    assert Experts("experts", (), (), 0.0, "", "", (square,)).made("decisions") == "logits"
    for knots, logs in (
        ((0.5,), (square,)),
        ((), ()),
        ((), (((half, half),),)),
        ((), (((0.0, 0.0), (half, half)),)),
        ((), (((np.nan, half), (half, half)),)),
    ):
        with pytest.raises(CalibrationError):
            Experts("experts", (), knots, 0.0, "", "", logs)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Services in a store, with splits cal, val and test."""
    folder = tmp_path_factory.mktemp("services")
    whole = services(11, 3000)
    for number, split in enumerate(("cal", "val", "test")):
        part = whole.rows(slice(1000 * number, 1000 * (number + 1)), split)
        labels = folder / f"{split}-labels.npy"
        np.save(labels, part.samples.labels)
        files = {}
        for name, own in part.outputs.items():
            files[name] = folder / f"{split}-{name}.npz"
            np.savez(files[name], predicted=own.values, confidence=own.confidence)
        import_predictions(
            files, folder / "store", split=split, kind="decisions", labels=labels,
            costs=whole.costs.values("dollars"), unit="dollars",
        )  # fmt: skip
    return folder / "store"


@pytest.mark.parametrize(("method", "split"), [*zip(BY_CLASS, ("cal", "val"), strict=True)])
def test_from_store_to_certificate(store, method, split, tmp_path, capsys) -> None:
    def run(*words: object) -> str:
        assert main([str(word) for word in words]) == 0, capsys.readouterr()
        return str(capsys.readouterr().out)

    run("calibrate", store, "--split", split, "--method", method)
    path = tmp_path / "cascade.json"
    out = run("search", store, "--calibrated", "--max-models", 2, "--match", "s3", "--out", path)
    assert ("four of five folds" in out) == (split == "val")
    cascade = Cascade.load(path)
    assert {each.method for each in cascade.calibrations.values()} == {method}
    run("evaluate", path, store, "--split", "test")
    run("certify", path, store, "--split", "test", "--match", "s3", "--within", 0.05)
    fitted = Pool.load(store / split, calibrated=True)
    with pytest.raises(MisalignedError, match="calibrat"):
        cm.certify(fitted, match="s3", within=0.05)
    # What search promised of test is what the rule decides.
    test = Pool.load(store / "test")
    decided = stored_decisions(cascade, test)
    right = (decided.predicted == test.samples.labels).mean()
    assert cm.evaluate(cascade, test).accuracy == right
    assert calibrate(store, split, method).keys() == set(test.names)


def test_a_reference_outside_the_cascade_stays_calibrated(tmp_path: Path) -> None:
    """With experts a calibrated model answers otherwise; evaluate compares with what search did."""
    val, test = halves(5)
    pool = val.with_calibrations(fit_calibrations(services(6), "experts"))
    loose = cm.search(pool, 1).matching("s2", within=0.5).cascade
    assert "s2" not in loose.names
    path = loose.save(tmp_path / "c.json")
    known = Cascade.load(path)
    assert known == loose
    target = target_of(known)
    assert target is not None
    raw, made = test.model("s2"), pool.calibrations["s2"].apply(test.model("s2"))
    right = (made.predicted() == test.samples.labels).mean()
    assert (
        cm.evaluate(target[1], test).accuracy
        == right
        != (raw.predicted() == test.samples.labels).mean()
    )
    data = json.loads(path.read_text())
    data["origin"]["target"]["calibrations"]["s2"]["knots"] = "none"
    path.write_text(json.dumps(data))
    with pytest.raises(CascadeError, match=r"c\.json.*knots"):
        Cascade.load(path)
