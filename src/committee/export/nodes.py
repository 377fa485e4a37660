"""Nodes of an ONNX graph, written one after the other; names are unique by their scope."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto


class Nodes:
    """The nodes and constants of one graph or of one branch of it.

    Args:
        scope: What all names made here begin with.
    """

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._made = 0

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Append a node; the name of its output, the first if it has several."""
        return self.several(operator, *inputs, outputs=outputs, **attributes)[0]

    def several(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Append a node; the names of its outputs."""
        from onnx import helper

        name = self._name(operator)
        made = [f"{name}.{each}" if each else name for each in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, made, name=name, **attributes))
        return made

    def constant(self, values: ArrayLike, dtype: Any) -> str:
        """A tensor that never changes."""
        from onnx import numpy_helper

        name = self._name("constant")
        self.initializers.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        """A list of integers, as axes and shapes are given."""
        return self.constant(list(values), np.int64)

    def embed(self, graph: GraphProto, prefix: str, source: str) -> str:
        """Append all nodes of a model's graph, with weights of its own.

        A self-cascade could share the weights of the graph around it, but onnxruntime optimises
        only what stands in the branch itself.

        Args:
            graph: One input that is no initializer; names are made unique by the prefix.
            prefix: What its names begin with from now on.
            source: The tensor that it works on.

        Returns:
            The name of its first output.
        """
        weights = {tensor.name for tensor in graph.initializer}
        (given,) = (each.name for each in graph.input if each.name not in weights)

        def renamed(name: str) -> str:
            if name == given:
                return source
            return f"{prefix}{name}" if name else ""

        for tensor in graph.initializer:
            self.initializers.append(_copied(tensor))
            self.initializers[-1].name = renamed(tensor.name)
        for node in graph.node:
            self.nodes.append(_copied(node))
            # What an exporter notes about each node is longer than the node.
            self.nodes[-1].ClearField("doc_string")
            if "metadata_props" in node.DESCRIPTOR.fields_by_name:
                self.nodes[-1].ClearField("metadata_props")
            _rename_node(self.nodes[-1], renamed)
        return renamed(graph.output[0].name)

    def graph(self, name: str, inputs: list[Any], outputs: list[Any]) -> GraphProto:
        """Everything as one graph."""
        from onnx import helper

        return helper.make_graph(self.nodes, name, inputs, outputs, self.initializers)

    def _name(self, what: str) -> str:
        self._made += 1
        return f"{self.scope}{what}.{self._made}"


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
