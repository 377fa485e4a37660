"""Latency and throughput of models, measured in turns so that a drifting machine favours none."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError
from committee.models.base import Model, outputs_of
from committee.models.inputs import VIEWS_AT_ONCE
from committee.models.load import Loaded
from committee.selection.options import processors
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing

_T = TypeVar("_T")
_R = TypeVar("_R")

# Fewer calls than these tell nothing, however long they take.
FEWEST = 5
# Longer calls need no call before them that brings the model back into the caches.
_QUICK_MS = 200.0
# Called with (calls done, calls in all).
Progress = Callable[[int, int], None]


def in_turns(
    runs: Sequence[Callable[[_T], _R]], items: Iterable[_T], quick_ms: float = 0.0
) -> Iterator[list[tuple[_R, float]]]:
    """Call every function on each item, and yield the results with milliseconds, item by item.

    Who begins changes with each item: if the machine drifts, all drift alike, and who follows whom
    favours none. Functions whose last call took less than ``quick_ms`` are called once before they
    are timed.
    """
    last = [0.0] * len(runs)
    for turn, item in enumerate(items):
        results: dict[int, tuple[_R, float]] = {}
        order = range(len(runs))
        for index in order if turn % 2 == 0 else reversed(order):
            if last[index] < quick_ms:
                runs[index](item)
            start = time.perf_counter()
            result = runs[index](item)
            last[index] = (time.perf_counter() - start) * 1e3
            results[index] = result, last[index]
        yield [results[index] for index in order]


@dataclass(frozen=True)
class Timing:
    """How long one model's calls took, warm."""

    batch_size: int
    ms: Array

    def percentile(self, percent: float) -> float:
        """Return the milliseconds that this percentage of the calls did not exceed."""
        return float(np.percentile(self.ms, percent))

    @property
    def ms_per_sample(self) -> float:
        """Median of the calls, divided by the samples of each."""
        return self.percentile(50) / self.batch_size

    def to_json(self) -> dict[str, Any]:
        """Return what ``committee profile --json`` prints."""
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
    progress: Progress | None = None,
) -> list[Timing]:
    """Measure what one call of each model takes, on prepared random inputs.

    A call that is not measured goes before each quick one that is: it brings the model back into
    the caches and lets other engines' threads come to rest. No turn begins after ``seconds``, but
    there are :data:`FEWEST` turns at least. ``progress`` gets (turns done, turns in all).
    """
    inputs = _Inputs(batch_size)
    for model, spec in models:
        _warm_up(model, spec, inputs.parts(spec.preprocessing)[0])
    runs = [partial(_call, model, inputs.parts(spec.preprocessing)) for model, spec in models]
    taken: list[list[float]] = []
    end = time.perf_counter() + seconds
    for turn in in_turns(runs, range(calls), _QUICK_MS):
        taken.append([ms for _, ms in turn])
        if progress is not None:
            progress(len(taken), calls)
        if len(taken) >= FEWEST and time.perf_counter() > end:
            break
    return [Timing(batch_size, np.array(ms)) for ms in zip(*taken, strict=True)]


def _call(model: Model, parts: Sequence[Array], _: int) -> None:
    for part in parts:
        model(part)


class _Inputs:
    """One batch of noise a shape; models of one shape share it."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._made: dict[tuple[int, ...], Array] = {}

    def parts(self, recipe: Preprocessing) -> list[Array]:
        """Return the batch: images in one part, views of clips in parts as predictions run them."""
        total = self._batch_size * recipe.inputs
        most = total if recipe.views is None else min(total, VIEWS_AT_ONCE)
        shape = (most, *recipe.shape)
        if shape not in self._made:
            self._made[shape] = np.random.default_rng(0).standard_normal(shape, np.float32)
        return [self._made[shape][: total - done] for done in range(0, total, most)]


def _warm_up(model: Model, spec: ModelSpec, batch: Array) -> None:
    """Call a model with batches that double while memory allows, up to the whole one, twice."""
    size, grown = 1, 0
    while True:
        if _available_bytes() < 2 * grown:
            raise ModelError(
                f"model {spec.name!r}: batches of {size} would take about {2 * grown / 1e9:.1f} GB "
                f"more memory, and {_available_bytes() / 1e9:.1f} GB are free. Take a smaller "
                "--batch-size, or fewer models at once with --only"
            )
        before = _peak_bytes()
        outputs_of(model, spec, batch[:size])
        grown = _peak_bytes() - before
        if size == len(batch):
            break
        size = min(2 * size, len(batch))
    outputs_of(model, spec, batch)


def conditions(threads: int, batch_size: int) -> str:
    """Return in one text what measured costs of a pool must share to be comparable.

    0 threads stand for as many as there are processors.
    """
    used = threads or processors()
    return f"{processor()}, {used} {'thread' if used == 1 else 'threads'}, batch {batch_size}"


def processor() -> str:
    """Return the name of the processor."""
    return _system_value("/proc/cpuinfo", "model name") or (
        platform.processor() or platform.machine()
    )


def _available_bytes() -> float:
    """Return how much memory is free; infinity where the system does not say."""
    kibibytes = _system_value("/proc/meminfo", "MemAvailable").partition(" ")[0]
    return float(kibibytes) * 1024 if kibibytes else float("inf")


def _system_value(path: str, key: str) -> str:
    """Return the first value of that key in a file of Linux's; empty if there is none."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _peak_bytes() -> int:
    """Return the most memory that this process has held so far; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
