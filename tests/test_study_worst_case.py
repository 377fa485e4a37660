"""Worst case: the guarantee holds, and both committees are the cheapest of all that may be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brute_force
from committee import errors
from committee.study.context import study_of
from committee.study.worst_case import ANALYSIS, _guarantees
from strategies import random_pool
from study_pools import family_pools, family_study


def small_study(seed):
    """Three models and 30 + 30 samples, so that every cascade can be tried."""
    pool = random_pool(seed, models=3, samples=60)
    return study_of(pool.rows(slice(0, 30), "val"), pool.rows(slice(30, None), "test"), grid=5)


@given(st.integers(0, 1000))
@settings(max_examples=15)
def test_both_are_the_cheapest_of_all_cascades_that_may_be(seed):
    study = small_study(seed)
    own = study.settings
    oracle = brute_force.Oracle(study.val, own.combine, own.confidence, own.grid)
    tried = list(oracle.every(3))
    rows = _guarantees(study)
    assert len(rows) == len(study.pairs)
    for single, without, guaranteed in rows:
        enough, bound = single.val.accuracy, single.val.worst_case_cost
        for each, allowed in (
            (without, tried),
            (guaranteed, [t for t in tried if t.worst_case <= bound]),
        ):
            cost, _ = brute_force.cheapest(allowed, single.val.correct)
            assert each.val.average_cost * len(study.val) == pytest.approx(cost)
            assert each.val.accuracy >= enough


def test_the_guarantee_holds_and_has_a_price():
    rows = ANALYSIS.analyse(family_study()).data
    assert len(rows) == 3
    for single, without, guaranteed in rows:
        assert guaranteed.test.worst_case_cost <= single.test.worst_case_cost
        assert without.val.average_cost <= guaranteed.val.average_cost
    assert any(r[1].val.worst_case_cost > r[0].val.worst_case_cost for r in rows)


def test_the_table_has_three_rows_a_model_of_the_judging_split():
    study = family_study()
    finding = ANALYSIS.analyse(study)
    (table,) = finding.tables
    names = [column.name for column in table.columns]
    cells = [dict(zip(names, row, strict=True)) for row in table.rows]
    assert [each["guarantee"] for each in cells] == ["", "without guarantee", "with guarantee"] * 3
    for row, three in zip(finding.data, zip(*[iter(cells)] * 3, strict=True), strict=True):
        for each, cell in zip(row, three, strict=True):
            assert cell["average cost"] == each.test.average_cost
            assert cell["worst-case cost"] == each.test.worst_case_cost
            assert cell["accuracy"].samples == len(study.test)
        assert three[0]["accuracy over the model's"] is None
    assert "cost more than it at worst" in finding.sentences[0]


def test_one_model_has_no_committee():
    val, test = (pool.only(["b0-0"]) for pool in family_pools())
    with pytest.raises(errors.Unsupported, match="no committee of several models"):
        ANALYSIS.analyse(study_of(val, test))


def test_the_figure_has_a_row_for_each_model_and_lines_to_the_worst_case():
    study = family_study()
    data = ANALYSIS.analyse(study).data
    left, right = ANALYSIS.draw(study, data).axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["b0-0", "b1-0", "b2-0"]
    ends = {float(line.get_xdata()[-1]) for line in left.lines}
    for _, without, _ in data:
        assert any(end == pytest.approx(without.test.worst_case_cost / 1e6) for end in ends)
    assert left.get_xlabel() == "Average multiply-adds per sample (millions), log scale"
    assert right.get_xlabel() == "Accuracy over the model's\n(points, with paired 95 % interval)"


def test_no_label_is_cut_or_covers_another():
    study = family_study()
    figure = ANALYSIS.draw(study, ANALYSIS.analyse(study).data)
    figure.draw_without_rendering()
    left, right = (axes.xaxis.label.get_window_extent() for axes in figure.axes)
    assert figure.bbox.x0 <= left.x0 < left.x1 < right.x0 < right.x1 <= figure.bbox.x1
