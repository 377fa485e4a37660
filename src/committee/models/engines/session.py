"""ONNX graphs, run by onnxruntime on the processor."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from committee.arrays import Array
from committee.errors import ModelError, needing
from committee.models.base import check_file
from committee.models.graph import Ports, form_of, ports_of, tensor_files
from committee.spec.model import ModelSpec
from committee.text import printable


class Session:
    """A graph, ready to run on the prepared inputs of a model."""

    def __init__(self, spec: ModelSpec, path: Path, threads: int = 0) -> None:
        where = f"model {spec.name!r}"
        check_file(where, path)
        self._session = onnxruntime_session(where, path, threads)
        import onnxruntime  # after the line that says what is missing

        self.engine = f"onnxruntime {onnxruntime.__version__}"
        self._inputs = [each.name for each in self._session.get_inputs()]
        self._ports = declared(where, path)
        self.form = form_of(where, spec, *self._ports)

    def at(self, spec: ModelSpec) -> Session:
        """Return the same graph, not loaded again, for another spec."""
        other = copy.copy(self)
        other.form = form_of(f"model {spec.name!r}", spec, *self._ports)
        return other

    def __call__(self, batch: Array) -> Array:
        """Run the graph on a prepared batch of any size."""
        return self.form.run(self._run, batch)

    def _run(self, batch: Array) -> Array:
        answer: Array = self._session.run([self.form.output.name], {self._inputs[0]: batch})[0]
        return answer


def declared(where: str, path: Path) -> tuple[Ports, Ports]:
    """Return the inputs and outputs that a graph declares."""
    try:
        return ports_of(path)
    except (OSError, ValueError) as error:
        raise _no_graph(where, path, error) from None


def onnxruntime_session(where: str, path: Path, threads: int) -> Any:
    """Return a graph as onnxruntime's own session; 0 threads leaves their number to it."""
    with needing(f"{where}: {path.name}", "onnxruntime", "onnx"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Idle threads of one model would otherwise spin while the next model of the pool runs: on
    # two cores that halves the throughput and lengthens the slowest calls tenfold.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    graph = _path_or_bytes(where, path)
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _no_graph(where, path, error) from None


def _path_or_bytes(where: str, path: Path) -> str | bytes:
    """Return a graph's path, or its bytes where the path is no UTF-8, which onnxruntime needs."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        if tensor_files(path):
            raise ModelError(
                f"{where}: {printable(str(path))} keeps tensors in files beside it, and "
                "onnxruntime opens no path that is not UTF-8. Rename its folders"
            ) from None
        return path.read_bytes()
    return str(path)


def _no_graph(where: str, path: Path, error: Exception) -> ModelError:
    reason = str(error).strip().split("\n")[0]
    return ModelError(f"{where}: {path} is no ONNX model ({reason})")
