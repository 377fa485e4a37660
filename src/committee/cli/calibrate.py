"""``committee calibrate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from committee.calibration.fitting import BY_CLASS, ruled_out_note
from committee.calibration.reliability import worse_note
from committee.cli import options as opt
from committee.cli.options import refuse
from committee.cli.output import print_json, print_table, say, say_next, say_notes
from committee.pool.pool import Pool
from committee.report.figure import check_figure_ending, write_figure
from committee.report.reliability import reliability_figure
from committee.rule.calibration import Calibration
from committee.store.calibrations import (
    KEY,
    CalibrationEffect,
    calibration_effects,
    remove_calibrations,
)
from committee.store.calibrations import calibrate as fit
from committee.store.entry import read_index
from committee.text import listed

# The usual validation and test splits.
_IN_USE = ("val", "test")


_OWN_FIGURES = (
    "the maps are smoothed, and their figures on the samples that fitted them are of the fit to "
    "all of these; only other splits tell what they are worth"
)


class _CalibrationMethod(StrEnum):
    """How a calibration is fitted."""

    TEMPERATURE = "temperature"
    PLATT = "platt"
    PER_CLASS = "per-class"
    EXPERTS = "experts"


def calibrate(
    store: opt.StoreFolder,
    split: Annotated[
        str | None,
        typer.Option(help="The split to fit on, neither val nor test; default: cal."),
    ] = None,
    method: Annotated[
        _CalibrationMethod | None,
        typer.Option(
            help="One number per model; a learned rising map; P(right) by predicted class; "
            "log P(truth) by predicted class. Default: temperature, and platt for decisions."
        ),
    ] = None,
    only: opt.Only = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw accuracy by confidence, before and after: .png or .svg."
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the calibrations from the store.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Fit a calibration of each model and keep it in the store.

    The expected calibration error, the average gap between confidence and accuracy, is printed
    before and after, on this split and on val and test if they exist. search --calibrated applies
    the calibrations.

    Example: committee calibrate predictions --split cal
    """
    root = Path(store)
    if remove:
        fitting = {"split": split, "method": method, "figure": figure}
        refuse("fitting, not with --remove", **{n: v is not None for n, v in fitting.items()})
        _remove(root, only, as_json)
        return
    if figure is not None:
        check_figure_ending(figure)
    split = split or "cal"
    replaced = _fitted_apart(root) if split in _IN_USE else {}
    calibrations = fit(store, split, method, only)
    pools = _labelled_pools(root, split, list(calibrations))
    rows = [row for pool in pools for row in calibration_effects(pool, calibrations)]
    if figure is not None:
        # The last pool is the test split if there is one; the title names it.
        write_figure(reliability_figure(pools[-1].with_calibrations(calibrations)), figure)
    replaced = {name: on for name, on in replaced.items() if name in calibrations}
    by_class = method in BY_CLASS
    notes = [] if by_class else _fit_notes(calibrations, pools[0], rows)
    notes += _used_notes(store, split, replaced, by_class)
    if as_json:
        print_json(
            {
                "calibrations": {name: each.to_json() for name, each in calibrations.items()},
                "expected_calibration_error": [vars(row) for row in rows],
                "notes": notes,
            }
        )
        return
    _print(rows, calibrations)
    say_notes(notes)
    if figure is not None:
        say(f"Written: {figure}")
    lacking = [each for each in _IN_USE if not (root / each).is_dir()]
    first = f"predict or import {' and '.join(lacking)}; then: " if lacking else ""
    say_next(f"Next: {first}committee search {store} --calibrated, and the same without")


def _remove(root: Path, only: Sequence[str] | None, as_json: bool) -> None:
    names = list(only or read_index(root / "store.json")["models"])
    remove_calibrations(root, names)
    if as_json:
        print_json({"removed": names})
    else:
        say(f"Removed the calibrations of {', '.join(names)}")


def _fitted_apart(root: Path) -> dict[str, str]:
    """Map each model to the split of its calibration, unless that is val or test."""
    if not (root / "store.json").is_file():
        return {}
    known = {n: each.get(KEY) for n, each in read_index(root / "store.json")["models"].items()}
    on = {n: str(each.get("split", "")) for n, each in known.items() if isinstance(each, dict)}
    return {name: split for name, split in on.items() if split and split not in _IN_USE}


def _fit_notes(
    calibrations: Mapping[str, Calibration], pool: Pool, rows: Sequence[CalibrationEffect]
) -> list[str]:
    ruled_out = (ruled_out_note(n, pool.model(n), pool.samples.labels) for n in calibrations)
    fitted = pool.samples.split
    worse = (
        worse_note(r.model, r.before, r.after, r.split, r.samples, r.split == fitted) for r in rows
    )
    return [note for note in (*ruled_out, *worse) if note]


def _used_notes(store: str, split: str, replaced: Mapping[str, str], by_class: bool) -> list[str]:
    """Return notes on a fit on val or test, and on the calibrations that it replaces."""
    if split not in _IN_USE:
        return [_OWN_FIGURES] if by_class else []
    use = "chooses" if split == "val" else "evaluates, and search will refuse to evaluate on it"
    notes = [f"{split} usually {use}. Fit on a split of its own."]
    if by_class and split == "val":
        notes = ["val usually chooses: search calibrates each of its samples by a fit to others."]
    if by_class:
        notes.append(_OWN_FIGURES)
    if replaced:
        on = sorted(set(replaced.values()))
        again = " or ".join(f"committee calibrate {store} --split {each}" for each in on)
        notes.append(
            f"this replaces calibrations of {listed(replaced)} that were fitted on {listed(on)}, a "
            f"split of its own; fit them again: {again}"
        )
    return notes


def _labelled_pools(root: Path, split: str, names: list[str]) -> list[Pool]:
    """Return the labelled pools among the split of the fit, val and test."""
    others = [each for each in _IN_USE if each != split and (root / each).is_dir()]
    pools = [Pool.load(root / each, names) for each in (split, *others)]
    return [pool for pool in pools if pool.samples.labels is not None]


def _print(rows: Sequence[CalibrationEffect], calibrations: Mapping[str, Calibration]) -> None:
    splits = {row.split: row.samples for row in rows}
    errors = {(row.model, row.split): _error(row) for row in rows}
    fitted = next(iter(splits))
    print_table(
        calibrations.items(),
        [
            ("model", lambda each: each[0]),
            ("calibration", lambda each: each[1].text),
            *(
                (
                    f"{split}\n{'fitted on, ' * (split == fitted)}{samples:,} samples",
                    lambda each, split=split: errors[each[0], split],
                )
                for split, samples in splits.items()
            ),
        ],
        "Expected calibration error, before → after, 15 bins",
    )


def _error(row: CalibrationEffect) -> str:
    before = "-" if row.before is None else f"{row.before:.2%}"
    return f"{before} → {row.after:.2%}"
