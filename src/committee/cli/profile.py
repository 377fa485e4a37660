"""``committee profile``."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

from committee.cli import options as opt
from committee.cli.output import print_json, print_table, progress_bar, say
from committee.data.open import open_data
from committee.errors import PoolFileError
from committee.models.pool_file import read_pool_file
from committee.profile.measure import Profile
from committee.profile.measure import profile as measure
from committee.store.folder import record_costs
from committee.text import human_cost


def profile(
    pool: opt.PoolPath,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Records to measure on, as predict takes; images need none."
        ),
    ] = None,
    only: opt.Only = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Samples per call for throughput; default: 32 images, 4 clips or 256 records.",
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads a model may use; 0: as many as it likes.")
    ] = 0,
    calls: Annotated[int, typer.Option(min=5, help="Calls of each model.")] = 100,
    seconds: Annotated[
        float, typer.Option(min=0, help="Time for calls of one sample, and of a batch.")
    ] = 60.0,
    store: Annotated[
        str | None,
        typer.Option(help="Write the costs into this store, for search to use."),
    ] = None,
    allow_code: opt.AllowCode = None,
    as_json: opt.AsJson = False,
) -> None:
    """Measure multiply-adds, parameters, latency and throughput of every model.

    Example: committee profile pool.toml
    """
    models = read_pool_file(pool)
    if models.task.dense:
        raise PoolFileError(
            f"{pool}: segmentation models cannot be profiled yet. committee predict counts their "
            "multiply-adds; write other costs of an image into the pool file: costs.ms = 12.5"
        )
    if only:
        models = models.only(only)
    samples = None
    if data is not None:
        if not models.task.records:
            raise PoolFileError(f"{pool}: its models are measured on noise; leave --data out")
        dataset = open_data(data, "profile", (), models=models.models, labels="none")
        rows = min(len(dataset.samples), batch_size or models.task.batch_size)
        samples = dataset.read(np.arange(rows))
    with progress_bar("profile", "turns", not as_json) as progress:
        profiles = measure(
            models,
            batch_size=batch_size,
            threads=threads,
            calls=calls,
            seconds=seconds,
            allow_code=allow_code or (),
            progress=progress,
            samples=samples,
        )
    if store:
        record_costs(store, [each.spec for each in profiles])
    if as_json:
        print_json({each.spec.name: each.to_json() for each in profiles})
        return
    _print(profiles)
    if store:
        say(f"Costs are in {store}: committee search {store} --unit latency_ms")


def _print(profiles: list[Profile]) -> None:
    first = profiles[0]
    print_table(
        profiles,
        [
            ("model\nengine", lambda each: f"{each.spec.name}\n{each.engine}"),
            ("multiply-adds\nparameters", _counts),
            ("ms, batch 1\np50 / p90 / p99", _percentiles),
            (
                f"ms per sample\nbatch {first.batched.batch_size}",
                lambda each: _milliseconds(each.batched.ms_per_sample),
            ),
        ],
    )
    say(
        f"Measured in turns, warm, on prepared inputs: {first.conditions[0]} and "
        f"{first.batched.batch_size}; {len(first.single.ms)} and {len(first.batched.ms)} calls "
        "per model"
    )
    for each in profiles:
        if each.macs_unknown:
            say(f"{each.spec.name}: multiply-adds unknown: {each.macs_unknown}")
        say(f"{each.spec.name}: {each.spec.preprocessing.words}")


def _counts(each: Profile) -> str:
    macs = "unknown" if each.macs is None else human_cost(each.macs, "macs")
    count = "unknown" if each.parameters is None else human_cost(each.parameters, "params")
    return f"{macs}\n{count}"


def _percentiles(each: Profile) -> str:
    return " / ".join(_milliseconds(each.single.percentile(percent)) for percent in (50, 90, 99))


def _milliseconds(ms: float) -> str:
    """Write at least three digits, and never a power of ten: ``0.123``, ``12.3``, ``1,904``.

    >>> _milliseconds(1903.6)
    '1,904'
    """
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"
