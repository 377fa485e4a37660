"""Timing: what running takes a sample, of several runners in turn so that drift favours none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.models.inputs import RawSamples
from committee.rule.flow import Decisions, joined_decisions
from committee.run.runner import Runner


@dataclass(frozen=True, eq=False)
class Timed:
    """One runner's decisions and times.

    Args:
        decisions: For all images, in order.
        ms: Milliseconds of each image; in batches, of each batch divided by its images.
    """

    decisions: Decisions
    ms: Array

    @property
    def mean_ms(self) -> float:
        """Mean milliseconds an image."""
        return float(self.ms.mean())


def timed_offline(
    runners: Sequence[Runner],
    images: RawSamples,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> list[Timed]:
    """Run over all images in stretches, survivors gathered into batches, runners taking turns."""
    return _timed(
        runners,
        images,
        batch_size * runners[0].task.stretch,
        lambda runner, some: runner.decide(some, batch_size),
        progress,
    )


def timed_online(
    runners: Sequence[Runner], images: RawSamples, progress: Callable[[int], None] | None = None
) -> list[Timed]:
    """Run over all images one by one, runners taking turns."""
    return _timed(runners, images, 1, lambda runner, one: runner.decide(one, 1), progress)


def _timed(
    runners: Sequence[Runner],
    images: RawSamples,
    step: int,
    run: Callable[[Runner, RawSamples], Decisions],
    progress: Callable[[int], None] | None,
) -> list[Timed]:
    parts: list[list[Decisions]] = [[] for _ in runners]
    ms: list[list[Array]] = [[] for _ in runners]
    for runner in runners:
        run(runner, images[:step])  # warm
    for turn, start in enumerate(range(0, len(images), step)):
        some = images[start : start + step]
        # Who goes first changes, for the one who follows finds the images in the cache.
        order = range(len(runners)) if turn % 2 else range(len(runners) - 1, -1, -1)
        for index in order:
            began = time.perf_counter()
            parts[index].append(run(runners[index], some))
            spent = (time.perf_counter() - began) * 1e3
            ms[index].append(np.full(len(some), spent / len(some)))
        if progress is not None:
            progress(start + len(some))
    return [
        Timed(joined_decisions(part), np.concatenate(each))
        for part, each in zip(parts, ms, strict=True)
    ]
