"""Two ONNX models on integers: which part of SciPy is a docstring from?

    python tokens.py OUT

reads the docstrings that SciPy ships, and writes two graphs, two labelled splits and a pool file to
OUT. Words are numbers, 0 is padding. ``first`` sees the first 12 words, ``whole`` the first 200, so
that each has an array of its own length. Both are logistic regressions on counts of words: a graph
adds the logits of its words.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from sklearn.linear_model import LogisticRegression

PARTS = ("linalg", "ndimage", "optimize", "signal", "special", "stats")
LENGTHS = {"first": 12, "whole": 200}
WORDS = 3000
HEAD = f"""task = "classification"
classes = {list(PARTS)}
""".replace("'", '"')
MODEL = """
[[model]]
name = "{name}"
source = "onnx:{name}.onnx"
input = "{name}"
costs.words = {length}
"""


def docstrings() -> Iterator[tuple[list[str], int]]:
    """Yield the words of each public docstring, without the part's name, and its part."""
    for label, part in enumerate(PARTS):
        module = importlib.import_module(f"scipy.{part}")
        for name in sorted(vars(module)):
            text = inspect.getdoc(getattr(module, name)) or ""
            words = re.findall(r"[a-z]+", text.lower())
            if not name.startswith("_") and len(words) > 20:
                yield [word for word in words if word not in PARTS], label


def numbered(texts: Sequence[list[str]], known: dict[str, int], length: int) -> np.ndarray:
    """Return words as numbers (N, length), int32; unknown words are left out, 0 is padding."""
    made = np.zeros((len(texts), length), np.int32)
    for row, words in enumerate(texts):
        own = [known[word] for word in words if word in known][:length]
        made[row, : len(own)] = own
    return made


def fitted(tokens: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the logits of each word, (WORDS + 1, classes); those of padding are 0."""
    counts = np.zeros((len(tokens), WORDS + 1))
    np.add.at(counts, (np.arange(len(tokens))[:, None], tokens), 1)
    model = LogisticRegression(C=0.3, fit_intercept=False, max_iter=300)
    table = model.fit(counts[:, 1:], labels).coef_.T
    return np.concatenate([np.zeros((1, table.shape[1])), table]).astype(np.float32)


def write_graph(path: Path, table: np.ndarray, length: int) -> None:
    """Write a graph from words (N, length) to logits (N, classes)."""
    weights = {"table": table, "axes": np.array([1])}
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "words"], ["each"]),
            helper.make_node("ReduceSum", ["each", "axes"], ["logits"], keepdims=0),
        ],
        "bag of words",
        [helper.make_tensor_value_info("words", TensorProto.INT32, ["N", length])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", table.shape[1]])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def write(folder: Path) -> None:
    """Write graphs, data and pool file."""
    folder.mkdir(parents=True, exist_ok=True)
    texts, named = zip(*docstrings(), strict=True)
    common = Counter(word for words in texts for word in set(words)).most_common(WORDS)
    known = {word: number for number, (word, _) in enumerate(common, 1)}
    tokens = {name: numbered(texts, known, length) for name, length in LENGTHS.items()}
    # Some functions share a docstring.
    unique = np.unique(tokens["whole"], axis=0, return_index=True)[1]
    parts = np.array_split(np.random.default_rng(0).permutation(unique), 3)
    labels = np.array(named)
    for name, length in LENGTHS.items():
        table = fitted(tokens[name][parts[0]], labels[parts[0]])
        write_graph(folder / f"{name}.onnx", table, length)
    for split, rows in (("val", parts[1]), ("test", parts[2])):
        own = {name: each[rows] for name, each in tokens.items()}
        np.savez(folder / f"{split}.npz", **own, label=labels[rows])
    models = [MODEL.format(name=name, length=length) for name, length in LENGTHS.items()]
    (folder / "pool.toml").write_text(HEAD + "".join(models))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
