"""Opening what a runner runs: a cascade file, a bundle, or a cascade that is one ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from committee.export.bundle import is_bundle, read_bundle
from committee.rule.cascade import Cascade
from committee.run.onnx_cascade import Graph
from committee.spec.model import ModelSpec, task_of
from committee.spec.task import Task


@dataclass(frozen=True)
class Opened:
    """What a path holds.

    Args:
        cascade: The rule, with how its models are loaded.
        graph: What runs it, if it is one ONNX file; else its models do.
    """

    cascade: Cascade
    graph: Graph | None = None


def what_is(path: str | Path) -> str:
    """What :func:`opened` takes a path for, in words."""
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        return "ONNX file"
    return "bundle" if is_bundle(path) else "cascade file"


def task_in(path: str | Path) -> Task:
    """Return the task of a cascade file, a bundle or an ONNX file."""
    # An ONNX file holds no cascade but of images, and takes long to open.
    cascade = None if Path(path).suffix.lower() == ".onnx" else opened(path).cascade
    models = () if cascade is None else cascade.models.values()
    return task_of(model for model in models if isinstance(model, ModelSpec))


def opened(path: str | Path, threads: int = 0) -> Opened:
    """Open a cascade file, a bundle (its folder, or the cascade file in it) or an ONNX file.

    Args:
        path: Which.
        threads: How many threads an ONNX file may use; 0 leaves the choice to onnxruntime.

    Raises:
        CascadeError: If a cascade file cannot be read.
        ExportError: If a file of a bundle is missing or altered, or an ONNX file is no cascade.
        ModelError: If an ONNX file cannot be loaded.
    """
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        graph = Graph(path, threads)
        return Opened(graph.cascade, graph)
    if is_bundle(path):
        return Opened(read_bundle(path if path.is_dir() else path.parent))
    return Opened(Cascade.load(path))
