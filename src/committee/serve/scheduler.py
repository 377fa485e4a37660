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
from itertools import repeat
from queue import SimpleQueue
from typing import Any

from committee.errors import RequestError
from committee.models.inputs import RawSamples
from committee.rule.flow import Decisions
from committee.run.decision import Decision
from committee.run.stage_queues import Exits
from committee.serve.calls import USUAL, Alone, Call, News, Served, Worker
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
        # The call of each sample in the queues of stages, and its row there, by number.
        self._places: dict[int, tuple[Call, int]] = {}
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
        values: bool = False,
    ) -> list[Served]:
        """Return what is decided on some samples, in their order; if cancelled, free their places.

        Args:
            samples: At least one.
            max_stage: The last stage that may run, from 0; None for all.
            values: Return the combinations at the exits too.

        Raises:
            RequestError: 503 if the queue is full, or a model hangs.
        """
        call = self._let_in(samples, Options(max_stage, values))
        try:
            return await call.future
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
        with self._lock:
            self._pending -= call.left
            call.left = 0
            if call.waiting:
                self._entry.remove(call)
                self._entered -= call.waiting
            self._stages.drop([n for n in call.numbers if self._places.pop(n, None) is not None])
        self._tell_empty()

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
            batch: Batch | Alone | None = None
            try:
                with self._lock:
                    taken = self._next_batch()
                    if taken is not None:
                        batch, waited = taken
                        worker.began, worker.batch = time.monotonic(), batch
                    elif self._stopped:
                        return
                    else:
                        self._asleep += 1
                if batch is None:
                    self._wakes.get()
                    continue
                if isinstance(batch, Alone):
                    news = self._run_alone(worker, batch, waited)
                else:
                    news = self._run(worker, batch, waited)
                self._call_soon(self._tell, news)
            except BaseException as error:  # of no sample; nobody may wait for ever
                worker.batch, worker.given_up = None, False
                self._call_soon(self._break_off, batch, error)

    def _break_off(self, batch: Batch | Alone | None, error: BaseException) -> None:
        """Fail the calls of a batch that could not be run; all if it could not be taken."""
        broken = RuntimeError(f"a batch could not be run: {first_line(error)}")
        broken.__cause__ = error
        with self._lock:
            own = self._calls if batch is None else self._calls_of(batch)
        # Those without anything left were decided, but not told.
        self._fail_calls([each for each in self._calls if each in own or not each.left], broken)

    def _run(self, worker: Worker, batch: Batch, waited: float) -> News:
        decided, news = self._stages.run(batch), News()
        with self._lock:
            now = time.monotonic()
            seconds = now - worker.began
            worker.batch, worker.given_up = None, False
            if self._tracing is not None:
                news.contexts = [call.context for call in self._calls_of(batch)]
            for exits in self._stages.give(batch, decided, now):
                self._hand_out(exits, news)
            news.batches.append((batch.stage, len(batch), waited, seconds))
            if len(self._workers) > 1 and any(map(self._waiting, range(self._stages.queues))):
                self._wake()
        return news

    def _run_alone(self, worker: Worker, batch: Alone, waited: float) -> News:
        """Decide on a sample as the online runner does; if that fails, let it wait as others do."""
        call, news = batch.call, News()
        try:
            made = self._stages.decide_alone(call.samples[0], batch.begin)
        except Exception:  # the usual way finds the reason
            made = None
        with self._lock:
            ends = [*batch.began[1:], time.monotonic()]
            worker.batch, worker.given_up = None, False
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
        return news

    def _call_soon(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function in the event loop, if it still runs."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _waiting(self, queue: int) -> int:
        return self._stages.waiting(queue) + (0 if queue else self._entered)

    def _next_batch(self) -> tuple[Batch | Alone, float] | None:
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
        return batch, now - batch.since

    def _take(self, queue: int) -> Batch:
        batch: Batch = self._stages.take(queue, self._settings.batch_of(queue))
        return batch

    def _waited(self, queue: int, now: float) -> float:
        """Return the seconds that the first sample of a queue has waited."""
        if queue == 0:
            return now - self._entry[0].since if self._entry else 0.0
        since = self._stages.since(queue)
        return 0.0 if since is None else now - since

    def _enter_alone(self) -> Alone:
        """Take the only sample that waits."""
        call = self._entry.popleft()
        call.entered, self._entered = 1, 0
        return Alone(call)

    def _enter(self) -> Batch:
        """Number the samples that have waited longest, and take them."""
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
            samples = joined_samples([call.samples[i:j] for call, i, j in parts])
            since = sum(call.since * (j - i) for call, i, j in parts) / len(samples)
            number = self._stages.add(samples, options, since)
            for call, i, j in parts:
                numbers = range(number, number + j - i)
                self._places.update(zip(numbers, zip(repeat(call), range(i, j)), strict=True))
                call.numbers += numbers
                number += j - i
        batch: Batch = self._stages.take(0, count)
        return batch

    def _hand_out(self, exits: Exits, news: News) -> None:
        """Answer samples that leave."""
        for number, reason in exits.failed.items():
            place = self._places.pop(number, None)
            if place is not None:
                self._answer(*place, Served(None, None, brief(reason)), news)
                news.failed.append(exits.stage)
        own = exits.decisions
        if own is None:
            return
        values = repeat(None, len(exits.numbers)) if own.values is None else own.values
        for number, made, value in zip(
            exits.numbers.tolist(), self._explained(own), values, strict=True
        ):
            place = self._places.pop(number, None)
            if place is not None:
                self._answer(*place, Served(made, value), news)
                news.made.append(made)

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

    def _calls_of(self, batch: Batch | Alone) -> list[Call]:
        """Return the calls that a batch has samples of, once each."""
        if isinstance(batch, Alone):
            return [batch.call]
        places = map(self._places.get, batch.numbers.tolist())
        return [*dict.fromkeys(place[0] for place in places if place is not None)]

    def _fail_all(self, error: Exception) -> None:
        self._fail_calls([*self._calls], error)

    def _fail_calls(self, calls: Iterable[Call], error: Exception) -> None:
        """Answer calls with an error; their places are freed when it reaches them."""
        for call in calls:
            if not call.future.done():
                call.future.set_exception(error)
