"""Diversity: committees of one architecture are that, and those of any never cost more."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from committee import errors, search
from committee.study.context import study_of
from committee.study.diversity import ANALYSIS
from study_pools import family_pools, family_study


def rows_of(study):
    """Each single model, its equal of one architecture, and that of any."""
    return zip(*[(entry.committee for entry in ANALYSIS.analyse(study).data)] * 3, strict=True)


@given(st.integers(0, 1000))
@settings(max_examples=8)
def test_one_architecture_is_among_any(seed):
    study = study_of(*family_pools(sizes=2, trainings=2, samples=80, seed=seed), grid=10)
    for single, same, mixed in rows_of(study):
        families = {study.val.families[name] for name in same.cascade.names}
        assert len(families) == 1
        for each in (same, mixed):
            assert each.val.accuracy >= single.val.accuracy
        assert mixed.val.average_cost <= same.val.average_cost
        assert same.val.average_cost <= single.val.average_cost


def test_the_best_architecture_is_taken():
    study = family_study()
    for single, same, _ in rows_of(study):
        for models in study.architectures.values():
            try:
                found = search(study.val.only(models), 2).at_least(single.val.accuracy)
            except errors.Infeasible:
                continue
            assert same.val.average_cost <= found.evaluation.average_cost


def test_pools_without_families_or_with_one_are_left_out():
    for names in (["b0-0", "b1-0"], ["b0-0", "b0-1"]):
        val, test = (pool.only(names) for pool in family_pools())
        with pytest.raises(errors.Unsupported, match="two architectures and two trainings"):
            ANALYSIS.analyse(study_of(val, test))


def test_the_figure_shows_both_series():
    study = family_study()
    finding = ANALYSIS.analyse(study)
    figure = ANALYSIS.draw(study, finding.data)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "single model", "one architecture", "any architectures",
    ]  # fmt: skip
    assert "Mixing architectures was cheaper for" in finding.sentences[1]
