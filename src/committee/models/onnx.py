"""``onnx:PATH``: a graph with one input and one output, run by onnxruntime on the processor."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from committee.errors import MissingExtraError, ModelError
from committee.models.base import Model, file_fingerprint
from committee.models.spec import ModelSpec
from committee.predictions import Array
from committee.profile.graph import graph_macs, graph_parameters


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
        inputs = self._session.get_inputs()
        names = ", ".join(each.name for each in inputs)
        if len(inputs) != 1:
            raise ModelError(f"model {spec.name!r}: has inputs {names}, needs just one")
        _check_shape(spec, inputs[0].shape)
        self._input = names
        self._output = [self._session.get_outputs()[0].name]
        self.fingerprint = file_fingerprint(path)
        self._path, recipe = path, spec.preprocessing
        self._shape = (1, recipe.channels, *recipe.size)

    @cached_property
    def macs(self) -> int | None:
        """Counted when asked for; None if onnx is not installed or the graph cannot be counted."""
        try:
            return graph_macs(self._path, self._shape)
        except (MissingExtraError, ModelError):
            return None

    @cached_property
    def parameters(self) -> int | None:
        """Counted when asked for; None if onnx is not installed."""
        try:
            return graph_parameters(self._path)
        except MissingExtraError:
            return None

    def __call__(self, batch: Array) -> Array:
        """See :class:`committee.models.base.Model`."""
        answer: Array = self._session.run(self._output, {self._input: batch})[0]
        return answer


def _check_shape(spec: ModelSpec, shape: Sequence[Any]) -> None:
    """Refuse a graph with fixed sides that are not those of the spec."""
    recipe = spec.preprocessing
    wanted = (recipe.channels, *recipe.size)
    fixed = [
        isinstance(side, int) and side != want
        for side, want in zip(shape[1:], wanted, strict=False)
    ]
    if len(shape) != 4 or any(fixed):
        raise ModelError(
            f"model {spec.name!r}: the graph takes inputs {list(shape)}, not (N, "
            f"{', '.join(map(str, wanted))}). Give it that resolution and channels, or export it "
            "with dynamic height and width"
        )
