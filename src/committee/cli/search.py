"""``committee search``."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from committee.cli import segmentation as tiles
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
    Within,
    amounts,
    confidence_for,
    counted,
    judged_by,
    left_out,
    open_split,
    print_json,
    refuse,
    say,
    say_broken,
    say_rows,
    say_share,
    say_wrapped,
    search_progress,
    target_of,
    usual_judge,
)
from committee.compiled import PLAIN
from committee.errors import CascadeError
from committee.pool.evaluate import evaluate
from committee.pool.metrics import TOP_1
from committee.pool.pool import Pool
from committee.report.rows import CHOSEN, choice_of, front_rows, row_of, summary
from committee.report.text import points, saving
from committee.selection.exhaustive import search as exact
from committee.selection.fixed_models import as_cascade, as_ensemble
from committee.selection.front import Committee, Front, check_within
from committee.selection.greedy import greedy
from committee.selection.guided import guided
from committee.selection.notes import notes_of
from committee.selection.targets import Target


class Method(StrEnum):
    """How the committees are found."""

    EXACT = "exact"
    GUIDED = "guided"
    GREEDY = "greedy"


def search(
    store: Annotated[str, typer.Argument(help="Predictions: STORE, or STORE/SPLIT.")],
    match: Match = None,
    within: Within = None,
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
    tolerance: Annotated[float | None, typer.Option(hidden=True)] = None,
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
    confidence: ConfidenceName = None,
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
        int | None,
        typer.Option(help="With --method guided: models kept for committees of 3 or more; 20."),
    ] = None,
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
            "--tiles",
            metavar="full|SIDE+CONTEXT",
            help="Segmentation: only tiles of this size. Repeatable.",
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
    """Find the Pareto front of accuracy and cost, and choose a committee by a target.

    --match, --min-accuracy and --max-cost must all be met; --cascade-of and --ensemble stand alone.
    A promise to match is kept or missed where the 95 % interval of the difference on the split that
    evaluates lies within or beyond --within; open where these samples are too few to tell.

    All members of the front are in --front, in --json and in what committee report writes.

    Example: committee search predictions --match large --within 0.005 --out c.json
    """
    target = target_of(match, within if cascade_of is None else None, min_accuracy, max_cost)
    asked = [match, min_accuracy, max_cost]
    _check_targets([*asked, cascade_of, ensemble], out)
    if tolerance is not None and cascade_of is None:
        raise CascadeError("--tolerance goes with --cascade-of; beside --match it is --within")
    refuse("--method guided", keep=keep is not None and method is not Method.GUIDED)
    refuse("text, for --json has every member", front=list_front and as_json)
    if self_cascades and (method is not Method.EXACT or cascade_of is not None):
        raise CascadeError("search: --self-cascades is exact; leave --method and --cascade-of out")
    if cascade_of is not None:
        if method is Method.GREEDY:
            raise CascadeError("search: --cascade-of is exact; leave --method out")
        refuse("searches of all models, not with --cascade-of", average_case=bool(average_case))
    refuse("searches of all cascades", no_families=self_cascades and not families)
    pool = open_split(store, split, "val", calibrated, sizes)
    if pool.kind == "counts":
        tiles.refuse(
            self_cascades=self_cascades,
            top=top != 1,
            agree_with=agree_with is not None,
            method=method is not Method.EXACT,
            confidence=confidence is not None,
        )
    confidence = confidence_for(pool, confidence)
    judge = _judge(store, split, test, calibrated)
    pool, metric = judged_by(pool, top, agree_with)
    if judge is not None:
        judge, _ = judged_by(judge, top, agree_with)
    unit = pool.costs.unit(unit)
    bounds = amounts("--worst-case", worst_case, unit)
    options: dict[str, Any] = {
        "confidence": confidence,
        "combine": combine,
        "unit": unit,
        "grid": grid,
        "threads": threads,
    }
    with search_progress(not as_json) as progress:
        front = _search(
            pool,
            method,
            max_models,
            options | {"test": judge},
            {
                "worst_case": bounds,
                "average_case": amounts("--average-case", average_case, None),
                "metric": metric,
                "families": families,
            },
            {"self_cascades": self_cascades} if method is Method.EXACT else {"keep": keep or 20},
            progress,
        )
    options |= {"worst_case": bounds, "metric": metric}
    if cascade_of is not None:
        margin = within if tolerance is None else tolerance
        chosen: Committee | None = _cascade_of(cascade_of, pool, margin or 0.0, options)
    elif ensemble is not None:
        names = [name.strip() for name in ensemble.split(",")]
        chosen = as_ensemble(names, pool, confidence, combine, unit, metric)
    else:
        chosen = target.of(front)
    _tell(front, chosen, judge, out, as_json, list_front, target, store)


def _search(
    pool: Pool,
    method: Method,
    max_models: int | None,
    options: dict[str, Any],
    more: dict[str, Any],
    own: dict[str, Any],
    progress: Callable[[str, int, int], None] | None,
) -> Front:
    """Search by a method; ``more`` is what greedy does not know, ``own`` what one alone knows."""
    if method is Method.GREEDY:
        given = more["worst_case"] or more["average_case"] or more["metric"] is not TOP_1
        if given or not more["families"]:
            raise CascadeError(
                "search: --method greedy knows neither bounds nor --top nor --no-families; use "
                "exact or guided"
            )
        return greedy(pool, max_models, **options)
    find = exact if method is Method.EXACT else guided
    return find(pool, max_models, progress=progress, **options, **more, **own)


def _cascade_of(names: str, pool: Pool, within: float, options: dict[str, Any]) -> Committee:

    check_within(within, "--within")
    return as_cascade([name.strip() for name in names.split(",")], pool, within, **options)


def _check_targets(targets: Sequence[Any], out: str | None) -> None:
    """One cascade or ensemble at most, without other targets, and one if a cascade is written."""
    given = [target is not None for target in targets]
    if sum(given[3:]) > 1 or (any(given[3:]) and any(given[:3])):
        raise CascadeError(
            "search: --cascade-of and --ensemble stand alone; give one of them, or some of "
            "--match, --min-accuracy and --max-cost"
        )
    if out and not any(given):
        raise CascadeError(
            "search: --out needs --match, --min-accuracy, --max-cost, --cascade-of or --ensemble"
        )


def _judge(store: str, split: str | None, test: str | None, calibrated: bool) -> Pool | None:
    if test:
        return open_split(test, None, "test", calibrated)
    return usual_judge(store, split, calibrated)


def _tell(
    front: Front,
    chosen: Committee | None,
    judge: Pool | None,
    out: str | None,
    as_json: bool,
    list_front: bool,
    target: Target,
    store: str,
) -> None:

    if out and chosen:
        chosen.cascade.save(out)
    # Whoever asks to match a model compares with that model, not with the most accurate.
    match = target.match
    if chosen is None:
        row = choice_of(summary(front, judge, match))
    else:
        row = row_of(front, CHOSEN, chosen.cascade, judge, match)
    versus = None if row is None else row.versus
    promises = () if row is None else row.promises
    notes = notes_of(front, versus, promises)
    if not as_json:
        _print(front, chosen, judge, list_front, target, notes)
        if chosen:
            _say_chosen(front, chosen, out, target, store)
        return
    settings = front.settings
    choice = chosen and {
        "cascade": chosen.cascade.to_json(),
        "evaluation": chosen.evaluation.to_json(),
        "test": judge and evaluate(chosen.cascade, judge, settings.unit, settings.metric).to_json(),
        "versus": versus and versus.to_json(),
        "promises": [each.to_json() for each in promises],
    }
    broken = left_out(front.pool, judge)
    told = {**front.to_json(), "warnings": list(notes)}
    print_json({**told, "chosen": choice, "broken_left_out": broken})


def _print(
    front: Front,
    chosen: Committee | None,
    judge: Pool | None,
    list_front: bool,
    target: Target,
    notes: Sequence[str],
) -> None:

    settings = front.settings
    seconds = sum(settings.seconds.values())
    what = "self-cascade" if settings.self_cascades else "cascade"
    say(
        f"{counted(settings.cascades, what)} of "
        f"{counted(settings.sequences, 'sequence')} of models, "
        f"{'all' if front.exact else 'not all'} covered{f' in {seconds:.2f} s' if seconds else ''}."
    )
    say(f"{len(front)} {'is' if len(front) == 1 else 'are'} on the front.")
    if front.inexact:
        say(f"Not exact: {front.inexact}.")
    if PLAIN:
        say(f"Note: this is committee {PLAIN}.")
    rows = (front_rows if list_front else summary)(front, judge, target.match)
    if chosen:
        rows.append(row_of(front, CHOSEN, chosen.cascade, judge, target.match))
    say_rows(rows, notes)
    say_broken(front.pool, judge)
    if judge is None:
        say("No other split evaluates them; name one with --test.")


def _say_chosen(
    front: Front, chosen: Committee, out: str | None, target: Target, store: str
) -> None:
    """What a share of a cost was of, what is cheaper than a model that is its own match, where."""
    say_share(front, target)
    if target.match is not None and chosen.cascade.names == front.alone(target.match).names:
        cheaper = next_cheaper_told(front, chosen)
        say_wrapped(f"{target.match} is its own cheapest match{cheaper}.")
    if not out:
        return
    say_wrapped(f"Chosen: {chosen.cascade}, written to {out}")
    words = ["evaluate", out, store]
    if chosen.cascade.models:
        words = ["run", out, "--data", "PATH", "--out", "results.csv"]
    if front.pool.holding(chosen.cascade.models_of_stages).whole_of:
        words.append("--show-tiles")
    say(f"Next: committee {shlex.join(words)}")


def next_cheaper_told(front: Front, chosen: Committee) -> str:
    """The next cheaper member of the front, with what it loses and saves; empty if none is."""
    near = front.next_cheaper(chosen)
    if near is None:
        return ""
    own, other = chosen.evaluation, near.evaluation
    ratio = own.average_cost / other.average_cost if other.average_cost else None
    loss = own.accuracy - other.accuracy
    return (
        f"; the next cheaper is {near.cascade}, {points(-loss)} points on {own.split}, "
        f"{saving(ratio)} (--within {math.ceil(loss * 1e4) / 1e4:g})"
    )
