"""Async functions as models: a limit on the calls under way; a failed call fails its sample."""

from __future__ import annotations

import asyncio
import csv
import sys
from pathlib import Path

import pytest

import committee as cm
from committee.cli import main
from committee.errors import ModelError, PoolFileError
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.run.runner import Runner
from record_world import ASYNC, POOL, SERVICE, reviews, write_csv, write_pool

CODE = ["--allow-code", "models.py", "--allow-code", "service.py"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pool(tmp_path, POOL + SERVICE)
    (tmp_path / "service.py").write_text(ASYNC)
    write_csv(tmp_path / "val.csv", reviews(100, 1))
    return tmp_path


def module(folder):
    return sys.modules[f"committee source {folder / 'service.py'}"]


PREDICT = ["predict", "pool.toml", "--data", "val.csv", "--split", "val", *CODE]


def test_calls_are_limited_and_in_order(folder):
    assert main(PREDICT) == 0
    outputs = cm.Pool.load("predictions/val").outputs["service"].values
    expected = [1.0 if "good" in row["text"] else -1.0 for row in reviews(100, 1)]
    assert outputs[:, 1].tolist() == expected
    assert module(folder).most == 3
    assert module(folder).calls == 100


def test_a_failed_call_stops_predict_and_what_came_before_is_kept(folder, capsys):
    spec = read_pool_file("pool.toml").only(["service"]).models[0]
    load_model(spec, ["service.py"])  # imports the code
    module(folder).failing.add(reviews(100, 1)[50]["text"])
    words = [*PREDICT, "--batch-size", "16"]
    assert main(words) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("committee: ")]
    assert "model 'service': 1 of 16 calls failed, first that of row 2" in line
    assert "TimeoutError: no answer in 1 s" in line
    module(folder).failing.clear()
    assert main(words) == 0
    # The other calls of its batch were kept too.
    assert module(folder).calls == 100 + 1


def test_a_failed_call_is_a_row_of_run(folder):
    assert main(PREDICT) == 0
    cascade = cm.Cascade.of(["small", "service"], [2.0], confidence="logit_gap")
    read_pool_file("pool.toml").described(cascade).save("c.json")
    assert main(["run", "c.json", "--data", "val.csv", "--out", "r.csv", *CODE]) == 0
    with Path("r.csv").open() as file:
        rows = list(csv.DictReader(file))
    late = next(row["id"] for row in rows if row["stage"] == "1")
    text = next(row["text"] for row in reviews(100, 1) if row["id"] == late)
    module(folder).failing.add(text)
    words = ["run", "c.json", "--data", "val.csv", "--out", "r.csv", "--overwrite", *CODE]
    assert main(words) == 0
    with Path("r.csv").open() as file:
        errors = {row["id"]: row["error"] for row in csv.DictReader(file) if row["error"]}
    assert errors == {late: "model 'service': TimeoutError: no answer in 1 s"}
    write_csv(folder / "one.csv", [row for row in reviews(100, 1) if row["id"] == late])
    assert main(["run", "c.json", "--data", "one.csv", "--out", "one.csv.jsonl", *CODE]) == 2
    assert "no answer in 1 s" in Path("one.csv.jsonl").read_text()
    run = Runner("c.json", allow_code=["models.py", "service.py"])
    assert run("good film").class_name == "yes"
    assert asyncio.run(run.async_call("a film")).stage == 1
    with pytest.raises(ModelError, match="no answer in 1 s"):
        run(text)


def test_a_call_with_another_number_of_classes_is_one_that_failed(folder, capsys):
    text = reviews(100, 1)[50]["text"]
    code = ASYNC.replace("        return [", f"        return [0.0] * ({text!r} == text) + [")
    (folder / "service.py").write_text(code)
    assert main(PREDICT) == 2
    reason = "answers with 3 outputs, others with 2"
    assert f"1 of 100 calls failed, first that of row 50 of the batch ({reason})" in (
        capsys.readouterr().err
    )
    assert main([*PREDICT, "--skip-broken"]) == 0
    pool = cm.Pool.load("predictions/val")
    assert [(each.id, each.reason) for each in pool.samples.broken] == [
        ("1-50", "model 'service': answers with outputs (3,), not (2,)")
    ]
    assert len(pool) == 99
    assert module(folder).calls == 100 + 1


def test_concurrency_of_a_plain_function(folder):
    Path("plain.toml").write_text(POOL + "concurrency = 2\n")
    spec = read_pool_file("plain.toml").models[1]
    with pytest.raises(ModelError, match="returned no async function; leave concurrency out"):
        load_model(spec, ["models.py"])
    Path("wrong.toml").write_text(POOL + "concurrency = -2\n")
    with pytest.raises(PoolFileError, match="concurrency must be 1 or more"):
        read_pool_file("wrong.toml")
