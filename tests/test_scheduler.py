"""Batches across requests: the scheduler decides as the online runner does, and fails alone."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from committee import Cascade, Runner
from committee.embedded import embedded_images
from committee.errors import CascadeError, RequestError
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.rule.scores import CONFIDENCES, softmax
from committee.run.decision import Decision
from committee.serve.calls import Served
from committee.serve.choice import chosen
from committee.serve.deadline import Deadline
from committee.serve.observers import Observer
from committee.serve.scheduler import Scheduler
from committee.serve.settings import Settings
from committee.serve.stages import limited, stages_of
from export_world import embedded
from record_world import write_pool as write_records
from small_world import CLASSES, code_of, images, write_pool

CHAIN = Cascade.of(["nano", "tiny", "small"], [0.9, 0.9])
IMAGES: Any = embedded_images("test").read(np.arange(200))


@pytest.fixture(scope="module")
def runner() -> Runner:
    made = Runner(embedded(CHAIN), threads=1)
    made.warm()
    return made


class Log(Observer):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.exits: list[tuple[int, bool]] = []

    def batch(self, stage: int, size: int, wait_s: float, model_s: float) -> None:
        assert wait_s >= 0
        assert model_s > 0
        self.batches.append((stage, size))

    def exited(self, made: Sequence[Decision], failed: Sequence[int]) -> None:
        self.exits += [(each.stage, False) for each in made] + [(stage, True) for stage in failed]


def scheduled(runner: Runner, work: Callable[[Scheduler], Any], *observers: Any, **own: Any) -> Any:
    """What a function of a scheduler returns."""

    async def run() -> Any:
        scheduler = Scheduler(stages_of(runner), runner.explained_rows, Settings(**own), observers)
        scheduler.start()
        try:
            return await work(scheduler)
        finally:
            await scheduler.close(5)

    return asyncio.run(run())


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("max_batch", [(1,), (64,), (16, 4, 7)])
def test_decisions_are_those_of_the_online_runner(runner: Runner, workers, max_batch) -> None:
    log = Log()

    async def work(scheduler: Scheduler) -> Any:
        several = [scheduler.decide(IMAGES[i : i + 3]) for i in range(0, 99, 3)]
        single = [scheduler.decide(IMAGES[i : i + 1]) for i in range(99, 200)]
        return await asyncio.gather(*several, *single)

    answers = scheduled(runner, work, log, workers=workers, max_batch=max_batch)
    served = [each.decision for answer in answers for each in answer]
    alone = [runner(image) for image in IMAGES]
    assert [(d.class_index, d.stage, d.cost) for d in served] == [
        (d.class_index, d.stage, d.cost) for d in alone
    ]
    assert [d.confidence for d in served] == pytest.approx([d.confidence for d in alone], 1e-5)
    assert sorted(log.exits) == sorted((d.stage, False) for d in alone)
    reached = [sum(d.stage >= stage for d in alone) for stage in range(3)]
    assert [sum(n for k, n in log.batches if k == stage) for stage in range(3)] == reached
    assert max(n for k, n in log.batches if k == 0) <= max_batch[0]


def test_a_limit_is_a_shorter_cascade_for_the_samples_that_have_it(runner: Runner) -> None:
    async def work(scheduler: Scheduler) -> Any:
        limits = (0, 1, 2, 7, None)
        calls = [
            scheduler.decide(IMAGES[i : i + 20], max_stage=limits[i // 20 % 5], values=i >= 100)
            for i in range(0, 200, 20)
        ]
        return await asyncio.gather(*calls)

    answers = scheduled(runner, work)
    rules = [limited(runner.cascade, stage) for stage in (0, 1)] + [runner.cascade] * 3
    for number, answer in enumerate(answers):
        some = IMAGES[number * 20 : number * 20 + 20]
        wanted = Runner(rules[number % 5], threads=1).decide(some)
        assert [each.decision.class_index for each in answer] == wanted.predicted.tolist()
        assert [each.decision.stage for each in answer] == wanted.stage.tolist()
        if number < 5:
            assert {each.values is None for each in answer} == {True}
        else:
            shares = softmax(np.stack([each.values for each in answer]))
            scores = [each.decision.confidence for each in answer]
            assert shares.max(axis=1) == pytest.approx(scores, 1e-6)


# Each sample says by its first pixel what a model does with it.
FAULTY = """
import threading
import time
import numpy as np

gate, began = threading.Event(), threading.Event()

def _model(name, fault):
    matrix = np.random.default_rng(len(name)).normal(size=(16, 3)).astype(np.float32)
    def run(batch):
        rows = batch.reshape(len(batch), -1)
        said = np.rint(rows[:, 0] * 127.5 + 127.5)
        if (said == 9).any():
            began.set()
            gate.wait(30)
        if (said == fault).any():
            raise ValueError(f"{name} cannot")
        z = rows @ matrix
        z[said == fault + 1] = np.nan
        return z
    return run

def one():
    return _model("one", 1)

def second():
    return _model("second", 3)
"""
RAISES, GIVES_NAN, RAISES_LATE, GIVES_NAN_LATE, WAITS = 1, 2, 3, 4, 9
WHY = {
    RAISES: "model 'one'",
    GIVES_NAN: "model 'one': NaN",
    RAISES_LATE: "model 'two'",
    GIVES_NAN_LATE: "model 'two': NaN",
}


class Faulty:
    """A runner of two models that fail, or wait, where a sample says so."""

    def __init__(self, folder: Path, named: bool = True) -> None:
        path = write_pool(folder)
        path.write_text(path.read_text().replace(":two", ":second"))
        (folder / "models.py").write_text(FAULTY)
        code = code_of(path)
        known = [load_model(spec, code)[1] for spec in read_pool_file(path).models]
        cascade = replace(
            Cascade.of(["one", "two"], [1.0]),
            models={spec.name: spec for spec in known},
            classes=CLASSES if named else (),
        )
        self.runner = Runner(cascade, allow_code=code)
        self.module: Any = sys.modules[f"committee source {folder / 'models.py'}"]

    async def waits(self) -> None:
        """Come back when a batch waits at the gate."""
        await asyncio.to_thread(self.module.began.wait, 30)

    def open(self) -> None:
        """Let the batch through that waits; later ones wait again."""
        gate, self.module.gate = self.module.gate, threading.Event()
        self.module.began.clear()
        gate.set()


@pytest.fixture
def faulty(tmp_path: Path) -> Faulty:
    return Faulty(tmp_path)


def saying(what: list[int]) -> Any:
    made = images(len(what))
    made[:, 0, 0] = what
    return made


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("max_batch", [1, 5, 64])
def test_a_sample_fails_alone(tmp_path: Path, max_batch: int, named: bool) -> None:
    faulty = Faulty(tmp_path, named)
    said = np.random.default_rng(0).choice([0, 0, 0, 0, 1, 2, 3, 4], 120).tolist()
    log = Log()

    async def work(scheduler: Scheduler) -> Any:
        some = saying(said)
        parts = [scheduler.decide(some[i : i + 7]) for i in range(0, 120, 7)]
        return [each for part in await asyncio.gather(*parts) for each in part]

    answers: list[Served] = scheduled(faulty.runner, work, log, max_batch=(max_batch,))
    for image, what, each in zip(saying(said), said, answers, strict=True):
        if what == 0:
            wanted = faulty.runner(image)
            assert each.decision is not None, each.reason
            assert (each.decision.class_index, each.decision.stage) == (wanted.class_index, 1)
        else:
            assert each.decision is None
            assert WHY[what] in each.reason
    assert sum(failed for _, failed in log.exits) == sum(map(bool, said))


def test_a_sample_that_cannot_be_scored_fails_alone(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = saying([100] * 40)
    logits = {}

    def picky(values: Any, kind: str) -> Any:
        if any(row.tobytes() in logits for row in values):
            raise LookupError("what is that")
        return softmax(values).max(axis=1)

    monkeypatch.setitem(CONFIDENCES, "picky", picky)
    runner = faulty.runner
    runner.cascade = replace(runner.cascade, confidence="picky")
    log = Log()

    async def work(scheduler: Scheduler) -> Any:
        whole = await scheduler.decide(some, values=True)
        logits.update({whole[row].values.tobytes(): row for row in (3, 17, 18)})
        log.exits.clear()
        parts = [scheduler.decide(some[i : i + 4]) for i in range(0, 40, 4)]
        return whole, [each for part in await asyncio.gather(*parts) for each in part]

    whole, again = scheduled(runner, work, log)
    for row, (one, other) in enumerate(zip(whole, again, strict=True)):
        if row in (3, 17, 18):
            assert other.decision is None
            assert other.reason == "confidence 'picky': LookupError: what is that"
        else:
            assert other.decision == one.decision
    assert sum(failed for _, failed in log.exits) == 3
    assert len(log.exits) == 40


def test_all_that_is_sent_may_fail(faulty: Faulty) -> None:
    async def work(scheduler: Scheduler) -> Any:
        return await scheduler.decide(saying([RAISES] * 5))

    assert all(WHY[RAISES] in each.reason for each in scheduled(faulty.runner, work))


def test_who_cancels_frees_a_place(faulty: Faulty) -> None:
    async def work(scheduler: Scheduler) -> Any:
        held = asyncio.create_task(scheduler.decide(saying([WAITS])))
        await faulty.waits()
        waiting = asyncio.create_task(scheduler.decide(saying([0] * 3)))
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="queue is full") as full:
            await scheduler.decide(saying([0]))
        assert full.value.status == 503
        assert 1 <= scheduler.retry_after() <= 60
        waiting.cancel()
        held.cancel()
        await asyncio.wait([waiting, held])
        assert scheduler.idle
        last = asyncio.create_task(scheduler.decide(saying([0] * 4)))
        faulty.module.gate.set()
        return await last

    answers = scheduled(faulty.runner, work, queue=4)
    assert [each.decision.stage for each in answers] == [1] * 4


def test_nobody_waits_for_samples_of_others_that_wait_at_a_late_stage(faulty: Faulty) -> None:
    async def work(scheduler: Scheduler) -> Any:
        # Six samples run together; four of them run at the second stage before the worker takes
        # what fills more of a batch at the first.
        held = asyncio.create_task(scheduler.decide(saying([WAITS])))
        await faulty.waits()
        kept = asyncio.create_task(scheduler.decide(saying([0] * 3)))
        given_up = asyncio.create_task(scheduler.decide(saying([0] * 3)))
        again = asyncio.create_task(scheduler.decide(saying([WAITS] * 4)))
        await asyncio.sleep(0)
        faulty.open()
        await faulty.waits()  # the first sample, at the second stage
        faulty.open()
        await held
        await faulty.waits()
        made = await asyncio.wait_for(kept, 30)
        assert scheduler.pending == 6
        given_up.cancel()
        await asyncio.wait([given_up])
        assert scheduler.pending == 4
        faulty.open()
        await faulty.waits()
        faulty.open()
        await again
        assert scheduler.idle
        return made

    own = {"max_batch": (6, 4), "max_delay": (30.0,)}
    assert [each.decision.stage for each in scheduled(faulty.runner, work, **own)] == [1] * 3


@pytest.mark.parametrize("error", [KeyError("it"), SystemExit(1), StopIteration()])
def test_what_breaks_in_a_worker_is_told_and_the_next_request_is_answered(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    async def work(scheduler: Scheduler) -> Any:
        def broken(_: Any) -> Any:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(scheduler, "_explained", broken)
            with pytest.raises(RuntimeError, match=f"could not be run: {type(error).__name__}"):
                await scheduler.decide(IMAGES[:9])
        assert scheduler.idle
        return await scheduler.decide(IMAGES[:9])

    assert all(each.decision for each in scheduled(runner, work))


def test_a_request_larger_than_the_queue_can_never_be_answered(runner: Runner) -> None:
    async def work(scheduler: Scheduler) -> Any:
        with pytest.raises(RequestError, match="the queue has 4 places") as large:
            await scheduler.decide(IMAGES[:5])
        assert large.value.status == 413

    scheduled(runner, work, queue=4)


def test_a_late_request_is_refused_and_frees_its_places(faulty: Faulty) -> None:
    async def work(scheduler: Scheduler) -> Any:
        with pytest.raises(RequestError, match=r"no decision within 0\.01 s") as late:
            async with Deadline(time.perf_counter(), 0.01).limit():
                await scheduler.decide(saying([WAITS, 0]))
        assert late.value.status == 504
        assert scheduler.idle
        faulty.module.gate.set()
        return await scheduler.decide(saying([0]))

    assert scheduled(faulty.runner, work)[0].decision is not None


def test_a_model_that_hangs_is_noticed_until_it_goes_on(faulty: Faulty) -> None:
    async def work(scheduler: Scheduler) -> Any:
        held = asyncio.create_task(scheduler.decide(saying([WAITS])))
        await faulty.waits()
        waiting = asyncio.create_task(scheduler.decide(saying([0])))
        for each in (held, waiting):
            with pytest.raises(RequestError, match="model one hangs") as hangs:
                await each
            assert hangs.value.status == 503
        with pytest.raises(RequestError, match="hangs"):
            await scheduler.decide(saying([0]))
        faulty.module.gate.set()
        while scheduler.hanging:
            await asyncio.sleep(0.001)
        return await scheduler.decide(saying([0]))

    assert scheduled(faulty.runner, work, hang=0.02)[0].decision is not None


@pytest.mark.parametrize("count", [1, 2])
def test_a_confidence_that_hangs_is_noticed_as_a_model_is(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    entered, gate = threading.Event(), threading.Event()

    def slow(logits: Any, kind: str) -> Any:
        entered.set()
        gate.wait(10)
        return CONFIDENCES["max_prob"](logits, kind)

    async def work(scheduler: Scheduler) -> Any:
        held = asyncio.create_task(scheduler.decide(IMAGES[:count]))
        await asyncio.to_thread(entered.wait)
        with pytest.raises(RequestError) as late:  # the event loop goes on
            async with Deadline(time.perf_counter(), 0.01).limit():
                await scheduler.decide(IMAGES[:1])
        assert late.value.status == 504
        with pytest.raises(RequestError, match="nano or confidence 'slow' hangs"):
            await held
        assert scheduler.idle
        gate.set()
        while scheduler.hanging:
            await asyncio.sleep(0.001)
        return await scheduler.decide(IMAGES[:count])

    monkeypatch.setitem(CONFIDENCES, "slow", slow)
    unlike = Runner(replace(runner.cascade, confidence="slow"), threads=1)
    assert all(each.decision is not None for each in scheduled(unlike, work, hang=0.1))


def test_what_is_under_way_ends_before_it_closes(faulty: Faulty) -> None:
    async def work(scheduler: Scheduler) -> Any:
        held = asyncio.create_task(scheduler.decide(saying([WAITS, 0])))
        await faulty.waits()
        closing = asyncio.create_task(scheduler.close(30))
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="the server stops") as stops:
            await scheduler.decide(saying([0]))
        assert stops.value.status == 503
        faulty.module.gate.set()
        await closing
        return await held

    assert [each.decision.stage for each in scheduled(faulty.runner, work)] == [1, 1]


def test_what_does_not_end_in_time_is_refused_when_it_closes(faulty: Faulty) -> None:
    async def work(scheduler: Scheduler) -> Any:
        held = asyncio.create_task(scheduler.decide(saying([WAITS])))
        await faulty.waits()
        await scheduler.close(0)
        with pytest.raises(RequestError, match="the server stops"):
            await held
        faulty.module.gate.set()

    scheduled(faulty.runner, work)


def test_records_are_decided_too(tmp_path: Path) -> None:
    path = write_records(tmp_path)
    code = code_of(path)
    known = [load_model(spec, code)[1] for spec in read_pool_file(path).models]
    models = {spec.name: spec for spec in known}
    cascade = replace(Cascade.of(["small", "large"], [0.7]), models=models, classes=("no", "yes"))
    runner = Runner(cascade, allow_code=code)
    texts = ["a good film", "a great film", "awful", "the film", "bad bad"]

    async def work(scheduler: Scheduler) -> Any:
        calls = [scheduler.decide([text]) for text in texts]
        return [each for (each,) in await asyncio.gather(*calls)]

    made = [each.decision for each in scheduled(runner, work)]
    assert made == [runner(text) for text in texts]
    assert {each.stage for each in made} == {0, 1}


SETTINGS = Settings(max_batch=(8,), max_delay=(1.0,))


@pytest.mark.parametrize(
    ("waiting", "waited", "queue"),
    [
        ([1, 0, 0], [0, 0, 0], 0),
        ([0, 0, 3], [0, 0, 0], 2),
        ([5, 5, 5], [0, 0, 0], 0),
        ([2, 6, 3], [0, 0, 0], 1),
        ([9, 8, 5], [0, 0, 2], 1),
        ([5, 5, 5], [0, 2, 3], 2),
        ([5, 0, 5], [0.5, 0, 0.5], 0),
    ],
)
def test_full_batches_come_first_then_late_ones(waiting, waited, queue) -> None:
    assert chosen(waiting, waited, SETTINGS) == queue


def test_numbers_by_stage_are_as_many_as_stages(runner: Runner) -> None:
    with pytest.raises(CascadeError, match="max_batch has 2 numbers, but the cascade has 3 stages"):
        Settings(max_batch=(1, 2)).check_stages(3)
    with pytest.raises(CascadeError, match="max_delay must be at least 0"):
        Settings(max_delay=(-1.0,))
