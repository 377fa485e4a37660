"""predict: each picture once, each model once, the outputs those of the models themselves."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from committee import Pool
from committee.data import ArrayDataset, BrokenSamplesError, open_data
from committee.errors import ChangedError, MisalignedError, ModelError, NotFiniteError
from committee.models import PoolFile, prepared, read_pool_file
from committee.predict import predict
from committee.predictions import Array
from committee.store import CHUNK_ROWS
from small_world import (
    CLASSES,
    CODE,
    NAMES,
    RECIPE,
    SIZE,
    code_of,
    dataset,
    decisions_pool,
    files_of,
    images,
    read_pool,
    samples,
    write_pool,
)

ROWS = 2 * CHUNK_ROWS + 88


class Counting(ArrayDataset):
    """Counts how often each picture is read."""

    def __init__(self, count: int) -> None:
        super().__init__(images(count), samples(count))
        self.reads = np.zeros(count, int)

    def read(self, rows: Array) -> Array:
        np.add.at(self.reads, rows, 1)
        return super().read(rows)


def batches(code: list[str]) -> dict[str, list[int]]:
    """The batches that each model was given since the last call."""
    noted: dict[str, list[int]] = sys.modules[f"committee source {code[0]}"].batches
    copy = dict(noted)
    noted.clear()
    return copy


@pytest.fixture
def world(tmp_path: Path) -> tuple[PoolFile, list[str], Path]:
    return *read_pool(tmp_path), tmp_path / "store"


World = tuple[PoolFile, list[str], Path]


def test_each_picture_is_read_once_for_all_models(world: World) -> None:
    pool, code, store = world
    counting = Counting(ROWS)
    predict(pool, counting, store, allow_code=code)
    assert set(counting.reads) == {1}
    assert {name: sum(each) for name, each in batches(code).items()} == dict.fromkeys(NAMES, ROWS)


def test_a_second_call_computes_nothing_and_reads_nothing(world: World) -> None:
    pool, code, store = world
    predict(pool, dataset(ROWS), store, allow_code=code)
    batches(code)
    before, counting = files_of(store), Counting(ROWS)
    predict(pool, counting, store, allow_code=code)
    assert (batches(code), counting.reads.sum(), files_of(store)) == ({}, 0, before)


def test_adding_a_model_computes_only_that_model(world: World) -> None:
    pool, code, store = world
    predict(pool.only(["one"]), dataset(ROWS), store, allow_code=code)
    assert set(batches(code)) == {"one"}
    folder = predict(pool, dataset(ROWS), store, allow_code=code)
    assert set(batches(code)) == {"two"}
    assert Pool.load(folder).names == list(NAMES)


def test_outputs_are_those_of_the_models(world: World) -> None:
    pool, code, store = world
    stored = Pool.load(predict(pool, dataset(ROWS), store, allow_code=code))
    inputs = prepared(images(ROWS), RECIPE).reshape(ROWS, -1)
    for seed, name in enumerate(NAMES, 1):
        shape = (SIZE * SIZE, len(CLASSES))
        matrix = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        values = stored.model(name).values
        assert values.dtype == np.float32
        # Matrix products of other sizes add in another order.
        np.testing.assert_allclose(values, inputs @ matrix, rtol=0, atol=1e-5)
    assert stored.samples.fingerprint == samples(ROWS).fingerprint
    assert stored.costs.values("macs") == {"one": 1, "two": 10}


def test_splits_lie_side_by_side(world: World) -> None:
    pool, code, store = world
    for split, seed in (("val", 0), ("test", 1)):
        predict(pool, dataset(10, split, seed), store, allow_code=code)
    val, test = (Pool.load(store / split) for split in ("val", "test"))
    assert (val.samples.split, test.samples.split) == ("val", "test")
    assert val.samples.fingerprint != test.samples.fingerprint


def test_only_what_is_damaged_is_computed_again(world: World) -> None:
    pool, code, store = world
    folder = predict(pool, dataset(ROWS), store, allow_code=code)
    before = files_of(store)
    batches(code)
    data = bytearray((folder / "two.npy").read_bytes())
    data[-1] ^= 1
    (folder / "two.npy").write_bytes(data)
    predict(pool, dataset(ROWS), store, allow_code=code)
    assert {name: sum(each) for name, each in batches(code).items()} == {"two": 88}
    assert files_of(store) == before


def test_progress_counts_what_was_there(world: World) -> None:
    pool, code, store = world
    predict(pool.only(["one"]), dataset(ROWS), store, allow_code=code)
    told: list[tuple[int, int]] = []
    note = lambda done, total: told.append((done, total))  # noqa: E731  # a lambda is all it takes
    predict(pool, dataset(ROWS), store, allow_code=code, progress=note)
    assert told[0] == (ROWS, 2 * ROWS)
    assert told[-1] == (2 * ROWS, 2 * ROWS)
    assert told == sorted(told)


@pytest.mark.parametrize("batch_size", [0, -1, 3, 100, 2 * CHUNK_ROWS])
def test_the_batch_size_divides_a_chunk(world: World, batch_size: int) -> None:
    pool, code, store = world
    with pytest.raises(MisalignedError, match=f"must divide {CHUNK_ROWS}, not {batch_size}"):
        predict(pool, dataset(9), store, allow_code=code, batch_size=batch_size)
    assert not store.exists()


def test_another_batch_size_is_refused(world: World) -> None:
    pool, code, store = world
    predict(pool, dataset(9), store, allow_code=code, batch_size=32)
    with pytest.raises(ChangedError, match="batch_size 32, asked for now: 64"):
        predict(pool, dataset(9), store, allow_code=code, batch_size=64)


def test_changed_code_samples_and_preprocessing_are_refused(world: World, tmp_path: Path) -> None:
    pool, code, store = world
    predict(pool, dataset(9), store, allow_code=code)
    with pytest.raises(ChangedError, match=samples(9, seed=1).fingerprint):
        predict(pool, dataset(9, seed=1), store, allow_code=code)
    (tmp_path / "b").mkdir()
    changed = write_pool(tmp_path / "b", CODE + "# changed\n")
    with pytest.raises(ChangedError, match="'one' has changed: fingerprint was"):
        predict(read_pool_file(changed), dataset(9), store, allow_code=code_of(changed))
    text = (tmp_path / "pool.toml").read_text().replace("mean = [0.5]", "mean = [0.25]")
    (tmp_path / "pool.toml").write_text(text)
    with pytest.raises(ChangedError, match=r"preprocessing was .*0\.5.* is .*0\.25"):
        predict(read_pool_file(tmp_path / "pool.toml"), dataset(9), store, allow_code=code)


def test_nan_names_the_model_and_the_first_samples(tmp_path: Path) -> None:
    right = "return batch.reshape(len(batch), -1)"
    nan_if_white = "white = batch.min(axis=(1, 2, 3), keepdims=True) == 1"
    bad = f"{nan_if_white}; {right.replace('batch.', 'np.where(white, np.nan, batch).')}"
    path = write_pool(tmp_path, CODE.replace(right, bad))
    pictures = images(ROWS)
    pictures[[300, 303, 410]] = 255
    data = ArrayDataset(pictures, samples(ROWS))
    with pytest.raises(NotFiniteError, match=r"'one'.*first at sample 300, 303 ") as told:
        predict(read_pool_file(path), data, tmp_path / "store", allow_code=code_of(path))
    assert "\n" not in str(told.value)


FAULTS = {
    "return batch.reshape(len(batch), -1) @ matrix": "'one'.*failed on input .*resolution",
    "return np.zeros((len(batch) + 1, 3))": "answered 10 rows to 9 samples",
    "return np.zeros(len(batch))": r"must have shape \(samples, classes\), not \(9,\)",
    "return 'cat'": r"'one'",
    "raise ValueError('first\\nsecond')": r"ValueError: first\)",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_that_answers_wrongly_is_named(tmp_path: Path, fault: str) -> None:
    right = "return batch.reshape(len(batch), -1) @ matrix"
    path = write_pool(tmp_path, CODE.replace(right, fault))
    path.write_text(path.read_text().replace("resolution = 4", "resolution = 5"))
    with pytest.raises((ModelError, ValueError), match=FAULTS[fault]) as told:
        predict(read_pool_file(path), dataset(9), tmp_path / "s", allow_code=code_of(path))
    assert "\n" not in str(told.value)


def test_a_model_may_give_decisions_only(tmp_path: Path) -> None:
    pool, code = decisions_pool(tmp_path)
    stored = Pool.load(predict(pool, dataset(ROWS), tmp_path / "s", allow_code=code))
    logits, code = read_pool(tmp_path / "s")
    full = Pool.load(predict(logits, dataset(ROWS), tmp_path / "t", allow_code=code))
    assert stored.kind == "decisions"
    for name in NAMES:
        np.testing.assert_array_equal(stored.model(name).values, full.model(name).predicted())
        confidence = stored.model(name).confidence
        np.testing.assert_array_equal(confidence, full.model(name).values.max(axis=1))


def test_decisions_are_a_pair(tmp_path: Path) -> None:
    pool, code = decisions_pool(tmp_path, "return np.zeros(len(batch), int)")
    with pytest.raises(ModelError, match="a pair of classes"):
        predict(pool, dataset(9), tmp_path / "s", allow_code=code)


def test_broken_pictures_are_all_named_and_lose_nothing(world: World, tmp_path: Path) -> None:
    pool, code, store = world
    folder = tmp_path / "pictures"
    folder.mkdir()
    for row, picture in enumerate(images(CHUNK_ROWS + 50)):
        Image.fromarray(picture).save(folder / f"{row:03}.png")
    whole = predict(pool, open_data(folder, "val", CLASSES), tmp_path / "whole", allow_code=code)
    good = {name: (folder / name).read_bytes() for name in ("280.png", "281.png", "300.png")}
    for name, data in good.items():
        (folder / name).write_bytes(data[:40] if name != "281.png" else b"")
    batches(code)
    with pytest.raises(BrokenSamplesError, match="3 of the samples cannot be read") as told:
        predict(pool, open_data(folder, "val", CLASSES), store, allow_code=code)
    assert "\n" not in str(told.value)
    assert [name for name, _ in told.value.broken] == list(good)
    assert all(name in str(told.value) for name in good)
    for name, data in good.items():
        (folder / name).write_bytes(data)
    batches(code)
    predict(pool, open_data(folder, "val", CLASSES), store, allow_code=code)
    assert {name: sum(each) for name, each in batches(code).items()} == dict.fromkeys(NAMES, 50)
    assert files_of(store) == files_of(whole.parent)
