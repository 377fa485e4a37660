"""Sections of the page beside the front: sentences, tables that sort, a figure."""

from __future__ import annotations

from dataclasses import dataclass

from committee.report.table import Table


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading of its own.

    Args:
        name: Letters, digits, ``-`` and ``_``; the address of the section within the page.
        title: Its heading.
        source: What it repeats, such as a section and a figure of a paper; may be empty.
        sentences: What it says.
        tables: Its figures.
        svg: A figure from :func:`committee.report.figure.figure_svg`, which is trusted; or empty.
        left_out: Why there is nothing to show; empty if there is.
    """

    name: str
    title: str
    source: str = ""
    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    svg: str = ""
    left_out: str = ""
