"""Page: the front first, then every analysis, as one file that works offline."""

from __future__ import annotations

from collections.abc import Sequence

from committee.report.figure import figure_svg
from committee.report.page import page_of
from committee.report.section import Cell, PageTable, Section
from committee.selection.paired import Estimate
from committee.study import base
from committee.study.analyses import figure_of
from committee.study.base import AnyFinding, Column, Table
from committee.study.context import Study
from committee.study.text import cell_text


def study_page(
    study: Study,
    findings: Sequence[AnyFinding],
    store: str | None = None,
    split: str | None = None,
) -> str:
    """The report of a study: its front to look into, then what each analysis found.

    Args:
        study: What was asked.
        findings: What :func:`committee.study.run_study` gave.
        store: The store that the study was made from, for the commands on the page; None if there
            is none.
        split: The split of the store that chose; None for the usual one.

    Raises:
        MissingExtraError: If jinja2 or matplotlib is not installed.
    """
    models = len(study.val.singles(study.settings.combine))
    return page_of(
        study.search(),
        study.test,
        store=store,
        split=split,
        extra={"Studied": study.told},
        title=f"Study of {models} {'model' if models == 1 else 'models'}",
        sections=[_section(finding) for finding in findings],
    )


def _section(finding: AnyFinding) -> Section:
    figure = figure_of(finding)
    return Section(
        name=finding.name,
        title=finding.about.title,
        source=f"Wang et al. (2022), {finding.about.source}",
        sentences=finding.sentences,
        tables=tuple(map(_table, finding.tables)),
        svg="" if figure is None else figure_svg(figure),
        left_out=finding.left_out,
    )


def _table(table: Table) -> PageTable:
    rows = tuple(
        tuple(_cell(cell, column) for cell, column in zip(row, table.columns, strict=True))
        for row in table.rows
    )
    return PageTable(table.title, tuple(c.name for c in table.columns), rows, table.note)


def _cell(cell: base.Cell, column: Column) -> Cell:
    text = cell_text(cell, column)
    if isinstance(cell, Estimate):
        # The interval stands below its figure.
        text, _, interval = text.partition(" (")
        return Cell(text, cell.value, interval.removesuffix(")"))
    return Cell(text) if cell is None or isinstance(cell, str) else Cell(text, float(cell))
