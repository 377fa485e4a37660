"""The moment at which a request is to be answered, whatever it waits for until then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass

from committee.errors import RequestError


@dataclass(frozen=True, slots=True)
class Deadline:
    """Seconds that a request has from its arrival.

    Args:
        arrived: When it came, as ``time.perf_counter()`` says.
        seconds: How long it may take; 0 for no limit.
    """

    arrived: float
    seconds: float

    def check(self) -> None:
        """Raise a RequestError, 504, if the time is over."""
        if self.seconds and self._left() <= 0:
            raise self._over()

    def limit(self) -> AbstractAsyncContextManager[None]:
        """Return what ends the work inside it with a RequestError, 504, once the time is over."""
        return self._limit() if self.seconds else nullcontext()

    @asynccontextmanager
    async def _limit(self) -> AsyncIterator[None]:
        self.check()
        try:
            async with asyncio.timeout(self._left()):
                yield
        except TimeoutError:
            raise self._over() from None

    def _left(self) -> float:
        return self.arrived + self.seconds - time.perf_counter()

    def _over(self) -> RequestError:
        return RequestError(
            f"no decision within {self.seconds:g} s; wait longer, or send fewer samples at once",
            504,
        )
