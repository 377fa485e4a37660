"""``committee search``."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer

from committee.cli import options as opt
from committee.cli.certify import search_with_promise
from committee.cli.choice import caption_of, choice_lines, is_alternative, other_line
from committee.cli.metrics import with_metric
from committee.cli.options import (
    amounts,
    names,
    refuse,
    refuse_for_segmentation,
    target_of,
    wide_margin,
)
from committee.cli.output import (
    print_json,
    say,
    say_broken,
    say_committees,
    say_next,
    say_notes,
    say_pairs,
    say_wrapped,
    search_progress,
    show,
)
from committee.cli.stores import (
    confidence_for,
    counted_on,
    next_words,
    open_counted,
    open_split,
    open_test,
    skipped,
    unit_for,
)
from committee.errors import CascadeError
from committee.pool.evaluate import evaluate
from committee.pool.pool import Pool
from committee.pool.sharded import Runs
from committee.report.rows import CHOSEN, ENSEMBLE, SINGLE, Report, Row
from committee.report.rules import RuleChoices, choices_by_rule
from committee.report.tables import merged
from committee.selection.exhaustive import search as exact
from committee.selection.fixed_models import as_cascade, as_ensemble
from committee.selection.front import Committee, Front, check_within
from committee.selection.greedy import greedy
from committee.selection.guided import guided
from committee.selection.notes import notes_of
from committee.selection.options import OPTION_HELP
from committee.selection.targets import Target
from committee.store.shards import is_sharded
from committee.text import counted, points, saving

# Models that guided search selects by default for committees of three or more.
_KEEP = 20


class _Method(StrEnum):
    """The method of the search."""

    EXACT = "exact"
    GUIDED = "guided"
    GREEDY = "greedy"


def search(
    store: opt.Stores,
    match: opt.Match = None,
    within: opt.Within = None,
    min_accuracy: opt.MinAccuracy = None,
    max_cost: opt.MaxCost = None,
    cascade_of: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Cheapest cascade of these models that is as accurate as their ensemble, up to "
            "--within.",
        ),
    ] = None,
    ensemble: Annotated[
        str | None,
        typer.Option(metavar="A[,B,...]", help="This ensemble, or this model alone."),
    ] = None,
    worst_case: Annotated[
        list[str] | None,
        typer.Option(metavar="[UNIT=]COST", help=f"{OPTION_HELP['worst_case']} Repeatable."),
    ] = None,
    average_case: Annotated[
        list[str] | None,
        typer.Option(metavar="UNIT=COST", help=f"{OPTION_HELP['average_case']} Repeatable."),
    ] = None,
    max_models: Annotated[
        int | None,
        typer.Option(help="Most models of a committee; default: 3, guided 4, greedy all."),
    ] = None,
    confidence: opt.ConfidenceName = None,
    combine: opt.Combine = None,
    grid: opt.Grid = 100,
    families: Annotated[
        bool, typer.Option(help="Treat trainings of one architecture as interchangeable.")
    ] = True,
    self_cascades: opt.SelfCascades = False,
    calibrated: opt.Calibrated = False,
    metric: opt.MetricName = None,
    agree_with: opt.AgreeWith = None,
    promise: Annotated[
        float | None,
        typer.Option(
            metavar="LEVEL",
            help="Certify on --split, at this level such as 0.95, that new data keep the target: "
            "--match, --min-accuracy, or --agree-with, which then is the target itself, up to "
            "--within.",
        ),
    ] = None,
    method: Annotated[
        _Method, typer.Option(help="guided and greedy are for pools too large for exact.")
    ] = _Method.EXACT,
    keep: Annotated[
        int | None,
        typer.Option(
            help="With --method guided: models kept for committees of 3 or more; default: 20."
        ),
    ] = None,
    unit: opt.Unit = None,
    cost_limit: opt.CostLimit = None,
    threads: Annotated[int | None, typer.Option(help=OPTION_HELP["threads"])] = None,
    on: opt.CountOn = None,
    address: opt.Address = None,
    split: opt.ValSplit = None,
    test: Annotated[
        str | None,
        typer.Option(
            metavar="[STORE/]SPLIT", help="The split that evaluates; default: test, if it exists."
        ),
    ] = None,
    tiles: Annotated[
        list[str] | None,
        typer.Option(
            metavar="full|SIDE+CONTEXT", help="Segmentation: only tiles of this size. Repeatable."
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="CASCADE.json", help="Write the chosen cascade.")
    ] = None,
    list_front: Annotated[
        bool, typer.Option("--front", help="Print every committee on the front.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Find the Pareto front of accuracy and cost, and choose a committee by a target.

    --match, --min-accuracy and --max-cost must all be met; --cascade-of and --ensemble stand alone.
    A promise to match is kept if the 95 % interval of the difference, on the split that evaluates,
    lies within --within; missed if it lies beyond; open if these samples are too few to tell.

    --promise holds on new data: a part of the samples chooses, the others test. --match and
    --agree-with then name a model, an ensemble A,B or a cascade file, which is the choice itself
    where nothing cheaper passes; --agree-with needs no labels. See docs/promises.md.

    --front, --json and committee report show all committees on the front.

    Of a folder of stores one is in memory at a time; --on ray counts many at once. The front is the
    same.

    Example: committee search predictions --match large --within 0.005 --out c.json
    """
    if promise is not None:
        refuse(
            "searches without --promise", cascade_of=cascade_of is not None,
            ensemble=ensemble is not None, average_case=bool(average_case), grid=grid != 100,
            no_families=not families, self_cascades=self_cascades, keep=keep is not None,
            method=method is not _Method.EXACT, tiles=bool(tiles), front=list_front,
            on=on is not None, address=address is not None,
        )  # fmt: skip
        search_with_promise(
            store, split, test, out, as_json, level=promise, match=match, agree_with=agree_with,
            within=within, min_accuracy=min_accuracy, max_cost=max_cost, cost_limit=cost_limit,
            worst_case=worst_case, max_models=max_models, confidence=confidence, combine=combine,
            calibrated=calibrated, metric=metric, unit=unit, threads=threads,
        )  # fmt: skip
        return
    refuse("--promise", cost_limit=cost_limit is not None)
    _check_targets([match, min_accuracy, max_cost], [cascade_of, ensemble], out)
    target = target_of(match, None if cascade_of else within, min_accuracy, max_cost)
    _check_method(
        method, keep=keep is not None, worst_case=bool(worst_case),
        average_case=bool(average_case), metric=metric is not None, no_families=not families,
        self_cascades=self_cascades, cascade_of=cascade_of is not None,
    )  # fmt: skip
    refuse("text, because --json has every committee", front=list_front and as_json)
    with counted_on(on, address, as_json) as run:
        pool, test_pool = _pools(
            store, split, test, calibrated, tiles, run,
            agree_with=agree_with is not None, method=method is not _Method.EXACT,
        )  # fmt: skip
        if not pool.keeps_outputs:
            refuse_for_segmentation(
                self_cascades=self_cascades, metric=metric is not None,
                agree_with=agree_with is not None, method=method is not _Method.EXACT,
                confidence=confidence is not None,
            )  # fmt: skip
        pool, by = with_metric(pool, metric, agree_with)
        if test_pool is not None:
            test_pool, _ = with_metric(test_pool, metric, agree_with)
        unit = unit_for(pool, unit, as_json)
        rule: dict[str, Any] = {"combine": combine, "unit": unit}
        rule["confidence"] = confidence_for(pool, confidence)
        options = {**rule, "grid": grid, "threads": threads, "metric": by}
        options |= {"worst_case": amounts("--worst-case", worst_case, unit), "test": test_pool}
        with search_progress(not as_json) as progress:
            bounds = amounts("--average-case", average_case, None)
            own = {"families": families, "average_case": bounds, "progress": progress}
            front = _search(pool, method, max_models, options, own, self_cascades, keep)
        chosen = target.of(front)
        if cascade_of is not None:
            chosen = _cascade_of(cascade_of, pool, within or 0.0, options)
        elif ensemble is not None:
            chosen = as_ensemble(names(ensemble), pool, **rule, metric=by)
        if out and chosen:
            chosen.cascade.save(out)
        result = _Result(front, chosen, test_pool, target)
        if as_json:
            print_json(result.to_json())
        else:
            _print(result, list_front, out, store)


def _pools(
    store: str,
    split: str | None,
    test: str | None,
    calibrated: bool,
    tiles: list[str] | None,
    run: Runs[Any] | None,
    **is_given: bool,
) -> tuple[Pool, Pool | None]:
    """Return the split that chooses, and the one that evaluates or None."""
    in_shards = is_sharded(Path(store))
    if run is None and not in_shards:
        pool = open_split(store, split, "val", calibrated, tiles)
        return pool, open_test(store, split, test, calibrated)
    is_given |= {"calibrated": calibrated, "tiles": bool(tiles)}
    pool = open_counted(store, split, "val", run, **is_given, test=in_shards and test is not None)
    return pool, None if in_shards else open_test(store, split, test)


def _cascade_of(text: str, pool: Pool, within: float, options: dict[str, Any]) -> Committee:
    """Return the cheapest cascade that is as accurate as an ensemble, up to ``within``."""
    check_within(within, "--within")
    own = {name: options[name] for name in options if name != "test"}
    return as_cascade(names(text), pool, within, **own)


def _check_targets(targets: Sequence[Any], alone: Sequence[str | None], out: str | None) -> None:
    """Refuse more than one target that stands alone, and --out without any target."""
    combined = sum(each is not None for each in targets)
    single = sum(each is not None for each in alone)
    if single > 1 or (single and combined):
        raise CascadeError(
            "search: --cascade-of and --ensemble stand alone; give one of them, or some of "
            "--match, --min-accuracy and --max-cost"
        )
    if out and not combined + single:
        raise CascadeError(
            "search: --out needs --match, --min-accuracy, --max-cost, --cascade-of or --ensemble"
        )


def _check_method(method: _Method, **is_given: bool) -> None:
    """Refuse options that the method of the search lacks."""
    unknown = {
        _Method.EXACT: ("--method guided", ("keep",)),
        _Method.GUIDED: ("exact searches", ("self_cascades",)),
        _Method.GREEDY: (
            "other methods than greedy",
            (
                *("keep", "worst_case", "average_case", "metric"),
                *("no_families", "self_cascades", "cascade_of"),
            ),
        ),
    }
    why, options = unknown[method]
    refuse(why, **{name: is_given[name] for name in options})
    if is_given["cascade_of"]:
        options = ("average_case", "self_cascades")
        refuse("searches without --cascade-of", **{name: is_given[name] for name in options})
    if is_given["self_cascades"]:
        refuse("searches without --self-cascades", no_families=is_given["no_families"])


def _search(
    pool: Pool,
    method: _Method,
    max_models: int | None,
    options: dict[str, Any],
    own: dict[str, Any],
    self_cascades: bool,
    keep: int | None,
) -> Front:
    """Return the front; greedy takes neither ``own`` options nor bounds nor other metrics."""
    if method is _Method.GREEDY:
        known = {n: each for n, each in options.items() if n not in ("worst_case", "metric")}
        return greedy(pool, max_models, **known)
    if method is _Method.GUIDED:
        return guided(pool, max_models, keep=keep or _KEEP, **options, **own)
    return exact(pool, max_models, self_cascades=self_cascades, **options, **own)


@dataclass(frozen=True)
class _Result:
    """A front and the choice from it."""

    front: Front
    chosen: Committee | None
    test: Pool | None
    target: Target

    @cached_property
    def row(self) -> Row | None:
        """The choice beside its reference; without a target, the match of the reference."""
        # Compare a choice that should match a model with that model, not the most accurate.
        match = self.target.match
        report = Report(self.front, self.test, match)
        if self.chosen is None:
            return report.choice
        return report.rows_of([(CHOSEN, self.chosen.cascade)])[0]

    @cached_property
    def rules(self) -> RuleChoices | None:
        """What each rule chooses, if the search was over several."""
        return choices_by_rule(self.front, self.target, self.test)

    @property
    def notes(self) -> tuple[str, ...]:
        row = self.row
        return (
            notes_of(self.front) if row is None else notes_of(self.front, row.versus, row.promises)
        )

    def to_json(self) -> dict[str, Any]:
        settings, row, chosen = self.front.settings, self.row, None
        if self.chosen is not None and row is not None:
            cascade = self.chosen.cascade
            test = self.test and evaluate(cascade, self.test, settings.unit, settings.metric)
            chosen = {
                "cascade": cascade.to_json(),
                "evaluation": self.chosen.evaluation.to_json(),
                "test": test and test.to_json(),
                "versus": row.versus and row.versus.to_json(),
                "promises": [each.to_json() for each in row.promises],
            }
        return {
            **self.front.to_json(),
            "warnings": [*wide_margin(self.target.within), *self.notes],
            "chosen": chosen,
            **({"rules": self.rules.to_json()} if self.rules else {}),
            "broken_left_out": skipped(self.front.pool, self.test),
        }


def _print(result: _Result, list_front: bool, out: str | None, store: str) -> None:
    front, chosen = result.front, result.chosen
    if front.inexact:
        say(f"Not exact: {front.inexact}.")
    report, row = Report(front, result.test, result.target.match), result.row
    members = [*(report.members if list_front else report.rows)]
    if row is not None:
        lines = choice_lines(row)
        if chosen is None:
            lines += [other_line(each) for each in merged(members) if is_alternative(each, row)]
        say_pairs(lines)
    if chosen is not None and row is not None:
        _say_target(front, chosen, result.target)
        members = [*(each for each in members if list_front or each.role == SINGLE), row]
    members = [each for each in members if each.role != ENSEMBLE]
    caption = f"{caption_of(members)} {_searched(front, list_front)}"
    say_committees(members, row, caption, list_front)
    say_notes([*wide_margin(result.target.within), *front.warnings])
    if result.rules:
        show(result.rules.table().rich())
        say_wrapped(result.rules.line)
    say_broken(front.pool, result.test)
    _say_next(result, out, store)


def _searched(front: Front, listed: bool) -> str:
    """Return how much was searched, and how to see more of it."""
    settings = front.settings
    cascades = counted(settings.cascades, "self-cascade" if settings.self_cascades else "cascade")
    are = "is" if len(front) == 1 else "are"
    more = "; --json has all figures" if listed else " (--front)"
    return f"Of {cascades} {len(front)} {are} on the front{more}."


def _say_target(front: Front, chosen: Committee, target: Target) -> None:
    """Print the cost bound, and a cheaper near match if a model matches itself."""
    if target.share:
        say_wrapped(f"--max-cost is {target.cost_text(front)}.")
    if target.match is not None and chosen.cascade.names == front.alone(target.match).names:
        say_wrapped(f"{target.match} is its own cheapest match{_next_cheaper(front, chosen)}.")


def _say_next(result: _Result, out: str | None, store: str) -> None:
    """Print where the choice was written and what comes next."""
    front, chosen = result.front, result.chosen
    if chosen is None:
        if result.row is not None:
            save = f"--match {shlex.quote(result.row.reference)} --out cascade.json"
            say_wrapped(f"Next: add {save} to save the choice.")
        return
    if not out:
        say_wrapped("Next: add --out cascade.json to save the choice.")
        return
    say_wrapped(f"Written: {out}")
    words = next_words(chosen.cascade, out, store, front.settings.metric)
    if front.pool.holding(chosen.cascade.models_of_stages).layout.whole_of:
        words.append("--show-tiles")
    say_next(f"Next: committee {shlex.join(words)}")


def _next_cheaper(front: Front, chosen: Committee) -> str:
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
