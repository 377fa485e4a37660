"""Threshold sweep: its ends are the single model and the ensemble, and where its plateau begins."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from committee import Cascade, errors, evaluate
from committee.study.context import study_of
from committee.study.threshold_sweep import ANALYSIS, pairs_on_front
from strategies import random_pool
from study_pools import family_pools, family_study


@given(st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_the_ends_are_the_single_model_and_the_ensemble(seed):
    pool = random_pool(seed, models=3, samples=80)
    study = study_of(pool.rows(slice(0, 40), "val"), pool.rows(slice(40, None), "test"))
    try:
        pairs_on_front(study)
    except errors.Unsupported:
        return
    for sweep in ANALYSIS.analyse(study).data:
        first, second = sweep.committees[1].cascade.names
        assert sweep.committees[0].test == evaluate(Cascade.of([first]), study.test)
        assert sweep.ensemble.test == evaluate(Cascade.ensemble([first, second]), study.test)
        costs = [each.val.average_cost for each in sweep.committees]
        assert costs == sorted(costs)
        enough = sweep.ensemble.val.accuracy
        assert sweep.cheapest.val.accuracy >= enough
        assert all(c.val.accuracy < enough for c in sweep.committees[: sweep.plateau])


def test_the_plateau_s_figures_are_of_the_judging_split():
    study = family_study()
    finding = ANALYSIS.analyse(study)
    plateau, _ = finding.tables
    for row, sweep in zip(plateau.rows, finding.data, strict=True):
        cells = dict(zip([column.name for column in plateau.columns], row, strict=True))
        assert cells["accuracy"].value == sweep.cheapest.test.accuracy
        assert cells["accuracy"].samples == len(study.test)
        gain = sweep.cheapest.test.accuracy - sweep.ensemble.test.accuracy
        assert cells["accuracy over the ensemble's"].value == pytest.approx(gain)
        assert cells["speedup over the ensemble"] == pytest.approx(
            sweep.ensemble.test.average_cost / sweep.cheapest.test.average_cost
        )


def test_pools_without_pairs_are_not_supported():
    val, test = (pool.only(["b0-0"]) for pool in family_pools())
    with pytest.raises(errors.Unsupported, match="no cascade of two models is on the front"):
        ANALYSIS.analyse(study_of(val, test))
    with pytest.raises(errors.Unsupported, match="nothing is averaged"):
        ANALYSIS.analyse(family_study(combine="last"))


def test_the_figure_has_a_curve_for_each_cascade():
    study = family_study()
    finding = ANALYSIS.analyse(study)
    (axes,) = ANALYSIS.draw(study, finding.data).axes
    first, *sweeps, last = axes.get_legend_handles_labels()[1]
    assert (first, last) == ("Single models", "Ensembles: no sample exits early")
    assert sweeps == [f"{sweep.text}, plateau" for sweep in finding.data]
