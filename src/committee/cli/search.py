"""``committee search``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from committee.cli.common import (
    AsJson,
    Unit,
    left_out,
    open_split,
    print_json,
    progress_bar,
    say,
    say_broken,
    usual_judge,
)
from committee.errors import CascadeError
from committee.pool import Pool

if TYPE_CHECKING:
    from committee.search import Committee, Front


def search(
    store: Annotated[str, typer.Argument(help="Predictions: STORE, or STORE/SPLIT.")],
    match: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Cheapest, as accurate as MODEL.")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="Cheapest with at least this accuracy, 0 to 1.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="Most accurate for at most this average cost.")
    ] = None,
    worst_case: Annotated[
        float | None, typer.Option(help="Bound on the cost of all stages together.")
    ] = None,
    max_models: Annotated[
        int | None, typer.Option(help="Most models of a committee; 3 if left out.")
    ] = None,
    confidence: Annotated[
        str, typer.Option(help="max_prob, logit_gap, prob_gap or neg_entropy.")
    ] = "max_prob",
    combine: Annotated[
        str | None, typer.Option(help="mean_logits, mean_probabilities or last.")
    ] = None,
    grid: Annotated[int, typer.Option(help="Percentiles tried for each threshold.")] = 100,
    unit: Unit = None,
    split: Annotated[str, typer.Option(help="The split that chooses.")] = "val",
    test: Annotated[
        str | None,
        typer.Option(metavar="STORE/SPLIT", help="Judge on this split; STORE/test if it is there."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="CASCADE.json", help="Write the chosen cascade.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the committees that no other beats in accuracy and cost; choose one by a target.

    At most one of --match, --min-accuracy and --max-cost. All members of the front are in --json
    and in what committee report writes.
    """
    from committee.evaluate import evaluate
    from committee.search import search as find

    targets = [each for each in (match, min_accuracy, max_cost) if each is not None]
    if len(targets) > 1:
        raise CascadeError("search: give one of --match, --min-accuracy and --max-cost")
    if out and not targets:
        raise CascadeError("search: --out needs --match, --min-accuracy or --max-cost")
    pool = open_split(store, split)
    judge = open_split(test, "test") if test else usual_judge(store, split)
    with progress_bar("search", "sequences", not as_json) as progress:
        front = find(
            pool,
            max_models,
            confidence=confidence,
            combine=combine,
            grid=grid,
            worst_case=worst_case,
            unit=unit,
            progress=progress,
        )
    chosen = _chosen(front, match, min_accuracy, max_cost)
    if out and chosen:
        chosen.cascade.save(out)
    if as_json:
        tested = evaluate(chosen.cascade, judge, unit).to_json() if chosen and judge else None
        choice = chosen and {
            "cascade": chosen.cascade.to_json(),
            "evaluation": chosen.evaluation.to_json(),
            "test": tested,
        }
        broken = left_out(pool, judge)
        print_json({**front.to_json(), "chosen": choice, "broken_left_out": broken})
        return
    _print(front, chosen, judge, out)


def _chosen(
    front: Front, match: str | None, min_accuracy: float | None, max_cost: float | None
) -> Committee | None:
    if match is not None:
        return front.matching(match)
    if min_accuracy is not None:
        return front.at_least(min_accuracy)
    return front.at_most(max_cost) if max_cost is not None else None


def _print(front: Front, chosen: Committee | None, judge: Pool | None, out: str | None) -> None:
    from rich.console import Console

    from committee.report import rich_table, row_of, summary

    settings = front.settings
    say(
        f"{settings.cascades:,} cascades of {settings.sequences:,} sequences of models, "
        f"{'all' if front.exact else 'not all'} covered; {len(front)} are on the front."
    )
    rows = summary(front, judge)
    if chosen:
        rows = [row for row in rows if row.cascade != chosen.cascade]
        rows.append(row_of(front, "chosen", chosen.cascade, judge))
    Console().print(rich_table(rows))
    say_broken(front.pool, judge)
    if judge is None:
        say("Judged on the split that chose: expect less on new data. Name another with --test.")
    if chosen and out:
        say(f"Chosen: {chosen.cascade}, written to {out}")
        runnable = (
            "run {} --data PATH --out results.csv" if chosen.cascade.models else "evaluate {} STORE"
        )
        say(f"Next: committee {runnable.format(out)}")
