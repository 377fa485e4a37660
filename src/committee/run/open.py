"""Open what a runner runs: a cascade file, a bundle, or a cascade that is one ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from committee.export.bundle import is_bundle, read_bundle
from committee.rule.cascade import Cascade
from committee.run.onnx_cascade import Graph
from committee.spec.model import ModelSpec, task_of
from committee.spec.task import Task


@dataclass(frozen=True)
class LoadedCascade:
    """A cascade that can be run.

    Args:
        cascade: The rule, with how its models are loaded.
        graph: The ONNX file that runs it; None if its models do.
        path: The path it was opened from.
    """

    cascade: Cascade
    graph: Graph | None = None
    path: Path | None = None

    @property
    def task(self) -> Task:
        """Return the task of its models."""
        models = self.cascade.models.values()
        return task_of(model for model in models if isinstance(model, ModelSpec))


# What `open_cascade` accepts.
CascadeLike: TypeAlias = str | Path | Cascade | LoadedCascade


def what_is(path: str | Path) -> str:
    """Return what :func:`open_cascade` opens a path as: ONNX file, bundle or cascade file."""
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        return "ONNX file"
    return "bundle" if is_bundle(path) else "cascade file"


def open_cascade(cascade: CascadeLike, threads: int = 0) -> LoadedCascade:
    """Open a cascade file, a bundle (its folder, or the cascade file in it) or an ONNX file.

    Args:
        cascade: Its path; an object is used as it is.
        threads: How many threads an ONNX file may use; 0 leaves the choice to onnxruntime.

    Raises:
        CascadeError: If a cascade file cannot be read.
        ExportError: If a file of a bundle is missing or altered, or an ONNX file is no cascade.
        ModelError: If an ONNX file cannot be loaded.
    """
    if isinstance(cascade, LoadedCascade):
        return cascade
    if isinstance(cascade, Cascade):
        return LoadedCascade(cascade)
    path = Path(cascade)
    if path.suffix.lower() == ".onnx":
        graph = Graph(path, threads)
        return LoadedCascade(graph.cascade, graph, path)
    if is_bundle(path):
        return LoadedCascade(read_bundle(path if path.is_dir() else path.parent), path=path)
    return LoadedCascade(Cascade.load(path), path=path)
