"""``committee study``."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from committee.cli import segmentation as tiles
from committee.cli.common import (
    AsJson,
    Calibrated,
    ChoosingSplit,
    Combine,
    ConfidenceName,
    ThresholdGrid,
    Unit,
    confidence_for,
    left_out,
    open_split,
    print_json,
    refuse,
    say,
    say_broken,
    say_notes,
    say_wrapped,
    usual_judge,
)
from committee.errors import StoreError
from committee.files import write_text
from committee.report.page import check_page_ending
from committee.store.chunks import exclusive
from committee.study.analyses import chosen_analyses, run_study
from committee.study.context import study_of
from committee.study.inputs import read_references, read_training
from committee.study.page import study_page
from committee.study.write import study_json, write_study


def study(
    store: Annotated[str, typer.Argument(help="Predictions: the folder of the store.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    split: ChoosingSplit = None,
    test: Annotated[
        str | None, typer.Option(help="The split that judges; test if left out.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this analysis. Repeatable.")
    ] = None,
    max_models: Annotated[
        int | None, typer.Option(help="Most models of a committee; 4, or what takes seconds.")
    ] = None,
    confidence: ConfidenceName = None,
    combine: Combine = None,
    grid: ThresholdGrid = 100,
    calibrated: Calibrated = False,
    unit: Unit = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv", help="Models outside the pool: name, accuracy (0 to 1), cost."
        ),
    ] = None,
    training: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Training times: name of a model or family, and a column headed by the unit.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Repeat every analysis of the paper on this pool.

    What the pool cannot support, for want of families, resolutions or measured costs, is left out
    and named.

    Example: committee study predictions --out study
    """
    names = {each.about.name for each in chosen_analyses(only or ())}
    refuse(
        "an analysis that --only leaves out",
        reference=reference is not None and "outside_references" not in names,
        training=training is not None and "training_cost" not in names,
    )
    page = out / "report.html"
    check_page_ending(page)  # says now, not after the work, if there is nothing to draw with
    pool = open_split(store, split, "val", calibrated)
    if pool.kind == "counts":
        tiles.refuse(confidence=confidence is not None)
    confidence = confidence_for(pool, confidence)
    judge = (
        open_split(store, test, "test", calibrated)
        if test
        else usual_judge(store, split, calibrated)
    )
    if judge is None:
        raise StoreError(
            f"study: {store} has no split 'test' beside {pool.samples.split!r} to judge on; what "
            "chose must not judge. Predict or import one, or name another with --test"
        )
    asked = study_of(
        pool,
        judge,
        unit=unit,
        max_models=max_models,
        confidence=confidence,
        combine=combine,
        grid=grid,
        references=read_references(reference) if reference else (),
        training=read_training(training, pool) if training else None,
    )
    with exclusive(page, make_parents=True):
        findings = run_study(asked, only or (), None if as_json else _progress())
        written = write_study(asked, findings, out)
        written.append(write_text(page, study_page(asked, findings, store, split)))
    if as_json:
        broken = left_out(pool, judge)
        files = [str(path) for path in written]
        print_json({**study_json(asked, findings), "files": files, "broken_left_out": broken})
        return
    for finding in findings:
        if finding.left_out:
            say_wrapped(f"Left out, {finding.name}: {finding.left_out}")
    say_broken(pool, judge)
    most = asked.settings.max_models
    say_notes(asked.notes)
    say(f"Committees have up to {most} model{'s' * (most > 1)}. Everything was {asked.provenance}.")
    say(f"Written: {len(written)} files; begin with {page}")


def _progress() -> Callable[[str, int, int], None]:
    """A line as each analysis ends, with its seconds."""
    begun: list[tuple[str, float]] = []

    def update(name: str, done: int, total: int) -> None:
        now = time.perf_counter()
        if begun:
            before, since = begun.pop()
            say(f"[{done}/{total}] {before}: {now - since:.1f} s")
        begun.append((name, now))

    return update
