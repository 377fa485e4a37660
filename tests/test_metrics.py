"""``--metric``: every command scores by it, and plain NumPy agrees."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import committee as cm
from brute_force import Oracle
from committee.cli import main
from committee.errors import ShapeError
from committee.pool.intervals import mean_interval, paired_difference, weighted_mean
from committee.report.classes import _ClassLosses, _losses_of, class_losses
from committee.report.rows import Report
from strategies import RULES, pools

# The classes have names, and the third is rare.
CLASSES, SHARES = ("cat", "dog", "newt"), (0.6, 0.35, 0.05)
WEIGHTS = {"cat": 1.0, "dog": 2.0, "newt": 10.0}


def logits(labels: np.ndarray, strength: float, rng: Any) -> np.ndarray:
    """Outputs that are worse on the rare class."""
    own = np.where(labels == 2, strength / 2, strength)
    return own[:, None] * np.eye(3)[labels] + rng.normal(size=(len(labels), 3))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    for seed, split in enumerate(("val", "test")):
        rng = np.random.default_rng(seed)
        labels = rng.choice(3, 300 + 100 * seed, p=SHARES)
        np.save(folder / "labels.npy", labels)
        words = ["import", "--kind", "logits", "--split", split, "--out", str(folder / "store")]
        words += ["--labels", str(folder / "labels.npy"), "--classes", str(folder / "classes.txt")]
        for number, name in enumerate("abc"):
            np.save(folder / f"{name}.npy", logits(labels, 1.5 + number, rng))
            words += [f"{name}={folder / f'{name}.npy'}", "--cost", f"{name}={10**number}"]
        assert main([*words, "--json"]) == 0
    rows = [f"{name},{weight}" for name, weight in WEIGHTS.items()]
    (folder / "weights.csv").write_text("\n".join(["class,weight", *rows]))
    return folder / "store"


def answer(words: list[Any], capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refusal(words: list[Any], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main([*map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def predicted_ranks(cascade: cm.Cascade, pool: cm.Pool) -> np.ndarray:
    """The classes from the likeliest, by plain NumPy, for max_prob and mean_logits."""
    total, ran = np.zeros((len(pool), 3)), 0
    final, alive = np.zeros((len(pool), 3)), np.ones(len(pool), bool)
    for stage in cascade.stages:
        for name in stage.models:
            total, ran = total + pool.outputs[name].values, ran + 1
        mean = total / ran
        shares = np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)
        exiting = alive & (shares.max(axis=1) >= stage.threshold)
        final[exiting] = mean[exiting]
        alive &= ~exiting
    return np.argsort(-final, axis=1, kind="stable")


def expected_figure(metric: str, cascade: cm.Cascade, pool: cm.Pool) -> float:
    ranks, labels = predicted_ranks(cascade, pool), pool.samples.labels
    assert labels is not None
    if metric == "top-2":
        return float((ranks[:, :2] == labels[:, None]).any(axis=1).mean())
    correct = ranks[:, 0] == labels
    if metric == "balanced":
        return float(np.mean([correct[labels == each].mean() for each in range(3)]))
    own = np.array([*WEIGHTS.values()])[labels]
    return float((own * correct).sum() / own.sum())


METRICS = ("top-2", "balanced", "weights")


def spelled(metric: str, store: Path) -> str:
    return f"weights:{store.parent / 'weights.csv'}" if metric == "weights" else metric


@pytest.mark.parametrize("metric", METRICS)
def test_search_and_evaluate_give_the_figures_of_numpy(metric, store, tmp_path, capsys):
    own, out = ["--metric", spelled(metric, store)], tmp_path / "c.json"
    words = ["search", store, "--match", "c", "--within", "0.02", *own, "--out", out]
    found = answer(words, capsys)
    cascade = cm.Cascade.load(out)
    capsys.readouterr()
    assert main([*map(str, words)]) == 0
    # A line may break within the words.
    assert " ".join(own) in " ".join(capsys.readouterr().out.split())
    assert found["settings"]["metric"] == cascade.origin.promised.measure
    for split, known in (("val", "evaluation"), ("test", "test")):
        pool, figure = cm.Pool.load(store / split), found["chosen"][known]
        assert figure["accuracy"] == pytest.approx(expected_figure(metric, cascade, pool))
        low, high = figure["interval"]
        assert 0 <= low < figure["accuracy"] < high <= 1
    evaluation = answer(["evaluate", out, store, *own], capsys)
    assert evaluation["accuracy"] == found["chosen"]["test"]["accuracy"]
    assert evaluation["versus"]["promise"] is not None
    alone = expected_figure(metric, cm.Cascade.of(["c"]), cm.Pool.load(store / "test"))
    assert evaluation["models"]["c"]["accuracy"] == pytest.approx(alone)
    difference = evaluation["accuracy"] - alone
    assert evaluation["versus"]["difference"] == pytest.approx(difference)
    # The metric that chose is the default, unless it needs a file.
    usual = answer(["evaluate", out, store], capsys)
    assert usual["measure"] == ("top-1" if metric == "weights" else evaluation["measure"])
    notes = [each for each in usual["notes"] if "--metric weights:FILE.csv" in each]
    assert len(notes) == (metric == "weights")
    assert evaluation["notes"] == [each for each in usual["notes"] if each not in notes]
    # A promise of one metric is none of another.
    assert answer(["evaluate", out, store, "--metric", "top-1"], capsys)["promises"] == []


@pytest.mark.usefixtures("report_extra")
def test_a_report_shows_the_metric(store, tmp_path, capsys):
    own, page = ["--metric", "top-2", "--max-models", 2], tmp_path / "report.html"
    found = answer(["report", store, "--match", "c", *own, "--out", page], capsys)
    search = ["search", store, "--match", "c", *own]
    assert found["chosen"]["stages"] == answer(search, capsys)["chosen"]["cascade"]["stages"]
    assert "--metric top-2" in page.read_text()


@pytest.mark.usefixtures("report_extra")
def test_a_study_shows_the_metric(store, tmp_path, capsys):
    own = ["--metric", spelled("weights", store), "--max-models", 2]
    only = ["--only", "confidence_functions"]
    study = answer(["study", store, "--out", tmp_path / "study", *own, *only], capsys)
    assert study["measure"] == study["settings"]["metric"]
    # All of the samples are the surest 100 %.
    alone = expected_figure("weights", cm.Cascade.of(["a"]), cm.Pool.load(store / "test"))
    found = {each["name"]: each for each in study["analyses"]}["confidence_functions"]
    surest = next(each for each in found["tables"] if each["name"].endswith("surest"))
    assert surest["rows"][-1][:2] == [100, pytest.approx(alone)]


def best_of(tried: set[tuple[float, float]]) -> set[tuple[float, float]]:
    """The pairs of cost and accuracy that no other pair beats."""
    return {
        (cost, value)
        for cost, value in tried
        if not any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in tried)
    }


@pytest.mark.parametrize("weights", [None, (1.0, 0.0, 5.0)])
@given(seed=st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_the_front_is_that_of_every_cascade_tried(weights, seed):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1, 2], rng.choice(3, 17, p=SHARES)])
    outputs = {name: logits(labels, 1.0, rng) for name in "ab"}
    pool = cm.Pool.from_arrays(labels, outputs, kind="logits", costs={"a": 1, "b": 5}, unit="macs")
    metric = cm.BALANCED if weights is None else cm.class_weighted(weights)
    own = 1 / np.bincount(labels)[labels] if weights is None else np.array(weights)[labels]
    tried = set()
    for each in Oracle(pool, "mean_logits", "max_prob", 10).every(2):
        models, thresholds = zip(*each.stages, strict=True)
        correct = predicted_ranks(cm.Cascade.of(models, thresholds[:-1]), pool)[:, 0] == labels
        tried.add((each.cost / 20, round(float((own * correct).sum() / own.sum()), 9)))
    found = [each.evaluation for each in cm.search(pool, 2, metric=metric, grid=10)]
    figures = {(each.average_cost, round(each.accuracy, 9)) for each in found}
    assert figures == best_of(tried)


@pytest.mark.parametrize("metric", [cm.BALANCED, cm.class_weighted([1e-13, 0.3, 5.0])])
@given(st.data(), st.sampled_from(RULES))
@settings(max_examples=25, deadline=None)
def test_fast_evaluation_is_that_of_the_definition(metric, data, rule):
    kind, combine, confidence = rule
    pool = data.draw(pools(kind))
    cascade = cm.Cascade.of(pool.names, [0.5] * (len(pool.names) - 1), confidence, combine)
    assert cm.evaluate_all([cascade], pool, metric=metric) == [
        cm.evaluate(cascade, pool, metric=metric)
    ]


def test_an_interval_of_equal_weights_is_that_of_a_paired_difference():
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 2, (2, 200))
    own, known = weighted_mean(one - two, np.ones(200), -1), paired_difference(one, two)
    assert own.value == known.value
    assert (own.low, own.high) == pytest.approx((known.low, known.high), abs=0.002)


def test_a_difference_without_losses_may_still_be_negative():
    values, weights = np.array([0, 0, 0, 1.0]), np.ones(4)
    assert weighted_mean(values, weights, -1.0).low < 0


def test_intervals_keep_their_level_where_a_class_is_rare():
    rng, weigh, times = np.random.default_rng(1), cm.BALANCED.weights, 600
    inside = {"recalls": 0, "losses": 0, "Student": 0}
    recalls, losses = np.array([0.95, 0.8, 0.5]), np.array([0.0, 0.0, 0.1])
    for _ in range(times):
        labels = np.concatenate([[0, 1, 2], rng.choice(3, 297, p=(0.9, 0.08, 0.02))])
        weights, drawn = weigh(labels), rng.random(300)
        known = weighted_mean(weights * (drawn < recalls[labels]), weights)
        inside["recalls"] += known.low <= recalls.mean() <= known.high
        lost = -weights * (drawn < losses[labels])
        for name, found in (
            ("losses", weighted_mean(lost, weights, -1.0)),
            ("Student", mean_interval(lost)),
        ):
            inside[name] += found.low <= -losses.mean() <= found.high
    assert inside["recalls"] > 0.94 * times
    assert inside["losses"] > 0.94 * times
    assert inside["Student"] < 0.7 * times


def test_classes_without_samples_do_not_count():
    labels = np.array([0, 0, 2])
    outputs = {"a": np.eye(3)[[0, 1, 2]]}
    pool = cm.Pool.from_arrays(labels, outputs, kind="logits", costs={"a": 1}, unit="macs")
    found = cm.evaluate(cm.Cascade.of(["a"]), pool, metric=cm.BALANCED)
    assert found.accuracy == pytest.approx((0.5 + 1) / 2)
    assert found.correct is None


def losses(report: Report) -> _ClassLosses:
    found = class_losses(report)
    assert found is not None
    return found


@pytest.mark.usefixtures("report_extra")
def test_classes_that_lose_most_are_those_of_numpy(store, tmp_path, capsys):
    page = tmp_path / "report.html"
    words = ["report", store, "--match", "c", "--within", 0.1, "--out", page]
    found = answer(words, capsys)["classes"]
    out = tmp_path / "c.json"
    answer(["search", *words[1:-1], out], capsys)
    pool, cascade = cm.Pool.load(store / "test"), cm.Cascade.load(out)
    labels = pool.samples.labels
    own, other = (predicted_ranks(c, pool)[:, 0] == labels for c in (cascade, cm.Cascade.of(["c"])))
    expected = {
        name: (own[labels == k].mean() - other[labels == k].mean(), int((labels == k).sum()))
        for k, name in enumerate(CLASSES)
    }
    worse = {name: each for name, each in expected.items() if each[0] < 0}
    assert found["looked_at"] == 3
    assert found["worse"] == len(worse) > 0
    assert {
        each["name"]: (pytest.approx(each["difference"]["value"]), each["samples"])
        for each in found["classes"]
    } == worse
    for each in found["classes"]:
        assert each["difference"]["low"] < each["difference"]["value"] < each["difference"]["high"]
        assert each["difference"]["value"] == (each["wins"] - each["losses"]) / each["samples"]
    assert "Classes that lose most" in page.read_text()


def test_a_choice_that_is_the_reference_loses_nothing(store):
    pool = cm.Pool.load(store / "val")
    front = cm.search(pool, 2)
    assert class_losses(Report(front, None, "c", front.alone("c"))) is None
    best = front[-1].cascade
    found = losses(Report(front, None, "a", best))
    assert found.worse == len(found.classes)
    assert all(each.losses > each.wins for each in found.classes)


def test_the_intervals_of_all_classes_hold_together():
    rng, times, inside = np.random.default_rng(2), 20, 0
    shares = np.array([0.4, 0.3, 0.2, 0.06, 0.04])
    wins, lost = np.full(5, 0.02), np.array([0.04, 0.05, 0.06, 0.3, 0.6])
    for _ in range(times):
        labels = rng.choice(5, 150, p=shares)
        pool = cm.Pool.from_arrays(labels, {"a": np.eye(5)[labels]}, kind="logits")
        drawn = rng.random(150)
        gaps = np.where(drawn < wins[labels], 1, np.where(drawn > 1 - lost[labels], -1, 0))
        found = _losses_of(gaps, pool, "large", "top-1")
        true = wins - lost
        inside += all(
            each.difference.low <= true[int(each.name)] <= each.difference.high
            for each in found.classes
        )
    assert inside / times > 0.94


def test_a_class_that_surely_loses_is_named_before_one_that_seems_to_lose_more():
    labels = np.array([0] * 200 + [1] * 2)
    gaps = np.array([-1] * 40 + [0] * 160 + [-1, 0])
    pool = cm.Pool.from_arrays(labels, {"a": np.eye(2)[labels]}, kind="logits")
    found = _losses_of(gaps, pool, "large", "top-1")
    assert [each.name for each in found.classes] == ["0", "1"]
    assert found.sentence.startswith("2 of 2 classes are less accurate than with large ")
    assert found.sentence.endswith("'0' for certain.")


REFUSED = {
    "f1-macro": "F1 is no mean over samples",
    "top-4": "only 3 classes",
    "top-0": "k must be 1 or more",
    "ballanced": "Did you mean 'balanced'",
    "weights:none.csv": "no readable csv file",
}


@pytest.mark.parametrize(("metric", "why"), REFUSED.items())
@pytest.mark.parametrize("command", ["search", "evaluate", "report", "study", "certify"])
def test_what_is_no_metric_is_refused(command, metric, why, store, tmp_path, capsys, request):
    if command in ("report", "study"):
        request.getfixturevalue("report_extra")
    cm.Cascade.of(["a", "c"], [0.9]).save(tmp_path / "c.json")
    words = [command, tmp_path / "c.json"] if command in ("evaluate", "certify") else [command]
    words += [store, "--metric", metric]
    words += ["--match", "c"] if command == "certify" else []
    words += ["--out", tmp_path / "study"] if command == "study" else []
    assert why in refusal(words, capsys)


@pytest.mark.parametrize("metric", ["balanced", "weights"])
def test_certificates_need_samples_that_score_1_or_0(metric, store, tmp_path, capsys):
    cm.Cascade.of(["a", "c"], [0.9]).save(tmp_path / "c.json")
    own = ["--match", "c", "--metric", spelled(metric, store)]
    for words in (["certify", tmp_path / "c.json", store], ["search", store, "--promise", "0.9"]):
        assert "certificates need 1 or 0" in refusal([*words, *own], capsys)
    top = ["certify", tmp_path / "c.json", store, "--match", "c", "--metric", "top-2"]
    found = answer([*top, "--within", "0.2"], capsys)
    assert found["certificate"]["measure"] == "top-2"


BAD_WEIGHTS = {
    "class,weight\ncat,1\ndog,2": "each of the 3 classes once, with its weight; see 'newt'",
    "class,weight\ncat,1\ndog,2\nnewt,3\ncat,1": "each of the 3 classes once",
    "class,weight\ncat,1\ndog,-2\nnewt,3": "line 3: weight '-2' is no number of 0 or more",
    "class,weight\ncat,1\ndog,x\nnewt,3": "weight 'x' is no number",
    "class,weight\ncat,0\ndog,0\nnewt,0": "not all 0",
    "class,weight\ncat,1\ncow,1\nnewt,1": "cow",
    "name,number\ncat,1": "must name the columns class and weight",
}


@pytest.mark.parametrize(("text", "why"), BAD_WEIGHTS.items())
def test_weights_that_are_not_one_a_class_are_refused(text, why, store, tmp_path, capsys):
    (tmp_path / "w.csv").write_text(text)
    assert why in refusal(["search", store, "--metric", f"weights:{tmp_path / 'w.csv'}"], capsys)


@pytest.mark.parametrize("seed", [1, 22, 73, *range(100, 110)])
def test_a_front_has_no_two_members_that_differ_by_rounding_alone(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(7, 60, p=np.array([20, 10, 9, 8, 6, 4, 3]) / 60)
    skills = {"a": 0.8, "b": 1.2, "c": 1.3}
    outputs = {n: rng.normal(size=(60, 7)) + s * np.eye(7)[labels] for n, s in skills.items()}
    costs = {"a": 1.0, "b": 2.0, "c": 3.0}
    pool = cm.Pool.from_arrays(labels, outputs, kind="logits", costs=costs, unit="macs")
    front = cm.search(pool, metric=cm.BALANCED)
    assert (np.diff([each.evaluation.accuracy for each in front]) > 1e-12).all()


@pytest.mark.parametrize(
    ("word", "remedy"), [("top-5", "top_k(5)"), ("balanced", "BALANCED"), ("f1", "class_weighted")]
)
def test_words_of_the_option_are_no_metric_in_python(word, remedy):
    labels = np.arange(12) % 3
    pool = cm.Pool.from_arrays(labels, {"a": np.eye(3)[labels]}, costs={"a": 1.0}, kind="logits")
    cascade = cm.Cascade.of(["a"])
    for call in (
        lambda: cm.search(pool, metric=word),
        lambda: cm.evaluate(cascade, pool, metric=word),
        lambda: cm.certify(pool, min_accuracy=0.5, metric=word),
    ):
        with pytest.raises(ShapeError, match=re.escape(remedy)):
            call()
