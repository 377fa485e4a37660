"""``python:FILE-OR-MODULE:FACTORY``: a torch module or any function, from the user's code.

Loading runs that code, but only if the user has allowed it by name.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from committee.arrays import Array
from committee.errors import ModelError, UntrustedCodeError
from committee.models.async_calls import AsyncCalls, is_async
from committee.models.base import Model, Source, file_fingerprint, one_output
from committee.models.engines.exported import model_of
from committee.models.engines.record_module import RecordModule
from committee.models.engines.weights import fill, read_weights
from committee.paths import MOVED, expanded
from committee.spec.model import ENGINES, ModelSpec
from committee.spec.record import Record
from committee.text import first_line


class PythonSource(Source):
    """Code of the user's: a factory without arguments."""

    form = "python:FILE-OR-MODULE:FACTORY"
    weights = frozenset({"file"})
    engines = ENGINES
    choices = ("output", "concurrency")

    def located(self, text: str, folder: Path) -> str:
        """See :class:`committee.models.base.Source`."""
        file, colon, factory = text.rpartition(":")
        if not colon:
            raise ValueError
        return f"{expanded(file, folder)}:{factory}" if file.endswith(".py") else text

    def record(self, text: str, columns: Any, dtype: Any) -> Record:
        """See :class:`committee.models.base.Source`."""
        return Record.of(columns, dtype)

    def peek(self, spec: ModelSpec, allow_code: Collection[str]) -> None:
        """Refuse code that may not run; its fingerprint is not known before it does."""
        _check_allowed(spec, allow_code)

    def load(self, spec: ModelSpec, threads: int, allow_code: Collection[str]) -> Model:
        """See :class:`committee.models.base.Source`."""
        _check_allowed(spec, allow_code)
        code, _, factory = spec.text.rpartition(":")
        where = f"model {spec.name!r}: {code}"
        module, made = _made(where, code, factory)
        file = getattr(module, "__file__", None)
        fingerprint = file_fingerprint(Path(file)) if file else ""
        if "torch" in sys.modules and isinstance(made, sys.modules["torch"].nn.Module):
            if spec.weights:
                fill(where, spec.weights, made, read_weights(where, Path(spec.weights)))
            make = RecordModule if spec.does.records else model_of
            return make(spec, made, fingerprint, threads)
        if not callable(made):
            raise ModelError(f"{where}: {factory}() returned a {type(made).__name__}, not a model")
        if spec.weights or spec.engine:
            raise ModelError(
                f"{where}: {factory}() returned no torch module; leave weights and engine out"
            )
        if is_async(made):
            made = AsyncCalls(made, spec.kind, spec.concurrency)
        elif spec.concurrency:
            raise ModelError(
                f"{where}: {factory}() returned no async function; leave concurrency out"
            )
        return _FunctionModel(made, fingerprint, spec.output)


class _FunctionModel:
    """Any function from inputs (N, channels, height, width), or N records, to outputs."""

    macs: int | None = None
    parameters: int | None = None
    macs_unknown = "your own code states none; give costs.macs in the pool file"
    engine = f"Python {platform.python_version()}"

    def __init__(
        self, function: Callable[[Array], Any], fingerprint: str, output: str = ""
    ) -> None:
        self._function, self._output, self._pid = function, output, os.getpid()
        self.fingerprint = fingerprint

    def at(self, spec: ModelSpec) -> _FunctionModel:
        """See :class:`committee.models.base.Resizable`."""
        return self

    def __call__(self, batch: Any) -> Any:
        """See :class:`committee.models.base.Model`."""
        if os.getpid() != self._pid:
            # After a fork: the threads of torch stayed in the other process.
            if "torch" in sys.modules:
                sys.modules["torch"].set_num_threads(1)
            self._pid = os.getpid()
        answer = self._function(batch)
        return one_output(answer, self._output) if self._output else answer


def _check_allowed(spec: ModelSpec, allowed: Collection[str]) -> None:
    code, _, _ = spec.text.rpartition(":")
    names = {str(Path(name).resolve()) if name.endswith(".py") else name for name in allowed}
    if code not in names:
        raise UntrustedCodeError(
            f"model {spec.name!r} runs the code of {code}. If you trust it, name it: "
            f"--allow-code {code} (in Python: allow_code=[{code!r}])"
        )


def _made(where: str, code: str, factory: str) -> tuple[ModuleType, Any]:
    """Return the user's module and what its factory makes."""
    try:
        with _importable(Path(code).parent if code.endswith(".py") else None):
            module = _imported(code)
            return module, getattr(module, factory)()
    except AttributeError as error:
        if factory not in str(error):
            raise ModelError(f"{where}: {error}") from error
        raise ModelError(f"{where}: has no {factory!r}") from None
    except (Exception, SystemExit) as error:
        raise ModelError(f"{where}: {factory}() failed ({first_line(error)})") from error


def _imported(code: str) -> ModuleType:
    if not code.endswith(".py"):
        return importlib.import_module(code)
    # Each file is imported once, under a name that no installed module can have.
    name = f"committee source {code}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, code)
    if spec is None or spec.loader is None or not Path(code).is_file():
        raise FileNotFoundError(f"no file {code}. {MOVED}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    """Let a file import its neighbours while it is loaded."""
    if folder is None:
        yield
        return
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
