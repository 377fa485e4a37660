"""Milliseconds a sample of several runners, which take turns so that drift favours none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from committee.arrays import Array
from committee.models.inputs import RawSamples
from committee.profile.measure import in_turns
from committee.rule.flow import Decisions, joined_decisions
from committee.run.runner import Runner


@dataclass(frozen=True, eq=False)
class Timed:
    """One runner's decisions, and milliseconds of each image; in batches, those of its share."""

    decisions: Decisions
    ms: Array

    @property
    def mean_ms(self) -> float:
        """Mean milliseconds an image."""
        return float(self.ms.mean())


def timed(
    runners: Sequence[Runner],
    images: RawSamples,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> list[Timed]:
    """Run over all images, runners taking turns: in stretches of batches, or one by one if 1."""
    step = 1 if batch_size == 1 else batch_size * runners[0].task.stretch
    calls = [partial(runner.decide, batch_size=batch_size) for runner in runners]
    for call in calls:
        call(images[:step])  # warm
    blocks = [images[start : start + step] for start in range(0, len(images), step)]
    turns: list[list[tuple[Decisions, Array]]] = []
    for block, turn in zip(blocks, in_turns(calls, blocks), strict=True):
        turns.append([(made, np.full(len(block), ms / len(block))) for made, ms in turn])
        if progress is not None:
            progress(len(turns) * step - step + len(block))
    parts = [zip(*each, strict=True) for each in zip(*turns, strict=True)]
    return [Timed(joined_decisions(made), np.concatenate(ms)) for made, ms in parts]
