"""Runs one cascade in several ways over the same samples and compares every decision.

Samples are read as a run reads them, once for all ways, so few decoded ones are in memory.

Engines and batch sizes round differently. Where that moves a score across a threshold the sample
flips: it exits at another stage, or with another class. Flips are counted and named, not hidden.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.arrays import Array
from committee.data.base import BrokenSamplesError, Dataset, content_of, find_broken
from committee.errors import CommitteeError, ExportError, MisalignedError, UnknownNameError
from committee.export.graph import INSIDE
from committee.models.inputs import RawSamples
from committee.models.load import source_of, specs_of
from committee.pool.evaluate import stored_decisions
from committee.pool.identity import places
from committee.pool.pool import Pool
from committee.pool.samples import Samples
from committee.predict_batches import THREADS
from committee.rule.cascade import Cascade
from committee.rule.flow import Decisions, joined_decisions
from committee.run.decision import Decision
from committee.run.offline import units
from committee.run.read_ahead import Read, read_prepared
from committee.run.runner import Runner
from committee.spec.model import task_of
from committee.spec.recipe import Recipe
from committee.store.split import changed_text
from committee.text import listed

if TYPE_CHECKING:
    from committee.export.torch_module import CascadeModule


@dataclass(eq=False)
class Way(ABC):
    """One way to decide on samples, which come in batches, in order.

    Attributes:
        first: What samples are prepared for at once.
        later: What some of them may be prepared for afterwards.
        failed: Why samples failed whose decisions mean nothing, by their number.
    """

    def __post_init__(self) -> None:
        self.first: frozenset[Recipe] = frozenset()
        self.later: frozenset[Recipe] = frozenset()
        self.failed: dict[int, str] = {}
        self._parts: list[Decisions] = []

    def seen(self, images: RawSamples) -> Iterable[Decision | str]:
        """Decide on decoded samples, which are not kept; nothing, if they are not needed.

        A sample that fails may have the reason in place of a decision.
        """
        return ()

    @abstractmethod
    def add(self, read: Read, seen: Iterable[Decision | str]) -> None:
        """Take a batch, and what :meth:`seen` returned for its samples."""

    def finish(self) -> Decisions:
        """Return the decisions on all that was added; nothing is added afterwards."""
        return joined_decisions(self._parts)


@dataclass(frozen=True)
class Flip:
    """A sample that the reference, named first, and another way decide differently.

    ``distance`` is the score of the way that exits earlier less the threshold there; None if both
    exit at the same stage, or the rule has no threshold there.
    """

    id: str
    stages: tuple[int, int]
    classes: tuple[int, int]
    distance: float | None


@dataclass(frozen=True)
class Agreement:
    """How far one way agrees with the reference.

    Args:
        way: Its name.
        reference: Name of the reference.
        samples: How many were compared.
        same_class: How many have the same predicted class.
        same_stage: How many exit at the same stage.
        largest_difference: Of the two scores, over samples that exit at the same stage.
        flips: The samples whose class or stage differs.
    """

    way: str
    reference: str
    samples: int
    same_class: int
    same_stage: int
    largest_difference: float
    flips: tuple[Flip, ...]

    @property
    def complete(self) -> bool:
        """Return True if every sample has the same class and the same stage of exit."""
        return not self.flips


def agreement(runner: Runner, pool: Pool, decisions: Decisions) -> Agreement:
    """Compare the decisions of a run with those made on stored predictions of the same samples."""
    stored = "stored predictions", stored_decisions(runner.cascade, pool)
    return _compare(runner.cascade, pool.samples.ids, stored, ("run", decisions))


def verify(
    cascade: Cascade,
    ways: Mapping[str, Way],
    dataset: Dataset,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> list[Agreement]:
    """Decide on all samples in all ways and compare each with the first."""
    made = decide_all(cascade, ways, dataset, batch_size, progress)
    return compare_all(cascade, dataset.samples.ids, made)


def decide_all(
    cascade: Cascade,
    ways: Mapping[str, Way],
    dataset: Dataset,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Decisions]:
    """Return the decisions of each way on all samples; see :func:`verify`."""
    runs = list(ways.values())
    count, step = len(dataset.samples), batch_size * task_of(specs_of(cascade).values()).stretch
    for read in _read(dataset, runs, units(range(0, count, step), count, step, batch_size)):
        if read.broken:
            raise BrokenSamplesError(find_broken(dataset, np.arange(count), THREADS))
        for way, seen in zip(runs, zip(*read.seen, strict=True), strict=True):
            way.add(read, [each for some in seen for each in some])
        end = int(read.rows[-1]) + 1
        if progress is not None and (end % step == 0 or end == count):
            progress(end, count)
    return {name: way.finish() for name, way in ways.items()}


def compare_all(
    cascade: Cascade, ids: tuple[str, ...], made: Mapping[str, Decisions]
) -> list[Agreement]:
    """Compare the decisions of each way, by name, with those of the first."""
    reference, *others = made
    return [
        _compare(cascade, ids, (reference, made[reference]), (name, made[name])) for name in others
    ]


def _read(dataset: Dataset, ways: list[Way], batches: Iterator[Array]) -> Iterator[Read]:
    """Read batches as a run does, prepared for all ways."""
    wanted = [recipe for way in ways for recipe in (*way.first, *way.later)]
    # What some way asks for later is kept for all: it can be prepared for whoever asks.
    later = frozenset[Recipe]().union(*(way.later for way in ways))
    first = frozenset[Recipe]().union(*(way.first for way in ways)) - later

    def seen(images: RawSamples) -> list[Iterable[Decision | str]]:
        return [way.seen(images) for way in ways]

    return read_prepared(dataset, batches, first, dict.fromkeys(wanted), seen=seen)


def _compare(
    cascade: Cascade,
    ids: tuple[str, ...],
    reference: tuple[str, Decisions],
    other: tuple[str, Decisions],
) -> Agreement:
    """Compare two ways, each with its name, on the samples of these ids."""
    (promised_by, promised), (way, found) = reference, other
    same_class = promised.predicted == found.predicted
    same_stage = promised.stage == found.stage
    differences = np.abs(promised.score - found.score)[same_stage]
    return Agreement(
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
    # The score of the way that exits first; the other's was just below the threshold.
    first = promised if stages[0] < stages[1] else found
    reached = float(first.score[row]) - cascade.stages[min(stages)].threshold
    return Flip(
        id=name,
        stages=stages,
        classes=(int(promised.predicted[row]), int(found.predicted[row])),
        distance=reached if stages[0] != stages[1] and math.isfinite(reached) else None,
    )


def _stored_way(cascade: Cascade, pool: Pool, dataset: Dataset) -> Way:
    """Return the way that decides on stored predictions of the same samples."""
    return Stored.of(pool, dataset).way(cascade)


@dataclass(frozen=True, eq=False)
class Stored:
    """Stored predictions of some samples.

    Args:
        pool: Predictions of these samples, and of others.
        rows: The row of each sample in the pool, shape (N,).
    """

    pool: Pool
    rows: Array

    @classmethod
    def of(cls, pool: Pool, dataset: Dataset) -> Stored:
        """Find samples by content where the store knows it, else by id."""
        known, given = pool.samples, dataset.samples
        if known.content is not None:
            given = replace(given, content=content_of(dataset))
        rows = places(known, given)
        if (rows < 0).any():
            raise MisalignedError(_lacking(known, given, np.flatnonzero(rows < 0)))
        return cls(pool, rows)

    def way(self, cascade: Cascade) -> Way:
        """Return the way that decides on these predictions."""
        return _StoredWay(stored_decisions(cascade, self.pool), self.rows)


def _lacking(known: Samples, given: Samples, lost: Array) -> str:
    """Say why some of the given samples, rows of shape (n,), have no predictions."""
    then = {name: row for row, name in enumerate(known.ids)}
    changed = [row for row in lost.tolist() if given.ids[row] in then]
    where = f"split {known.split!r}"
    if changed and known.content is not None and given.content is not None:
        rows = np.array([then[given.ids[row]] for row in changed], np.int64)
        text = changed_text(known, given, rows, np.array(changed, np.int64))
        return f"{where}: {text}. Predict again, or verify on the data that was predicted"
    names = [given.ids[row] for row in lost.tolist()]
    return (
        f"{where} has no predictions of {len(names):,} samples: {listed(names)}. Predict the same "
        "data, or name its split"
    )


@dataclass(eq=False)
class _StoredWay(Way):
    """Decisions on stored predictions, (N,), at the places of the samples."""

    decisions: Decisions
    places: Array

    def add(self, read: Read, seen: Iterable[Decision | str]) -> None:
        rows, made = self.places[read.rows], self.decisions
        self._parts.append(Decisions(made.predicted[rows], made.score[rows], made.stage[rows]))


@dataclass(eq=False)
class OfflineWay(Way):
    """As a run does it: stage by stage, in stretches, the samples that go on in full batches."""

    runner: Runner
    batch_size: int
    go_on: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.first, known = self.runner.recipes
        self.later = known - self.first
        self._gatherer = self.runner.gatherer(self.batch_size, go_on=self.go_on)
        self._step, self._left = self.batch_size * self.runner.task.stretch, 0
        self._ended = 0

    def add(self, read: Read, seen: Iterable[Decision | str]) -> None:
        """See :class:`Way`."""
        at, count = 0, len(read.batch)
        while at < count:
            self._left = self._left or self._step
            some = np.arange(at, min(at + self._left, count))
            self._gatherer.add(read.batch.only(some, self.first | self.later))
            at, self._left = at + len(some), self._left - len(some)
            if not self._left:
                self._end()

    def finish(self) -> Decisions:
        """See :class:`Way`."""
        self._end()
        return super().finish()

    def _end(self) -> None:
        gathered = self._gatherer.finish()
        decisions = gathered.decisions if self.go_on else gathered.sound(self._ended)
        for row, reason in gathered.failed.items():
            self.failed[self._ended + row] = reason
        self._ended += len(decisions.stage)
        self._parts.append(decisions)


def on_engine(cascade: Cascade, engine: str) -> Cascade:
    """Return the same cascade with every model run by one engine."""
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
        if (spec.engine or known[0]) != engine:
            # Another engine has another fingerprint.
            specs[name] = replace(spec, engine=engine, fingerprint="")
    return replace(cascade, models=specs)


@dataclass(eq=False)
class ModuleWay(Way):
    """A torch module on the processor, batch by batch."""

    module: CascadeModule
    batch_size: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.first = frozenset(self.module.preprocessings)

    def add(self, read: Read, seen: Iterable[Decision | str]) -> None:
        """See :class:`Way`."""
        import torch

        for start in range(0, len(read.rows), self.batch_size):
            some = slice(start, start + self.batch_size)
            inputs = [read.batch.inputs(each)[some] for each in self.module.preprocessings]
            found = self.module(*(torch.from_numpy(np.array(each)) for each in inputs))
            self._parts.append(
                Decisions(found.predicted.numpy(), found.confidence.numpy(), found.stage.numpy())
            )


@dataclass(eq=False)
class OnlineWay(Way):
    """Sample by sample, as it is decoded."""

    runner: Runner
    go_on: bool = False

    def seen(self, images: RawSamples) -> Iterable[Decision | str]:
        """See :class:`Way`."""
        return [self._decided(image) for image in images]

    def _decided(self, image: Any) -> Decision | str:
        try:
            return self.runner(image)
        except CommitteeError as error:
            if not self.go_on:
                raise
            return str(error)

    def add(self, read: Read, seen: Iterable[Decision | str]) -> None:
        """See :class:`Way`."""
        each = list(seen)
        for row, one in zip(read.good.tolist(), each, strict=True):
            if isinstance(one, str):
                self.failed[row] = one
        decided = [_NONE if isinstance(one, str) else one for one in each]
        self._parts.append(
            Decisions(
                np.array([one.class_index for one in decided], np.int64),
                np.array([one.confidence for one in decided]),
                np.array([one.stage for one in decided], np.int64),
            )
        )


# What stands for a sample that failed.
_NONE = Decision(0, "", math.nan, 0, None)
