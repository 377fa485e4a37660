"""The CIFAR-10 ResNets, and a record of what each decides on every test image.

    python tests/cifar_world.py

writes the record anew, from a run of all four networks on all 10,000 images; that takes minutes.
The tests run them on every fortieth image and compare with the record.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from committee.arrays import Array
from committee.cli import main
from committee.pool.pool import Pool

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data" / "cifar10"
EXAMPLE = ROOT / "examples" / "cifar10_resnet"
CODE = EXAMPLE / "models.py"
RECORD = Path(__file__).parent / "golden" / "cifar10_resnet.npz"
NAMES = ("resnet20", "resnet32", "resnet44", "resnet56")

cifar_is_there = pytest.mark.skipif(
    not DATA.is_dir(), reason="the CIFAR-10 images and weights are not at hand"
)


def predict(folder: Path, rows: str) -> Pool:
    """Write the images as ``cifar10_all.npz`` and the outputs on some as ``predictions/all``.

    CIFAR10_DATA must name the folder with the weights.
    """
    subprocess.run([sys.executable, EXAMPLE / "prepare.py", DATA, folder], check=True)
    words = ["predict", EXAMPLE / "pool.toml", "--data", folder / "cifar10_all.npz", "--rows", rows]
    words += ["--split", "all", "--out", folder / "predictions", "--batch-size", 32]
    assert main([*map(str, words), "--allow-code", str(CODE), "--json"]) == 0
    return Pool.load(folder / "predictions" / "all")


def predicted(pool: Pool) -> dict[str, Array]:
    """Return the class of each sample, by model and for the ensemble of all."""
    classes = {name: pool.model(name).predicted() for name in NAMES}
    logits = np.mean([pool.model(name).values for name in NAMES], axis=0, dtype=np.float64)
    return {**classes, "ensemble": logits.argmax(axis=1)}


if __name__ == "__main__":
    os.environ["CIFAR10_DATA"] = str(DATA)
    with tempfile.TemporaryDirectory() as folder:
        record = predicted(predict(Path(folder), "0:10000"))
        np.savez_compressed(RECORD, **{name: np.uint8(each) for name, each in record.items()})
