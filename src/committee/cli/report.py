"""``committee report``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from committee.certificates.certificate import checked_on
from committee.cli import options as opt
from committee.cli.choice import choice_lines
from committee.cli.metrics import with_metric
from committee.cli.options import refuse, refuse_for_segmentation, target_of
from committee.cli.output import (
    print_json,
    say,
    say_broken,
    say_notes,
    say_pairs,
    say_wrapped,
    search_progress,
)
from committee.cli.stores import (
    check_models,
    confidence_for,
    open_split,
    open_test,
    skipped,
    unit_for,
)
from committee.files import write_text
from committee.pool.evaluate import shared_warnings
from committee.pool.pool import Pool
from committee.report.classes import class_losses, class_sections
from committee.report.figure import check_figure_ending, front_figure, write_figure
from committee.report.page import Section, check_page_ending, page_of
from committee.report.promise import promise_sentence
from committee.report.rows import Report
from committee.report.rules import choices_by_rule
from committee.rule.cascade import Cascade
from committee.run.open import open_cascade, what_is
from committee.segment.tile_maps import tile_sections
from committee.selection.exhaustive import search
from committee.selection.front import Front
from committee.selection.options import SearchKeywords
from committee.selection.targets import Target
from committee.text import counted


def report(
    store: opt.StoreFolder,
    match: opt.Match = None,
    within: opt.Within = None,
    min_accuracy: opt.MinAccuracy = None,
    max_cost: opt.MaxCost = None,
    cascade: Annotated[
        str | None,
        typer.Option(
            metavar="CASCADE", help="Show this cascade as the choice, with its certificate."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png|FILE.svg", help="Write accuracy against cost as a figure too."
        ),
    ] = None,
    split: opt.ValSplit = None,
    test: opt.TestSplit = None,
    max_models: opt.MaxModels = None,
    confidence: opt.ConfidenceName = None,
    combine: opt.Combine = None,
    self_cascades: opt.SelfCascades = False,
    metric: opt.MetricName = None,
    unit: opt.Unit = None,
    as_json: opt.AsJson = False,
) -> None:
    """Search, and write the front as one page that works offline.

    The page shows every committee on the front, with the command that saves it. --match,
    --min-accuracy and --max-cost mark the committee that committee search would choose; --cascade
    marks a given one beside the front of its own rule, and the page begins with what was certified
    of it.

    Example: committee report predictions --match large --out report.html
    """
    check_page_ending(out)
    if figure is not None:
        check_figure_ending(figure)
    if cascade is not None:
        given = {"match": match, "min_accuracy": min_accuracy, "max_cost": max_cost}
        given |= {"confidence": confidence, "combine": combine}
        refuse("reports without --cascade", **{n: value is not None for n, value in given.items()})
    target = target_of(match, within, min_accuracy, max_cost)
    chosen_by = _chosen_by(
        match=match, within=within, min_accuracy=min_accuracy, max_cost=max_cost, cascade=cascade
    )
    pool = open_split(store, split, "val")
    test_pool = open_test(store, split, test)
    if not pool.keeps_outputs:
        refuse_for_segmentation(metric=metric is not None)
    pool, by = with_metric(pool, metric, None)
    unit = unit_for(pool, unit, as_json)
    chosen = None if cascade is None else _given(cascade, store, pool)
    rule = _rule(pool, chosen, confidence, combine)
    with search_progress(not as_json) as progress:
        options: SearchKeywords = {**rule, "unit": unit, "metric": by, "progress": progress}
        front = search(pool, max_models, self_cascades=self_cascades, **options)
    # The search used val alone, so add the notes on both splits.
    notes = (*front.warnings, *shared_warnings(pool, test_pool))
    front = replace(front, notes=partial(tuple, notes))
    if chosen is not None:
        match = _reference(chosen, front)
    elif (choice := target.of(front)) is not None:
        chosen = choice.cascade
    # Compare a choice that should match a model with that model, not the most accurate.
    content = Report(front, test_pool, match, chosen)
    classes = class_losses(content)
    text = page_of(
        content,
        store=store,
        split=split,
        extra={"Chosen by": chosen_by} if chosen_by else None,
        title=f"{Path(store).resolve().name}: committees and single models",
        sections=[
            *class_sections(classes),
            *tile_sections(content),
            *_rules(front, target, test_pool),
        ],
    )
    write_text(out, text)
    if figure is not None:
        write_figure(front_figure(content), figure)
    if as_json:
        print_json({**_to_json(content, out), "classes": classes and classes.to_json()})
        return
    say_broken(pool, test_pool)
    _say(content, out)
    if figure is not None:
        say(f"Written: {figure}")
    if classes is not None and classes.worse:
        say_wrapped(classes.sentence)
    if target.share:
        say_wrapped(f"--max-cost is {target.cost_text(front)}.")
    say_notes(front.warnings)


def _chosen_by(**options: object) -> str:
    """Return the options that were given, as they are written."""
    given = {name: value for name, value in options.items() if value is not None}
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items())


def _rule(
    pool: Pool, given: Cascade | None, confidence: str | None, combine: str | None
) -> SearchKeywords:
    """Return the rule to search by: that of a given cascade, where it has an effect."""
    if given is None:
        return {"confidence": confidence_for(pool, confidence), "combine": combine}
    if not pool.keeps_outputs or len(given.names) == 1:
        return {}
    own: SearchKeywords = {"combine": given.combine}
    return own if len(given.stages) == 1 else {**own, "confidence": given.confidence}


def _rules(front: Front, target: Target, test: Pool | None) -> list[Section]:
    """Return what each of several rules chooses, as a section; none for one rule."""
    choices = choices_by_rule(front, target, test)
    if choices is None:
        return []
    line = f"{choices.line[:1].upper()}{choices.line[1:]}"
    return [Section((choices.table(),), (line,), name="rules", title="Rules")]


def _to_json(content: Report, out: Path) -> dict[str, Any]:
    row, chosen = content.choice, content.chosen
    versus, promises = (None, ()) if row is None else (row.versus, row.promises)
    return {
        "report": str(out),
        "committees": len(content.front),
        "versus": versus and versus.to_json(),
        "promises": [each.to_json() for each in promises],
        "warnings": list(content.notes),
        "broken_left_out": skipped(content.front.pool, content.test),
        "chosen": chosen and chosen.to_json(),
    }


def _say(content: Report, out: Path) -> None:
    front, row, chosen = content.front, content.choice, content.chosen
    most = counted(front.settings.max_models, "model")
    are = "is" if len(front) == 1 else "are"
    say(f"{counted(len(front), 'committee')} of up to {most} {are} on the front.")
    say(f"Written: {out}")
    if chosen is not None and (sentence := promise_sentence(chosen)):
        say_wrapped(sentence)
        by = front.settings.metric
        found = None if content.test is None else checked_on(chosen, content.test, by)
        if found is not None and found.certificate is not None:
            say_wrapped(found.lines[-1])
    if row is not None:
        say_pairs(choice_lines(row))


def _given(path: str, store: str, pool: Pool) -> Cascade:
    """Return the cascade of a file, if the pool has its models."""
    given = open_cascade(path).cascade
    for name in given.names:
        pool.model(name)
    if what_is(path) == "cascade file":
        check_models("report", path, given, store, pool)
    return pool.bound(given)


def _reference(cascade: Cascade, front: Front) -> str | None:
    """Return the model that a cascade replaces or matches, if it is a single one of the pool."""
    certified, matched = cascade.certificate, cascade.origin.target.match
    named = certified.reference if certified is not None else matched
    return named if named in front.pool.singles(front.settings.combine) else None
