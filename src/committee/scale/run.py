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
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.data.base import Dataset
from committee.data.open import stamp_of
from committee.errors import CascadeError, CommitteeError
from committee.export.graph import INSIDE
from committee.models.load import specs_of
from committee.pool.samples import Samples
from committee.rule.cascade import Cascade
from committee.run.decision import class_name
from committee.run.loading import Models
from committee.run.open import LoadedCascade
from committee.run.results import schema
from committee.scale.blocks import FAILED, Block, Layout
from committee.scale.cluster import one_line
from committee.scale.data import ray_data, tables_of
from committee.scale.parts import Parts
from committee.scale.plan import Plan
from committee.scale.stage import Job, Source, StageStep
from committee.spec.model import task_of
from committee.store.chunks import key_of
from committee.text import writable


def job_of(
    loaded: LoadedCascade, source: Source, batch_size: int | None, allow_code: Collection[str] = ()
) -> Job:
    """Return what workers need to know of a run, as far checked as is possible without them."""
    cascade, where = loaded.cascade, str(loaded.path or "cascade")
    specs = specs_of(cascade, where)
    if loaded.graph is not None or any(s.source.startswith(INSIDE) for s in specs.values()):
        raise CascadeError(
            f"{where}: is one ONNX file, in which all stages run; --on ray gives each stage its "
            "own actors. Run the cascade file that it was exported from"
        )
    Models(specs, cascade.classes, allow_code, later=cascade.names)
    batch_size = batch_size or task_of(specs.values()).batch_size
    return Job(cascade, specs, source, batch_size, tuple(allow_code))


def settings_of(job: Job, dataset: Dataset) -> dict[str, str]:
    """Return what decides on what: a job goes on only with the same."""
    samples, stamp = dataset.samples, stamp_of(job.source.spec, dataset)
    return {
        "cascade": f"{job.cascade} ({key_of(job.cascade.to_json())})",
        "samples": f"{len(samples):,} ({samples.fingerprint})",
        "batch size": str(job.batch_size),
        # Finished parts are not read again, so this alone shows that they are of older files.
        **({"data": stamp} if stamp else {}),
    }


class _Actor:
    """A stage inside a worker; ``units`` are the first sample and the end of each first batch."""

    def __init__(self, job: Job, stage: int, threads: int, units: Array | None = None) -> None:
        self._units, self._stage = units, stage
        self._before, self._after = job.layout(stage), job.layout(stage + 1)
        self._step: StageStep | None = None
        try:
            self._step = StageStep(job, stage, threads)
        except CommitteeError as error:
            self._error = _on_node(error)

    def __call__(self, table: Any) -> Any:
        if self._units is None:
            block = Block.of(table, self._before)
        else:
            block = Block.begun(np.arange(*self._units[table["unit"][0].as_py()]))
        try:
            if self._step is None:
                raise self._error
            made = self._step(block)
        except CommitteeError as error:
            made = Block.failing(block.rows, error)
        return made.table(self._after)


def _on_node(error: CommitteeError) -> CommitteeError:
    import ray

    node: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return type(error)(f"{error} (on node {node}; workers must find models and data as you do)")


def decided(job: Job, plan: Plan, spans: Sequence[tuple[int, int]]) -> Iterator[Block]:
    """Yield the decisions on samples, some at a time, in any order.

    Args:
        job: What is run.
        plan: How.
        spans: The first number of each part that is missing and the one after its last.
    """
    import pyarrow as pa

    group = plan.groups[0]
    units = np.array(
        [(at, min(at + group, end)) for first, end in spans for at in range(first, end, group)]
    )
    datasets = ray_data()
    context = copy.deepcopy(datasets.DataContext.get_current())
    context.execution_options.preserve_order = True
    context.target_max_block_size = None
    with one_line(), datasets.DataContext.current(context):
        # Tables in place of tasks that read: those would need a processor that actors may have.
        data = datasets.from_blocks([pa.table({"unit": [at]}) for at in range(len(units))])
        for stage, pool in enumerate(plan.pools):
            data = data.map_batches(
                _Actor,
                fn_constructor_args=(
                    job,
                    stage,
                    pool.threads,
                    None if stage else units,
                ),
                batch_size=plan.groups[stage] if stage else 1,
                batch_format="pyarrow",
                compute=datasets.ActorPoolStrategy(min_size=1, max_size=pool.most),
                num_cpus=pool.cpus,
                num_gpus=pool.gpus,
            )
        for table in tables_of(data):
            block = Block.of(table, Layout())
            if block.error is not None:
                raise block.error
            yield block


def run_into_parts(
    blocks: Iterable[Block], parts: Parts, table_of: Callable[[Block], Any]
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


def results_table(block: Block, samples: Samples, cascade: Cascade, costs: Sequence[float]) -> Any:
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
