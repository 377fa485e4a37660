"""Async functions as models: each sample is a call, a limited number of which are under way."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import iscoroutinefunction
from typing import Any

import numpy as np

from committee.models.base import SomeFailedError
from committee.rule.outputs import Kind
from committee.text import first_line

# Calls under way where nobody says how many.
_CONCURRENCY = 8


def is_async(function: Callable[..., Any]) -> bool:
    """Return True if a function, or an object that is called, is async."""
    return iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__)


class AsyncCalls:
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
        """Return the answers to a batch, in its order.

        Raises:
            SomeFailedError: If some calls failed; it has the answers of the others.
        """
        samples = _samples(batch)
        under_way = asyncio.run_coroutine_threadsafe(self._all(samples), self._running())
        try:
            answers = under_way.result()
        except BaseException:  # the user stopped it
            under_way.cancel()
            raise
        reasons = {i: first_line(e) for i, e in enumerate(answers) if isinstance(e, Exception)}
        good = next((each for each in answers if not isinstance(each, Exception)), None)
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


def _samples(batch: Any) -> list[Any]:
    """Return the samples of a batch one by one."""
    if isinstance(batch, Mapping):
        count = len(next(iter(batch.values())))
        return [{name: part[row] for name, part in batch.items()} for row in range(count)]
    return list(batch) if isinstance(batch, np.ndarray) else batch
