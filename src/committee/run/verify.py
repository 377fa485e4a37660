"""Verify: one cascade in several ways over the same samples, decision by decision.

Engines and batch sizes round differently. Where that moves a score across a threshold the sample
flips: it leaves at another stage, or with another class. Flips are counted and told, not hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from committee.cascade import Cascade
from committee.data import Dataset, read_ahead
from committee.errors import ExportError, MisalignedError, UnknownNameError
from committee.evaluate import decided
from committee.export.graph import INSIDE
from committee.flow import Decisions, joined_decisions
from committee.models import Pictures, prepared, specs_of, task_of
from committee.models.sources import source_of
from committee.pool import Pool
from committee.predictions import Array
from committee.run.runner import Runner

if TYPE_CHECKING:
    from committee.export.module import CascadeModule

# From rows of a data set, (n,), and their pictures to decisions.
Way = Callable[[Array, Pictures], Decisions]


@dataclass(frozen=True)
class Flip:
    """A sample that two ways decide differently.

    Args:
        id: Name of the sample.
        stages: Stage of exit of the reference and of the other way.
        classes: Class index of the two.
        distance: Where one way left and the other went on, the score of who left less the
            threshold of the rule: below 0 if a cascade with another threshold left; None if both
            left together, with different classes.
    """

    id: str
    stages: tuple[int, int]
    classes: tuple[int, int]
    distance: float | None


@dataclass(frozen=True)
class Compared:
    """One way beside the reference.

    Args:
        way: Its name.
        reference: Name of the reference.
        samples: How many were compared.
        same_class: Same predicted class.
        same_stage: Same stage of exit.
        largest_difference: Of the two scores, over samples that left at the same stage.
        flips: The samples whose class or stage differs.
    """

    way: str
    reference: str
    samples: int
    same_class: int
    same_stage: int
    largest_difference: float
    flips: tuple[Flip, ...]


def verify(
    cascade: Cascade,
    ways: Mapping[str, Way],
    dataset: Dataset,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> list[Compared]:
    """Decide on all samples in all ways and compare each with the first.

    Args:
        cascade: The rule.
        ways: Two or more, by name; the first is the reference.
        dataset: The samples.
        batch_size: Samples a forward pass; of as many batches as a runner decides together, the
            samples are in memory at a time.
        progress: Called with (samples done, samples in all).

    Raises:
        BrokenSamplesError: If samples cannot be read.
    """
    stretch = task_of(specs_of(cascade).values()).stretch
    count, step = len(dataset.samples), batch_size * stretch
    stretches = (np.arange(start, min(start + step, count)) for start in range(0, count, step))
    parts: dict[str, list[Decisions]] = {name: [] for name in ways}
    for rows, pictures in read_ahead(dataset, stretches, threads=1):
        for name, way in ways.items():
            parts[name].append(way(rows, pictures))
        if progress is not None:
            progress(int(rows[-1]) + 1, count)
    made = {name: joined_decisions(each) for name, each in parts.items()}
    reference, *others = made
    ids = dataset.samples.ids
    return [
        compared(cascade, ids, (reference, made[reference]), (name, made[name])) for name in others
    ]


def compared(
    cascade: Cascade,
    ids: tuple[str, ...],
    reference: tuple[str, Decisions],
    other: tuple[str, Decisions],
) -> Compared:
    """Compare two ways, each with its name, on N samples.

    Args:
        cascade: The rule.
        ids: Names of the samples, N of them.
        reference: What was promised.
        other: What was decided.
    """
    (promised_by, promised), (way, found) = reference, other
    same_class = promised.predicted == found.predicted
    same_stage = promised.stage == found.stage
    differences = np.abs(promised.score - found.score)[same_stage]
    return Compared(
        way=way,
        reference=promised_by,
        samples=len(ids),
        same_class=int(same_class.sum()),
        same_stage=int(same_stage.sum()),
        largest_difference=float(differences.max(initial=0.0)),
        flips=tuple(
            _flip(cascade, ids[row], promised, found, row)
            for row in np.flatnonzero(~(same_class & same_stage)).tolist()
        ),
    )


def _flip(cascade: Cascade, name: str, promised: Decisions, found: Decisions, row: int) -> Flip:
    stages = int(promised.stage[row]), int(found.stage[row])
    # Who left first left at a score of that stage; the other's was just below the threshold.
    first = promised if stages[0] < stages[1] else found
    reached = float(first.score[row]) - cascade.stages[min(stages)].threshold
    return Flip(
        id=name,
        stages=stages,
        classes=(int(promised.predicted[row]), int(found.predicted[row])),
        distance=None if stages[0] == stages[1] else reached,
    )


def stored_way(cascade: Cascade, pool: Pool, dataset: Dataset) -> Way:
    """What the cascade decides on stored predictions of the same samples.

    Raises:
        MisalignedError: If the store lacks a sample of the data set.
        UnknownNameError: If it lacks a model of the cascade.
    """
    places = {name: row for row, name in enumerate(pool.samples.ids)}
    missing = [name for name in dataset.samples.ids if name not in places]
    if missing:
        raise MisalignedError(
            f"split {pool.samples.split!r} has no predictions of {len(missing)} samples, first "
            f"{missing[0]!r}. Predict the same data, or name its split"
        )
    decisions = decided(cascade, pool)
    rows_of = np.array([places[name] for name in dataset.samples.ids], np.int64)

    def way(rows: Array, _: Pictures) -> Decisions:
        stored = rows_of[rows]
        return Decisions(
            decisions.predicted[stored], decisions.score[stored], decisions.stage[stored]
        )

    return way


def offline_way(runner: Runner, batch_size: int) -> Way:
    """Stage by stage, survivors gathered into full batches."""
    return lambda _, pictures: runner.decide(pictures, batch_size)


def on_engine(cascade: Cascade, engine: str) -> Cascade:
    """The same cascade with every model run by one engine, in float32.

    Args:
        cascade: It says how its models are loaded.
        engine: One of those that the models' sources have.

    Raises:
        CascadeError: If the cascade does not say how a model is loaded.
        ExportError: If the cascade is one ONNX file.
        UnknownNameError: If a model's source has no such engine.
        PoolFileError: If a source is unknown.
    """
    specs = specs_of(cascade)
    for name, spec in specs.items():
        if spec.source.startswith(INSIDE):
            raise ExportError(
                f"model {name!r}: is inside one ONNX file, which onnxruntime runs; verify the "
                "cascade file, with --against the ONNX file"
            )
        known = source_of(spec.source).engines
        if engine not in known:
            raise UnknownNameError.of(f"model {name!r}: {spec.source}", "engine", engine, known)
        if (spec.engine or known[0], spec.precision) != (engine, "float32"):
            # Another engine has another fingerprint.
            specs[name] = replace(spec, engine=engine, precision="float32", fingerprint="")
    return replace(cascade, models={name: spec.to_json() for name, spec in specs.items()})


def module_way(module: CascadeModule, batch_size: int) -> Way:
    """A torch module on the processor, batch by batch."""
    import torch

    def way(_: Array, pictures: Pictures) -> Decisions:
        parts = []
        for start in range(0, len(pictures), batch_size):
            some = pictures[start : start + batch_size]
            inputs = [torch.from_numpy(prepared(some, each)) for each in module.preprocessings]
            found = module(*inputs)
            parts.append(
                Decisions(found.predicted.numpy(), found.confidence.numpy(), found.stage.numpy())
            )
        return joined_decisions(parts)

    return way


def online_way(runner: Runner) -> Way:
    """Picture by picture."""

    def way(_: Array, pictures: Pictures) -> Decisions:
        each = [runner(picture) for picture in pictures]
        return Decisions(
            np.array([one.class_index for one in each], np.int64),
            np.array([one.confidence for one in each]),
            np.array([one.stage for one in each], np.int64),
        )

    return way
