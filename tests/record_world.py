"""Texts and rows with models so small that many runs fit into a test."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

CLASSES = ("no", "yes")
WEIGHTS = {"good": 2.0, "great": 3.0, "bad": -2.0, "awful": -3.0, "fine": 0.5}
WORDS = (*WEIGHTS, "film", "the", "a")
CODE = f"""
import numpy as np

WEIGHTS = {WEIGHTS}
calls = []

def _logits(z):
    z = np.asarray(z, float)
    return np.stack([np.zeros_like(z), z], 1)

def _texts(weights):
    def run(texts):
        calls.append(len(texts))
        assert isinstance(texts, list)
        return _logits([sum(weights.get(w, 0.0) for w in t.split()) for t in texts])
    return run

def small():
    return _texts({{"good": 1.0, "bad": -1.0}})

def large():
    return _texts(WEIGHTS)

def sums():
    return lambda rows: _logits(rows.sum(axis=1))

def named():
    return lambda parts: _logits(parts["a"] + 2 * parts["b"].sum(axis=-1))

def half():
    return lambda texts: _logits([1.0] * (len(texts) // 2))
"""
POOL = """
task = "classification"
classes = ["no", "yes"]
input = "text"
[[model]]
name = "small"
source = "python:models.py:small"
costs.ms = 1
[[model]]
name = "large"
source = "python:models.py:large"
costs.ms = 10
"""


def write_pool(folder: Path, pool: str = POOL) -> Path:
    """A pool file of functions of records, and their code beside it."""
    (folder / "models.py").write_text(CODE)
    (folder / "pool.toml").write_text(pool)
    return folder / "pool.toml"


def reviews(count: int, seed: int) -> list[dict[str, str]]:
    """Rows with an id, a text, a column that nobody sees, and a label that the text mostly has."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        words = draw.choices(WORDS, k=6)
        score = sum(WEIGHTS.get(word, 0.0) for word in words) + draw.gauss(0, 1)
        text = f"{' '.join(words)} {number} {seed}"
        label = "yes" if score > 0 else "no"
        rows.append({"id": f"{seed}-{number}", "text": text, "stars": "3", "label": label})
    return rows


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
