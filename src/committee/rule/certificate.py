"""The certificate of a cascade as its file holds it: what was promised, tested, and found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from committee.errors import CascadeError

Promise = Literal["within", "at least", "agreement"]
# Beyond these a level says nothing, or more than floating point can show.
LEAST_LEVEL, LARGEST_LEVEL = 0.5, 0.999999
# Shares with the least that each may be; figures that are 0 or more, or None; all that are floats.
_SHARES = {"margin": 0, "estimate": -1, "lower_bound": -1}
_COSTS = ("max_cost", "cost_bound", "cost_limit", "average_cost", "reference_cost")
_COUNTS = ("choosing", "tested", "considered", "wins", "losses", "unlabelled", *_COSTS)
_FLOATS = ("level", *_SHARES, *_COSTS)


@dataclass(frozen=True)
class CertificateRecord:
    """What was promised of a cascade on new data, how it was tested, and the result.

    Args:
        promise: ``within``: accuracy at most ``margin`` below the reference's. ``at least``:
            accuracy of ``margin`` or more. ``agreement``: the reference's answer on all but
            ``margin`` of new samples.
        margin: A share of 1.
        level: The chance with which the procedure keeps its word, 0.5 to 0.999999.
        measure: Name of the metric; ``top-1`` counts the samples predicted correctly.
        checksum: Of the decisions that were certified and of all else here. A change of either
            voids the certificate; it is no signature, so it stops no one who means to deceive.
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
        cost_limit: The most that one sample can cost, where costs differ and that was stated.
        average_cost: On the samples that tested.
        reference_cost: That of the reference.
        unit: Unit of the costs.
    """

    promise: Promise
    margin: float
    level: float
    measure: str
    checksum: str
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
    cost_limit: float | None = None
    average_cost: float | None = None
    reference_cost: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        for name in _FLOATS:
            # A file writes 1 and 1.0 differently, so a checksum would change by saving.
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))
        problem = next(self._problems(), "")
        if problem:
            raise CascadeError(f"certificate: {problem}")

    def _problems(self) -> Iterator[str]:
        """Yield what is impossible."""
        if not LEAST_LEVEL <= self.level <= LARGEST_LEVEL:
            yield f"level must lie between {LEAST_LEVEL} and {LARGEST_LEVEL}, not {self.level!r}"
        if self.samples < 1:
            yield f"samples must be 1 or more, not {self.samples}"
        for name, low in _SHARES.items():
            if not low <= getattr(self, name) <= 1:
                yield f"{name} must lie between {low} and 1, not {getattr(self, name):g}"
        for name in _COUNTS:
            if not (getattr(self, name) or 0) >= 0:
                yield f"{name} must be 0 or more, not {getattr(self, name):g}"
        if (self.wins or 0) + (self.losses or 0) > self.samples:
            yield f"wins and losses must be at most {self.samples:,} together, its samples"
        if self.promise != "at least" and not self.reference_rule:
            yield f"reference_rule is missing, to which the promise {self.promise!r} refers"
