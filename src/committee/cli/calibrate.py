"""``committee calibrate``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from committee.calibration.fitting import ruled_out_note
from committee.calibration.reliability import worse_note
from committee.cli.common import AsJson, print_json, refuse, say, show
from committee.pool.pool import Pool
from committee.report.reliability import check_figure_ending, reliability_figure, write_figure
from committee.rule.calibration import Calibration
from committee.store.calibrate import Judged, judge
from committee.store.calibrate import calibrate as fitted
from committee.store.calibrations import KEY, models_of, remove_calibrations
from committee.store.entry import read_index
from committee.text import listed

# Splits that choose and that evaluate.
_IN_USE = ("val", "test")


class CalibrationMethod(StrEnum):
    """How a calibration is fitted."""

    TEMPERATURE = "temperature"
    PLATT = "platt"


def calibrate(
    store: Annotated[str, typer.Argument(help="Predictions: the folder of the store.")],
    split: Annotated[
        str | None,
        typer.Option(help="The split to fit on, neither val nor test; cal if left out."),
    ] = None,
    method: Annotated[
        CalibrationMethod | None,
        typer.Option(help="One number a model, or a learned rising map: that of decisions."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="Only this model. Repeatable.")
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw accuracy by confidence, before and after: .png or .svg."
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Forget the calibrations that the store has.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fit a calibration of each model and keep it in the store.

    What confidence says and how often it is right then differ by the expected calibration error,
    which is printed before and after, on this split and on val and test if they are there.

    Example: committee calibrate predictions --split cal
    """
    if remove:
        given = {"split": split, "method": method, "figure": figure}
        refuse("fitting, not with --remove", **{n: v is not None for n, v in given.items()})
        names = only or models_of(Path(store))
        remove_calibrations(Path(store), names)
        if as_json:
            print_json({"removed": names})
        else:
            say(f"No calibration any more of {', '.join(names)}")
        return
    if figure is not None:
        check_figure_ending(figure)
    split = split or "cal"
    replaced = _fitted_apart(Path(store)) if split in _IN_USE else {}
    calibrations = fitted(store, split, method, only)
    pools = _pools(store, split, list(calibrations))
    rows = [row for pool in pools for row in judge(pool, calibrations)]
    if figure is not None:
        _draw(figure, pools, calibrations)
    left_out = (
        ruled_out_note(name, pools[0].model(name), pools[0].samples.labels) for name in calibrations
    )
    told_worse = (
        worse_note(r.model, r.before, r.after, r.split, r.samples, r.split == split) for r in rows
    )
    replaced = {name: on for name, on in replaced.items() if name in calibrations}
    notes = [*filter(None, (*left_out, *told_worse)), *_used_notes(store, split, replaced)]
    if as_json:
        told = {name: each.to_json() for name, each in calibrations.items()}
        errors = [vars(row) for row in rows]
        print_json({"calibrations": told, "expected_calibration_error": errors, "notes": notes})
        return
    _print(rows, calibrations)
    for line in notes:
        say(f"Note: {line}")
    if figure is not None:
        say(f"Written: {figure}")
    say(f"Next: committee search {store} --calibrated, beside the same without")


def _fitted_apart(root: Path) -> dict[str, str]:
    """By model on which split its calibration is fitted, if that neither chooses nor evaluates."""
    if not (root / "store.json").is_file():
        return {}
    known = {n: each.get(KEY) for n, each in read_index(root / "store.json")["models"].items()}
    on = {n: str(each.get("split", "")) for n, each in known.items() if isinstance(each, dict)}
    return {name: split for name, split in on.items() if split and split not in _IN_USE}


def _used_notes(store: str, split: str, replaced: Mapping[str, str]) -> list[str]:
    """What to know of a fit on a split that chooses or evaluates, and of fits that it replaces."""
    if split not in _IN_USE:
        return []
    use = "chooses" if split == "val" else "judges, and search will refuse it as a judge"
    notes = [f"{split} usually {use}. Fit on a split of its own."]
    if replaced:
        on = sorted(set(replaced.values()))
        again = " or ".join(f"committee calibrate {store} --split {each}" for each in on)
        notes.append(
            f"this replaces calibrations of {listed(replaced)} that were fitted on {listed(on)}, a "
            f"split of its own; fit them again: {again}"
        )
    return notes


def _pools(store: str, split: str, names: list[str]) -> list[Pool]:
    """The fitting split, then those that choose and judge, if they have labels."""
    others = [each for each in ("val", "test") if each != split]
    there = [each for each in others if (Path(store) / each).is_dir()]
    pools = [Pool.load(Path(store) / each, names) for each in (split, *there)]
    return [pool for pool in pools if pool.samples.labels is not None]


def _draw(figure: Path, pools: list[Pool], calibrations: dict[str, Calibration]) -> None:

    # The last is the one that judges, or else the fitting one; the title says which.
    write_figure(reliability_figure(pools[-1].with_calibrations(calibrations)), figure)


def _print(rows: list[Judged], calibrations: dict[str, Calibration]) -> None:

    splits = {row.split: row.samples for row in rows}
    table = Table(title="Expected calibration error, before → after, 15 bins", title_justify="left")
    table.add_column("model", overflow="fold")
    table.add_column("calibration")
    fitted = next(iter(splits))
    for split, samples in splits.items():
        what = "fitted on, " if split == fitted else ""
        table.add_column(f"{split}\n{what}{samples:,} samples", justify="right")
    for name, calibration in calibrations.items():
        own = [row for row in rows if row.model == name]
        table.add_row(name, calibration.text, *map(_errors, own))
    show(table)


def _errors(row: Judged) -> str:
    before = "-" if row.before is None else f"{row.before:.2%}"
    return f"{before} → {row.after:.2%}"
