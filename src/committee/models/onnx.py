"""``onnx:PATH``: a graph with one input and one output, run by onnxruntime on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from committee.errors import MissingExtraError, ModelError
from committee.models.base import file_fingerprint
from committee.models.spec import ModelSpec
from committee.predictions import Array


class OnnxModel:
    """A graph in float32, on the processor.

    Args:
        spec: Its source is ``onnx:PATH``.
        threads: How many onnxruntime may use; 0 leaves the choice to it.

    Raises:
        ModelError: If the file is missing, no ONNX model, or has several inputs.
        MissingExtraError: If onnxruntime is not installed.
    """

    macs: int | None = None

    def __init__(self, spec: ModelSpec, threads: int = 0) -> None:
        path = Path(spec.source.removeprefix("onnx:"))
        if not path.is_file():
            raise ModelError(f"model {spec.name!r}: no file {path}")
        self._session = open_session(f"model {spec.name!r}", path, threads)
        inputs = [each.name for each in self._session.get_inputs()]
        if len(inputs) != 1:
            raise ModelError(f"model {spec.name!r}: has inputs {', '.join(inputs)}, needs just one")
        self._input = inputs[0]
        self._output = [self._session.get_outputs()[0].name]
        self.fingerprint = file_fingerprint(path)

    def __call__(self, batch: Array) -> Array:
        """See :class:`committee.models.base.Model`."""
        answer: Array = self._session.run(self._output, {self._input: batch})[0]
        return answer


def open_session(where: str, path: Path, threads: int = 0) -> Any:
    """An onnxruntime session on the processor.

    Args:
        where: What the file belongs to, for the error.
        path: The file.
        threads: How many onnxruntime may use; 0 leaves the choice to it.

    Raises:
        ModelError: If the file is no ONNX model.
        MissingExtraError: If onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError.of(f"Running {path}", "onnxruntime", "onnx") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Idle threads of one model would otherwise spin while the next model of the pool runs: on
    # two cores that halves the throughput and lengthens the slowest calls tenfold.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"{where}: {path} is no ONNX model ({reason})") from None
