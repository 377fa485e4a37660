"""Records go the same way as images: predict, search, certify, evaluate, run, verify."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import committee as cm
from committee.cli import main
from committee.data.open import open_data
from committee.errors import DataError, MisalignedError, PoolFileError
from committee.models.pool_file import read_pool_file
from committee.models.records import RecordBatch, check_whole
from committee.predict import predict
from committee.run.runner import Runner
from committee.spec.model import ModelSpec
from committee.spec.record import Field, Record
from committee.testing import check_data
from record_world import POOL, reviews, write_csv, write_jsonl, write_pool


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pool(tmp_path)
    for seed, split in ((1, "val"), (2, "test")):
        write_csv(tmp_path / f"{split}.csv", reviews(300, seed))
    return tmp_path


@pytest.fixture
def refused(capsys):
    """Call a command that is refused, and return its line."""

    def call(*words: object) -> str:
        assert main(list(map(str, words))) == 2
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("committee: ")]
        return line

    return call


CODE = ("--allow-code", "models.py")


def predicted(committee) -> None:
    for split in ("val", "test"):
        committee("predict", "pool.toml", "--data", f"{split}.csv", "--split", split, *CODE)


def test_texts_from_predict_to_verify(folder, committee):
    predicted(committee)
    committee("search", "predictions", "--within", "0.1", "--match", "large", "--out", "c.json")
    assert "-> large" in committee("evaluate", "c.json", "predictions")
    text = committee(
        *("search", "predictions", "--match", "large", "--within", "0.2", "--promise", "0.9"),
        *("--out", "promised.json"),
    )
    assert "certainty" in text
    committee("run", "promised.json", "--data", "test.csv", "--out", "r.csv", *CODE)
    with Path("r.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"2-{number}" for number in range(300)]
    assert {row["stage"] for row in rows} == {"0", "1"}
    same = committee(
        *("verify", "c.json", "--data", "test.csv", "--predictions", "predictions/test"),
        *("--max-flips", "0", *CODE),
    )
    assert same.count("all decisions are the same") == 2
    pool = cm.Pool.load("predictions/test")
    assert pool.task.name == "classification"


def test_a_runner_takes_a_text_or_a_record(folder, committee):
    predicted(committee)
    committee("search", "predictions", "--match", "large", "--within", "0.1", "--out", "c.json")
    run = Runner("c.json", allow_code=["models.py"])
    run.warm()
    own = run("great film")
    assert own.class_name == "yes"
    assert run({"text": "great film", "more": 1}) == own
    many = run.decide(["great film", "awful bad film"])
    assert many.predicted.tolist() == [1, 0]
    with pytest.raises(DataError, match="has no 'text', but 'txt'"):
        run({"txt": "great film"})


FORMS = ("csv", "jsonl", "parquet", "npz")


def written(folder: Path, form: str, rows: list[dict[str, str]]) -> Path:
    """The same records in a form."""
    path = folder / f"records.{form}"
    if form == "csv":
        return write_csv(path, rows)
    if form == "jsonl":
        return write_jsonl(path, rows)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    if form == "npz":
        np.savez(path, **{name: np.array(values) for name, values in columns.items()})
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(sys.modules["pyarrow"].table(columns), path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_records(folder, form):
    rows = reviews(20, 5)
    pool = read_pool_file("pool.toml")
    data = open_data(written(folder, form, rows), "val", pool.classes, models=pool.models)
    expected = open_data(write_csv(folder / "x.csv", rows), "val", pool.classes, models=pool.models)
    every = np.arange(20)
    assert data.samples.ids == expected.samples.ids
    assert data.samples.labels.tolist() == expected.samples.labels.tolist()
    assert data.digests(every).tolist() == expected.digests(every).tolist()
    texts = RecordBatch.of(data.read(every), Record((Field("", ("text",)),))).value()
    assert list(map(str, texts)) == [row["text"] for row in rows]
    assert any("'stars'" in note for note in data.samples.notes)
    check_data(data, recipe=pool.models[0].preprocessing)


def test_labels_and_ids_of_any_name(folder):
    rows = [{"key": r["id"], "text": r["text"], "mood": r["label"]} for r in reviews(9, 3)]
    write_csv(folder / "odd.csv", rows)
    pool = read_pool_file("pool.toml")
    data = open_data("odd.csv:label=mood,id=key", "val", pool.classes, models=pool.models)
    assert data.samples.ids[0] == "3-0"
    assert data.samples.labels is not None
    plain = open_data("odd.csv", "val", pool.classes, models=pool.models)
    assert plain.samples.labels is None
    assert any("PATH:label=COLUMN" in note for note in plain.samples.notes)
    with pytest.raises(LookupError, match="no column 'moood'"):
        open_data("odd.csv:label=moood", "val", pool.classes, models=pool.models)


def spec(record: Record) -> ModelSpec:
    return ModelSpec("m", "python:models.py:m", record, task="classification")


def test_arrays_of_any_shape(folder):
    array = np.arange(24.0).reshape(4, 3, 2)
    np.save(folder / "a.npy", array)
    np.save(folder / "a.labels.npy", np.array([0, 1, 0, 1]))
    data = open_data("a.npy", "val", ("no", "yes"), models=[spec(Record())])
    assert np.array_equal(data.read(np.array([2, 0])), array[[2, 0]])
    assert data.samples.labels.tolist() == [0, 1, 0, 1]
    check_data(data, recipe=Record())


def test_files_are_bytes(folder):
    for label in ("no", "yes"):
        (folder / "files" / label).mkdir(parents=True)
        (folder / "files" / label / "one.wav").write_bytes(label.encode())
    data = open_data("files", "val", ("no", "yes"), models=[spec(Record())])
    assert data.read(np.arange(2)) == [b"no", b"yes"]
    assert data.samples.labels.tolist() == [0, 1]
    check_data(data, recipe=Record())


def test_rows_of_numbers_are_one_array(folder):
    rows = [{"a": str(n), "b": str(-n / 2), "label": "yes" if n > 2 else "no"} for n in range(6)]
    write_csv(folder / "rows.csv", rows)
    text = """
task = "classification"
classes = ["no", "yes"]
[[model]]
name = "rows"
source = "python:models.py:sums"
input = ["a", "b"]
dtype = "float32"
[[model]]
name = "parts"
source = "python:models.py:named"
input = { a = "a", b = ["b"] }
dtype = "float64"
"""
    (folder / "pool.toml").write_text(text)
    stored = predict(
        read_pool_file("pool.toml"),
        open_data("rows.csv", "val", ("no", "yes"), models=read_pool_file("pool.toml").models),
        "store",
        allow_code=["models.py"],
    )
    pool = cm.Pool.load(stored)
    assert pool.outputs["rows"].values[:, 1].tolist() == [n / 2 for n in range(6)]
    assert pool.outputs["parts"].values[:, 1].tolist() == [0.0] * 6


@pytest.mark.parametrize(
    ("values", "dtype", "reason"),
    [
        ([[1, 2], [3]], "float32", r"lists are of unequal length \(1, 2\)"),
        (["1", "x"], "float32", "is no float32"),
        ([1, 2.5], "int64", "has 2.5, which is no int64"),
        (["1", None], "int64", "a value is missing"),
        ([300], "uint8", "has 300, which is no uint8"),
        ([np.zeros(2), np.zeros(3)], "", "different shapes"),
    ],
)
def test_what_cannot_be_stacked(values, dtype, reason):
    records = [{"x": value} for value in values]
    with pytest.raises(DataError, match=reason):
        RecordBatch.of(records, Record((Field("", ("x",), dtype=dtype),)))


def test_missing_numbers_are_nan():
    made = RecordBatch.of(["1", "", None], Record((Field(dtype="float32"),))).value()
    assert np.isnan(made).tolist() == [False, True, True]


def test_a_broken_record_is_named_and_the_others_go_on(folder, committee, refused):
    rows: list[dict[str, object]] = [*reviews(300, 3)]
    del rows[4]["text"]
    rows[7]["text"] = None
    write_jsonl(folder / "torn.jsonl", rows)
    predict_torn = ("predict", "pool.toml", "--data", "torn.jsonl", "--split", "val", *CODE)
    line = refused(*predict_torn)
    assert "2 of the samples cannot be read: 3-4 (has no 'text'" in line
    committee(*predict_torn, "--skip-broken")
    assert len(cm.Pool.load("predictions/val").samples) == 298
    committee("search", "predictions", "--match", "large", "--within", "0.1", "--out", "c.json")
    committee("run", "c.json", "--data", "torn.jsonl", "--out", "r.jsonl", *CODE)
    found = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    assert [each["id"] for each in found if each["error"]] == ["3-4", "3-7"]


def test_lists_of_unequal_length_are_named(folder):
    rows = [{"x": [1, 2], "label": "no"}, {"x": [1, 2, 3], "label": "yes"}]
    write_jsonl(folder / "x.jsonl", rows)
    models = [spec(Record((Field("", ("x",), dtype="float32"),)))]
    data = open_data("x.jsonl", "val", ("no", "yes"), models=models)
    with pytest.raises(DataError, match=r"1 .* 1 \(has the shape \(3,\), where others have \(2,\)"):
        data.read(np.arange(2))


def test_what_is_no_pool_of_records(folder):
    for wrong, why in (
        (POOL.replace('input = "text"', "input = 3"), "input 3 must be a column"),
        (POOL.replace('input = "text"', 'input = "text"\ndtype = "flot32"'), "dtype 'flot32'"),
        (POOL + "resolution = 224\n", "resolution is for images, and this pool is of records"),
        (POOL.replace('task = "classification"\n', ""), "input is of records; write task"),
        (POOL.replace("python:models.py:small", "timm:resnet50"), "is for images"),
    ):
        (folder / "wrong.toml").write_text(wrong)
        with pytest.raises(PoolFileError, match=re.escape(why)):
            read_pool_file("wrong.toml")


def test_a_column_that_is_not_there(folder, refused):
    (folder / "wrong.toml").write_text(POOL.replace('input = "text"', 'input = "texts"'))
    line = refused("predict", "wrong.toml", "--data", "val.csv", "--split", "val", *CODE)
    assert "no column 'texts'" in line
    assert "'text'" in line
    (folder / "wrong.toml").write_text(POOL.replace('input = "text"\n', ""))
    line = refused("predict", "wrong.toml", "--data", "val.csv", "--split", "val", *CODE)
    assert "has the columns 'text', 'stars'. Say in the pool file which" in line
    line = refused("predict", "pool.toml", "--data", "nothing.csv", "--split", "val", *CODE)
    assert "does not exist" in line


def test_arrays_of_unequal_length(folder):
    np.savez(folder / "x.npz", text=np.array(["a", "b"]), label=np.array([0, 1, 1]))
    pool = read_pool_file("pool.toml")
    with pytest.raises(MisalignedError, match="text has 2, label has 3"):
        open_data("x.npz", "val", pool.classes, models=pool.models)


def test_half_an_answer_loses_nothing(folder, committee, refused):
    (folder / "half.toml").write_text(
        POOL + '[[model]]\nname = "half"\nsource = "python:models.py:half"\n'
    )
    line = refused("predict", "half.toml", "--data", "val.csv", "--split", "val", *CODE)
    assert "model 'half': answered 128 rows to 256 samples" in line
    committee("predict", "pool.toml", "--data", "val.csv", "--split", "val", *CODE)
    models = sys.modules[f"committee source {folder / 'models.py'}"]
    assert sorted(models.calls) == [44, 44, 256, 256]


def test_labels_come_later(folder, committee):
    words = ("predict", "pool.toml", "--data", "val.csv", "--split", "val", *CODE)
    committee(*words, "--unlabelled")
    assert cm.Pool.load("predictions/val").samples.labels is None
    write_jsonl(folder / "later.jsonl", reviews(300, 1))
    committee("relabel", "predictions", "--split", "val", "--labels", "later.jsonl")
    assert cm.Pool.load("predictions/val").samples.labels is not None


def test_labels_of_any_column_come_later(folder, committee, refused):
    rows = [{"text": r["text"], "topic": r["label"]} for r in reviews(300, 1)]
    write_jsonl(folder / "topics.jsonl", rows)
    words = ("predict", "pool.toml", "--split", "val", *CODE, "--data")
    assert "--labels PATH:label=COLUMN" in committee(*words, "topics.jsonl")
    line = refused(*words, "topics.jsonl:label=topic")
    assert "committee relabel predictions --split val --labels DATA:label=COLUMN" in line
    committee("relabel", "predictions", "--split", "val", "--labels", "topics.jsonl:label=topic")
    assert cm.Pool.load("predictions/val").samples.labels is not None


def test_what_models_see_is_no_label(folder):
    rows = [{"text": r["text"], "category": "x", "label": r["label"]} for r in reviews(5, 3)]
    write_csv(folder / "x.csv", [{k: row[k] for k in ("text", "category")} for row in rows])
    models = [spec(Record((Field("", ("text", "category"), row=True),)))]
    data = open_data("x.csv", "val", ("no", "yes"), models=models)
    assert data.samples.labels is None
    assert data.read(np.array([0]))[0] == {"text": rows[0]["text"], "category": "x"}


def test_types_by_column(folder):
    rows = Record.of(["age", "city"], {"age": "float64"})
    assert Record.from_json(json.loads(json.dumps(rows.to_json()))) == rows
    cells = [{"age": "3", "city": "Rome"}, {"age": "", "city": ""}]
    first, second = RecordBatch.of(cells, rows).value()
    assert first == {"age": 3.0, "city": "Rome"}
    assert np.isnan(second["age"])
    assert second["city"] == ""
    with pytest.raises(LookupError, match="no column of the input 'size'"):
        Record.of(["age"], {"size": "float64"})
    with pytest.raises(PoolFileError, match="must be a type, or a table of types by column"):
        Record.of(["age"], 3)


def test_a_value_without_a_name_is_one_columns(folder):
    """It is not taken for two columns at once, nor a row for columns in another order."""
    recipes = [Record.of("summary"), Record.of("whole")]
    with pytest.raises(DataError, match="must be a dict of 'summary', 'whole'"):
        check_whole(["a text"], recipes)
    check_whole(["a text"], [recipes[0], Record()])
    with pytest.raises(DataError, match="must be a dict"):
        check_whole(np.zeros((2, 2)), [Record.of(["a", "b"]), Record.of(["b", "a"])])
    with pytest.raises(DataError, match="must be a dict"):
        RecordBatch.of(np.zeros((2, 2)), Record.of({"ids": "tokens", "mask": "mask"}))
    with pytest.raises(DataError, match="has not the 2 columns"):
        RecordBatch.of(np.zeros((2, 3)), Record.of(["a", "b"], "float32"))
    Path("pool.toml").write_text(POOL.replace('name = "large"', 'name = "large"\ninput = "more"'))
    np.save("val.npy", np.array(["a", "b"]))
    pool = read_pool_file("pool.toml")
    with pytest.raises(DataError, match=r"^val\.npy: .* a dict of 'more', 'text'.* Give a csv, "):
        open_data("val.npy", "val", pool.classes, models=pool.models)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(300, "int8"), ("70000", "float16"), (1e39, "float32"), (2, "bool"), (float("nan"), "bool")],
)
def test_numbers_that_a_type_cannot_hold(value, dtype):
    with pytest.raises(DataError, match=f"which is no {dtype}"):
        RecordBatch.of([{"x": value}], Record.of("x", dtype))


def test_large_whole_numbers_stay_exact():
    for values in ([2**53 + 1, 1.0], [str(2**53 + 1), "1"]):
        batch = RecordBatch.of([{"x": each} for each in values], Record.of("x", "int64"))
        assert batch.value().tolist() == [2**53 + 1, 1]
    texts = [{"x": str(2**63 + 1)}, {"x": "1"}]
    assert RecordBatch.of(texts, Record.of("x", "uint64")).value().tolist() == [2**63 + 1, 1]
    for value in (2**70, 1.5, float("inf"), float("nan"), str(2**70)):
        with pytest.raises(DataError, match="is no int64"):
            RecordBatch.of([{"x": value}], Record.of("x", "int64"))


def test_what_models_see_is_not_named_as_the_label(folder):
    write_csv(folder / "x.csv", reviews(9, 3))
    pool = read_pool_file("pool.toml")
    with pytest.raises(DataError, match="models take 'text', so it cannot be the label too"):
        open_data("x.csv:label=text", "val", pool.classes, models=pool.models)
    # An id that models see is content: renumbering changes samples.
    data = open_data("x.csv:id=text", "val", pool.classes, models=pool.models)
    rows = [{**row, "text": f"{row['text']}!"} for row in reviews(9, 3)]
    write_csv(folder / "y.csv", rows)
    other = open_data("y.csv:id=text", "val", pool.classes, models=pool.models)
    assert (data.digests(np.arange(9)) != other.digests(np.arange(9))).all()


def test_names_of_another_column_are_not_the_labels(folder):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "genre": datasets.ClassLabel(names=["yes", "no"]),
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
        }
    )
    rows = {"genre": [0, 0], "text": ["good", "bad"], "label": [1, 0]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk("saved")
    pool = read_pool_file("pool.toml")
    data = open_data("saved", "val", pool.classes, models=pool.models)
    assert data.samples.labels.tolist() == [1, 0]


def test_a_csv_of_another_encoding_is_refused(folder, refused):
    """Models would see lone surrogates, which are no text."""
    Path("latin.csv").write_bytes(
        "id,text,label\n1,good,yes\n2,caf\xe9 good,yes\n".encode("latin-1")
    )
    line = refused("predict", "pool.toml", "--data", "latin.csv", "--split", "val", *CODE)
    assert "latin.csv: line 3 is no UTF-8. Save the file as UTF-8" in line
    Path("utf8.csv").write_text(
        "id,text,label\n1,caf\xe9 \U0001f600 good,yes\n", encoding="utf-8-sig"
    )
    models = read_pool_file("pool.toml").models
    data = open_data("utf8.csv", "val", ("no", "yes"), models=models)
    assert data.read(np.array([0])) == ["caf\xe9 \U0001f600 good"]
