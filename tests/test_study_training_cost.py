"""Training cost: times of committees are sums of those of their models."""

from __future__ import annotations

import pytest

from committee import errors
from committee.study.context import Training, study_of
from committee.study.inputs import read_training
from committee.study.training_cost import ANALYSIS, time_of
from study_pools import family_pools, family_study

NAMES = [f"b{size}-{training}" for size in range(3) for training in range(2)]
TIMES = Training("days", {name: 1.0 + 10 ** int(name[1]) + int(name[-1]) for name in NAMES})


@pytest.fixture(scope="module")
def finding():
    return ANALYSIS.analyse(family_study(training=TIMES))


def cells_of(table):
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def test_architectures_have_the_mean_of_their_trainings(finding):
    first = cells_of(finding.tables[0])[0]
    assert first == {
        "architecture": "b0", "trainings": 2, "mean time": 2.5, "least": 2.0, "most": 3.0,
    }  # fmt: skip


def test_all_models_of_a_committee_are_counted(finding):
    cells = cells_of(finding.tables[1])
    assert {each["kind"] for each in cells} == {"single", "ensemble", "cascade"}
    singles = {each["model"]: each["training"] for each in cells if each["kind"] == "single"}
    for each in cells:
        names = each["committee"].replace(" -> ", " + ").split(" + ")
        assert each["training"] == sum(TIMES.times[name] for name in names)
        assert each["training over the model's"] == each["training"] / singles[each["model"]]


def test_committees_match_the_model_and_no_other_best_ensemble_took_less(finding):
    study = family_study(training=TIMES)
    ensembles = {e.single: e.committee for e in finding.data if e.kind == "ensemble"}
    for entry in finding.data:
        single = entry.single
        assert entry.committee.val.accuracy >= single.val.accuracy
        equals = [e for e in study.ensembles if e.val.accuracy >= single.val.accuracy]
        assert (single in ensembles) == bool(equals)
        if equals:
            least = min(time_of(each, TIMES) for each in equals)
            assert time_of(ensembles[single], TIMES) == least


def test_sentences_say_how_many_took_less(finding):
    ratios = [
        time_of(entry.committee, TIMES) / time_of(entry.single, TIMES)
        for entry in finding.data
        if entry.kind == "ensemble"
    ]
    less = sum(ratio < 1 for ratio in ratios)
    assert finding.sentences[0].startswith(f"{less} of {len(ratios)} ensembles took less to train")


def test_times_may_be_given_by_family_in_a_file(tmp_path):
    val, test = family_pools()
    (tmp_path / "times.csv").write_text("name,days\nb0,1\nb1,2\nb2,4\n")
    training = read_training(tmp_path / "times.csv", val)
    table = ANALYSIS.analyse(study_of(val, test, training=training)).tables[0]
    assert [row[2] for row in table.rows] == [1, 2, 4]
    assert table.columns[2].unit == "days"


def test_without_times_there_is_nothing_to_say():
    with pytest.raises(errors.Unsupported, match="--training"):
        ANALYSIS.analyse(family_study())


def test_the_figure_s_axis_is_of_training(finding):
    left, _ = ANALYSIS.draw(family_study(training=TIMES), finding.data).axes
    assert left.get_xlabel() == "Training time (days), log scale"
    drawn = {float(x) for line in left.lines for x in line.get_xdata()}
    assert {TIMES.times[name] for name in ("b0-0", "b1-0", "b2-0")} <= drawn
