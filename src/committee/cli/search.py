"""``committee search``."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from committee.cli import cells
from committee.cli.common import (
    AgreeWith,
    AsJson,
    Calibrated,
    ChoosingSplit,
    Combine,
    ConfidenceName,
    Match,
    MaxCost,
    MinAccuracy,
    SelfCascades,
    ThresholdGrid,
    Top,
    Unit,
    amounts,
    judged_by,
    left_out,
    open_split,
    print_json,
    say,
    say_broken,
    search_progress,
    target_of,
    usual_judge,
)
from committee.errors import CascadeError
from committee.pool import Pool

if TYPE_CHECKING:
    from committee.search import Committee, Front


class Method(StrEnum):
    """How the committees are found."""

    EXACT = "exact"
    GUIDED = "guided"
    GREEDY = "greedy"


def search(
    store: Annotated[str, typer.Argument(help="Predictions: STORE, or STORE/SPLIT.")],
    match: Match = None,
    min_accuracy: MinAccuracy = None,
    max_cost: MaxCost = None,
    cascade_of: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...", help="Cheapest cascade of these, as accurate as their ensemble."
        ),
    ] = None,
    ensemble: Annotated[
        str | None,
        typer.Option(metavar="A[,B,...]", help="This ensemble, or this model alone."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="With --cascade-of: how much less accurate it may be, 0 to 1.")
    ] = 0.0,
    worst_case: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[UNIT=]COST", help="Bound on the cost of all stages together. Repeatable."
        ),
    ] = None,
    average_case: Annotated[
        list[str] | None,
        typer.Option(
            metavar="UNIT=COST", help="Bound on the average cost in another unit. Repeatable."
        ),
    ] = None,
    max_models: Annotated[
        int | None,
        typer.Option(help="Most models of a committee; 3 if left out, guided 4, greedy all."),
    ] = None,
    confidence: ConfidenceName = "max_prob",
    combine: Combine = None,
    grid: ThresholdGrid = 100,
    families: Annotated[
        bool, typer.Option(help="Take trainings of one architecture as interchangeable.")
    ] = True,
    self_cascades: SelfCascades = False,
    calibrated: Calibrated = False,
    top: Top = 1,
    agree_with: AgreeWith = None,
    method: Annotated[
        Method, typer.Option(help="guided and greedy are for pools too large for exact.")
    ] = Method.EXACT,
    keep: Annotated[
        int, typer.Option(help="With --method guided: models kept for committees of 3 or more.")
    ] = 20,
    unit: Unit = None,
    threads: Annotated[int | None, typer.Option(help="All processors if left out.")] = None,
    split: ChoosingSplit = None,
    test: Annotated[
        str | None,
        typer.Option(metavar="STORE/SPLIT", help="Judge on this split; STORE/test if it is there."),
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--cells",
            metavar="full|SIDE+CONTEXT",
            help="Segmentation: only cells of this size. Repeatable.",
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="CASCADE.json", help="Write the chosen cascade.")
    ] = None,
    list_front: Annotated[
        bool, typer.Option("--front", help="Print every member of the front.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find the committees that no other beats in accuracy and cost; choose one by a target.

    At most one of --match, --min-accuracy, --max-cost, --cascade-of and --ensemble. All members of
    the front are in --front, in --json and in what committee report writes.
    """
    from committee.search import as_cascade, as_ensemble, greedy, guided
    from committee.search import search as exact

    if not 0 <= tolerance < 1:
        raise CascadeError(f"--tolerance {tolerance}: a share of 1, 0 or more and less than 1")
    _check_targets([match, min_accuracy, max_cost, cascade_of, ensemble], out)
    if self_cascades and (method is not Method.EXACT or cascade_of is not None):
        raise CascadeError("search: --self-cascades is exact; leave --method and --cascade-of out")
    pool = open_split(store, split, "val", calibrated, sizes)
    if pool.kind == "counts":
        cells.refuse(
            self_cascades=self_cascades,
            top=top != 1,
            agree_with=agree_with is not None,
            method=method is not Method.EXACT,
            confidence=confidence != "max_prob",
        )
    judge = _judge(store, split, test, calibrated)
    pool, utility = judged_by(pool, top, agree_with)
    if judge is not None:
        judge, _ = judged_by(judge, top, agree_with)
    unit = pool.costs.unit(unit)
    bounds = amounts("--worst-case", worst_case, unit)
    options: dict[str, Any] = {"confidence": confidence, "combine": combine, "unit": unit}
    with search_progress(not as_json) as progress:
        if method is Method.GREEDY:
            _refuse_with_greedy(bounds, average_case, top)
            front = greedy(pool, max_models, test=judge, **options)
        else:
            options |= {"grid": grid, "worst_case": bounds, "utility": utility, "threads": threads}
            limits = amounts("--average-case", average_case, None)
            more: dict[str, Any] = {
                "average_case": limits,
                "families": families,
                "progress": progress,
            }
            if method is Method.EXACT:
                more["self_cascades"] = self_cascades
                front = exact(pool, max_models, test=judge, **options, **more)
            else:
                front = guided(pool, max_models, keep=keep, test=judge, **options, **more)
    if cascade_of is not None:
        if method is Method.GREEDY:
            raise CascadeError("search: --cascade-of is exact; leave --method out")
        names = [name.strip() for name in cascade_of.split(",")]
        chosen: Committee | None = as_cascade(names, pool, tolerance, **options)
    elif ensemble is not None:
        names = [name.strip() for name in ensemble.split(",")]
        chosen = as_ensemble(names, pool, confidence, combine, unit, utility)
    else:
        chosen = target_of(front, match, min_accuracy, max_cost)
    _tell(front, chosen, judge, out, as_json, list_front, match)


def _check_targets(targets: Sequence[Any], out: str | None) -> None:
    """One at most, and one if a cascade is to be written."""
    given = sum(target is not None for target in targets)
    if given > 1:
        raise CascadeError(
            "search: give one of --match, --min-accuracy, --max-cost, --cascade-of and --ensemble"
        )
    if out and not given:
        raise CascadeError(
            "search: --out needs --match, --min-accuracy, --max-cost, --cascade-of or --ensemble"
        )


def _judge(store: str, split: str | None, test: str | None, calibrated: bool) -> Pool | None:
    if test:
        return open_split(test, None, "test", calibrated)
    return usual_judge(store, split, calibrated)


def _refuse_with_greedy(
    bounds: dict[str, float], average_case: Sequence[str] | None, top: int
) -> None:
    if bounds or average_case or top != 1:
        raise CascadeError(
            "search: --method greedy knows neither bounds nor --top; use exact or guided"
        )


def _tell(
    front: Front,
    chosen: Committee | None,
    judge: Pool | None,
    out: str | None,
    as_json: bool,
    list_front: bool,
    match: str | None,
) -> None:
    from committee.evaluate import evaluate

    if out and chosen:
        chosen.cascade.save(out)
    if not as_json:
        _print(front, chosen, judge, out, list_front, match)
        return
    settings = front.settings
    choice = chosen and {
        "cascade": chosen.cascade.to_json(),
        "evaluation": chosen.evaluation.to_json(),
        "test": judge
        and evaluate(chosen.cascade, judge, settings.unit, settings.utility).to_json(),
    }
    broken = left_out(front.pool, judge)
    print_json({**front.to_json(), "chosen": choice, "broken_left_out": broken})


def _print(
    front: Front,
    chosen: Committee | None,
    judge: Pool | None,
    out: str | None,
    list_front: bool,
    match: str | None,
) -> None:
    from rich.console import Console

    from committee.compiled import PLAIN
    from committee.report import front_rows, rich_table, row_of, summary

    settings = front.settings
    seconds = sum(settings.seconds.values())
    say(
        f"{settings.cascades:,} {'self-' if settings.self_cascades else ''}cascades of "
        f"{settings.sequences:,} sequences of models, "
        f"{'all' if front.exact else 'not all'} covered{f' in {seconds:.2f} s' if seconds else ''}."
        f"\n{len(front)} {'is' if len(front) == 1 else 'are'} on the front."
    )
    if front.inexact:
        say(f"Not exact: {front.inexact}.")
    if PLAIN:
        say(f"Note: this is committee {PLAIN}.")
    # Whoever asks to match a model compares with that model, not with the most costly.
    rows = (front_rows if list_front else summary)(front, judge, match)
    if chosen:
        rows = [row for row in rows if row.cascade != chosen.cascade]
        rows.append(row_of(front, "chosen", chosen.cascade, judge, match))
    Console().print(rich_table(rows))
    for warning in front.warnings:
        say(f"Mind: {warning}.")
    say_broken(front.pool, judge)
    if judge is None:
        say("No other split evaluates them; name one with --test.")
    if chosen and out:
        say(f"Chosen: {chosen.cascade}, written to {out}")
        runnable = (
            "run {} --data PATH --out results.csv" if chosen.cascade.models else "evaluate {} STORE"
        )
        parts = front.pool.holding(chosen.cascade.models_of_stages).whole_of
        say(f"Next: committee {runnable.format(out)}{' --show-cells' if parts else ''}")
