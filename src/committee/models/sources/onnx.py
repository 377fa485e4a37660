"""``onnx:PATH``: a graph of images with one input, or of records with any number.

Of several outputs one is taken, by its name.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from committee.arrays import Array
from committee.errors import MissingExtraError, ModelError
from committee.models.base import Model, Source, check_file
from committee.models.graph import Session, graph_fingerprint, ports_of, preprocessing_of
from committee.models.record_graph import RecordGraph, record_of
from committee.paths import expanded
from committee.profile.macs import CountedGraph, graph_macs
from committee.spec.model import ModelSpec
from committee.spec.record import Record


class OnnxSource(Source):
    """A file with a graph."""

    form = "onnx:PATH"
    engines = ("onnxruntime",)
    choices = ("layout", "output")

    def located(self, text: str, folder: Path) -> str:
        """See :class:`committee.models.base.Source`."""
        if not text:
            raise ValueError
        return str(expanded(text, folder))

    def published(self, text: str, size: tuple[int, int] | None) -> Mapping[str, Any]:
        """Return the size and the channels that the graph fixes."""
        try:
            return preprocessing_of(ports_of(Path(text))[0])
        except (OSError, ValueError):
            return {}  # whoever loads the file says what is wrong with it

    def record(self, text: str, columns: Any, dtype: Any) -> Record:
        """Return the columns in the types that the graph declares."""
        try:
            inputs = ports_of(Path(text))[0]
        except (OSError, ValueError):
            return Record.of(columns, dtype)  # whoever loads the file says what is wrong with it
        return record_of(inputs, columns)

    def peek(self, spec: ModelSpec, allow_code: Collection[str]) -> str:
        """See :class:`committee.models.base.Identified`."""
        path = Path(spec.text)
        check_file(f"model {spec.name!r}", path)
        return graph_fingerprint(path)

    def load(self, spec: ModelSpec, threads: int, allow_code: Collection[str]) -> Model:
        """See :class:`committee.models.base.Source`."""
        return RecordGraph(spec, threads) if spec.does.records else OnnxModel(spec, threads)


class OnnxModel(CountedGraph):
    """A graph, run by onnxruntime; raises as :class:`~committee.models.graph.Session`."""

    keeps_input = True

    def __init__(self, spec: ModelSpec, threads: int = 0) -> None:
        self.path = Path(spec.text)
        self._session, self._spec = Session(spec, self.path, threads), spec
        self.engine = self._session.engine
        self.fingerprint = graph_fingerprint(self.path)

    @property
    def takes(self) -> str:
        """What the graph declares of its input and its output, for errors."""
        return f"the graph takes {self._session.form.input}, gives {self._session.form.output}"

    @cached_property
    def _counted(self) -> tuple[int | None, str]:
        form = self._session.form
        try:
            macs = graph_macs(self.path, form.shape(self._spec.preprocessing.shape))
            return macs // (form.rows or 1), ""
        except (MissingExtraError, ModelError) as error:
            return None, str(error)

    def at(self, spec: ModelSpec) -> OnnxModel:
        """See :class:`committee.models.load._Resizable`: the same session."""
        other = copy.copy(self)
        other._session, other._spec = self._session.at(spec), spec
        other.__dict__.pop("_counted", None)  # counted at the other size
        return other

    def __call__(self, batch: Array) -> Array:
        """See :class:`committee.models.base.Model`."""
        return self._session(batch)
