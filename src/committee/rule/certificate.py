"""The certificate of a cascade as its file holds it: what was promised, tested, and found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from committee.errors import CascadeError

Promise = Literal["within", "at least", "agreement"]


@dataclass(frozen=True)
class CertificateRecord:
    """What was promised of a cascade on new data, how it was tested, and the result.

    Args:
        promise: ``within``: accuracy at most ``margin`` below the reference's. ``at least``:
            accuracy of ``margin`` or more. ``agreement``: the reference's answer on all but
            ``margin`` of new samples.
        margin: A share of 1.
        level: The chance with which the procedure keeps its word, between 0 and 1.
        measure: Name of the metric; ``top-1`` counts the samples predicted correctly.
        rule: Fingerprint of the decisions that were certified.
        samples: Samples that tested the cascade.
        choosing: Other samples, which chose what to test; 0 if the cascade was given.
        estimate: The difference, accuracy or agreement on the samples that tested.
        lower_bound: What it is at least on new data, at the level.
        split: Name of the split.
        samples_fingerprint: Of all samples of the split.
        date: The day of the test, as 2026-11-29.
        version: The version of committee that tested.
        procedure: Name of the procedure, with its number.
        seed: What divided the samples.
        tested: Committees that were tested; the level counts each of them.
        considered: Committees among which the procedure chose what to test.
        reference: What the reference is called; empty without one.
        reference_rule: The reference in the form of a cascade file; empty without one.
        wins: Samples on which only the cascade is correct; None without a reference.
        losses: Samples on which only the reference is correct.
        unlabelled: Samples without a label; each counted as a loss.
        max_cost: The most that a sample may cost on average; None if no cost was promised.
        cost_bound: What it costs at most on new data, at the level.
        average_cost: On the samples that tested.
        reference_cost: That of the reference.
        unit: Unit of the costs.

    Raises:
        CascadeError: If a level or a number of samples is impossible.
    """

    promise: Promise
    margin: float
    level: float
    measure: str
    rule: str
    samples: int
    choosing: int
    estimate: float
    lower_bound: float
    split: str
    samples_fingerprint: str
    date: str
    version: str
    procedure: str
    seed: int = 0
    tested: int = 1
    considered: int = 1
    reference: str = ""
    reference_rule: Mapping[str, Any] = field(default_factory=dict, hash=False)
    wins: int | None = None
    losses: int | None = None
    unlabelled: int = 0
    max_cost: float | None = None
    cost_bound: float | None = None
    average_cost: float | None = None
    reference_cost: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise CascadeError(f"certificate: level must lie between 0 and 1, not {self.level:g}")
        if self.samples < 1:
            raise CascadeError(f"certificate: samples must be 1 or more, not {self.samples}")
