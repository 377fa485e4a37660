"""Run a cascade on Ray: one pipeline of Ray Data, a pool of actors for each stage.

    units of samples -> stage 0 (reads them) -> stage 1 -> ... -> decisions -> parts

Every sample goes through all stages. One that has exited is a few bytes; the actor of a later stage
takes from its batch those that wait, so a batch is as large as it takes for them to fill several
forward passes. Ray regroups the samples, scales the pools, spills, and does again what died. The
order of the samples is kept and each batch begins at a multiple of its size. So a part is made of
the same batches whatever else runs, and has the same bytes.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import ClusterError, CommitteeError
from committee.pool.samples import Samples
from committee.rule.cascade import Cascade
from committee.run.decision import class_name
from committee.run.results import schema
from committee.run.runner import bytes_of
from committee.scale.blocks import FAILED, Block, Layout
from committee.scale.cluster import Cluster, one_line
from committee.scale.parts import Parts
from committee.scale.stage import Job, StageStep
from committee.text import writable

# Samples of a part at most: what a job that died may have to do again.
_PART = 2**14
# Forward passes that the samples that wait in one batch should fill.
_FULL = 4
# Bytes of prepared samples in one batch.
_BYTES = 2**26
# Batches of all samples at the first stage and at later ones, at least: many actors share them.
_EARLY, _LATE = 64, 16
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

    Few enough to keep many actors busy and to fit into memory; at a later stage enough for those
    that reach it, a share of each stage, to fill several forward passes.
    """
    size, groups = job.batch_size, [job.batch_size]
    most = part_size(size) // size
    for stage, share in enumerate(reach):
        share = max(share, 1e-6)
        batches = _BYTES / (share * size * bytes_of(job.recipes(stage)))
        batches = min(batches, count / size / (_LATE if stage else _EARLY))
        batches = min(batches, _FULL / share) if stage else batches
        groups.append(max(size * min(_power_of_two(batches), most), groups[-1]))
    return tuple(groups[1:])


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
    few = max(float(np.floor(100 * free / stages)) / 100, 0.01)
    own_cpus, own_gpus = list(cpus) or [min(1.0, few)] * stages, list(gpus) or [0.0] * stages
    most = list(actors)
    for stage in range(stages) if not actors else ():
        room = free / max(own_cpus[stage], 0.01)
        if own_gpus[stage]:
            room = min(room, cluster.gpus / own_gpus[stage])
        # The first stage reads too, and nobody knows what that costs.
        share = work[stage] / (sum(work) or 1.0) if stage else 1.0
        most.append(max(round(room * share), 1))
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


class _Actor:
    """A stage inside a worker; what fails while it loads is raised where Ray hands it on."""

    def __init__(self, job: Job, stage: int, threads: int, units: Array | None, group: int) -> None:
        self._units, self._group = units, group
        self._layout = job.layout(0)
        self._error: CommitteeError | None = None
        try:
            self._step = StageStep(job, stage, threads)
        except CommitteeError as error:
            self._error = _on_node(error)

    def __call__(self, table: Any) -> Any:
        if self._error is not None:
            raise self._error
        if self._units is None:
            return self._step(table)
        (unit,) = table["unit"].to_pylist()
        first, end = self._units[unit].tolist()
        return self._step(Block.begun(np.arange(first, end)).table(self._layout))


def _on_node(error: CommitteeError) -> CommitteeError:
    import ray

    node = ray.util.get_node_ip_address()
    return type(error)(f"{error} (on node {node}; workers must find models and data as you do)")


def decided(job: Job, plan: Plan, spans: Sequence[tuple[int, int]]) -> Iterator[Block]:
    """Yield the decisions on samples, some at a time, in any order.

    Args:
        job: What is run.
        plan: How.
        spans: The first number of each part that is missing and the one after its last.
    """
    import pyarrow as pa
    import ray.data

    group = plan.groups[0]
    units = np.array(
        [(at, min(at + group, end)) for first, end in spans for at in range(first, end, group)]
    )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = copy.deepcopy(ray.data.DataContext.get_current())
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.target_max_block_size = None
    with one_line(), ray.data.DataContext.current(context):
        # Tables in place of tasks that read: those would need a processor that actors may have.
        data = ray.data.from_blocks([pa.table({"unit": [at]}) for at in range(len(units))])
        for stage, pool in enumerate(plan.pools):
            data = data.map_batches(
                _Actor,
                fn_constructor_args=(
                    job, stage, pool.threads, None if stage else units, plan.groups[stage]
                ),
                batch_size=plan.groups[stage] if stage else 1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=pool.most),
                num_cpus=pool.cpus,
                num_gpus=pool.gpus,
            )
        for table in data.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield Block.of(table, Layout())


def run_into_parts(
    blocks: Iterator[Block],
    parts: Parts,
    table_of: Callable[[Block], Any],
) -> Iterator[Any]:
    """Write each part when its last sample is decided; yield its table."""
    held: dict[int, list[Block]] = {}
    for block in blocks:
        for own in _split(block, parts.size):
            first = int(own.rows[0]) // parts.size * parts.size
            some = held.setdefault(first, [])
            some.append(own)
            if sum(len(each.rows) for each in some) == parts.end(first) - first:
                table = table_of(_joined(held.pop(first)))
                parts.write(first, table)
                yield table


def _split(block: Block, size: int) -> Iterator[Block]:
    """Yield the samples of each part that a block has."""
    cuts = np.flatnonzero(np.diff(block.rows // size)) + 1
    for start, end in pairwise([0, *cuts.tolist(), len(block.rows)]):
        failed = {at - start: why for at, why in block.failed.items() if start <= at < end}
        some = slice(start, end)
        columns = block.rows[some], block.stage[some], block.predicted[some], block.score[some]
        yield Block(*columns, failed)


def _joined(blocks: Sequence[Block]) -> Block:
    blocks = sorted(blocks, key=lambda block: int(block.rows[0]))
    starts = np.cumsum([0, *(len(block.rows) for block in blocks)]).tolist()
    return Block(
        np.concatenate([block.rows for block in blocks]),
        np.concatenate([block.stage for block in blocks]),
        np.concatenate([block.predicted for block in blocks]),
        np.concatenate([block.score for block in blocks]),
        {
            start + at: why
            for start, block in zip(starts, blocks, strict=False)
            for at, why in block.failed.items()
        },
    )


def results_table(
    block: Block, samples: Samples, cascade: Cascade, costs: Sequence[float]
) -> Any:
    """Return results as :mod:`committee.run.results` writes them, as an Arrow table.

    Args:
        block: Decided samples.
        samples: All samples.
        cascade: What decided.
        costs: The cost of an exit at each stage; empty if costs are unknown.
    """
    import pyarrow as pa

    failed = block.stage == FAILED
    names = [class_name(cascade.classes, each) for each in range(_most(block.predicted) + 1)]
    table = {
        "id": [writable(samples.ids[row]) for row in block.rows.tolist()],
        "class_index": pa.array(block.predicted, mask=failed),
        "class_name": _named(names, block.predicted, failed),
        "confidence": pa.array(block.score, mask=failed),
        "stage": pa.array(block.stage.astype(np.int64), mask=failed),
        "cost": pa.nulls(len(failed), pa.float64()),
        "label": pa.nulls(len(failed), pa.int64()),
        "label_name": [""] * len(failed),
        "error": [writable(block.failed.get(at, "")) for at in range(len(failed))],
        "cascade": [cascade.rule_fingerprint] * len(failed),
    }
    if costs:
        table["cost"] = pa.array(np.array(costs)[np.where(failed, 0, block.stage)], mask=failed)
    if samples.labels is not None:
        labels = samples.labels[block.rows].astype(np.int64)
        named = [class_name(samples.classes, each) for each in range(_most(labels) + 1)]
        table |= {"label": labels, "label_name": _named(named, labels, np.zeros(len(labels), bool))}
    return pa.table(table, schema())


def _most(indices: Array) -> int:
    return int(indices.max(initial=0))


def _named(names: Sequence[str], indices: Array, failed: Array) -> Any:
    """Return the name of each index, empty where a sample failed."""
    import pyarrow as pa

    texts = pa.array([*map(writable, names), ""])
    return texts.take(pa.array(np.where(failed, len(names), indices)))
