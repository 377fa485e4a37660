"""``predict --skip-broken`` where models fail: the rest goes on, and nothing computed is lost."""

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
from committee.store.sample_costs import write_costs
from record_world import ASYNC, POOL, SERVICE, reviews, write_csv, write_pool

COUNT = 600
CODE = ["--allow-code", "models.py", "--allow-code", "service.py", "--allow-code", "picky.py"]
PREDICT = ["predict", "pool.toml", "--data", "val.csv", "--split", "val", *CODE]
SKIP = [*PREDICT, "--skip-broken"]
# A function of batches that does not like some texts, in the way that ``how`` names.
PICKY = """
import numpy as np

bad, calls, how = set(), [], "raises"

def picky():
    def run(texts):
        calls.append(len(texts))
        values = np.array([[0.0, float(len(text))] for text in texts])
        wrong = [text in bad for text in texts]
        if how == "NaN":
            values[wrong] = np.nan
        elif how == "half":
            return values[[not each for each in wrong]]
        elif any(wrong):
            raise KeyboardInterrupt if how == "interrupt" else ValueError("what is that")
        return values
    return run
"""
PICKY_MODEL = """
[[model]]
name = "picky"
source = "python:picky.py:picky"
costs.ms = 5
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pool(tmp_path, POOL + SERVICE + PICKY_MODEL)
    (tmp_path / "service.py").write_text(ASYNC)
    (tmp_path / "picky.py").write_text(PICKY)
    write_csv(tmp_path / "val.csv", reviews(COUNT, 1))
    models = read_pool_file("pool.toml")
    for name in ("service", "picky"):  # imports the code
        load_model(models.only([name]).models[0], [f"{name}.py"])
    return tmp_path


def module(folder, name):
    return sys.modules[f"committee source {folder / name}.py"]


def texts(*rows):
    return {reviews(COUNT, 1)[row]["text"] for row in rows}


def outputs(store="predictions"):
    """The stored outputs of each model on each sample."""
    pool = cm.Pool.load(f"{store}/val")
    return {
        name: dict(zip(pool.samples.ids, own.values.tolist(), strict=True))
        for name, own in pool.outputs.items()
    }


def without(found, *rows):
    ids = {reviews(COUNT, 1)[row]["id"] for row in rows}
    return {name: {k: v for k, v in own.items() if k not in ids} for name, own in found.items()}


@pytest.fixture
def expected(folder):
    assert main([*PREDICT, "--out", "whole"]) == 0
    module(folder, "service").calls = 0
    module(folder, "picky").calls.clear()
    return outputs("whole")


def test_failed_calls_are_left_out_of_every_model_and_tried_again_later(folder, expected, capsys):
    service = module(folder, "service")
    service.failing |= texts(3, 300, 301)
    capsys.readouterr()
    assert main([*SKIP, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["id"] for each in told["broken"]] == ["1-3", "1-300", "1-301"]
    assert told["broken"][0]["reason"] == "model 'service': TimeoutError: no answer in 1 s"
    assert told["samples"] == COUNT - 3
    assert outputs() == without(expected, 3, 300, 301)
    assert service.calls == COUNT
    service.failing.clear()
    # Without the option too.
    assert main(PREDICT) == 0
    assert outputs() == expected
    assert service.calls == COUNT + 3
    assert cm.Pool.load("predictions/val").samples.ids[-3:] == ("1-3", "1-300", "1-301")


def test_many_failures_in_many_chunks(folder, expected):
    """So many that the split has fewer chunks afterwards."""
    rows = [row for row in range(COUNT) if row % 16 > 5]
    module(folder, "service").failing |= texts(*rows)
    assert main(SKIP) == 0
    assert outputs() == without(expected, *rows)


@pytest.mark.parametrize("how", ["raises", "NaN", "half"])
def test_a_function_is_asked_for_halves_of_a_batch_that_fails(folder, expected, how, capsys):
    picky = module(folder, "picky")
    picky.how, picky.bad = how, texts(5, 599)
    assert main(SKIP) == 0
    assert outputs() == without(expected, 5, 599)
    told = " ".join(capsys.readouterr().out.split())
    assert "models failed on 2 samples" in told
    assert ("a batch was run in parts" in told) == (how != "NaN")


def test_a_service_that_is_down_ends_it_and_what_was_computed_is_kept(folder, expected, capsys):
    service = module(folder, "service")
    service.failing |= texts(2, *range(260, 260 + MOST_IN_A_ROW))
    words = [*SKIP, "--batch-size", "4", "--out", "again"]
    assert main([*PREDICT, "--batch-size", "4", "--out", "fresh"]) == 2
    capsys.readouterr()
    assert main(words) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("committee: ")]
    assert f"failed on {MOST_IN_A_ROW} samples in a row" in line
    before, service.calls = service.calls, 0
    service.failing.clear()
    assert main(words) == 0
    # One that failed before, those that failed in a row, and those that come after.
    assert service.calls == 1 + COUNT - 260
    assert outputs("again") == expected
    assert before > 0


def test_holes_survive_a_stop_and_only_they_are_asked_again(folder, expected):
    service, picky = module(folder, "service"), module(folder, "picky")
    service.failing |= texts(1, 17)
    picky.how, picky.bad = "raises", texts(40)
    words = [*PREDICT, "--batch-size", "16"]
    only = ["--only", "service"]
    assert main([*words, "--skip-broken", "--only", "service", "--rows", "0:300"]) == 0
    assert service.calls == 300
    service.failing.clear()
    assert main([*words, *only]) == 0
    assert service.calls == COUNT + 2
    # A later model that fails takes the sample out of the models before it.
    assert main([*words, "--skip-broken"]) == 0
    assert service.calls == COUNT + 2
    assert outputs() == without(expected, 40)
    picky.bad = set()
    assert main(words) == 0
    assert service.calls == COUNT + 3
    assert outputs() == expected


def test_a_stop_after_some_failures_asks_only_those_again(folder, expected, monkeypatch):
    service, picky = module(folder, "service"), module(folder, "picky")
    service.failing |= texts(1, 17, 400)
    picky.how, picky.bad = "interrupt", texts(500)
    words = [*SKIP, "--batch-size", "32"]
    main(words)
    calls = service.calls
    assert calls == 512
    service.failing -= texts(1, 17)
    picky.bad = set()
    assert main(words) == 0
    assert service.calls == COUNT + 3
    assert outputs() == without(expected, 400)


def test_costs_of_samples_and_models_of_the_store_go_with_them(folder, expected, capsys):
    assert main([*PREDICT, "--only", "small", "--only", "large"]) == 0
    ids, cents = [each["id"] for each in reviews(COUNT, 1)], np.arange(COUNT, dtype=float)
    pool = cm.Pool.load("predictions/val")
    write_costs(Path("predictions/val"), pool.specs["large"], pool.samples, {"cents": cents})
    module(folder, "service").failing |= texts(7, 511)
    assert main([*SKIP, "--only", "service"]) == 0
    assert outputs() == {
        name: own for name, own in without(expected, 7, 511).items() if name != "picky"
    }
    left = cm.Pool.load("predictions/val")
    found = dict(zip(left.samples.ids, left.models["large"].sample_costs["cents"], strict=True))
    assert found == {i: c for i, c in zip(ids, cents, strict=True) if i not in ("1-7", "1-511")}


def test_nothing_is_left_if_all_fail(folder, capsys):
    write_csv(folder / "val.csv", reviews(10, 1))
    module(folder, "service").failing |= {each["text"] for each in reviews(10, 1)}
    assert main(SKIP) == 2
    assert "10 of 10 calls failed" in capsys.readouterr().err
