"""Costs that stand in a table: one of the user's own, or a result file of timm's benchmark.

A table has a row for each model: its name in the column ``model``, maybe the side of its images in
``image_size``, and a column for each unit, whose heading may end in conditions:
``gpu_ms (RTX 4090, mixed precision)``. timm publishes its files in ``results/``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from committee.errors import CostError
from committee.spec.cost import MEAN, Cost
from committee.spec.model import KnownModel, ModelSpec
from committee.store.tables import Table, read_table
from committee.text import listed, printable

TIMM = "timm-bench:"
_MODEL = "model"
_SIZES = ("image_size", "infer_img_size")
# Numbers beyond this are no costs, nor are they when they are divided or multiplied.
_LARGEST = 1e100
_RATE, _GMACS, _BATCH = "infer_samples_per_sec", "infer_gmacs", "infer_batch_size"


@dataclass(frozen=True)
class TableRow:
    """What a table says of one model; ``size`` is the side of its images, None if it is not said.

    ``counted`` costs are less exact than those that the store may have counted itself.
    """

    name: str
    size: int | None
    costs: tuple[Cost, ...]
    counted: tuple[Cost, ...] = ()

    @property
    def text(self) -> str:
        """The name with the size, as ``--as`` takes it."""
        return self.name if self.size is None else f"{self.name}@{self.size}"


def read_costs(source: str, unit: str = "ms_per_sample") -> list[TableRow]:
    """Return the rows of a table of costs.

    Args:
        source: A csv or parquet file, or ``timm-bench:FILE.csv``.
        unit: Unit of timm's milliseconds, to keep those of several machines apart.
    """
    table = read_table(Path(source.removeprefix(TIMM)))
    own = source.startswith(TIMM)
    if not own and _RATE in table.columns:
        raise CostError(
            f"{table.path}: is a result file of timm's benchmark; name it {TIMM}{source}"
        )
    for name in (_MODEL, *((_RATE,) if own else ())):
        if name not in table.columns:
            raise CostError(f"{table.path}: no column {name!r}; it has {listed(table.columns)}")
    names = [str(name).strip() for name in table.read(_MODEL).tolist()]
    size = next((name for name in _SIZES if name in table.columns), None)
    sides = [None] * len(names) if size is None else _numbers(table, size)
    sizes = [_whole(table, size, row, side) for row, side in enumerate(sides)]
    rows = [TableRow(name, side, ()) for name, side in zip(names, sizes, strict=True)]
    return _timm_rows(table, rows, unit) if own else _own_rows(table, rows, size)


def _own_rows(table: Table, rows: Sequence[TableRow], size: str | None) -> list[TableRow]:
    columns = {}
    for heading in table.columns:
        if heading not in (_MODEL, size):
            unit, _, conditions = heading.partition("(")
            columns[heading] = unit.strip(), conditions.strip().removesuffix(")")
    _check_units(table, columns)
    numbers = {heading: _numbers(table, heading) for heading in columns}
    return [
        replace(
            row,
            costs=tuple(
                Cost(value, unit, conditions=conditions)
                for heading, (unit, conditions) in columns.items()
                if (value := numbers[heading][i]) is not None
            ),
        )
        for i, row in enumerate(rows)
    ]


def _check_units(table: Table, columns: Mapping[str, tuple[str, str]]) -> None:
    """Refuse two columns in one unit, of which a model could keep one only, and reserved words."""
    of_unit: dict[str, str] = {}
    for heading, (unit, conditions) in columns.items():
        if unit in of_unit:
            raise CostError(
                f"{table.path}: columns {listed([of_unit[unit], heading])} are both in {unit!r}. "
                "Give each its own unit, such as a name for each machine"
            )
        if conditions == MEAN:
            raise CostError(
                f"{table.path}: column {printable(heading)!r}: {MEAN!r} stands for costs of each "
                "sample, which an import brings. Name other conditions"
            )
        of_unit[unit] = heading


def _timm_rows(table: Table, rows: Sequence[TableRow], unit: str) -> list[TableRow]:
    """Return rows with milliseconds under the conditions that the file's name says."""
    if unit == "macs":
        raise CostError(f"{table.path}: milliseconds cannot be in macs. Name another --unit")
    lacking: list[float | None] = [None] * len(rows)
    rates = _numbers(table, _RATE)
    gmacs, batches = (
        _numbers(table, name) if name in table.columns else lacking for name in (_GMACS, _BATCH)
    )
    where = f"timm {table.path.stem}"
    found = []
    for row, rate, gmac, batch in zip(rows, rates, gmacs, batches, strict=True):
        if rate is not None and rate < 1 / _LARGEST:
            raise CostError(f"{table.path}: {row.text}: {_RATE} is {rate:g}; remove the row")
        size = "" if row.size is None else f"{row.size} x {row.size}"
        detail = ", ".join(filter(None, [size, f"batch {batch:g}" if batch else ""]))
        times = () if rate is None else (Cost(1000 / rate, unit, "measured", where, detail),)
        # Two digits are published: more would be noise of the multiplication.
        macs = () if gmac is None else (Cost(round(gmac * 1e9), "macs", "counted", where, size),)
        found.append(replace(row, costs=times, counted=macs))
    return found


def _numbers(table: Table, name: str) -> list[float | None]:
    """Return a column as numbers from 0; None where a cell is empty."""
    numbers: list[float | None] = []
    for row, value in enumerate(table.read(name).tolist()):
        text = "" if value is None else str(value).strip()
        try:
            number = float(text) if text else None
        except ValueError:
            number = -1.0
        if number is not None and not 0 <= number <= _LARGEST:
            raise CostError(
                f"{table.path}: {table.place(row)}: {name!r} is {printable(text)[:40]!r}; it must "
                f"be a number from 0. Columns are {_MODEL}, {_SIZES[0]} and units; remove others"
            )
        numbers.append(number)
    return numbers


def _whole(table: Table, name: str | None, row: int, side: float | None) -> int | None:
    if side is not None and side != int(side):
        raise CostError(f"{table.path}: {table.place(row)}: {name!r} is {side:g}, no whole number")
    return None if side is None else int(side)


def matched_costs(
    rows: Sequence[TableRow], models: Iterable[KnownModel], names: Mapping[str, str]
) -> tuple[dict[str, tuple[Cost, ...]], list[str]]:
    """Return what a table says of some models, and a note on each that it does not fit.

    A model is found by its name, the name in its source ``timm:NAME``, or either without its tag;
    a size that is known must be the same.

    Args:
        rows: The table.
        models: The models.
        names: What the table calls a model, ``NAME`` or ``NAME@SIZE``, by the model's name.
    """
    costs, trusted, missing = {}, [], []
    for model in models:
        found = _row_of(rows, model, names.get(model.name))
        if isinstance(found, str):
            missing.append(f"{model.name}: {found}")
            continue
        measured = any(cost.source == "measured" for cost in found.costs)
        if measured and found.size and _size_of(model) is None and model.name not in names:
            trusted.append(f"{model.name} at {found.size}")
        known = {cost.unit for cost in model.costs}
        counted = (cost for cost in found.counted if cost.unit not in known)
        costs[model.name] = (*found.costs, *counted)
    if not any(costs.values()):
        raise CostError(f"costs: none of the models has a cost in the table. {'; '.join(missing)}")
    notes = [f"no size of their images is known: {', '.join(trusted)} pixels"] if trusted else []
    return costs, [*notes, *missing]


def _row_of(rows: Sequence[TableRow], model: KnownModel, alias: str | None) -> TableRow | str:
    """Return the row of a model, or why there is none."""
    name, _, side = (alias or "").partition("@")
    wanted = [name] if name else _spellings(model)
    size = _size_of(model)
    if side:
        if not side.isdecimal() or (size is not None and size != (int(side), int(side))):
            return f"--as says {side} pixels, the model runs at {_sides(size)}"
        size = int(side), int(side)
    there = next(filter(None, ([r for r in rows if r.name == each] for each in wanted)), [])
    if not there:
        near = difflib.get_close_matches(wanted[0], sorted({row.name for row in rows}), 3, 0.5)
        sized = [printable(row.text) for each in near for row in rows if row.name == each]
        nearest = f"nearest: {', '.join(dict.fromkeys(sized))}" if near else "nothing is near"
        return f"no row {printable(wanted[0])!r}; {nearest}. Name it: --as {model.name}=NAME"
    fitting = [r for r in there if size is None or r.size is None or (r.size, r.size) == size]
    if len(fitting) == 1:
        return fitting[0]
    texts = ", ".join(dict.fromkeys(printable(row.text) for row in there))
    if len({row.text for row in fitting}) == 1:
        return f"the table has {texts} {len(fitting)} times; remove all rows but one"
    if not fitting:
        return f"runs at {_sides(size)} pixels, the table has {texts}"
    # Which size the model runs at only its owner knows.
    return f"the table has {texts}. Name one: --as {model.name}={printable(there[0].name)}@SIZE"


def _spellings(model: KnownModel) -> list[str]:
    names = [model.name]
    if isinstance(model, ModelSpec) and model.source.startswith("timm:"):
        names.append(model.text)
    return [*names, *(name.partition(".")[0] for name in names)]


def _size_of(model: KnownModel) -> tuple[int, int] | None:
    if not isinstance(model, ModelSpec) or model.does.records:
        return None
    return model.image.size


def _sides(size: tuple[int, int] | None) -> str:
    return "an unknown size" if size is None else " x ".join(map(str, size))
