"""Threads: the executor of a search, which starts threads only where they pay."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

# With fewer numbers to read, starting threads takes longer than the work.
_SMALL = 1 << 16

Arguments = ParamSpec("Arguments")
Computed = TypeVar("Computed")


class _Inline(Executor):
    """Runs each call at once, in the thread that submits it."""

    def submit(
        self,
        fn: Callable[Arguments, Computed],
        /,
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Future[Computed]:
        future: Future[Computed] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def executor_for(numbers: float, threads: int) -> Executor:
    """Return an executor of so many threads, or of none if there are few numbers to read."""
    return _Inline() if numbers < _SMALL else ThreadPoolExecutor(threads)
