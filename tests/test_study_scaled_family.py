"""Scaled family: models go up one size a step, thresholds keep to each single model's cost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from committee import errors
from committee.study.context import study_of
from committee.study.scaled_family import ANALYSIS, _scale
from study_pools import family_pools

LADDER = [[f"m{size}-{training}" for training in range(3)] for size in range(6)]

models = st.tuples(st.integers(0, 5), st.integers(0, 2)).map(lambda at: LADDER[at[0]][at[1]])
cascades = st.lists(models, min_size=1, max_size=4, unique=True).map(
    lambda names: tuple((name,) for name in names)
)


@given(cascades, st.integers(0, 5), st.integers(0, 5))
def test_steps_add_up(stages, first, second):
    half = _scale(stages, LADDER, first)
    both = _scale(stages, LADDER, first + second)
    assert (half and _scale(half, LADDER, second)) == both
    assert _scale(stages, LADDER, 0) == stages


@given(cascades, st.integers(0, 5))
def test_scaling_ends_where_models_do(stages, steps):
    largest = max(int(name[1]) for stage in stages for name in stage)
    assert (_scale(stages, LADDER, steps) is None) == (largest + steps > 5)


@pytest.fixture(scope="module")
def study():
    return study_of(*family_pools(sizes=5, trainings=1, samples=800), max_models=3)


@pytest.fixture(scope="module")
def finding(study):
    return ANALYSIS.analyse(study)


def test_members_keep_to_the_cost_of_their_model_where_chosen(finding):
    members = finding.data
    assert len(members) > 1
    for each in members:
        assert each.scaled.val.average_cost <= each.single.val.average_cost
        # What was searched over all models is at least as good where it was chosen.
        assert each.searched.val.accuracy >= each.scaled.val.accuracy
    costs = [each.single.val.average_cost for each in members]
    assert costs == sorted(costs)


def test_the_base_is_the_best_at_its_cost(study, finding):
    base = finding.data[0]
    best = study.search(3).at_most(base.single.val.average_cost)
    assert base.scaled.val.accuracy == best.evaluation.accuracy
    assert len(base.scaled.cascade.stages) > 1


def test_models_of_members_are_those_of_the_base_scaled_up(study, finding):
    ladder = list(study.architectures.values())
    base = finding.data[0].scaled.cascade.models_of_stages
    for steps, member in enumerate(finding.data):
        allowed = {name for stage in _scale(base, ladder, steps) for name in stage}
        assert set(member.scaled.cascade.names) <= allowed


def test_few_architectures_make_no_family():
    val, test = (pool.only(["b0-0", "b1-0"]) for pool in family_pools())
    with pytest.raises(errors.Unsupported, match="more architectures of rising cost"):
        ANALYSIS.analyse(study_of(val, test))


def test_gains_are_of_the_judging_split(study, finding):
    (table,) = finding.tables
    names = [column.name for column in table.columns]
    for row, member in zip(table.rows, finding.data, strict=True):
        cells = dict(zip(names, row, strict=True))
        gain = member.scaled.test.accuracy - member.single.test.accuracy
        assert cells["accuracy over the model's"].value == pytest.approx(gain)


def test_the_figure_names_every_member(study, finding):
    (axes,) = ANALYSIS.draw(study, finding.data).axes
    told = [text.get_text() for text in axes.texts]
    assert [text for text in told if text.startswith("C")] == [
        f"C{number}" for number in range(len(finding.data))
    ]


def test_names_in_the_figure_do_not_overlap(study, finding):
    figure = ANALYSIS.draw(study, finding.data)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) > len(finding.data)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
