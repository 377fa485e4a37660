"""``committee run``."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from committee.cli import options as opt
from committee.cli.options import refuse, refuse_for_segmentation
from committee.cli.output import Notes, broken_text, cost_text, print_json, progress_bar, say
from committee.cli.stores import with_models
from committee.cli.tasks import commands_of
from committee.data.open import open_data
from committee.errors import CascadeError, DataError
from committee.run.offline import Progress, run_into
from committee.run.open import open_cascade
from committee.run.promise import Promise
from committee.run.results import Result, check_ending, check_free
from committee.run.runner import Runner
from committee.text import counted, percent, shares


def run(
    cascade: opt.CascadePath,
    data: opt.Data,
    out: Annotated[Path, typer.Option(help="Results: .csv, .jsonl or .parquet.")],
    rows: opt.Rows = None,
    fraction: opt.Fraction = None,
    seed: opt.Seed = None,
    batch_size: opt.BatchSize = None,
    show_tiles: Annotated[
        bool,
        typer.Option("--show-tiles", help="Segmentation: draw which tiles went on, in images."),
    ] = False,
    pool: opt.LoadedAs = None,
    allow_code: opt.AllowCode = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing results.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Run a cascade over images, clips or records and write one row per sample.

    You can stop it at any moment: OUT.part keeps the results, and the same command continues.
    A sample that cannot be read, or on which a model fails or gives NaN, gets a row with the
    reason. A model that fails on sixteen samples in a row ends the run.

    Example: committee run c.json --data images/new --out results.csv
    """
    refuse("--fraction", seed=seed is not None and fraction is None)
    if not overwrite:
        check_free(out)
    code = allow_code or ()
    loaded = open_cascade(cascade)
    own = commands_of(loaded.task)
    if own is not None:
        refuse_for_segmentation(fraction=fraction is not None, pool=pool is not None)
        own.run(loaded, data, out, rows, batch_size, show_tiles, code, overwrite, as_json)
        return
    if show_tiles:
        raise CascadeError("--show-tiles: only for semantic segmentation; leave it out")
    check_ending(out)
    runner = Runner(with_models(loaded, pool), allow_code=code)
    models = list(runner.specs.values())
    classes = runner.cascade.classes
    dataset = open_data(data, "run", classes, rows, fraction, seed or 0, models, "if they fit")
    notes = Notes(as_json, dataset.samples.notes)
    tally = _Tally(runner)
    with progress_bar("run", "samples", not as_json) as update:

        def progress(now: Progress) -> None:
            tally.begin(now.done)
            if update is not None:
                exits = tally.earlier + now.exits
                update(now.done, now.total, f"exits {shares(exits / (exits.sum() or 1))}")

        tally.add(
            run_into(
                runner, dataset, out, batch_size, progress, overwrite=overwrite, note=notes.append
            )
        )
    summary = tally.summary()
    notes += tally.other_exits()
    if as_json:
        broken = [{"id": name, "reason": reason} for name, reason in tally.broken]
        print_json({**summary, "broken": broken, "notes": notes, "out": str(out)})
    else:
        notes.show()
        _print(runner, summary, tally.broken, out)
    if tally.broken and not summary["samples"]:
        raise DataError(_none_decided(data, tally.broken, runner.task.sample, out))


@dataclass
class _Tally:
    """Counts over all results, including those of an earlier run."""

    runner: Runner
    exits: Any = None
    earlier: Any = 0
    resumed: int = 0
    started: float | None = None
    cost: float = 0.0
    priced: int = 0
    labelled: int = 0
    correct: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.exits = np.zeros(len(self.runner.cascade.stages), np.int64)
        self.promise = Promise.of(self.runner.cascade)

    def begin(self, done: int) -> None:
        """Start the clock at the first progress; earlier results are of an earlier run."""
        if self.started is None:
            self.earlier, self.resumed = self.exits.copy(), done
            self.started = time.perf_counter()

    def add(self, blocks: Iterable[list[Result]]) -> None:
        for result in (each for block in blocks for each in block):
            if result.stage is None:
                self.broken.append((result.id, result.error))
                continue
            self.exits[result.stage] += 1
            if result.cost is not None:
                self.cost, self.priced = self.cost + result.cost, self.priced + 1
            if result.label is not None:
                self.labelled += 1
                self.correct += result.class_index == result.label

    def summary(self) -> dict[str, Any]:
        samples = int(self.exits.sum())
        seconds = time.perf_counter() - (self.started or 0.0)
        new = samples + len(self.broken) - self.resumed
        return {
            "samples": samples,
            "resumed": self.resumed,
            "seconds": seconds,
            "samples_per_second": new / seconds,
            "exit_ratios": (self.exits / max(samples, 1)).tolist(),
            "promised_exit_ratios": self.promise and list(self.promise.ratios),
            "average_cost": self.cost / self.priced if self.priced else None,
            "unit": self.runner.unit,
            "correct": self.correct if self.labelled else None,
        }

    def other_exits(self) -> list[str]:
        """Return a note if exits differ from the promised ones by more than chance explains."""
        promise = self.promise
        if promise is None or promise.explained(self.exits.tolist()):
            return []
        samples = int(self.exits.sum())
        return [
            f"exits by stage are {shares(self.exits / samples)} of {counted(samples, 'sample')}; "
            f"promised were {shares(promise.ratios)} of {promise.samples:,}. The difference is "
            "more than chance explains: these data differ from those that chose the cascade, or "
            "the models do. committee verify --predictions shows which"
        ]


def _print(
    runner: Runner, summary: dict[str, Any], broken: list[tuple[str, str]], out: Path
) -> None:
    samples, correct = summary["samples"], summary["correct"]
    every = counted(samples + len(broken), "sample")
    of = f", {samples:,} decided and {len(broken):,} broken" if broken else ""
    speed = f"{summary['seconds']:.1f} s at {summary['samples_per_second']:,.0f} per second"
    resumed = f"; {summary['resumed']:,} were done before" if summary["resumed"] else ""
    say(f"{every}{of}, {speed}{resumed}")
    if samples:
        ratios = summary["promised_exit_ratios"]
        promised = f" (promised {shares(ratios)})" if ratios else ""
        say(f"Exits by stage: {shares(summary['exit_ratios'])}{promised} of {runner.cascade}")
    if line := cost_text(summary["average_cost"], runner.unit, runner.specs):
        say(line)
    if correct is not None and samples:
        say(f"Correct: {correct:,} of {samples:,}, {percent(correct / samples)}")
    if broken:
        row = "It has a row" if len(broken) == 1 else "Each has a row"
        say(f"{broken_text(broken, runner.task.sample)}. {row} with the reason.")
    say(f"Written: {out}")


def _none_decided(data: str, broken: list[tuple[str, str]], sample: str, out: Path) -> str:
    (name, reason), count = broken[0], len(broken)
    what = "the only " + sample
    could = "could not be decided:"
    if count > 1:
        what, could = f"none of the {count:,} {sample}s", "could be decided; the first:"
    return (
        f"data {data}: {what} {could} {name} ({reason}). {out} has the reason of each; fix them, "
        "or name other data"
    )
