"""Predictions made elsewhere are taken as they were meant, or refused in a line that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from committee import Pool
from committee.data.arrays import open_npz
from committee.errors import CommitteeError, MisalignedError, ShapeError, StoreError
from committee.pool.comparison import shared_samples
from committee.pool.evaluate import check_test_pool, shared_warnings
from committee.pool.pool_model import copies_in
from committee.store.import_predictions import import_predictions

N = 40
RNG = np.random.default_rng(3)
LOGITS = RNG.normal(size=(N, 3))
LABELS = RNG.integers(0, 3, N)


def copies_of(some: Pool) -> str:
    return copies_in(some.samples, some.models.values())


def taken(
    path: Path, columns: dict[str, np.ndarray], classes: tuple[str, ...] = (), kind: str = "logits"
) -> tuple[np.ndarray, list[str]]:
    """Outputs and notes of the import of one csv file."""
    rows = zip(*(each.tolist() for each in columns.values()), strict=True)
    lines = [",".join(columns), *(",".join(map(repr, row)) for row in rows)]
    (path / "a.csv").write_text("\n".join(lines))
    notes: list[str] = []
    pool = import_predictions(
        {"a": path / "a.csv"},
        path / "store",
        kind=kind,
        split="val",
        classes=classes,
        note=notes.append,
    )
    return np.asarray(pool.model("a").values), notes


@pytest.mark.parametrize(
    ("names", "other", "values"),
    [
        (["c0", "c1", "c2"], "margin", LOGITS[:, 0]),
        (["logit_0", "logit_1", "logit_2"], "entropy", LOGITS[:, 0]),
        (["logit_cat", "logit_dog", "logit_emu"], "prob_cat", LOGITS[:, 0]),
        (["cat", "dog", "emu"], "fold", np.ones(N, np.int64)),
        (["cat", "dog", "emu"], "year", 1990 + np.arange(N) % 7),
    ],
)
def test_columns_that_are_no_outputs_are_refused_by_name(
    tmp_path: Path, names: list[str], other: str, values: np.ndarray
) -> None:
    outputs = dict(zip(names, LOGITS.T, strict=True))
    with pytest.raises(CommitteeError, match=f"'{other}'.*ignore={other}"):
        taken(tmp_path, {**outputs, other: values, "label": LABELS})
    found, _ = taken(tmp_path, {**outputs, other: values}, (*names, other))
    assert found.shape == (N, 4)


def test_columns_that_nothing_is_held_against_are_told(tmp_path: Path) -> None:
    names = ("cat", "dog", "emu")
    outputs = dict(zip(names, LOGITS.T, strict=True))
    assert "3 classes: 'cat', 'dog', 'emu'" in "".join(taken(tmp_path, outputs)[1])
    assert taken(tmp_path, outputs, names)[1] == []
    (tmp_path / "hard").mkdir()
    hard = np.eye(3)[LABELS % 2]
    assert taken(tmp_path / "hard", dict(zip("abc", hard.T, strict=True)), kind="probabilities")


class RangeIndex:
    """An index that nobody gave, as pandas has it."""

    start, step = 0, 1


class Frame:
    """A table as pandas and polars have it: an array with names."""

    def __init__(self, values: Any, columns: Any = None, index: Any = None) -> None:
        self._values = np.asarray(values)
        self.index = RangeIndex() if index is None else np.asarray(index)
        if columns is not None:
            self.columns = list(columns)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return self._values


CLASSES = ("cat", "dog", "emu")
NAMES = [f"im{i}" for i in range(N)]


def test_columns_of_tables_are_found_by_name() -> None:
    turned = Frame(LOGITS[:, [2, 0, 1]], ("emu", "cat", "dog"))
    for classes in (CLASSES, ()):
        models = {"a": Frame(LOGITS, CLASSES), "b": turned, "c": LOGITS, "d": Frame(LOGITS, "012")}
        pool = Pool.from_arrays(LABELS, models, kind="logits", classes=classes)
        assert pool.samples.classes == CLASSES
        assert all((np.asarray(pool.model(name).values) == LOGITS).all() for name in models)
    with pytest.raises(MisalignedError, match="'fox'"):
        Pool.from_arrays(
            LABELS, {"a": Frame(LOGITS, ("cat", "dog", "fox"))}, kind="logits", classes=CLASSES
        )


def test_rows_of_tables_are_found_by_index() -> None:
    order = RNG.permutation(N)
    labels = Frame(LABELS, index=NAMES)
    turned = Frame(LOGITS[order], CLASSES, np.array(NAMES)[order])
    pool = Pool.from_arrays(labels, {"a": turned}, kind="logits")
    assert (np.asarray(pool.model("a").values) == LOGITS).all()
    assert (pool.samples.labels == LABELS).all()
    assert pool.samples.ids == tuple(NAMES)
    models = {"a": Frame(LOGITS, CLASSES), "b": Frame(LOGITS[order], CLASSES, order)}
    pool = Pool.from_arrays(Frame(LABELS), models, kind="logits")
    assert (pool.model("a").values[order] == pool.model("b").values[order]).all()
    with pytest.raises(MisalignedError, match="no index"):
        Pool.from_arrays(LABELS, models, kind="logits")
    other = Frame(LOGITS, CLASSES, [f"im{i + 1}" for i in range(N)])
    with pytest.raises(MisalignedError, match="'im40'"):
        Pool.from_arrays(labels, {"a": other}, kind="logits")


class Tensor:
    """What gives no array, as tensors that require a gradient."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad")


class NAType:
    """pandas' missing value."""


def test_arrays_that_cannot_be_used_are_refused_in_a_line() -> None:
    with pytest.raises(CommitteeError, match=r"model 'a'.*requires grad.*detach"):
        Pool.from_arrays(LABELS, {"a": Tensor()}, kind="logits")
    with pytest.raises(CommitteeError, match="'a' costs '5M', no number"):
        Pool.from_arrays(LABELS, {"a": LOGITS}, kind="logits", costs={"a": "5M"})  # type: ignore[dict-item]
    for missing in (None, float("nan"), -1, NAType()):
        with pytest.raises(CommitteeError, match="1 of 40 samples have no label, rows '39'"):
            Pool.from_arrays([*LABELS[:-1].tolist(), missing], {"a": LOGITS}, kind="logits")
        pool = Pool.from_arrays([missing] * N, {"a": LOGITS}, kind="logits")
        assert pool.samples.labels is None
    pool = Pool.from_arrays(LABELS.astype(float), {"a": LOGITS}, kind="logits")
    assert (pool.samples.labels == LABELS).all()


def softmax(values: np.ndarray) -> np.ndarray:
    shares = np.exp(values)
    return shares / shares.sum(axis=1, keepdims=True)


WIDE = np.random.default_rng(4).normal(size=(200, 10))
SCALED = {
    "percent": 100 * softmax(WIDE),
    "whole percent": np.round(100 * softmax(WIDE)),
    "bytes": (255 * softmax(WIDE)).astype(np.uint8),
    "rounded": np.round(softmax(WIDE[:, :3]), 1),
}
REAL = {
    "logits": WIDE,
    "positive": np.maximum(WIDE, 0),
    "wide": np.maximum(np.random.default_rng(1).normal(size=(50, 1000)), 0) / 4,
    "shifted": WIDE + 10,
    "quantised": np.maximum(np.round(20 * WIDE), 0).astype(np.uint8),
    "sigmoid": 1 / (1 + np.exp(-WIDE[:, :2])),
    "few": np.array([[0.5, 0.5], [3.0, 1.0]]),
}


@pytest.mark.parametrize("name", SCALED)
def test_scaled_probabilities_are_no_logits(name: str) -> None:
    with pytest.raises(ShapeError, match=r"logits.*these are probabilities.*kind="):
        Pool.from_arrays(None, {"a": SCALED[name]}, kind="logits")


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("rows", [8, 200])
def test_logits_are_no_probabilities(name: str, rows: int) -> None:
    assert len(Pool.from_arrays(None, {"a": REAL[name][:rows]}, kind="logits").names) == 1


@pytest.mark.parametrize("word", ["classes", "class_names", "names"])
def test_class_names_beside_images_say_what_labels_mean(tmp_path: Path, word: str) -> None:
    path = tmp_path / "p.npz"
    names = np.array(["emu", "cat", "dog"])
    images = np.zeros((3, 4, 4), np.uint8)
    np.savez(path, images=images, labels=[0, 1, 2], mask=[1], **{word: names})  # type: ignore[arg-type]
    samples = open_npz(path, "val", CLASSES).samples
    assert samples.labels is not None
    assert samples.labels.tolist() == [2, 0, 1]
    assert "1 array is not used: 'mask'" in samples.notes


def test_rows_with_equal_outputs_are_told() -> None:
    rng = np.random.default_rng(6)
    val, test = rng.normal(size=(2, 400, 3))
    test[5:195] = val[200:390]

    def pool(values: np.ndarray, split: str) -> Pool:
        models = {"a": values, "b": values**3}
        return Pool.from_arrays(np.arange(len(values)) % 3, models, kind="logits", split=split)

    assert len(shared_samples(pool(val, "val"), pool(test, "test"))) == 190
    assert "190 of 400" in "".join(shared_warnings(pool(val, "val"), pool(test, "test")))
    rounded = [pool(np.round(each), name) for each, name in ((val, "val"), (test[195:], "test"))]
    assert not len(shared_samples(rounded[0], rounded[1]))
    assert copies_of(rounded[0]) == copies_of(pool(val, "val")) == ""
    val[7:10] = val[17]
    assert "3 of 400 rows" in copies_of(pool(val, "val"))


def test_equal_ids_of_other_outputs_are_other_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    first, second = rng.normal(size=(2, N, 3))
    notes: list[str] = []

    def take(split: str, values: np.ndarray) -> Pool:
        np.savez(tmp_path / "a.npz", outputs=values, id=NAMES, label=LABELS)
        return import_predictions(
            {"a": tmp_path / "a.npz"},
            tmp_path / "s",
            kind="logits",
            split=split,
            costs={"a": 1.0},
            note=notes.append,
        )

    val = take("val", first)
    with pytest.raises(StoreError, match="40 of 40"):
        take("test", first * (1 + 1e-6))
    test = take("test", second)
    assert "other samples" in "".join(notes)
    assert shared_warnings(val, test) == ()
    check_test_pool(val, test)


@pytest.mark.parametrize("word", ["classes", "class_names"])
def test_an_array_of_class_names_orders_outputs_and_labels(tmp_path: Path, word: str) -> None:
    names = np.array(["emu", "cat", "dog"])
    turned = LOGITS[:, [2, 0, 1]]
    held = {"outputs": turned, "label": (LABELS + 1) % 3, word: names}
    np.savez(tmp_path / "a.npz", **held)  # type: ignore[arg-type]
    pool = import_predictions(
        {"a": tmp_path / "a.npz"}, tmp_path / "s", kind="logits", split="val", classes=CLASSES
    )
    assert (np.asarray(pool.model("a").values) == LOGITS).all()
    assert (pool.samples.labels == LABELS).all()
    pool = import_predictions({"a": tmp_path / "a.npz"}, tmp_path / "t", kind="logits", split="val")
    assert pool.samples.classes == tuple(names.tolist())


def test_labels_may_be_a_column_but_no_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", LOGITS)
    np.save(tmp_path / "y.npy", LABELS[:, None])
    files, options = {"a": tmp_path / "a.npy"}, {"kind": "logits", "split": "val"}
    pool = import_predictions(files, tmp_path / "s", labels=tmp_path / "y.npy", **options)
    assert (pool.samples.labels == LABELS).all()
    np.save(tmp_path / "y.npy", np.eye(3)[LABELS])
    with pytest.raises(ShapeError, match="one-hot"):
        import_predictions(files, tmp_path / "t", labels=tmp_path / "y.npy", **options)
    with pytest.raises(ShapeError, match=r"1 - p, p"):
        Pool.from_arrays(None, {"a": np.full((4, 1), 0.3)}, kind="probabilities")
