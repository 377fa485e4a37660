"""Study and report of segmentation: the same code as for other tasks, figures that are no means."""

from __future__ import annotations

import html
import itertools
import json
import re
import shlex

import numpy as np
import pytest

from committee import Cascade, Pool, evaluate, search
from committee.cli import main
from committee.pool.evaluate import exits_of, source_of
from committee.pool.intervals import Estimate
from committee.report.command import saving_of
from committee.report.page import page_of
from committee.report.rows import Report
from committee.segment.metric import mean_iou, paired_estimate
from committee.segment.store import _load_tiles
from committee.segment.tile_maps import _tile_exits, _tiles_figure, tile_sections
from committee.study.analyses import run_study
from committee.study.context import study_of
from committee.study.inputs import read_training
from committee.study.write import _figure_of, study_json
from dense_world import predicted, write_world


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    world = write_world(
        tmp_path_factory.mktemp("dense"), ("small", "medium", "large"), ("full", 12, 10)
    )
    return predicted(world, world.parent / "store")


@pytest.fixture(scope="module")
def study(store):
    return study_of(Pool.load(store / "val"), Pool.load(store / "test"), grid=20)


@pytest.fixture(scope="module")
def findings(study):
    return run_study(study)


def found(findings, name):
    return next(each for each in findings if each.name == name)


def records(table):
    return [dict(zip((c.name for c in table.columns), row, strict=True)) for row in table.rows]


def test_every_analysis_has_figures_or_a_reason(study, findings, tmp_path):
    for finding in findings:
        assert bool(finding.tables) != bool(finding.left_out), finding.name
        for tile in (tile for t in finding.tables for row in t.rows for tile in row):
            if isinstance(tile, Estimate):
                assert tile.samples == 6, finding.name
        _figure_of(study, finding)
    left_out = {each.name: each.left_out for each in findings if each.left_out}
    assert "only one score is kept of tiles, tile_max_prob>0.6" in left_out["confidence_functions"]
    assert "no outputs to calibrate" in left_out["calibration"]
    assert "images of one size" in left_out["self_cascades"]
    assert "blocks of views" in left_out["views"]
    assert not {"tiles", "best_cascades", "threshold_sweep"} & left_out.keys()
    data = study_json(study, findings)
    assert (data["task"], data["measure"]) == ("semantic-segmentation", "mIoU")
    assert data["evaluated_on"]["samples"] == 6
    assert "large@12+4" in data["models"]
    assert "images divided into tiles of full, 12+4, 10+4; accuracy is mIoU" in study.text


def test_each_size_of_tiles_has_its_own_best_committees(store, study, findings):
    rows = records(found(findings, "tiles").tables[0])
    assert [row["committee"] for row in rows[:3]] == ["small", "medium", "large"]
    best = max(study.singles, key=lambda single: single.val.accuracy).name
    goal = evaluate(Cascade.of([best]), _load_tiles(store / "val"))
    for name, own in itertools.groupby(rows[3:], key=lambda row: row["tiles"]):
        front = search(_load_tiles(store / "val", name), grid=20)
        test = _load_tiles(store / "test", name)
        wanted = [
            front.at_least(goal.accuracy),
            front.at_most(0.7 * goal.average_cost),
            front[-1],
        ]
        for row, each in zip(own, wanted, strict=True):
            judged = evaluate(each.cascade, test)
            assert row["accuracy"].value == judged.accuracy
            assert row["average cost"] == judged.average_cost
            assert row["worst-case cost"] == judged.worst_case_cost
            alone = evaluate(Cascade.of([best]), test)
            assert row[f"speedup over {best}"] == alone.average_cost / judged.average_cost
            gain = row[f"accuracy over {best}'s"]
            if gain is not None:
                assert gain.value == pytest.approx(judged.accuracy - alone.accuracy)


def test_gains_are_paired_over_images(store, study):
    """The interval is that of images drawn again, the same for both committees."""
    pool = Pool.load(store / "test")
    cascades = [Cascade.of(["small", "large@12+4"], [0.8]), Cascade.of(["medium"])]
    gain = study.gain(*cascades)
    counts = []
    for cascade in cascades:
        own = pool.holding(cascade.models_of_stages)
        counts.append(exits_of(cascade, source_of(cascade, own))[1].reshape(6, -1, 9))
    value = evaluate(cascades[0], pool).accuracy - evaluate(cascades[1], pool).accuracy
    assert gain.value == pytest.approx(value)
    assert gain.samples == 6
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(4000):
        rows = rng.integers(0, 6, 6)
        one, other = (float(mean_iou(each[rows].sum(axis=(0, 1)))) for each in counts)
        drawn.append(one - other)
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert gain.low == pytest.approx(low, abs=0.15 * (high - low))
    assert gain.high == pytest.approx(high, abs=0.15 * (high - low))
    assert study.gain(cascades[0], cascades[0]) == Estimate(0.0, 0.0, 0.0, 6)


def test_paired_figures_are_narrower_than_figures_apart():
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.3, 0.9, 200)[:, None]
    total = np.full((200, 1), 100.0)

    def counts(gain):
        both = 100 * np.clip(hard + gain, 0, 1)
        return np.hstack([both, both, total])

    gain = paired_estimate([counts(0.02)], [counts(0.0)])
    assert gain.value == pytest.approx(0.02)
    assert gain.low == pytest.approx(0.02)
    assert gain.high == pytest.approx(0.02)
    # In the mean of several: one that gains 0.04 and one that gains nothing.
    mean = paired_estimate([counts(0.04), counts(0.0)], [counts(0.0)])
    assert mean.value == pytest.approx(0.02)


def test_training_is_told_of_weights_once(store, tmp_path):
    times = tmp_path / "times.csv"
    times.write_text("name,minutes\nsmall,1\nmedium,2\nlarge,5\n")
    training = read_training(times, Pool.load(store / "val"))
    assert training.of(["small", "large@12+4", "medium@12+4"]) == 8
    assert training.of(["small", "small@12+4"]) == 1


# --- the report ----------------------------------------------------------------------------------


def test_the_page_tells_of_images_and_of_tiles(store):
    front = search(Pool.load(store / "val"), grid=10)
    test = Pool.load(store / "test")
    report = Report(front, test)
    text = html.unescape(page_of(report, store=str(store), sections=tile_sections(report)))
    assert "on val (6 images); costs and exits are of test (6 images)" in text
    assert "mIoU on test" in text
    assert "Tiles that exit at each stage" in text
    assert "Where tiles go on" in text
    assert "all 6 tiles, each seen in 20 x 20" in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert data["heading"] == "mIoU"
    singles = {p["name"]: p for p in data["points"] if p["series"] == "single"}
    assert sorted(singles) == ["large", "medium", "small"]
    members = [p for p in data["points"] if p["series"] == "front"]
    for point, member in zip(members, front, strict=True):
        judged = evaluate(member.cascade, test)
        assert point["test"]["correct"] / 6 == pytest.approx(judged.accuracy)
        assert point["test"]["exits"] == list(judged.exit_ratios)
        assert (point["test"]["low"], point["test"]["high"]) == judged.interval


def test_where_tiles_go_on_is_what_was_decided(store):
    pool = Pool.load(store / "test")
    front = search(Pool.load(store / "val"), grid=20)
    cascade = next(
        each.cascade
        for each in front
        if len(each.cascade.stages) > 1 and "@12+4" in each.cascade.names[-1]
    )
    each = _tile_exits(cascade, pool)
    assert each.names == tuple(f"test{i}.png" for i in range(6))
    assert each.grid.shape == each.share.shape == (2, 3)
    ratios = evaluate(cascade, pool).exit_ratios
    assert each.share.mean() == pytest.approx(1 - ratios[0])
    drawn = _tiles_figure([each])
    texts = [text.get_text() for axes in drawn.axes for text in axes.texts]
    assert texts == [f"{100 * share:.0f}" for share in each.share.ravel()]
    (section,) = tile_sections(Report(front, pool, chosen=cascade))
    assert section.tables[0].rows[-1][2] == 6
    whole = search(Pool.load(store / "val", ["small"]))
    assert tile_sections(Report(whole)) == []


def test_a_command_of_the_page_finds_its_committee_again(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    front = search(Pool.load(store / "val"))
    saving = saving_of(front, str(store))
    members = Report(front).members
    some = [members[1], next(row for row in members if "@10+4" in str(row.cascade))]
    for row in [*some, Report(front).rows[0]]:
        words = shlex.split(saving.line(row))
        assert main([*words[1:], "--json"]) == 0
        assert Cascade.load("cascade.json").stages == row.cascade.stages
    assert Cascade.load("cascade.json").confidence == "tile_max_prob>0.6"


def test_commands_of_study_and_report(store, tmp_path, capsys):
    out = tmp_path / "study"
    assert main(["study", str(store), "--out", str(out), "--only", "tiles", "--grid", "10"]) == 0
    said = capsys.readouterr().out
    assert "chosen on val (6 images), evaluated on test (6 images)" in " ".join(said.split())
    assert "accuracy is mIoU" in (out / "index.md").read_text()
    for name in ("tiles.csv", "tiles.png", "report.html"):
        assert (out / name).stat().st_size
    page = tmp_path / "report.html"
    assert main(["report", str(store), "--match", "medium", "--out", str(page)]) == 0
    assert "mIoU on test" in page.read_text()
    assert main(["study", str(store), "--out", str(out), "--calibrated"]) == 2
    line = capsys.readouterr().err
    assert "nothing to calibrate" in line
    assert line.count("\n") == 1


def test_exits_are_those_of_tiles(tmp_path):
    world = write_world(tmp_path, ("small", "large"), ("full", 12, 6))
    folder = predicted(world, tmp_path / "store")
    study = study_of(Pool.load(folder / "val"), Pool.load(folder / "test"), grid=40)
    finding, sweep = run_study(study, ["exit_ratios", "threshold_sweep"])[::-1]
    assert finding.tables[0].title == "Tiles that exit at each stage"
    (row,) = records(finding.tables[0])
    assert (row["matches"], row["cascade"]) == ("large", "small -> large")
    pair = study.pairs[1].same_accuracy
    assert (row["exit_0"], row["exit_1"]) == evaluate(pair.cascade, study.test).exit_ratios
    assert "of the tiles exit after the first stage" in finding.sentences[0]
    axes = _figure_of(study, finding).axes[0]
    assert axes.get_xlabel() == "Tiles of test (6 images) that exit (%)"
    assert _figure_of(study, sweep).axes[0].get_ylabel() == "mIoU on test (6 images) (%)"
