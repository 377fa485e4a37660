"""``python:FILE-OR-MODULE:FACTORY``: a torch module or any function, from the user's code.

Loading runs that code; :func:`check_trusted` stands before it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from committee.arrays import Array
from committee.errors import ModelError, UntrustedCodeError
from committee.models.answers import one_output
from committee.models.base import Model, file_fingerprint
from committee.models.engines.exported import model_of
from committee.models.engines.weights import fill, read_weights
from committee.paths import MOVED, expanded
from committee.spec.model import ENGINES, ModelSpec


def check_trusted(spec: ModelSpec, allowed: Collection[str]) -> None:
    """Refuse to run code that the user has not named.

    Args:
        spec: Its source is ``python:FILE-OR-MODULE:FACTORY``.
        allowed: Files and modules that the user has named.

    Raises:
        UntrustedCodeError: If the file or module is not among them.
    """
    code, _ = _parts(spec)
    named = {str(Path(name).resolve()) if name.endswith(".py") else name for name in allowed}
    if code not in named:
        raise UntrustedCodeError(
            f"model {spec.name!r} runs the code of {code}. If you trust it, name it: "
            f"--allow-code {code} (in Python: allow_code=[{code!r}])"
        )


class PythonSource:
    """Code of the user's: a factory without arguments."""

    form = "python:FILE-OR-MODULE:FACTORY"
    weights = frozenset({"file"})
    engines = ENGINES
    choices = ("output",)

    def located(self, text: str, folder: Path) -> str:
        """See :class:`committee.models.base.Source`."""
        file, colon, factory = text.rpartition(":")
        if not colon:
            raise ValueError
        return f"{expanded(file, folder)}:{factory}" if file.endswith(".py") else text

    def published(self, text: str, size: tuple[int, int] | None) -> Mapping[str, Any]:
        """Nothing: code states no preprocessing."""
        return {}

    def peek(self, spec: ModelSpec, allow_code: Collection[str]) -> None:
        """Whether the code may run; what it would make, only running it tells."""
        check_trusted(spec, allow_code)

    def load(self, spec: ModelSpec, threads: int, allow_code: Collection[str]) -> Model:
        """See :class:`committee.models.base.Source`."""
        check_trusted(spec, allow_code)
        return load_python(spec, threads)


def load_python(spec: ModelSpec, threads: int = 0) -> Model:
    """Call the factory and wrap what it returns.

    Raises:
        ModelError: If the code fails, has no such factory, or returns nothing that can be called.
    """
    code, factory = _parts(spec)
    where = f"model {spec.name!r}: {code}"
    try:
        with _importable(Path(code).parent if code.endswith(".py") else None):
            module = _import(code)
            made = getattr(module, factory)()
    except AttributeError as error:
        if factory not in str(error):
            raise ModelError(f"{where}: {error}") from error
        raise ModelError(f"{where}: has no {factory!r}") from None
    except (Exception, SystemExit) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{where}: {factory}() failed ({type(error).__name__}: {reason})"
        ) from error
    file = getattr(module, "__file__", None)
    code_print = file_fingerprint(Path(file)) if file else ""
    if "torch" in sys.modules and isinstance(made, sys.modules["torch"].nn.Module):
        if spec.weights:
            fill(where, spec.weights, made, read_weights(where, Path(spec.weights)))
        return model_of(spec, made, code_print, threads)
    if not callable(made):
        raise ModelError(f"{where}: {factory}() returned a {type(made).__name__}, not a model")
    if spec.weights or spec.engine:
        raise ModelError(
            f"{where}: {factory}() returned no torch module; leave weights and engine out"
        )
    return FunctionModel(made, code_print, spec.output)


class FunctionModel:
    """Any function from inputs (N, channels, height, width) to outputs, as arrays."""

    macs: int | None = None
    parameters: int | None = None
    macs_unknown = "code of yours does not tell; give costs.macs in the pool file"
    engine = f"Python {platform.python_version()}"

    def __init__(
        self, function: Callable[[Array], Any], fingerprint: str, output: str = ""
    ) -> None:
        self._function, self._output, self._pid = function, output, os.getpid()
        self.fingerprint = fingerprint

    def at(self, spec: ModelSpec) -> FunctionModel:
        """See :class:`committee.models.base.Resizable`."""
        return self

    def __call__(self, batch: Array) -> Any:
        """See :class:`committee.models.base.Model`."""
        if os.getpid() != self._pid:
            self._forked()
        answer = self._function(batch)
        return one_output(answer, self._output) if self._output else answer

    def _forked(self) -> None:
        """Go on in a process that was forked off: torch's threads stayed in the other."""
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        self._pid = os.getpid()


def _parts(spec: ModelSpec) -> tuple[str, str]:
    code, _, factory = spec.text.rpartition(":")
    return code, factory


def _import(code: str) -> ModuleType:
    if not code.endswith(".py"):
        return importlib.import_module(code)
    # One import a file, under a name that no installed module can have.
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
