"""Multiply-adds: of ONNX graphs, from the shapes that one run shows, and of torch modules."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from committee.arrays import Array
from committee.errors import MissingExtraError, ModelError, needing
from committee.models.graph import parsed_graph
from committee.text import first_line

if TYPE_CHECKING:
    import onnx
    import torch

_Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

# Operators with multiply-adds, and which input holds their weights or second factors.
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
# Operators that hold multiply-adds which are not counted here.
_UNKNOWN = frozenset({"Einsum", "If", "Loop", "Scan", "LSTM", "GRU", "RNN", "DeformConv"})
# Types of inputs beside float32, as onnxruntime calls them.
_TYPES = {
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}


def graph_macs(path: Path, given: tuple[int, ...] | Mapping[str, Array]) -> int:
    """Return the multiply-adds of convolutions, matrix products and attention of a graph.

    The graph is run once on one sample: zeros of the shape of its only input, with the batch of 1,
    or the values given for each input.
    """
    model = parsed_graph(path)
    if len(model.functions):
        import onnx.inliner

        model = onnx.inliner.inline_local_functions(model)
    for node in model.graph.node:
        if node.op_type in _UNKNOWN or node.domain not in ("", "ai.onnx"):
            raise ModelError(
                f"{path}: multiply-adds of operator {node.op_type} cannot be counted; give "
                "costs.macs in the pool file"
            )
    nodes = [n for n in model.graph.node if n.op_type == "Attention" or n.op_type in _SECOND]
    shapes = _shapes(path, model, nodes, given) if nodes else {}
    return sum(_node_macs(path, node, shapes) for node in nodes)


def _graph_parameters(path: Path) -> int:
    """Return how many floating-point numbers a graph holds as constants of one axis or more."""
    graph = parsed_graph(path).graph
    import onnx

    return sum(
        prod(each.dims)
        for each in graph.initializer
        if each.dims
        and np.issubdtype(onnx.helper.tensor_dtype_to_np_dtype(each.data_type), np.floating)
    )


def _shapes(
    path: Path,
    model: onnx.ModelProto,
    nodes: list[Any],
    given: tuple[int, ...] | Mapping[str, Array],
) -> _Shapes:
    """Return the shapes of what some nodes take and give, as one run shows them."""
    with needing(f"Counting {path}", "onnxruntime", "onnx"):
        import onnx
        import onnxruntime
    weights = {each.name: tuple(each.dims) for each in model.graph.initializer}
    names = dict.fromkeys(name for n in nodes for name in (*n.input, *n.output[:1]) if name)
    wanted = [name for name in names if name not in weights]
    # The graph returns shapes only, so that no activation stays in memory longer than it must.
    del model.graph.output[:]
    for name in wanted:
        model.graph.node.append(onnx.helper.make_node("Shape", [name], [f"{name}.shape"]))
        model.graph.output.append(onnx.ValueInfoProto(name=f"{name}.shape"))
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
        feed = given
        if not isinstance(feed, Mapping):
            (taken,) = session.get_inputs()
            feed = {taken.name: np.zeros(feed, _TYPES.get(taken.type, np.float32))}
        shapes = session.run([f"{name}.shape" for name in wanted], dict(feed))
    except Exception as error:
        sides = [v.shape for v in given.values()] if isinstance(given, Mapping) else [given]
        raise ModelError(
            f"{path}: its multiply-adds are not known, for it does not run on zeros of "
            f"{', '.join(map(str, sides))} "
            f"({first_line(error)}); give costs.macs in the pool file"
        ) from None
    return {**weights, **{n: tuple(s.tolist()) for n, s in zip(wanted, shapes, strict=True)}}


def _node_macs(path: Path, node: onnx.NodeProto, shapes: _Shapes) -> int:
    if node.op_type == "Attention":
        return _attention(path, [shapes[name] for name in node.input[:3]])
    first, second = shapes[node.input[0]], shapes[node.input[_SECOND[node.op_type]]]
    if node.op_type == "ConvTranspose":
        # Each input meets all weights of its channel: (channels, channels out, height, width).
        return prod(first) * prod(second[1:])
    out = shapes[node.output[0]]
    if "Conv" in node.op_type:
        return prod(out) * prod(second[1:])  # (channels out, channels in, height, width)
    transposed = any(each.name == "transB" and each.i for each in node.attribute)
    return prod(out) * second[-1 if transposed else -2 if len(second) > 1 else 0]


def _attention(path: Path, shapes: list[tuple[int, ...]]) -> int:
    """Count queries by keys, then weights by values, both (batch, heads, length, width)."""
    query, key, value = shapes
    if len(query) != 4:
        raise ModelError(
            f"{path}: multiply-adds of operator Attention with inputs of {len(query)} axes cannot "
            "be counted; give costs.macs in the pool file"
        )
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def torch_macs(module: torch.nn.Module, shape: tuple[int, ...]) -> int:
    """Return the multiply-adds of matrix products, convolutions and attention.

    Torch's own counter counts them on torch's meta device, where fused attention is seen too.
    Additions of biases, normalisation and activations are not counted, as in the literature.
    ``shape`` is the input's, with the batch of 1; the module is left as it is.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    functional = torch.nn.functional
    batch_norm = functional.batch_norm
    names = ("hardtanh", "relu6", "hardswish", "hardsigmoid", "leaky_relu", "elu")
    activations = [getattr(functional, name) for name in names]

    class QuickShapes(torch.overrides.TorchFunctionMode):
        """Answers for batch norm and activations, which take milliseconds on the meta device."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if func in activations and args:
                return torch.empty_like(args[0])
            if func is batch_norm and not kwargs.get("training") and args[1] is not None:
                given, mean = args[:2]
                if given.ndim > 1 and given.shape[1:2] == mean.shape:
                    return torch.empty_like(given)
            return func(*args, **kwargs)

    named = (*module.named_parameters(), *module.named_buffers())
    on_meta = {name: value.detach().to("meta") for name, value in named}
    # While training, batch norm refuses a map of one pixel.
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.inference_mode(), QuickShapes(), FlopCounterMode(display=False) as counter:
            torch.func.functional_call(module, on_meta, torch.zeros(shape, device="meta"))
    finally:
        for part in training:
            part.training = True
    # torch counts a multiplication and an addition as two.
    return int(counter.get_total_flops()) // 2


class CountedGraph:
    """What an ONNX file states of its size; ``_counted`` is its multiply-adds, or why not."""

    path: Path

    @cached_property
    def _counted(self) -> tuple[int | None, str]:
        raise NotImplementedError

    @property
    def macs(self) -> int | None:
        """Counted at first use; None if the graph cannot be counted."""
        return self._counted[0]

    @property
    def macs_unknown(self) -> str:
        """Why multiply-adds are not known; empty if they are."""
        return self._counted[1]

    @cached_property
    def parameters(self) -> int | None:
        """Counted at first use; None if onnx is not installed."""
        try:
            return _graph_parameters(self.path)
        except MissingExtraError:
            return None
