"""``python:FILE-OR-MODULE:FACTORY``: a torch module or any function, from the user's code.

Loading runs that code, but only if the user has allowed it by name.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import platform
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import iscoroutinefunction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError, UntrustedCodeError
from committee.models.base import Model, SomeFailedError, Source, file_fingerprint, one_output
from committee.models.engines.exported import model_of
from committee.models.engines.torch_module import module_fingerprint
from committee.models.engines.weights import fill, read_weights
from committee.paths import MOVED, expanded
from committee.rule.outputs import Kind
from committee.spec.model import ENGINES, ModelSpec
from committee.spec.record import Record
from committee.text import first_line

if TYPE_CHECKING:
    import torch

# Calls under way where nobody says how many.
_CONCURRENCY = 8


class _AsyncCalls:
    """A function of batches that calls an async function for each sample.

    Calls run in an event loop of their own thread, which lives as long as the process, so that a
    client keeps its connections from batch to batch.

    Args:
        function: From one sample to a row of outputs; for decisions to a pair of class and
            confidence. Retries and time limits are its own.
        kind: Kind of its outputs.
        concurrency: Most calls that are under way at once; 0 for the usual number.
    """

    def __init__(
        self, function: Callable[[Any], Awaitable[Any]], kind: Kind, concurrency: int = 0
    ) -> None:
        self._function, self._kind = function, kind
        self._concurrency = concurrency or _CONCURRENCY
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid, self._starting = 0, threading.Lock()

    def __call__(self, batch: Any) -> Any:
        """Return the answers to a batch, in its order."""
        samples = _samples(batch)
        under_way = asyncio.run_coroutine_threadsafe(self._all(samples), self._running())
        try:
            answers = under_way.result()
        except BaseException:  # the user stopped it
            under_way.cancel()
            raise
        reasons = {i: first_line(e) for i, e in enumerate(answers) if isinstance(e, Exception)}
        reasons |= _of_other_lengths(answers)
        good = next((each for i, each in enumerate(answers) if i not in reasons), None)
        if good is None:
            raise SomeFailedError(None, reasons, len(answers))
        rows = [good if i in reasons else each for i, each in enumerate(answers)]
        joined = tuple(zip(*rows, strict=True)) if self._kind == "decisions" else rows
        if reasons:
            raise SomeFailedError(joined, reasons, len(rows))
        return joined

    async def _all(self, samples: Sequence[Any]) -> list[Any]:
        free = asyncio.Semaphore(self._concurrency)

        async def one(sample: Any) -> Any:
            async with free:
                return await self._function(sample)

        return await asyncio.gather(*map(one, samples), return_exceptions=True)

    def _running(self) -> asyncio.AbstractEventLoop:
        """Return the event loop, started in this process."""
        with self._starting:
            if self._loop is None or self._pid != os.getpid():
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                threading.Thread(
                    target=self._loop.run_forever, name="committee-async", daemon=True
                ).start()
            return self._loop


class _RecordModule:
    """A torch module that takes N records: a tensor (N, ...), or several by name."""

    keeps_input = False
    macs: int | None = None
    macs_unknown = "nothing says what shape records have; give costs.macs in the pool file"

    def __init__(
        self, spec: ModelSpec, module: torch.nn.Module, origin: str, threads: int = 0
    ) -> None:
        import torch

        if spec.engine == "onnxruntime":
            raise ModelError(
                f"model {spec.name!r}: modules of records are not exported; leave engine out"
            )
        if threads:
            torch.set_num_threads(threads)
        self._torch, self._module, self._output = torch, module.eval(), spec.output
        self.parameters = sum(each.numel() for each in module.parameters())
        self.fingerprint = module_fingerprint(module, f"{origin} {spec.output}".strip())
        self.engine = f"torch {torch.__version__}"

    def __call__(self, batch: Any) -> Any:
        """See :class:`committee.models.base.Model`."""
        with self._torch.inference_mode():
            if isinstance(batch, Mapping):
                answer = self._module(**{name: self._tensor(part) for name, part in batch.items()})
            else:
                answer = self._module(self._tensor(batch))
            return one_output(answer, self._output)

    def _tensor(self, values: Array | list[Any]) -> Any:
        """Return an array as a tensor; lists, as of texts, go to the module as they are."""
        return self._torch.from_numpy(values) if isinstance(values, np.ndarray) else values


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
            make = _RecordModule if spec.does.records else model_of
            return make(spec, made, fingerprint, threads)
        if not callable(made):
            raise ModelError(f"{where}: {factory}() returned a {type(made).__name__}, not a model")
        if spec.weights or spec.engine:
            raise ModelError(
                f"{where}: {factory}() returned no torch module; leave weights and engine out"
            )
        if _is_async(made):
            made = _AsyncCalls(made, spec.kind, spec.concurrency)
        elif spec.concurrency:
            raise ModelError(
                f"{where}: {factory}() returned no async function; leave concurrency out"
            )
        return _FunctionModel(made, fingerprint, spec.output)


def _of_other_lengths(answers: Sequence[Any]) -> dict[int, str]:
    """Return why answers cannot be used that have another number of outputs than most, by row."""
    rows = enumerate(answers)
    lengths = {i: len(each) for i, each in rows if isinstance(each, Sequence | np.ndarray)}
    usual = Counter(lengths.values()).most_common(1)
    return {
        i: f"answers with {length} outputs, others with {usual[0][0]}"
        for i, length in lengths.items()
        if length != usual[0][0]
    }


def _samples(batch: Any) -> list[Any]:
    """Return the samples of a batch one by one."""
    if isinstance(batch, Mapping):
        count = len(next(iter(batch.values())))
        return [{name: part[row] for name, part in batch.items()} for row in range(count)]
    return list(batch) if isinstance(batch, np.ndarray) else batch


def _is_async(function: Callable[..., Any]) -> bool:
    """Return True if a function, or an object that is called, is async."""
    return iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__)


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
        self.one_by_one = isinstance(function, _AsyncCalls)
        self.fingerprint = fingerprint

    def at(self, spec: ModelSpec) -> _FunctionModel:
        """See :class:`committee.models.load._Resizable`."""
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
