"""``committee report``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from committee.cli.common import (
    AsJson,
    ChoosingSplit,
    Match,
    MaxCost,
    MinAccuracy,
    SelfCascades,
    Unit,
    Within,
    counted,
    left_out,
    open_split,
    print_json,
    say,
    say_broken,
    say_notes,
    say_share,
    say_wrapped,
    search_progress,
    target_of,
    usual_judge,
)
from committee.files import write_text
from committee.pool.evaluate import shared_warnings
from committee.report.page import check_page_ending, page_of
from committee.report.rows import choice_of, summary
from committee.report.tables import versus_lines
from committee.selection.exhaustive import search
from committee.selection.notes import notes_of


def report(
    store: Annotated[str, typer.Argument(help="Predictions: the folder of the store.")],
    match: Match = None,
    within: Within = None,
    min_accuracy: MinAccuracy = None,
    max_cost: MaxCost = None,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    split: ChoosingSplit = None,
    test: Annotated[
        str | None, typer.Option(help="The split that judges; test if it is there.")
    ] = None,
    max_models: Annotated[
        int | None, typer.Option(help="Most models of a committee; 3 if left out.")
    ] = None,
    self_cascades: SelfCascades = False,
    unit: Unit = None,
    as_json: AsJson = False,
) -> None:
    """Search, and write the front as one page that works offline.

    --match, --min-accuracy and --max-cost mark the committee that they choose, as committee search
    would; the page names the command that saves each.

    Example: committee report predictions --match large --out report.html
    """
    check_page_ending(out)
    target = target_of(match, within, min_accuracy, max_cost)
    targets = {
        "--match": match,
        "--within": within,
        "--min-accuracy": min_accuracy,
        "--max-cost": max_cost,
    }
    asked = [f"{option} {value}" for option, value in targets.items() if value is not None]
    pool = open_split(store, split, "val")
    judge = open_split(store, test, "test") if test else usual_judge(store, split)
    with search_progress(not as_json) as progress:
        front = search(pool, max_models, unit=unit, self_cascades=self_cascades, progress=progress)
    # The page is searched for val alone; what the two splits share is known all the same.
    front = replace(front, warnings=(*front.warnings, *shared_warnings(pool, judge)))
    chosen = target.of(front)
    text = page_of(
        front,
        judge,
        # Whoever asks to match a model compares with that model, not with the most accurate.
        reference=match,
        chosen=None if chosen is None else chosen.cascade,
        store=store,
        split=split,
        extra={"Chosen by": " ".join(asked)} if asked else None,
        title=f"{Path(store).resolve().name}: committees and single models",
    )
    write_text(out, text)
    row = choice_of(summary(front, judge, match, None if chosen is None else chosen.cascade))
    versus = None if row is None else row.versus
    promises = () if row is None else row.promises
    notes = notes_of(front, versus, promises)
    if as_json:
        broken = left_out(pool, judge)
        told = {
            "report": str(out),
            "committees": len(front),
            "versus": versus and versus.to_json(),
            "promises": [each.to_json() for each in promises],
            "warnings": list(notes),
            "broken_left_out": broken,
        }
        print_json({**told, "chosen": chosen and chosen.cascade.to_json()})
        return
    say_broken(pool, judge)
    most = front.settings.max_models
    are = "is" if len(front) == 1 else "are"
    say(f"{len(front)} {are} on the front of committees of up to {counted(most, 'model')}.")
    say(f"Written: {out}")
    lines = [] if row is None else versus_lines([row])
    if chosen is not None and not lines:
        say_wrapped(f"chosen: {chosen.cascade}")
    for line in lines:
        say_wrapped(line)
    say_share(front, target)
    say_notes(notes)
