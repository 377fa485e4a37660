"""A data set and models so small that thousands of runs fit into a test; no torch, no ONNX."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from committee.arrays import Array
from committee.data.arrays import ArrayDataset
from committee.models.pool_file import PoolFile, read_pool_file
from committee.pool.samples import Samples
from committee.spec.preprocessing import Preprocessing
from committee.store.chunks import Chunks
from committee.store.entry import IDENTITY

CLASSES = ("cat", "dog", "eel")
SIZE = 4
NAMES = ("one", "two")

# Two functions of an image; `weights` makes the one differ from the other. Every batch is counted.
CODE = """
import numpy as np

batches = {{}}

def _model(name, weights):
    matrix = np.random.default_rng(weights).normal(size=({pixels}, {classes})).astype(np.float32)
    def run(batch):
        batches.setdefault(name, []).append(len(batch))
        return batch.reshape(len(batch), -1) @ matrix
    return run

def one():
    return _model("one", 1)

def two():
    return _model("two", 2)
"""
ANSWER = "return batch.reshape(len(batch), -1) @ matrix"
DECIDE = "z = batch.reshape(len(batch), -1) @ matrix; return z.argmax(1), z.max(1)"
POOL = """
classes = ["cat", "dog", "eel"]
[preprocessing]
channels = 1
mean = [0.5]
std = [0.5]
[[model]]
name = "one"
source = "python:{code}:one"
resolution = 4
costs.macs = 1
[[model]]
name = "two"
source = "python:{code}:two"
resolution = 4
costs.macs = 10
"""
RECIPE = Preprocessing((SIZE, SIZE), channels=1, mean=(0.5,), std=(0.5,))


def write_pool(folder: Path, code: str = CODE, pool: str = POOL) -> Path:
    """A pool file of two numpy models, and their code beside it."""
    (folder / "models.py").write_text(code.format(pixels=SIZE * SIZE, classes=len(CLASSES)))
    (folder / "pool.toml").write_text(pool.format(code="models.py"))
    return folder / "pool.toml"


def decisions_pool(folder: Path, answer: str = DECIDE) -> tuple[PoolFile, list[str]]:
    """The pool whose models give decisions only."""
    path = write_pool(folder, CODE.replace(ANSWER, answer))
    kind = 'resolution = 4\nkind = "decisions"'
    path.write_text(path.read_text().replace("resolution = 4", kind))
    return read_pool_file(path), code_of(path)


def code_of(pool: Path) -> list[str]:
    """What ``allow_code`` must name to run the pool."""
    return [str(pool.with_name("models.py"))]


def read_pool(folder: Path) -> tuple[PoolFile, list[str]]:
    """The pool of two numpy models, and the code that it is allowed to run."""
    path = write_pool(folder)
    return read_pool_file(path), code_of(path)


def images(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE), np.uint8)


def samples(count: int, split: str = "val", seed: int = 0) -> Samples:
    labels = np.random.default_rng(seed).integers(0, len(CLASSES), count)
    return Samples.of(labels, classes=CLASSES, split=split)


def dataset(count: int, split: str = "val", seed: int = 0) -> ArrayDataset:
    return ArrayDataset(images(count, seed), samples(count, split, seed))


def write_npz(path: Path, count: int, seed: int = 0) -> Path:
    np.savez(path, images=images(count, seed), labels=samples(count, seed=seed).labels)
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def unfinished(folder: Path, model: str) -> None:
    """Bring a split to what is there when a process died before it finished a model."""
    manifest = json.loads((folder / f"{model}.json").read_text())
    (folder / f"{model}.json").unlink()
    (folder / f"{model}.npy").unlink()
    chunks = folder / f"{model}.npy.part"
    chunks.mkdir()
    identity = {key: str(manifest["entry"][key]) for key in IDENTITY}
    Chunks(chunks, ".rows", identity)
