"""``committee run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from committee.cli import options as opt
from committee.cli.options import check_on, refuse, refuse_for_segmentation
from committee.cli.output import Notes, progress_bar
from committee.cli.run_on_ray import Room, run_on_ray
from committee.cli.stores import with_models
from committee.cli.tally import Tally, finish
from committee.cli.tasks import commands_of
from committee.data.open import open_data
from committee.errors import CascadeError
from committee.paths import anywhere
from committee.run.offline import Progress, run_into
from committee.run.open import open_cascade
from committee.run.results import check_ending, check_free
from committee.run.runner import Runner
from committee.scale.stage import Source
from committee.text import shares


def run(
    cascade: opt.CascadePath,
    data: opt.Data,
    out: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Results: .csv, .jsonl or .parquet; with --on ray a folder, here or s3://, gs://.",
        ),
    ],
    rows: opt.Rows = None,
    fraction: opt.Fraction = None,
    seed: opt.Seed = None,
    batch_size: opt.BatchSize = None,
    show_tiles: Annotated[
        bool,
        typer.Option("--show-tiles", help="Segmentation: draw which tiles went on, in images."),
    ] = False,
    pool: opt.LoadedAs = None,
    on: opt.On = None,
    address: opt.Address = None,
    actors: Annotated[
        str | None,
        typer.Option(metavar="N[,N...]", help="With --on ray: most actors of each stage."),
    ] = None,
    cpus: Annotated[
        str | None,
        typer.Option(metavar="N[,N...]", help="With --on ray: processors of an actor, by stage."),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(metavar="N[,N...]", help="With --on ray: GPUs of an actor, by stage."),
    ] = None,
    allow_code: opt.AllowCode = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing results.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Run a cascade over images, clips or records and write one row per sample.

    You can stop it at any moment: OUT.part keeps the results, and the same command continues.
    A sample that cannot be read, or on which a model fails or gives NaN, gets a row with the
    reason. A model that fails on sixteen samples in a row ends the run. With --on ray each stage
    has its own actors, and the results are parts in a folder, each written whole.

    Example: committee run c.json --data images/new --out results.csv
    """
    refuse("--fraction", seed=seed is not None and fraction is None)
    given = {"address": address, "actors": actors, "cpus": cpus, "gpus": gpus}
    check_on(on, **{name: each is not None for name, each in given.items()})
    path = Path(out)
    if not (overwrite or on):
        check_free(path)
    code = allow_code or ()
    loaded = open_cascade(cascade)
    own = commands_of(loaded.task)
    if own is not None:
        refuse_for_segmentation(
            fraction=fraction is not None, pool=pool is not None, on=on is not None
        )
        own.run(loaded, data, path, rows, batch_size, show_tiles, code, overwrite, as_json)
        return
    if show_tiles:
        raise CascadeError("--show-tiles: only for semantic segmentation; leave it out")
    loaded = with_models(loaded, pool)
    if on:
        source = Source(anywhere(data), loaded.cascade.classes, rows, fraction, seed or 0)
        room = Room(address, actors, cpus, gpus)
        run_on_ray(loaded, source, out, batch_size, code, overwrite, as_json, room)
        return
    check_ending(path)
    runner = Runner(loaded, allow_code=code)
    models = list(runner.specs.values())
    classes = runner.cascade.classes
    dataset = open_data(data, "run", classes, rows, fraction, seed or 0, models, "if they fit")
    notes = Notes(as_json, dataset.samples.notes)
    tally = Tally(runner.cascade, runner.unit)
    with progress_bar("run", "samples", not as_json) as update:

        def progress(now: Progress) -> None:
            tally.begin(now.done)
            if update is not None:
                exits = tally.earlier + now.exits
                update(now.done, now.total, f"exits {shares(exits / (exits.sum() or 1))}")

        tally.add(
            run_into(
                runner, dataset, path, batch_size, progress, overwrite=overwrite, note=notes.append
            )
        )
    finish(tally, data, out, runner.specs, notes)
