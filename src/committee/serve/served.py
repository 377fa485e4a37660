"""What is served: a cascade that is loaded and warm; and how another takes its place."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from committee.errors import RequestError
from committee.models.inputs import RawSamples
from committee.rule.cascade import Cascade
from committee.run.runner import Runner
from committee.serve.calls import Served
from committee.serve.daemon import in_daemon
from committee.serve.exit_counts import ExitCounts
from committee.serve.observers import Observer
from committee.serve.samples import SampleReader
from committee.serve.scheduler import Scheduler
from committee.serve.settings import Settings
from committee.serve.stages import stages_of
from committee.serve.tracing import Tracing


@dataclass(eq=False)
class ServedCascade:
    """A cascade that is loaded and warm.

    Attributes:
        name: Its name in addresses.
        version: Its fingerprint.
        runner: Its models, its task and its costs.
        reader: Reads its samples from requests.
        scheduler: Decides on them.
        exits: Where they exited.
        followers: Observers that learn of each request.
        users: How many requests use it.
        requests: How many asked for decisions.
    """

    name: str
    version: str
    runner: Runner
    reader: SampleReader
    scheduler: Scheduler
    exits: ExitCounts
    followers: Sequence[Observer]
    users: int = 0
    requests: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)

    def __enter__(self) -> ServedCascade:
        """Begin to use it."""
        self.users += 1
        return self

    def __exit__(self, *_: object) -> None:
        """End its use."""
        self.users -= 1
        if not self.users:
            self.unused.set()

    @property
    def cascade(self) -> Cascade:
        """The rule, the names of the classes and the certificate."""
        return self.runner.cascade

    async def decide(
        self,
        samples: RawSamples,
        *,
        max_stage: int | None = None,
        values: bool = False,
    ) -> list[Served]:
        """Return what is decided on samples, and tell the observers; see :class:`Scheduler`.

        Requests that do not let all stages run are not told: where their samples would have exited
        is not known.
        """
        work = self.scheduler.decide(samples, max_stage=max_stage, values=values)
        if max_stage is not None:
            return await work
        number, self.requests = self.requests, self.requests + 1
        for each in self.followers:
            each.began(number)
        made: list[Served] = []
        try:
            made = await work
        finally:
            decisions = [each.decision for each in made]
            for follower in self.followers:
                follower.decided(number, samples, decisions)
        return made

    async def close(self, seconds: float) -> None:
        """Wait for the requests that use it, at most some seconds; the rest are answered 503."""
        try:
            async with asyncio.timeout(seconds):
                while self.users:
                    self.unused.clear()
                    await self.unused.wait()
        except TimeoutError:
            pass
        await self.scheduler.close(0)


class Serving:
    """The cascade that is served now.

    Args:
        load: Opens the cascade and loads its models; called in a thread.
        settings: Name, sizes, delays and limits.
        observers: Who learns what happens.
        tracing: Writes spans; None for none.
    """

    def __init__(
        self,
        load: Callable[[], Runner],
        settings: Settings,
        observers: Sequence[Observer] = (),
        tracing: Tracing | None = None,
    ) -> None:
        self._load, self.settings, self.observers = load, settings, list(observers)
        self.tracing = tracing
        self.body_bytes = 0  # of all requests under way
        self.current: ServedCascade | None = None
        self.stopping = False
        self._swapping = asyncio.Lock()
        self._retired: set[asyncio.Task[None]] = set()

    def count_bytes(self, about: dict[str, Any], size: int) -> None:
        """Count bytes of a request, which it gives back when it ends.

        Args:
            about: What is known of the request; its bytes are added.
            size: How many there are.

        Raises:
            RequestError: 503 if the bodies of all requests together would take too much memory.
        """
        if self.body_bytes + size > self.settings.max_bodies:
            raise RequestError("too many bodies are being read; ask again", 503)
        self.body_bytes += size
        about["bytes"] += size

    @property
    def not_ready(self) -> str:
        """Why no request can be answered now; empty if it can."""
        if self.stopping:
            return "the server stops; ask again"
        if self.current is None:
            return "the models are being loaded; ask again"
        return self.current.scheduler.hanging

    @property
    def pending(self) -> int:
        """How many samples wait for a decision."""
        return 0 if self.current is None else self.current.scheduler.pending

    def use(self) -> ServedCascade:
        """Return the present cascade, for a request in whose ``with`` it stays.

        Raises:
            RequestError: 503 while the server loads or stops.
        """
        if self.current is None or self.stopping:
            raise RequestError(self.not_ready, 503)
        return self.current

    async def swap(self) -> ServedCascade:
        """Load the cascade and serve it; requests that use the one before end with that one.

        Raises:
            CommitteeError: If it cannot be loaded; the one before goes on.
        """
        async with self._swapping:
            served = await in_daemon("load", self._loaded)
            served.scheduler.start()
            before, self.current = self.current, served
        if before is not None:
            task = asyncio.create_task(before.close(self.settings.drain))
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)
        return served

    def when_retired(self, function: Callable[[], object]) -> None:
        """Call a function each time that a cascade before the present one has ended."""
        for task in self._retired:
            task.add_done_callback(lambda _: function())

    async def stop(self) -> None:
        """Refuse new requests, and end those that are under way within a limit."""
        self.stopping = True
        if self.current is not None:
            await self.current.close(self.settings.drain)
        await asyncio.gather(*self._retired)

    def _loaded(self) -> ServedCascade:
        runner = self._load()
        runner.warm()
        settings, (first, later) = self.settings, runner.recipes
        reader = SampleReader(
            runner.task,
            first | later,
            settings.max_pixels,
            settings.max_samples,
            whole=any(each.wants_samples for each in self.observers),
        )
        reader.warm()
        exits = ExitCounts(len(runner.cascade.stages))
        version = version_of(runner.cascade)
        stages = stages_of(runner)
        settings.check_stages(stages.queues)
        # Observers turn to the new cascade, so nothing may fail after them.
        observers = [each.watching(runner, version) for each in self.observers]
        scheduler = Scheduler(
            stages, runner.explained_rows, settings, [*observers, exits], self.tracing
        )
        # Most observers learn nothing of requests, and every call takes time.
        unmoved = Observer.began, Observer.decided
        followers = [e for e in observers if (type(e).began, type(e).decided) != unmoved]
        return ServedCascade(settings.name, version, runner, reader, scheduler, exits, followers)


def version_of(cascade: Cascade) -> str:
    """Return a fingerprint that changes with any decision: of the rule, and of the models."""
    models = {name: cascade.models[name].fingerprint for name in cascade.names}
    text = json.dumps([cascade.rule_fingerprint, models], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
