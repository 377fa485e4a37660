"""Predictions made elsewhere: every form means the same, and what does not align is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from safetensors.numpy import save_file

from committee import Cascade, Pool, Runner, evaluate, search
from committee.errors import CascadeError, ChangedError, CommitteeError, StoreError
from committee.outside import import_predictions
from small_world import files_of

N, C = 300, 4
RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, C, N)
IDS = [f"picture {i}" for i in range(N)]
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
    "other ids": ("npz", "logits", {**GOOD, "id": OTHER_IDS}, "differ in ids: 'other picture 0'"),
    "ids of other labels": (
        "npz",
        "logits",
        {**GOOD, "id": IDS[::-1]},
        "differ in labels: of sample 'picture 0' 2 and 3",
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
    "texts": ("csv", "logits", {**GOOD, "note": IDS}, "line 2 .*'note' is 'picture 0', no number"),
    "texts in npz": ("npz", "logits", {**GOOD, "outputs": np.array([IDS])}, "real numbers"),
    "text labels": ("csv", "logits", {**GOOD, "label": IDS}, "line 2 .*'picture 0' is no index"),
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
    "ragged": (lambda p: garbage(p / "a.csv", b"a,b\n1,2\n3\n"), "line 3 has not the 2 columns"),
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
    with pytest.raises(ChangedError, match=r"b.npy: was written with fingerprint .* delete b\.\*"):
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
    assert json.loads(path.read_text())["models"] == {}
    with pytest.raises(CascadeError, match=r"does not say how to load .*--pool") as told:
        Runner(path)
    assert "\n" not in str(told.value)
    assert str(path) in str(told.value)
