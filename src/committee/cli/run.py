"""``committee run``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from committee.cli.common import (
    AllowCode,
    AsJson,
    Data,
    Fraction,
    Rows,
    Seed,
    SkipBroken,
    print_json,
    progress_bar,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from committee.data import Dataset
    from committee.run import Result, Runner


def run(
    cascade: Annotated[str, typer.Argument(metavar="CASCADE.json", help="The cascade.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Results: .csv, .jsonl or .parquet.")],
    rows: Rows = None,
    fraction: Fraction = None,
    seed: Seed = 0,
    skip_broken: SkipBroken = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a forward pass.")] = 32,
    allow_code: AllowCode = None,
    as_json: AsJson = False,
) -> None:
    """Run a cascade over pictures and write one row a picture."""
    from committee.data import open_data
    from committee.run import Runner, check_ending, write_results

    check_ending(out)
    runner = Runner(cascade, allow_code=allow_code or ())
    dataset = open_data(data, "run", runner.cascade.classes, rows, fraction, seed)
    broken: list[tuple[str, str]] = []
    started = time.perf_counter()
    skipped = broken.extend if skip_broken else None
    results = _results(runner, dataset, batch_size, skipped, not as_json)
    seconds = time.perf_counter() - started
    write_results(out, results)
    summary = _summary(runner, results, seconds)
    if as_json:
        told = [{"id": name, "reason": reason} for name, reason in broken]
        print_json({**summary, "broken": told, "out": str(out)})
        return
    ratios = " / ".join(f"{ratio:.1%}" for ratio in summary["exit_ratios"])
    say(f"{len(results)} samples in {seconds:.1f} s, {len(results) / seconds:,.0f} a second")
    say(f"Exits by stage: {ratios} of {runner.cascade}")
    if summary["average_cost"] is not None:
        say(f"Average cost: {summary['average_cost']:,.6g} {runner.unit}")
    if summary["correct"] is not None:
        say(f"Right: {summary['correct']} of {len(results)}")
    if broken:
        named = "; ".join(f"{name} ({reason})" for name, reason in broken)
        plural = "" if len(broken) == 1 else "s"
        say(f"{len(broken):,} broken picture{plural} left out: {named}")
    say(f"Written: {out}")


def _results(
    runner: Runner,
    dataset: Dataset,
    batch_size: int,
    skipped: Callable[[Sequence[tuple[str, str]]], None] | None,
    shown: bool,
) -> list[Result]:
    from committee.run import Result, run_offline

    results: list[Result] = []
    samples = dataset.samples
    with progress_bar("run", "samples", shown) as progress:
        for rows, decisions in run_offline(runner, dataset, batch_size, skipped):
            for position, row in enumerate(rows):
                decision = runner.explained(decisions, position)
                label = None if samples.labels is None else int(samples.labels[row])
                results.append(Result(id=samples.ids[row], label=label, **vars(decision)))
            if progress is not None:
                progress(len(results), len(samples))
    return results


def _summary(runner: Runner, results: list[Result], seconds: float) -> dict[str, Any]:
    stages = np.bincount([r.stage for r in results], minlength=len(runner.cascade.stages))
    costs = [r.cost for r in results if r.cost is not None]
    known = [r.class_index == r.label for r in results if r.label is not None]
    return {
        "samples": len(results),
        "seconds": seconds,
        "exit_ratios": (stages / max(len(results), 1)).tolist(),
        "average_cost": float(np.mean(costs)) if costs else None,
        "unit": runner.unit,
        "correct": sum(known) if known else None,
    }
