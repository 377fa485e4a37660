"""The promise of a chosen committee on the page: its sentence, its figures, the gap per stage."""

from __future__ import annotations

from collections.abc import Iterator

from committee.certificates.certificate import Certificate, checked_on
from committee.certificates.figures import certificate_figures, level_text
from committee.certificates.stages import Gaps, StageGap, gaps_on
from committee.errors import CommitteeError
from committee.pool.table import Cell, Column, Table
from committee.report.rows import Report, Row
from committee.report.text import named
from committee.rule.cascade import Cascade
from committee.text import points


def promise_sentence(cascade: Cascade) -> str:
    """Return what was certified of a cascade; why its certificate is void; or nothing."""
    if cascade.certificate is None:
        return ""
    if not cascade.is_certified:
        return (
            f"The certificate of {named(cascade)} is void: the cascade or its certificate was "
            "changed after it was certified. Certify it again with committee certify."
        )
    own = Certificate.of(cascade)
    if own.is_reference:
        return f"{own.text[:1].upper()}{own.text[1:]}."
    joint = "" if own.record.reference else ":"
    return f"{named(cascade)}{joint} {own.text}."


def figures_of(cascade: Cascade) -> Iterator[tuple[str, str]]:
    """Yield what the certificate of a cascade holds, each with its name."""
    own = Certificate.of(cascade)
    return certificate_figures(own.record, own.is_reference)


def promise_tables(report: Report, row: Row) -> tuple[Table, ...]:
    """Return the figures of the certificate of a row, and its gap at each stage."""
    if not row.cascade.is_certified:
        return ()
    columns = Column("What", lambda item: item[0]), Column("Figure", lambda item: item[1])
    figures = list(figures_of(row.cascade))
    if report.test is not None:
        found = checked_on(row.cascade, report.test, report.front.settings.metric)
        if found is not None:
            figures.append((f"On {found.split}", found.finding))
    return Table("What was certified", columns, figures), *_stage_tables(report, row)


def _stage_tables(report: Report, row: Row) -> Iterator[Table]:
    """Yield the table of the gap at each stage, where there is a reference and its predictions."""
    if len(row.cascade.stages) < 2:
        return
    pool = report.front.pool if report.test is None else report.test
    try:
        yield gaps_table(gaps_on(row.cascade, pool, report.front.settings.metric))
    except CommitteeError:
        return


def gaps_table(gaps: Gaps) -> Table:
    """Return the gaps per stage of a cascade as a table."""
    columns = [
        Column("Stage", lambda gap: " + ".join(gap.models)),
        Column("Samples that exit", lambda gap: gap.samples, "count"),
        Column(
            f"Difference from {gaps.reference}",
            lambda gap: gap.difference,
            "points",
            small=f"points of {gaps.measure}",
        ),
    ]
    note = (
        "Differences have their 95 % interval. Samples that exit first may lose more than the "
        "average"
    )
    if gaps.level is None:
        note += f"; {gaps.unbounded}, so there is no bound"
    else:
        columns.append(Column("At least", _bound_cell, "points", small="points"))
        note += f"; with {level_text(gaps.level)} certainty no stage lies below its bound"
    return Table(f"Gap per stage on {gaps.split}", tuple(columns), gaps.stages, f"{note}.")


def _bound_cell(gap: StageGap) -> Cell | None:
    bound = gap.lower_bound
    return None if bound is None else Cell(points(bound, "down"), bound)
