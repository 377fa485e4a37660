"""torch modules as ONNX graphs: exported once, checked against the module, kept in a cache."""

from __future__ import annotations

import hashlib
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
from committee.errors import ModelError, needing
from committee.files import write_text
from committee.models.base import Model, file_fingerprint
from committee.models.engines.torch_module import TorchModel
from committee.models.graph import Session
from committee.spec.model import ModelSpec
from committee.text import first_line

if TYPE_CHECKING:
    import torch

# How far a graph may be from its module, as a share of the largest output.
TOLERANCE = 1e-4
# Unlike the batch of the export, so that a graph that only takes that batch is noticed.
_CHECK_ROWS, _EXPORT_ROWS = 3, 2
_OPSET = 18


def model_of(
    spec: ModelSpec,
    module: torch.nn.Module,
    origin: str,
    threads: int = 0,
    *,
    any_size: bool = True,
) -> Model:
    """Return a module as a model, on the engine that the spec names.

    The arguments are those of :class:`~committee.models.engines.torch_module.TorchModel`.
    """
    model = TorchModel(spec, module, origin, threads, any_size)
    return _ExportedModel(spec, model, threads) if spec.engine == "onnxruntime" else model


class _ExportedModel:
    """A torch module that onnxruntime runs as a graph."""

    keeps_input = True

    def __init__(self, spec: ModelSpec, model: TorchModel, threads: int = 0) -> None:
        # Outputs of another engine differ slightly, so this is another model.
        self.fingerprint = hashlib.sha256(f"{model.fingerprint} onnxruntime".encode()).hexdigest()[
            :16
        ]
        self.macs, self.macs_unknown = model.macs, model.macs_unknown
        self.parameters = model.parameters
        self.path = cached_graph(spec, model)
        self._session = Session(spec.of_module(), self.path, threads)
        self.engine = self._session.engine

    def __call__(self, batch: Array) -> Array:
        """See :class:`committee.models.base.Model`."""
        return self._session(batch)


def _cache_folder() -> Path:
    """Return the folder of exported graphs: ``COMMITTEE_CACHE``, or one in the user's caches."""
    own = os.environ.get("COMMITTEE_CACHE")
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(own) if own else usual / "committee"


def cached_graph(spec: ModelSpec, model: TorchModel, *, free: bool = False) -> Path:
    """Return the graph of a module, exported and checked unless the cache holds it undamaged.

    With ``free`` the graph must take inputs of other heights and widths too.
    """
    shape = spec.preprocessing.shape
    sides = (*shape[:-2], "any") if free else shape
    path = _cache_folder() / f"{model.fingerprint}-{'x'.join(map(str, sides))}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not _is_whole(path):
            temporary = path.with_suffix(".part.onnx")
            try:
                _export(spec, model, temporary, free)
                difference(spec, model, Session(spec.of_module(), temporary))
                write_text(path.with_suffix(".print"), file_fingerprint(temporary))
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    return path


def _is_whole(path: Path) -> bool:
    stored = path.with_suffix(".print")
    whole = path.is_file() and stored.is_file()
    return whole and stored.read_bytes() == file_fingerprint(path).encode()


def _export(spec: ModelSpec, model: TorchModel, path: Path, free: bool) -> None:
    where = f"model {spec.name!r}"
    with needing(f"{where}: export", "onnxscript", "export"):
        import onnx  # noqa: F401  # torch asks for them when it is too late for a good line
        import onnxscript  # noqa: F401
        import torch
    shape = spec.preprocessing.shape
    varying: dict[int, Any] = {0: torch.export.Dim("rows", min=1)}
    if free:
        # Height and width are the last axes; the batch is not in the shape.
        varying |= dict.fromkeys((len(shape) - 1, len(shape)), torch.export.Dim.DYNAMIC)
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                model.module,
                (torch.zeros((_EXPORT_ROWS, *shape)),),
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
        size, remedy = "", "Leave engine out, or try a newer torch"
        if free:
            size = " of any size"
            remedy = "List its sizes as models of their own, with resolution"
        raise ModelError(
            f"{where}: torch cannot export it as ONNX{size} ({first_line(error)}). {remedy}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter prints and logs of its own progress."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def difference(spec: ModelSpec, model: Model, session: Session) -> float:
    """Return how far graph and module differ on random inputs, as a share of the largest output."""
    shape = (_CHECK_ROWS, *spec.preprocessing.shape)
    batch = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected, answered = model(batch), session(batch)
    if answered.shape != expected.shape:
        raise ModelError(
            f"model {spec.name!r}: exported, it answers {answered.shape} instead of "
            f"{expected.shape}. Leave engine out"
        )
    largest = float(np.abs(expected).max()) or 1.0
    apart = float(np.abs(answered - expected).max()) / largest
    if not apart <= TOLERANCE:
        raise ModelError(
            f"model {spec.name!r}: exported, its outputs on {session.engine} are off by "
            f"{apart:.2g} of the largest, above {TOLERANCE:g}. Leave engine out"
        )
    return apart
