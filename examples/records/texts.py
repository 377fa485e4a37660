"""Two text classifiers: which part of SciPy is a docstring from?

    python texts.py OUT

reads the docstrings that SciPy ships, and writes two pipelines of scikit-learn, two labelled splits
and a pool file to OUT. ``summary`` sees the first line alone, ``whole`` the whole docstring.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skops.io
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

PARTS = ("linalg", "ndimage", "optimize", "signal", "special", "stats")
HEAD = f"""task = "classification"
classes = {json.dumps(PARTS)}
"""
MODEL = """
[[model]]
name = "{name}"
source = "sklearn:{name}.skops"
input = "{name}"
"""


def docstrings() -> Iterator[dict[str, str]]:
    """Yield a record for each public docstring: its first line, all of it, and the part."""
    for part in PARTS:
        module = importlib.import_module(f"scipy.{part}")
        for name in sorted(vars(module)):
            text = inspect.getdoc(getattr(module, name)) or ""
            for each in PARTS:
                text = text.replace(f"scipy.{each}", "scipy").replace(each, "")
            if not name.startswith("_") and len(text) > 100:
                summary = text.strip().split("\n\n")[0]
                yield {"id": f"{part}.{name}", "summary": summary, "whole": text, "label": part}


def write(folder: Path) -> None:
    """Write pipelines, data and pool file."""
    folder.mkdir(parents=True, exist_ok=True)
    # Some functions share a docstring.
    records = list({record["whole"]: record for record in docstrings()}.values())
    order = np.random.default_rng(0).permutation(len(records))
    trained, val, test = ([records[row] for row in rows] for rows in np.array_split(order, 3))
    for name in ("summary", "whole"):
        pipeline = make_pipeline(
            TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=30, max_iter=300)
        )
        pipeline.fit([record[name] for record in trained], [record["label"] for record in trained])
        skops.io.dump(pipeline, folder / f"{name}.skops")
    for split, some in (("val", val), ("test", test)):
        lines = [json.dumps(record) + "\n" for record in some]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    models = [MODEL.format(name=name) for name in ("summary", "whole")]
    (folder / "pool.toml").write_text(HEAD + "".join(models))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
