"""``committee report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from committee.cli.common import (
    AsJson,
    Unit,
    left_out,
    open_split,
    print_json,
    say,
    say_broken,
    search_progress,
    usual_judge,
)


def report(
    store: Annotated[str, typer.Argument(help="Predictions: the folder of the store.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    split: Annotated[
        str | None, typer.Option(help="The split that chooses; val if left out.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="The split that judges; test if it is there.")
    ] = None,
    max_models: Annotated[
        int | None, typer.Option(help="Most models of a committee; 3 if left out.")
    ] = None,
    unit: Unit = None,
    as_json: AsJson = False,
) -> None:
    """Search and write one self-contained page: the front, its figure, every committee on it."""
    from committee.files import write_text
    from committee.report import page_of
    from committee.search import search

    pool = open_split(store, split, "val")
    judge = open_split(store, test, "test") if test else usual_judge(store, split)
    with search_progress(not as_json) as progress:
        front = search(pool, max_models, unit=unit, progress=progress)
    write_text(out, page_of(front, judge))
    if as_json:
        broken = left_out(pool, judge)
        print_json({"report": str(out), "committees": len(front), "broken_left_out": broken})
        return
    say_broken(pool, judge)
    say(f"Written: {out}")
