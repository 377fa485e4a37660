"""Threads that nobody waits for at the end: what they run, loads and models, cannot be stopped."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from committee.errors import ModelError
from committee.text import first_line

T = TypeVar("T")
PREFIX = "committee-"
# Seconds that a thread has to end when nothing is left for it to do.
_PATIENCE = 0.2


async def in_daemon(name: str, function: Callable[..., T], *arguments: Any) -> T:
    """Return what a function returns, or raise what it raises, from a thread of its own.

    Args:
        name: What the thread does, in one word.
        function: Called in the thread; if this is cancelled it goes on, for nobody.
        arguments: What it is called with.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(settled: Callable[[Any], None], result: Any) -> None:
        if not future.done():
            settled(result)

    def run() -> None:
        settled: Callable[[Any], None] = future.set_result
        try:
            result: Any = function(*arguments)
        except Exception as error:
            settled, result = future.set_exception, error
        except BaseException as error:  # of code that would end the process
            settled, result = future.set_exception, ModelError(first_line(error))
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, settled, result)

    threading.Thread(target=run, name=PREFIX + name, daemon=True).start()
    return await future


def leave() -> None:
    """End the process well, and at once, if a thread still runs; else do nothing.

    Python would take its memory away while native code of an engine may use it, and crash; or wait
    for threads that a load has started.
    """
    own = [each for each in threading.enumerate() if each.name.startswith(PREFIX)]
    for each in own:
        each.join(_PATIENCE)
    if any(each.is_alive() for each in own):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
