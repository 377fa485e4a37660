"""What a study is made of: estimates, tables, findings and analyses. Frozen data only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from committee.errors import ShapeError
from committee.selection.paired import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from committee.study.context import Study

# How a column's cells are written for people: a text, a whole number, a share of 1 in percent, a
# difference of shares in percentage points, a cost with its unit, a ratio, any other number.
Written = Literal["text", "count", "share", "points", "cost", "ratio", "number"]

Data = TypeVar("Data")


Cell = str | int | float | Estimate | None


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: Heading, and the name in files for programs; different within a table.
        written: How its cells are written for people; raw figures are in every file for programs.
        unit: Of a cost, its unit.
    """

    name: str
    written: Written = "text"
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """Figures in full; rounding and units are a matter of who writes them.

    Args:
        title: Stands above.
        columns: One or more.
        rows: One cell a column; None where there is nothing to say.
        note: What must be known to read it; may be empty.
        name: Tells the tables of one analysis apart in names of files; empty if it has one only.

    Raises:
        ShapeError: If a row has more or fewer cells than there are columns, or two columns have
            one name.

    >>> Table("Models", (Column("model"), Column("accuracy", "share")), (("a", 0.9),)).rows
    (('a', 0.9),)
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if len({column.name for column in self.columns}) < len(self.columns):
            raise ShapeError(f"table {self.title!r}: two columns have one name")
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ShapeError(
                    f"table {self.title!r}: row {number} has {len(row)} cells for "
                    f"{len(self.columns)} columns"
                )


@dataclass(frozen=True)
class About:
    """What an analysis is called and where it comes from.

    Args:
        name: Of its files and of ``--only``: that of its module.
        title: What it shows, for people.
        source: Section, figures and tables of Wang et al. (2022) that it repeats.
    """

    name: str
    title: str
    source: str


@dataclass(frozen=True)
class Finding(Generic[Data]):
    """What an analysis found in one pool.

    Args:
        about: Which analysis.
        tables: Its figures.
        sentences: What they say, in short sentences with numbers.
        data: What the figure is drawn from; None if there is none.
        left_out: Why this pool cannot support the analysis; empty if it can. Then there is nothing
            else.
    """

    about: About
    tables: tuple[Table, ...] = ()
    sentences: tuple[str, ...] = ()
    data: Data | None = None
    left_out: str = ""

    @property
    def name(self) -> str:
        """Name of the analysis."""
        return self.about.name


@dataclass(frozen=True)
class Analysis(Generic[Data]):
    """One analysis of the paper, for any pool.

    Args:
        about: What it is called.
        analyse: From a study to what it shows. Raises :class:`committee.errors.Unsupported` if the
            pool cannot support it.
        draw: From the finding's data to its figure; None if it has no figure.
    """

    about: About
    analyse: Callable[[Study], Finding[Data]]
    draw: Callable[[Data], Figure] | None = None


AnyFinding = Finding[Any]
AnyAnalysis = Analysis[Any]
