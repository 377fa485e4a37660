"""Offline: images are read once, ahead and prepared once; memory holds few of them."""

from __future__ import annotations

import sys
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from committee import Cascade, Runner
from committee.arrays import Array
from committee.data.arrays import ArrayDataset
from committee.models.inputs import RawSamples, prepared
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.pool.samples import Samples
from committee.predict import THREADS
from committee.run import read_ahead as reading
from committee.run import sample_batch as held
from committee.run.offline import run_into, run_offline
from committee.run.results import read_results
from committee.spec.preprocessing import Preprocessing
from export_world import embedded, some_images
from small_world import CLASSES, dataset, write_pool


def data_of(images: Array) -> ArrayDataset:
    return ArrayDataset(images, Samples.of(None, None, (), "run", len(images)))


class Counting:
    """Counts how many images are prepared by each recipe."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: dict[Preprocessing, int] = {}
        monkeypatch.setattr(held, "inputs_of", self)
        monkeypatch.setattr(reading, "prepared", self)

    def __call__(
        self, images: RawSamples, recipe: Preprocessing, out: Array | None = None
    ) -> Array:
        self.rows[recipe] = self.rows.get(recipe, 0) + len(images)
        return prepared(images, recipe, out)


def at_other_sizes(cascade: Cascade, folder: Path) -> Runner:
    """A cascade of python models, the second of which takes images of twice the size."""
    path = write_pool(folder)
    text = path.read_text()
    first, second = text.split('name = "two"')
    path.write_text(first + 'name = "two"' + second.replace("resolution = 4", "resolution = 8"))
    code = (folder / "models.py").read_text()
    (folder / "models.py").write_text(
        code.replace("batch.reshape(len(batch), -1) @", "batch[..., :4, :4].reshape(-1, 16) @")
    )
    allowed = [str(folder / "models.py")]
    specs = [load_model(spec, allowed)[1] for spec in read_pool_file(path).models]
    known = {spec.name: spec for spec in specs}
    return Runner(replace(cascade, models=known, classes=CLASSES), allow_code=allowed)


def test_stages_of_one_size_share_what_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(embedded(Cascade.of(["nano", "tiny", "small"], [0.9, 0.9])), threads=1)
    some = some_images(700)
    counting = Counting(monkeypatch)
    stages = np.concatenate([each.stage for _, each in run_offline(runner, data_of(some), 16)])
    assert set(stages) == {0, 1, 2}
    assert list(counting.rows.values()) == [700]
    counting.rows.clear()
    assert runner.decide(some, 16).stage.tolist() == stages.tolist()
    assert list(counting.rows.values()) == [700]


def test_only_those_that_stay_are_prepared_for_another_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = at_other_sizes(Cascade.of(["one", "two"], [0.9]), tmp_path)
    counting = Counting(monkeypatch)
    stages = np.concatenate([each.stage for _, each in run_offline(runner, dataset(300), 8)])
    assert 0 < stages.sum() < 300
    by_size = {recipe.size: rows for recipe, rows in counting.rows.items()}
    assert by_size == {(4, 4): 300, (8, 8): int(stages.sum())}


class Photographs:
    """Large images, made when they are read; how many were read and are in memory is counted."""

    SIDE = 700  # 1.5 MB each

    def __init__(self, count: int) -> None:
        self.samples = Samples.of(None, None, (), "run", count)
        self.read_rows: list[int] = []

    def read(self, rows: Array) -> list[Array]:
        self.read_rows.extend(rows.tolist())
        return [self.image(int(row)) for row in rows]

    def image(self, row: int) -> Array:
        generator = np.random.default_rng(row)
        coarse = generator.integers(0, 256, (7, 7, 3), np.uint8)
        return np.kron(coarse, np.ones((self.SIDE // 7, self.SIDE // 7, 1), np.uint8))

    def digests(self, rows: Array) -> Array:
        return rows.astype(np.uint64)


def test_photographs_are_read_once_and_few_are_in_memory(tmp_path: Path) -> None:
    runner = at_other_sizes(Cascade.of(["one", "two"], [2.0]), tmp_path)
    some = Photographs(192)
    one = some.image(0).nbytes
    assert one > reading.LARGE
    tracemalloc.start()
    try:
        [stages] = [each.stage for _, each in run_offline(runner, some, 16)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sorted(some.read_rows) == list(range(192))
    # All stay, so all are asked for twice; still no more than what threads are reading is there.
    assert set(stages) == {1}
    assert peak < 4 * THREADS * one
    alone = [runner(some.image(row)) for row in range(20)]
    [(_, again)] = list(run_offline(runner, Photographs(20), 16))
    assert [each.class_index for each in alone] == again.predicted.tolist()
    np.testing.assert_allclose([each.confidence for each in alone], again.score, rtol=1e-5)


def test_reading_goes_on_while_models_run(tmp_path: Path) -> None:
    path = write_pool(tmp_path)
    code = (tmp_path / "models.py").read_text()
    (tmp_path / "models.py").write_text(
        "import threading\nahead = threading.Event()\nwaited = []\n"
        + code.replace(
            "        batches.set", "        waited.append(ahead.wait(30))\n        batches.set"
        )
    )
    allowed = [str(tmp_path / "models.py")]
    known = {s.name: load_model(s, allowed)[1] for s in read_pool_file(path).models}
    cascade = replace(Cascade.of(["one"]), models={"one": known["one"]}, classes=CLASSES)
    runner = Runner(cascade, allow_code=allowed)
    module = sys.modules[f"committee source {tmp_path / 'models.py'}"]

    class Noted(ArrayDataset):
        """Notes who reads, and when the second batch is read."""

        threads: ClassVar[set[str]] = set()

        def read(self, rows: Array) -> Array:
            self.threads.add(threading.current_thread().name)
            if rows[-1] >= runner.group_size(8):
                module.ahead.set()
            return super().read(rows)

    whole = dataset(3 * runner.group_size(8))
    noted = Noted(whole.read(np.arange(len(whole.samples))), whole.samples)
    assert sum(len(rows) for rows, _ in run_offline(runner, noted, 8)) == len(whole.samples)
    # The model's first call waits until more has been read.
    assert set(module.waited) == {True}
    assert threading.current_thread().name not in Noted.threads


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_late_stages_run_on_full_batches(tmp_path: Path, batch_size: int) -> None:
    runner = at_other_sizes(Cascade.of(["one", "two"], [0.9]), tmp_path)
    module: Any = sys.modules[f"committee source {tmp_path / 'models.py'}"]
    module.batches.clear()
    count = 300
    stays = int(
        sum(each.stage.sum() for _, each in run_offline(runner, dataset(count), batch_size))
    )
    assert sum(module.batches["one"]) == count
    assert sum(module.batches["two"]) == stays
    stretches = -(-count // (16 * batch_size))
    # One that is not full a stretch, at most.
    for name in ("one", "two"):
        assert sum(size < batch_size for size in module.batches[name]) <= stretches
        assert max(module.batches[name]) <= batch_size


def test_samples_that_stay_are_gathered_from_batches_that_were_torn(tmp_path: Path) -> None:
    """Of single images a stretch holds 16 batches; what is decided is the same by any batches."""
    runner = Runner(embedded(Cascade.of([["tiny", "micro"], "small"], [0.95])), threads=1)
    some = data_of(some_images(200))
    found = []
    for batch_size in (1, 7, 32):
        out = tmp_path / f"{batch_size}.jsonl"
        assert sum(len(part) for part in run_into(runner, some, out, batch_size)) == 200
        found.append([(r.id, r.class_index, r.stage) for r in read_results(out)])
    assert found[0] == found[1] == found[2]
    assert {stage for _, _, stage in found[0]} == {0, 1}


def test_small_images_are_read_many_at_a_time() -> None:
    runner = Runner(embedded(Cascade.of(["nano"])), threads=1)
    assert runner.group_size(64) == 1024
    assert runner.group_size(5000) == 5000
