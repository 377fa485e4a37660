"""Sessions: an ONNX graph on the processor, run by onnxruntime or by OpenVINO."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from committee.arrays import Array
from committee.errors import MissingExtraError, ModelError
from committee.models.base import check_file
from committee.models.graph_declaration import Ports, ports_of
from committee.models.graph_files import tensor_files
from committee.models.graph_io import Run, adapted, form_of
from committee.spec.model import ModelSpec
from committee.text import printable

OWN = "onnxruntime"
# What OpenVINO calls the precisions. It takes bf16 by itself where the processor has it.
_OPENVINO_PRECISIONS = {"float32": "f32", "bf16": "bf16"}


class Engine(Run, Protocol):
    """A graph that is ready to run as it is."""

    engine: str
    """What runs it, with its version."""


class Session:
    """A graph that is ready to run on what a model makes of samples.

    Args:
        where: Whose it is, for errors.
        path: The ONNX file.
        run: What runs it.
        spec: What the model is.

    Raises:
        ModelError: If the graph does not take what the model makes of a sample, or has outputs of
            which none is named.
    """

    def __init__(self, where: str, path: Path, run: Engine, spec: ModelSpec) -> None:
        self._where, self._path, self._run = where, path, run
        self.engine = run.engine
        self.form = form_of(where, spec, *declared(where, path))
        self._plain, self._output = self.form.plain, self.form.output.name

    def at(self, where: str, spec: ModelSpec) -> Session:
        """The same graph, not loaded again, for another spec."""
        return Session(where, self._path, self._run, spec)

    def __call__(self, batch: Array) -> Array:
        """Run it on a prepared batch."""
        if self._plain:
            return self.form.read(self._run(batch, self._output))
        return adapted(self._run, self.form, batch)


def declared(where: str, path: Path) -> tuple[Ports, Ports]:
    """What a graph declares of its inputs and outputs.

    Raises:
        ModelError: If the file is no graph.
    """
    try:
        return ports_of(path)
    except (OSError, ValueError) as error:
        raise _no_graph(where, path, error) from None


def open_session(spec: ModelSpec, path: Path, engine: str, precision: str, threads: int) -> Session:
    """Open a graph.

    Args:
        spec: What the model is.
        path: The ONNX file.
        engine: ``onnxruntime`` or ``openvino``.
        precision: ``float32``, or ``bf16`` if the engine has it.
        threads: How many it may use; 0 leaves the choice to the engine.

    Raises:
        ModelError: If the file is missing, no graph, or one that the model cannot be run with.
        MissingExtraError: If the engine is not installed.
    """
    where = f"model {spec.name!r}"
    check_file(where, path)
    opened = OpenVinoSession if engine == "openvino" else OnnxRuntimeSession
    return Session(where, path, opened(where, path, precision, threads), spec)


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

        self._inputs = [each.name for each in self._session.get_inputs()]
        self.engine = f"onnxruntime {onnxruntime.__version__}"

    def __call__(self, batch: Array, output: str) -> Array:
        """Feed its one input and return the output of that name."""
        answer: Array = self._session.run([output], {self._inputs[0]: batch})[0]
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
        return onnxruntime.InferenceSession(
            loadable(where, path), options, providers=["CPUExecutionProvider"]
        )
    except ModelError:
        raise
    except Exception as error:
        raise _no_graph(where, path, error) from None


def loadable(where: str, path: Path) -> str | bytes:
    """Return the path of a graph as engines take it, or its bytes where its path is no UTF-8.

    Raises:
        ModelError: If its path is no UTF-8 and tensors lie beside it, by a path too.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        if tensor_files(path):
            raise ModelError(
                f"{where}: {printable(str(path))} keeps tensors in files beside it, and engines "
                "open no path that is not UTF-8. Rename its folders"
            ) from None
        return path.read_bytes()
    return str(path)


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
            graph = core.read_model(loadable(where, path))
            self._compiled = core.compile_model(graph, "CPU", options)
        except ModelError:
            raise
        except Exception as error:
            raise _no_graph(where, path, error) from None
        self._check_precision(where, precision)
        self.engine = f"openvino {openvino.__version__.split('-')[0]}"
        # A request is busy while it runs, so every thread has its own.
        self._own = threading.local()

    def _check_precision(self, where: str, precision: str) -> None:
        """Refuse to compute in another precision than the one that was asked for."""
        own = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if own != _OPENVINO_PRECISIONS[precision]:
            raise ModelError(
                f"{where}: OpenVINO would compute in {own} on this processor, which has no "
                f"{precision}. Leave precision out, or run it on a processor that has {precision}"
            )

    def __call__(self, batch: Array, output: str) -> Array:
        """Feed its one input and return the output of that name."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        # A copy, for the next call writes over what this one answered.
        return np.array(self._own.request.infer(batch)[self._compiled.output(output)])


def _no_graph(where: str, path: Path, error: Exception) -> ModelError:
    reason = str(error).strip().split("\n")[0]
    return ModelError(f"{where}: {path} is no ONNX model ({reason})")
