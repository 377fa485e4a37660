"""Batches across requests: the scheduler decides as the online runner does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from committee import Cascade, Runner
from committee.embedded import embedded_images
from committee.serve.observers import Observer
from committee.serve.scheduler import Scheduler
from committee.serve.settings import Settings
from committee.serve.stages import stages_of
from export_world import embedded

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

    def exited(self, stage: int, score: float, cost: float | None, failed: bool) -> None:
        self.exits.append((stage, failed))


def scheduled(runner: Runner, work: Callable[[Scheduler], Any], *observers: Any, **own: Any) -> Any:
    """What a function of a scheduler returns."""

    async def run() -> Any:
        scheduler = Scheduler(stages_of(runner), runner.explained, Settings(**own), observers)
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
