"""What the scheduler knows of requests, workers, and of what it has to tell."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from committee.arrays import Array
from committee.models.inputs import RawSamples
from committee.run.decision import Decision
from committee.serve.stages import Batch, Options

# Samples without these wishes may be decided alone.
USUAL = Options()


class Served(msgspec.Struct, frozen=True, eq=False):
    """What the cascade decided on a sample, or why it failed.

    Args:
        decision: The decision; None if the sample failed.
        values: The combination at the exit, shape (C,), if it was asked for.
        reason: Why it failed; empty if it did not.
    """

    decision: Decision | None
    values: Array | None = None
    reason: str = ""


@dataclass(eq=False, slots=True)
class Call:
    """The samples of one request, and what was decided so far.

    Attributes:
        future: Gets the results.
        options: What its samples have in common.
        samples: The samples.
        since: When it came.
        results: What was decided on each sample; None if nothing yet.
        left: How many places it has.
        entered: How many of its samples left the entry, the first ones.
        numbers: The numbers that these have in the queues of stages.
        alone: Whether its only sample may be decided without a queue.
        context: What its spans belong to.
    """

    future: asyncio.Future[list[Served]]
    options: Options
    samples: RawSamples
    since: float
    results: list[Any]
    left: int
    entered: int = 0
    numbers: list[int] = field(default_factory=list)
    alone: bool = False
    context: Any = None

    @property
    def waiting(self) -> int:
        """How many of its samples are in the entry."""
        return len(self.results) - self.entered


@dataclass(eq=False, slots=True)
class Alone:
    """The only sample that waited, which runs through all stages at once.

    Attributes:
        call: Its call.
        stage: The stage that runs.
        began: When each stage began.
    """

    call: Call
    stage: int = 0
    began: list[float] = field(default_factory=list)

    def begin(self, stage: int) -> None:
        """Note that a model of a stage begins; raise an error if nobody waits for it."""
        if not self.call.left:
            raise GivenUpError
        if stage == len(self.began):
            self.stage = stage
            self.began.append(time.monotonic())


class GivenUpError(Exception):
    """Nobody waits for a sample any more."""


@dataclass(eq=False, slots=True)
class Worker:
    """A thread, the batch that it runs, and since when."""

    thread: threading.Thread | None = None
    batch: Batch | Alone | None = None
    began: float = 0.0
    given_up: bool = False


@dataclass(eq=False, slots=True)
class News:
    """What the event loop is to be told.

    Attributes:
        calls: Those that were decided.
        made: Decisions that were made.
        failed: The stages at which other samples failed.
        batches: The stage, size, seconds of waiting and of running of each batch, in their order.
        contexts: What the spans of the batches belong to.
    """

    calls: list[Call] = field(default_factory=list)
    made: list[Decision] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    batches: list[tuple[int, int, float, float]] = field(default_factory=list)
    contexts: list[Any] = field(default_factory=list)
