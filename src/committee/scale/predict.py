"""``predict`` on Ray: actors that hold all models answer; the driver alone checks and writes.

A task is one chunk of the store, so a sample is decoded once for all models, batches are those of
one machine, and what a killed job lacks is what the store lacks.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from committee.arrays import Array
from committee.data.base import Dataset, PartDataset, whole_of
from committee.errors import CommitteeError, DataError
from committee.models.failures import Answered
from committee.models.load import load_models
from committee.predict_batches import Batch, Compute, Computed, Computing, Work
from committee.rule.outputs import Outputs
from committee.scale.cluster import Cluster
from committee.scale.data import ray_data, tables_of
from committee.spec.model import ModelSpec

# Opens the samples on a worker, all of them and without labels.
Open = Callable[[], Dataset]
# More tasks than this hold several chunks each, so that Ray need not keep count of millions.
_MOST_TASKS = 10_000
# What a task answers: each batch with the answers to it, and what ended it before its last batch.
_Made = tuple[list[tuple[Batch, list[Answered]]], CommitteeError | None]


@dataclass(frozen=True)
class Actors:
    """How many actors there are at most, and what each takes.

    Args:
        most: How many; 0 for as many as the cluster has room for.
        cpus: Processors of an actor, and threads of a model.
        gpus: GPUs of an actor.
    """

    most: int = 0
    cpus: float = 1.0
    gpus: float = 0.0


def compute_on(
    cluster: Cluster, opening: Open, allow_code: Sequence[str] = (), actors: Actors | None = None
) -> Compute:
    """Return what runs models on a Ray cluster; see :func:`committee.predict.predict`.

    Args:
        cluster: The cluster, joined.
        opening: Opens the samples on a worker: all that the data set of the driver was taken of.
        allow_code: Python files and modules that may be run.
        actors: How many actors there are at most, and what each takes.
    """
    own = actors or Actors()

    def compute(work: Work, batches: Iterable[Batch]) -> Computed:
        chunks = [[*some] for _, some in groupby(batches, lambda each: each.chunk)]
        if not chunks:
            return
        whole, order = whole_of(work.dataset)
        job = _Job(
            opening,
            whole.samples.ids_fingerprint,
            order,
            work.dataset.samples.classes,
            [spec for _, spec in work.loaded],
            tuple(allow_code),
            max(1, int(own.cpus)),
            work.skip_broken,
            work.stored,
        )
        most = own.most or cluster.room(own.cpus, own.gpus)
        for made in _answers(job, chunks, replace(own, most=most)):
            yield from _replayed(made)

    return compute


@dataclass(frozen=True, eq=False)
class _Job:
    """All that an actor needs."""

    opening: Open
    ids: str
    order: Array
    classes: tuple[str, ...]
    specs: Sequence[ModelSpec]
    allow_code: tuple[str, ...]
    threads: int
    skip_broken: bool
    stored: Sequence[Outputs | None]

    def begun(self) -> Computing:
        """Open the samples and load the models."""
        whole, _ = whole_of(self.opening())
        if whole.samples.ids_fingerprint != self.ids:
            raise DataError(
                "--on ray: a worker finds other samples than the machine that began. Put them "
                "where all machines find the same under the same path, such as a shared disk"
            )
        samples = replace(whole.samples.taken(self.order), classes=self.classes)
        dataset = PartDataset(whole, self.order, samples)
        loaded = load_models(self.specs, self.allow_code, self.threads, self.classes)
        return Computing(Work(loaded, dataset, self.skip_broken, self.stored))


class _Actor:
    """Answers to chunks with all models; what fails is data too, for the driver to raise."""

    def __init__(self, job: Any) -> None:
        import ray

        self._error: CommitteeError | None = None
        try:
            self._computing = ray.get(job).begun()
        except CommitteeError as error:
            self._error = error

    def __call__(self, table: Any) -> Any:
        import pyarrow as pa

        made = [pickle.dumps(self._made(pickle.loads(each.as_py()))) for each in table["chunk"]]
        return pa.table({"made": pa.array(made, pa.large_binary())})

    def _made(self, batches: Sequence[Batch]) -> _Made:
        made: list[tuple[Batch, list[Answered]]] = []
        if self._error is not None:
            return made, self._error
        try:
            for batch, answers in self._computing(batches):
                made.append((batch, []))
                for each in answers:
                    made[-1][1].append(each)
        except CommitteeError as error:
            return made, error
        return made, None


def _answers(job: _Job, chunks: Sequence[Sequence[Batch]], actors: Actors) -> Iterator[_Made]:
    """Yield what actors answer to chunks, as it comes."""
    import ray

    data = ray_data()
    rows = [{"chunk": pickle.dumps(each)} for each in chunks]
    tasks = min(len(rows), _MOST_TASKS)
    answers = data.from_items(rows, override_num_blocks=tasks).map_batches(
        _Actor,
        batch_size=1,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(min_size=1, max_size=min(actors.most, tasks)),
        fn_constructor_args=(ray.put(job),),
        num_cpus=actors.cpus,
        num_gpus=actors.gpus or None,
    )
    for table in tables_of(answers):
        for each in table["made"]:
            yield pickle.loads(each.as_py())


def _replayed(made: _Made) -> Computed:
    """Yield what was answered as if it were computed now, and raise what ended it."""
    batches, error = made
    for batch, answers in batches:
        yield batch, _then(answers, error if batch is batches[-1][0] else None)
    if error is not None:
        raise error


def _then(answers: Sequence[Answered], error: CommitteeError | None) -> Iterator[Answered]:
    yield from answers
    if error is not None:
        raise error
