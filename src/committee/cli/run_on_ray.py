"""``committee run --on ray``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

from committee.cli.options import by_stage
from committee.cli.output import Notes, joined, progress_bar
from committee.cli.tally import Tally, finish
from committee.errors import DataError
from committee.models.failures import divided_text
from committee.run.open import LoadedCascade
from committee.run.results import schema
from committee.run.runner import cumulative_costs
from committee.scale.blocks import Block
from committee.scale.cluster import Cluster
from committee.scale.parts import Parts
from committee.scale.plan import Plan, Pool, groups_of, part_size, pools_of, reach_of, work_of
from committee.scale.run import decided, job_of, results_table, run_into_parts, settings_of
from committee.scale.stage import Source
from committee.text import counted, printable, shares

_N = TypeVar("_N", int, float)


@dataclass(frozen=True)
class Room:
    """The cluster, and what an actor of each stage takes of it, as the command line names it."""

    address: str | None = None
    actors: str | None = None
    cpus: str | None = None
    gpus: str | None = None

    def pools(self, stages: int) -> Callable[[Sequence[float], Cluster], tuple[Pool, ...]]:
        """Return what lays out the actors of so many stages, from their work and the cluster."""
        return partial(
            pools_of,
            actors=_of_each("--actors", self.actors, stages, int, 1),
            cpus=_of_each("--cpus", self.cpus, stages, float),
            gpus=_of_each("--gpus", self.gpus, stages, float),
        )


def _of_each(
    option: str, text: str | None, stages: int, kind: type[_N], least: float = 0
) -> list[_N]:
    """Return what an option says of each stage; nothing if it is not given."""
    numbers = [] if text is None else by_stage(option, text, kind, least)
    if len(numbers) not in (0, 1, stages):
        raise DataError(
            f"{option} {text!r}: there are {stages} stages, not {len(numbers)}; give one number, "
            "or one of each"
        )
    return numbers * (stages if len(numbers) == 1 else 1)


def run_on_ray(
    loaded: LoadedCascade,
    source: Source,
    out: str,
    batch_size: int | None,
    allow_code: Sequence[str],
    overwrite: bool,
    as_json: bool,
    room: Room,
) -> None:
    """Run a cascade on Ray into a folder of parquet parts, and write what it decided."""
    job = job_of(loaded, source, batch_size, allow_code)
    pools = room.pools(len(job.cascade.stages))
    dataset = source.open(list(job.specs.values()))
    samples, cascade = dataset.samples, job.cascade
    job = replace(job, source=replace(source, fingerprint=samples.fingerprint))
    unit, costs = cumulative_costs(cascade, job.specs)
    size, count = part_size(job.batch_size), len(samples)
    parts = Parts.begun(out, count, size, settings_of(job, dataset), overwrite)
    notes, tally = Notes(as_json, samples.notes), Tally(cascade, unit)
    missing = _missing(parts, tally, notes)
    tally.begin(count - sum(end - first for first, end in missing))
    if missing:
        with (
            joined(room.address, as_json) as cluster,
            progress_bar("run", "samples", not as_json) as update,
        ):
            # What Ray takes to start is not the speed of the models.
            tally.begin_again()
            groups = groups_of(job, reach_of(cascade), count)
            blocks = decided(job, Plan(groups, pools(work_of(job), cluster)), missing)
            watched = _watched(blocks, tally, notes, count, update)
            for table in run_into_parts(
                watched, parts, lambda block: results_table(block, samples, cascade, costs)
            ):
                tally.add_table(table)
    finish(tally, source.spec, out, job.specs, notes)


def _missing(parts: Parts, tally: Tally, notes: Notes) -> list[tuple[int, int]]:
    """Count the parts that are there; return the first samples of the others, and their ends."""
    done, damaged = parts.done(), []
    for first, name in done.items():
        table = parts.read(name)
        if table is None or not table.schema.equals(schema()):
            damaged.append(first)
        else:
            tally.add_table(table)
    if damaged:
        notes.append(
            f"{counted(len(damaged), 'damaged part')} of {printable(parts.where)} is computed again"
        )
    firsts = [each for each in parts.firsts() if each not in done or each in damaged]
    return [(first, parts.end(first)) for first in firsts]


def _watched(
    blocks: Iterable[Block],
    tally: Tally,
    notes: Notes,
    count: int,
    update: Callable[[int, int, str], None] | None,
) -> Iterator[Block]:
    """Yield blocks, show how far they are, and note what models did."""
    exits, done = np.array(tally.exits), tally.resumed
    divided: dict[str, str] = {}
    for block in blocks:
        yield block
        for name in block.divided.keys() - divided.keys():
            notes.append(divided_text(name, block.divided[name]))
        divided |= block.divided
        if update is not None:
            done += len(block.rows)
            exits = exits + np.bincount(block.stage[block.stage >= 0], minlength=len(exits))
            update(done, count, f"exits {shares(exits / (exits.sum() or 1))}")
