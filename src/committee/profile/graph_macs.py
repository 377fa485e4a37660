"""Multiply-adds and parameters of an ONNX graph, counted from shapes.

Shapes are inferred; where nodes compute them, of constants or of other shapes, one run shows them.
"""

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
# Types of inputs beside float32, as onnxruntime calls them.
_RUN_TYPES = {
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
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
    if len(model.functions):
        model = onnx.inliner.inline_local_functions(model)
    for node in model.graph.node:
        if node.op_type in _UNKNOWN or node.domain not in ("", "ai.onnx"):
            raise ModelError(
                f"{path}: multiply-adds of operator {node.op_type} cannot be counted; give "
                "costs.macs in the pool file"
            )
    try:
        shapes = _inferred(onnx, model, shape)
        return sum(_of_node(path, node, shapes) for node in model.graph.node)
    except ModelError:
        # Shapes that nodes compute of other shapes are seen by who runs them.
        shapes = _traced(onnx, path, model, shape)
        return sum(_of_node(path, node, shapes) for node in model.graph.node)


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
    given = _input(model).type.tensor_type.shape
    given.ClearField("dim")
    for side in shape:
        given.dim.add().dim_value = side
    # What the file says of other values holds for the shapes that it was exported with.
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except onnx.shape_inference.InferenceError:
        inferred = model.graph
    return {**_shapes_of(inferred), **_constants(inferred)}


def _input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The input that is fed: old files list their weights as inputs too."""
    weights = {each.name for each in model.graph.initializer}
    return next(each for each in model.graph.input if each.name not in weights)


def _shapes_of(inferred: onnx.GraphProto) -> Shapes:
    """The shapes that a graph tells of its values, where all sides are known."""
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    # A value of unknown rank has no shape at all, and not that of a single number.
    tensors = {value.name: value.type.tensor_type for value in values}
    return {
        name: tuple(dim.dim_value for dim in tensor.shape.dim)
        for name, tensor in tensors.items()
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)
    }


def _constants(inferred: onnx.GraphProto) -> Shapes:
    constants = {each.name: tuple(each.dims) for each in inferred.initializer}
    held = {
        node.output[0]: tuple(attribute.t.dims)
        for node in inferred.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }
    return {**constants, **held}


def _traced(onnx: Any, path: Path, model: onnx.ModelProto, shape: tuple[int, ...]) -> Shapes:
    """The shape of every value that is needed, as one run on zeros shows it.

    Raises:
        ModelError: If the graph does not run.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError.of(f"Counting {path}", "onnxruntime", "onnx") from None
    known = _constants(model.graph)
    counted = [n for n in model.graph.node if n.op_type == "Attention" or n.op_type in _SECOND]
    names = dict.fromkeys(name for n in counted for name in (*n.input, *n.output[:1]) if name)
    wanted = [name for name in names if name not in known and name != _input(model).name]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Tensors beside the file are looked for where the file is.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path.parent)
    )
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        (given,) = session.get_inputs()
        zeros = np.zeros(shape, _RUN_TYPES.get(given.type, np.float32))
        values = session.run(wanted, {given.name: zeros})
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{path}: its shapes cannot be inferred, and it does not run on zeros of {shape} "
            f"({reason}); give costs.macs in the pool file"
        ) from None
    ran = {name: value.shape for name, value in zip(wanted, values, strict=True)}
    return {**known, given.name: shape, **ran}


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
