"""Rewrite graphs to the form that all exports run: float32, channels first, one output (N, C)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from committee.errors import ExportError
from committee.export.nodes import Nodes, onnx_type
from committee.export.record_inputs import RecordForm
from committee.models.graph import Form, Port, declared, form_of, output_of
from committee.spec.model import ModelSpec

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

_INPUT, _OUTPUT = "committee.input", "committee.output"


def export_form(spec: ModelSpec, *, several: bool = False) -> Form | RecordForm:
    """Return the form of a model's inputs and outputs."""
    where, path = f"model {spec.name!r}", Path(spec.text)
    form: Form | RecordForm
    if spec.does.records:
        form = _record_form(spec)
        takes = ", ".join(map(str, form.inputs))
    else:
        form = form_of(where, spec, *declared(where, path))
        takes = str(form.input)
    if form.rows is not None and (several or form.rows != 1):
        choice = ", or choose form='one' (--form one)" if form.rows == 1 else ""
        raise ExportError(
            f"export: {where} takes {form.rows} {spec.does.sample}(s) at a time: the graph takes "
            f"{takes}. Export it with a dynamic batch{choice}"
        )
    return form


def _record_form(spec: ModelSpec) -> RecordForm:
    """Return the form of a model of records, an ONNX file."""
    where = f"model {spec.name!r}"
    inputs, outputs = declared(where, Path(spec.text))
    return RecordForm(inputs, output_of(where, spec, outputs, dense=False))


def canonical(model: ModelProto, form: Form | RecordForm) -> ModelProto:
    """Return a copy of a model whose graph takes prepared inputs and gives outputs to combine."""
    if _is_canonical(model.graph, form):
        return model
    copy = type(model)()
    copy.CopyFrom(model)
    if isinstance(form, Form):
        _feed(copy.graph, form)
    _read(copy.graph, form)
    return copy


def _is_canonical(graph: GraphProto, form: Form | RecordForm) -> bool:
    output = form.output
    first = graph.output[0].name == output.name and output.dtype == "float32"
    if isinstance(form, RecordForm):
        return first and len(output.shape or ()) == 2
    flat = form.dense or output.shape is None or len(output.shape) == 2
    return form.input.dtype == "float32" and not form.last and first and flat


def _feed(graph: GraphProto, form: Form) -> None:
    """Give the graph one input of float32, channels first."""
    from onnx import TensorProto, helper

    port = form.input
    sides = list(port.shape or ())
    shape_of_input = [sides[0], sides[-1], *sides[1:-1]] if form.last else sides
    nodes, last = Nodes(f"{_INPUT}."), _INPUT
    if form.last:
        last = nodes.add("Transpose", last, perm=[0, *range(2, len(sides)), 1])
    if form.scale is not None:
        last = nodes.add("Mul", last, nodes.constant(form.scale, np.float32))
        last = nodes.add("Add", last, nodes.constant(0.5, np.float32))
        last = nodes.add("Floor", last)
    nodes.add("Cast", last, to=onnx_type(port.dtype))
    nodes.nodes[-1].output[0] = port.name
    graph.initializer.extend(nodes.initializers)
    others = [each for each in graph.input if each.name != port.name]
    del graph.input[:]
    shape = shape_of_input if port.shape is not None else None
    graph.input.append(helper.make_tensor_value_info(_INPUT, TensorProto.FLOAT, shape))
    graph.input.extend(others)
    before = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes.nodes, *before])


def _read(graph: GraphProto, form: Form | RecordForm) -> None:
    """Give the graph one output of float32 with one axis for its classes."""
    from onnx import TensorProto, helper

    port, nodes, last = form.output, Nodes(f"{_OUTPUT}."), form.output.name
    dense = isinstance(form, Form) and form.dense
    if isinstance(form, Form) and form.dense and form.last:
        last = nodes.add("Transpose", last, perm=[0, 3, 1, 2])
    elif not dense and port.shape is not None and len(port.shape) > 2:
        last = nodes.add("Flatten", last, axis=1)
    nodes.add("Cast", last, to=TensorProto.FLOAT)
    nodes.nodes[-1].output[0] = _OUTPUT
    graph.node.extend(nodes.nodes)
    del graph.output[:]
    shape = None if dense else _shape(port)
    graph.output.append(helper.make_tensor_value_info(_OUTPUT, TensorProto.FLOAT, shape))


def _shape(port: Port) -> list[int | str] | None:
    if port.shape is None:
        return None
    sides = [side for side in port.shape[1:] if side != 1]
    return [port.shape[0], *(sides or [1])]
