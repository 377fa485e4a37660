"""predict: each image once, each model once, the outputs those of the models themselves."""

from __future__ import annotations

import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from committee import Pool
from committee.arrays import Array
from committee.data.arrays import ArrayDataset
from committee.data.base import BrokenSamplesError, PartDataset
from committee.data.open import open_data
from committee.errors import (
    ChangedError,
    MisalignedError,
    ModelError,
    NotFiniteError,
    StoreError,
    UnknownNameError,
)
from committee.models.inputs import prepared
from committee.models.pool_file import PoolFile, read_pool_file
from committee.predict import predict
from committee.store.entry import CHUNK_ROWS
from small_world import (
    ANSWER,
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
    """Counts how often each image is read."""

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


def test_each_image_is_read_once_for_all_models(world: World) -> None:
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
    with pytest.raises(ChangedError, match="another batch_size: 32; now 64"):
        predict(pool, dataset(9), store, allow_code=code, batch_size=64)


def test_changed_code_samples_and_preprocessing_are_refused(world: World, tmp_path: Path) -> None:
    pool, code, store = world
    predict(pool, dataset(9), store, allow_code=code)
    with pytest.raises(ChangedError, match="that of '0' was 2, is 1"):
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
    white = images(ROWS)
    white[[300, 303, 410]] = 255
    data = ArrayDataset(white, samples(ROWS))
    with pytest.raises(NotFiniteError, match=r"'one'.*first at sample 300, 303 ") as told:
        predict(read_pool_file(path), data, tmp_path / "store", allow_code=code_of(path))
    assert "\n" not in str(told.value)


FAULTS = {
    "return batch.reshape(len(batch), -1) @ matrix": r"'one'.*failed on input \(9, 1, 5, 5\)",
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


def test_broken_images_are_all_named_and_lose_nothing(world: World, tmp_path: Path) -> None:
    pool, code, store = world
    folder = tmp_path / "images"
    folder.mkdir()
    for row, image in enumerate(images(CHUNK_ROWS + 50)):
        Image.fromarray(image).save(folder / f"{row:03}.png")
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


# More samples


def images_in(folder: Path, names: Sequence[str]) -> Path:
    """A folder of images, what each shows told by its name alone."""
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.fromarray(images(1, seed=zlib.crc32(name.encode()))[0]).save(folder / name)
    return folder


@pytest.mark.parametrize(("before", "batch_size"), [(300, 32), (256, 32), (10, 4), (530, 256)])
def test_added_samples_alone_are_computed(world: World, before: int, batch_size: int) -> None:
    pool, code, store = world
    options = {"allow_code": code, "batch_size": batch_size}
    whole = predict(pool, dataset(ROWS), store / "whole", **options)
    some = PartDataset(dataset(ROWS), np.arange(before))
    grown = predict(pool, some, store / "grown", **options)
    assert len(Pool.load(grown)) == before
    batches(code)
    counting = Counting(ROWS)
    predict(pool, counting, store / "grown", **options)
    # A batch that was not full is filled up, for its outputs are to be those of an undisturbed run.
    again = before % CHUNK_ROWS % batch_size
    computed = {name: sum(each) for name, each in batches(code).items()}
    assert computed == dict.fromkeys(NAMES, ROWS - before + again)
    assert set(np.flatnonzero(counting.reads)) == set(range(before - again, ROWS))
    assert files_of(grown.parent) == files_of(whole.parent)


def test_new_images_of_a_folder_follow_those_that_are_known(world: World, tmp_path: Path) -> None:
    pool, code, store = world
    data = images_in(tmp_path / "data", ["b.png", "d.png"])
    predict(pool, open_data(data), store, allow_code=code)
    images_in(data, ["a.png", "c.png"])
    batches(code)
    stored = Pool.load(predict(pool, open_data(data), store, allow_code=code))
    assert stored.samples.ids == ("b.png", "d.png", "a.png", "c.png")
    for row, name in enumerate(stored.samples.ids):
        inputs = prepared(
            open_data(images_in(tmp_path / name[0], [name])).read(np.array([0])), RECIPE
        )
        matrix = np.random.default_rng(1).normal(size=(SIZE**2, len(CLASSES))).astype(np.float32)
        expected = inputs.reshape(1, -1) @ matrix
        np.testing.assert_allclose(stored.model("one").values[row], expected[0], atol=1e-5)
    batches(code)
    before = files_of(store)
    predict(pool, open_data(data), store, allow_code=code)
    assert (batches(code), files_of(store)) == ({}, before)


def test_a_model_that_lacks_the_added_samples_is_named(world: World) -> None:
    pool, code, store = world
    predict(pool, PartDataset(dataset(20), np.arange(10)), store, allow_code=code)
    folder = predict(pool.only(["one"]), dataset(20), store, allow_code=code)
    with pytest.raises(StoreError, match=r"two\.npy: has 10 of 20 samples.*only the new ones"):
        Pool.load(folder)
    assert len(Pool.load(folder, ["one"])) == 20
    predict(pool, dataset(20), store, allow_code=code)
    assert Pool.load(folder).names == list(NAMES)


def test_fewer_and_changed_samples_are_refused_by_name(world: World, tmp_path: Path) -> None:
    pool, code, store = world
    data = images_in(tmp_path / "data", ["a.png", "b.png", "c.png"])
    predict(pool, open_data(data), store, allow_code=code)
    before = files_of(store)
    good = (data / "b.png").read_bytes()
    (data / "b.png").unlink()
    with pytest.raises(ChangedError, match=r"1 of its 3 samples are not given any more: 'b.png'"):
        predict(pool, open_data(data), store, allow_code=code)
    (data / "b.png").write_bytes((data / "a.png").read_bytes())
    now, then = (
        int.from_bytes(sha256(each).digest()[:8], "big")
        for each in ((data / "b.png").read_bytes(), good)
    )
    told = (
        f"1 of its 3 samples has changed: 'b.png'; content of 'b.png' was {then:016x}, "
        f"is {now:016x}"
    )
    with pytest.raises(ChangedError, match=told) as caught:
        predict(pool, open_data(data), store, allow_code=code)
    assert "\n" not in str(caught.value)
    assert files_of(store) == before


# Splits that share nothing


def test_samples_of_another_split_are_refused(world: World) -> None:
    pool, code, store = world
    predict(pool, dataset(20), store, allow_code=code)
    with pytest.raises(StoreError, match=r"'val' and 'test' would share 20 samples: 20 of 20"):
        predict(pool, dataset(20, "test"), store, allow_code=code)
    assert not (store / "test").exists()


def test_equal_names_of_other_images_are_no_overlap(world: World) -> None:
    pool, code, store = world
    predict(pool, dataset(20), store, allow_code=code)
    predict(pool, renamed(dataset(20, seed=1), "test"), store, allow_code=code)


def renamed(data: ArrayDataset, split: str) -> PartDataset:
    rows = np.arange(len(data.samples))
    return PartDataset(data, rows, replace(data.samples, split=split))


# Broken images


def broken_folder(folder: Path) -> Path:
    """306 images, of which three cannot be read."""
    images_in(folder, [f"{row:03}.png" for row in range(CHUNK_ROWS + 50)])
    for name in ("003.png", "280.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:40])
    (folder / "300.png").write_bytes(b"")
    return folder


def test_broken_images_are_left_out_and_recorded(world: World, tmp_path: Path) -> None:
    pool, code, store = world
    data = broken_folder(tmp_path / "data")
    notes: list[str] = []
    options = {"allow_code": code, "skip_broken": True, "note": notes.append}
    stored = Pool.load(predict(pool, open_data(data), store, **options))
    assert notes == ["3 broken samples left out of val"]
    assert [each.id for each in stored.samples.broken] == ["003.png", "280.png", "300.png"]
    assert all(each.reason for each in stored.samples.broken)
    good = [
        name
        for name in open_data(data).samples.ids
        if name not in ("003.png", "280.png", "300.png")
    ]
    assert stored.samples.ids == tuple(good)
    whole = images_in(tmp_path / "good", good)
    expected = Pool.load(predict(pool, open_data(whole), tmp_path / "s", allow_code=code))
    for name in NAMES:
        np.testing.assert_array_equal(stored.model(name).values, expected.model(name).values)
    # Again: nothing is computed, and without being asked to, nothing is left out in silence.
    batches(code)
    before = files_of(store)
    predict(pool, open_data(data), store, **options)
    assert (batches(code), files_of(store)) == ({}, before)
    with pytest.raises(BrokenSamplesError, match=r"3 of the samples cannot be read: 003\.png"):
        predict(pool, open_data(data), store, allow_code=code)
    assert files_of(store) == before


def test_skipping_goes_on_after_a_run_that_failed_on_broken_images(
    world: World, tmp_path: Path
) -> None:
    pool, code, store = world
    data = broken_folder(tmp_path / "data")
    images_in(data, ["003.png"])  # so that the first chunk can be computed
    undisturbed = predict(pool, open_data(data), tmp_path / "u", allow_code=code, skip_broken=True)
    with pytest.raises(BrokenSamplesError):
        predict(pool, open_data(data), store, allow_code=code)
    batches(code)
    predict(pool, open_data(data), store, allow_code=code, skip_broken=True)
    computed = {name: sum(each) for name, each in batches(code).items()}
    assert computed == dict.fromkeys(NAMES, 48)
    assert files_of(store) == files_of(undisturbed.parent)


def test_a_mended_image_is_added(world: World, tmp_path: Path) -> None:
    pool, code, store = world
    data = broken_folder(tmp_path / "data")
    predict(pool, open_data(data), store, allow_code=code, skip_broken=True)
    images_in(data, ["280.png"])
    batches(code)
    stored = Pool.load(predict(pool, open_data(data), store, allow_code=code, skip_broken=True))
    assert stored.samples.ids[-1] == "280.png"
    assert [each.id for each in stored.samples.broken] == ["003.png", "300.png"]
    # 303 samples were there; the last batch of 32 is filled up.
    assert sum(batches(code)["one"]) == 304 - 288


def test_nothing_but_broken_images_is_an_error(world: World, tmp_path: Path) -> None:
    pool, code, store = world
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(b"")
    with pytest.raises(BrokenSamplesError, match="1 of the samples"):
        predict(pool, open_data(tmp_path / "data"), store, allow_code=code, skip_broken=True)


# Types of numbers


def test_outputs_are_rounded_to_float16_if_asked(world: World) -> None:
    pool, code, store = world
    full = Pool.load(predict(pool, dataset(ROWS), store / "a", allow_code=code))
    half = Pool.load(predict(pool, dataset(ROWS), store / "b", allow_code=code, dtype="float16"))
    for name in NAMES:
        values = half.model(name).values
        assert values.dtype == np.float16
        np.testing.assert_array_equal(values, full.model(name).values.astype(np.float16))
    with pytest.raises(ChangedError, match="another dtype: float16; now float32"):
        predict(pool, dataset(ROWS), store / "b", allow_code=code)
    with pytest.raises(UnknownNameError, match=r"no dtype 'float8'\. "):
        predict(pool, dataset(ROWS), store / "c", allow_code=code, dtype="float8")


def test_what_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = write_pool(tmp_path, CODE.replace(ANSWER, f"{ANSWER} * 1e6"))
    with pytest.raises(
        NotFiniteError, match=r"of sample \d+ do not fit into float16.*float32"
    ) as told:
        predict(
            read_pool_file(path),
            dataset(9),
            tmp_path / "s",
            allow_code=code_of(path),
            dtype="float16",
        )
    assert "\n" not in str(told.value)


# Damage


def test_damage_is_told_and_only_its_chunk_computed_again(world: World) -> None:
    pool, code, store = world
    folder = predict(pool, dataset(ROWS), store, allow_code=code)
    before = files_of(store)
    data = bytearray((folder / "two.npy").read_bytes())
    data[200] ^= 1
    (folder / "two.npy").write_bytes(data)
    batches(code)
    notes: list[str] = []
    counting = Counting(ROWS)
    predict(pool, counting, store, allow_code=code, note=notes.append)
    assert {name: sum(each) for name, each in batches(code).items()} == {"two": CHUNK_ROWS}
    assert set(np.flatnonzero(counting.reads)) == set(range(CHUNK_ROWS))
    assert notes == ["two: chunk 0 was damaged and is computed again"]
    assert files_of(store) == before


# Speed and memory


class Sleepy(ArrayDataset):
    """Takes its time to read, as a disk does."""

    def read(self, rows: Array) -> Array:
        time.sleep(0.03)
        return super().read(rows)


def test_reading_overlaps_with_the_models(tmp_path: Path) -> None:
    code = CODE.replace(ANSWER, f"import time; time.sleep(0.03); {ANSWER}")
    path = write_pool(tmp_path, code)
    pool = read_pool_file(path).only(["one"])
    count = 24 * 16
    sleepy = Sleepy(images(count), samples(count))
    start = time.perf_counter()
    predict(pool, sleepy, tmp_path / "s", allow_code=code_of(path), batch_size=16)
    # 24 times 0.03 s of reading and as much of the model: one after the other they take 1.44 s.
    assert time.perf_counter() - start < 1.3


class Lists(ArrayDataset):
    """Images of any size come in a list; notes how many are asked for at once."""

    def __init__(self, count: int) -> None:
        super().__init__(images(count), samples(count))
        self.at_once: list[int] = []

    def read(self, rows: Array) -> Any:
        self.at_once.append(len(rows))
        return list(super().read(rows))


def test_few_decoded_images_are_held_at_once(world: World) -> None:
    pool, code, store = world
    lists = Lists(ROWS)
    predict(pool, lists, store / "lists", allow_code=code)
    predict(pool, dataset(ROWS), store / "arrays", allow_code=code)
    assert (max(lists.at_once), sum(lists.at_once)) == (1, ROWS)
    predict(pool, lists, store / "skipped", allow_code=code, skip_broken=True)
    assert max(lists.at_once) == 1
    assert files_of(store / "lists") == files_of(store / "arrays")


MEMORY = """
from pathlib import Path
import numpy as np
from committee.models.pool_file import read_pool_file
from committee.predict import predict
from committee.pool.samples import Samples

seen = []

def look():
    # Not the pages of mapped files, which the kernel may drop.
    text = Path("/proc/self/status").read_text()
    seen.append(int(text.partition("RssAnon:")[2].split()[0]) / 1024)

class Generated:
    def __init__(self, count):
        self.samples = Samples.of(None, count=count)
    def read(self, rows):
        look()
        return (rows[:, None, None] + np.arange(64).reshape(8, 8)).astype(np.uint8)
    def digests(self, rows):
        return rows.astype(np.uint64)

def peak(count):
    pool, code = read_pool_file("pool.toml"), ["models.py"]
    predict(pool, Generated(count), f"store{count}", allow_code=code, batch_size=256)
    look()
    return max(seen)

few = peak(9_000)
print(peak(27_000) - few)
"""


WIDE = """
import numpy as np

def wide():
    return lambda batch: np.repeat(batch.mean(axis=(1, 2, 3))[:, None], 1000, axis=1)
"""
WIDE_POOL = """
[preprocessing]
channels = 1
mean = [0.5]
std = [0.5]
[[model]]
name = "wide"
source = "python:models.py:wide"
resolution = 8
costs.macs = 1
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory has other units elsewhere")
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(WIDE)
    (tmp_path / "pool.toml").write_text(WIDE_POOL)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    # The outputs of the 18,000 more are 69 MiB; what is kept of each is its name and its digest.
    assert float(done.stdout) < 20
