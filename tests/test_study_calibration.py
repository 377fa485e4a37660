"""Calibration in a study: fitted on samples that neither choose nor judge, figures paired."""

from __future__ import annotations

import numpy as np
import pytest

from committee import Calibration, Cascade, Pool, errors, evaluate
from committee.calibration.fitting import fit_calibrations
from committee.calibration.reliability import expected_calibration_error
from committee.pool.comparison import identity_of
from committee.rule.outputs import Outputs
from committee.study.calibration import ANALYSIS, _overconfidence, _split_halves
from committee.study.context import study_of
from study_pools import family_pools, family_study


@pytest.fixture(scope="module")
def study():
    return family_study()


@pytest.fixture(scope="module")
def finding(study):
    return ANALYSIS.analyse(study)


def cells_of(table):
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def test_halves_share_no_sample_and_are_all_of_the_split(study):
    apart = _split_halves(study)
    fits, chooses = set(apart.fits.samples.ids), set(apart.chooses.samples.ids)
    assert not fits & chooses
    assert fits | chooses == set(study.val.samples.ids)
    assert abs(len(fits) - len(chooses)) <= 1
    # Not the first half and the last: a split may be sorted by class.
    assert fits != set(study.val.samples.ids[: len(fits)])
    assert "random half of val (300 samples), the other half (300) chose" in apart.text


def test_calibrations_were_fitted_on_one_half_only(study, finding):
    fits = _split_halves(study).fits
    for name, calibration in finding.data.calibrations.items():
        assert calibration.samples == identity_of(fits, [name])
        assert calibration.method == "platt"
    again = fit_calibrations(fits.only(["b1-0"]), "platt")["b1-0"]
    assert finding.data.calibrations["b1-0"] == again


def test_reliability_is_of_the_judging_split(study, finding):
    labels = study.test.samples.labels
    for cells in cells_of(finding.tables[0]):
        raw = study.test.model(cells["model"])
        calibration = finding.data.calibrations[cells["model"]]
        before = expected_calibration_error(raw, labels)
        assert cells["expected calibration error"] == before
        after = expected_calibration_error(calibration.apply(raw), labels)
        assert cells["after calibration"] == after
        assert cells["confidence less accuracy"] == _overconfidence(raw, labels)


def test_underconfidence_is_below_zero():
    sure = Outputs("probabilities", np.tile([0.6, 0.4], (100, 1)))
    labels = np.array([0] * 90 + [1] * 10)
    found = _overconfidence(sure, labels)
    assert found.value == pytest.approx(0.6 - 0.9)
    assert found.low < found.value < found.high < 0


def test_ensembles_are_the_same_before_and_after_and_chosen_on_the_other_half(study, finding):
    chooses = _split_halves(study).chooses
    cells = cells_of(finding.tables[1])
    best = 0
    for each in cells:
        names = each["ensemble"].split(" + ")
        plain = Cascade.ensemble(names)
        right = evaluate(plain, chooses).correct
        assert right > best
        best = right
        assert each["accuracy"].value == evaluate(plain, study.test).accuracy
        known = fit_calibrations(_split_halves(study).fits.only(sorted(names)), "platt")
        after = evaluate(Cascade.ensemble(names, calibrations=known), study.test)
        assert each["accuracy after calibration"].value == after.accuracy
        gain = after.accuracy - each["accuracy"].value
        assert each["gain"].value == pytest.approx(gain)
        assert each["gain"].low <= gain <= each["gain"].high


def test_calibrations_of_the_pool_are_shown_and_all_of_val_chooses():
    val, test = family_pools()
    own = {name: Calibration("platt", (2.0,), split="cal") for name in val.names}
    study = study_of(val.with_calibrations(own), test)
    apart = _split_halves(study)
    assert apart.fits is None
    assert len(apart.chooses) == len(val)
    assert not apart.chooses.calibrations
    finding = ANALYSIS.analyse(study)
    assert finding.data.calibrations["b0-0"] == own["b0-0"]
    assert finding.sentences[0] == "Calibrations were fitted on cal, val chose the ensembles."


def test_calibrations_fitted_on_what_chooses_are_left_out():
    val, test = family_pools()
    study = study_of(val.with_calibrations(fit_calibrations(val, "temperature")), test)
    with pytest.raises(errors.Unsupported, match="fitted on 'val', which chooses"):
        ANALYSIS.analyse(study)


def test_decisions_are_calibrated_but_make_no_ensembles():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 800)
    right = random.random((2, 800)) < [[0.7], [0.8]]
    decisions = {
        name: (np.where(own, labels, (labels + 1) % 3), 0.5 + 0.3 * own + 0.1 * random.random(800))
        for name, own in zip("ab", right, strict=True)
    }
    pool = Pool.from_arrays(labels, decisions, kind="decisions", costs={"a": 1, "b": 2})
    study = study_of(pool.rows(slice(0, 400), "val"), pool.rows(slice(400, None), "test"))
    finding = ANALYSIS.analyse(study)
    assert [table.name for table in finding.tables] == ["reliability"]
    assert len(finding.tables[0].rows) == 2


def test_the_figure_has_a_panel_for_each_architecture(study, finding):
    figure = ANALYSIS.draw(study, finding.data)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title for title in titles if title] == ["b0-0", "b1-0", "b2-0"]
