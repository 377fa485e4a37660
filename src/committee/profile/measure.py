"""Profile: what every model of a pool costs, counted and measured, with its conditions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from committee.models.base import Model
from committee.models.load import load_models
from committee.models.pool_file import PoolFile
from committee.profile.latency import Progress, Timing, conditions, timed
from committee.spec.cost import Cost
from committee.spec.model import ModelSpec


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
    single: Timing
    batched: Timing
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

    Raises:
        ModelError: If a model cannot be loaded or fails, or memory would not do.
    """
    sizes = (1, batch_size or pool.task.batch_size)
    loaded = load_models(pool.models, allow_code, threads)

    def measured(half: int) -> list[Timing]:
        def report(done: int, _: int) -> None:
            if progress is not None:
                progress(half * calls + done, 2 * calls)

        return timed(loaded, sizes[half], calls=calls, seconds=seconds, progress=report)

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
    model: Model, spec: ModelSpec, single: Timing, batched: Timing, threads: int
) -> ModelSpec:
    sides = spec.preprocessing.sample.partition(" of ")[2]
    for unit, value, timing in (
        ("latency_ms", single.percentile(50), single),
        ("ms_per_sample", batched.ms_per_sample, batched),
    ):
        detail = f"median of {len(timing.ms)} calls, {sides}, {model.engine}"
        where = conditions(threads, timing.batch_size)
        spec = spec.with_cost(Cost(value, unit, "measured", where, detail))
    return spec
