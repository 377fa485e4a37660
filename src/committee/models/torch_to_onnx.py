"""torch modules as ONNX graphs: exported once, checked against the module, kept in a cache."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from committee.arrays import Array
from committee.errors import MissingExtraError, ModelError
from committee.files import write_text
from committee.models.base import Model, file_fingerprint
from committee.models.engines.sessions import Session, open_session
from committee.spec.model import ModelSpec

if TYPE_CHECKING:
    from committee.models.engines.torch_module import TorchModel

# How far a graph in float32 may be from its module, as a share of the largest output.
TOLERANCE = 1e-4
# Not the batch that is exported with: a graph that has learned it by heart is noticed.
_CHECK_ROWS, _EXPORT_ROWS = 3, 2
_OPSET = 18


class ExportedModel:
    """A torch module that runs as a graph, on onnxruntime or OpenVINO.

    Args:
        spec: What it is.
        model: The module.
        threads: How many the engine may use; 0 leaves the choice to it.

    Raises:
        ModelError: If it cannot be exported, or the graph does not answer as the module does.
        MissingExtraError: If what exports or runs it is not installed.
    """

    keeps_input = True

    def __init__(self, spec: ModelSpec, model: TorchModel, threads: int = 0) -> None:
        self.fingerprint, self.macs = model.fingerprint, model.macs
        self.macs_unknown = model.macs_unknown
        self.parameters = model.parameters
        self.path = cached_graph(spec, model)
        own = spec.of_module()
        self._session = open_session(own, self.path, spec.engine, spec.precision, threads)
        self.engine = self._session.engine
        if spec.precision == "float32":
            _check_once(spec, model, self._session, self.path)

    def __call__(self, batch: Array) -> Array:
        """See :class:`committee.models.base.Model`."""
        return self._session(batch)


def cache_folder() -> Path:
    """Where exported graphs are kept: ``COMMITTEE_CACHE``, or the user's folder of caches."""
    own = os.environ.get("COMMITTEE_CACHE")
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(own) if own else usual / "committee"


def cached_graph(spec: ModelSpec, model: TorchModel, *, free: bool = False) -> Path:
    """The graph of a module at the spec's size, exported if the cache has none that is whole.

    Args:
        spec: What it is.
        model: The module.
        free: Whether the graph is to take inputs of other heights and widths too.

    Raises:
        ModelError: If it cannot be exported.
        MissingExtraError: If onnx or onnxscript is not installed.
    """
    shape = spec.preprocessing.shape
    sides = (*shape[:-2], "any") if free else shape
    path = cache_folder() / f"{model.weights_print}-{'x'.join(map(str, sides))}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if _notes(path).get("fingerprint") != _print_of(path):
            temporary = path.with_suffix(".part.onnx")
            try:
                _export(spec, model, temporary, free)
                write_text(_beside(path), json.dumps({"fingerprint": file_fingerprint(temporary)}))
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    return path


def _beside(path: Path) -> Path:
    return path.with_suffix(".json")


def _notes(path: Path) -> dict[str, Any]:
    """What is known of a graph of the cache: its fingerprint, and how far each engine is off."""
    try:
        notes = json.loads(_beside(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _print_of(path: Path) -> str | None:
    # Unlike what notes of a missing file say.
    return file_fingerprint(path) if path.is_file() else "not there"


def _export(spec: ModelSpec, model: TorchModel, path: Path, free: bool) -> None:
    where = f"model {spec.name!r}"
    try:
        import onnx  # noqa: F401  # torch asks for them when it is too late for a good line
        import onnxscript  # noqa: F401
        import torch
    except ImportError:
        raise MissingExtraError.of(f"{where}: export", "onnxscript", "export") from None
    shape = spec.preprocessing.shape
    varying: dict[int, Any] = {0: torch.export.Dim("rows", min=1)}
    if free:
        # Height and width are the last axes; the batch is not in the shape.
        varying |= dict.fromkeys((len(shape) - 1, len(shape)), torch.export.Dim.DYNAMIC)
    example = torch.zeros((_EXPORT_ROWS, *shape))
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                model.module,
                (example,),
                str(path),
                dynamo=True,
                dynamic_shapes=(varying,),
                input_names=["images"],
                output_names=["outputs"],
                external_data=False,
                opset_version=_OPSET,
                verbose=False,
            )
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        remedy = (
            "List its sizes as models of their own, with resolution in place of resolutions"
            if free
            else 'Take engine = "torch" or "torch.compile"'
        )
        raise ModelError(
            f"{where}: torch cannot export it as ONNX{' of any size' if free else ''} "
            f"({type(error).__name__}: {reason}). {remedy}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells of its own progress."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _check_once(spec: ModelSpec, model: TorchModel, session: Session, path: Path) -> None:
    """Compare an engine's outputs with the module's, the first time that it runs this graph."""
    with FileLock(f"{path}.lock"):
        notes = _notes(path)
        if session.engine not in notes.get("apart", {}):
            apart = difference(spec, model, session)
            known = {**notes.get("apart", {}), session.engine: apart}
            write_text(_beside(path), json.dumps({**notes, "apart": known}))


def difference(spec: ModelSpec, model: Model, session: Session, seed: int = 0) -> float:
    """How far a graph is from its module, on inputs from a seed.

    Returns:
        The largest difference, as a share of the largest output.

    Raises:
        ModelError: If it is above :data:`TOLERANCE`.
    """
    shape = (_CHECK_ROWS, *spec.preprocessing.shape)
    batch = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    expected, answered = model(batch), session(batch)
    if answered.shape != expected.shape:
        raise ModelError(
            f"model {spec.name!r}: exported, it answers {answered.shape} instead of "
            f'{expected.shape}. Take engine = "torch"'
        )
    largest = float(np.abs(expected).max()) or 1.0
    apart = float(np.abs(answered - expected).max()) / largest
    if not apart <= TOLERANCE:
        raise ModelError(
            f"model {spec.name!r}: exported, its outputs on {session.engine} are off by "
            f'{apart:.2g} of the largest, above {TOLERANCE:g}. Take engine = "torch"'
        )
    return apart
