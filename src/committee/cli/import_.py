"""``committee import``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from committee.cli import options as opt
from committee.cli.options import amount, refuse
from committee.cli.output import print_json, say, say_next, say_notes
from committee.cli.stores import next_step
from committee.errors import CostError, DataError, ShapeError, require
from committee.names import read_class_names
from committee.store.import_predictions import import_predictions
from committee.store.published_costs import read_costs
from committee.text import counted


def import_(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]FILE...",
            help="Outputs of each model: npy, npz, safetensors, csv, jsonl or parquet; or a table "
            "whose column 'model' names the model of each row. "
            "The model is called NAME, by default like the file. That of --labels is no model.",
        ),
    ],
    kind: Annotated[
        str,
        typer.Option(
            metavar="logits|probabilities|decisions|outcomes", help="What the outputs are."
        ),
    ],
    split: opt.SplitName,
    out: opt.NewStore = "predictions",
    labels: Annotated[
        Path | None,
        typer.Option(help="Labels: npy, or the column 'label' of a table, which may have ids."),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="A text file of class names, one per line.")
    ] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=NUMBER", help="Cost of one sample in a model. Repeatable."),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            help="Unit of costs that name none; default: macs, but outcomes have no default."
        ),
    ] = None,
    costs: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE.csv",
            help="Costs in several units: columns model and one a unit, as committee costs takes.",
        ),
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FAMILY",
            help="The architecture of a model that was trained several times. Repeatable.",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=COLUMN,...",
            help="What a column is: class=prediction,confidence=score. Roles: model, id, label, "
            "class, value, confidence, cost, outputs, ignore. Repeatable.",
        ),
    ] = None,
    normalise: Annotated[
        bool,
        typer.Option(
            "--normalise",
            help="Divide each row of probabilities by its sum, for percentages or rounded values.",
        ),
    ] = False,
    bounds: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH",
            help="The least and the largest value of outcomes. Without it each is 1 or 0.",
        ),
    ] = None,
    missing: Annotated[
        str,
        typer.Option(
            metavar="refuse|wrong|pass",
            help="What an outcome means that a model did not give. pass: a cascade goes on to the "
            "next model; wrong: a surest answer of the least value.",
        ),
    ] = "refuse",
    fraction: opt.Fraction = None,
    seed: opt.Seed = None,
    as_json: opt.AsJson = False,
) -> None:
    """Import outputs that were computed elsewhere; no model is needed.

    --fraction 0.5 takes half of every class, and with --split test the other half.
    The same call with another --unit adds costs. Without labels, search can maximise the agreement
    with a model: --agree-with.

    Every column of a csv or parquet file, and every array of an npz or safetensors file, is one of:
    id; label; class and confidence of decisions; value and confidence of outcomes; cost (dollars,
    latency_ms, ...), whose mean is the model's; outputs, as one column per class or as lists.
    Other columns are refused by name. Columns that carry class names are matched by name, samples
    that have ids by id. A cost that differs from row to row is kept for each sample.

    A table with a column model, such as a log of calls, has a row for each sample and model, in any
    order, and a column of ids, which says what rows are of one sample.

    Example: committee import a.npy b.npy --kind logits --split val --labels labels.npy
    --cost a=41e6 --cost b=126e6
    """
    refuse("--fraction", seed=seed is not None and fraction is None)
    files = [file for file in files if labels is None or Path(file) != labels]
    named = dict(_named(file) for file in files)
    if len(named) < len(files):
        raise DataError("import: two files have the same model name; write NAME=FILE")
    # Extras are named after the file endings that need them.
    require("import", *(each.suffix.lower()[1:] for each in (*named.values(), labels) if each))
    notes: list[str] = []
    pool = import_predictions(
        named,
        out,
        kind=kind,
        split=split,
        labels=labels,
        classes=() if classes is None else read_class_names("--classes", classes),
        costs=dict(_cost(each) for each in cost or []),
        unit=unit,
        listed_costs=() if costs is None else read_costs(costs),
        families=dict(_family(each) for each in family or []),
        columns=_columns(columns or []),
        normalise=normalise,
        missing=missing,
        bounds=None if bounds is None else _bounds(bounds),
        fraction=fraction,
        seed=seed or 0,
        note=notes.append,
    )
    folder = Path(out) / split
    if as_json:
        result = {"split": str(folder), "models": pool.names, "samples": len(pool)}
        print_json({**result, "notes": notes})
        return
    say_notes(notes)
    models, rule = counted(len(pool.names), "model"), pool.samples.rule
    text = f"{models} x {counted(len(pool), 'sample')} are in {folder}"
    say(f"{text} ({rule})" if rule else text)
    say_next(next_step(out, split))


def _named(argument: str) -> tuple[str, Path]:
    name, equals, file = argument.rpartition("=")
    return (name, Path(file)) if equals else (Path(argument).stem, Path(argument))


def _cost(argument: str) -> tuple[str, float]:
    name, _, number = argument.rpartition("=")
    try:
        return name, amount("--cost", number)
    except CostError:
        raise CostError(f"--cost {argument}: write NAME=NUMBER, for example small=41M") from None


def _family(argument: str) -> tuple[str, str]:
    name, equals, family = argument.partition("=")
    if not equals:
        raise DataError(f"--family {argument}: write NAME=FAMILY, for example b0-1=b0")
    return name, family


def _bounds(argument: str) -> tuple[float, float]:
    try:
        low, high = map(float, argument.split(","))
    except ValueError:
        raise ShapeError(f"--bounds {argument}: write LOW,HIGH, for example 0,10") from None
    return low, high


def _columns(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Return names of columns by role; a part without ``=`` continues the name before it."""
    parts: list[str] = []
    for argument in arguments:
        for number, part in enumerate(argument.split(",")):
            if "=" in part:
                parts.append(part)
            elif number:
                parts[-1] += f",{part}"
            else:
                raise DataError(f"--columns {argument}: write ROLE=COLUMN, as in label=truth")
    roles: dict[str, list[str]] = {}
    for part in parts:
        role, _, name = part.partition("=")
        roles.setdefault(role.strip(), []).append(name)
    return roles
