"""Batches across requests: whatever waits at a stage, of any request, forms its next batch.

The queues are those of :mod:`committee.run.stage_queues`. Threads run batches; the event loop lets
samples in and hands decisions out. A worker that is free takes the fullest that there is, so that
nothing waits while the server is idle, and batches grow by themselves when it is not. A sample that
waits alone is decided as the online runner does, which takes no queue.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from committee.errors import RequestError
from committee.models.inputs import RawSamples
from committee.rule.flow import Decisions
from committee.run.decision import Decision
from committee.run.stage_queues import Exits, Turn
from committee.serve.calls import USUAL, Alone, Call, Flow, News, Served, Worker
from committee.serve.choice import Pace, chosen
from committee.serve.observers import Observer
from committee.serve.settings import Settings
from committee.serve.stages import Batch, Options, Stages, joined_samples
from committee.serve.tracing import Tracing
from committee.text import brief, first_line


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
        self._lock = threading.Lock()
        self._asleep, self._wakes = 0, SimpleQueue[None]()
        self._entry: deque[Call] = deque()
        self._entered = 0  # samples in the entry
        self._pending = 0
        self._flows: dict[int, Flow] = {}
        self._turns: deque[Turn] = deque()  # of flows, before any batch
        self._calls: set[Call] = set()  # not yet answered
        self._closing = self._stopped = False
        self._workers = [Worker() for _ in range(settings.workers)]
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
        """What takes too long with a batch, as an error; empty if nothing does."""
        for worker in self._workers:
            batch = worker.batch
            if batch is not None and self._hangs(worker):
                return f"{self._stages.code(batch.stage)} hangs; ask again later"
        return ""

    def _hangs(self, worker: Worker) -> bool:
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
        call = self._let_in(samples, Options(max_stage, values))
        seconds = self._settings.deadline if deadline is None else deadline
        try:
            if not seconds:
                return await call.future
            async with asyncio.timeout(seconds):
                return await call.future
        except TimeoutError:
            raise RequestError(
                f"no decision within {seconds:g} s on {call.left:,} of {len(samples):,} samples; "
                "wait longer, or send fewer at once",
                504,
            ) from None
        finally:
            self._calls.discard(call)
            if call.left:
                self._give_up(call)

    async def close(self, seconds: float) -> None:
        """Let nothing in; end when nothing is pending, at the latest after some seconds."""
        with self._lock:
            self._closing = True
        try:
            async with asyncio.timeout(seconds):
                while self._pending:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            self._fail_all(RequestError("the server stops; ask again", 503))
        with self._lock:
            self._stopped = True
            self._wake(len(self._workers))
        self._watch.cancel()

    def retry_after(self) -> int:
        """Return in how many seconds what is pending will be done, roughly: 1 to 60."""
        seconds = self._pace.seconds(self._pending) / len(self._workers)
        return min(max(math.ceil(seconds), 1), 60)

    def _let_in(self, samples: RawSamples, options: Options) -> Call:
        count, most = len(samples), self._settings.queue
        if count > most:
            raise RequestError(
                f"{count:,} samples are too many; the queue has {most:,} places", 413
            )
        if hanging := self.hanging:
            raise RequestError(hanging, 503)
        future, now = self._loop.create_future(), time.monotonic()
        call = Call(future, options, samples, now, [None] * count, count)
        call.alone = count == 1 and options == USUAL
        if self._tracing is not None:
            call.context = self._tracing.current()
        with self._lock:
            if self._closing:
                raise RequestError("the server stops; ask again", 503)
            if self._pending + count > most:
                raise RequestError(
                    f"the queue is full: {self._pending:,} of its {most:,} places are taken, and "
                    f"{count:,} more are needed; ask again",
                    503,
                )
            self._calls.add(call)
            self._entry.append(call)
            self._entered += count
            self._pending += count
            self._wake()
        return call

    def _give_up(self, call: Call) -> None:
        """Free the places of a call that nobody waits for."""
        news = News()
        with self._lock:
            self._pending -= call.left
            call.left = 0
            if call.waiting:
                self._entry.remove(call)
                self._entered -= call.waiting
            for first in call.flows:
                rows = self._undecided(call, first)
                for turn in self._stages.drop(first, rows):
                    # Others of the flow waited for these alone, and go on.
                    if self._stages.scored:  # by a worker, since it may hang
                        self._turns.append(turn)
                    else:
                        self._hand_out(turn.taken(), news)
            self._wake()
        self._tell(news)

    def _undecided(self, call: Call, first: int) -> list[int]:
        """Return the rows of a flow that are samples of a call without a decision."""
        flow = self._flows.get(first)
        return [
            row
            for row, (own, at) in enumerate(() if flow is None else flow.places)
            if own is call and call.results[at] is None
        ]

    def _tell_empty(self) -> None:
        if not self._pending:
            self._empty.set()

    def _wake(self, count: int = 1) -> None:
        """Wake workers that sleep; the lock is held."""
        for _ in range(min(count, self._asleep)):
            self._asleep -= 1
            self._wakes.put(None)

    def _work(self, worker: Worker) -> None:
        """Run batches until the end; what a thread does."""
        while True:
            batch: Batch | Turn | None = None
            try:
                with self._lock:
                    batch = self._next_turn(worker)
                    taken = self._next_batch() if batch is None else None
                    if taken is not None:
                        batch, waited = taken
                        worker.begin(batch)
                    elif batch is None and self._stopped:
                        return
                    elif batch is None:
                        self._asleep += 1
                if batch is None:
                    self._wakes.get()
                    continue
                news = News()
                if isinstance(batch, Alone):
                    self._run_alone(worker, batch, waited, news)
                elif not isinstance(batch, Turn):
                    batch = self._run(worker, batch, waited, news)
                while isinstance(batch, Turn):
                    if news.calls:  # nobody waits for the confidence of others
                        self._call_soon(self._tell, news)
                        news = News()
                    batch = self._take_turn(worker, batch, news)
                self._call_soon(self._tell, news)
            except BaseException as error:  # of no sample; nobody may wait for ever
                worker.end()
                self._call_soon(self._break_off, batch, error)

    def _break_off(self, batch: Batch | Turn | None, error: BaseException) -> None:
        """Fail the calls of a batch that could not be run; all if it could not be taken."""
        broken = RuntimeError(f"a batch could not be run: {first_line(error)}")
        broken.__cause__ = error
        with self._lock:
            own = self._calls if batch is None else {*self._calls_of(batch)}
        # Those without anything left were decided, but not told.
        self._fail_calls([each for each in self._calls if each in own or not each.left], broken)

    def _run(self, worker: Worker, batch: Batch, waited: float, news: News) -> Turn | None:
        """Run a batch; return what the worker is to do at once."""
        answer, failed = self._stages.run(batch)
        with self._lock:
            seconds = time.monotonic() - worker.began
            calls = {} if self._tracing is None else dict.fromkeys(self._calls_of(batch))
            self._give(batch, answer, failed, news)
            news.contexts = [call.context for call in calls]
            news.batches.append((batch.stage, len(batch), waited, seconds))
            return self._next_turn(worker)

    def _take_turn(self, worker: Worker, turn: Turn, news: News) -> Turn | None:
        """Let a flow decide, and its samples exit or wait; return what the worker is to do next."""
        turn.decide()
        with self._lock:
            self._hand_out(turn.settle(), news)
            return self._next_turn(worker)

    def _next_turn(self, worker: Worker) -> Turn | None:
        """End what a worker did, and let it begin the next turn, if there is one."""
        if not self._turns:
            worker.end()
            if len(self._workers) > 1 and any(map(self._waiting, range(self._stages.queues))):
                self._wake()
            return None
        turn = self._turns.popleft()
        worker.begin(turn)
        return turn

    def _run_alone(self, worker: Worker, batch: Alone, waited: float, news: News) -> None:
        """Decide on a sample as the online runner does; if that fails, let it wait as others do."""
        call = batch.call
        try:
            made = self._stages.decide_alone(call.samples[0], batch.begin)
        except Exception:  # the usual way finds the reason
            made = None
        with self._lock:
            ends = [*batch.began[1:], time.monotonic()]
            worker.end()
            if call.left and made is not None:
                self._answer(call, 0, Served(made), news)
                news.made.append(made)
            elif call.left:
                call.alone, call.entered = False, 0
                self._entry.appendleft(call)
                self._entered += 1
        if made is not None:
            news.contexts = [call.context]
            for stage, (began, end) in enumerate(zip(batch.began, ends, strict=True)):
                news.batches.append((stage, 1, 0.0 if stage else waited, end - began))

    def _call_soon(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function in the event loop, if it still runs."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _waiting(self, queue: int) -> int:
        return self._stages.waiting(queue) + (0 if queue else self._entered)

    def _next_batch(self) -> tuple[Batch, float] | None:
        """Take the batch that is to run next, with the seconds that its samples have waited."""
        now = time.monotonic()
        queues = range(self._stages.queues)
        waiting = [self._waiting(queue) for queue in queues]
        count = sum(waiting)
        if not count:
            return None
        if count == 1 and self._entry and self._entry[0].alone:
            waited_alone = now - self._entry[0].since
            return self._enter_alone(), waited_alone
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

    def _enter_alone(self) -> Batch:
        """Take the only sample that waits."""
        call = self._entry.popleft()
        call.entered, self._entered = 1, 0
        return Alone(call)

    def _enter(self) -> Batch:
        """Make flows of the samples that have waited longest, and take them."""
        left, entry = self._settings.batch_of(0), self._entry
        groups: dict[Options, list[tuple[Call, int, int]]] = {}
        while entry and left:
            call = entry[0]
            start, end = call.entered, min(call.entered + left, len(call.results))
            groups.setdefault(call.options, []).append((call, start, end))
            call.entered = end
            left -= end - start
            if not call.waiting:
                entry.popleft()
        count = self._settings.batch_of(0) - left
        self._entered -= count
        for options, parts in groups.items():
            first = self._stages.add(joined_samples([c.samples[i:j] for c, i, j in parts]), options)
            places = [(call, row) for call, i, j in parts for row in range(i, j)]
            self._flows[first] = Flow(places, sum(c.since for c, _ in places) / len(places))
            for call, _, _ in parts:
                call.flows.append(first)
        batch: Batch = self._stages.take(0, count)
        return batch

    def _give(self, batch: Batch, answer: Any, failed: Any, news: News) -> None:
        """Fail the samples of a batch that failed; flows that have all answers get their turn."""
        if failed:
            places = [(first, row) for first, rows in batch.flows for row in rows.tolist()]
            for place, reason in failed.items():
                first, row = places[place]
                self._fail(first, row, batch.stage, reason, news)
        self._turns.extend(self._stages.give(batch, answer))

    def _hand_out(self, exits: Exits, news: News) -> None:
        """Answer samples that exited; those of their flow that stay wait from now on."""
        self._answer_all(exits, news)
        if exits.ended:
            self._flows.pop(exits.first, None)
        else:
            self._flows[exits.first].since = time.monotonic()

    def _answer_all(self, exits: Exits, news: News) -> None:
        for row, reason in exits.failed.items():
            self._fail(exits.first, row, exits.stage, reason, news)
        if exits.decisions is None:
            return
        places, rows = self._flows[exits.first].places, exits.rows
        own = exits.decisions.rows(rows)
        values = [None] * len(rows) if own.values is None else [*own.values]
        for row, made, value in zip(rows.tolist(), self._explained(own), values, strict=True):
            call, at = places[row]
            if call.left and call.results[at] is None:
                self._answer(call, at, Served(made, value), news)
                news.made.append(made)

    def _fail(self, first: int, row: int, stage: int, reason: str, news: News) -> None:
        call, at = self._flows[first].places[row]
        if call.left and call.results[at] is None:
            self._answer(call, at, Served(None, None, brief(reason)), news)
            news.failed.append(stage)
            self._turns.extend(self._stages.drop(first, [row]))

    def _answer(self, call: Call, row: int, served: Served, news: News) -> None:
        call.results[row] = served
        call.left -= 1
        self._pending -= 1
        if not call.left:
            news.calls.append(call)

    def _tell(self, news: News) -> None:
        """Hand out decisions; called in the event loop."""
        for call in news.calls:
            if not call.future.done():
                call.future.set_result(call.results)
        for batch in news.batches:
            self._pace.add(batch[3], len(news.made) + len(news.failed))
        if self._tracing is not None:
            self._trace(self._tracing, news)
        for observer in self._observers:
            for batch in news.batches:
                observer.batch(*batch)
            if news.made or news.failed:
                observer.exited(news.made, news.failed)
        self._tell_empty()

    def _trace(self, tracing: Tracing, news: News) -> None:
        ended = time.time_ns()
        for stage, size, _, seconds in reversed(news.batches):
            began = ended - round(seconds * 1e9)
            tracing.stage(news.contexts, stage, self._stages.models(stage), size, (began, ended))
            ended = began

    async def _watch_workers(self) -> None:
        """Fail what waits for a batch that does not end."""
        while True:
            await asyncio.sleep(self._settings.hang / 4)
            with self._lock:
                late = [each for each in self._workers if self._hangs(each)]
                new = [each.batch for each in late if not each.given_up and each.batch is not None]
                calls = {call for batch in new for call in self._calls_of(batch)}
                for each in late:
                    each.given_up = True
            error = RequestError(self.hanging, 503)
            if len(late) == len(self._workers):
                self._fail_all(error)
            self._fail_calls(calls, error)

    def _calls_of(self, batch: Batch | Turn) -> list[Call]:
        """Return the calls that a batch has samples of, once for each."""
        if isinstance(batch, Alone):
            return [batch.call]
        flows = [(self._flows.get(first), rows) for first, rows in batch.flows]
        return [
            flow.places[row][0] for flow, rows in flows if flow is not None for row in rows.tolist()
        ]

    def _fail_all(self, error: Exception) -> None:
        self._fail_calls([*self._calls], error)

    def _fail_calls(self, calls: Iterable[Call], error: Exception) -> None:
        """Answer calls with an error; their places are freed when it reaches them."""
        for call in calls:
            if not call.future.done():
                call.future.set_exception(error)
