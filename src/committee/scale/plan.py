"""How a job is laid out on a cluster: sizes of batches, and the pool of actors of each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from committee.errors import ClusterError
from committee.rule.cascade import Cascade
from committee.run.decision import unit_of
from committee.run.promise import Promise
from committee.run.runner import bytes_of
from committee.scale.cluster import Cluster
from committee.scale.stage import Job

# Samples of a part at most: what a job that died may have to do again.
_PART = 2**14
# Forward passes that the samples that wait in one batch should fill.
_FULL = 4
# Bytes of prepared samples that one batch carries.
_BYTES = 2**28
# Batches of all samples at the first stage and at later ones, at least: many actors share them.
_EARLY, _LATE = 32, 16
# Samples of a batch at least, or bytes: Ray takes some ten milliseconds for each batch.
_LEAST, _SMALL = 512, 2**26
# At the first stage at most, so that what died is soon done again.
_FIRST = 2048
# Share of the processors that actors may take; Ray's own work has the rest.
_SHARE = 0.9


@dataclass(frozen=True)
class Pool:
    """The actors of a stage.

    Args:
        most: How many there are at most; Ray begins with one.
        cpus: Processors of each.
        gpus: GPUs of each.
    """

    most: int
    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """How many threads a model of an actor may use."""
        return max(int(self.cpus), 1)


@dataclass(frozen=True)
class Plan:
    """How a job is laid out on a cluster.

    Args:
        groups: Samples of a batch at each stage, each a multiple of the one before.
        pools: The actors of each stage.
    """

    groups: tuple[int, ...]
    pools: tuple[Pool, ...]


def part_size(batch_size: int) -> int:
    """Return the samples of a part: whole batches, whose number is a power of two."""
    return batch_size * _power_of_two(max(_PART // batch_size, 1))


def groups_of(job: Job, reach: Sequence[float], count: int) -> tuple[int, ...]:
    """Return how many samples make a batch at each stage, for ``count`` samples.

    Few enough to keep many actors busy, and so that what they carry fits into memory; at a later
    stage enough for those that reach it, a share of each stage, to fill several forward passes.
    """
    size, groups = job.batch_size, [job.batch_size]
    shares = [*np.maximum(reach, 1e-6).tolist(), 0.0]
    carried = [shares[stage] * _carried(job, stage) for stage in range(len(shares))]
    for stage, own in enumerate(pairwise(carried)):
        # Inputs that are small are of models that are fast.
        least = min(_LEAST, _SMALL / bytes_of(job.recipes(stage)))
        samples = max(count / (_LATE if stage else _EARLY), least)
        samples = min(samples, _BYTES / max(*own, 1e-9))
        samples = min(samples, _FULL * size / shares[stage] if stage else _FIRST)
        samples = min(samples, part_size(size))
        groups.append(max(size * _power_of_two(samples / size), groups[-1]))
    return tuple(groups[1:])


def _carried(job: Job, stage: int) -> int:
    """Return the bytes of what a sample that waits at a stage was prepared to."""
    return sum(bytes_of([recipe]) for recipe in job.layout(stage).recipes)


def _power_of_two(number: float) -> int:
    return int(2 ** max(np.floor(np.log2(max(number, 1))), 0))


def pools_of(
    work: Sequence[float],
    cluster: Cluster,
    actors: Sequence[int] = (),
    cpus: Sequence[float] = (),
    gpus: Sequence[float] = (),
) -> tuple[Pool, ...]:
    """Return the pool of each stage.

    A later stage gets actors in proportion to its work, and the first, which reads, what there is.
    Where there are fewer processors than stages, actors take less than one each; what they take in
    all leaves some for Ray.

    Args:
        work: The cost of each stage by the share of samples that reach it, in any unit.
        cluster: Where they run.
        actors: The most actors of each stage, if the user says so.
        cpus: Processors of an actor of each stage, likewise.
        gpus: GPUs of an actor of each stage, likewise.
    """
    stages, free = len(work), cluster.cpus * _SHARE
    own_cpus = list(cpus) or [_fitting(stages, cluster)] * stages
    own_gpus = list(gpus) or [0.0] * stages
    most = list(actors)
    for stage in range(stages) if not actors else ():
        room = free / max(own_cpus[stage], 0.01)
        if own_gpus[stage]:
            room = min(room, cluster.gpus / own_gpus[stage])
        # The first stage reads too, and nobody knows what that costs: it may take what is free.
        share = room * work[stage] / (sum(work) or 1.0) if stage else room - (stages - 1)
        most.append(max(round(share), 1))
    pools = tuple(map(Pool, most, own_cpus, own_gpus))
    for what, have, need in (
        ("CPUs", cluster.cpus, sum(pool.cpus for pool in pools)),
        ("GPUs", cluster.gpus, sum(pool.gpus for pool in pools)),
    ):
        if need > have:
            raise ClusterError(
                f"--on ray: one actor of each stage takes {need:g} {what}, and the cluster has "
                f"{have:g}. Give each less (--{what.lower()}), or add nodes"
            )
    return pools


def _fitting(stages: int, cluster: Cluster) -> float:
    """Return the processors of an actor, at most one, so that one of each stage finds a node."""
    free = cluster.cpus / max(cluster.nodes, 1) * _SHARE
    if not free:
        return 1.0  # it has none yet
    for parts in range(1, stages + 1):
        each = min(1.0, free) / parts
        if cluster.nodes * int(free / each + 1e-9) >= stages:
            break
    return round(each, 3)


def reach_of(cascade: Cascade) -> tuple[float, ...]:
    """Return the share of samples that reach each stage, as evaluated, or else a guess."""
    promise = Promise.of(cascade)
    if promise is None:
        return tuple(0.5**stage for stage in range(len(cascade.stages)))
    gone = np.cumsum([0.0, *promise.ratios[:-1]])
    return tuple((1 - gone).tolist())


def work_of(job: Job) -> tuple[float, ...]:
    """Return what each stage costs a sample on average, in any unit."""
    cascade = job.cascade
    unit = unit_of(cascade, job.specs)
    costs = {
        name: next((cost.value for cost in spec.costs if cost.unit == unit), 1.0)
        for name, spec in job.specs.items()
    }
    reach = reach_of(cascade)
    return tuple(
        share * sum(costs[name] for name in stage.models)
        for share, stage in zip(reach, cascade.stages, strict=True)
    )
