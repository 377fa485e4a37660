"""Every command that reads a store or a cascade, on every kind of outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import committee as cm
from committee.cli import main
from committee.rule.combinations import DEFAULT_COMBINE

KINDS = ("logits", "probabilities", "decisions")
SAMPLES = {"val": 120, "test": 90, "cal": 80}


def outputs(kind: str, labels: np.ndarray, classes: int, strength: float, rng: Any) -> Any:
    """What a model of some strength gives on samples of these labels."""
    logits = strength * np.eye(classes)[labels] + rng.normal(size=(len(labels), classes))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = {"logits": logits, "probabilities": shares}
    return given.get(kind, (shares.argmax(axis=1), shares.max(axis=1)))


def write_store(
    folder: Path,
    kind: str,
    classes: int = 2,
    models: int = 3,
    splits: tuple[str, ...] = (),
    samples: int | None = None,
) -> Path:
    """A store that ``committee import`` makes, of models of rising strength and cost."""
    for split in splits or tuple(SAMPLES):
        rng = np.random.default_rng([*SAMPLES].index(split))
        labels = rng.integers(0, classes, samples or SAMPLES[split])
        np.save(folder / "labels.npy", labels)
        words = ["import", "--kind", kind, "--split", split, "--out", str(folder / "store")]
        words += ["--labels", str(folder / "labels.npy")]
        for number, name in enumerate("abcde"[:models]):
            made = outputs(kind, labels, classes, 1.0 + number, rng)
            path = folder / f"{name}.{'csv' if kind == 'decisions' else 'npy'}"
            if kind == "decisions":
                rows = [f"{p},{float(c)!r}" for p, c in zip(*made, strict=True)]
                path.write_text("\n".join(["class,confidence", *rows]) + "\n")
            else:
                np.save(path, made)
            words += [f"{name}={path}", "--cost", f"{name}={10**number}"]
        assert main([*words, "--json"]) == 0
    return folder / "store"


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def store(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp(kind), kind)


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


CHOICES = {
    "match": ["--match", "c"],
    "accuracy": ["--min-accuracy", "0.6"],
    "cost": ["--max-cost", "60"],
    "guided": ["--method", "guided", "--match", "c"],
    "greedy": ["--method", "greedy", "--max-cost", "60"],
    "alone": ["--ensemble", "b"],
    "cascade of": ["--cascade-of", "c"],
    "agreement": ["--agree-with", "c", "--min-accuracy", "0.5"],
}


@pytest.mark.parametrize("options", CHOICES.values(), ids=str)
def test_search_chooses_and_evaluate_confirms_it(kind, store, options, tmp_path, capsys):
    path = tmp_path / "chosen.json"
    found = told(["search", str(store), *options, "--out", str(path)], capsys)
    written = json.loads(path.read_text())
    assert written["combine"] == DEFAULT_COMBINE[kind]
    asked = ["--agree-with", "c"] if "--agree-with" in options else []
    evaluation = told(["evaluate", str(path), str(store), *asked], capsys)
    promised = found["chosen"]["test"]
    assert {name: evaluation[name] for name in promised} == promised
    assert set(evaluation["models"]) >= {
        name for stage in written["stages"] for name in stage["models"]
    }


def test_single_models_of_evaluate_are_those_of_the_library(kind, store, tmp_path, capsys):
    cascade = cm.Cascade.of(["a", "c"], [0.7])
    cascade.save(tmp_path / "by_hand.json")
    evaluation = told(["evaluate", str(tmp_path / "by_hand.json"), str(store)], capsys)
    test = cm.Pool.load(store / "test")
    assert evaluation["correct"] == cm.evaluate(cascade, test).correct
    for name in "ac":
        right = (test.outputs[name].predicted() == test.samples.labels).sum()
        assert evaluation["models"][name]["correct"] == right


def test_cascade_set_by_hand_is_the_one_with_the_combination_spelled_out(kind, store):
    test = cm.Pool.load(store / "test")
    models = [["a", "b"], "c"] if kind != "decisions" else ["a", "c"]
    by_hand = cm.Cascade.of(models, [0.7])
    spelled = cm.Cascade.of(models, [0.7], "max_prob", DEFAULT_COMBINE[kind])
    assert cm.evaluate(by_hand, test) == cm.evaluate(spelled, test)
    assert cm.evaluate_all([by_hand], test) == cm.evaluate_all([spelled], test)
    assert test.described(by_hand) == spelled


def test_calibrate(kind, store, capsys):
    method = "platt" if kind == "decisions" else "temperature"
    found = told(["calibrate", str(store), "--method", method], capsys)
    assert found["calibrations"].keys() == set("abc")
    chosen = told(["search", str(store), "--calibrated", "--match", "c"], capsys)
    assert chosen["chosen"]["cascade"]["calibrations"]


def test_report(kind, store, tmp_path, capsys):
    if kind != "probabilities":
        pytest.skip("test_report.py reports on every kind")
    page = tmp_path / "report.html"
    found = told(["report", str(store), "--match", "c", "--out", str(page)], capsys)
    assert found["chosen"]["combine"] == DEFAULT_COMBINE[kind]
    assert page.is_file()


def test_study(kind, store, tmp_path, capsys):
    if kind != "decisions":
        pytest.skip("test_study_any_pool.py studies every kind")
    words = ["study", str(store), "--out", str(tmp_path), "--only", "best_cascades"]
    found = told(words, capsys)
    assert found["settings"]["combine"] == DEFAULT_COMBINE[kind]


@pytest.mark.parametrize("models", [1, 2])
def test_small_pools_of_one_split(kind, models, tmp_path, capsys):
    """Defaults fit the pool; without another split the one that chose evaluates, and says so."""
    store = str(write_store(tmp_path, kind, models=models, splits=("val",)))
    path = str(tmp_path / "chosen.json")
    for method in ("exact", "guided", "greedy"):
        words = ["search", store, "--method", method, "--match", "ab"[models - 1], "--out", path]
        assert told(words, capsys)["chosen"]["test"] is None
    evaluation = told(["evaluate", path, store, "--split", "val"], capsys)
    assert evaluation["chosen_on_these_samples"]
    assert cm.guided(cm.Pool.load(tmp_path / "store" / "val")).settings.max_models == models


@pytest.mark.parametrize(
    "words", [["evaluate", "CASCADE", "STORE"], ["study", "STORE", "--out", "OUT"]], ids=str
)
def test_lack_of_a_split_is_one_line(kind, words, tmp_path, capsys):
    store = str(write_store(tmp_path, kind, splits=("val",)))
    path = str(cm.Cascade.of(["a"]).save(tmp_path / "one.json"))
    places = {"CASCADE": path, "STORE": store, "OUT": str(tmp_path / "out")}
    capsys.readouterr()
    assert main([places.get(word, word) for word in words]) == 2
    errors = capsys.readouterr().err
    assert "'test'" in errors
    assert errors.count("\n") == 1
