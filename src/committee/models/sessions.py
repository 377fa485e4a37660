"""Sessions: an ONNX graph on the processor, run by onnxruntime or by OpenVINO."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from committee.errors import MissingExtraError, ModelError
from committee.predictions import Array

OWN = "onnxruntime"
# What OpenVINO calls the precisions. It takes bf16 by itself where the processor has it.
_OPENVINO_PRECISIONS = {"float32": "f32", "bf16": "bf16"}


class Session(Protocol):
    """A graph that is ready to run."""

    engine: str
    """What runs it, with its version."""

    shape: Sequence[Any]
    """Shape of its input; sides that may differ are no integers."""

    def __call__(self, batch: Array) -> Array:
        """Run it on a batch."""


def open_session(where: str, path: Path, engine: str, precision: str, threads: int) -> Session:
    """Open a graph.

    Args:
        where: Whose it is, for errors.
        path: The ONNX file.
        engine: ``onnxruntime`` or ``openvino``.
        precision: ``float32``, or ``bf16`` if the engine has it.
        threads: How many it may use; 0 leaves the choice to the engine.

    Raises:
        ModelError: If the file is missing, no graph, or has several inputs.
        MissingExtraError: If the engine is not installed.
    """
    if not path.is_file():
        raise ModelError(f"{where}: no file {path}")
    if engine == "openvino":
        return OpenVinoSession(where, path, precision, threads)
    return OnnxRuntimeSession(where, path, precision, threads)


class OnnxRuntimeSession:
    """A graph in float32, run by onnxruntime."""

    def __init__(self, where: str, path: Path, precision: str, threads: int) -> None:
        if precision != "float32":
            raise ModelError(
                f"{where}: onnxruntime runs graphs as they are; it has no precision {precision!r}. "
                'Take engine = "openvino", or leave precision out'
            )
        self._session = onnxruntime_session(where, path, threads)
        import onnxruntime  # after the line that says what is missing

        inputs = self._session.get_inputs()
        self._input = _only(where, [each.name for each in inputs])
        self._output = [self._session.get_outputs()[0].name]
        self.shape: Sequence[Any] = inputs[0].shape
        self.engine = f"onnxruntime {onnxruntime.__version__}"

    def __call__(self, batch: Array) -> Array:
        """Run it on a batch."""
        answer: Array = self._session.run(self._output, {self._input: batch})[0]
        return answer


def onnxruntime_session(where: str, path: Path, threads: int) -> Any:
    """A graph as a session of onnxruntime's own, which may have several inputs.

    Args:
        where: Whose it is, for errors.
        path: The ONNX file.
        threads: How many onnxruntime may use; 0 leaves the choice to it.

    Raises:
        ModelError: If the file is no graph.
        MissingExtraError: If onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError.of(f"{where}: {path.name}", "onnxruntime", "onnx") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Idle threads of one model would otherwise spin while the next model of the pool runs: on
    # two cores that halves the throughput and lengthens the slowest calls tenfold.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _no_graph(where, path, error) from None


class OpenVinoSession:
    """A graph run by OpenVINO, in the precision that is asked for and no other."""

    def __init__(self, where: str, path: Path, precision: str, threads: int) -> None:
        try:
            import openvino
        except ImportError:
            raise MissingExtraError.of(f"{where}: {path.name}", "openvino", "openvino") from None
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _OPENVINO_PRECISIONS[precision],
            "PERFORMANCE_HINT": "LATENCY",  # all threads on one batch, not many batches at once
        }
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            core = openvino.Core()
            graph = core.read_model(str(path))
            self._compiled = core.compile_model(graph, "CPU", options)
        except Exception as error:
            raise _no_graph(where, path, error) from None
        _only(where, [each.any_name for each in graph.inputs])
        sides = graph.input(0).partial_shape
        self.shape: Sequence[Any] = [
            side.get_length() if side.is_static else "any" for side in sides
        ]
        self.engine = f"openvino {openvino.__version__.split('-')[0]}"
        # A request is busy while it runs, so every thread has its own.
        self._own = threading.local()

    def __call__(self, batch: Array) -> Array:
        """Run it on a batch."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        # A copy, for the next call writes over what this one answered.
        return np.array(self._own.request.infer(batch)[0])


def _only(where: str, names: Sequence[str]) -> str:
    if len(names) != 1:
        raise ModelError(f"{where}: has inputs {', '.join(names)}, needs just one")
    return names[0]


def _no_graph(where: str, path: Path, error: Exception) -> ModelError:
    reason = str(error).strip().split("\n")[0]
    return ModelError(f"{where}: {path} is no ONNX model ({reason})")
