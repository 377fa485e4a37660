"""Rewrite graphs to the form that all exports run: float32, channels first, one output (N, C)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from committee.errors import ExportError
from committee.models.engines.session import declared
from committee.models.graph import Form, Port, form_of
from committee.spec.model import ModelSpec

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

_INPUT, _OUTPUT = "committee.input", "committee.output"


def export_form(spec: ModelSpec, *, several: bool = False) -> Form:
    """Return the form of a model's inputs and outputs.

    Args:
        spec: A model whose source is an ONNX file.
        several: True if the export runs several samples at a time.

    Raises:
        ExportError: If the graph takes another number of samples than the export feeds it.
        ModelError: If the model cannot be run with the graph.
    """
    from committee.export.model_files import onnx_path

    where, path = f"model {spec.name!r}", onnx_path(spec)
    form = form_of(where, spec, *declared(where, path))
    if form.rows is not None and (several or form.rows != 1):
        choice = ", or choose form='one' (--form one)" if form.rows == 1 else ""
        raise ExportError(
            f"export: {where} takes {form.rows} image(s) at a time: the graph takes "
            f"{form.input}. Export it with a dynamic batch{choice}"
        )
    return form


def canonical(model: ModelProto, form: Form) -> ModelProto:
    """Return a model whose graph takes prepared inputs and gives outputs to combine.

    Args:
        model: The model, which is not changed.
        form: Its form; see :func:`export_form`.
    """
    if _is_canonical(model.graph, form):
        return model
    copy = type(model)()
    copy.CopyFrom(model)
    _feed(copy.graph, form)
    _read(copy.graph, form)
    return copy


def _is_canonical(graph: GraphProto, form: Form) -> bool:
    output = form.output
    first = graph.output[0].name == output.name and output.dtype == "float32"
    flat = form.dense or output.shape is None or len(output.shape) == 2
    return form.input.dtype == "float32" and not form.last and first and flat


def _feed(graph: GraphProto, form: Form) -> None:
    """Give the graph one input of float32, channels first."""
    from onnx import TensorProto, helper

    port = form.input
    sides = list(port.shape or ())
    shape_of_input = [sides[0], sides[-1], *sides[1:-1]] if form.last else sides
    nodes = _Chain(graph, _INPUT)
    if form.last:
        nodes.add("Transpose", perm=[0, *range(2, len(sides)), 1])
    if form.scale is not None:
        nodes.add("Mul", nodes.constant(np.float32(form.scale)))
        nodes.add("Add", nodes.constant(np.float32(0.5)))
        nodes.add("Floor")
    nodes.add("Cast", to=_type(port.dtype))
    nodes.end(port.name)
    others = [each for each in graph.input if each.name != port.name]
    del graph.input[:]
    shape = shape_of_input if port.shape is not None else None
    graph.input.append(helper.make_tensor_value_info(_INPUT, TensorProto.FLOAT, shape))
    graph.input.extend(others)
    before = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes.made, *before])


def _read(graph: GraphProto, form: Form) -> None:
    """Give the graph one output of float32 with one axis for its classes."""
    from onnx import TensorProto, helper

    port, nodes = form.output, _Chain(graph, form.output.name)
    if form.dense and form.last:
        nodes.add("Transpose", perm=[0, 3, 1, 2])
    elif not form.dense and port.shape is not None and len(port.shape) > 2:
        nodes.add("Flatten", axis=1)
    nodes.add("Cast", to=TensorProto.FLOAT)
    nodes.end(_OUTPUT)
    graph.node.extend(nodes.made)
    del graph.output[:]
    made = helper.make_tensor_value_info(_OUTPUT, TensorProto.FLOAT, _shape(port, form))
    graph.output.append(made)


def _shape(port: Port, form: Form) -> list[int | str] | None:
    if form.dense or port.shape is None:
        return None
    sides = [side for side in port.shape[1:] if side != 1]
    return [port.shape[0], *(sides or [1])]


class _Chain:
    """A chain of nodes; each takes the output of the previous one."""

    def __init__(self, graph: GraphProto, first: str) -> None:
        self._graph, self._last = graph, first
        self.made: list[Any] = []

    def add(self, operator: str, *others: str, **attributes: Any) -> None:
        from onnx import helper

        name = f"committee.{self._last.removeprefix('committee.')}.{operator}"
        made = helper.make_node(operator, [self._last, *others], [name], name=name, **attributes)
        self.made.append(made)
        self._last = name

    def constant(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"{self._last}.by"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def end(self, name: str) -> None:
        """Name the output of the last node."""
        self.made[-1].output[0] = name


def _type(dtype: str) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
