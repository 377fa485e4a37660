"""``onnx:PATH``: a graph with one input and one output, run by onnxruntime on the processor."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

from committee.errors import MissingExtraError, ModelError
from committee.models.base import Model, file_fingerprint
from committee.models.spec import ModelSpec
from committee.predictions import Array


class OnnxSource:
    """A file with a graph."""

    form = "onnx:PATH"
    weights: ClassVar[frozenset[str]] = frozenset()

    def located(self, text: str, folder: Path) -> str:
        """See :class:`committee.models.base.Source`."""
        if not text:
            raise ValueError
        return str((folder / text).resolve())

    def published(self, text: str, size: tuple[int, int] | None) -> Mapping[str, Any]:
        """Nothing: a graph states no preprocessing."""
        return {}

    def load(self, spec: ModelSpec, threads: int, allow_code: Collection[str]) -> Model:
        """See :class:`committee.models.base.Source`."""
        return OnnxModel(spec, threads)


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
    parameters: int | None = None

    def __init__(self, spec: ModelSpec, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtraError.of(spec.source, "onnxruntime", "onnx") from None
        path = Path(spec.text)
        if not path.is_file():
            raise ModelError(f"model {spec.name!r}: no file {path}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Idle threads of one model would otherwise spin while the next model of the pool runs: on
        # two cores that halves the throughput and lengthens the slowest calls tenfold.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise ModelError(f"model {spec.name!r}: {path} is no ONNX model ({reason})") from None
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
