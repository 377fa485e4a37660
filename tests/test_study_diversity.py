"""Diversity: committees of one architecture are that, and those of any never cost more."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from committee import errors, search
from committee.study.context import study_of
from committee.study.diversity import analyse, draw
from study_pools import family_pools, family_study


@given(st.integers(0, 1000))
@settings(max_examples=8)
def test_one_architecture_is_among_any(seed):
    study = study_of(*family_pools(sizes=2, trainings=2, samples=80, seed=seed), grid=10)
    for row in analyse(study).data.rows:
        families = {study.val.families[name] for name in row.same.cascade.names}
        assert len(families) == 1
        for each in (row.same, row.mixed):
            assert each.val.correct >= row.single.val.correct
        assert row.mixed.val.average_cost <= row.same.val.average_cost
        assert row.same.val.average_cost <= row.single.val.average_cost


def test_the_best_architecture_is_taken():
    study = family_study()
    for row in analyse(study).data.rows:
        for models in study.architectures.values():
            try:
                found = search(study.val.only(models), 2).at_least(row.single.val.accuracy)
            except errors.Infeasible:
                continue
            assert row.same.val.average_cost <= found.evaluation.average_cost


def test_pools_without_families_or_with_one_are_left_out():
    for names in (["b0-0", "b1-0"], ["b0-0", "b0-1"]):
        val, test = (pool.only(names) for pool in family_pools())
        with pytest.raises(errors.Unsupported, match="two architectures and two trainings"):
            analyse(study_of(val, test))


def test_the_figure_shows_both_series():
    finding = analyse(family_study())
    figure = draw(finding.data)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "single model", "one architecture", "any architectures",
    ]  # fmt: skip
    assert "Mixing architectures was cheaper for" in finding.sentences[1]
