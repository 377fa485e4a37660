"""What is said of a choice: targets, the paired difference to what it matches, notes."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import committee as cm
from committee.cli import main
from committee.errors import CascadeError, Infeasible
from committee.pool.evaluate import Evaluation, stage_costs, stored_decisions
from committee.pool.intervals import Estimate
from committee.report.figure import front_figure
from committee.report.page import page_of
from committee.report.rows import Report
from committee.report.tables import merged
from committee.report.text import versus
from committee.rule.origin import RecordedTarget
from committee.selection.notes import (
    _within_chance,
    few_samples,
    notes_of,
    of_comparison,
    target_of,
)
from committee.selection.paired import Comparison, compare
from committee.selection.targets import Target, promises_of
from committee.spec.task import CLASSIFICATION
from committee.text import percent
from strategies import pools, random_pool
from test_every_kind import write_store


@pytest.fixture(scope="module")
def halves() -> tuple[cm.Pool, cm.Pool]:
    pool = random_pool(seed=3, models=4, samples=1200)
    return pool.rows(slice(0, 600), "val"), pool.rows(slice(600, None), "test")


@pytest.fixture(scope="module")
def front(halves) -> cm.Front:
    return cm.search(halves[0], 3, grid=20)


def right(cascade: cm.Cascade, pool: cm.Pool) -> np.ndarray:
    return cm.evaluate_all([cascade], pool)[0].correct


# Targets


@settings(max_examples=40)
@given(
    pools(max_models=3),
    st.sampled_from([0.0, 0.2, 0.5]),
    st.one_of(st.none(), st.floats(0, 1)),
    st.one_of(st.none(), st.floats(0, 8)),
)
def test_a_choice_meets_every_target_and_none_that_does_is_cheaper(pool, within, least, most):
    front = cm.search(pool, grid=5)
    name = pool.names[-1]
    goal = cm.evaluate(front.alone(name), pool).accuracy - within
    able = [
        each
        for each in front
        if each.evaluation.accuracy >= max(goal, least or 0) - 1e-9
        and (most is None or each.evaluation.average_cost <= most)
    ]
    target = Target(name, within, least, most)
    if not able:
        with pytest.raises(Infeasible):
            target.of(front)
        return
    assert target.of(front) == able[0]


def test_a_share_is_of_the_matched_model_else_of_the_most_accurate(front, halves):
    costs = halves[0].costs.values("macs")
    best = max(halves[0].names, key=lambda name: right(front.alone(name), halves[0]))
    assert Target(max_cost=0.5, share=True).cost(front) == pytest.approx(costs[best] / 2)
    assert Target("b", max_cost=0.5, share=True).cost(front) == pytest.approx(costs["b"] / 2)


def test_what_cannot_be_had_names_the_nearest_in_accuracy_and_in_cost(front):
    cheapest, dearest = front[0], front[-1]
    most = cheapest.evaluation.average_cost
    with pytest.raises(Infeasible) as caught:
        Target(min_accuracy=dearest.evaluation.accuracy, max_cost=most).of(front)
    for near in (cheapest, dearest):
        assert f"{near.cascade} with accuracy {percent(near.evaluation.accuracy)}" in str(
            caught.value
        )


@pytest.mark.parametrize("within", [-0.1, 1.0, float("nan")])
def test_a_margin_is_a_share(front, within):
    with pytest.raises(CascadeError, match="it is a share, from 0 to below 1; half a point is"):
        front.matching("d", within)


# Paired differences


def test_a_comparison_is_the_difference_of_the_evaluations(front, halves):
    for pool, committee in itertools.product(halves, [*front][::5]):
        reference = front.alone("d")
        found = compare(committee.cascade, reference, pool, name="d")
        own, other = cm.evaluate_all([committee.cascade, reference], pool)
        assert found.difference.value == pytest.approx(own.accuracy - other.accuracy)
        assert found.saving == pytest.approx(other.average_cost / own.average_cost)
        assert found.difference.low <= found.difference.value <= found.difference.high
        turned = compare(reference, committee.cascade, pool).difference
        assert (turned.low, turned.high) == pytest.approx(
            (-found.difference.high, -found.difference.low)
        )


def test_any_utility_is_compared(halves):
    confusion = cm.weighted(np.random.default_rng(0).normal(size=(len(halves[1]), 3)))
    one, other = cm.Cascade.of(["a"]), cm.Cascade.of(["d"])
    found = compare(one, other, halves[1], metric=confusion)
    own, its = (cm.evaluate(each, halves[1], metric=confusion) for each in (one, other))
    assert found.difference.value == pytest.approx(own.accuracy - its.accuracy)
    assert found.difference.low < found.difference.value < found.difference.high


def test_a_committee_beside_itself_differs_for_certain_by_nothing(halves):
    alone = cm.Cascade.of(["a"])
    found = compare(cm.Cascade.of(["a"], confidence="prob_gap"), alone, halves[1])
    assert found.same
    assert (found.difference.low, found.difference.high) == (0, 0)


def test_the_cascade_file_says_what_it_is_to_match(front, tmp_path):
    path = front.matching("d", within=0.01).cascade.save(tmp_path / "c.json")
    name, reference, within = target_of(cm.Cascade.load(path))
    assert (name, reference.names, within) == ("d", ("d",), 0.01)


@pytest.mark.parametrize("target", [None, 3, {"models": "d"}, {"models": [1]}, {"within": "0"}])
def test_an_origin_of_other_hands_is_refused(target):
    data = cm.Cascade.of(["a"]).to_json()
    assert target_of(cm.Cascade.from_json(data)) is None
    data["origin"]["target"] = target
    with pytest.raises(CascadeError, match=r"c\.json: cascade: origin\.target"):
        cm.Cascade.from_json(data, "c.json")


# Rows, notes, and where they are told


def test_rows_of_one_committee_are_one(front, halves):
    rows = Report(front, halves[1], "a", front.alone("a")).rows
    shown = merged(rows)
    assert len({(row.cascade.stages, row.cascade.combine) for row in shown}) == len(shown)
    assert {row.cascade for row in shown} == {row.cascade for row in rows}
    (own,) = [row for row in shown if row.name == "a"]
    assert {"matches a", "chosen"} <= {own.role, *own.also}


@pytest.mark.usefixtures("report_extra")
def test_what_nobody_names_is_compared_with_the_most_accurate_model():
    pool = random_pool(seed=1, models=4, samples=300)  # its dearest is not the most accurate
    front = cm.search(pool, 2, grid=5)
    rows = Report(front).rows
    alone = {row.name: row.val for row in rows if row.role == "single model"}
    best = max(alone, key=lambda name: alone[name].correct)
    assert best != max(alone, key=lambda name: alone[name].average_cost)
    assert {row.reference for row in rows} == {best}
    target = Target(max_cost=0.5, share=True)
    assert target.reference(front) == best
    text = page_of(Report(front, chosen=target.of(front).cascade))
    assert f"over<small>{best}</small>" in text
    with pytest.raises(Infeasible, match=f"of {best}'s cost"):
        Target(max_cost=0.001, share=True).of(front)
    with pytest.raises(Infeasible, match="of a's cost"):
        Target(match="a", max_cost=0.001, share=True).of(front)


def test_notes_are_about_the_choice(front, halves):
    row = Report(front, halves[1], "d").choice
    notes = notes_of(front, row.versus)
    assert set(front.warnings) <= set(notes)
    own = row.versus.difference
    told = [note for note in notes if f"`{row.cascade}`" in note]
    sure = own.low > 0 or (own.high < 0 and row.versus.promise != "missed")
    assert len(told) == (not sure)


@given(st.floats(-0.1, 0.1), st.floats(0, 0.05), st.floats(0, 0.05))
def test_only_what_the_interval_leaves_open_is_told_as_open(value, half, within):
    found = Estimate(value, value - half, value + half, 100)
    own = Comparison("a -> b", "b", found, 2.0, "test", "samples", within)
    notes = of_comparison(own, CLASSIFICATION)
    told = {"kept": "promise kept", "missed": "promise missed", "within chance": "promise open"}
    assert versus(own).endswith(told[own.promise])
    assert any("within chance" in note for note in notes) == (abs(value) <= half)
    few = [note for note in notes if "too few" in note]
    assert len(few) == (own.promise == "within chance" and not abs(value) <= half)
    assert not few or f"within {100 * within:.4g} points" in few[0]


FEW = "20 samples are few to "


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A store of 20 samples in each split."""
    folder = tmp_path_factory.mktemp("few")
    for split in ("val", "test"):
        write_store(folder, "logits", splits=(split,), samples=20)
    return folder / "store"


@pytest.mark.usefixtures("report_extra")
def test_few_samples_are_told_wherever_a_choice_is_shown(few, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    store, path, page = str(few), str(tmp_path / "c.json"), tmp_path / "page.html"
    report = ["report", store, "--match", "c", "--out", str(page)]
    study = ["study", store, "--only", "exit_ratios", "--out", str(tmp_path)]
    chooses = ["search", store, "--match", "c", "--out", path]
    capsys.readouterr()
    for words in (chooses, ["evaluate", path, store], report):
        assert main(words) == 0
        assert f"Note: {FEW}" in capsys.readouterr().out
    for words in (chooses, ["evaluate", path, store], study):
        assert main([*words, "--json"]) == 0
        assert any(FEW in each for each in json.loads(capsys.readouterr().out)["warnings"])
    for text in (page.read_text(), (tmp_path / "index.md").read_text()):
        assert f"Note: {FEW}" in text
    val, test = (cm.Pool.load(few / split) for split in ("val", "test"))
    texts = [text.get_text() for text in front_figure(Report(cm.search(val), test)).axes[0].texts]
    assert any(FEW in " ".join(text.split()) for text in texts)


VERSUS = r"; [+−]\d+(\.\d+)? points \([+−][\d.]+ to [+−][\d.]+\) vs c"


@pytest.mark.parametrize("splits", [("val", "test"), ("val",)], ids=str)
def test_the_difference_stands_beside_every_choice(splits, tmp_path, capsys):
    for split in splits:
        write_store(tmp_path, "probabilities", splits=(split,))
    store, path = str(tmp_path / "store"), str(tmp_path / "c.json")
    words = ["search", store, "--match", "c", "--within", "0.1", "--out", path]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    versus = json.loads(capsys.readouterr().out)["chosen"]["versus"]
    assert (versus["reference"], versus["within"], versus["split"]) == ("c", 0.1, splits[-1])
    assert versus["chosen_on_these_samples"] == (splits == ("val",))
    for words_ in (words, ["evaluate", path, store, "--split", splits[-1]]):
        assert main(words_) == 0
        assert re.search(VERSUS, " ".join(capsys.readouterr().out.split()))
    assert main(["evaluate", path, store, "--split", splits[-1], "--json"]) == 0
    evaluation = json.loads(capsys.readouterr().out)
    assert evaluation["versus"] == versus
    assert "c" in evaluation["models"]


@pytest.mark.usefixtures("report_extra")
def test_the_page_begins_with_what_was_chosen_and_how_sure_that_is(front, halves):
    chosen = front.matching("d", 0.02).cascade
    text = page_of(Report(front, halves[1], "d", chosen=chosen))
    brief, engineer = re.findall(r'<p class="brief"><strong>(.*?)</p>', text)
    assert brief.startswith("For a manager:</strong> Asking cheaper models first is ")
    assert re.search(r"Of 1,000 answers .* are wrong, with 95 % certainty between .* and ", brief)
    assert engineer.startswith("For an engineer:</strong>")
    assert text.index(brief) < text.index(engineer) < text.index('<div id="figure">')
    (line,) = re.findall(r'<span class="headline">(.*?)</span>', text)
    assert line.startswith("Chosen: ")
    assert "600 samples" in line
    assert re.search(r"points \(.* to .*\) in accuracy on test", line)
    assert f"committee {cm.__version__}" in text


def test_a_model_that_is_its_own_match_is_told_what_is_cheaper(tmp_path, capsys):
    write_store(tmp_path, "decisions", splits=("val",))
    store = str(tmp_path / "store")
    front = cm.search(cm.Pool.load(tmp_path / "store" / "val"))
    own = next(
        (n for n in "abc" if front.matching(n).cascade.names == (n,) and len(front) > 1), None
    )
    assert own is not None
    assert main(["search", store, "--match", own]) == 0
    output = " ".join(capsys.readouterr().out.split())
    near = front.next_cheaper(front.matching(own))
    told = f"; the next cheaper is {near.cascade}" if near else "."
    assert f"{own} is its own cheapest match{told}" in output


def test_one_model_is_nothing_to_choose_from():
    pool = random_pool(seed=1, models=1, samples=200)
    assert any("nothing to choose" in note for note in cm.search(pool).warnings)


def test_a_store_in_place_of_a_cascade_is_told(few, tmp_path, capsys):
    path = str(cm.Cascade.of(["a"]).save(tmp_path / "c.json"))
    for store in (str(few), str(few / "val")):
        assert main(["evaluate", store, path]) == 2
        assert "committee evaluate CASCADE STORE" in capsys.readouterr().err


def test_decisions_take_no_other_confidence() -> None:
    pool = cm.Pool.from_arrays(
        [0, 1, 1], {"a": ([0, 1, 0], [0.9, 0.8, 0.3])}, kind="decisions", costs={"a": 1}
    )
    with pytest.raises(CascadeError, match="decisions bring their own confidence"):
        cm.search(pool, confidence="prob_gap")


# What was asked for, on the split that evaluates


def test_a_target_that_is_missed_or_open_is_said(front, halves):
    for each in front:
        own = cm.evaluate(each.cascade, halves[1])
        low, high = own.interval
        for least, outcome in (
            (low, "kept"),
            (high + 1e-6, "missed"),
            (low + 1e-6, "within chance"),
        ):
            target = RecordedTarget(min_accuracy=least)
            cascade = replace(each.cascade, origin=replace(each.cascade.origin, target=target))
            (found,) = promises_of(cascade, own, halves[1])
            assert (found.outcome, found.value) == (outcome, own.accuracy)


def test_the_interval_of_an_average_cost_is_that_of_the_mean_over_samples(front, halves):
    for each in front:
        own = cm.evaluate(each.cascade, halves[1])
        costs = np.cumsum(stage_costs(each.cascade, halves[1]))
        paid = costs[stored_decisions(each.cascade, halves[1]).stage]
        half = 1.959964 * paid.std(ddof=1) / len(paid) ** 0.5
        reach = 1.01 * half + 1e-6
        for most, outcome in ((paid.mean() - reach, "missed"), (paid.mean() + reach, "kept")):
            target = RecordedTarget(max_cost=most)
            cascade = replace(each.cascade, origin=replace(each.cascade.origin, target=target))
            (found,) = promises_of(cascade, own, halves[1])
            assert found.value == pytest.approx(paid.mean())
            assert found.high - found.value == pytest.approx(half, rel=1e-6, abs=1e-9)
            assert found.outcome == outcome


@pytest.fixture
def missing(tmp_path):
    """A store whose cheap model is surer and better on val than on test."""
    labels = np.arange(400) % 2
    for split, share in (("val", 0.95), ("test", 0.6)):
        right = np.arange(400) < 400 * share
        for name, rate in (("a", right), ("b", np.ones(400, bool))):
            answers = np.where(rate, labels, 1 - labels)
            sure = np.where(np.arange(400) < 400 * share, 4.0, 1.0)
            np.save(tmp_path / f"{name}.npy", np.eye(2)[answers] * sure[:, None])
        np.save(tmp_path / "labels.npy", labels)
        words = ["import", "--kind", "logits", "--split", split, "--out", str(tmp_path / "s")]
        words += ["--labels", str(tmp_path / "labels.npy"), "--cost", "a=1", "--cost", "b=10"]
        assert main([*words, *(f"{n}={tmp_path / n}.npy" for n in "ab")]) == 0
    return tmp_path / "s"


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (("--min-accuracy", "0.9", "--worst-case", "1"), "less accurate on test than its target"),
        (("--max-cost", "25%"), "costs more on average on test than its target"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("report_extra")
def test_missed_targets_are_said_wherever_the_choice_is(missing, target, told, tmp_path, capsys):
    store, path, page = str(missing), str(tmp_path / "c.json"), str(tmp_path / "p.html")
    chooses = ["search", store, *target, "--out", path]
    calls = [chooses, ["evaluate", path, store]]
    if "--worst-case" not in target:
        calls.append(["report", store, *target, "--out", page])
    for words in calls:
        capsys.readouterr()
        assert main(words) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "on test: missed" in out
        assert main([*words, "--json"]) == 0
        data = json.loads(capsys.readouterr().out)
        assert any(told in note for note in data["warnings"])
        (found,) = (data.get("chosen") if words[0] == "search" else data)["promises"]
        assert found["outcome"] == "missed"
    if len(calls) > 2:
        assert "on test: missed." in Path(page).read_text()


def test_a_figure_by_another_measure_or_other_labels_is_told_as_that(missing, tmp_path, capsys):
    store, path = str(missing), str(tmp_path / "c.json")
    assert main(["search", store, "--agree-with", "a", "--match", "a", "--out", path]) == 0
    capsys.readouterr()
    assert main(["evaluate", path, store]) == 0
    told = capsys.readouterr().out
    assert "by another measure: agreement with a" in told
    assert "labels of 'val'" not in told
    assert main(["search", store, "--match", "b", "--out", path]) == 0
    capsys.readouterr()
    assert main(["evaluate", path, store]) == 0
    assert "labels of 'val'" not in capsys.readouterr().out
    np.save(tmp_path / "new.npy", 1 - np.arange(400) % 2)
    words = ["relabel", store, "--split", "val", "--labels", str(tmp_path / "new.npy")]
    assert main(words) == 0
    for split in ("val", "test"):
        capsys.readouterr()
        assert main(["evaluate", path, store, "--split", split]) == 0
        assert "labels of 'val' in this store are not those that chose" in capsys.readouterr().out


def test_a_store_without_a_test_split_says_what_to_do(tmp_path, capsys):
    store = str(write_store(tmp_path, "logits", splits=("val",)))
    path = str(tmp_path / "c.json")
    assert main(["search", store, "--match", "c", "--out", path]) == 0
    assert main(["evaluate", path, store]) == 2
    told = capsys.readouterr().err
    assert "has no split 'test'" in told
    assert "--split val" in told
    assert main(["evaluate", path, store, "--split", "val"]) == 0


def test_few_samples_that_score_the_same_have_no_spread_of_nothing() -> None:
    alike = Evaluation("val", 4, 1.0, 1.0, 1.0, "macs", (1.0,), "mIoU", bounds=(1.0, 1.0))
    (told,) = few_samples(alike, CLASSIFICATION)
    assert "±" not in told
    told = _within_chance("b", "a", 0.0, 0.0, 32, CLASSIFICATION)
    assert told == "`b` and `a` score the same on these 32 samples; any difference is within chance"
