"""Records in exports: inputs of a graph, the columns that feed them, records to try it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import ExportError
from committee.models.graph import Port, Ports, declared, output_of
from committee.models.record_graph import blank_of
from committee.spec.model import ModelSpec
from committee.spec.record import Field, Record


@dataclass(frozen=True)
class RecordForm:
    """What a graph of records takes and gives."""

    inputs: Ports
    output: Port

    @property
    def rows(self) -> int | None:
        """The fixed number of samples; None for any number."""
        firsts = (port.shape[0] for port in self.inputs if port.shape)
        return next((side for side in firsts if isinstance(side, int)), None)


def record_form(spec: ModelSpec) -> RecordForm:
    """Return the form of a model of records, an ONNX file."""
    where = f"model {spec.name!r}"
    inputs, outputs = declared(where, Path(spec.text))
    return RecordForm(inputs, output_of(where, spec, outputs, dense=False))


def recipes_of(spec: ModelSpec) -> list[Record]:
    """Return what feeds each input of a model, in the order of its graph; models may share it."""
    unnamed = [Field("", f.columns, f.row, f.dtype) for f in spec.record.fields]
    return [Record((field,)) for field in unnamed]


def inputs_of_graph(
    specs: Mapping[str, ModelSpec], forms: Mapping[str, RecordForm]
) -> tuple[dict[Record, str], dict[Record, Port]]:
    """Return the inputs of one graph for all models: their names, and what they take.

    Raises:
        ExportError: If models take one column in different shapes.
    """
    ports: dict[Record, Port] = {}
    for name, spec in specs.items():
        for recipe, port in zip(recipes_of(spec), forms[name].inputs, strict=True):
            known = ports.setdefault(recipe, port)
            if _ranks(known) != _ranks(port):
                raise ExportError(
                    f"export: models take {port} and {known} of the same column, which one input "
                    "cannot feed. Export the models with the same shape"
                )
    names = [_name(recipe) for recipe in ports]
    if len(set(names)) < len(names):
        names = [f"{name}_{number}" for number, name in enumerate(names)]
    return dict(zip(ports, names, strict=True)), ports


def _ranks(port: Port) -> tuple[int, ...]:
    return () if port.shape is None else (len(port.shape),)


def _name(recipe: Record) -> str:
    (field,) = recipe.fields
    return "row" if field.row else next(iter(field.columns), "record")


def some_records(ports: Mapping[Record, Port], rows: int, seed: int | None) -> list[Any]:
    """Return records to try a graph on: noise by a seed, or zeros without one."""
    rng = None if seed is None else np.random.default_rng(seed)
    values = {recipe: _some(port, rows, rng) for recipe, port in ports.items()}
    return [_record(values, row) for row in range(rows)]


def _some(port: Port, rows: int, rng: np.random.Generator | None) -> Array:
    blank = np.repeat(blank_of(port), rows, axis=0)
    if rng is None or blank.dtype == object:
        return blank
    noise = rng.standard_normal(blank.shape)
    return noise.astype(blank.dtype) if blank.dtype.kind == "f" else (noise > 0).astype(blank.dtype)


def _record(values: Mapping[Record, Array], row: int) -> Any:
    record: dict[str, Any] = {}
    for recipe, array in values.items():
        (field,) = recipe.fields
        if not field.columns:
            return array[row]
        cells = array[row].ravel() if field.row else [array[row]]
        record |= dict(zip(field.columns, cells, strict=False))
    return record
