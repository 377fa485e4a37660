"""Sections of the page beside the front: sentences, tables that sort, a figure. Frozen data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Args:
        text: What people read.
        value: What the column is sorted by; a cell without one is sorted by its text.
        small: A second line under the first, such as an interval; may be empty.
    """

    text: str
    value: float | None = None
    small: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table whose columns sort.

    Args:
        title: Stands above.
        headings: One a column.
        rows: One cell a column; the first of a row names it.
        note: What must be known to read it; may be empty.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers, which are written flush right."""
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.headings)
        return tuple(any(cell.value is not None for cell in column) for column in columns)


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading of its own.

    Args:
        name: Letters, digits, ``-`` and ``_``; the address of the section within the page.
        title: Its heading.
        source: What it repeats, such as a section and a figure of a paper; may be empty.
        sentences: What it found.
        tables: Its figures.
        svg: A figure as :func:`committee.report.figure_svg` gives it, which is trusted; or empty.
        left_out: Why there is nothing to show; empty if there is.
    """

    name: str
    title: str
    source: str = ""
    sentences: tuple[str, ...] = ()
    tables: tuple[PageTable, ...] = ()
    svg: str = ""
    left_out: str = ""
