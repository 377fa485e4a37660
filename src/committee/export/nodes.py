"""Nodes of an ONNX graph, written one after the other, with names that are unique."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, NodeProto, TensorProto

# Where functions of a graph are at home.
FUNCTIONS = "committee.models"


class Nodes:
    """The nodes and constants of one graph or of one branch; all names begin with its scope."""

    def __init__(self, scope: str) -> None:
        import onnx

        self._onnx, self.scope = onnx, scope
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._made = 0

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Append a node; return the name of its first output."""
        return self.several(operator, *inputs, outputs=outputs, **attributes)[0]

    def several(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Append a node; return the names of its outputs."""
        name = self._name(operator)
        made = [f"{name}.{each}" if each else name for each in range(outputs)]
        make = self._onnx.helper.make_node
        self.nodes.append(make(operator, inputs, made, name=name, **attributes))
        return made

    def constant(self, values: ArrayLike, dtype: Any) -> str:
        """Append a constant; return its name."""
        name, made = self._name("constant"), np.asarray(values, dtype)
        self.initializers.append(self._onnx.numpy_helper.from_array(made, name))
        return name

    def ints(self, *values: int) -> str:
        """Append a list of integers, such as axes or a shape; return its name."""
        return self.constant(list(values), np.int64)

    def embed(self, graph: GraphProto, prefix: str, *sources: str) -> str:
        """Append all nodes of a model's graph, with its weights; return its first output."""
        given = dict(zip(_inputs(graph), sources, strict=True))

        def renamed(name: str) -> str:
            return given.get(name) or (f"{prefix}{name}" if name else "")

        for tensor in graph.initializer:
            self.initializers.append(_copied(tensor))
            self.initializers[-1].name = renamed(tensor.name)
        for node in graph.node:
            self.nodes.append(_bare(node))
            _rename_node(self.nodes[-1], renamed)
        return renamed(graph.output[0].name)

    def call(self, function: str, prefix: str, *sources: str) -> str:
        """Append a call of a function that :func:`function_of` made; return its output."""
        made, name = f"{prefix}outputs", f"{prefix}call"
        make = self._onnx.helper.make_node
        self.nodes.append(make(function, [*sources], [made], name=name, domain=FUNCTIONS))
        return made

    def graph(self, name: str, inputs: list[Any], outputs: list[Any]) -> GraphProto:
        """Return everything as one graph."""
        return self._onnx.helper.make_graph(self.nodes, name, inputs, outputs, self.initializers)

    def _name(self, what: str) -> str:
        self._made += 1
        return f"{self.scope}{what}.{self._made}"


def function_of(graph: GraphProto, name: str, opsets: Sequence[Any]) -> FunctionProto:
    """Return a model's graph as a function, for models that are one set of weights.

    A runtime replaces each call by a copy, weights included, and optimises it there; in the file
    the weights stand once. Weights of the graph around the branches would also stand once, but
    onnxruntime optimises only what is in the branch itself.
    """
    from onnx import helper

    weights = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in graph.initializer
    ]
    return helper.make_function(
        FUNCTIONS,
        name,
        _inputs(graph),
        [graph.output[0].name],
        [*weights, *map(_bare, graph.node)],
        opsets,
    )


def _inputs(graph: GraphProto) -> list[str]:
    weights = {tensor.name for tensor in graph.initializer}
    return [str(each.name) for each in graph.input if each.name not in weights]


def _bare(node: NodeProto) -> NodeProto:
    """Return a copy without the notes of an exporter, which are longer than the node."""
    copy: NodeProto = _copied(node)
    copy.ClearField("doc_string")
    if "metadata_props" in node.DESCRIPTOR.fields_by_name:
        copy.ClearField("metadata_props")
    return copy


def _copied(proto: Any) -> Any:
    copy = type(proto)()
    copy.CopyFrom(proto)
    return copy


def _rename_node(node: NodeProto, renamed: Callable[[str], str]) -> None:
    node.name = renamed(node.name)
    node.input[:] = [renamed(name) for name in node.input]
    node.output[:] = [renamed(name) for name in node.output]
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            _rename_branch(graph, renamed)


def _rename_branch(graph: GraphProto, renamed: Callable[[str], str]) -> None:
    """Rename inside a branch of a model's own If, Loop or Scan."""
    del graph.value_info[:]
    for each in (*graph.input, *graph.output, *graph.initializer):
        each.name = renamed(each.name)
    for node in graph.node:
        _rename_node(node, renamed)


def onnx_type(dtype: Any) -> int:
    """Return the number that ONNX has for a type of NumPy."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
