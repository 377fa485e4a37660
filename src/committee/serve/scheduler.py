"""Batches across requests: whatever waits at a stage, of any request, forms its next batch.

The queues are those of :mod:`committee.run.stage_queues`. Threads run batches; the event loop lets
samples in and hands decisions out. A worker that is free takes the fullest that there is, so that
nothing waits while the server is idle, and batches grow by themselves when it is not.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from committee.arrays import Array
from committee.errors import RequestError
from committee.models.inputs import RawSamples
from committee.rule.flow import Decisions
from committee.run.decision import Decision
from committee.run.stage_queues import Exits
from committee.serve.choice import Pace, chosen
from committee.serve.observers import Exit, Observer
from committee.serve.settings import Settings
from committee.serve.stages import Batch, Options, Stages, stacked
from committee.serve.tracing import Tracing
from committee.text import brief, first_line


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
class _Call:
    """The samples of one request, and what was decided so far."""

    future: asyncio.Future[list[Served]]
    options: Options
    results: list[Any]
    left: int
    context: Any = None
    tickets: list[_Ticket] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class _Ticket:
    """The place of a sample in the queues."""

    call: _Call
    row: int
    sample: Any
    since: float
    done: bool = False
    flow: int = -1
    flow_row: int = 0


@dataclass(eq=False, slots=True)
class _Flow:
    """The samples of a flow, and when they came to the queue where they wait, on average."""

    tickets: list[_Ticket]
    since: float


@dataclass(eq=False, slots=True)
class _Worker:
    """A thread, the batch that it runs, and since when."""

    thread: threading.Thread | None = None
    batch: Batch | None = None
    began: float = 0.0
    given_up: bool = False


@dataclass(eq=False)
class _News:
    """What the event loop is to be told."""

    calls: list[_Call] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    batch: tuple[int, int, float, float] | None = None
    contexts: list[Any] = field(default_factory=list)


class Scheduler:
    """Decides on the samples of many requests together.

    Args:
        stages: The stages of the cascade.
        explained: From decisions to each of them.
        settings: Sizes, delays and limits.
        observers: Who learns what happens; called in the event loop.
        tracing: Writes a span for each batch; None for none.
    """

    def __init__(
        self,
        stages: Stages,
        explained: Callable[[Decisions], list[Decision]],
        settings: Settings,
        observers: Sequence[Observer] = (),
        tracing: Tracing | None = None,
    ) -> None:
        settings.check_stages(stages.queues)
        self._stages, self._explained = stages, explained
        self._settings, self._observers, self._tracing = settings, observers, tracing
        self._changed = threading.Condition()
        self._entry: deque[_Ticket] = deque()
        self._entered = 0  # of the entry, those that nobody gave up
        self._pending = 0
        self._flows: dict[int, _Flow] = {}
        self._calls: set[_Call] = set()  # not yet answered
        self._closing = self._stopped = False
        self._workers = [_Worker() for _ in range(settings.workers)]
        self._pace = Pace()

    def start(self) -> None:
        """Start the workers; called in the event loop that will wait for decisions."""
        self._loop = asyncio.get_running_loop()
        self._empty = asyncio.Event()
        self._watch = asyncio.create_task(self._watch_workers())
        for number, worker in enumerate(self._workers):
            worker.thread = threading.Thread(
                target=self._work, args=(worker,), name=f"committee-serve-{number}", daemon=True
            )
            worker.thread.start()

    @property
    def pending(self) -> int:
        """How many samples were let in and not yet answered."""
        return self._pending

    @property
    def idle(self) -> bool:
        """True if no sample is pending."""
        return not self._pending

    @property
    def hanging(self) -> str:
        """What models run a batch for too long; empty if none does."""
        batches = [each.batch for each in self._workers if self._hangs(each)]
        return next((self._stages.models(each.stage) for each in batches if each), "")

    def _hangs(self, worker: _Worker) -> bool:
        late = time.monotonic() - worker.began > self._settings.hang
        return late and worker.batch is not None

    async def decide(
        self,
        samples: RawSamples,
        *,
        max_stage: int | None = None,
        deadline: float | None = None,
        values: bool = False,
    ) -> list[Served]:
        """Return what is decided on some samples, in their order.

        Args:
            samples: At least one.
            max_stage: The last stage that may run, from 0; None for all.
            deadline: Seconds from now; None for the setting. Cancelling the call frees its places
                too.
            values: Return the combinations at the exits too.

        Raises:
            RequestError: 503 if the queue is full, or a model hangs; 504 if the time is over.
        """
        options = Options(max_stage, values)
        count = len(samples)
        call = _Call(self._loop.create_future(), options, [None] * count, count)
        if self._tracing is not None:
            call.context = self._tracing.current()
        self._let_in(call, samples)
        seconds = self._settings.deadline if deadline is None else deadline
        try:
            if not seconds:
                return await call.future
            async with asyncio.timeout(seconds):
                return await call.future
        except TimeoutError:
            done = count - call.left
            raise RequestError(
                f"no decision within {seconds:g} s on {count - done:,} of {count:,} samples; wait "
                "longer, or send fewer at once",
                504,
            ) from None
        finally:
            self._calls.discard(call)
            if call.left:
                self._give_up(call)

    async def close(self, seconds: float) -> None:
        """Let nothing in; end when nothing is pending, at the latest after some seconds."""
        with self._changed:
            self._closing = True
        try:
            async with asyncio.timeout(seconds):
                while self._pending:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            self._fail_all(RequestError("the server stops; ask again", 503))
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._watch.cancel()

    def retry_after(self) -> int:
        """Return in how many seconds what is pending will be done, roughly: 1 to 60."""
        seconds = self._pace.seconds(self._pending) / len(self._workers)
        return min(max(math.ceil(seconds), 1), 60)

    def _let_in(self, call: _Call, samples: RawSamples) -> None:
        count, most = len(samples), self._settings.queue
        if count > most:
            raise RequestError(
                f"{count:,} samples are too many; the queue has {most:,} places", 413
            )
        hanging = self.hanging
        if hanging:
            raise RequestError(f"model {hanging} hangs; ask again later", 503)
        now = time.monotonic()
        with self._changed:
            if self._closing:
                raise RequestError("the server stops; ask again", 503)
            if self._pending + count > most:
                raise RequestError(
                    f"the queue is full: {self._pending:,} of its {most:,} places are taken, and "
                    f"{count:,} more are needed; ask again",
                    503,
                )
            self._calls.add(call)
            call.tickets = [_Ticket(call, row, each, now) for row, each in enumerate(samples)]
            self._entry.extend(call.tickets)
            self._entered += count
            self._pending += count
            self._changed.notify()

    def _give_up(self, call: _Call) -> None:
        """Free the places of a call that nobody waits for."""
        news = _News()
        with self._changed:
            for ticket in call.tickets:
                if not ticket.done:
                    self._finish(ticket, news)
            # Others of a flow may have waited for these alone, and go on to the next stage.
            self._changed.notify()
        self._tell(news)

    def _finish(self, ticket: _Ticket, news: _News) -> None:
        """Free the place of a sample."""
        ticket.done, ticket.sample = True, None
        self._pending -= 1
        if ticket.flow < 0:
            self._entered -= 1
        else:
            self._hand_out(self._stages.drop(ticket.flow, [ticket.flow_row]), news)

    def _tell_empty(self) -> None:
        if not self._pending:
            self._empty.set()

    def _work(self, worker: _Worker) -> None:
        """Run batches until the end; what a thread does."""
        while True:
            batch: Batch | None = None
            try:
                with self._changed:
                    while (taken := self._next_batch()) is None:
                        if self._stopped:
                            return
                        self._changed.wait()
                    batch, waited = taken
                    worker.began, worker.batch = time.monotonic(), batch
                self._call_soon(self._tell, self._run(worker, batch, waited))
            except BaseException as error:  # of no sample; nobody may wait for ever
                worker.batch, worker.given_up = None, False
                self._call_soon(self._break_off, batch, error)

    def _break_off(self, batch: Batch | None, error: BaseException) -> None:
        """Fail the calls of a batch that could not be run; all if it could not be taken."""
        broken = RuntimeError(f"a batch could not be run: {first_line(error)}")
        broken.__cause__ = error
        with self._changed:
            own = self._calls if batch is None else {*self._calls_of(batch)}
        # Those without anything left were decided, but not told.
        self._fail_calls([each for each in self._calls if each in own or not each.left], broken)

    def _run(self, worker: _Worker, batch: Batch, waited: float) -> _News:
        answer, failed = self._stages.run(batch)
        with self._changed:
            seconds = time.monotonic() - worker.began
            worker.batch, worker.given_up = None, False
            calls = {} if self._tracing is None else dict.fromkeys(self._calls_of(batch))
            news = self._given(batch, answer, failed)
            news.contexts = [call.context for call in calls]
            news.batch = batch.stage, len(batch), waited, seconds
            if len(self._workers) > 1 and any(map(self._waiting, range(self._stages.queues))):
                self._changed.notify()
        return news

    def _call_soon(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function in the event loop, if it still runs."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _waiting(self, queue: int) -> int:
        return self._stages.waiting(queue) + (0 if queue else self._entered)

    def _next_batch(self) -> tuple[Batch, float] | None:
        """Take the batch that is to run next, with the seconds that its samples have waited."""
        now = time.monotonic()
        while self._entry and self._entry[0].done:
            self._entry.popleft()
        queues = range(self._stages.queues)
        waiting = [self._waiting(queue) for queue in queues]
        if not any(waiting):
            return None
        waited = [self._waited(queue, now) for queue in queues]
        queue = chosen(waiting, waited, self._settings)
        batch = self._enter() if queue == 0 else self._take(queue)
        seconds = sum((now - self._flows[first].since) * len(rows) for first, rows in batch.flows)
        return batch, seconds / len(batch)

    def _take(self, queue: int) -> Batch:
        batch: Batch = self._stages.take(queue, self._settings.batch_of(queue))
        return batch

    def _waited(self, queue: int, now: float) -> float:
        """Return the seconds that the first sample of a queue has waited."""
        if queue == 0:
            return now - self._entry[0].since if self._entry else 0.0
        first = self._stages.next_flow(queue)
        return 0.0 if first is None else now - self._flows[first].since

    def _enter(self) -> Batch:
        """Make flows of the samples that have waited longest, and take them."""
        most = self._settings.batch_of(0)
        groups: defaultdict[Options, list[_Ticket]] = defaultdict(list)
        count, entry = 0, self._entry
        while entry and count < most:
            ticket = entry.popleft()
            if not ticket.done:
                groups[ticket.call.options].append(ticket)
                count += 1
        self._entered -= count
        for options, tickets in groups.items():
            first = self._stages.add(stacked([each.sample for each in tickets]), options)
            self._flows[first] = _Flow(tickets, sum(t.since for t in tickets) / len(tickets))
            for row, ticket in enumerate(tickets):
                ticket.flow, ticket.flow_row, ticket.sample = first, row, None
        batch: Batch = self._stages.take(0, count)
        return batch

    def _given(self, batch: Batch, answer: Any, failed: Any) -> _News:
        """Let the samples of a batch exit or wait at the next stage."""
        news = _News()
        if failed:
            places = [(first, row) for first, rows in batch.flows for row in rows.tolist()]
            for place, reason in failed.items():
                first, row = places[place]
                ticket = self._flows[first].tickets[row]
                self._fail(ticket, batch.stage, reason, news)
        self._hand_out(self._stages.give(batch, answer), news)
        return news

    def _hand_out(self, decided: Iterable[Exits], news: _News) -> None:
        """Answer samples that exited; those of their flow that stay wait from now on."""
        for exits in decided:
            self._answer_all(exits, news)
            if exits.ended:
                self._flows.pop(exits.first, None)
            else:
                self._flows[exits.first].since = time.monotonic()

    def _answer_all(self, exits: Exits, news: _News) -> None:
        tickets, decisions = self._flows[exits.first].tickets, exits.decisions
        for row, reason in exits.failed.items():
            self._fail(tickets[row], exits.stage, reason, news)
        if decisions is None:
            return
        rows = exits.rows
        own = decisions.rows(rows)
        values = [None] * len(rows) if own.values is None else [*own.values]
        for row, made, value in zip(rows.tolist(), self._explained(own), values, strict=True):
            ticket = tickets[row]
            if not ticket.done:
                self._answer(ticket, Served(made, value), news)
                news.exits.append(Exit(made.stage, made.cost))

    def _fail(self, ticket: _Ticket, stage: int, reason: str, news: _News) -> None:
        if not ticket.done:
            self._answer(ticket, Served(None, None, brief(reason)), news)
            news.exits.append(Exit(stage, None, True))
            self._hand_out(self._stages.drop(ticket.flow, [ticket.flow_row]), news)

    def _answer(self, ticket: _Ticket, served: Served, news: _News) -> None:
        call = ticket.call
        ticket.done, call.results[ticket.row] = True, served
        call.left -= 1
        self._pending -= 1
        if not call.left:
            news.calls.append(call)

    def _tell(self, news: _News) -> None:
        """Hand out decisions; called in the event loop."""
        for call in news.calls:
            if not call.future.done():
                call.future.set_result(call.results)
        if news.batch is not None:
            self._pace.add(news.batch[3], len(news.exits))
        if self._tracing is not None and news.batch is not None:
            self._trace(news.contexts, *news.batch)
        for observer in self._observers:
            if news.batch is not None:
                observer.batch(*news.batch)
            if news.exits:
                observer.exited(news.exits)
        self._tell_empty()

    def _trace(self, contexts: list[Any], stage: int, size: int, _: float, model_s: float) -> None:
        assert self._tracing is not None
        ended = time.time_ns()
        times = ended - round(model_s * 1e9), ended
        self._tracing.stage(contexts, stage, self._stages.models(stage), size, times)

    async def _watch_workers(self) -> None:
        """Fail what waits for a batch that does not end."""
        while True:
            await asyncio.sleep(self._settings.hang / 4)
            with self._changed:
                late = [each for each in self._workers if self._hangs(each)]
                new = [each.batch for each in late if not each.given_up and each.batch is not None]
                calls = {call for batch in new for call in self._calls_of(batch)}
                for each in late:
                    each.given_up = True
            error = RequestError(f"model {self.hanging} hangs; ask again later", 503)
            if len(late) == len(self._workers):
                self._fail_all(error)
            self._fail_calls(calls, error)

    def _calls_of(self, batch: Batch) -> list[_Call]:
        """Return the calls that a batch has samples of, once for each."""
        flows = [(self._flows.get(first), rows) for first, rows in batch.flows]
        return [
            flow.tickets[row].call
            for flow, rows in flows
            if flow is not None
            for row in rows.tolist()
        ]

    def _fail_all(self, error: Exception) -> None:
        self._fail_calls([*self._calls], error)

    def _fail_calls(self, calls: Iterable[_Call], error: Exception) -> None:
        """Answer calls with an error; their places are freed when it reaches them."""
        for call in calls:
            if not call.future.done():
                call.future.set_exception(error)
