"""A certificate as a table for a notebook."""

from __future__ import annotations

from committee.rule.certificate import CertificateRecord
from committee.text import counted, html_table, human_cost


def record_table(own: CertificateRecord, sentence: str) -> str:
    """Return what was promised, what tested it, and the sentence that holds, as HTML."""
    rows = [
        ("promise", f"{own.measure}: {own.promise} {own.margin:g}"),
        ("level", f"{own.level:g}"),
        ("reference", own.reference),
        ("at least, on new data", f"{own.lower_bound:.4g}"),
        ("on the samples that tested", f"{own.estimate:.4g}"),
        ("tested on", f"{counted(own.samples, 'sample')} of {own.split}"),
        ("chosen on", f"{counted(own.choosing, 'other sample')}" if own.choosing else ""),
    ]
    costs = (("average cost", own.average_cost), ("the reference's", own.reference_cost))
    rows += [(what, human_cost(cost, own.unit)) for what, cost in costs if cost is not None]
    told = [((what, ""), (text, "")) for what, text in rows if text]
    return html_table("Certificate", ("", ""), told, sentence)
