"""Seconds and memory of importing a million rows of three models, as a user's command does it.

python benchmarks/imports.py [--rows 1000000]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        labels = rng.integers(0, 10, rows)
        np.save(root / "labels.npy", labels)
        for name in "abc":
            outputs = rng.normal(size=(rows, 10)).astype(np.float32)
            outputs[np.arange(rows), labels] += 2
            np.save(root / f"{name}.npy", outputs)
        files = [f"{name}={root / name}.npy" for name in "abc"]
        words = ["import", *files, "--kind", "logits", "--split", "val"]
        words += ["--labels", str(root / "labels.npy"), "--out", str(root / "store")]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "committee", *words], check=True)
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{rows:,} rows x 10 classes x 3 models: {seconds:.1f} s, peak {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
