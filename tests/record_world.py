"""Texts and rows with models so small that many runs fit into a test."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import numpy as np

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


def write_graph(path: Path, length: int, seed: int, *, masked: bool = False) -> Path:
    """A graph from tokens (N, length) int32, of which 0 is padding, to logits (N, 2).

    Each token has its logits; those of padding are 0. With ``masked`` a second input says which
    count.
    """
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(seed)
    table = TABLE + rng.normal(size=TABLE.shape) * 4 / length**2
    table[0] = 0
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["found"]),
        helper.make_node("MatMul", ["found", "turn"], ["each"]),
    ]
    inputs = [helper.make_tensor_value_info("tokens", TensorProto.INT32, ["N", length])]
    summed = "each"
    if masked:
        inputs.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", length]))
        nodes.append(helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]))
        nodes.append(helper.make_node("Mul", ["each", "wide"], ["kept"]))
        summed = "kept"
    nodes.append(helper.make_node("ReduceSum", [summed, "axes"], ["logits"], keepdims=0))
    weights = {
        "table": table.astype(np.float32),
        "axes": np.array([1]),
        "last": np.array([2]),
        "turn": np.eye(2, dtype=np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "tokens",
        inputs,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


# What each of 12 tokens says of the two classes.
TABLE = np.random.default_rng(0).normal(size=(12, 2))


def write_tokens(path: Path, count: int, seed: int) -> Path:
    """Tokens of two lengths, padded, that say the same; the label is what the longer ones say."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 12, (count, 8)).astype(np.int32)
    for row, filled in enumerate(rng.integers(5, 9, count)):
        tokens[row, filled:] = 0
    label = (TABLE[tokens] * (tokens > 0)[..., None]).sum(1).argmax(1)
    mask = (tokens > 0).astype(np.float32)
    np.savez(path, short=tokens[:, :4], long=tokens, mask=mask, label=label)
    return path


GRAPHS = """
task = "classification"
classes = ["no", "yes"]
[[model]]
name = "short"
source = "onnx:short.onnx"
input = "short"
[[model]]
name = "long"
source = "onnx:long.onnx"
input = { tokens = "long", mask = "mask" }
"""


def write_graphs(folder: Path) -> Path:
    """A pool of two graphs on integers of different lengths, and its data."""
    write_graph(folder / "short.onnx", 4, 1)
    write_graph(folder / "long.onnx", 8, 2, masked=True)
    for seed, split in ((1, "val"), (2, "test")):
        write_tokens(folder / f"{split}.npz", 300, seed)
    (folder / "pool.toml").write_text(GRAPHS)
    return folder / "pool.toml"


ASYNC = """
import asyncio

most, now, calls, failing = 0, 0, 0, set()

def service():
    async def ask(text):
        global most, now, calls
        now, calls = now + 1, calls + 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        if text in failing:
            raise TimeoutError("no answer in 1 s")
        return [0.0, 1.0 if "good" in text else -1.0]
    return ask
"""
SERVICE = """
[[model]]
name = "service"
source = "python:service.py:service"
concurrency = 3
costs.ms = 100
"""
