"""Alarms: the monitors of :mod:`committee.certificates.monitors` on what is served."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from committee.certificates.monitors import Monitors, Reading, State
from committee.certificates.state_file import StateFile
from committee.errors import CascadeError
from committee.models.inputs import RawSamples
from committee.reading import plain
from committee.run.decision import Decision
from committee.run.runner import Runner
from committee.serve.metrics import Metrics
from committee.serve.observers import Observer
from committee.serve.settings import AlarmSettings
from committee.serve.webhook import Webhook

# Seconds between two looks at the samples that came.
_LOOK = 1.0
# Seconds between two writes of the state, which is also written after an alarm and at the end.
_WRITE = 10.0


class Alarms(Observer):
    """Looks at the exits, scores and failures of what is served, and tells who is to know.

    Args:
        settings: What raises an alarm, and who is told.
        metrics: Where readings are shown.
        note: Called with each message for the operator.
    """

    def __init__(
        self, settings: AlarmSettings, metrics: Metrics, note: Callable[[str], None]
    ) -> None:
        self._settings, self._metrics, self._note = settings, metrics, note
        self._file = None if settings.state is None else StateFile(settings.state)
        self._watch: _Watch | None = None
        self._why = "no cascade is served yet"
        path = settings.state
        unsent = None if path is None else path.with_name(f"{path.name}.unsent")
        self._webhook = Webhook(settings.webhook, unsent, metrics.webhook_failed, note)
        self._looking = asyncio.Lock()
        self._written = time.monotonic()

    def watching(self, runner: Runner, version: str) -> Observer:
        """Watch another cascade; one that expects the same exits goes on as it was."""
        own = self._settings
        try:
            monitors = Monitors.of(
                runner.cascade, alpha=own.alpha, tau=own.tau, most_failed=own.most_failed
            )
        except CascadeError as error:
            self._watch, self._why = None, str(error)
            self._note(f"no alarms: {error}")
            return Observer()
        watch, self._why = self._watch, ""
        if watch is None:
            watch = _Watch(monitors, self._stored(monitors) or monitors.start())
        elif watch.monitors.key != monitors.key:
            self._keep_before()
            watch = _Watch(monitors, monitors.start())
        watch.about = {"cascade": str(runner.cascade), "version": version}
        self._watch = watch
        self._show()
        return InOrder(watch.new)

    async def run(self) -> None:
        """Look every second, and at the end at what came since."""
        self._webhook.start()
        try:
            while True:
                await asyncio.sleep(_LOOK)
                # A look that has begun ends before the last one.
                await asyncio.shield(self.look())
        finally:
            await self.look()
            self._store()
            await self._webhook.close()

    async def look(self) -> None:
        """Look at the samples that came since."""
        async with self._looking:
            watch = self._watch
            if watch is None or not watch.new:
                return
            before = watch.alarms
            await asyncio.to_thread(watch.look)
            self._show()
            raised = [each for each in watch.readings if each.name in watch.alarms - before]
            for reading in raised:
                self._raise(watch, reading)
            if raised or time.monotonic() - self._written > _WRITE:
                await asyncio.to_thread(self._store)

    def to_json(self) -> dict[str, Any]:
        """Return what every monitor reads, or why there is none."""
        watch = self._watch
        if watch is None:
            return {"alarm": False, "monitors": [], "problem": self._why}
        return {**watch.about, **watch.monitors.report(watch.state)}

    def _raise(self, watch: _Watch, reading: Reading) -> None:
        share = "" if reading.share is None else f"; {reading.share:.2%} of all samples so far"
        expected = "" if reading.expected is None else f", {reading.expected:.2%} expected"
        self.tell(
            f"{reading.name} at sample {reading.alarm_at:,}{share}{expected}",
            {**watch.about, "alarm": reading.name, "reading": plain(reading)},
        )

    def tell(self, text: str, data: Mapping[str, Any]) -> None:
        """Write an alarm into the log, and send it to the webhook if there is one."""
        self._note(f"alarm: {text}")
        self._webhook.send(data)

    def _show(self) -> None:
        for reading in self._watch.readings if self._watch else ():
            self._metrics.monitored(reading)

    def _stored(self, monitors: Monitors) -> State | None:
        """Return what the file knows of these monitors."""
        if self._file is None:
            return None
        try:
            return self._file.read(monitors)
        except CascadeError as error:
            self._set_aside(self._file, str(error))
        except OSError as error:
            self._note(f"alarms begin anew: {error}")
        return None

    def _keep_before(self) -> None:
        """Keep the state of the cascade before."""
        self._store()
        if self._file is not None and self._file.path.exists():
            self._set_aside(self._file, "another cascade is served")

    def _set_aside(self, file: StateFile, why: str) -> None:
        try:
            kept = file.set_aside()
        except OSError as error:
            self._note(f"alarms begin anew: {why} ({error})")
        else:
            self._note(f"alarms begin anew: {why}. The state before is in {kept}")

    def _store(self) -> None:
        file, watch, self._written = self._file, self._watch, time.monotonic()
        if file is None or watch is None:
            return
        try:
            file.write(watch.state)
        except OSError as error:
            self._note(f"{file.path}: the state of alarms cannot be written ({error.strerror})")
        except CascadeError as error:
            self._file = None
            self._note(f"the state of alarms is written no more: {error}")


class InOrder(Observer):
    """Hands on the samples of a loaded cascade once those of all earlier requests are decided.

    Samples that exit early are answered early. In that order they would tell of exits that are
    not there.

    Args:
        new: Takes the stage and the score of each sample; -1 and 0 if it failed.
    """

    def __init__(self, new: list[tuple[int, float]]) -> None:
        self.new = new
        self._came: deque[int] = deque()
        self._made: dict[int, list[tuple[int, float]]] = {}

    def began(self, number: int) -> None:
        """See :class:`Observer`."""
        self._came.append(number)

    def decided(self, number: int, samples: RawSamples, made: Sequence[Decision | None]) -> None:
        """See :class:`Observer`."""
        self._made[number] = [
            (-1, 0.0) if each is None else (each.stage, each.confidence) for each in made
        ]
        while self._came and self._came[0] in self._made:
            self.new += self._made.pop(self._came.popleft())


class _Watch:
    """The monitors of cascades that expect the same, and samples that they have not looked at."""

    def __init__(self, monitors: Monitors, state: State) -> None:
        self.about: dict[str, str] = {}
        self.monitors, self.state = monitors, state
        self.new: list[tuple[int, float]] = []

    def look(self) -> None:
        """Look at the new samples; called by one thread at a time."""
        count = len(self.new)
        stages, scores = np.array(self.new[:count] or np.zeros((0, 2))).T
        cells = self.monitors.cells(stages.astype(np.int64), scores)
        self.state = self.monitors.advance(self.state, cells)
        del self.new[:count]

    @property
    def readings(self) -> Sequence[Reading]:
        return self.monitors.readings(self.state)

    @property
    def alarms(self) -> set[str]:
        """Names of the monitors whose alarm was raised."""
        return {each.name for each in self.readings if each.alarm_at is not None}
