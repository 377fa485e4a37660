"""``onnx:PATH``: a graph with one input; of its outputs the first is taken."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from committee.errors import MissingExtraError, ModelError
from committee.models.base import Model, run_print
from committee.models.graph_files import graph_fingerprint
from committee.models.sessions import OWN, open_session
from committee.models.spec import ModelSpec
from committee.predictions import Array
from committee.profile.graph import graph_macs, graph_parameters


class OnnxSource:
    """A file with a graph."""

    form = "onnx:PATH"
    weights: ClassVar[frozenset[str]] = frozenset()
    engines = (OWN, "openvino")

    def located(self, text: str, folder: Path) -> str:
        """See :class:`committee.models.base.Source`."""
        if not text:
            raise ValueError
        return str((folder / text).resolve())

    def published(self, text: str, size: tuple[int, int] | None) -> Mapping[str, Any]:
        """Nothing: a graph states no preprocessing."""
        return {}

    def peek(self, spec: ModelSpec, allow_code: Collection[str]) -> str:
        """See :class:`committee.models.base.Peekable`."""
        path = Path(spec.text)
        if not path.is_file():
            raise ModelError(f"model {spec.name!r}: no file {path}")
        return run_print(graph_fingerprint(path), spec, OWN)

    def load(self, spec: ModelSpec, threads: int, allow_code: Collection[str]) -> Model:
        """See :class:`committee.models.base.Source`."""
        return OnnxModel(spec, threads)


class OnnxModel:
    """A graph on the processor, in float32 if nothing else is asked for.

    Args:
        spec: Its source is ``onnx:PATH``.
        threads: How many the engine may use; 0 leaves the choice to it.

    Raises:
        ModelError: If the file is missing, no ONNX model, or has several inputs, or if it takes no
            inputs of the spec's size.
        MissingExtraError: If the engine is not installed.
    """

    def __init__(self, spec: ModelSpec, threads: int = 0) -> None:
        self.path, recipe = Path(spec.text), spec.preprocessing
        self._session = open_session(
            f"model {spec.name!r}", self.path, spec.engine or OWN, spec.precision, threads
        )
        _check_shape(spec, self._session.shape)
        self.engine = self._session.engine
        self._shape = (1, *recipe.shape)
        self.fingerprint = run_print(graph_fingerprint(self.path), spec, OWN)

    @cached_property
    def macs(self) -> int | None:
        """Counted when asked for; None if onnx is not installed or the graph cannot be counted."""
        try:
            return graph_macs(self.path, self._shape)
        except (MissingExtraError, ModelError):
            return None

    @cached_property
    def parameters(self) -> int | None:
        """Counted when asked for; None if onnx is not installed."""
        try:
            return graph_parameters(self.path)
        except MissingExtraError:
            return None

    def at(self, spec: ModelSpec) -> OnnxModel:
        """See :class:`committee.models.base.Resizable`: the same session."""
        _check_shape(spec, self._session.shape)
        other = copy.copy(self)
        other._shape = (1, *spec.preprocessing.shape)
        other.__dict__.pop("macs", None)  # counted at the other size
        return other

    def __call__(self, batch: Array) -> Array:
        """See :class:`committee.models.base.Model`."""
        return self._session(batch)


def _check_shape(spec: ModelSpec, shape: Sequence[Any]) -> None:
    """Refuse a graph with fixed sides that are not those of the spec."""
    wanted = spec.preprocessing.shape
    fixed = [
        isinstance(side, int) and side != want
        for side, want in zip(shape[1:], wanted, strict=False)
    ]
    if len(shape) != len(wanted) + 1 or any(fixed):
        raise ModelError(
            f"model {spec.name!r}: the graph takes inputs {list(shape)}, not (N, "
            f"{', '.join(map(str, wanted))}). Give it that resolution and channels, or export it "
            "with dynamic height and width"
        )
