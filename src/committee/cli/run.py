"""``committee run``."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from committee.cli import segmentation as tiles
from committee.cli.common import (
    AllowCode,
    AsJson,
    Chosen,
    Data,
    Fraction,
    Loading,
    Rows,
    Seed,
    cost_line,
    counted,
    listed_broken,
    print_json,
    progress_bar,
    refuse,
    say,
    with_models,
)
from committee.data.open import open_data
from committee.errors import CascadeError, DataError
from committee.report.text import shares
from committee.run.agreement import Promise
from committee.run.offline import Progress, run_into
from committee.run.results import Result, check_ending, check_free
from committee.run.runner import Runner
from committee.text import percent


def run(
    cascade: Chosen,
    data: Data,
    out: Annotated[Path, typer.Option(help="Results: .csv, .jsonl or .parquet.")],
    rows: Rows = None,
    fraction: Fraction = None,
    seed: Seed = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Samples a forward pass; 32 images or 4 clips.")
    ] = None,
    show_tiles: Annotated[
        bool,
        typer.Option("--show-tiles", help="Segmentation: show which tiles went on, in images."),
    ] = False,
    pool: Loading = None,
    allow_code: AllowCode = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that are there already.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a cascade over images or clips and write one row per sample.

    It can be stopped at any moment: what is done lies in OUT.part, and the same command goes on.
    Samples that cannot be read, or of which a model makes NaN, get a row with the reason.

    Example: committee run c.json --data images/new --out results.csv
    """
    refuse("--fraction", seed=seed is not None and fraction is None)
    if not overwrite:
        check_free(out)
    if tiles.is_segmentation(cascade):
        tiles.refuse(fraction=fraction is not None, pool=pool is not None)
        code = allow_code or ()
        tiles.run(cascade, data, out, rows, batch_size, show_tiles, code, overwrite, as_json)
        return
    if show_tiles:
        raise CascadeError("--show-tiles: only for semantic segmentation; leave it out")
    check_ending(out)
    runner = Runner(with_models(cascade, pool), allow_code=allow_code or ())
    models = list(runner.specs.values())
    classes = runner.cascade.classes
    dataset = open_data(data, "run", classes, rows, fraction, seed or 0, models, "if they fit")
    notes = list(dataset.samples.notes)
    tally = _Tally(np.zeros(len(runner.cascade.stages), np.int64))
    with progress_bar("run", "samples", not as_json) as update:

        def progress(now: Progress) -> None:
            tally.begin(now.done)
            if update is not None:
                update(now.done, now.total, f"exits {_shares(tally.before + now.leaving)}")

        stretches = run_into(
            runner, dataset, out, batch_size, progress, overwrite=overwrite, note=notes.append
        )
        tally.take(stretches)
    promise = Promise.of(runner.cascade)
    summary = tally.summary(runner, promise)
    if promise is not None and not promise.explained(tally.leaving.tolist()):
        notes.append(_other_exits(summary, promise))
    if as_json:
        told = [{"id": name, "reason": reason} for name, reason in tally.broken]
        print_json({**summary, "broken": told, "notes": notes, "out": str(out)})
    else:
        for note in notes:
            say(f"Note: {note}")
        _print(runner, summary, tally.broken, out)
    if tally.broken and not summary["samples"]:
        name, reason = tally.broken[0]
        count, what = len(tally.broken), runner.task.sample
        none = f"none of the {count:,} {what}s" if count > 1 else f"the only {what}"
        could = "could be decided, first" if count > 1 else "could not be decided,"
        raise DataError(
            f"data {data}: {none} {could} {name} ({reason}). {out} has the reason of each; fix "
            "them, or name other data"
        )


@dataclass
class _Tally:
    """What is counted over all results, those of an earlier run too."""

    leaving: Any
    before: Any = 0
    resumed: int = 0
    started: float | None = None
    cost: float = 0.0
    priced: int = 0
    labelled: int = 0
    right: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)

    def begin(self, done: int) -> None:
        """Time runs from the first progress on; what is there by then is of an earlier run."""
        if self.started is None:
            self.before, self.resumed, self.started = self.leaving.copy(), done, time.perf_counter()

    def take(self, stretches: Iterable[list[Result]]) -> None:
        for results in stretches:
            for result in results:
                if result.stage is None:
                    self.broken.append((result.id, result.error))
                    continue
                self.leaving[result.stage] += 1
                if result.cost is not None:
                    self.cost, self.priced = self.cost + result.cost, self.priced + 1
                if result.label is not None:
                    self.labelled += 1
                    self.right += result.class_index == result.label

    def summary(self, runner: Runner, promise: Promise | None) -> dict[str, Any]:
        samples = int(self.leaving.sum())
        seconds = time.perf_counter() - (self.started or 0.0)
        new = samples + len(self.broken) - self.resumed
        return {
            "samples": samples,
            "resumed": self.resumed,
            "seconds": seconds,
            "samples_per_second": new / seconds,
            "exit_ratios": (self.leaving / max(samples, 1)).tolist(),
            "promised_exit_ratios": promise and list(promise.ratios),
            "average_cost": self.cost / self.priced if self.priced else None,
            "unit": runner.unit,
            "correct": self.right if self.labelled else None,
        }


def _print(
    runner: Runner, summary: dict[str, Any], broken: list[tuple[str, str]], out: Path
) -> None:

    samples, rate = summary["samples"], summary["samples_per_second"]
    known = f"; {summary['resumed']:,} were done before" if summary["resumed"] else ""
    every = counted(samples + len(broken), "sample")
    of = f", {samples:,} decided and {len(broken):,} broken" if broken else ""
    say(f"{every}{of}, {summary['seconds']:.1f} s at {rate:,.0f} a second{known}")
    if samples:
        promised = summary["promised_exit_ratios"]
        told = f" (promised {shares(promised)})" if promised else ""
        say(f"Exits by stage: {shares(summary['exit_ratios'])}{told} of {runner.cascade}")
    if line := cost_line(summary["average_cost"], runner.unit, runner.specs):
        say(line)
    if summary["correct"] is not None and samples:
        right = summary["correct"]
        say(f"Right: {right:,} of {samples:,}, {percent(right / samples)}")
    if broken:
        row = "It has a row" if len(broken) == 1 else "Each has a row"
        say(f"{listed_broken(broken, runner.task.sample)}. {row} with the reason.")
    say(f"Written: {out}")


def _other_exits(summary: dict[str, Any], promise: Promise) -> str:
    """Say that exits are not those that were promised, and what that may mean."""
    return (
        f"exits by stage are {shares(summary['exit_ratios'])} of "
        f"{counted(summary['samples'], 'sample')}, promised were {shares(promise.ratios)} of "
        f"{promise.samples:,}: more than chance explains. These data differ from those that chose "
        "the cascade, or the models do; committee verify --predictions tells which"
    )


def _shares(leaving: Any) -> str:
    """Shares of the samples that left at each stage so far."""
    return shares(leaving / (leaving.sum() or 1))
