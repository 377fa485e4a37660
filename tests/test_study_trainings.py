"""Spread over trainings: all pairs are there, in both orders, and figures are those of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from committee import Cascade, errors, evaluate
from committee.study.context import study_of
from committee.study.trainings import ANALYSIS
from study_pools import family_pools, family_study


@pytest.fixture(scope="module")
def study():
    return study_of(*family_pools(sizes=2, trainings=4, samples=200))


@pytest.fixture(scope="module")
def finding(study):
    return ANALYSIS.analyse(study)


def spread(finding, architecture, kind):
    (found,) = [s for s in finding.data if (s.architecture, s.kind) == (architecture, kind)]
    return found


def test_every_pair_is_there_and_every_ordered_pair(finding):
    counts = {"single": 4, "ensemble": 6, "cascade": 12}
    assert {(s.architecture, s.kind): len(s.committees) for s in finding.data} == {
        (name, kind): count for name in ("b0", "b1") for kind, count in counts.items()
    }
    names = [each.cascade.names for each in spread(finding, "b0", "ensemble").committees]
    assert len({frozenset(pair) for pair in names}) == 6


def test_cascades_are_as_accurate_as_their_ensemble_for_no_more(study, finding):
    for name in ("b0", "b1"):
        goals = {
            frozenset(each.cascade.names): each.val
            for each in spread(finding, name, "ensemble").committees
        }
        for goal in goals.values():
            assert goal.worst_case_cost == goal.average_cost
        for each in spread(finding, name, "cascade").committees:
            # Of a cascade that always exits only the first model is left.
            pairs = [g for pair, g in goals.items() if set(each.cascade.names) <= pair]
            assert any(each.val.accuracy >= goal.accuracy for goal in pairs)
            assert each.val.average_cost <= pairs[0].average_cost


def test_the_table_s_figures_are_numpy_s(study, finding):
    (table,) = finding.tables
    names = [column.name for column in table.columns]
    cells = dict(zip(names, table.rows[1], strict=True))
    assert (cells["architecture"], cells["committees"], cells["number"]) == ("b0", "ensemble", 6)
    own = [
        evaluate(Cascade.ensemble([f"b0-{i}", f"b0-{j}"]), study.test).accuracy
        for i in range(4)
        for j in range(i)
    ]
    assert cells["accuracy: max"] == max(own)
    assert cells["accuracy: min"] == min(own)
    assert cells["accuracy: mean"] == pytest.approx(np.mean(own))
    assert cells["accuracy: std"] == pytest.approx(np.std(own, ddof=1))
    assert cells["average cost: std"] == 0
    singles = [evaluate(Cascade.of([f"b0-{i}"]), study.test).accuracy for i in range(4)]
    gain = cells["mean over the single models'"]
    assert gain.value == pytest.approx(np.mean(own) - np.mean(singles))
    assert gain.low < gain.value < gain.high
    assert gain.samples == len(study.test)


def test_two_trainings_have_no_spread():
    with pytest.raises(errors.Unsupported, match="no architecture was trained 3 times"):
        ANALYSIS.analyse(family_study())


def test_what_does_not_average_has_no_ensembles():
    with pytest.raises(errors.Unsupported, match="nothing is averaged"):
        ANALYSIS.analyse(study_of(*family_pools(trainings=3), combine="last"))


def test_the_figure_has_a_point_for_each_committee(study, finding):
    (axes,) = ANALYSIS.draw(study, finding.data).axes
    points = sum(len(line.get_xdata()) for line in axes.lines)
    assert points == 2 * (4 + 6 + 12)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["b0", "b1"]
