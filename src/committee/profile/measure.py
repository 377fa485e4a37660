"""Profile: what every model of a pool costs, counted and measured, with its conditions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from committee.models.base import Model
from committee.models.load import load_models
from committee.models.pool_file import PoolFile
from committee.profile.latency import Progress, Timing, timed
from committee.profile.machine import conditions
from committee.spec.cost import Cost
from committee.spec.model import ModelSpec


@dataclass(frozen=True)
class Profile:
    """What one model costs.

    Args:
        spec: What it is, with its costs: given, counted and measured.
        engine: What runs it, with its version.
        conditions: Of the calls with one sample and of those with several.
        parameters: How many numbers were learned; None if that is not known.
        single: Calls with one sample.
        batched: Calls with several.
        unknown: Why its multiply-adds are not known; empty if they are.
    """

    spec: ModelSpec
    engine: str
    conditions: tuple[str, str]
    parameters: int | None
    single: Timing
    batched: Timing
    unknown: str = ""

    @property
    def macs(self) -> float | None:
        """Multiply-adds of one sample; None if they are not known."""
        return next((cost.value for cost in self.spec.costs if cost.unit == "macs"), None)

    def to_json(self) -> dict[str, Any]:
        """What ``committee profile --json`` prints."""
        return {
            **self.spec.to_json(),
            "engine": self.engine,
            "parameters": self.parameters,
            "macs": self.macs,
            **({"macs_unknown": self.unknown} if self.unknown else {}),
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
) -> list[Profile]:
    """Count and measure what every model of a pool costs.

    Args:
        pool: The models. All are held in memory, for they are measured in turns.
        batch_size: Samples a call when throughput is measured; as the task says if left out.
        threads: How many a model may use; 0 leaves the choice to its engine.
        calls: Calls of each model with one sample, and at most as many with a batch.
        seconds: Time for the calls with one sample, and as much for those with a batch.
        allow_code: Python files and modules that may be run.
        progress: Called with (turns done, turns in all).

    Raises:
        ModelError: If a model cannot be loaded or fails, or memory would not do.
    """
    batch_size = batch_size or pool.task.batch_size
    loaded = load_models(pool.models, allow_code, threads)
    half = _Half(progress, calls)
    single = timed(loaded, 1, calls=calls, seconds=seconds, progress=half.first)
    batched = timed(loaded, batch_size, calls=calls, seconds=seconds, progress=half.second)
    return [
        Profile(
            _with_measured(model, spec, each, many, threads),
            model.engine,
            (conditions(threads, 1), conditions(threads, batch_size)),
            model.parameters,
            each,
            many,
            "" if _counted(spec) else getattr(model, "macs_unknown", ""),
        )
        for (model, spec), each, many in zip(loaded, single, batched, strict=True)
    ]


def _counted(spec: ModelSpec) -> bool:
    return any(cost.unit == "macs" for cost in spec.costs)


class _Half:
    """Progress of two runs of turns as one."""

    def __init__(self, progress: Progress | None, calls: int) -> None:
        self._progress, self._calls = progress, calls

    def first(self, done: int, _: int) -> None:
        if self._progress is not None:
            self._progress(done, 2 * self._calls)

    def second(self, done: int, _: int) -> None:
        self.first(self._calls + done, 0)


def _with_measured(
    model: Model, spec: ModelSpec, single: Timing, batched: Timing, threads: int
) -> ModelSpec:
    sides = spec.preprocessing.sample.partition(" of ")[2]
    detail = f"{sides}, {model.engine}"
    for unit, value, timing in (
        ("latency_ms", single.percentile(50), single),
        ("ms_per_sample", batched.ms_per_sample, batched),
    ):
        told = f"median of {len(timing.ms)} calls, {detail}"
        where = conditions(threads, timing.batch_size)
        spec = spec.with_cost(Cost(value, unit, "measured", where, told))
    return spec
