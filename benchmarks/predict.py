"""Time committee predict against its two limits, in turns in one process.

    python benchmarks/predict.py [--rounds 5] [--photographs 500] [--arrays 10000]
        [--folder FOLDER] [--only photographs|arrays|memory] [--samples 100000]

The limits are bare decode-and-resize (every image decoded once and resized for every model, by as
many threads as predict uses) and the bare forward passes of all models on inputs that lie ready.
predict cannot take less than the larger of the two. Where both share the same cores it cannot
either take less than the processor seconds of both together over the number of cores; that bound is
printed beside. Loading the models and the fingerprint of the images are part of predict; loading
is timed by itself and taken off, the fingerprint is not.

The photographs are those of --folder (../shared/data/imagenet_sample if left out) with
EfficientNet-Lite 0, 1 and 2; the arrays are the embedded images with the largest embedded
network. The memory part writes generated outputs of 1,000 classes, prints by how much the memory of
the process grows with their number, and how long opening the store takes.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from committee import Pool
from committee.data.arrays import ArrayDataset
from committee.data.base import map_ahead
from committee.data.open import open_data
from committee.embedded import FOLDER, pool_file
from committee.models.inputs import prepared
from committee.models.load import load_model
from committee.models.pool_file import PoolFile, read_pool_file
from committee.pool.samples import Samples
from committee.predict import THREADS, predict

ROOT = Path(__file__).parent.parent
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "imagenet_sample"
LITE = ROOT / "examples" / "efficientnet_lite"
BATCH = 32


def seconds(function) -> tuple[float, float]:
    """Wall and processor seconds."""
    processor, start = time.process_time(), time.perf_counter()
    function()
    return time.perf_counter() - start, time.process_time() - processor


class Case:
    """One pool on one data set, and the parts that are timed."""

    def __init__(self, pool: PoolFile, dataset, code: list[str]) -> None:
        self.pool, self.dataset, self.code = pool, dataset, code
        self.loaded = [load_model(spec, code) for spec in pool.models]
        self.recipes = list(dict.fromkeys(spec.preprocessing for spec in pool.models))
        count = len(dataset.samples)
        self.batches = [np.arange(i, min(i + BATCH, count)) for i in range(0, count, BATCH)]
        # One batch lies ready; the passes take as long on it as on any other.
        self.ready = self.prepare(self.batches[0])

    def prepare(self, rows):
        images = self.dataset.read(rows)
        return {recipe: prepared(images, recipe) for recipe in self.recipes}

    def decode(self) -> None:
        for _ in map_ahead(self.prepare, self.batches, THREADS):
            pass

    def forward(self) -> None:
        for rows in self.batches:
            for model, spec in self.loaded:
                model(self.ready[spec.preprocessing][: len(rows)])

    def load(self) -> None:
        for spec in self.pool.models:
            load_model(spec, self.code)

    def predict(self) -> None:
        with tempfile.TemporaryDirectory() as store:
            predict(self.pool, self.dataset, store, batch_size=BATCH, allow_code=self.code)


def compare(name: str, case: Case, rounds: int) -> None:
    parts = {
        "decode": case.decode,
        "forward": case.forward,
        "load": case.load,
        "predict": case.predict,
    }
    walls: dict[str, list[float]] = {key: [] for key in parts}
    processor: dict[str, list[float]] = {key: [] for key in parts}
    for _ in range(rounds):
        for key, function in parts.items():
            wall, used = seconds(function)
            walls[key].append(wall)
            processor[key].append(used)
    wall = {key: np.array(each) for key, each in walls.items()}
    used = {key: np.array(each) for key, each in processor.items()}
    took = wall["predict"] - wall["load"]
    larger = np.maximum(wall["decode"], wall["forward"])
    count, cores = len(case.dataset.samples), os.cpu_count() or 1
    print(f"\n{name}: {count} images, {len(case.loaded)} models, batch {BATCH}, {cores} cores")
    for key, each in (*wall.items(), ("predict without loading", took)):
        print(f"  {key:24} {np.median(each):8.2f} s, {np.median(each) / count * 1e3:7.3f} ms each")
    ratio = larger / took
    print(f"  larger limit / predict   {np.median(ratio):8.3f}  ({spread(ratio)})")
    together = np.maximum(larger, (used["decode"] + used["forward"]) / cores)
    shared = together / took
    print(f"  shared cores / predict   {np.median(shared):8.3f}  ({spread(shared)})")
    overhead = (used["predict"] - used["load"]) / (used["decode"] + used["forward"])
    print(f"  processor, predict/bare  {np.median(overhead):8.3f}  ({spread(overhead)})")


def spread(values) -> str:
    return f"{values.min():.3f} to {values.max():.3f} in {len(values)} rounds"


class Generated:
    """As many small images as asked for, none of them in memory."""

    def __init__(self, count: int) -> None:
        self.samples = Samples.of(None, count=count)

    def read(self, rows):
        return (rows[:, None, None] + np.arange(16)[:, None] * 3 + np.arange(16)).astype(np.uint8)

    def digests(self, rows):
        return rows.astype(np.uint64)


GENERATED = """
import numpy as np
matrix = np.random.default_rng(0).normal(size=(256, 1000)).astype(np.float32)
def wide():
    return lambda batch: batch.reshape(len(batch), -1) @ matrix
"""
GENERATED_POOL = """
[preprocessing]
channels = 1
mean = [0.5]
std = [0.5]
[[model]]
name = "wide"
source = "python:models.py:wide"
resolution = 16
costs.macs = 256000
"""


def memory(samples: int) -> None:
    """Peak memory after a tenth of the samples, and after all."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "models.py").write_text(GENERATED)
        (Path(folder) / "pool.toml").write_text(GENERATED_POOL)
        pool, code = read_pool_file(Path(folder) / "pool.toml"), [f"{folder}/models.py"]
        peaks = []
        for count in (samples // 10, samples):
            start = time.perf_counter()
            store = Path(folder) / str(count)
            predict(pool, Generated(count), store, batch_size=256, allow_code=code)
            took = time.perf_counter() - start
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            size = (store / "val" / "wide.npy").stat().st_size / 2**20
            print(
                f"  {count:9,} samples: {size:6.0f} MiB of outputs in {took:.1f} s, "
                f"peak memory {peaks[-1]:.0f} MiB"
            )
        print(f"  grown by {peaks[1] - peaks[0]:.0f} MiB")
        took, _ = seconds(lambda: Pool.load(store / "val"))
        print(f"  opened in {took:.2f} s, every checksum compared: {size / took:,.0f} MiB a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photographs", type=int, default=500)
    parser.add_argument("--arrays", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=PHOTOGRAPHS)
    parser.add_argument("--only", choices=("photographs", "arrays", "memory"))
    arguments = parser.parse_args()
    if arguments.only in (None, "memory"):
        # First, for the peak of a process never falls.
        print(f"memory: {arguments.samples:,} generated samples x 1,000 classes")
        memory(arguments.samples)
    if arguments.only in (None, "arrays"):
        pool = pool_file().only(["large"])
        data = np.load(FOLDER / "fashion_mnist_test.npz")
        count = min(arguments.arrays, len(data["images"]))
        dataset = ArrayDataset(data["images"][:count], Samples.of(None, count=count))
        compare("arrays", Case(pool, dataset, []), arguments.rounds)
    if arguments.only in (None, "photographs"):
        pool, code = read_pool_file(LITE / "pool.toml"), [str(LITE / "models.py")]
        if not arguments.folder.exists():
            raise SystemExit(f"photographs: no folder {arguments.folder}; name it with --folder")
        rows = f":{arguments.photographs}"
        dataset = open_data(arguments.folder, "val", pool.classes, rows)
        compare("photographs", Case(pool, dataset, code), arguments.rounds)


if __name__ == "__main__":
    main()
