"""The study: what every analysis shares, what is written, and the command."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from committee import Cascade, Pool, errors, evaluate, search
from committee.calibration.fitting import fit_calibrations
from committee.cli import main
from committee.pool.intervals import Estimate, paired_difference
from committee.pool.table import Column, Table
from committee.report.figure import Drawing
from committee.rule.origin import Origin
from committee.study import analyses as analyses_module
from committee.study.analyses import ANALYSES, run_study
from committee.study.base import Analysis, Finding
from committee.study.columns import accuracy_of
from committee.study.context import study_of
from committee.study.inputs import read_references, read_training
from committee.study.write import (
    _figure_of,
    _index_markdown,
    draw_findings,
    study_json,
    write_study,
)
from study_pools import family_pools, family_study


@pytest.fixture(scope="module")
def study():
    return family_study()


# Tables


def test_a_table_refuses_two_columns_of_one_name():
    with pytest.raises(errors.ShapeError, match="two columns have one name"):
        Table("T", (Column("a", str), Column("a", str)), ())


SOME = Table(
    "Some",
    (
        Column("model", itemgetter(0)),
        Column("cost", itemgetter(1), "cost", "macs"),
        Column("accuracy", itemgetter(2), "share"),
        Column("gain", itemgetter(3), "points"),
        Column("speedup", itemgetter(4), "ratio"),
        Column("n", itemgetter(5), "count"),
    ),
    (
        ("a|b", 41_234_567.0, Estimate(0.9, 0.85, 0.95, 100), -0.0123, 2.437, 1234),
        ("c", 1.0, None, Estimate(0.0, -0.01, 0.01, 100), None, 1),
    ),
    "Mind this.",
)


def test_csv_holds_every_figure_in_full():
    first, second = csv.DictReader(io.StringIO(SOME.csv()))
    assert first == {
        "model": "a|b",
        "cost (macs)": "41234567.0",
        "accuracy": "0.9",
        "accuracy: low": "0.85",
        "accuracy: high": "0.95",
        "accuracy: samples": "100",
        "gain": "-0.0123",
        "gain: low": "",
        "gain: high": "",
        "gain: samples": "",
        "speedup": "2.437",
        "n": "1234",
    }
    assert (second["accuracy"], second["speedup"]) == ("", "")
    assert (second["gain"], second["gain: low"]) == ("0.0", "-0.01")


def test_markdown_is_for_people():
    lines = SOME.markdown().splitlines()
    assert lines[0] == "**Some**"
    assert lines[3] == "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert lines[4] == "| a\\|b | 41.2 M macs | 90.00 % (85.0–95.0) | −1.23 | 2.44× | 1,234 |"
    assert lines[5] == "| c | 1.00 macs | – | +0.00 (−1.00 to +1.00) | – | 1 |"
    assert lines[-1] == "Mind this."


def test_a_plain_number_has_four_digits():
    assert Column("x", float, "number").text(0.123456) == "0.1235"


# Estimates

truths = arrays.arrays(bool, st.integers(1, 40))


@given(st.data(), truths)
def test_a_paired_difference_holds_the_difference_and_turns_with_it(data, right):
    other = data.draw(arrays.arrays(bool, len(right)))
    found, turned = paired_difference(right, other), paired_difference(other, right)
    assert found.value == pytest.approx(right.mean() - other.mean())
    assert -1 <= found.value <= 1
    assert found.low <= found.value <= found.high
    assert found.low < found.high
    assert (turned.value, turned.low, turned.high) == pytest.approx(
        (-found.value, -found.high, -found.low)
    )


def test_a_paired_interval_is_as_published():
    # Agresti, Categorical Data Analysis, table 10.1: 1,600 voters asked twice. Approval fell by
    # 0.04 with a standard error of 0.0095; half a sample more in each cell moves that little.
    counts = (794, 150, 86, 570)
    first = np.repeat([True, True, False, False], counts)
    second = np.repeat([True, False, True, False], counts)
    found = paired_difference(first, second)
    assert found.value == pytest.approx(0.04)
    assert (found.low, found.high) == pytest.approx((0.04 - 0.0187, 0.04 + 0.0187), abs=2e-4)


@pytest.mark.parametrize("differing", [0.005, 0.05, 0.3])
def test_a_paired_interval_covers_what_it_promises(differing):
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        right = random.random(400) < 0.9
        other = right ^ (random.random(400) < differing)
        # A sample is right with 0.9: flips lose with 0.9 and win with 0.1.
        truth = differing * 0.9 - differing * 0.1
        found = paired_difference(right, other)
        covered += found.low <= truth <= found.high
    assert covered >= 930


def test_pairing_narrows_the_interval_of_two_that_fail_together():
    random = np.random.default_rng(0)
    right = random.random(2000) < 0.9
    other = right ^ (random.random(2000) < 0.02)
    found = paired_difference(right, other)
    apart = 1.96 * math.sqrt(2 * 0.9 * 0.1 / 2000)
    assert (found.high - found.low) / 2 < apart / 2


def test_the_interval_of_two_that_never_differ_has_a_width():
    found = paired_difference(np.ones(1000, bool), np.ones(1000, bool))
    assert found.value == 0
    assert (found.low, found.high) == pytest.approx((-1.96 / 1002, 1.96 / 1002), rel=1e-4)


def test_a_cascade_gains_nothing_over_itself_for_certain(study):
    cascade = study.single("b1-0").cascade
    assert study.gain(cascade, cascade) == Estimate(0, 0, 0, len(study.test))
    # A search tells the classes, and where the choice came from; the model is the same.
    told = replace(cascade, classes=tuple("abcde"), origin=Origin(unit="macs"))
    assert study.gain(told, cascade) == Estimate(0, 0, 0, len(study.test))


def test_the_gain_of_a_calibrated_cascade_over_its_own_self_is_an_estimate():
    val, test = family_pools()
    study = study_of(val, test)
    plain = Cascade.ensemble(["b0-0", "b2-0"])
    calibrations = fit_calibrations(val, "platt")
    calibrated = Cascade.ensemble(["b0-0", "b2-0"], calibrations=calibrations)
    found = study.gain(calibrated, plain)
    difference = evaluate(calibrated, test).accuracy - evaluate(plain, test).accuracy
    assert found.value == pytest.approx(difference)
    assert found.low < found.high


# What analyses share


def test_architectures_are_families_by_rising_cost(study):
    assert study.architectures == {f"b{i}": (f"b{i}-0", f"b{i}-1") for i in range(3)}
    assert study.names == ("b0-0", "b1-0", "b2-0")
    assert [single.cascade.names for single in study.singles] == [("b0-0",), ("b1-0",), ("b2-0",)]


def test_figures_are_of_the_split_that_judges(study):
    single = study.single("b1-0")
    assert single.val == evaluate(single.cascade, study.val)
    assert single.test == evaluate(single.cascade, study.test)
    assert accuracy_of(single.test) == Estimate(
        single.test.accuracy, *single.test.interval, len(study.test)
    )
    assert study.values(single.cascade).mean() == pytest.approx(single.test.accuracy)


def test_the_front_is_the_search_s_and_searched_once(study):
    front = search(study.val, 4, test=study.test)
    assert study.settings.max_models == 4
    assert [each.cascade for each in study.search()] == [c.cascade for c in front]
    assert [each.test for each in study.search()] == [c.test for c in front]
    assert study.search() is study.search(4)
    assert study.search() is not study.search(2)


def test_ensembles_take_trainings_in_turn_and_none_beats_another(study):
    assert study.ensembles
    for better, dearer in zip(study.ensembles, study.ensembles[1:], strict=False):
        assert better.val.average_cost < dearer.val.average_cost
        assert better.val.accuracy < dearer.val.accuracy
    for each in study.ensembles:
        for name in each.cascade.names:
            assert name.endswith("-0") or name.replace("-1", "-0") in each.cascade.names


def test_pairs_keep_to_their_targets_on_the_split_that_chose(study):
    for pair in study.pairs:
        cheaper, better = pair.same_accuracy, pair.same_cost
        assert cheaper is not None
        assert better is not None
        assert cheaper.val.accuracy >= pair.single.val.accuracy
        assert cheaper.val.average_cost <= pair.single.val.average_cost
        assert better.val.average_cost <= pair.single.val.average_cost
        assert better.val.accuracy >= pair.single.val.accuracy


def test_max_models_falls_where_sequences_are_too_many():
    random = np.random.default_rng(0)
    outputs = {f"m{i}": random.normal(size=(20, 3)) for i in range(30)}
    pool = Pool.from_arrays(
        [0] * 20, outputs, kind="logits", costs=dict.fromkeys(outputs, 1.0), split="val"
    )
    val, test = pool.rows(slice(0, 10), "val"), pool.rows(slice(10, None), "test")
    # 30 * 29 * 28 = 24,360 sequences of three alone.
    assert study_of(val, test).settings.max_models == 2
    small = pool.only(["m0", "m1"])
    val, test = small.rows(slice(0, 10), "val"), small.rows(slice(10, None), "test")
    assert study_of(val, test).settings.max_models == 2


def test_what_chose_does_not_judge():
    val, _ = family_pools()
    with pytest.raises(errors.MisalignedError, match="holds the same samples as 'val'"):
        study_of(val, val)


# Running


def _analysis(name, analyse):
    return Analysis(name, name.title(), "nowhere", analyse, lambda study, data: None)


def _fails(error):
    def analyse(study):
        raise error

    return analyse


def test_what_fails_is_left_out_by_name_and_the_rest_goes_on(monkeypatch, study):
    fine = _analysis("fine", lambda study: Finding(sentences=("Yes.",)))
    bad = _analysis("bad", _fails(errors.Unsupported("one resolution only")))
    monkeypatch.setattr(analyses_module, "ANALYSES", (bad, fine))
    seen = []
    found = run_study(study, progress=lambda *what: seen.append(what))
    assert [(f.name, f.left_out, f.sentences) for f in found] == [
        ("bad", "one resolution only", ()),
        ("fine", "", ("Yes.",)),
    ]
    assert seen == [("bad", 0, 2), ("fine", 1, 2), ("", 2, 2)]


@pytest.mark.parametrize(
    "error", [errors.MissingExtraError("The figure needs x"), ValueError("a bug")]
)
def test_what_is_no_property_of_the_pool_is_raised(monkeypatch, study, error):
    monkeypatch.setattr(analyses_module, "ANALYSES", (_analysis("bad", _fails(error)),))
    with pytest.raises(type(error)):
        run_study(study)


def test_an_unknown_analysis_is_named_before_any_is_run(study):
    with pytest.raises(errors.UnknownNameError, match="Did you mean 'threshold_sweep'"):
        run_study(study, ["treshold_sweep"])


@pytest.mark.parametrize("analysis", ANALYSES, ids=lambda analysis: analysis.name)
def test_every_analysis_is_named_for_its_file_and_says_where_it_comes_from(analysis):
    module = analysis.analyse.__module__
    assert module == f"committee.study.{analysis.name}"
    assert analysis.source
    assert "Wang et al. (2022)" in __import__(module, fromlist=["__doc__"]).__doc__


def test_the_page_says_how_to_read_every_analysis_and_where_it_comes_from():
    page = (Path(__file__).parent.parent / "docs" / "study.md").read_text()
    for analysis in ANALYSES:
        assert f"**{analysis.name}** (" in page


# Writing


@pytest.fixture(scope="module")
def findings(study):
    return run_study(study)


@pytest.fixture(scope="module")
def figures(study, findings):
    """The figure of each finding by its name; None where it has none."""
    return {finding.name: _figure_of(study, finding) for finding in findings}


def test_everything_is_written_and_named_in_the_index(study, findings, figures, tmp_path):
    # What is drawn is for other tests: here it shall be written, each to its own files.
    drawings = {
        name: Drawing(f"png of {name}".encode(), f"svg of {name}")
        for name, figure in figures.items()
        if figure
    }
    written = write_study(study, findings, drawings, tmp_path)
    assert sorted(written) == sorted(tmp_path.iterdir())
    index = (tmp_path / "index.md").read_text()
    assert study.provenance in index
    for finding in findings:
        assert finding.title in index
        for ending in ("png", "svg"):
            path = tmp_path / f"{finding.name}.{ending}"
            assert path.exists() == (figures[finding.name] is not None)
            assert not path.exists() or path.read_text() == f"{ending} of {finding.name}"
    for path in tmp_path.glob("*.csv"):
        assert f"]({path.name})" in index
        assert len({len(row) for row in csv.reader(path.read_text().splitlines())}) == 1
    data = json.loads((tmp_path / "study.json").read_text())
    assert data == json.loads(json.dumps(study_json(study, findings)))
    assert [each["name"] for each in data["analyses"]] == [f.name for f in findings]
    assert data["evaluated_on"]["samples"] == len(study.test)


def test_a_long_table_is_linked_from_the_index_and_not_shown_on_it(study):
    def index_of(rows):
        table = Table("Long", (Column("number", int, "count"),), range(rows))
        return _index_markdown(study, [Finding((table,), name=ANALYSES[0].name)])

    name = ANALYSES[0].name
    assert "| 49 |" in index_of(50)
    assert "| 49 |" not in index_of(51)
    assert f"[{name}.csv]({name}.csv), [{name}.md]({name}.md)" in index_of(51)


def test_the_same_study_writes_the_same_bytes(study, findings, tmp_path):
    # One figure is enough: each kind of file is among them.
    for folder in ("one", "two"):
        drawings = draw_findings(study, findings[:1])
        assert drawings
        write_study(study, findings[:1], drawings, tmp_path / folder)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_every_figure_has_axes_that_say_what_they_are(figures):
    for name, figure in figures.items():
        for axes in figure.axes if figure else ():
            if axes.get_visible() and axes.has_data():
                assert axes.get_xlabel() or axes.get_ylabel(), name


# What the user brings


def test_references_are_read(tmp_path):
    path = tmp_path / "nas.csv"
    path.write_text("name,accuracy,cost\nBigNAS-L,0.795,0.59e9\n")
    (found,) = read_references(path)
    assert (found.name, found.accuracy, found.cost) == ("BigNAS-L", 0.795, 0.59e9)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,accuracy\nx,0.5\n", "no column 'cost'"),
        ("name,accuracy,cost\nx,79.5,1\n", "line 2: accuracy 79.5 is not a share of 1"),
        ("name,accuracy,cost\nx,0.5,cheap\n", "line 2: cost 'cheap' is not a number of 0 or more"),
        ("name,accuracy,cost\nx,0.5,-1\n", "line 2: cost '-1' is not a number of 0 or more"),
        ("name,accuracy,cost\nx,0.5\n", "line 2: not as many cells"),
        ("name,accuracy,cost\nx,0.5,1,2\n", "line 2: not as many cells"),
    ],
)
def test_bad_references_are_refused(tmp_path, text, told):
    path = tmp_path / "nas.csv"
    path.write_text(text)
    with pytest.raises(errors.DataError, match=told):
        read_references(path)


def test_training_times_are_of_models_or_families(tmp_path):
    val, _ = family_pools()
    path = tmp_path / "times.csv"
    path.write_text("name,core hours\nb0,1\nb1,2\nb2,4\nb2-1,5\n")
    found = read_training(path, val)
    assert found.unit == "core hours"
    assert found.times == {"b0-0": 1, "b0-1": 1, "b1-0": 2, "b1-1": 2, "b2-0": 4, "b2-1": 5}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model,hours\nb0,1\n", "there must be two, 'name' and the times"),
        ("name,hours\nb0,1\nb9,1\n", "line 3: 'b9' is neither a model nor a family"),
        ("name,hours\nb0,1\nb1,2\n", "no time for b2-0"),
        ("name,hours\nb0,long\n", "line 2: time 'long' is not a number"),
    ],
)
def test_bad_training_times_are_refused(tmp_path, text, told):
    val, _ = family_pools()
    path = tmp_path / "times.csv"
    path.write_text(text)
    with pytest.raises(errors.DataError, match=told):
        read_training(path, val)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(errors.DataError, match=r"nowhere\.csv: cannot be read"):
        read_references(tmp_path / "nowhere.csv")


# The command


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of the pools, and the folder that it is in."""
    folder = tmp_path_factory.mktemp("study")
    for split, pool in zip(("val", "test"), family_pools(), strict=True):
        files = []
        for name in pool.names:
            np.save(folder / f"{split}-{name}.npy", pool.outputs[name].values)
            files.append(f"{name}={folder / f'{split}-{name}.npy'}")
        np.save(folder / f"{split}.npy", pool.samples.labels)
        words = ["import", *files, "--kind", "logits", "--split", split]
        words += ["--labels", folder / f"{split}.npy", "--out", folder / "store"]
        for name in pool.names:
            cost = pool.costs.costs[name]["macs"].value
            words += ["--cost", f"{name}={cost}", "--family", f"{name}={pool.families[name]}"]
        assert main([str(word) for word in words]) == 0
    return folder / "store"


def test_the_command_writes_what_it_says(store, tmp_path, capsys):
    words = ["study", store, "--out", tmp_path / "out", "--only", "threshold_sweep"]
    assert main([str(word) for word in words]) == 0
    told = capsys.readouterr().out
    assert "[1/1] threshold_sweep" in told
    assert "chosen on val (600 samples), evaluated on test (600 samples)" in " ".join(told.split())
    for name in ("threshold_sweep.png", "threshold_sweep.svg", "study.json", "report.html"):
        assert (tmp_path / "out" / name).stat().st_size


def told_by(store, folder, capsys, *words):
    """What the command says as JSON, by name of the analysis."""
    words = ["study", store, "--out", folder / "out", "--json", *words]
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    data = json.loads(capsys.readouterr().out)
    assert sorted(data["files"]) == sorted(map(str, (folder / "out").iterdir()))
    return {each["name"]: each for each in data["analyses"]}


def test_outside_models_come_from_the_file_named(store, tmp_path, capsys):
    (tmp_path / "nas.csv").write_text("name,accuracy,cost\nNet,0.5,3e6\n")
    words = ("--only", "outside_references", "--reference", tmp_path / "nas.csv")
    (found,) = told_by(store, tmp_path, capsys, *words).values()
    assert found["left_out"] == ""
    assert found["tables"][0]["rows"][0][:3] == ["Net", 0.5, 3e6]


def test_calibrations_of_the_store_are_applied_if_asked_for(store, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("committee.cli.study.draw_findings", lambda *_: {})
    copy = shutil.copytree(store, tmp_path / "store")
    assert main(["calibrate", str(copy), "--split", "val"]) == 0
    only = ("--only", "confidence_functions", "--max-models", 2)
    plain = told_by(copy, tmp_path, capsys, *only)["confidence_functions"]
    # The split that fitted chooses: enough to see whether calibrations reach the study.
    calibrated = told_by(copy, tmp_path, capsys, *only, "--calibrated")["confidence_functions"]
    assert plain["tables"] != calibrated["tables"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--only tresh", "no analysis 'tresh'"),
        ("--split test", "has no split 'test' beside 'test' to evaluate on"),
        ("--test val", "holds the same samples as 'val'"),
        ("--unit dollars", "no 'dollars'"),
        ("--reference nowhere.csv", "nowhere.csv: cannot be read"),
        ("--confidence sure", "no confidence function 'sure'"),
        ("--combine mean", "no combination 'mean'"),
        ("--grid 0", "grid must be 1"),
        ("--max-models 9", "max_models must be 1 to 6"),
    ],
)
def test_the_command_refuses_in_one_line(store, tmp_path, capsys, words, told):
    assert main(["study", str(store), "--out", str(tmp_path / "out"), *words.split()]) == 2
    output, errors_ = capsys.readouterr()
    assert output == ""
    assert told in errors_
    assert errors_.count("\n") == 1
    assert not (tmp_path / "out").exists()
