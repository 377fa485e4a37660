"""Profile: what every model of a pool costs, counted and measured, with its conditions."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from committee.arrays import Array
from committee.errors import DataError, ModelError
from committee.models.base import Model, outputs_of
from committee.models.inputs import VIEWS_AT_ONCE, RawSamples
from committee.models.load import Loaded, load_models
from committee.models.pool_file import PoolFile
from committee.models.records import RecordBatch
from committee.selection.options import processors
from committee.spec.cost import Cost
from committee.spec.model import ModelSpec
from committee.spec.recipe import Recipe
from committee.spec.record import Record


@dataclass(frozen=True)
class Profile:
    """What one model costs.

    ``conditions`` are those of the single calls and of the batched ones; ``macs_unknown`` says why
    multiply-adds are not known.
    """

    spec: ModelSpec
    engine: str
    conditions: tuple[str, str]
    parameters: int | None
    single: _Timing
    batched: _Timing
    macs_unknown: str = ""

    @property
    def macs(self) -> float | None:
        """Multiply-adds of one sample; None if they are not known."""
        return _macs(self.spec)

    def to_json(self) -> dict[str, Any]:
        """Return what ``committee profile --json`` prints."""
        return {
            **self.spec.to_json(),
            "engine": self.engine,
            "parameters": self.parameters,
            "macs": self.macs,
            **({"macs_unknown": self.macs_unknown} if self.macs_unknown else {}),
            "latency_ms": {**self.single.to_json(), "conditions": self.conditions[0]},
            "throughput": {**self.batched.to_json(), "conditions": self.conditions[1]},
        }


def profile(
    pool: PoolFile,
    *,
    batch_size: int | None = None,
    threads: int = 0,
    calls: int = 100,
    seconds: float = 60.0,
    allow_code: Collection[str] = (),
    progress: Progress | None = None,
    samples: RawSamples | None = None,
) -> list[Profile]:
    """Count and measure what every model of a pool costs.

    Args:
        pool: The models. All are in memory at once, for they are measured in turns.
        batch_size: Samples a call when throughput is measured; None for the task's own.
        threads: How many a model may use; 0 leaves the choice to its engine.
        calls: Calls of each model with one sample, and at most as many with a batch.
        seconds: Time for the calls with one sample, and as much for those with a batch.
        allow_code: Python files and modules that may be run.
        progress: Called with (turns done, turns in all).
        samples: Records to measure on, repeated where they are fewer than a batch; images and
            clips are noise.
    """
    sizes = (1, batch_size or pool.task.batch_size)
    loaded = load_models(pool.models, allow_code, threads)

    def measured(half: int) -> list[_Timing]:
        def report(done: int, _: int) -> None:
            if progress is not None:
                progress(half * calls + done, 2 * calls)

        return _timed(
            loaded, sizes[half], calls=calls, seconds=seconds, progress=report, samples=samples
        )

    return [
        Profile(
            _with_measured(model, spec, single, batched, threads),
            model.engine,
            (conditions(threads, sizes[0]), conditions(threads, sizes[1])),
            model.parameters,
            single,
            batched,
            "" if _macs(spec) is not None else getattr(model, "macs_unknown", ""),
        )
        for (model, spec), single, batched in zip(loaded, measured(0), measured(1), strict=True)
    ]


def _macs(spec: ModelSpec) -> float | None:
    return next((cost.value for cost in spec.costs if cost.unit == "macs"), None)


def _with_measured(
    model: Model, spec: ModelSpec, single: _Timing, batched: _Timing, threads: int
) -> ModelSpec:
    sides = spec.preprocessing.sample.partition(" of ")[2]
    sides = f", {sides}" if sides else ""
    for unit, value, timing in (
        ("latency_ms", single.percentile(50), single),
        ("ms_per_sample", batched.ms_per_sample, batched),
    ):
        detail = f"median of {len(timing.ms)} calls{sides}, {model.engine}"
        where = conditions(threads, timing.batch_size)
        spec = spec.with_cost(Cost(value, unit, "measured", where, detail))
    return spec


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
class _Timing:
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


def _timed(
    models: Sequence[Loaded],
    batch_size: int = 1,
    *,
    calls: int = 100,
    seconds: float = 60.0,
    progress: Progress | None = None,
    samples: RawSamples | None = None,
) -> list[_Timing]:
    """Measure what one call of each model takes, on prepared random inputs, or on given records.

    A call that is not measured goes before each quick one that is: it brings the model back into
    the caches and lets other engines' threads come to rest. No turn begins after ``seconds``, but
    there are :data:`FEWEST` turns at least. ``progress`` gets (turns done, turns in all).
    """
    inputs = _Inputs(batch_size, samples)
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
    return [_Timing(batch_size, np.array(ms)) for ms in zip(*taken, strict=True)]


def _call(model: Model, parts: Sequence[Array | RecordBatch], _: int) -> None:
    for part in parts:
        model(part.value() if isinstance(part, RecordBatch) else part)


class _Inputs:
    """One batch of noise a shape, which models of one shape share; or a batch of given records."""

    def __init__(self, batch_size: int, samples: RawSamples | None) -> None:
        self._batch_size = batch_size
        self._samples = samples
        self._made: dict[tuple[int, ...], Array] = {}

    def parts(self, recipe: Recipe) -> Sequence[Array | RecordBatch]:
        """Return the batch: images in one part, views of clips in parts as predictions run them."""
        if isinstance(recipe, Record):
            return [self._records(recipe)]
        return self._noise(recipe)

    def _records(self, recipe: Record) -> RecordBatch:
        if self._samples is None or not len(self._samples):
            raise DataError(
                "models of records are measured on records: name some with --data, as predict takes"
            )
        rows = np.arange(self._batch_size) % len(self._samples)
        return RecordBatch.of([self._samples[row] for row in rows.tolist()], recipe)

    def _noise(self, recipe: Recipe) -> list[Array]:
        total = self._batch_size * recipe.inputs
        most = total if recipe.views is None else min(total, VIEWS_AT_ONCE)
        shape = (most, *recipe.shape)
        if shape not in self._made:
            self._made[shape] = np.random.default_rng(0).standard_normal(shape, np.float32)
        return [self._made[shape][: total - done] for done in range(0, total, most)]


def _warm_up(model: Model, spec: ModelSpec, batch: Array | RecordBatch) -> None:
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
