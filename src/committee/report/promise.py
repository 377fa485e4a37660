"""The promise of a chosen committee on the page: its sentence, its figures, the gap per stage."""

from __future__ import annotations

from collections.abc import Iterator

from committee.certificates.certificate import Certificate, checked_on, level_text
from committee.certificates.stages import Gaps, StageGap, gaps_on
from committee.errors import CommitteeError
from committee.pool.table import Cell, Column, Table
from committee.report.rows import Report, Row
from committee.report.text import named
from committee.rule.cascade import Cascade
from committee.rule.certificate import CertificateRecord
from committee.text import Side, counted, human_cost, percent, points, points_text, to_digits


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


def promise_tables(report: Report, row: Row) -> tuple[Table, ...]:
    """Return the figures of the certificate of a row, and its gap at each stage."""
    if not row.cascade.is_certified:
        return ()
    columns = Column("What", lambda item: item[0]), Column("Figure", lambda item: item[1])
    figures = list(certificate_figures(Certificate.of(row.cascade)))
    if report.test is not None:
        found = checked_on(row.cascade, report.test, report.front.settings.metric)
        if found is not None:
            figures.append((f"On {found.split}", found.finding))
    return Table("What was certified", columns, figures), *_stage_tables(report, row)


def certificate_figures(certificate: Certificate) -> Iterator[tuple[str, str]]:
    """Yield what a certificate holds, each with its name.

    Lower bounds are rounded down and upper bounds up, so that none is better than the true one.
    """
    own = certificate.record
    yield "Promise", _promise(own)
    yield "Level", level_text(own.level)
    yield "Lower bound", _figure(own, own.lower_bound, "down")
    if not certificate.is_reference:
        yield "On the samples that tested", _figure(own, own.estimate)
    if own.wins is not None and own.losses is not None:
        lost = f", {own.unlabelled:,} of them without a label" if own.unlabelled else ""
        yield "Only the committee is correct on", counted(own.wins, "sample")
        yield f"Only {own.reference} is correct on", counted(own.losses, "sample") + lost
    yield "Tested on", f"{counted(own.samples, 'sample')} of {own.split}"
    if own.choosing:
        yield "Chosen on", f"{counted(own.choosing, 'other sample')} of {own.split}"
    if own.average_cost is not None:
        yield "Average cost", human_cost(own.average_cost, own.unit)
    if own.reference_cost is not None:
        yield f"Average cost of {own.reference}", human_cost(own.reference_cost, own.unit)
    if own.max_cost is not None and own.cost_bound is not None:
        most, bound = (human_cost(each, own.unit, "up") for each in (own.max_cost, own.cost_bound))
        yield "Cost promised", f"{most} or less; bound {bound}"
    tried = f"{own.tested:,} tested, chosen among {own.considered:,}"
    yield "Committees tried", tried if own.choosing else "this one alone"
    yield "Procedure", f"{own.procedure}, committee {own.version}, seed {own.seed}, {own.date}"
    yield "Fingerprint of the samples", own.samples_fingerprint or "unknown"


def _promise(own: CertificateRecord) -> str:
    if own.promise == "at least":
        return f"{own.measure} of {percent(own.margin, 'down')} or more"
    if own.promise == "agreement":
        share = percent(1 - own.margin, "down")
        return f"the answer of {own.reference} on {share} of samples or more"
    margin = 100 * to_digits(own.margin, 4, "up")
    return f"{own.measure} at most {points_text(margin)} below that of {own.reference}"


def _figure(own: CertificateRecord, value: float, side: Side = "nearest") -> str:
    return f"{points(value, side)} points" if own.promise == "within" else percent(value, side)


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
        Column("Stage", lambda gap: f"{gap.stage + 1}: {' + '.join(gap.models)}"),
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
