"""``committee verify --promise``: a run is compared with the certificate of its cascade."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import committee as cm
from committee.certificates.certificate import Certificate, Checked
from committee.cli import main
from committee.embedded import FOLDER
from committee.rule.flow import Decisions
from committee.run.certificate import PromiseCheck
from export_world import embedded, some_images
from test_certificate_travels import certified

POOL = FOLDER / "pool.toml"
NEW = ("--data", "embedded:test", "--rows", "0:150")
CASCADES = {
    "ends in large": cm.Cascade.of(["nano", "large"], [0.8], combine="mean_logits"),
    "without large": cm.Cascade.of(["nano", "tiny"], [0.8], combine="mean_logits"),
    "nano": cm.Cascade.of(["nano"], combine="mean_logits"),
}
LARGE = cm.Cascade.of(["large"], combine="mean_logits")


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of two splits, and cascades that one of them certified."""
    folder = tmp_path_factory.mktemp("promises")
    for split in ("val", "test"):
        data = ("--data", f"embedded:{split}", "--rows", "0:150", "--split", split)
        only = ("--only", "nano", "--only", "tiny", "--only", "large")
        assert run("predict", POOL, *data, *only, "--out", folder / "store", "--json") == 0
    for name, cascade in CASCADES.items():
        file = embedded(cascade).save(folder / f"{name}.json")
        words = ("--match", "large", "--within", 0.3, "--unit", "macs", "--json")
        assert run("certify", file, folder / "store", *words) == 0
    return folder


@pytest.fixture
def world(root: Path, enter_beside: Callable[[Path], Path]) -> Path:
    return enter_beside(root)


Verify = Callable[..., tuple[int, Any]]


@pytest.fixture
def verify(world: Path, capsys: pytest.CaptureFixture[str]) -> Verify:
    """Call verify --promise on new samples; return the exit code, and JSON, text or the error."""

    def call(file: str, *words: object, text: bool = False, data: Any = NEW) -> tuple[int, Any]:
        capsys.readouterr()
        code = run("verify", file, *data, "--promise", *words, *([] if text else ["--json"]))
        out, errors = capsys.readouterr()
        if code == 2:
            assert errors.count("\n") == 1
            return code, errors
        return code, out if text else json.loads(out)

    return call


def rewritten(file: str, **changes: Any) -> str:
    """Change the promise of a file's certificate."""
    cascade = cm.Cascade.load(file)
    assert cascade.certificate is not None
    record = replace(cascade.certificate, **changes)
    cascade.certified(record).save("changed.json")
    return "changed.json"


STORE = ("--predictions", "store")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ends in large", ()),
        ("ends in large", STORE),
        ("ends in large", ("--batch-size", 7)),
        ("without large", STORE),
        ("without large", ("--pool", POOL)),
        ("nano", STORE),
    ],
)
def test_a_run_says_what_stored_predictions_say(
    name: str, words: tuple[object, ...], verify: Verify, capsys: pytest.CaptureFixture[str]
) -> None:
    file = f"{name}.json"
    code, found = verify(file, *words)
    assert code == 0
    assert not found["failed"]
    assert "reference of the certificate" not in {each["way"] for each in found["ways"]}
    assert run("evaluate", file, "store", "--json") == 0
    stored = json.loads(capsys.readouterr().out)["certificate"]
    assert found["certificate"] == {**stored, "split": "embedded:test"}
    assert found["certificate"]["outcome"]["outcome"] == "kept"


def test_a_broken_promise_fails(verify: Verify) -> None:
    file = rewritten("nano.json", margin=0.0)
    code, text = verify(file, *STORE, text=True)
    assert code == 1
    lines = text.splitlines()
    assert lines[0].startswith("Certificate: replaces large: ")
    assert lines[1].startswith("On embedded:test: broken; −")
    code, found = verify(file, *STORE)
    assert (code, found["failed"]) == (1, True)
    assert found["certificate"]["outcome"]["outcome"] == "broken"


def test_few_samples_cannot_tell(verify: Verify) -> None:
    data = ("--data", "embedded:test", "--rows", "0:40")
    file = rewritten("ends in large.json", margin=0.005)
    code, text = verify(file, text=True, data=data)
    assert code == 0
    assert "On embedded:test: cannot tell yet" in text
    assert "on 40 samples" in text


def test_a_void_certificate_fails_and_none_at_all_is_an_error(verify: Verify) -> None:
    cascade = cm.Cascade.load("ends in large.json")
    first, last = cascade.stages
    replace(cascade, stages=(replace(first, threshold=0.7), last)).save("void.json")
    code, text = verify("void.json", text=True)
    assert code == 1
    assert text.splitlines()[0] == "THE CERTIFICATE IS VOID."
    code, found = verify("void.json")
    assert (code, found["certificate"]["void"], found["failed"]) == (1, True, True)
    replace(cascade, certificate=None).save("none.json")
    code, line = verify("none.json")
    assert code == 2
    assert "no certificate. Make one with: committee certify CASCADE STORE" in line


@pytest.mark.usefixtures("world")
def test_without_the_option_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run("verify", rewritten("nano.json", margin=0.0), *NEW, "--json") == 0
    assert json.loads(capsys.readouterr().out)["certificate"] is None


def test_the_decisions_of_the_run_count_not_the_stored_ones(verify: Verify) -> None:
    pool = cm.Pool.load("store/test")
    assert pool.samples.labels is not None
    right = verify("ends in large.json")[1]["certificate"]["outcome"]
    files = []
    for name in ("nano", "tiny", "large"):
        outputs = np.asarray(pool.model(name).values)
        # Of all but the reference, other outputs than the run gives.
        outputs = outputs if name == "large" else outputs[:, ::-1]
        np.savez(f"{name}.npz", outputs=outputs, id=pool.samples.ids, label=pool.samples.labels)
        files.append(f"{name}.npz")
    Path("classes.txt").write_text("\n".join(pool.samples.classes))
    words = ["--kind", "logits", "--split", "test", "--out", "other", "--classes", "classes.txt"]
    assert run("import", *files, *words, "--json") == 0
    code, found = verify("ends in large.json", "--predictions", "other")
    assert code == 0
    assert len(found["ways"][0]["flips"]) > 50
    assert found["certificate"]["outcome"] == right


def test_labels_come_from_the_data_else_from_the_store(verify: Verify) -> None:
    # The store has the same samples in another order.
    np.savez("unlabelled.npz", images=some_images(150)[::-1])
    data = ("--data", "unlabelled.npz")
    code, line = verify("ends in large.json", data=data)
    assert code == 2
    assert "unlabelled.npz: no labels that fit the classes of the cascade" in line
    assert "--predictions STORE" in line
    code, found = verify("ends in large.json", *STORE, data=data)
    assert code == 0
    known = verify("ends in large.json")[1]["certificate"]["outcome"]
    assert found["certificate"]["outcome"] == known
    # An agreement needs no label.
    file = rewritten("ends in large.json", promise="agreement", margin=0.3)
    code, found = verify(file, data=data)
    assert code == 0
    pool = cm.Pool.load("store/test").labelled_by("large")
    agreed = cm.evaluate(cm.Cascade.load(file), pool).accuracy
    assert found["certificate"]["outcome"]["estimate"] == pytest.approx(agreed) != 1


def test_another_model_of_the_name_is_no_reference(verify: Verify) -> None:
    text = POOL.read_text().replace("onnx:large.onnx", "onnx:small.onnx")
    Path("pool.toml").write_text(text.replace("onnx:", f"onnx:{FOLDER}/"))
    words = ("--split", "test", "--only", "nano", "--only", "large", "--out", "other", "--json")
    assert run("predict", "pool.toml", *NEW, *words) == 0
    specs = cm.Pool.load("store/test").specs
    replace(cm.Cascade.load("ends in large.json"), models=specs).save("known.json")
    assert verify("known.json", *STORE)[0] == 0
    code, line = verify("known.json", "--predictions", "other")
    assert code == 2
    assert "model 'large' is another in other than in known.json" in line


@pytest.mark.parametrize("words", [(), STORE], ids=["without a store", "with a store"])
def test_the_samples_that_certified_are_refused(verify: Verify, words: tuple[str, ...]) -> None:
    split = ("--split", "val") if words else ()
    data = ("--data", "embedded:val", "--rows", "0:150")
    code, line = verify("ends in large.json", *words, *split, data=data)
    assert code == 2
    assert "embedded:val: the certificate rests on these samples" in line


def test_an_unknown_reference_is_refused_in_one_line(verify: Verify) -> None:
    code, line = verify("without large.json")
    assert code == 2
    assert "nothing says what the certificate's reference, large, decides" in line
    assert run("export", "ends in large.json", "--out", "graph.onnx", "--json") == 0
    code, line = verify("graph.onnx")
    assert code == 2
    assert "--predictions STORE" in line
    code, found = verify("graph.onnx", *STORE)
    assert code == 0
    known = verify("ends in large.json")[1]["certificate"]["outcome"]
    assert found["certificate"]["outcome"] == known
    code, line = verify(rewritten("ends in large.json", measure="top-2"))
    assert code == 2
    assert "the promise is of top-2" in line


def test_a_cascade_that_is_its_reference_needs_nothing(verify: Verify) -> None:
    embedded(certified(LARGE, reference_rule=LARGE.rule_json())).save("large.json")
    for data in (NEW, ("--data", "embedded:test", "--rows", "0:1")):
        code, found = verify("large.json", data=data)
        assert code == 0
        assert found["certificate"]["outcome"]["outcome"] == "kept"


def test_wins_and_losses_are_those_of_counting() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    ours = np.array([0, 1, 1, 1, 1, 2, 0, 0])
    theirs = np.array([0, 1, 2, 0, 0, 2, 0, 2])

    def checked(promise: str, **parts: Any) -> Checked:
        cascade = certified(CASCADES["nano"], promise=promise)
        check = PromiseCheck("new", Certificate.of(cascade), "", **parts)
        others = decided(theirs) if promise != "at least" else None
        return check.checked(decided(ours), others)

    def decided(predicted: np.ndarray) -> Decisions:
        return Decisions(predicted, np.ones(8), np.zeros(8, np.int64))

    for promise, estimate in {"within": (1 - 2) / 8, "at least": 5 / 8}.items():
        outcome = checked(promise, labels=labels).outcome
        assert outcome is not None
        assert outcome.estimate == estimate
    outcome = checked("agreement").outcome
    assert outcome is not None
    assert outcome.estimate == 4 / 8


@pytest.mark.parametrize(("most", "outcome"), [(1.0, "broken"), (1e12, "kept")])
def test_a_run_is_asked_for_the_promised_cost(verify: Verify, most: float, outcome: str) -> None:
    file = rewritten("ends in large.json", max_cost=most, cost_bound=most, unit="macs")
    code, found = verify(file)
    assert code == (outcome == "broken")
    own = found["certificate"]["outcome"]
    assert own["outcome"] == outcome
    assert own["cost"]["low"] < own["cost"]["average"] < own["cost"]["high"]
