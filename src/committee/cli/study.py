"""``committee study``."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from committee.cli import options as opt
from committee.cli.choice import choice_lines
from committee.cli.metrics import with_metric
from committee.cli.options import refuse, refuse_for_segmentation
from committee.cli.output import print_json, say, say_broken, say_notes, say_pairs, say_wrapped
from committee.cli.stores import confidence_for, open_split, open_test, skipped
from committee.errors import StoreError
from committee.files import write_text
from committee.pool.pool import Pool
from committee.report.page import check_page_ending
from committee.segment.tile_maps import tile_sections
from committee.store.chunks import exclusive
from committee.study.analyses import chosen_analyses, run_study
from committee.study.base import Finding
from committee.study.context import Study, study_of
from committee.study.inputs import read_references, read_training
from committee.study.write import draw_findings, study_json, study_page, write_study
from committee.text import counted


def study(
    store: opt.StoreFolder,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    split: opt.ValSplit = None,
    test: opt.TestSplit = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this analysis. Repeatable.")
    ] = None,
    max_models: Annotated[
        int | None,
        typer.Option(help="Most models of a committee; default: 4, or what takes seconds."),
    ] = None,
    confidence: opt.ConfidenceName = None,
    combine: opt.Combine = None,
    grid: opt.Grid = 100,
    calibrated: opt.Calibrated = False,
    metric: opt.MetricName = None,
    unit: opt.Unit = None,
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
            help="Training times: the name of a model or family, and a column named by the unit.",
        ),
    ] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Repeat every analysis of the paper on this pool.

    The result is tables, figures, an index and one page. Analyses that the pool does not support,
    for lack of families, resolutions or measured costs, are skipped and named.

    Example: committee study predictions --out study
    """
    analyses = {each.name for each in chosen_analyses(only or ())}
    refuse(
        "an analysis that --only leaves out",
        reference=reference is not None and "outside_references" not in analyses,
        training=training is not None and "training_cost" not in analyses,
    )
    page = out / "report.html"
    check_page_ending(page)  # fails now, not after the work, if nothing can draw the figures
    pool, test_pool = _open(store, split, test, calibrated)
    if not pool.keeps_outputs:
        refuse_for_segmentation(confidence=confidence is not None, metric=metric is not None)
    pool, by = with_metric(pool, metric, None)
    context = study_of(
        pool,
        test_pool,
        unit=unit,
        max_models=max_models,
        confidence=confidence_for(pool, confidence),
        combine=combine,
        grid=grid,
        metric=by,
        references=read_references(reference) if reference else (),
        training=read_training(training, pool) if training else None,
    )
    with exclusive(page, make_parents=True):
        findings = run_study(context, only or (), None if as_json else _progress())
        drawings = draw_findings(context, findings)
        written = write_study(context, findings, drawings, out)
        sections = tile_sections(context.report)
        text = study_page(context, findings, drawings, store, split, sections)
        written.append(write_text(page, text))
    if as_json:
        files = [str(path) for path in written]
        broken = skipped(pool, test_pool)
        print_json({**study_json(context, findings), "files": files, "broken_left_out": broken})
        return
    _print(context, findings, (pool, test_pool))
    say(f"Written: {len(written)} files; begin with {page}")


def _open(store: str, split: str | None, test: str | None, calibrated: bool) -> tuple[Pool, Pool]:
    pool = open_split(store, split, "val", calibrated)
    test_pool = open_test(store, split, test, calibrated)
    if test_pool is None:
        raise StoreError(
            f"study: {store} has no split 'test' beside {pool.samples.split!r} to evaluate on. "
            "Predict or import one, or name another split with --test"
        )
    return pool, test_pool


def _progress() -> Callable[[str, int, int], None]:
    """Return a function that writes a line, with its seconds, as each analysis ends."""
    begun: list[tuple[str, float]] = []

    def update(name: str, done: int, total: int) -> None:
        now = time.perf_counter()
        if begun:
            before, since = begun.pop()
            say(f"[{done}/{total}] {before}: {now - since:.1f} s")
        begun.append((name, now))

    return update


def _print(context: Study, findings: Sequence[Finding], pools: Collection[Pool]) -> None:
    for finding in findings:
        if finding.left_out:
            say_wrapped(f"Skipped, {finding.name}: {finding.left_out}")
    choice = context.report.choice
    if choice is not None:
        say_pairs(choice_lines(choice))
    say_broken(*pools)
    say_notes(context.notes)
    models = counted(context.settings.max_models, "model")
    say_wrapped(f"Committees have up to {models}. Everything was {context.provenance}.")
