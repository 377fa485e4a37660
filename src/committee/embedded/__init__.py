"""The embedded pool: six small networks and the 10,000 test pictures of Fashion-MNIST.

Trained by ``examples/fashion_mnist/train.py``; the networks saw none of these pictures, which are
those of Fashion-MNIST (Zalando SE, MIT licence, see LICENSE-fashion-mnist).
"""

from __future__ import annotations

from pathlib import Path

from committee.data import Dataset, open_data
from committee.models import PoolFile, read_pool_file

FOLDER = Path(__file__).parent
# The test pictures are in random order: the first half chooses, the second judges.
ROWS = {"val": "0:5000", "test": "5000:10000"}


def pool_file() -> PoolFile:
    """The six networks."""
    return read_pool_file(FOLDER / "pool.toml")


def pictures(split: str) -> Dataset:
    """The 5,000 pictures of ``val`` or of ``test``."""
    classes = pool_file().classes
    return open_data(FOLDER / "fashion_mnist_test.npz", split, classes, ROWS[split])
