"""Three estimators on scikit-learn's handwritten digits: rows of 64 numbers, ten classes.

    python tabular.py OUT

fits them in seconds, keeps them with skops, and writes two labelled splits and a pool file to OUT.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import skops.io
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

TRAINED, VALIDATED = 500, 650
ESTIMATORS = {
    "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
    "boosted": HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=8, random_state=0),
    "forest": ExtraTreesClassifier(100, random_state=0),
}
HEAD = """task = "classification"
classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
"""
MODEL = """
[[model]]
name = "{name}"
source = "sklearn:{name}.skops"
"""


def write(folder: Path) -> None:
    """Write estimators, data and pool file."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(rows))
    rows, labels = rows[order], labels[order]
    trained, val, test = np.split(np.arange(len(rows)), [TRAINED, TRAINED + VALIDATED])
    for name, estimator in ESTIMATORS.items():
        skops.io.dump(estimator.fit(rows[trained], labels[trained]), folder / f"{name}.skops")
    for split, some in (("val", val), ("test", test)):
        np.savez(folder / f"{split}.npz", row=rows[some], label=labels[some])
    models = [MODEL.format(name=name) for name in ESTIMATORS]
    (folder / "pool.toml").write_text(HEAD + "".join(models))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
