"""``committee costs``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from committee.cli import options as opt
from committee.cli.output import print_json, print_table, say, say_notes
from committee.errors import CostError, UnknownNameError
from committee.spec.cost import Cost
from committee.spec.model import KnownModel, model_from_json
from committee.store.entry import read_index
from committee.store.folder import add_costs
from committee.store.published_costs import matched_costs, read_costs
from committee.text import human_cost, listed


def costs(
    store: opt.StoreFolder,
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE.csv|timm-bench:FILE.csv",
            help="Columns model and one a unit; or a file results/benchmark-infer-*.csv of timm.",
        ),
    ],
    called: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            metavar="MODEL=NAME[@SIZE]",
            help="What the table calls a model, and at which image size. Repeatable.",
        ),
    ] = None,
    unit: Annotated[
        str, typer.Option(help="Unit of timm's milliseconds: a name for each machine.")
    ] = "ms_per_sample",
    as_json: opt.AsJson = False,
) -> None:
    """Add costs to a store: a table of your own, or benchmarks that timm publishes.

    A unit may say its conditions: the heading "gpu_ms (RTX 4090)". timm's files give multiply-adds
    too, to models that have none, and milliseconds under the conditions of the file's name. Models
    that the table lacks, or has at another image size, keep their costs and are listed.

    Example: committee costs predictions costs.csv
    """
    index = Path(store) / "store.json"
    known = {n: model_from_json(n, m, str(index)) for n, m in read_index(index)["models"].items()}
    pairs = [_called(each) for each in called or ()]
    names = dict(pairs)
    if len(names) < len(pairs):
        raise CostError("--as: two are for one model; give each model one name")
    for name in names:
        if name not in known:
            raise UnknownNameError.of("--as", "model", name, known)
    found, notes = matched_costs(read_costs(table, unit), known.values(), names)
    notes += add_costs(store, found)
    notes += _mixed(known.values(), found)
    if as_json:
        own = {name: [each.to_json() for each in some] for name, some in found.items()}
        print_json({"costs": own, "notes": notes})
        return
    units = list(dict.fromkeys(each.unit for some in found.values() for each in some))
    values = {n: {each.unit: each.value for each in some} for n, some in found.items()}

    def cell(name: str, unit: str) -> str:
        value = values[name].get(unit)
        return "" if value is None else human_cost(value, unit)

    columns = [(unit, lambda name, unit=unit: cell(name, unit)) for unit in units]
    print_table(found, [("model", lambda name: name), *columns])
    say_notes(notes)
    say(f"Costs are in {store}: committee search {store} --unit {units[0]}")


def _mixed(known: Iterable[KnownModel], found: Mapping[str, Sequence[Cost]]) -> Iterator[str]:
    """Yield a note on each unit in which other models keep the costs that they had."""
    for unit in sorted({cost.unit for own in found.values() for cost in own}):
        kept = [
            model.name
            for model in known
            if any(cost.unit == unit for cost in model.costs)
            and all(cost.unit != unit for cost in found.get(model.name, ()))
        ]
        if kept and unit != "macs":
            yield f"{unit} of {listed(kept)} is as before, maybe under other conditions"


def _called(argument: str) -> tuple[str, str]:
    name, _, other = argument.partition("=")
    if not name or not other:
        raise CostError(f"--as {argument}: write MODEL=NAME or MODEL=NAME@SIZE")
    return name, other
