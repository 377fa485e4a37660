"""``committee evaluate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from committee.cli import segmentation as tiles
from committee.cli.common import (
    AgreeWith,
    AsJson,
    Chosen,
    Top,
    Unit,
    is_store,
    judged_by,
    left_out,
    open_split,
    print_json,
    say,
    say_broken,
    say_notes,
    say_wrapped,
    show,
    store_of,
)
from committee.errors import CascadeError, MisalignedError, StoreError
from committee.pool.evaluate import Evaluation, split_notes
from committee.pool.evaluate import evaluate as judge
from committee.pool.pool import Pool
from committee.report.text import exits, interval
from committee.report.text import promised as told_promise
from committee.report.text import versus as told_versus
from committee.rule.cascade import Cascade
from committee.run.open import opened, what_is
from committee.selection.notes import few_samples, of_comparison, of_promises, target_of
from committee.selection.paired import Comparison, compare
from committee.selection.targets import Promise, promises_of
from committee.spec.task import Task
from committee.store.split import note_on_chooser, note_on_labels
from committee.text import human_cost, listed, percent


def evaluate(
    cascade: Chosen,
    store: Annotated[str, typer.Argument(help="Predictions: STORE, or STORE/SPLIT.")],
    split: Annotated[
        str | None, typer.Option(help="The split that judges; test if left out.")
    ] = None,
    unit: Unit = None,
    top: Top = 1,
    agree_with: AgreeWith = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a cascade on stored predictions, beside its models and its reference.

    Example: committee evaluate c.json predictions
    """
    if is_store(cascade):
        raise CascadeError(
            f"evaluate: {cascade} is a store; the cascade comes first: "
            "committee evaluate CASCADE STORE"
        )
    chosen = opened(cascade).cascade
    _check_there(store, split)
    pool = open_split(store, split, "test")
    if pool.kind == "counts":
        tiles.refuse(top=top != 1, agree_with=agree_with is not None)
    pool, metric = judged_by(pool, top, agree_with)
    own = pool.holding(chosen.models_of_stages)
    if what_is(cascade) == "cascade file":  # export writes other graphs of the same models
        _check_models(cascade, chosen, store, own)
    # By default in the unit that it was chosen in.
    usual = chosen.origin.get("unit")
    if unit is None and usual in own.only(chosen.names).costs.units:
        unit = str(usual)
    evaluation = judge(chosen, pool, unit, metric)
    same = chosen.origin.get("samples_fingerprint") == (own.identity(chosen.names) or None)
    about = "" if same else note_on_chooser(store_of(store), chosen.origin, pool.samples)
    chooser = [each for each in (about, note_on_labels(store_of(store), chosen.origin)) if each]
    rule = (chosen.confidence, chosen.combine)
    alone = {
        name: judge(Cascade.of([name], (), *rule, chosen.calibrations), pool, unit, metric)
        for stage in own.seeing_wholes(chosen.models_of_stages)
        for name in stage
    }
    fitted = [n for n, c in chosen.calibrations.items() if c.samples == own.identity([n]) != ""]
    target = reference_in(chosen, own)
    versus = None
    if target is not None:
        name, reference, within = target
        alone = {name: judge(reference, pool, unit, metric), **alone}
        versus = compare(
            chosen, reference, pool, unit, metric, name=name, within=within, chose=same
        )
    promises = () if same else promises_of(chosen, evaluation, pool)
    notes = [] if versus is None else of_comparison(versus, pool.task)
    notes += of_promises(promises)
    notes += [*few_samples(evaluation, pool.task, "evaluate"), *split_notes(pool)]
    if as_json:
        models = {name: each.to_json() for name, each in alone.items()}
        print_json(
            {
                **evaluation.to_json(),
                "models": models,
                "versus": versus and versus.to_json(),
                "promises": [each.to_json() for each in promises],
                "warnings": notes,
                "chosen_on_these_samples": same,
                "notes": chooser,
                "broken_left_out": left_out(pool),
            }
        )
        return
    _print({**alone, str(chosen): evaluation}, pool.task)
    _say_kept(chosen, versus, promises, evaluation.measure)
    say_notes(notes)
    say_broken(pool)
    for line in chooser:
        say(f"Note: {line}.")
    if fitted:
        say("These samples fitted calibrations of the cascade. Judge on another split.")
    if same:
        chose = f"These {pool.task.samples} chose the cascade"
        say(f"{chose}: expect less on new data. Judge on another split.")


def _check_models(path: str, chosen: Cascade, store: str, pool: Pool) -> None:
    """Refuse a store whose models are others of the same names, where both are known.

    Raises:
        MisalignedError: If one is.
    """
    for name in chosen.names:
        known, there = chosen.models.get(name, {}), pool.specs.get(name, {})
        then, now = known.get("fingerprint"), there.get("fingerprint")
        if then and now and then != now and _run_as(known) == _run_as(there):
            raise MisalignedError(
                f"evaluate: model {name!r} is another in {store} than in {path}: fingerprint "
                f"{now}, not {then}. Evaluate on a store of the cascade's models, or search again"
            )


def _run_as(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """What a fingerprint depends on beside weights and code."""
    source = str(spec.get("source", ""))
    return source.partition(":")[0], str(spec.get("engine"))


def _check_there(store: str, split: str | None) -> None:
    """Refuse a store without a test split, where no other is named."""
    root = Path(store)
    is_root = any((root / mark).is_file() for mark in ("store.json", "tiles.json"))
    if split or not is_root or (root / "test").is_dir():
        return
    known = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if known:
        raise StoreError(
            f"evaluate: {store} has no split 'test'. There are: {listed(known)}. Predict or import "
            f"a test split, or name one with --split {known[0]}; what chose the cascade flatters it"
        )


def _say_kept(
    chosen: Cascade, versus: Comparison | None, promises: Sequence[Promise], measure: str
) -> None:
    """A cascade beside what it is to match, and what became of what it was asked for."""
    if versus is not None and not versus.same:
        say_wrapped(f"{chosen} {told_versus(versus)}")
    for each in promises:
        say_wrapped(told_promise(each))
    promised = _promised(chosen, measure)
    if promised:
        say(promised)


def reference_in(chosen: Cascade, pool: Pool) -> tuple[str, Cascade, float] | None:
    """What a cascade was chosen to match, if its models are in the pool; see :func:`target_of`."""
    target = target_of(chosen)
    known = target is not None and all(name in pool.outputs for name in target[1].names)
    return target if known else None


def _promised(chosen: Cascade, measure: str) -> str:
    """What the split that chose promised, if the cascade says so, and by which other measure."""
    promised = chosen.origin.get("promised")
    known = promised if isinstance(promised, dict) else {}
    correct, samples = known.get("correct"), known.get("samples")
    if not isinstance(correct, int | float) or not isinstance(samples, int) or samples < 1:
        return ""
    then = known.get("measure", measure)
    other = "" if then == measure else f", by another measure: {then}"
    return f"It had {percent(correct / samples)} on {known.get('split')}, which chose it{other}."


def _print(evaluations: dict[str, Evaluation], task: Task) -> None:

    first = next(iter(evaluations.values()))
    title = f"On {first.split}, {first.samples:,} {task.samples}"
    table = Table(title=title, title_justify="left")
    table.add_column("committee", overflow="fold")
    table.add_column(f"{first.measure}\n95 % interval", justify="right")
    table.add_column("average cost\nworst case", justify="right")
    what = "exits" if task.unit == task.sample else f"exits of {task.units}"
    table.add_column(f"{what} by stage", justify="right", overflow="fold")
    for name, each in evaluations.items():
        average, worst = (
            human_cost(value, each.unit) for value in (each.average_cost, each.worst_case_cost)
        )
        table.add_row(
            name,
            f"{percent(each.accuracy)}\n{interval(each)}",
            f"{average}\n{worst}",
            exits(each),
        )
    show(table)
