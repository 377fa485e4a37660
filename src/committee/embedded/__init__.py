"""The embedded pool: six small networks and the 10,000 test images of Fashion-MNIST.

Trained by ``examples/fashion_mnist/train.py``; the networks saw none of these images, which are
those of Fashion-MNIST (Zalando SE, MIT licence, see LICENSE-fashion-mnist).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from committee.data.arrays import open_npz
from committee.data.base import Dataset, part
from committee.errors import UnknownNameError
from committee.models.pool_file import PoolFile, read_pool_file

FOLDER = Path(__file__).parent
# The test images are in random order: the first half chooses, the second evaluates.
ROWS = {"val": "0:5000", "test": "5000:10000"}


def pool_file() -> PoolFile:
    """Return the six networks."""
    return read_pool_file(FOLDER / "pool.toml")


def open_images(rest: str, split: str, classes: Sequence[str]) -> Dataset:
    """Open ``embedded:REST``, for :func:`committee.data.open.open_data`."""
    parts = ROWS | {"all": ":"}
    if rest not in parts:
        raise UnknownNameError.of("data embedded", "part", rest, parts)
    return part(open_npz(FOLDER / "fashion_mnist_test.npz", split, classes), parts[rest])


def embedded_images(split: str) -> Dataset:
    """Return the 5,000 images of ``val`` or ``test``."""
    return open_images(split, split, pool_file().classes)
