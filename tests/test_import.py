"""Predictions made elsewhere: every form means the same, and what does not align is refused."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from safetensors.numpy import save_file

from committee import Cascade, Pool, Runner, evaluate, reading, search
from committee.cli import main
from committee.errors import CascadeError, ChangedError, CommitteeError, StoreError
from committee.run.results import Result, _write_results
from committee.spec.cost import Cost
from committee.spec.model import ImportedModel
from committee.store.import_predictions import import_predictions
from committee.store.tables import read_table
from small_world import files_of
from test_resume import Crash, Death, Disk

N, C = 300, 4
RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, C, N)
IDS = [f"image {i}" for i in range(N)]
COSTS = {"a": 1.0, "b": 4.0, "c": 9.0}


def logits(sharpness: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(N, C))
    return (noise + sharpness * np.eye(C)[LABELS]).astype(np.float32)


LOGITS = {name: logits(1 + seed, seed) for seed, name in enumerate(COSTS)}
Columns = Mapping[str, Any]


def softmax(values: np.ndarray) -> np.ndarray:
    exponentials = np.exp(values.astype(np.float64))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def columns(kind: str, name: str) -> dict[str, Any]:
    """What a file of one model holds, without labels and ids."""
    values = LOGITS[name]
    if kind == "logits":
        return {"outputs": values}
    probabilities = softmax(values)
    if kind == "probabilities":
        return {"outputs": probabilities}
    return {"class": values.argmax(axis=1), "confidence": probabilities.max(axis=1)}


def table(content: Columns) -> dict[str, Any]:
    """One column a class, as tables have it."""
    flat = {key: value for key, value in content.items() if key != "outputs"}
    if "outputs" in content:
        flat |= {f"class {k}": content["outputs"][:, k] for k in range(C)}
    return flat


def write_npy(path: Path, content: Columns) -> None:
    np.save(path, content["outputs"])


def write_npz(path: Path, content: Columns) -> None:
    np.savez(path, **content)


def write_safetensors(path: Path, content: Columns) -> None:
    save_file({k: np.asarray(v) for k, v in content.items()}, path)


def write_csv(path: Path, content: Columns) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table(content))
        # As Python's floats, in full: NumPy would round its own to the digits of their type.
        rows = zip(*(np.asarray(each).tolist() for each in table(content).values()), strict=True)
        writer.writerows(rows)


def write_parquet(path: Path, content: Columns) -> None:
    pyarrow.parquet.write_table(pyarrow.table(table(content)), path)


WRITERS: dict[str, Callable[[Path, Columns], None]] = {
    "npy": write_npy,
    "npz": write_npz,
    "safetensors": write_safetensors,
    "csv": write_csv,
    "parquet": write_parquet,
}
OTHER_IDS = [f"other {each}" for each in IDS]
WITH_IDS = {"id": IDS, "label": LABELS}


def write(folder: Path, ending: str, kind: str, **beside: Any) -> dict[str, Path]:
    """A file a model."""
    files = {name: folder / f"{name}.{ending}" for name in COSTS}
    for name, path in files.items():
        WRITERS[ending](path, {**columns(kind, name), **beside})
    return files


def take(folder: Path, files: Mapping[str, Path], kind: str = "logits", **options: Any) -> Pool:
    options = {"split": "val", "costs": COSTS, **options}
    return import_predictions(files, folder / "store", kind=kind, **options)


def front(pool: Pool) -> list[Any]:
    return [(c.cascade, c.evaluation) for c in search(pool, 2, grid=10)]


def from_arrays(kind: str) -> Pool:
    outputs = {n: tuple(columns(kind, n).values()) for n in COSTS}
    one = {n: each if kind == "decisions" else each[0] for n, each in outputs.items()}
    return Pool.from_arrays(LABELS, one, kind=kind, costs=COSTS)


CASES = [
    (ending, kind)
    for ending in WRITERS
    for kind in ("logits", "probabilities", "decisions")
    if (ending, kind) != ("npy", "decisions")
]


@pytest.mark.parametrize(("ending", "kind"), CASES)
def test_every_form_means_the_same(tmp_path: Path, ending: str, kind: str) -> None:
    np.save(tmp_path / "labels.npy", LABELS)
    files = write(tmp_path, ending, kind)
    pool = take(tmp_path, files, kind, labels=tmp_path / "labels.npy")
    expected = from_arrays(kind)
    for name in COSTS:
        np.testing.assert_array_equal(pool.model(name).values, expected.model(name).values)
    assert pool.samples.fingerprint == expected.samples.fingerprint
    assert front(pool) == front(expected)


@pytest.mark.parametrize("ending", ["npz", "csv", "parquet"])
def test_labels_and_ids_may_stand_in_the_files(tmp_path: Path, ending: str) -> None:
    pool = take(tmp_path, write(tmp_path, ending, "logits", **WITH_IDS))
    assert pool.samples.ids == tuple(IDS)
    np.testing.assert_array_equal(pool.samples.labels, LABELS)
    assert front(pool) == front(from_arrays("logits"))


@pytest.mark.parametrize("ending", ["npz", "csv", "parquet", "safetensors"])
def test_labels_may_stand_in_a_table_of_their_own(tmp_path: Path, ending: str) -> None:
    labels = tmp_path / f"labels.{ending}"
    beside = {"id": np.arange(N), "label": LABELS}
    WRITERS[ending](labels, beside)
    pool = take(tmp_path, write(tmp_path, "npy", "logits"), labels=labels)
    assert pool.samples.ids == tuple(map(str, range(N)))
    np.testing.assert_array_equal(pool.samples.labels, LABELS)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_numbers_are_kept_as_they_are(tmp_path: Path, dtype: Any) -> None:
    values = LOGITS["a"].astype(dtype)
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "l.npy", LABELS)
    pool = take(tmp_path, {"a": tmp_path / "a.npy"}, labels=tmp_path / "l.npy", costs={})
    np.testing.assert_array_equal(pool.model("a").values, values)
    assert pool.model("a").values.dtype == values.dtype


def test_a_spreadsheets_byte_order_mark_is_no_column(tmp_path: Path) -> None:
    files = write(tmp_path, "csv", "logits", **WITH_IDS)
    for path in files.values():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert front(take(tmp_path, files)) == front(from_arrays("logits"))


def without(content: Columns, *names: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in names}


GOOD = {**columns("logits", "a"), **WITH_IDS}
SURE = {**columns("decisions", "a"), **WITH_IDS}
NAN = LOGITS["a"].copy()
NAN[[7, 9], 2] = np.nan
# What the file of model 'b' holds in place of what it should, and the line that tells it.
BAD: dict[str, tuple[str, str, Columns, str]] = {
    "other labels": ("npz", "logits", {**GOOD, "label": LABELS[::-1]}, "differ in labels"),
    "other ids": ("npz", "logits", {**GOOD, "id": OTHER_IDS}, "differ in ids: 'other image 0'"),
    "ids of other labels": (
        "npz",
        "logits",
        {**GOOD, "id": IDS[::-1]},
        "differ in labels: of sample 'image 0' 2 and 3",
    ),
    "fewer": ("npz", "logits", {k: v[:-3] for k, v in GOOD.items()}, "differ in"),
    "few labels": (
        "npz",
        "logits",
        {"outputs": GOOD["outputs"][:-3]},
        "has 297 samples, the label",
    ),
    "classes": ("npz", "logits", {**GOOD, "outputs": LOGITS["a"][:, :3]}, "number of classes"),
    "nan": ("npz", "logits", {**GOOD, "outputs": NAN}, "first at sample 7, 9 "),
    "nan in csv": ("csv", "logits", {**GOOD, "outputs": NAN}, "first at sample 7, 9 "),
    "nan in parquet": ("parquet", "logits", {**GOOD, "outputs": NAN}, "first at sample 7, 9 "),
    "unnamed": ("npz", "logits", {"features": LOGITS["a"]}, "'features' are none of .* outputs="),
    "two outputs": (
        "npz",
        "logits",
        {"logits": LOGITS["a"], "outputs": LOGITS["b"]},
        "can all be the outputs",
    ),
    "only ids": ("csv", "logits", WITH_IDS, "no 'outputs' in it; it has id, label"),
    "no class": ("csv", "decisions", without(SURE, "class"), "decisions need class; see"),
    "no confidence": ("npz", "decisions", without(SURE, "confidence"), "need confidence; see"),
    "halves": ("npz", "decisions", {**SURE, "class": LABELS + 0.5}, "'2.5' is no index"),
    "negative": ("npz", "decisions", {**SURE, "class": LABELS - 1}, "must be indices 0, 1"),
    "vector": ("npz", "logits", {**GOOD, "outputs": LABELS}, r"\(samples, classes\), not \(300,\)"),
    "no sums": ("npz", "probabilities", GOOD, "Are these logits"),
    "texts": ("csv", "logits", {**GOOD, "note": IDS}, "named as outputs, not 'note'.*ignore=note"),
    "texts in npz": ("npz", "logits", {**GOOD, "outputs": np.array([IDS])}, "real numbers"),
    "text labels": ("csv", "logits", {**GOOD, "label": IDS}, "line 2 .*'image 0' is no index"),
    "no label": ("parquet", "logits", {**GOOD, "label": [None, *LABELS[1:]]}, "must be indices"),
    "objects": ("npz", "logits", {**GOOD, "id": np.array([{}] * N)}, "allow_pickle=False"),
    "huge label": ("npz", "logits", {**GOOD, "label": np.full(N, np.inf)}, "'inf' is no index"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_align_is_refused_in_a_line(tmp_path: Path, case: str) -> None:
    ending, kind, content, line = BAD[case]
    good = {**columns(kind, "a"), **WITH_IDS}
    WRITERS[ending](tmp_path / f"a.{ending}", good)
    WRITERS[ending](tmp_path / f"b.{ending}", content)
    files = {name: tmp_path / f"{name}.{ending}" for name in "ab"}
    with pytest.raises(CommitteeError, match=line) as told:
        take(tmp_path, files, kind, costs={})
    assert "\n" not in str(told.value)
    assert any(word in str(told.value) for word in (f"b.{ending}", "'b'"))
    assert not (tmp_path / "store").exists()


def garbage(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "ending": (lambda p: garbage(p / "a.txt", b""), r"can be .npy, .npz.* not .txt"),
    "no ending": (lambda p: garbage(p / "a", b""), "not no ending"),
    "absent": (lambda p: p / "a.npz", "no such file"),
    "npy": (lambda p: garbage(p / "a.npy", b"garbage"), "cannot be read as npy"),
    "npz": (lambda p: garbage(p / "a.npz", b"garbage"), "cannot be read as npz"),
    "empty npz": (lambda p: garbage(p / "a.npz", b""), "cannot be read as npz"),
    "tensors": (lambda p: garbage(p / "a.safetensors", b"garb"), "cannot be read as safetensors"),
    "parquet": (lambda p: garbage(p / "a.parquet", b"garbage"), "cannot be read as parquet"),
    "latin": (lambda p: garbage(p / "a.csv", b"a,b\n\xff,1\n"), "cannot be read as csv"),
    "ragged": (
        lambda p: garbage(p / "a.csv", b"a,b\n1,2\n3\n"),
        "line 3 does not have the 2",
    ),
    "header": (lambda p: garbage(p / "a.csv", b"label,a,b\n"), "no sample|must be"),
    "nothing": (lambda p: garbage(p / "a.csv", b""), "the header must name every column"),
    "twice": (lambda p: garbage(p / "a.csv", b"x,x,label\n1,2,0\n"), "must name every column"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_files_that_cannot_be_read_are_told_in_a_line(tmp_path: Path, case: str) -> None:
    make, line = BROKEN[case]
    with pytest.raises(CommitteeError, match=line) as told:
        take(tmp_path, {"a": make(tmp_path)}, costs={})
    assert "\n" not in str(told.value)


def test_outputs_without_labels_are_taken_and_agree_with_one_of_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", random.normal(size=(50, 4)))
    files = {name: tmp_path / f"{name}.npy" for name in "ab"}
    pool = import_predictions(
        files,
        tmp_path / "store",
        kind="logits",
        split="val",
        costs={"a": 1, "b": 2},
        families={"a": "f", "b": "f"},
    )
    assert pool.samples.labels is None
    assert (len(pool), pool.families) == (50, {"a": "f", "b": "f"})
    front = search(pool.labelled_by("b"), families=False)
    assert front[-1].evaluation.accuracy == 1
    # What is imported without the family later keeps it.
    import_predictions(files, tmp_path / "store", kind="logits", split="test")
    assert Pool.load(tmp_path / "store" / "val").families == pool.families
    np.save(tmp_path / "b.npy", random.normal(size=(49, 4)))
    with pytest.raises(CommitteeError, match="has 49 samples, another file 50"):
        import_predictions(files, tmp_path / "other", kind="logits", split="val")


def test_names_costs_and_classes_must_fit(tmp_path: Path) -> None:
    files = write(tmp_path, "npz", "logits", **WITH_IDS)
    with pytest.raises(CommitteeError, match=r"no model 'aa'. Did you mean 'a'"):
        take(tmp_path, files, costs={"aa": 1})
    with pytest.raises(CommitteeError, match=r"model name '\.\./a' must be"):
        take(tmp_path, {"../a": files["a"]}, costs={})
    with pytest.raises(
        CommitteeError,
        match=r"3 classes are named, but outputs have 4|but classes 0 to 2 are named",
    ):
        take(tmp_path, files, classes=["x", "y", "z"])
    with pytest.raises(CommitteeError, match="Did you mean 'logits'"):
        take(tmp_path, files, "logit")
    assert not (tmp_path / "store").exists()


def test_importing_again_changes_nothing_and_refuses_other_numbers(tmp_path: Path) -> None:
    files = write(tmp_path, "npz", "logits", **WITH_IDS)
    take(tmp_path, files)
    before = files_of(tmp_path / "store")
    take(tmp_path, files)
    assert files_of(tmp_path / "store") == before
    write_npz(files["b"], {**columns("logits", "c"), **WITH_IDS})
    with pytest.raises(
        ChangedError, match=r"b.npy: was written with another fingerprint: .* delete b\.\*"
    ):
        take(tmp_path, files)
    assert files_of(tmp_path / "store") == before


def test_a_damaged_import_is_mended_by_importing_again(tmp_path: Path) -> None:
    files = write(tmp_path, "npz", "logits", **WITH_IDS)
    take(tmp_path, files)
    before = files_of(tmp_path / "store")
    path = tmp_path / "store" / "val" / "b.npy"
    path.write_bytes(path.read_bytes()[:-100])
    take(tmp_path, files)
    assert files_of(tmp_path / "store") == before


def test_a_second_split_keeps_the_costs_of_the_first(tmp_path: Path) -> None:
    files = write(tmp_path, "npz", "logits", **WITH_IDS)
    take(tmp_path, files)
    files = write(tmp_path, "npz", "logits", id=OTHER_IDS, label=LABELS)
    test = take(tmp_path, files, split="test", costs={})
    assert test.costs.values("macs") == COSTS
    assert Pool.load(tmp_path / "store" / "val").names == list(COSTS)


def test_files_named_by_split_are_told_to_take_one_name(tmp_path: Path) -> None:
    files = write(tmp_path, "npz", "logits", label=LABELS)
    take(tmp_path, {f"{name}_val": path for name, path in files.items()}, costs={})
    notes: list[str] = []
    others = {f"{name}_test": path for name, path in files.items()}
    take(tmp_path, others, split="test", costs={}, note=notes.append)
    assert any("write NAME=FILE for each" in note for note in notes)


def test_samples_of_another_split_are_refused(tmp_path: Path) -> None:
    files = write(tmp_path, "npz", "logits", **WITH_IDS)
    take(tmp_path, files)
    with pytest.raises(
        StoreError, match=f"'val' and 'test' would share {len(IDS)} samples"
    ) as told:
        take(tmp_path, files, split="test")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "store" / "test").exists()
    # Ids that only count say nothing of which sample is meant.
    numbered = write(tmp_path, "npz", "logits", label=LABELS)
    for split in ("a", "b"):
        take(tmp_path, numbered, split=split)


def test_everything_downstream_works_without_a_model_but_running(tmp_path: Path) -> None:
    files = write(tmp_path, "npz", "logits", id=OTHER_IDS, label=LABELS)
    take(tmp_path, files, split="test")
    files = write(tmp_path, "npz", "logits", **WITH_IDS)
    chosen = search(take(tmp_path, files), 2).matching("c")
    path = chosen.cascade.save(tmp_path / "cascade.json")
    judged = evaluate(Cascade.load(path), Pool.load(tmp_path / "store" / "test"))
    assert judged.accuracy == chosen.evaluation.accuracy
    assert Cascade.load(path).models == {"c": ImportedModel("c", costs=(Cost(9.0, "macs"),))}
    with pytest.raises(CascadeError, match=r"does not say how to load .*--pool") as told:
        Runner(path)
    assert "\n" not in str(told.value)
    assert str(path) in str(told.value)


CLASS_NAMES = ("ant", "bee", "cat", "dog")


def written(path: Path, header: str, *lines: str) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def shuffled_table(path: Path, name: str, seed: int, **beside: Any) -> Path:
    """Logits of a model as csv or parquet, columns named by class, and rows, in any order."""
    random = np.random.default_rng(seed)
    order, rows = random.permutation(C), random.permutation(N)
    content = {CLASS_NAMES[k]: LOGITS[name][rows, k] for k in order}
    content |= {key: np.asarray(value)[rows] for key, value in beside.items()}
    (write_csv if path.suffix == ".csv" else write_parquet)(path, content)
    return path


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_columns_are_found_by_class_and_rows_by_id(tmp_path: Path, ending: str, seed: int) -> None:
    beside = {"Image_ID": IDS, "True Label": np.array(CLASS_NAMES)[LABELS]}
    files = {
        name: shuffled_table(tmp_path / f"{name}.{ending}", name, seed + i, **beside)
        for i, name in enumerate(COSTS)
    }
    pool = take(tmp_path, files, classes=CLASS_NAMES)
    order = [IDS.index(each) for each in pool.samples.ids]
    assert sorted(order) == list(range(N))
    np.testing.assert_array_equal(pool.samples.labels, LABELS[order])
    for name in COSTS:
        np.testing.assert_array_equal(pool.model(name).values, LOGITS[name][order])
    # A model that is imported later joins in the order that the store has.
    later = shuffled_table(tmp_path / f"later.{ending}", "a", seed + 9, **beside)
    take(tmp_path, {"later": later}, costs={})
    again = Pool.load(tmp_path / "store" / "val")
    np.testing.assert_array_equal(again.model("later").values, again.model("a").values)


def test_names_of_columns_become_the_classes(tmp_path: Path) -> None:
    files = {
        name: shuffled_table(tmp_path / f"{name}.csv", name, i, id=IDS, y=LABELS)
        for i, name in enumerate("ab")
    }
    header = files["a"].read_text().splitlines()[0].split(",")[:C]
    pool = take(tmp_path, files, costs={})
    assert pool.samples.classes == tuple(header)
    order = [IDS.index(each) for each in pool.samples.ids]
    columns_ = [CLASS_NAMES.index(each) for each in header]
    np.testing.assert_array_equal(pool.model("b").values, LOGITS["b"][order][:, columns_])
    test = shuffled_table(tmp_path / "a.csv", "a", 7, id=OTHER_IDS, y=LABELS)
    assert take(tmp_path, {"a": test}, split="test", costs={}).samples.classes == tuple(header)


@pytest.mark.parametrize("form", ["{}", "c{}", "logit_{}", "class {}"])
@pytest.mark.parametrize("first", [0, 1])
def test_columns_that_count_are_outputs_by_number(tmp_path: Path, form: str, first: int) -> None:
    order = [2, 0, 3, 1]
    content = {form.format(k + first): LOGITS["a"][:, k] for k in order}
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(content)
        writer.writerows(zip(*(each.tolist() for each in content.values()), strict=True))
    pool = take(tmp_path, {"a": tmp_path / "a.csv"}, costs={})
    assert pool.samples.classes == ()
    np.testing.assert_array_equal(pool.model("a").values, LOGITS["a"])


def test_no_row_is_lost_where_a_csv_has_no_header(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.csv", LOGITS["a"], delimiter=",")
    notes: list[str] = []
    pool = take(tmp_path, {"a": tmp_path / "a.csv"}, costs={}, note=notes.append)
    np.testing.assert_array_equal(pool.model("a").values, LOGITS["a"])
    assert "names no columns; all 4 are taken as outputs" in notes[0]


THREE = ("0.5,0.1,2.5", "0.2,1.5,0.5", "1.2,0.7,0.5", "0.1,0.2,0.3")
# A csv file of logits, line by line, and what stands in the line that refuses it.
STRANGE: dict[str, tuple[tuple[str, ...], str]] = {
    "index of pandas": ((",a,b", *(f"{i},{row[4:]}" for i, row in enumerate(THREE))), "no name"),
    "index again": (("Unnamed: 0,a,b", *THREE), "'Unnamed: 0' has no name.*index=False"),
    "numbers that count": (
        ("n,a,b", *(f"{i},{row[4:]}" for i, row in enumerate(THREE))),
        "'n' holds whole numbers.* ignore=n",
    ),
    "a label by another name": (
        ("kind,a,b", *(f"{i % 2},{row[4:]}" for i, row in enumerate(THREE))),
        "'kind' holds whole numbers.*label=kind",
    ),
    "a label without a header": (
        ("2,0.5,0.25", "1,0.5,0.75", "2,0.75,0.5", "1,0.5,0.1"),
        "'c0' holds whole numbers",
    ),
    "texts": (("a,b,note", "1.5,2.5,x"), "'note' is 'x', no number.* ignore=note"),
    "decisions beside": (("a,b,score", "1.5,2.5,.5"), "'score' belong to decisions.* ignore=score"),
    "header or sample": (("0,1", "1,0", "0,1"), r"line 1 \(0,1\) can be a header or a sample"),
    "digits or a sample": (("3,5,8", *THREE), r"line 1 \(3,5,8\) can be a header or a sample"),
    "ids without a header": (("x.png,0.5,0.25", "y.png,0.5,0.1"), "line 1 looks like a sample"),
    "semicolons": (("id;a;b", "x;1,5;2,5"), "separated by commas"),
    "twice": (("a,b, a", *THREE), "'a' appear twice"),
    "two labels": (("label,y,a,b", "0,0,.5,.1"), "'label', 'y' can all be the label"),
    "two ids": (("id,path,a,b", "x,x,.5,.1"), "'id', 'path' can all be the id"),
    "an id twice": (("id,a,b", "x,.5,.1", "x,.5,.1"), "'x' stands twice, in line 2 and line 3"),
    "no id": (("id,a,b", "x,.5,.1", ",.5,.1"), "line 3 has no id"),
    "a negative cost": (("cost,a,b", "-1,.5,.1"), r"line 2: 'cost' is -1\.0; a cost is"),
    "one score": (("id,score", "x,.5", "y,.1"), "one for each class. For two classes"),
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_column_that_is_nothing_is_named_with_the_remedy(tmp_path: Path, case: str) -> None:
    lines, told = STRANGE[case]
    path = written(tmp_path / "a.csv", *lines)
    with pytest.raises(CommitteeError, match=told) as error:
        take(tmp_path, {"a": path}, costs={})
    assert "\n" not in str(error.value)
    assert "a.csv" in str(error.value)
    assert not (tmp_path / "store").exists()


def test_columns_that_only_some_files_have_are_refused(tmp_path: Path) -> None:
    a = written(tmp_path / "a.csv", "u,v", *(row[:-4] for row in THREE))
    b = written(tmp_path / "b.csv", "u,v,size", *THREE)
    for files in ({"a": a, "b": b}, {"b": b, "a": a}):
        with pytest.raises(CommitteeError, match="'size' "):
            take(tmp_path, files, costs={})


def services(tmp_path: Path) -> dict[str, Path]:
    """Two services that answer in words, in their own order, with what a call cost."""
    a = ["x,dog,0.9,0.25,dog", "y,ant,0.5,0.5,ant", "z,cat,0.7,0.75,bee"]
    b = ["z,bee,0.8,2,bee", "x,dog,0.9,4,dog", "y,ant,1.0,3,ant"]
    header = "File Name,Answer,Score,Dollars,truth"
    return {
        "a": written(tmp_path / "a.csv", header, *a),
        "b": written(tmp_path / "b.csv", header, *b),
    }


def test_answers_of_services_are_taken_as_they_come(tmp_path: Path) -> None:
    notes: list[str] = []
    pool = take(
        tmp_path,
        services(tmp_path),
        "decisions",
        classes=CLASS_NAMES,
        costs={},
        note=notes.append,
    )
    assert pool.samples.ids == ("x", "y", "z")
    assert pool.model("a").values.tolist() == [3, 0, 2]
    assert pool.model("b").values.tolist() == [3, 0, 1]
    assert pool.samples.labels is not None
    assert pool.samples.labels.tolist() == [3, 0, 1]
    assert pool.costs.values("dollars") == {"a": 0.5, "b": 3.0}
    assert "a costs 0.5 dollars a sample, the mean of column 'Dollars'" in notes
    with pytest.raises(CommitteeError, match=r"mean 0\.5 dollars, but .* 7\..*ignore=Dollars"):
        take(
            tmp_path,
            services(tmp_path),
            "decisions",
            classes=CLASS_NAMES,
            costs={"a": 7},
            unit="dollars",
        )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("y,ant,,0.5,ant", "line 3 .id 'y'.*'Score' is missing"),
        ("y,ant,high,0.5,ant", "line 3 .id 'y'.*'Score' is 'high', no number"),
        ("y,,0.5,0.5,ant", "line 3 .id 'y'.*no class is decided in 'Answer'"),
        ("y,cow,0.5,0.5,ant", "line 3 .id 'y'.*'cow'.*'ant', 'bee', 'cat', 'dog'"),
        ("y,ant,0.5,0.5,", "1 of 3 samples have no label, 'y'"),
    ],
)
def test_what_an_answer_lacks_is_told_by_line_and_id(tmp_path: Path, line: str, told: str) -> None:
    files = services(tmp_path)
    lines = files["a"].read_text().splitlines()
    written(files["a"], *lines[:2], line, lines[3])
    with pytest.raises(CommitteeError, match=told):
        take(tmp_path, files, "decisions", classes=CLASS_NAMES, costs={})


def test_columns_are_named_by_hand_where_words_do_not_say(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "who,what,sure,note,cost", "x,1,.5,hm,3", "y,0,.5,so,5")
    named = {"id": "who", "class": "what", "confidence": "sure", "ignore": ["note"]}
    pool = take(tmp_path, {"a": path}, "decisions", costs={}, unit="euros", columns=named)
    assert (pool.samples.ids, pool.costs.values("euros")) == (("x", "y"), {"a": 4.0})
    with pytest.raises(CommitteeError, match="no column 'that'"):
        take(tmp_path, {"a": path}, "decisions", columns={"id": "that"}, costs={})
    with pytest.raises(CommitteeError, match="Did you mean 'confidence'"):
        take(tmp_path, {"a": path}, "decisions", columns={"confidance": "sure"}, costs={})


def test_files_without_ids_are_taken_in_the_order_of_the_others_and_noted(tmp_path: Path) -> None:
    a = written(tmp_path / "a.csv", "id,c0,c1", "x,.5,.1", "y,.2,.3", "z,.9,.4")
    np.save(tmp_path / "b.npy", [[1.0, 3.0], [4.0, 2.0], [0.0, 5.0]])
    notes: list[str] = []
    files = {"a": a, "b": tmp_path / "b.npy"}
    take(tmp_path, files, costs={}, note=notes.append)
    assert "b.npy: has no ids; its rows are taken in the order of" in notes[0]
    other = written(tmp_path / "c.csv", "id,c0,c1", "z,.5,.1", "y,.2,.3", "x,.9,.4")
    with pytest.raises(CommitteeError, match=r"b\.npy: has no ids, and .* another order"):
        take(tmp_path / "new", {**files, "c": other}, costs={})


def test_labels_that_are_none_are_none(tmp_path: Path) -> None:
    for number, labels in enumerate((np.full(N, -1), np.full(N, np.nan), [""] * N)):
        np.savez(tmp_path / "a.npz", outputs=LOGITS["a"], label=labels)
        notes: list[str] = []
        pool = take(tmp_path / str(number), {"a": tmp_path / "a.npz"}, costs={}, note=notes.append)
        assert pool.samples.labels is None
        assert notes[0].endswith("none of the 300 samples has a label")


@pytest.mark.parametrize("fixed", [False, True])
def test_lists_in_a_column_are_rows_of_outputs(tmp_path: Path, fixed: bool) -> None:
    kind = pyarrow.list_(pyarrow.float32(), C if fixed else -1)
    rows = pyarrow.array(LOGITS["a"].tolist(), kind)
    table_ = pyarrow.table({"id": IDS, "logits": rows, "label": LABELS})
    pyarrow.parquet.write_table(table_, tmp_path / "a.parquet", row_group_size=70)
    pool = take(tmp_path, {"a": tmp_path / "a.parquet"}, costs={})
    np.testing.assert_array_equal(pool.model("a").values, LOGITS["a"])
    write_csv(tmp_path / "b.csv", {"id": IDS, "logits": LOGITS["a"].tolist()})
    pool = take(tmp_path / "csv", {"b": tmp_path / "b.csv"}, costs={})
    np.testing.assert_array_equal(pool.model("b").values, LOGITS["a"])


def test_bfloat16_is_read_as_the_numbers_that_it_stands_for(tmp_path: Path) -> None:
    # What is left of a float32 if its lower half is nothing.
    rounded = (LOGITS["a"].view(np.uint32) & 0xFFFF0000).view(np.float32)
    upper = (rounded.view(np.uint32) >> 16).astype("<u2").tobytes()
    head = {"outputs": {"dtype": "BF16", "shape": [N, C], "data_offsets": [0, len(upper)]}}
    text = json.dumps(head).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + upper)
    pool = take(tmp_path, {"a": tmp_path / "a.safetensors"}, costs={})
    np.testing.assert_array_equal(pool.model("a").values, rounded)


def test_members_that_nobody_asked_for_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, outputs=LOGITS["a"], label=LABELS, features=np.zeros((N, 9)))
    # Not even if they are broken.
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("features.npy")
    end = info.header_offset + 30 + len("features.npy") + info.compress_size
    path.write_bytes(data[: end - 4] + bytes(4) + data[end:])
    with pytest.raises(CommitteeError, match=r"'features' are none of.* ignore=features"):
        take(tmp_path, {"a": path}, costs={})
    pool = take(tmp_path, {"a": path}, costs={}, columns={"ignore": "features"})
    np.testing.assert_array_equal(pool.model("a").values, LOGITS["a"])


def test_an_array_that_grows_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_LARGE", 1000)
    np.savez_compressed(tmp_path / "a.npz", outputs=np.zeros((30_000, 4)))
    with pytest.raises(CommitteeError, match=r"'outputs\.npy' has 960,128 bytes, packed .* uncomp"):
        take(tmp_path, {"a": tmp_path / "a.npz"}, costs={})


def test_percent_is_divided_by_its_sum_where_that_is_asked_for(tmp_path: Path) -> None:
    percent = 100 * softmax(LOGITS["a"])
    np.save(tmp_path / "a.npy", percent)
    files = {"a": tmp_path / "a.npy"}
    with pytest.raises(CommitteeError, match=r"percent.*--normalise"):
        take(tmp_path, files, "probabilities", costs={})
    pool = take(tmp_path, files, "probabilities", costs={}, normalise=True)
    np.testing.assert_allclose(pool.model("a").values, percent / 100)
    with pytest.raises(CommitteeError, match="--normalise is for probabilities"):
        take(tmp_path, files, "logits", costs={}, normalise=True)


def test_another_number_of_classes_than_the_store_has_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", LOGITS["a"])
    take(tmp_path, {"a": tmp_path / "a.npy"}, costs={})
    np.save(tmp_path / "b.npy", LOGITS["a"][:, :3])
    with pytest.raises(CommitteeError, match="'a' has 4, 'b' has 3"):
        take(tmp_path, {"b": tmp_path / "b.npy"}, costs={})


def test_notes_and_columns_reach_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "a.csv", "who,what,sure,a,note", "x,1,.5,7,hm", "y,0,.5,9,so")
    words = ["import", f"m={path}", "--kind", "decisions", "--split", "val"]
    roles = ["--columns", "id=who,class=what,confidence=sure", "--columns", "cost=a,ignore=note"]
    out = ["--out", str(tmp_path / "s"), "--unit", "euros", "--json"]
    assert main([*words, *roles, *out]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == [
        "m costs 8 euros a sample, the mean of column 'a'"
    ]
    assert main([*words, *roles, *out[:-1]]) == 0
    assert "Note: m costs 8 euros" in capsys.readouterr().out


def test_few_syncs_however_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    counts = []
    for rows in (10, 40 * 256):
        np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(rows, 2)))
        take(tmp_path / str(rows), {"a": tmp_path / "a.npy"}, costs={})
        counts.append(len(synced))
        synced.clear()
    assert counts[0] == counts[1]


def test_an_import_that_dies_at_any_event_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(5 * 256 + 9, 2)))

    def run(store: Path) -> None:
        with contextlib.suppress(Crash):
            import_predictions({"a": tmp_path / "a.npy"}, store, kind="logits", split="val")

    run(tmp_path / "undisturbed")
    for event in itertools.count(1):
        store = tmp_path / str(event)
        with pytest.MonkeyPatch.context() as patch:
            death = Death(event, torn=event % 2 == 0)
            Disk(patch, death)
            run(store)
        run(store)
        assert files_of(store) == files_of(tmp_path / "undisturbed"), f"died at event {event}"
        if not death.dead:
            break
    assert event > 10


def test_what_comes_next_is_what_the_store_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    labels = np.arange(30) % 3
    for seed, split in enumerate(("new", "val", "test", "cal")):
        values = np.random.default_rng(seed).normal(size=(30, 3))
        np.savez(tmp_path / f"{split}.npz", outputs=values, label=labels)

    def told(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main([word.replace("HERE", str(tmp_path)) for word in words]) == code
        caught = capsys.readouterr()
        return (caught.out + caught.err).splitlines()[-1]

    def after(split: str, *words: str) -> str:
        own = (f"a=HERE/{split}.npz", "--kind", "logits", "--split", split, "--out", "HERE/s")
        return told("import", *own, *words)

    line = after("new")
    assert "--cost NAME=NUMBER" in line
    assert "the same on other samples with --split val" in line
    assert "--cost" not in (line := after("new", "--cost", "a=1"))
    assert "with --split val, for the split that chooses; then: committee search" in line
    how = "committee import [NAME=]FILE... --kind logits --split cal"
    assert "the same on other samples with --split test" in after("val")
    assert after("test") == f"Next: committee search {tmp_path / 's'}"
    rmtree(tmp_path / "s" / "new")
    assert how in told("calibrate", "HERE/s", code=2)
    assert after("cal") == f"Next: committee calibrate {tmp_path / 's'}"
    copy = ("a=HERE/val.npz", "--kind", "logits", "--split", "copy", "--out", "HERE/s")
    ids = [f"sample {row}" for row in range(30)]
    np.savez(tmp_path / "val.npz", outputs=values, label=labels, id=ids)
    told("import", *copy, code=0)
    again = [*copy[:4], "other", *copy[5:]]
    line = told("import", *again, code=2)
    assert "committee import: files of other samples" in line
    assert "--rows" not in line


@pytest.mark.parametrize("dtype", [np.longdouble, ">f4", ">f8", "<f2", np.int32, np.uint8])
def test_what_is_imported_can_be_read(tmp_path: Path, dtype: Any) -> None:
    values = (LOGITS["a"] > 0).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "l.npy", LABELS)
    pool = take(tmp_path, {"a": tmp_path / "a.npy"}, labels=tmp_path / "l.npy", costs={})
    assert (pool.model("a").values == values).all()


def test_complex_outputs_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", LOGITS["a"].astype(complex))
    np.save(tmp_path / "l.npy", LABELS)
    with pytest.raises(CommitteeError, match="must be real numbers"):
        take(tmp_path, {"a": tmp_path / "a.npy"}, labels=tmp_path / "l.npy", costs={})
    assert not (tmp_path / "store").exists()


def test_results_of_ours_name_their_samples_as_they_were(tmp_path: Path) -> None:
    ids = [f"={i}\r.png" for i in range(9)]
    rows = [Result(name, i % 3, "cat", 0.5, 0, None, i % 3) for i, name in enumerate(ids)]
    path = _write_results(tmp_path / "a.csv", rows)
    assert read_table(path).read("id").tolist() == ids


def test_a_fraction_takes_a_share_of_every_class_and_test_takes_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = np.repeat(np.arange(3), 20)  # sorted, as published results often are
    np.save("labels.npy", labels)
    np.save("a.npy", np.eye(3)[labels] + np.random.default_rng(0).normal(size=(60, 3)))
    # As *.npy would give them: the file of the labels is no model.
    files = ["import", "a.npy", "labels.npy", "--labels", "labels.npy"]
    words = [*files, "--kind", "logits", "--fraction", "0.5", "--out", "store"]
    assert main([*words, "--split", "val"]) == 0
    assert "(fraction 0:0.5, seed 0, of 60 samples)" in capsys.readouterr().out
    assert main([*words, "--split", "test"]) == 0
    val, test = Pool.load("store/val"), Pool.load("store/test")
    assert np.bincount(val.samples.labels).tolist() == [10, 10, 10]
    assert sorted(map(int, [*val.samples.ids, *test.samples.ids])) == list(range(60))
    rows = np.array(val.samples.ids, int)
    assert np.array_equal(val.model("a").values, np.load("a.npy")[rows])
    # The same again changes nothing; another share of the same samples is refused.
    assert main([*words, "--split", "val"]) == 0
    assert main([*words, "--split", "val", "--seed", "1"]) == 2
    assert main([*words, "--split", "third", "--seed", "1"]) == 2
    assert "would share" in capsys.readouterr().err
