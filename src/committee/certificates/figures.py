"""What a certificate holds, in words; bounds are rounded so that none is better than it is."""

from __future__ import annotations

from collections.abc import Iterator

from committee.rule.certificate import CertificateRecord
from committee.text import (
    Side,
    counted,
    human_cost,
    percent,
    points,
    points_text,
    to_digits,
)


def certificate_figures(own: CertificateRecord, is_reference: bool) -> Iterator[tuple[str, str]]:
    """Yield what a certificate holds, each with its name.

    Args:
        own: The record of the certificate.
        is_reference: True if the cascade is the reference itself.
    """
    paired = own.promise == "within"
    yield "Promise", promise_text(own)
    yield "Level", level_text(own.level)
    yield "Lower bound", share_text(own.lower_bound, paired, "down")
    if not is_reference:
        yield "On the samples that tested", share_text(own.estimate, paired)
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


def promise_text(own: CertificateRecord) -> str:
    """Return what was promised, by which measure."""
    if own.promise == "at least":
        return f"{own.measure} of {percent(own.margin, 'down')} or more"
    if own.promise == "agreement":
        share = percent(1 - own.margin, "down")
        return f"the answer of {own.reference} on {share} of samples or more"
    margin = 100 * to_digits(own.margin, 4, "up")
    return f"{own.measure} at most {points_text(margin)} below that of {own.reference}"


def share_text(value: float, paired: bool, side: Side = "nearest") -> str:
    """Return a difference in points, or a share."""
    return f"{points(value, side)} points" if paired else percent(value, side)


def level_text(level: float) -> str:
    """Return a level in percent, never a higher one.

    >>> level_text(0.95), level_text(0.99999999)
    ('95 %', '99.9999 %')
    """
    return f"{100 * to_digits(level, 6, 'down'):g} %"
