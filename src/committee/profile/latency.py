"""Latency and throughput of models, measured in turns so that a drifting machine favours none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError
from committee.models.base import Model, outputs_of
from committee.models.clip import VIEWS_AT_ONCE
from committee.profile.machine import available_bytes, peak_bytes
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing

# Fewer calls than these tell nothing, however long they take.
FEWEST = 5
# Of longer calls the beginning does not matter.
QUICK_MS = 200.0
# Called with (calls done, calls in all).
Progress = Callable[[int, int], None]
Loaded = tuple[Model, ModelSpec]


@dataclass(frozen=True)
class Timing:
    """How long one model's calls took, warm.

    Args:
        batch_size: Samples a call.
        ms: Milliseconds of each call, shape (calls,).
    """

    batch_size: int
    ms: Array

    def percentile(self, percent: float) -> float:
        """Milliseconds that this percentage of the calls did not exceed."""
        return float(np.percentile(self.ms, percent))

    @property
    def ms_per_sample(self) -> float:
        """Median of the calls, divided by the samples of each."""
        return self.percentile(50) / self.batch_size

    def to_json(self) -> dict[str, Any]:
        """What ``committee profile --json`` prints."""
        return {
            "batch_size": self.batch_size,
            "calls": len(self.ms),
            "p50": self.percentile(50),
            "p90": self.percentile(90),
            "p99": self.percentile(99),
            "ms_per_sample": self.ms_per_sample,
        }


def timed(
    models: Sequence[Loaded],
    batch_size: int = 1,
    *,
    calls: int = 100,
    seconds: float = 60.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Timing]:
    """Measure what one call of each model takes, on prepared inputs.

    Models are called in turns, and who begins changes with each turn: if the machine drifts, all
    drift alike, and who follows whom favours none. A call that is not measured goes before each
    that is, if calls are quick: it brings the model back into the caches and lets other engines'
    threads come to rest.

    Args:
        models: What to measure.
        batch_size: Samples a call.
        calls: Calls of each model.
        seconds: When the calls of all models together have taken so long, no further turn begins;
            there are :data:`FEWEST` at least.
        seed: Of the inputs.
        progress: Called with (turns done, turns in all).

    Raises:
        ModelError: If a model fails, or memory would not do.
    """
    inputs = _Inputs(batch_size, seed)
    for model, spec in models:
        _warm(model, spec, inputs)
    taken: list[list[float]] = [[] for _ in models]
    began = time.perf_counter()
    for turn in range(calls):
        if turn >= FEWEST and time.perf_counter() - began > seconds:
            break
        order = range(len(models))
        for index in order if turn % 2 == 0 else reversed(order):
            model, spec = models[index]
            parts = inputs.of(spec.preprocessing)
            if not taken[index] or taken[index][-1] < QUICK_MS:
                _call(model, parts)
            start = time.perf_counter()
            _call(model, parts)
            taken[index].append((time.perf_counter() - start) * 1e3)
        if progress is not None:
            progress(turn + 1, calls)
    return [Timing(batch_size, np.array(each)) for each in taken]


def _call(model: Model, parts: Sequence[Array]) -> None:
    for part in parts:
        model(part)


class _Inputs:
    """One batch a shape, from a seed; models of one shape share it.

    Images are one part. Of clips all views are run, in parts as large as when they are decided.
    """

    def __init__(self, batch_size: int, seed: int) -> None:
        self._batch_size, self._seed = batch_size, seed
        self._made: dict[tuple[int, ...], Array] = {}

    def of(self, recipe: Preprocessing) -> list[Array]:
        total = self._batch_size * recipe.inputs
        most = total if recipe.views is None else min(total, VIEWS_AT_ONCE)
        shape = (most, *recipe.shape)
        if shape not in self._made:
            numbers = np.random.default_rng(self._seed).standard_normal(shape, np.float32)
            self._made[shape] = numbers
        return [self._made[shape][: total - done] for done in range(0, total, most)]


def _warm(model: Model, spec: ModelSpec, inputs: _Inputs) -> None:
    """Call a model until it is warm, with batches that double while memory allows."""
    whole = inputs.of(spec.preprocessing)[0]
    size, grown = 1, 0
    while True:
        if available_bytes() < 2 * grown:
            raise ModelError(
                f"model {spec.name!r}: batches of {size} would take about {2 * grown / 1e9:.1f} GB "
                f"more memory, and {available_bytes() / 1e9:.1f} GB are free. Take a smaller "
                "--batch-size, or fewer models at once with --only"
            )
        before = peak_bytes()
        outputs_of(model, spec, whole[:size])
        grown = peak_bytes() - before
        if size == len(whole):
            break
        size = min(2 * size, len(whole))
    outputs_of(model, spec, whole)
