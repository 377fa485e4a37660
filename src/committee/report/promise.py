"""The promise of a chosen committee on the page: its sentence, its figures, the gap per stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from committee.certificates.certificate import Certificate, agreeing_with, checked_on
from committee.certificates.stages import StageGap, stage_gaps
from committee.errors import CommitteeError
from committee.report.rows import Report, Row
from committee.report.table import Column, Table
from committee.report.text import named, points
from committee.rule.cascade import Cascade
from committee.rule.certificate import CertificateRecord
from committee.text import counted, human_cost, percent


def promise_sentence(cascade: Cascade) -> str:
    """Return what was certified of a cascade; why its certificate is void; or nothing."""
    if cascade.certificate is None:
        return ""
    if not cascade.is_certified:
        return (
            f"The certificate of {named(cascade)} is void: the cascade was changed after it was "
            "certified. Certify it again with committee certify."
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
    figures = Table("What was certified", columns, list(_figures(report, row)))
    return figures, *_stage_tables(report, row)


def _figures(report: Report, row: Row) -> Iterator[tuple[str, str]]:
    certificate = Certificate.of(row.cascade)
    own = certificate.record
    yield "Promise", _promise(own)
    yield "Level", percent(own.level)
    yield "Bound reached", _figure(own, own.lower_bound)
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
        most = human_cost(own.cost_bound, own.unit)
        yield "Cost promised", f"{human_cost(own.max_cost, own.unit)} or less; bound {most}"
    tried = f"{own.tested:,} tested, chosen among {own.considered:,}"
    yield "Committees tried", tried if own.choosing else "this one alone"
    yield "Procedure", f"{own.procedure}, committee {own.version}, seed {own.seed}, {own.date}"
    yield "Fingerprint of the samples", own.samples_fingerprint or "unknown"
    if report.test is not None:
        found = checked_on(row.cascade, report.test, report.front.settings.metric)
        if found is not None:
            yield f"On {found.split}", found.outcome.text if found.outcome else found.problem


def _promise(own: CertificateRecord) -> str:
    if own.promise == "at least":
        return f"{own.measure} of {percent(own.margin)} or more"
    if own.promise == "agreement":
        return f"the answer of {own.reference} on {percent(1 - own.margin)} of samples or more"
    return f"{own.measure} at most {100 * own.margin:.4g} points below that of {own.reference}"


def _figure(own: CertificateRecord, value: float) -> str:
    return f"{points(value)} points" if own.promise == "within" else percent(value)


def _stage_tables(report: Report, row: Row) -> Iterator[Table]:
    """Yield the table of the gap at each stage, where there is a reference and its predictions."""
    certificate = Certificate.of(row.cascade)
    reference, own = certificate.reference(), certificate.record
    if reference is None or len(row.cascade.stages) < 2:
        return
    pool = report.front.pool if report.test is None else report.test
    try:
        pool = agreeing_with(pool, reference) if own.promise == "agreement" else pool
        # Bounds are of samples that chose nothing.
        level = None if report.test is None else own.level
        metric = None if own.promise == "agreement" else report.front.settings.metric
        gaps = stage_gaps(row.cascade, reference, pool, metric, level)
    except CommitteeError:
        return
    yield gaps_table(gaps, own.reference, pool.samples.split, level)


def gaps_table(gaps: Sequence[StageGap], reference: str, split: str, level: float | None) -> Table:
    """Return gaps per stage as a table.

    Args:
        gaps: One for each stage.
        reference: What the reference is called.
        split: Name of the split.
        level: The level of the bounds; None if there are none.
    """
    columns = [
        Column("Stage", lambda gap: f"{gap.stage + 1}: {' + '.join(gap.models)}"),
        Column("Samples that exit", lambda gap: gap.samples, "count"),
        Column(
            f"Difference from {reference}", lambda gap: gap.difference, "points", small="points"
        ),
    ]
    note = (
        "Differences have their 95 % interval. Samples that exit first may lose more than the "
        "average"
    )
    if level is not None:
        columns.append(Column("At least", lambda gap: gap.lower_bound, "points"))
        note += f"; with {100 * level:g} % certainty no stage lies below its bound"
    else:
        note += "; these samples chose the cascade, so there is no bound"
    return Table(f"Gap per stage on {split}", tuple(columns), gaps, f"{note}.")
