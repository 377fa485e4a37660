"""``run`` and ``verify`` where a model fails on some samples: the others are as they were."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import committee as cm
from committee.cli import main
from committee.models.failures import MOST_IN_A_ROW
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from record_world import POOL, reviews, write_csv, write_pool

COUNT = 600
CODE = ["--allow-code", "models.py", "--allow-code", "picky.py"]
RUN = ["run", "c.json", "--data", "test.csv", "--out", "r.jsonl", *CODE]
# A function of batches that does not like some texts, in the way that ``how`` names.
PICKY = """
import numpy as np

bad, calls, how = set(), [], "raises"

def picky():
    def run(texts):
        calls.append(len(texts))
        values = np.array([[0.0, 2.0 if "good" in text else -1.0] for text in texts])
        wrong = [text in bad for text in texts]
        if not any(wrong):
            return values
        if how == "half":
            return values[: len(values) // 2]
        if how == "wider":
            return np.zeros((len(values), 3))
        if how == "ragged":
            return [[*row, 0.0] if bad else row for row, bad in zip(values.tolist(), wrong)]
        if how == "leaves":
            raise SystemExit(3)
        raise ValueError("what is that")
    return run
"""
POOL_OF_PICKY = POOL.replace('"small"', '"picky"').replace("models.py:small", "picky.py:picky")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pool(tmp_path, POOL_OF_PICKY)
    (tmp_path / "picky.py").write_text(PICKY)
    write_csv(tmp_path / "test.csv", reviews(COUNT, 1))
    pool = read_pool_file("pool.toml")
    load_model(pool.only(["picky"]).models[0], ["picky.py"])  # imports the code
    for name, models, thresholds in (
        ("c", ["picky", "large"], [0.8]),
        ("late", ["large", "picky"], [0.95]),
    ):
        pool.described(cm.Cascade.of(models, thresholds)).save(f"{name}.json")
    return tmp_path


def picky(folder):
    return sys.modules[f"committee source {folder}/picky.py"]


def texts(*rows):
    return {reviews(COUNT, 1)[row]["text"] for row in rows}


def rows(path="r.jsonl"):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


HOWS = ("raises", "half", "wider", "ragged", "leaves")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("cascade", ["c", "late"])
def test_a_sample_on_which_a_function_fails_is_a_row(folder, how, cascade, capsys):
    words = [cascade + ".json" if word == "c.json" else word for word in RUN]
    assert main(words) == 0
    before = rows()
    bad = [row for row in range(COUNT) if before[row]["stage"] == (cascade == "late")][3:300:60]
    picky(folder).how, picky(folder).bad = how, texts(*bad)
    capsys.readouterr()
    assert main([*words, "--overwrite"]) == 0
    assert "a batch was run in parts, because" in " ".join(capsys.readouterr().out.split())
    after = rows()
    assert [row["id"] for row in after if row["error"]] == [f"1-{row}" for row in bad]
    assert all("model 'picky'" in row["error"] for row in after if row["error"])
    kept = [row for row in range(COUNT) if row not in bad]
    assert [after[row] for row in kept] == [before[row] for row in kept]


def test_a_sample_that_failed_goes_to_no_later_stage(folder):
    assert main(RUN) == 0
    late = [number for number, row in enumerate(rows()) if row["stage"] == 1]
    picky(folder).bad = texts(*late[:3])
    calls = sys.modules[f"committee source {folder}/models.py"].calls
    calls.clear()
    assert main([*RUN, "--overwrite"]) == 0
    assert sum(calls) == len(late) - 3


@pytest.fixture
def unusual(monkeypatch):
    """A confidence of the user's that fails on some outputs, which are rounded to thousandths."""
    wrong: dict[float, str] = {}

    def gap(logits, kind):
        scores = np.abs(logits[:, 1] - logits[:, 0])
        for score in scores.round(3).tolist():
            if wrong.get(score) == "raises":
                raise KeyError(score)
        return np.where([wrong.get(each) == "nan" for each in scores.round(3)], np.nan, scores)

    monkeypatch.setitem(cm.rule.scores.CONFIDENCES, "gap", gap)
    return wrong


def test_a_sample_on_which_the_confidence_fails_is_a_row(folder, unusual, capsys):
    pool = read_pool_file("pool.toml")
    pool.described(cm.Cascade.of(["picky", "large"], [1.5], confidence="gap")).save("c.json")
    assert main(RUN) == 0
    before = rows()
    late = sorted({round(row["confidence"], 3) for row in before if row["stage"] == 1})
    unusual[late[0]], unusual[late[1]] = "raises", "nan"
    bad = [row["id"] for row in before if round(row["confidence"], 3) in unusual]
    assert 0 < len(bad) < COUNT
    assert main([*RUN, "--overwrite"]) == 0
    after = rows()
    assert [row["id"] for row in after if row["error"]] == bad
    assert all("confidence 'gap'" in row["error"] for row in after if row["error"])
    assert [row for row in after if not row["error"]] == [r for r in before if r["id"] not in bad]
    capsys.readouterr()
    # A function that always fails is no matter of the samples.
    unusual |= {round(row["confidence"], 3): "raises" for row in before} | {1.0: "raises"}
    assert main([*RUN, "--overwrite"]) == 2
    assert (
        "confidence 'gap': failed on 16 samples in a row, at last: Key" in capsys.readouterr().err
    )


def test_a_function_that_is_down_ends_the_run_which_goes_on_later(folder, capsys):
    words = [*RUN, "--batch-size", "16"]
    assert main(words) == 0
    before = Path("r.jsonl").read_bytes()
    Path("r.jsonl").unlink()
    picky(folder).bad = texts(*range(300, COUNT))
    assert main(words) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("committee: ")]
    assert f"model 'picky': failed on {MOST_IN_A_ROW} samples in a row, at last: " in line
    assert "what is that" in line
    picky(folder).bad, calls = set(), picky(folder).calls
    calls.clear()
    assert main(words) == 0
    assert Path("r.jsonl").read_bytes() == before
    assert sum(calls) < COUNT
    # One that never answered is told as it is.
    picky(folder).bad = texts(*range(COUNT))
    assert main([*words, "--overwrite"]) == 2
    assert "model 'picky': failed on input 16 records (" in capsys.readouterr().err


@pytest.mark.parametrize("how", HOWS)
def test_predict_leaves_out_what_is_of_another_form(folder, how):
    picky(folder).how, picky(folder).bad = how, texts(5, 311)
    words = ["predict", "pool.toml", "--data", "test.csv", "--split", "test", *CODE]
    assert main(words) == 2
    assert main([*words, "--skip-broken"]) == 0
    pool = cm.Pool.load("predictions/test")
    assert [each.id for each in pool.samples.broken] == ["1-5", "1-311"]
    assert len(pool) == COUNT - 2
    assert np.array_equal(pool.outputs["picky"].values[:2, 1] > 0, ["good" in t for t in first(2)])


def first(count):
    return [row["text"] for row in reviews(COUNT, 1)[:count]]


def test_verify_skips_what_a_model_fails_on(folder, capsys):
    picky(folder).bad = texts(7, 599)
    words = ["verify", "c.json", "--data", "test.csv", "--against", "c.json", *CODE]
    assert main(words) == 2
    assert "what is that" in capsys.readouterr().err
    assert main([*words, "--skip-broken", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["id"] for each in found["broken_left_out"]] == ["1-7", "1-599"]
    assert [each["samples"] for each in found["ways"]] == [COUNT - 2] * 2
    assert [each["flips"] for each in found["ways"]] == [[], []]
    predict = ["predict", "pool.toml", "--data", "test.csv", "--split", "test", *CODE]
    assert main([*predict, "--skip-broken"]) == 0
    capsys.readouterr()
    stored = [*words, "--predictions", "predictions/test", "--json"]
    assert main(stored) == 2
    assert "has no predictions of 2 samples" in capsys.readouterr().err
    assert main([*stored, "--skip-broken"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert [each["samples"] for each in again["ways"]] == [COUNT - 2] * 3
    assert [each["id"] for each in again["broken_left_out"]] == ["1-7", "1-599"]
