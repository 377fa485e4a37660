"""ONNX graphs of records: inputs of any shape and type, each fed by a column or a row of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import MissingExtraError, ModelError, PoolFileError, UnknownNameError
from committee.models.base import check_file
from committee.models.graph import (
    Port,
    Ports,
    declared,
    graph_fingerprint,
    onnxruntime_session,
    output_of,
)
from committee.models.inputs import RawSamples, fitted
from committee.models.records import RecordBatch
from committee.models.records import fed as fed_values
from committee.profile.macs import CountedGraph, graph_macs
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing
from committee.spec.recipe import Recipe
from committee.spec.record import DTYPES, Field, Record
from committee.text import listed

_TEXT = "string"


def record_of(inputs: Ports, columns: Any) -> Record:
    """Return what a graph takes of a record.

    Args:
        inputs: What the graph declares.
        columns: ``input`` of a pool file: columns, by input if there are several. None takes for
            each of several inputs the column of its name.
    """
    ports = {port.name: port for port in inputs}
    if columns is None and len(ports) > 1:
        columns = {name: name for name in ports}
    if not isinstance(columns, Mapping):
        if len(ports) != 1:
            example = ", ".join(f'{name} = "{name}"' for name in ports)
            raise PoolFileError(
                f"the graph takes {', '.join(map(str, inputs))}. Say which column each takes, as "
                f"in input = {{ {example} }}"
            )
        (given,) = Record.of(columns).fields
        return Record((_typed(inputs[0], given, ""),))
    for name in columns:
        if name not in ports:
            raise UnknownNameError.of("input", "input of the graph", name, ports)
    lacking = [name for name in ports if name not in columns]
    if lacking:
        raise PoolFileError(f"input: says nothing of the graph's {listed(lacking)}")
    named = {field.name: field for field in Record.of(columns).fields}
    return Record(tuple(_typed(port, named[name], name) for name, port in ports.items()))


def _typed(port: Port, field: Field, name: str) -> Field:
    if port.dtype != _TEXT and port.dtype not in DTYPES:
        raise PoolFileError(
            f"the graph takes {port}; a record can give {_TEXT}, {', '.join(DTYPES)}"
        )
    return Field(name, field.columns, field.row, "" if port.dtype == _TEXT else port.dtype)


def blank_of(port: Port) -> Array:
    """Return one blank record for an input, (1, ...); sides that may vary have length 1."""
    sides = [side if isinstance(side, int) else 1 for side in (port.shape or (1,))[1:]]
    if port.dtype == _TEXT:
        return np.full((1, *sides), "", object)
    return np.zeros((1, *sides), port.dtype)


def _fed(port: Port, values: Any) -> Array:
    """Return the values of N records as an input takes them."""
    return fed_values(values, "" if port.dtype == _TEXT else port.dtype, port.shape)


# What onnxruntime calls types, by NumPy's names.
_OF_SESSIONS = {"tensor(float)": "float32", "tensor(double)": "float64"}


def fed_graph(
    samples: Callable[[Recipe], RawSamples], inputs: Mapping[str, Recipe], session: Any
) -> dict[str, Array]:
    """Return what a cascade that is one graph takes of N samples, by the names of its inputs.

    ``samples`` returns those that a recipe can be applied to.
    """
    ports = {each.name: _port(each) for each in session.get_inputs()}
    return {name: _prepared(ports[name], samples(r), r) for name, r in inputs.items()}


def _prepared(port: Port, samples: RawSamples, recipe: Recipe) -> Array:
    if isinstance(recipe, Record):
        return _fed(port, RecordBatch.of(samples, recipe).value())
    assert isinstance(recipe, Preprocessing)
    return fitted(samples, recipe)


def _port(declared_by_session: Any) -> Port:
    kind = str(declared_by_session.type)
    dtype = _OF_SESSIONS.get(kind, kind.removeprefix("tensor(").removesuffix(")"))
    return Port(declared_by_session.name, dtype, tuple(declared_by_session.shape))


class RecordGraph(CountedGraph):
    """A graph of records, run by onnxruntime."""

    keeps_input = True

    def __init__(self, spec: ModelSpec, threads: int = 0) -> None:
        where, self.path = f"model {spec.name!r}", Path(spec.text)
        check_file(where, self.path)
        self._session = onnxruntime_session(where, self.path, threads)
        import onnxruntime  # after the line that says what is missing

        self.engine = f"onnxruntime {onnxruntime.__version__}"
        self.fingerprint = graph_fingerprint(self.path)
        self._inputs, outputs = declared(where, self.path)
        self.output = output_of(where, spec, outputs, dense=False)
        names = [field.name for field in spec.record.fields]
        if names != [port.name for port in self._inputs] and (names, len(self._inputs)) != (
            [""],
            1,
        ):
            raise ModelError(
                f"{where}: {self.takes}, and was chosen with {listed(names)}. Predict and search "
                "again"
            )
        firsts = {port.shape[0] for port in self._inputs if port.shape}
        self._rows = next((side for side in firsts if isinstance(side, int)), None)

    @property
    def takes(self) -> str:
        """What the graph declares of its inputs, for errors."""
        return f"the graph takes {', '.join(map(str, self._inputs))}"

    @property
    def blank(self) -> RecordBatch:
        """One blank record."""
        parts = {port.name: blank_of(port) for port in self._inputs}
        return RecordBatch(parts if len(parts) > 1 else {"": next(iter(parts.values()))})

    @cached_property
    def _counted(self) -> tuple[int | None, str]:
        varying = [p for p in self._inputs if any(isinstance(s, str) for s in (p.shape or "?")[1:])]
        if varying:
            shown = ", ".join(map(str, varying))
            return None, f"its input {shown} may vary; give costs.macs in the pool file"
        blank = {port.name: blank_of(port) for port in self._inputs}
        try:
            macs = graph_macs(self.path, blank)
            return (
                (macs, "") if macs else (None, f"{self.path} has none; give costs of another unit")
            )
        except (MissingExtraError, ModelError) as error:
            return None, str(error)

    def __call__(self, batch: Any) -> Array:
        """See :class:`committee.models.base.Model`."""
        parts = batch if isinstance(batch, Mapping) else {self._inputs[0].name: batch}
        feed = {port.name: _fed(port, parts[port.name]) for port in self._inputs}
        answer = self._run(feed)
        return answer.astype(np.float32, copy=False) if answer.dtype.kind == "f" else answer

    def _run(self, feed: Mapping[str, Array]) -> Array:
        count = len(next(iter(feed.values())))
        if self._rows is None or self._rows == count:
            return self._answer(feed)
        parts = [
            self._answer({name: _filled(v, start, self._rows) for name, v in feed.items()})
            for start in range(0, count, self._rows)
        ]
        return np.concatenate(parts)[:count]

    def _answer(self, feed: Mapping[str, Array]) -> Array:
        answer: Array = self._session.run([self.output.name], dict(feed))[0]
        return answer


def _filled(values: Array, start: int, rows: int) -> Array:
    """Return a fixed number of rows, the last one repeated where there are fewer."""
    part = values[start : start + rows]
    return np.concatenate([part, np.repeat(part[-1:], rows - len(part), axis=0)])
