"""What watches all replicas of a served cascade at once: one actor, whose counts are their sums.

Replicas tell it twice a second what the observers of a server learn. There the same metrics and
alarms as in one process look at it, so a monitor sees the samples of all replicas as one stream,
and its chance of a false alarm is that of one server.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from committee.models.inputs import RawSamples
from committee.rule.cascade import Cascade
from committee.run.decision import Decision
from committee.run.runner import Runner
from committee.serve.alarms import Alarms, InOrder
from committee.serve.exit_counts import ExitCounts
from committee.serve.metrics import Metrics
from committee.serve.observers import Observer, run_noted
from committee.serve.settings import AlarmSettings

# Seconds between two reports of a replica, and after which one that is silent has ended.
_REPORT, _SILENT = 0.5, 10.0
# Events that a replica keeps while the watcher does not answer; the oldest are lost.
_KEPT = 100_000


class Report(NamedTuple):
    """What happened at a replica since its last report.

    Args:
        replica: Its name.
        version: What it serves.
        pending: How many samples wait for a decision.
        calls: Calls of observers: the method, and its arguments.
        decided: Stage and score of each sample, in the order in which requests came.
    """

    replica: str
    version: str
    pending: int
    calls: Sequence[tuple[str, tuple[Any, ...]]]
    decided: Sequence[tuple[int, float]]


class Watcher:
    """Metrics, alarms and exits of all replicas; an actor.

    Args:
        settings: What raises an alarm, and who is told.
    """

    def __init__(self, settings: AlarmSettings) -> None:
        self._notes: deque[str] = deque(maxlen=1000)
        self._pending: dict[str, tuple[float, int]] = {}
        self._metrics = Metrics(self._all_pending)
        self._alarms = Alarms(settings, self._metrics, self._notes.append)
        self._version, self._exits = "", ExitCounts(0)
        self._new: list[tuple[int, float]] = []
        self._running: asyncio.Task[None] | None = None

    async def serves(self, cascade: Cascade, unit: str, version: str) -> None:
        """Look at another cascade from now on, unless a replica has said so before."""
        if self._running is None:
            alarms = run_noted(self._alarms, self._notes.append)
            self._running = asyncio.create_task(alarms)
        if version == self._version:
            return
        served: Any = SimpleNamespace(cascade=cascade, unit=unit)  # all that they ask of a runner
        self._version, self._exits = version, ExitCounts(len(cascade.stages))
        self._metrics.watching(served, version)
        watching = self._alarms.watching(served, version)
        self._new = watching.new if isinstance(watching, InOrder) else []

    async def tell(self, report: Report) -> None:
        """Take in a report. Alarms look at samples of the newest cascade alone."""
        self._pending[report.replica] = time.monotonic(), report.pending
        current = report.version == self._version
        for method, arguments in report.calls:
            getattr(self._metrics, method)(*arguments)
            if current:
                getattr(self._exits, method)(*arguments)
        if current:
            self._new += report.decided

    async def metrics(self) -> bytes:
        """Return all metrics in the format of Prometheus."""
        await self._alarms.look()
        return bytes(self._metrics.response().body)

    async def alarms(self) -> dict[str, Any]:
        """Return what every monitor reads."""
        await self._alarms.look()
        return {**self._alarms.to_json(), "shadow": None}

    async def exits(self) -> dict[str, Any]:
        """Return where samples exited since the newest cascade was loaded."""
        return {"version": self._version, **self._exits.shown(self._all_pending())}

    async def notes(self) -> list[str]:
        """Return the messages for the operator since the last call."""
        notes = [*self._notes]
        self._notes.clear()
        return notes

    async def close(self) -> None:
        """Look at the last samples, and write the state of alarms."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def _all_pending(self) -> int:
        since = time.monotonic() - _SILENT
        return sum(count for told, count in self._pending.values() if told > since)


class Teller(Observer):
    """Tells the watcher what happens at one replica.

    Args:
        replica: Its name.
        watcher: The actor.
    """

    def __init__(self, replica: str, watcher: Any) -> None:
        self._replica, self._watcher = replica, watcher
        self._calls: deque[tuple[str, tuple[Any, ...]]] = deque(maxlen=_KEPT)
        self._decided: list[tuple[int, float]] = []
        self._order = InOrder(self._decided)
        self._served: tuple[Cascade, str, str] | None = None
        self._is_known = False
        self.pending: Callable[[], int] = int

    def watching(self, runner: Runner, version: str) -> Observer:
        """See :class:`Observer`; a replica serves one cascade for all its life."""
        self._served = runner.cascade, runner.unit, version
        return self

    async def run(self) -> None:
        """Report twice a second; what no watcher took is reported again."""
        while True:
            await asyncio.sleep(_REPORT)
            await self.report()

    async def report(self) -> None:
        """Report what has happened since."""
        if self._served is None:
            return
        calls, decided = [*self._calls], [*self._decided]
        self._calls.clear()
        self._decided.clear()
        report = Report(self._replica, self._served[2], self.pending(), calls, decided)
        try:
            if not self._is_known:
                await self._watcher.serves.remote(*self._served)
                self._is_known = True
            await self._watcher.tell.remote(report)
        except Exception:  # it is begun anew, and knows nothing
            self._is_known = False
            self._calls.extendleft(reversed(calls))
            self._decided[:0] = decided[-_KEPT:]

    def began(self, number: int) -> None:
        """See :class:`Observer`."""
        self._order.began(number)

    def decided(self, number: int, samples: RawSamples, made: Sequence[Decision | None]) -> None:
        """See :class:`Observer`."""
        self._order.decided(number, samples, made)

    def batch(self, stage: int, size: int, wait_s: float, model_s: float) -> None:
        """See :class:`Observer`."""
        self._calls.append(("batch", (stage, size, wait_s, model_s)))

    def exited(self, made: Sequence[Decision], failed: Sequence[int]) -> None:
        """See :class:`Observer`."""
        self._calls.append(("exited", (made, failed)))

    def answered(self, route: str, status: int, seconds: float, samples: int) -> None:
        """See :class:`Observer`."""
        self._calls.append(("answered", (route, status, seconds, samples)))
