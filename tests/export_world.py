"""Cascades of the embedded pool, its test images, and decisions on them, for tests of exports."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from committee import Cascade
from committee.arrays import Array
from committee.embedded import embedded_images, pool_file
from committee.rule.calibration import Calibration
from committee.rule.flow import Decisions
from committee.rule.outputs import Kind
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing

ROOT = Path(__file__).parent.parent
BARE = ("numpy", "numpy.libs", "onnxruntime", "PIL", "pillow.libs")


@cache
def _images() -> Array:
    return embedded_images("test").read(np.arange(2000))


def some_images(count: int = 2000) -> Array:
    """Images (count, 28, 28) of the embedded test split."""
    return _images()[:count].copy()


def embedded(cascade: Cascade) -> Cascade:
    """A cascade over models of the embedded pool, which knows how they are loaded."""
    pool = pool_file()
    specs = {spec.name: spec for spec in pool.models}
    return replace(
        cascade, models={name: specs[name] for name in cascade.names}, classes=pool.classes
    )


TEMPERATURE = Calibration.of_temperature(1.7)
PLATT = Calibration("platt", (0.4, 0.9, 1.3), (-3.0, -0.5))

CASCADES = {
    "mean_logits": Cascade.of(["nano", "tiny", "large"], [0.9, 0.9]),
    "mean_probabilities": Cascade.of(
        ["nano", "tiny", "small"], [0.9, 0.85], "max_prob", "mean_probabilities"
    ),
    "last": Cascade.of(["nano", "micro", "medium"], [0.9, 0.9], "max_prob", "last"),
    "logit_gap": Cascade.of(["nano", "small"], [2.5], "logit_gap"),
    "logit_gap of probabilities": Cascade.of(
        ["nano", "small"], [2.5], "logit_gap", "mean_probabilities"
    ),
    "prob_gap": Cascade.of(["nano", "small"], [0.8], "prob_gap"),
    "neg_entropy": Cascade.of(["nano", "small"], [-0.3], "neg_entropy"),
    "several in a stage": Cascade.of([["tiny", "micro"], ["nano", "medium"]], [0.9]),
    "never in the middle": Cascade.of(["nano", "micro", "tiny"], [np.inf, 0.9]),
    "always in the middle": Cascade.of(["nano", "micro", "tiny"], [0.9, -np.inf]),
    "ensemble": Cascade.ensemble(["nano", "micro"]),
    "temperatures": Cascade.of(
        ["nano", "micro", "tiny"], [0.8, 0.8], "max_prob", "mean_logits",
        {"nano": TEMPERATURE, "tiny": Calibration.of_temperature(0.6)},
    ),
    "platt": Cascade.of(
        ["nano", "tiny"], [0.7], "max_prob", "mean_logits",
        {"nano": PLATT, "tiny": Calibration("platt", (1.2,))},
    ),
    "platt of probabilities": Cascade.of(
        ["nano", "tiny"], [0.6], "prob_gap", "mean_probabilities",
        {"nano": PLATT, "tiny": TEMPERATURE},
    ),
    "platt, newest alone": Cascade.of(
        ["nano", "tiny"], [1.2], "logit_gap", "last", {"nano": PLATT}
    ),
}  # fmt: skip


def coloured(order: str, folder: Path) -> tuple[Cascade, Array]:
    """A model of 4 x 4 pixels in colour, channels in an order, and images (200, 4, 4, 3)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = random.normal(size=(48, 5)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]),
         helper.make_node("MatMul", ["flat", "weights"], ["logits"])],
        "coloured",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(weights, "weights")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "coloured.onnx")
    recipe = Preprocessing((4, 4), order=order, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    spec = ModelSpec("coloured", f"onnx:{folder / 'coloured.onnx'}", recipe)
    cascade = replace(Cascade.of(["coloured"]), models={"coloured": spec})
    return cascade, random.integers(0, 256, (200, 4, 4, 3), np.uint8)


def from_tables(
    cascade: Cascade, tables: Mapping[str, tuple[Kind, Array]], folder: Path
) -> tuple[Cascade, Array]:
    """Models that answer image number i with row i of a table, and those images.

    Args:
        cascade: Its models are named as the tables.
        tables: Kind of outputs and outputs (n, C), by name.
        folder: Where the models are written.

    Returns:
        The cascade, which knows how its models are loaded, and images (n, 1, 2).
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    recipe = Preprocessing((1, 2), channels=1, mean=(0.0,), std=(1.0,))
    models, rows = {}, 0
    for name, (kind, table) in tables.items():
        rows, classes = table.shape
        graph = helper.make_graph(
            [helper.make_node("Mul", ["x", "places"], ["parts"]),
             helper.make_node("ReduceSum", ["parts", "axes"], ["sum"], keepdims=0),
             helper.make_node("Round", ["sum"], ["round"]),
             helper.make_node("Cast", ["round"], ["row"], to=TensorProto.INT64),
             helper.make_node("Gather", ["table", "row"], ["outputs"])],
            "table",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 1, 2])],
            [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["n", classes])],
            [numpy_helper.from_array(np.array([255 * 256, 255], np.float32), "places"),
             numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
             numpy_helper.from_array(table.astype(np.float32), "table")],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.save(model, folder / f"{name}.onnx")
        models[name] = ModelSpec(name, f"onnx:{folder / name}.onnx", recipe, kind)
    numbers = np.arange(rows)
    images = np.stack([numbers // 256, numbers % 256], axis=1).astype(np.uint8)[:, None]
    return replace(cascade, models=models), images


def node_modules() -> Path | None:
    """Where npm's onnxruntime-node is, if node is there too."""
    folder = Path(os.environ.get("NODE_MODULES", ROOT / ".node" / "node_modules"))
    return folder if shutil.which("node") and (folder / "onnxruntime-node").is_dir() else None


needs_node = pytest.mark.skipif(
    node_modules() is None,
    reason="node with npm's onnxruntime-node is not at hand; `make node` installs it",
)


def bare_python(folder: Path) -> list[str]:
    """An interpreter that sees the standard library, numpy, onnxruntime and Pillow alone."""
    packages = Path(np.__file__).parent.parent
    folder.mkdir()
    for name in BARE:
        if (packages / name).exists():
            (folder / name).symlink_to(packages / name)
    start = (
        "import runpy, sys; sys.path.append(sys.argv[1]); sys.argv = sys.argv[2:]; "
        "sys.path.insert(0, sys.argv[0].rpartition('/')[0]); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return [sys.executable, "-I", "-S", "-c", start, str(folder)]


def program_of(folder: Path) -> Any:
    """The Python program of a bundle, as a module."""
    spec = importlib.util.spec_from_file_location("bundle_run", folder / "run.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    sys.modules.pop("opening", None)  # of another bundle, which would be opened instead
    sys.path.insert(0, str(folder))  # for what lies beside it
    try:
        spec.loader.exec_module(program)
    finally:
        sys.path.remove(str(folder))
    return program


def flips(one: Decisions, other: Decisions) -> int:
    """Samples whose class or stage of exit differs."""
    alike = (one.predicted == other.predicted) & (one.stage == other.stage)
    return int((~alike).sum())


def decisions_of(rows: Iterable[Mapping[str, Any]]) -> Decisions:
    """Decisions from rows as the programs of a bundle print them."""
    told = list(rows)
    return Decisions(
        np.array([row["class_index"] for row in told]),
        np.array([row["confidence"] for row in told]),
        np.array([row["stage"] for row in told]),
    )
