"""ONNX graphs of records: inputs of any shape, type and number."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import committee as cm
from committee.cli import main
from committee.errors import CascadeError, DataError, PoolFileError
from committee.export.bundle import RECORD_FILES, RULE_FILES, write_bundle
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.run.runner import Runner
from committee.testing import check_source
from record_world import GRAPHS, write_graphs

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_graphs(tmp_path)
    return tmp_path


def test_a_pool_takes_types_from_its_graphs(folder):
    short, long = read_pool_file("pool.toml").models
    assert [(f.name, f.columns, f.dtype) for f in short.record.fields] == [
        ("", ("short",), "int32")
    ]
    assert [(f.name, f.columns, f.dtype) for f in long.record.fields] == [
        ("tokens", ("long",), "int32"),
        ("mask", ("mask",), "float32"),
    ]


def test_from_predict_to_verify(folder, committee):
    for split in ("val", "test"):
        committee("predict", "pool.toml", "--data", f"{split}.npz", "--split", split)
    pool = cm.Pool.load("predictions/val")
    assert pool.costs.values("macs") == {"short": 16, "long": 32}
    committee("search", "predictions", "--max-cost", "30", "--out", "c.json")
    assert "short -> long" in committee("evaluate", "c.json", "predictions")
    committee("run", "c.json", "--data", "test.npz", "--out", "r.csv")
    text = committee(
        *("verify", "c.json", "--data", "test.npz", "--predictions", "predictions/test"),
        *("--max-flips", "0"),
    )
    assert text.count("all decisions are the same") == 2
    run = Runner("c.json")
    with np.load("test.npz") as arrays:
        record = {name: arrays[name][0] for name in ("short", "long", "mask")}
    assert run(record).class_index in (0, 1)
    assert run({name: values.tolist() for name, values in record.items()}) == run(record)


def test_inputs_that_are_wrong(folder):
    both = '{ tokens = "long", mask = "mask" }'
    for wrong, why in (
        ('"long"', "Say which column each takes, as in input = { tokens = "),
        ('{ tokens = "long", maks = "mask" }', "no input of the graph 'maks'"),
        ('{ tokens = "long" }', "says nothing of the graph's 'mask'"),
    ):
        Path("wrong.toml").write_text(GRAPHS.replace(both, wrong))
        with pytest.raises(PoolFileError, match=re.escape(why)):
            read_pool_file("wrong.toml")


def test_without_input_each_takes_the_column_of_its_name(folder):
    Path("plain.toml").write_text(
        GRAPHS.replace('input = { tokens = "long", mask = "mask" }\n', "")
    )
    assert read_pool_file("plain.toml").models[1].record.columns == ("tokens", "mask")


def test_arrays_of_another_length(folder):
    spec = read_pool_file("pool.toml").models[0]
    model, _ = load_model(spec)
    with pytest.raises(Exception, match=r"Got: 5 Expected: 4"):
        model(np.zeros((2, 5), np.int32))


def test_a_fixed_number_of_samples(folder):
    import onnx

    graph = onnx.load("short.onnx")
    for port in (*graph.graph.input, *graph.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(graph, "fixed.onnx")
    spec = read_pool_file("pool.toml").models[0]
    free, _ = load_model(spec)
    fixed, _ = load_model(replace(spec, source=f"onnx:{folder / 'fixed.onnx'}"))
    tokens = np.random.default_rng(0).integers(0, 12, (5, 4), np.int32)
    assert np.array_equal(free(tokens), fixed(tokens))


def chosen(committee) -> None:
    for split in ("val", "test"):
        committee("predict", "pool.toml", "--data", f"{split}.npz", "--split", split)
    committee("search", "predictions", "--max-cost", "30", "--out", "c.json")


@pytest.mark.parametrize("form", ["any", "one"])
def test_one_file_decides_alike(folder, committee, form):
    chosen(committee)
    committee("export", "c.json", "--out", "c.onnx", "--form", form)
    text = committee(
        *("verify", "c.json", "--data", "test.npz", "--against", "c.onnx", "--max-flips", "0"),
    )
    assert "ONNX file, c.onnx: all decisions are the same" in text
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession("c.onnx")
    assert [each.name for each in session.get_inputs()] == ["short", "long", "mask"]
    with pytest.raises(CascadeError, match=r"inside one ONNX file.*Runner\('cascade\.onnx'\)"):
        Runner(cm.load("c.onnx"))
    run = Runner("c.onnx")
    with np.load("test.npz") as arrays:
        record = {name: arrays[name][0] for name in ("short", "long", "mask")}
    assert run(record).stage == Runner("c.json")(record).stage


def test_a_bundle_decides_alike(folder, committee):
    chosen(committee)
    committee("export", "c.json", "--out", "bundle")
    committee(
        *("verify", "c.json", "--data", "test.npz", "--against", "bundle", "--max-flips", "0"),
    )
    with np.load("test.npz") as arrays:
        records = [
            {name: arrays[name][row].tolist() for name in ("short", "long", "mask")}
            for row in range(5)
        ]
    broken = [
        {**records[0], "short": [1, 2, 3, 4.5]},
        {**records[0], "short": [1, 2, 3, 2**40]},
        {**records[0], "short": [1, 2, 3]},
        [1, 2, 3, 4],
        {"long": [1, 2, 3, 4]},
    ]
    lines = [*map(json.dumps, [*records, *broken]), ""]
    Path("new.jsonl").write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, "bundle/run.py", "new.jsonl"], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    lines = list(map(json.loads, done.stdout.splitlines()))
    rows, torn = lines[:5], [each["error"] for each in lines[5:]]
    run = Runner("c.json")
    assert [(row["class_index"], row["stage"]) for row in rows] == [
        (own.class_index, own.stage) for own in map(run, records)
    ]
    for error, said in zip(
        torn,
        ("4.5, which is no", "which is no int32", "Expected: 4", "must be a dict", "no 'short'"),
        strict=True,
    ):
        assert said in error
    own = Path(cm.__file__).parent
    for name in (*RULE_FILES, *RECORD_FILES):
        assert (own / name).read_bytes() == Path("bundle/committee", name).read_bytes()
    assert "`short`, `long`, `mask`" in Path("bundle/README.md").read_text()


def test_the_source_keeps_its_contract(folder):
    with np.load("test.npz") as arrays:
        records = [
            {name: arrays[name][row] for name in ("short", "long", "mask")} for row in range(3)
        ]
    for spec in read_pool_file("pool.toml").models:
        check_source(spec, records=records)


def test_what_is_not_exported(folder, capsys):
    assert main(["export-onnx", "pool.toml", "--out", "graphs"]) == 2
    assert "nothing says what shape records have" in capsys.readouterr().err


def test_a_bundle_takes_the_only_column_by_any_name(folder):
    entry = '[[model]]\nname = "short"\nsource = "onnx:short.onnx"\ncosts.ms = 1\n'
    Path("one.toml").write_text(f'task = "classification"\nclasses = ["no", "yes"]\n{entry}')
    cascade = read_pool_file("one.toml").described(cm.Cascade.ensemble(["short"]))
    write_bundle(cascade, "bundle")
    lines = [{"any": [1, 2, 3, 4]}, [1, 2, 3, 4], {"any": [1, 2, 3, 4], "id": "a"}]
    Path("new.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = subprocess.run(
        [sys.executable, "bundle/run.py", "new.jsonl"], capture_output=True, text=True, check=False
    )
    named, bare, several = map(json.loads, done.stdout.splitlines())
    run = Runner("bundle")
    assert named["class_name"] == bare["class_name"] == run(lines[0]).class_name
    assert run(lines[0]) == run(lines[1])
    assert "'any', 'id'" in several["error"]
    with pytest.raises(DataError, match=r"'any', 'id', and models take one without its name"):
        run(lines[2])


def test_a_record_on_which_a_graph_fails_is_a_row(folder, capfd):
    """A token that the graph does not have; one file and loaded models alike."""
    pool = read_pool_file("pool.toml")
    pool.described(cm.Cascade.of(["short", "long"], [0.9])).save("c.json")
    assert main(["export", "c.json", "--out", "c.onnx"]) == 0
    data = dict(np.load("test.npz"))
    data["short"][[7, 21], 2] = 99, -50
    np.savez("torn.npz", **data)
    for number, file in enumerate(("c.json", "c.onnx")):
        results = {}
        for name in ("test", "torn"):
            words = ["run", file, "--data", f"{name}.npz", "--out", f"{name}{number}.jsonl"]
            assert main(words) == 0
            lines = Path(f"{name}{number}.jsonl").read_text().splitlines()
            results[name] = list(map(json.loads, lines))
        errors = {row["id"]: row["error"] for row in results["torn"] if row["error"]}
        assert errors.keys() == {"7", "21"}
        assert "out of data bounds, idx=-50" in errors["21"]
        for name in ("test", "torn"):
            results[name] = [(r["id"], r["class_index"], r["stage"]) for r in results[name]]
        good = [row for row in results["torn"] if row[0] not in errors]
        assert good == [row for row in results["test"] if row[0] not in errors]
    told = capfd.readouterr()
    assert "ExecuteKernel" not in told.err
    assert "--batch-size 1" not in told.out
