"""Multiply-adds and parameters of an ONNX graph, counted from shapes without computing anything."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from committee.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    import onnx

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

# Operators with multiply-adds, and where their weights or second factors stand.
_SECOND = {
    "Conv": 1,
    "ConvInteger": 1,
    "ConvTranspose": 1,
    "QLinearConv": 3,
    "Gemm": 1,
    "MatMul": 1,
    "MatMulInteger": 1,
    "QLinearMatMul": 3,
}
# Operators that hold multiply-adds of which this counter knows nothing.
_UNKNOWN = frozenset({"Einsum", "If", "Loop", "Scan", "LSTM", "GRU", "RNN", "DeformConv"})


def graph_macs(path: Path, shape: tuple[int, ...]) -> int:
    """Count the multiply-adds of convolutions, matrix products and attention of a graph.

    Args:
        path: An ONNX file with one input.
        shape: Shape of the input, the batch of 1 included.

    Raises:
        ModelError: If the graph holds an operator that cannot be counted, or shapes that cannot
            be inferred.
        MissingExtraError: If onnx is not installed.
    """
    onnx = _onnx(path)
    model = onnx.load(str(path), load_external_data=False)
    shapes = _inferred(onnx, model, shape)
    total = 0
    for node in model.graph.node:
        if node.op_type in _UNKNOWN or node.domain not in ("", "ai.onnx"):
            raise ModelError(
                f"{path}: multiply-adds of operator {node.op_type} cannot be counted; give "
                "costs.macs in the pool file"
            )
        total += _of_node(path, node, shapes)
    return total


def graph_parameters(path: Path) -> int:
    """Count the floating-point numbers that a graph holds as constants of one axis or more.

    Raises:
        MissingExtraError: If onnx is not installed.
    """
    onnx = _onnx(path)
    graph = onnx.load(str(path), load_external_data=False).graph
    kept = [each for each in graph.initializer if each.dims and _is_float(onnx, each.data_type)]
    return sum(prod(each.dims) for each in kept)


def _onnx(path: Path) -> Any:
    try:
        import onnx
        import onnx.inliner
        import onnx.shape_inference
    except ImportError:
        raise MissingExtraError.of(f"Counting {path}", "onnx", "onnx") from None
    return onnx


def _is_float(onnx: Any, kind: int) -> bool:
    return bool(np.issubdtype(onnx.helper.tensor_dtype_to_np_dtype(kind), np.floating))


def _inferred(onnx: Any, model: onnx.ModelProto, shape: tuple[int, ...]) -> Shapes:
    """The shape of every value whose shape can be inferred, for one shape of the input."""
    given = model.graph.input[0].type.tensor_type.shape
    given.ClearField("dim")
    for side in shape:
        given.dim.add().dim_value = side
    # What the file says of other values holds for the shapes that it was exported with.
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    if len(model.functions):
        model = onnx.inliner.inline_local_functions(model)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in values
        if all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)
    }
    constants = {each.name: tuple(each.dims) for each in inferred.initializer}
    held = {
        node.output[0]: tuple(attribute.t.dims)
        for node in inferred.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }
    return {**shapes, **constants, **held}


def _of_node(path: Path, node: onnx.NodeProto, shapes: Shapes) -> int:
    try:
        if node.op_type == "Attention":
            return _attention(node, shapes)
        if node.op_type not in _SECOND:
            return 0
        second = shapes[node.input[_SECOND[node.op_type]]]
        if node.op_type == "ConvTranspose":
            # Each input meets all weights of its channel: (channels, channels out, height, width).
            return prod(shapes[node.input[0]]) * prod(second[1:])
        out = shapes[node.output[0]]
        if "Conv" in node.op_type:
            return prod(out) * prod(second[1:])  # (channels out, channels in, height, width)
        transposed = any(each.name == "transB" and each.i for each in node.attribute)
        return prod(out) * second[-1 if transposed else -2 if len(second) > 1 else 0]
    except KeyError as error:
        raise ModelError(
            f"{path}: the shape of {error} at {node.op_type} {node.name!r} cannot be inferred; "
            "give costs.macs in the pool file"
        ) from None


def _attention(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Queries by keys, then weights by values, both (batch, heads, length, width)."""
    query, key, value = (shapes[name] for name in node.input[:3])
    if len(query) != 4:
        raise KeyError(node.input[0])
    pairs = prod(query[:-1]) * key[-2]
    return pairs * (query[-1] + value[-1])
