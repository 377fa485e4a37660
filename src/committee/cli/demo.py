"""``committee demo``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from committee.arrays import Array
from committee.certificates.certify import Certified, certify
from committee.cli import options as opt
from committee.cli.choice import caption_of, choice_lines, is_alternative, other_line
from committee.cli.output import (
    print_json,
    print_table,
    progress_bar,
    say,
    say_committees,
    say_notes,
    say_pairs,
    say_wrapped,
    search_progress,
)
from committee.embedded import embedded_images, pool_file
from committee.errors import require
from committee.files import write_text
from committee.models.inputs import RawSamples
from committee.pool.pool import Pool
from committee.predict import predict
from committee.profile.measure import in_turns
from committee.report.figure import drawing_of, front_figure
from committee.report.page import page_of
from committee.report.rows import Report, Row
from committee.report.tables import front_csv, merged
from committee.rule.cascade import Cascade
from committee.rule.flow import Decisions, joined_decisions
from committee.run.runner import Runner
from committee.run.verify import Agreement, agreement
from committee.selection.exhaustive import search
from committee.selection.front import Committee, Front
from committee.text import counted, points, times

LARGEST = "large"
BATCH = 64
# How much less accurate than the largest model the certified cascade may be.
WITHIN = 0.01
ONLINE = 1000  # images that are run one by one


@dataclass(frozen=True, eq=False)
class _Timed:
    """One runner's decisions, and milliseconds of each image; in batches, those of its share."""

    decisions: Decisions
    ms: Array

    @property
    def mean_ms(self) -> float:
        """Mean milliseconds an image."""
        return float(self.ms.mean())


@dataclass(frozen=True)
class _Timing:
    """Times of the chosen cascade and the largest model, both run in the same way."""

    way: str
    cascade: _Timed
    largest: _Timed
    agreement: Agreement

    @property
    def speedup(self) -> float:
        """The time of the largest model over that of the cascade."""
        return self.largest.mean_ms / self.cascade.mean_ms


def demo(
    out: Annotated[Path, typer.Option(help="Folder for all results.")] = Path("demo-out"),
    as_json: opt.AsJson = False,
) -> None:
    """Choose, evaluate and run a cascade of six small networks, all in the package.

    Example: committee demo --out demo-out
    """
    require("The demo", "onnx", "report")
    say("Six small networks, trained on Fashion-MNIST. 5,000 of its test images choose", as_json)
    say("the committees (val), the other 5,000 evaluate them (test).", as_json)
    say("", as_json)
    val, test = (_predicted(split, out / "predictions", as_json) for split in ("val", "test"))
    with search_progress(not as_json) as progress:
        front = search(val, max_models=3, progress=progress)
    chosen = front.matching(LARGEST).cascade
    chosen.save(out / "cascade.json")
    report = Report(front, test, LARGEST)
    write_text(out / "front.csv", front_csv(report.members))
    drawing = drawing_of(front_figure(report))
    drawing.save(out / "front")
    page = page_of(report, store=str(out / "predictions"), svg=drawing.svg)
    write_text(out / "report.html", page)
    rows, notes = report.rows, report.notes
    if not as_json:
        _print_front(front, report)
    timings = _run(out / "cascade.json", test, as_json)
    promise = certify(val, match=LARGEST, within=WITHIN)
    promise.cascade.save(out / "certified.json")
    if as_json:
        kept = promise.certificate.holds_on(test).to_json()
        own = {"certificate": promise.certificate.to_json(), "on_test": kept}
        print_json({**_to_json(rows, notes, timings, out), **own})
        return
    _print_timings(chosen, timings)
    _print_promise(promise, front.matching(LARGEST, WITHIN), test)
    say("")
    files = "cascade.json, certified.json, front.csv, front.png, front.svg, report.html"
    say_wrapped(f"In {out}: predictions/, {files}")
    say("Next, with your own models: committee predict --help, committee import --help")


def _predicted(split: str, store: Path, quiet: bool) -> Pool:
    images = embedded_images(split)
    with progress_bar(f"predict {split}", "outputs", not quiet) as progress:
        folder = predict(pool_file(), images, store, batch_size=BATCH, progress=progress)
    return Pool.load(folder)


def _print_front(front: Front, report: Report) -> None:
    settings = front.settings
    say(
        f"{counted(settings.cascades, 'cascade')} of up to {settings.max_models} of "
        f"{len(front.pool.names)} models were covered; {len(front)} are on the front."
    )
    say("")
    choice = report.choice
    if choice is not None:
        others = [each for each in merged(report.rows) if is_alternative(each, choice)]
        say_pairs([*choice_lines(choice), *map(other_line, others)])
    say_committees(report.rows, choice, caption_of(report.rows))
    say_notes(front.warnings)


def _run(cascade: Path, test: Pool, quiet: bool) -> list[_Timing]:
    """Return times of the cascade and the largest model, in batches and one image at a time."""
    largest = test.described(Cascade.of([LARGEST]))
    dataset = embedded_images("test")
    timings = []
    # One small image is too little work to share among threads.
    for way, batch_size, threads, count in (
        (f"in batches of {BATCH}", BATCH, 0, len(test)),
        ("one by one, 1 thread", 1, 1, ONLINE),
    ):
        images = dataset.read(np.arange(count))
        runners = [Runner(each, threads=threads) for each in (cascade, largest)]
        with progress_bar(f"run {way}", "images", not quiet) as update:

            def progress(done: int, update: Any = update, count: int = count) -> None:
                if update is not None:
                    update(done, count)

            ours, single = _timed(runners, images, batch_size, progress)
        same = agreement(runners[0], test.rows(slice(count), "test"), ours.decisions)
        timings.append(_Timing(way, ours, single, same))
    return timings


def _timed(
    runners: Sequence[Runner],
    images: RawSamples,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> list[_Timed]:
    """Run over all images, runners taking turns: in stretches of batches, or one by one if 1."""
    step = 1 if batch_size == 1 else batch_size * runners[0].task.stretch
    calls = [partial(runner.decide, batch_size=batch_size) for runner in runners]
    for call in calls:
        call(images[:step])  # warm
    blocks = [images[start : start + step] for start in range(0, len(images), step)]
    turns: list[list[tuple[Decisions, Array]]] = []
    for block, turn in zip(blocks, in_turns(calls, blocks), strict=True):
        turns.append([(made, np.full(len(block), ms / len(block))) for made, ms in turn])
        if progress is not None:
            progress(len(turns) * step - step + len(block))
    parts = [zip(*each, strict=True) for each in zip(*turns, strict=True)]
    return [_Timed(joined_decisions(made), np.concatenate(ms)) for made, ms in parts]


def _print_promise(promise: Certified, chosen: Committee, test: Pool) -> None:
    """Print the certified cascade, whether the test split keeps its promise, and its price."""
    record, outcome = promise.certificate.record, promise.certificate.holds_on(test)
    ratio = promise.evaluation.average_cost / chosen.evaluation.average_cost
    say("")
    say_wrapped(f"With a promise: {promise.cascade} {promise.certificate.text}.")
    say_wrapped(
        f"On the {outcome.samples:,} test images it is {points(outcome.estimate)} points from "
        f"{LARGEST}, {100 * record.level:g} % bound {points(outcome.low, 'down')}: {outcome.text}. "
        f"{chosen.cascade}, the cheapest so close on val, promises nothing; the certified "
        f"one costs {times(ratio, 2)} as much."
    )


# The fields of an agreement in the JSON.
_AGREEMENT = ("samples", "same_class", "same_stage", "largest_difference")


def _print_timings(cascade: Cascade, timings: Sequence[_Timing]) -> None:
    def p99(each: _Timed) -> str:
        return f"{np.percentile(each.ms, 99):.3f}"

    say("")
    print_table(
        timings,
        [
            ("measured, ms per image", lambda each: each.way),
            ("cascade", lambda each: f"{each.cascade.mean_ms:.3f}"),
            ("p99", lambda each: p99(each.cascade)),
            (LARGEST, lambda each: f"{each.largest.mean_ms:.3f}"),
            ("p99", lambda each: p99(each.largest)),
            ("speedup", lambda each: f"{each.speedup:.2f}×"),
        ],
        f"Running {cascade} on the test images",
    )
    for each in timings:
        same = each.agreement
        say_wrapped(
            f"{each.way}: {same.same_class:,} of {same.samples:,} classes and {same.same_stage:,} "
            "exits are as evaluated"
        )


def _to_json(
    rows: Sequence[Row], notes: Sequence[str], timings: Sequence[_Timing], out: Path
) -> dict[str, Any]:
    return {
        "out": str(out),
        "rows": [
            {
                "role": row.role,
                "cascade": row.cascade.to_json(),
                "val": row.val.to_json(),
                "test": row.test and row.test.to_json(),
                "speedup": row.speedup,
                "versus": row.versus and row.versus.to_json(),
            }
            for row in rows
        ],
        "warnings": list(notes),
        "running": [
            {
                "way": each.way,
                "cascade_ms": each.cascade.mean_ms,
                f"{LARGEST}_ms": each.largest.mean_ms,
                "agreement": {key: getattr(each.agreement, key) for key in _AGREEMENT},
            }
            for each in timings
        ],
    }
