"""Tables: a column is a name and a getter. They are printed as csv, markdown, HTML and rich."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from committee.errors import ShapeError
from committee.pool.intervals import Estimate
from committee.text import csv_text, html_table, human_cost, percent, points, times

if TYPE_CHECKING:
    from rich.table import Table as RichTable

# How people read a column: a share of 1 in percent, a difference of shares in percentage points, a
# cost with its unit, and so on. Files for programs hold every number in full.
Format = Literal["text", "count", "share", "points", "cost", "ratio", "number"]


@dataclass(frozen=True)
class Cell:
    """A cell with a text of its own.

    Args:
        text: What people read.
        value: What the column is sorted by, and what files hold; the text if left out.
        small: What stands below the text in small letters, such as an interval.
    """

    text: str
    value: float | None = None
    small: str = ""


Value = str | int | float | Estimate | Cell | None


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: The heading, unique within the table.
        get: Takes one item of the table and returns its cell; None leaves it empty.
        format: How people read its cells.
        unit: The unit of a cost.
        small: A second line of the heading.
    """

    name: str
    get: Callable[[Any], Value]
    format: Format = "text"
    unit: str = ""
    small: str = ""

    def of(self, pick: Callable[[Any], Any]) -> Column:
        """Return the same column for what ``pick`` takes from an item; empty where that is None."""

        def get(item: Any) -> Value:
            picked = pick(item)
            return None if picked is None else self.get(picked)

        return replace(self, get=get)

    def cell(self, value: Value) -> Cell:
        """Return a value as people read it.

        >>> Column("accuracy", float, "share").cell(Estimate(0.934, 0.927, 0.94, 5000))
        Cell(text='93.40 %', value=0.934, small='92.7–94.0')
        """
        if isinstance(value, Cell):
            return value
        if isinstance(value, Estimate):
            low, high = (self.cell(end).text for end in (value.low, value.high))
            small = f"{low} to {high}"
            if self.format == "share":
                small = f"{100 * value.low:.1f}–{100 * value.high:.1f}"
            return Cell(self.cell(value.value).text, value.value, small)
        if value is None or isinstance(value, str):
            return Cell(value or "–")
        write: Mapping[Format, Callable[[float], str]] = {
            "share": percent,
            "points": points,
            "cost": lambda cost: human_cost(cost, self.unit),
            "ratio": times,
            "count": "{:,}".format,
        }
        return Cell(write.get(self.format, "{:.4g}".format)(value), float(value))

    def text(self, value: Value) -> str:
        """Return a value as people read it in one line.

        >>> Column("gain", float, "points").text(Estimate(0.005, -0.001, 0.011, 5000))
        '+0.50 (−0.10 to +1.10)'
        """
        cell = self.cell(value)
        return f"{cell.text} ({cell.small})" if cell.small else cell.text


@dataclass(frozen=True)
class Table:
    """Items in rows, what is known of each in columns.

    Args:
        title: What stands above.
        columns: One or more.
        items: What the columns take their cells from.
        note: What a reader must know; may be empty.
        name: Tells the tables of one analysis apart in names of files; empty for an only one.
        marked: Returns True for an item that stands out.

    Raises:
        ShapeError: If two columns have one name.

    >>> Table("Models", (Column("model", str), Column("letters", len, "count")), ["a", "bc"]).rows
    (('a', 1), ('bc', 2))
    """

    title: str
    columns: tuple[Column, ...]
    items: Sequence[Any]
    note: str = ""
    name: str = ""
    marked: Callable[[Any], bool] = lambda item: False

    def __post_init__(self) -> None:
        if len({column.name for column in self.columns}) < len(self.columns):
            raise ShapeError(f"table {self.title!r}: two columns have one name")

    @cached_property
    def rows(self) -> tuple[tuple[Value, ...], ...]:
        """The value of every cell, in full."""
        return tuple(tuple(column.get(item) for column in self.columns) for item in self.items)

    @cached_property
    def cells(self) -> list[list[Cell]]:
        """Every cell as people read it."""
        return [[c.cell(v) for c, v in zip(self.columns, row, strict=True)] for row in self.rows]

    @cached_property
    def numeric(self) -> list[bool]:
        """True for each column that holds a number, which is written flush right."""
        held = zip(*self.cells, strict=True) if self.items else ((),) * len(self.columns)
        return [any(cell.value is not None for cell in column) for column in held]

    def csv(self) -> str:
        """Return the table for programs, every number in full.

        A column of estimates is followed by its ``low``, ``high`` and ``samples``; the heading of a
        cost names its unit.
        """
        columns = [
            fields
            for column, values in zip(self.columns, self._by_column(), strict=True)
            for fields in _csv_columns(column, values)
        ]
        return csv_text(zip(*columns, strict=True))

    def markdown(self) -> str:
        """Return the table for people, an interval behind its figure."""
        lines = [
            f"**{self.title}**",
            "",
            _markdown_line([column.name for column in self.columns]),
            _markdown_line(["---" if c.format == "text" else "---:" for c in self.columns]),
        ]
        for row in self.rows:
            cells = [c.text(value) for c, value in zip(self.columns, row, strict=True)]
            lines.append(_markdown_line(cells))
        return "\n".join([*lines, *(["", self.note] if self.note else [])]) + "\n"

    def rich(self) -> RichTable:
        """Return the table for a terminal. Names of models are never read as markup."""
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            title=self.title or None, title_justify="left",
            caption=Text(self.note), caption_justify="left",
            box=None, padding=(0, 2, 0, 0), pad_edge=False,
        )  # fmt: skip
        for column, numeric in zip(self.columns, self.numeric, strict=True):
            heading = Text("\n".join(filter(None, (column.name, column.small))))
            table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
        for row in self.cells:
            styles = ["bold", *[""] * (len(row) - 1)]
            table.add_row(*(
                Text.assemble((cell.text, style), ("\n" + cell.small if cell.small else "", "dim"))
                for cell, style in zip(row, styles, strict=True)
            ))  # fmt: skip
        return table

    def html(self) -> str:
        """Return the table for a notebook. Names of models are never read as markup."""
        headings = [column.name for column in self.columns]
        cells = [[(cell.text, cell.small) for cell in row] for row in self.cells]
        return html_table(self.title, headings, cells, self.note)

    def to_json(self) -> dict[str, Any]:
        """Return headings and every number in full."""
        return {
            "title": self.title,
            "note": self.note,
            "columns": [{"name": c.name, "format": c.format, "unit": c.unit} for c in self.columns],
            "rows": [[_plain(value) for value in row] for row in self.rows],
        }

    def _by_column(self) -> list[list[Value]]:
        return [[row[number] for row in self.rows] for number in range(len(self.columns))]


def _csv_columns(column: Column, values: Sequence[Value]) -> Iterator[list[Any]]:
    name = f"{column.name} ({column.unit})" if column.unit else column.name
    plain = [value.value if isinstance(value, Estimate) else _plain(value) for value in values]
    yield [name, *plain]
    if any(isinstance(value, Estimate) for value in values):
        for field in ("low", "high", "samples"):
            ends = [getattr(v, field) if isinstance(v, Estimate) else None for v in values]
            yield [f"{name}: {field}", *ends]


def _plain(value: Value) -> Any:
    if isinstance(value, Cell):
        return value.text if value.value is None else value.value
    return value.to_json() if isinstance(value, Estimate) else value


def _markdown_line(cells: Sequence[str]) -> str:
    escaped = (" ".join(cell.replace("|", "\\|").split()) for cell in cells)
    return f"| {' | '.join(escaped)} |"
