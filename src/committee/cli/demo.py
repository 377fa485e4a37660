"""``committee demo``: the main job on the embedded pool."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from committee.cli.common import (
    AsJson,
    notes_for,
    print_json,
    progress_bar,
    say,
    say_rows,
    say_wrapped,
    search_progress,
    show,
)
from committee.embedded import embedded_images, pool_file
from committee.errors import require
from committee.files import write_text
from committee.pool.pool import Pool
from committee.predict import predict
from committee.report.command import saving_of
from committee.report.figure import figure_svg, front_figure, save_figure
from committee.report.page import page
from committee.report.rows import ensemble_rows, front_rows, summary
from committee.report.tables import front_csv
from committee.rule.cascade import Cascade
from committee.run.agreement import Agreement, agreement
from committee.run.runner import Runner
from committee.run.timing import Timed, timed_offline, timed_online
from committee.selection.exhaustive import search
from committee.selection.front import Front

LARGEST = "large"
BATCH = 64


@dataclass(frozen=True)
class Way:
    """One way of running: how the chosen cascade did, beside the largest model."""

    name: str
    cascade: Timed
    largest: Timed
    agreement: Agreement


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("demo-out"),
    as_json: AsJson = False,
) -> None:
    """Choose, evaluate and run a cascade of six small networks, all in the package.

    Example: committee demo --out demo-out
    """
    require("The demo", "onnx", "report")
    say(
        "Six small networks that we trained on Fashion-MNIST; 5,000 test images choose (val),",
        as_json,
    )
    say("the other 5,000 judge (test).", as_json)
    say("", as_json)
    pools = {split: _predicted(split, out / "predictions", as_json) for split in ("val", "test")}
    front = _searched(pools["val"], as_json)
    chosen = front.matching(LARGEST)
    chosen.cascade.save(out / "cascade.json")
    _report(front, pools["test"], out, as_json)
    ways = _run(out / "cascade.json", pools["test"], as_json)
    if as_json:
        print_json(_as_json(front, pools["test"], ways, out))
        return
    _print_ways(chosen.cascade, ways)
    say("")
    say(f"In {out}: predictions/, cascade.json, front.csv, front.png, front.svg, report.html")
    say("Next, with your own models: the README's second section.")


def _predicted(split: str, store: Path, quiet: bool) -> Pool:

    with progress_bar(f"predict {split}", "outputs", not quiet) as progress:
        folder = predict(
            pool_file(), embedded_images(split), store, batch_size=BATCH, progress=progress
        )
    return Pool.load(folder)


def _searched(pool: Pool, quiet: bool) -> Front:

    with search_progress(not quiet) as progress:
        front = search(pool, max_models=3, progress=progress)
    settings = front.settings
    say("", quiet)
    say(
        f"{settings.cascades:,} cascades of up to {settings.max_models} of "
        f"{len(pool.names)} models were covered; {len(front)} are on the front.",
        quiet,
    )
    say("", quiet)
    return front


def _report(front: Front, test: Pool, out: Path, quiet: bool) -> None:

    rows, members = summary(front, test, LARGEST), front_rows(front, test, LARGEST)
    best = ensemble_rows(front, test, LARGEST)
    figure = front_figure(front, test, LARGEST, members=members, best=best)
    write_text(out / "front.csv", front_csv(members))
    save_figure(figure, out / "front")
    saving = saving_of(front, str(out / "predictions"))
    notes = notes_for(front, rows)
    svg = figure_svg(figure)
    text = page(front, rows, members, best, svg, test=test, saving=saving, notes=notes)
    write_text(out / "report.html", text)
    if not quiet:
        say_rows(rows, notes)


def _run(cascade: Path, test: Pool, quiet: bool) -> list[Way]:
    """Run the chosen cascade and the largest model over the test images in both ways."""
    largest = test.described(Cascade.of([LARGEST]))
    dataset = embedded_images("test")
    images = dataset.read(np.arange(len(dataset.samples)))
    ways = []
    # One small image is too little work to share among threads.
    for name, run, threads in (
        (f"in batches of {BATCH}", timed_offline, 0),
        ("one by one, 1 thread", timed_online, 1),
    ):
        runners = [Runner(each, threads=threads) for each in (cascade, largest)]
        with progress_bar(f"run {name}", "images", not quiet) as progress:

            def done(count: int, show: Any = progress) -> None:
                if show is not None:
                    show(count, len(images))

            ours, single = run(runners, images, progress=done)
        ways.append(Way(name, ours, single, agreement(runners[0], test, ours.decisions)))
    return ways


def _print_ways(cascade: Cascade, ways: list[Way]) -> None:

    table = Table(title=f"Running {cascade} on the test images", title_justify="left")
    table.add_column("measured, ms an image")
    for heading in ("cascade", "p99", LARGEST, "p99", "speedup"):
        table.add_column(heading, justify="right")
    for way in ways:
        ours, single = way.cascade, way.largest
        p99 = [f"{np.percentile(each.ms, 99):.3f}" for each in (ours, single)]
        table.add_row(
            way.name,
            f"{ours.mean_ms:.3f}",
            p99[0],
            f"{single.mean_ms:.3f}",
            p99[1],
            f"{single.mean_ms / ours.mean_ms:.2f}×",
        )
    say("")
    show(table)
    for way in ways:
        told = way.agreement
        say_wrapped(
            f"{way.name}: {told.same_class} of {told.samples} classes and {told.same_stage} exits "
            "are those that the evaluation promised"
        )


def _as_json(front: Front, test: Pool, ways: list[Way], out: Path) -> dict[str, Any]:

    found = summary(front, test, LARGEST)
    rows = [
        {
            "role": row.role,
            "cascade": row.cascade.to_json(),
            "val": row.val.to_json(),
            "test": row.test and row.test.to_json(),
            "speedup": row.speedup,
            "versus": row.versus and row.versus.to_json(),
        }
        for row in found
    ]
    running = [
        {
            "way": way.name,
            "cascade_ms": way.cascade.mean_ms,
            f"{LARGEST}_ms": way.largest.mean_ms,
            "agreement": asdict(way.agreement),
        }
        for way in ways
    ]
    notes = list(notes_for(front, found))
    return {"out": str(out), "rows": rows, "warnings": notes, "running": running}
