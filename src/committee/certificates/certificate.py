"""Certificates: a promise about new data, what it rests on, and whether new data keep it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from committee.arrays import Array
from committee.certificates.costs import average_cost_of
from committee.certificates.exact_tests import (
    paired_lower_bound,
    paired_p_value,
    paired_upper_bound,
    share_lower_bound,
)
from committee.certificates.figures import certificate_figures, level_text
from committee.certificates.verdict import Verdict
from committee.errors import CascadeError, CommitteeError, MisalignedError
from committee.pool.comparison import identity_of, sum_identity_of
from committee.pool.costs import SampleCost
from committee.pool.evaluate import exits_of, measure_of, source_of, stage_costs, stored_decisions
from committee.pool.metrics import TOP_1, Metric
from committee.pool.outcomes import refuse_outcomes
from committee.pool.pool import Pool
from committee.reading import plain
from committee.rule.cascade import Cascade
from committee.rule.certificate import CertificateRecord
from committee.rule.combinations import DEFAULT_COMBINE, JOINT
from committee.rule.format import SCHEMA
from committee.selection.evaluate_many import values_on
from committee.selection.paired import compared_counts
from committee.text import (
    about,
    counted,
    html_table,
    human_cost,
    percent,
    points_text,
    printable,
    saving,
    to_decimals,
)

# What tab completion offers.
_SHOWN = (
    *("cascade", "holds_on", "is_reference", "level", "lower_bound", "of", "record", "reference"),
    *("text", "to_json"),
)
# More samples than this to decide are no longer a number that helps.
_MOST_SAMPLES = 1e9
# How many times the samples at hand are tried to say how many would certify.
_MORE = (1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


@dataclass(frozen=True)
class Certificate:
    """A promise that a cascade keeps on new data like those that tested it.

    Args:
        cascade: The cascade.
        record: What its file holds.
    """

    cascade: Cascade
    record: CertificateRecord

    def __str__(self) -> str:
        return f"{self.text}."

    def __repr__(self) -> str:
        return f"<Certificate: {printable(self.text)}>"

    def _repr_html_(self) -> str:
        rows = certificate_figures(self.record, self.is_reference)
        told = [((what, ""), (text, "")) for what, text in rows]
        return html_table("Certificate", ("", ""), told, f"{self.text}.")

    def __dir__(self) -> list[str]:
        return sorted(_SHOWN)

    @classmethod
    def of(cls, cascade: Cascade | str | Path) -> Certificate:
        """Return the certificate of a cascade, or of a cascade file.

        Raises:
            CascadeError: If it has none, or was changed since.
        """
        if isinstance(cascade, str | Path):
            cascade = Cascade.load(cascade)
        if cascade.certificate is None:
            raise CascadeError(
                f"{cascade}: no certificate. Make one with: committee certify CASCADE STORE"
            )
        if not cascade.is_certified:
            raise CascadeError(
                f"{cascade}: the certificate is void, for the cascade or its certificate was "
                "changed after it was certified. Certify it again: committee certify CASCADE STORE"
            )
        return cls(cascade, cascade.certificate)

    @property
    def level(self) -> float:
        """The chance with which the procedure keeps its word."""
        return self.record.level

    @property
    def lower_bound(self) -> float:
        """What the difference, accuracy or agreement is at least on new data, at the level."""
        return self.record.lower_bound

    @property
    def is_reference(self) -> bool:
        """Return True if the cascade is the reference itself, as nothing cheaper passed."""
        return self.record.reference_rule == self.cascade.rule_json()

    @property
    def text(self) -> str:
        """The promise as one sentence; its figures are rounded to the safe side."""
        own = self.record
        sure = f"with {level_text(own.level)} certainty"
        data = f"on data like these {counted(own.samples, 'sample')}{_within_cost(own)}"
        if self.is_reference:
            return f"keeps {own.reference}: nothing cheaper could be certified {data}"
        data = f"{_promised(own)}{data}"
        start = f"replaces {own.reference}: {_times(own)}" if own.reference else ""
        if own.promise == "agreement":
            share = percent(own.lower_bound, "down")
            return f"{start}{sure} gives the same answer on {share} {data}"
        if own.promise == "at least":
            share = percent(own.lower_bound, "down")
            return f"{sure} at least {share} accurate{_by(own)} {data}"
        points = 100 * to_decimals(own.lower_bound, 4, "down")
        if points > 0:
            return f"{start}{sure} at least {points_text(points)} more accurate{_by(own)} {data}"
        return f"{start}{sure} at most {points_text(-points)} less accurate{_by(own)} {data}"

    def to_json(self) -> dict[str, Any]:
        """Return the record with its sentence."""
        return {**plain(self.record), "text": self.text}

    def reference(self) -> Cascade | None:
        """Return the reference, or None without one."""
        rule = self.record.reference_rule
        data = {"schema": SCHEMA, **rule}
        return Cascade.from_json(data, "certificate: reference_rule") if rule else None

    def holds_on(self, pool: Pool, metric: Metric | None = None) -> Verdict:
        """Return what other labelled samples say of the promise.

        Args:
            pool: Predictions of the cascade's models and the reference's, labelled unless the
                promise is agreement.
            metric: The metric of the promise, if it is not the pool's.

        Raises:
            MisalignedError: If the samples chose, certified or calibrated the cascade, or the
                metric is another.
            UnknownNameError: If a model is not in the pool.
        """
        own = self.record
        if seen := seen_as(self.cascade, identities(self.cascade, pool)):
            raise MisalignedError(f"split {pool.samples.split!r}: {seen}. Evaluate it on others")
        reference = self.reference()
        if own.promise == "agreement":
            assert reference is not None
            pool = agreeing_with(pool, reference)
        elif measure_of(pool, metric or pool.metric) != own.measure:
            raise MisalignedError(
                f"split {pool.samples.split!r}: the promise is of {own.measure}, not of "
                f"{measure_of(pool, metric or pool.metric)}"
            )
        compared = reference if own.promise == "within" else None
        if own.max_cost is None:
            wins, losses = compared_counts(self.cascade, compared, metric, pool)
            return self._of_counts(wins, losses, len(pool))
        others = None if compared is None else values_on(compared, pool, metric)
        exits, values = exits_of(self.cascade, source_of(self.cascade, pool, metric))
        return self.outcome(values, others, exits, stage_costs(self.cascade, pool, own.unit))

    def outcome(
        self,
        values: Array,
        others: Array | None,
        exits: Array,
        costs: Sequence[SampleCost] | None,
    ) -> Verdict:
        """Return what the scores of new samples say of the promise.

        Args:
            values: What each sample scores, 1 or 0: for an agreement 1 where the cascade gives the
                reference's answer. Shape (N,).
            others: What it scores by the reference if the promise is within, else None.
            exits: Stage of exit of each sample, shape (N,).
            costs: Cost of each stage, if a cost was promised, else None.
        """
        own, spent = self.record, None
        if costs is not None and own.max_cost is not None:
            limits = own.level, own.max_cost, own.cost_limit, own.unit
            spent = average_cost_of(costs, exits, *limits)
        values = values.astype(np.int64)
        others = np.zeros_like(values) if others is None else others.astype(np.int64)
        wins, losses = int((values > others).sum()), int((values < others).sum())
        return self._of_counts(wins, losses, len(values)).with_cost(spent)

    def _of_counts(self, wins: int, losses: int, samples: int) -> Verdict:
        """Return what samples say of a promise of accuracy or agreement."""
        promise = self.record.promise
        if self.is_reference and promise != "at least":
            certain = float(promise == "agreement")
            paired = promise == "within"
            return Verdict("kept", certain, certain, certain, samples, paired=paired)
        return _verdict_of(self.record, wins, losses, samples)


@dataclass(frozen=True)
class Checked:
    """The certificate of a cascade, and what a split says of it.

    Args:
        split: Name of the split.
        certificate: The certificate; None if it is void.
        outcome: What the samples say; None if they cannot.
        problem: Why the certificate is void, or why the samples cannot check it; else empty.
    """

    split: str
    certificate: Certificate | None
    outcome: Verdict | None = None
    problem: str = ""

    @property
    def failed(self) -> bool:
        """Return True if the certificate is void, or broken by these samples."""
        broken = self.outcome is not None and self.outcome.outcome == "broken"
        return self.certificate is None or broken

    @property
    def lines(self) -> tuple[str, str]:
        """The same for people: the certificate's sentence, and what the samples say."""
        if self.certificate is None:
            return "THE CERTIFICATE IS VOID.", f"{self.problem}."
        sentence = f"Certificate: {self.certificate.text}."
        if self.outcome is None:
            return sentence, f"{self.problem}."
        return sentence, f"On {self.split}: {self.finding}."

    @property
    def finding(self) -> str:
        """What the samples say, with estimate, number and bounds; else why they say nothing."""
        if self.certificate is None or self.outcome is None:
            return self.problem
        return str(self.outcome)

    def to_json(self) -> dict[str, Any]:
        """Return every part by name."""
        return {
            "split": self.split,
            "void": self.certificate is None,
            "text": self.certificate and self.certificate.text,
            "outcome": self.outcome and self.outcome.to_json(),
            "problem": self.problem,
        }


def checked_on(cascade: Cascade, pool: Pool, metric: Metric | None = None) -> Checked | None:
    """Return what a split says of a cascade's certificate; None if it has none."""
    if cascade.certificate is None:
        return None
    split = pool.samples.split
    try:
        certificate = Certificate.of(cascade)
    except CascadeError as error:
        return Checked(split, None, None, str(error))
    try:
        return Checked(split, certificate, certificate.holds_on(pool, metric))
    except CommitteeError as error:
        return Checked(split, certificate, None, str(error))


def identities(cascade: Cascade, pool: Pool) -> set[str]:
    """Return every fingerprint by which a cascade may know the samples of a pool."""
    alone = (identity_of(pool, [name]) for name in cascade.calibrations)
    # A folder of stores knows its samples by their sum, however they are divided.
    return {identity_of(pool, cascade.names), *alone, sum_identity_of(pool)}


def seen_as(cascade: Cascade, identities: Collection[str]) -> str:
    """Return what a cascade already owes to samples, so that they cannot check it; or nothing."""
    own = cascade.certificate
    fitted = {each.samples for each in cascade.calibrations.values()}
    known = {
        "the certificate rests on these samples": {own.samples_fingerprint} if own else set(),
        "these samples chose the cascade": {
            cascade.origin.samples_fingerprint,
            cascade.origin.samples_sum,
        },
        "these samples fitted calibrations of the cascade": fitted,
    }
    return next((text for text, each in known.items() if (each - {""}) & {*identities}), "")


def chosen_by(cascade: Cascade, pool: Pool) -> str:
    """Return whether samples chose or calibrated a cascade, so that they cannot certify it."""
    return seen_as(replace(cascade, certificate=None), identities(cascade, pool))


def _verdict_of(own: CertificateRecord, wins: int, losses: int, samples: int) -> Verdict:
    """Return what wins and losses on new samples say of a promise.

    Args:
        own: The promise.
        wins: Samples on which only the cascade is correct; all it gets right without a pair.
        losses: Samples on which only the reference is correct.
        samples: All samples.
    """
    estimate = (wins - losses) / samples
    low, high = _bounds(own, wins, losses, samples)
    square = (wins + losses + 1) / samples
    spread = math.sqrt(max(square - estimate**2, 1 / samples))
    goal = promised_goal(own)
    paired = own.promise == "within"
    if low >= goal or high < goal:
        outcome: Literal["kept", "broken"] = "kept" if low >= goal else "broken"
        return Verdict(outcome, estimate, low, high, samples, paired=paired)
    distance = abs(estimate - goal)
    times = math.inf
    if distance > 0:
        times = (NormalDist().inv_cdf(own.level) * spread / distance) ** 2 / samples
    more = _more(own, wins, losses, samples, times)
    return Verdict("open", estimate, low, high, samples, more, paired=paired)


def _more(own: CertificateRecord, wins: int, losses: int, samples: int, times: float) -> int | None:
    """Return about how many samples more would decide, if wins and losses keep their shares."""
    times = max(times, 1.0)
    while samples * times < _MOST_SAMPLES:
        times *= 1.1
        many = math.ceil(samples * times)
        if _decides(own, round(wins * times), round(losses * times), many):
            return many - samples
    return None


def _decides(own: CertificateRecord, wins: int, losses: int, samples: int) -> bool:
    """Return True if samples show that a promise is kept, or that it is broken."""
    goal = promised_goal(own)
    # One test, the likely one, is faster than both bounds.
    if (wins - losses) / samples >= goal:
        return _passes(own, wins, losses, samples)
    if own.promise == "within":
        return paired_p_value(losses, wins, samples, goal, own.level) <= 1 - own.level
    return _bounds(own, wins, losses, samples)[1] < goal


def _bounds(own: CertificateRecord, wins: int, losses: int, samples: int) -> tuple[float, float]:
    """Return the exact one-sided bounds of a difference, or of a share, at the level."""
    if own.promise == "within":
        counts = wins, losses, samples, own.level
        return paired_lower_bound(*counts), paired_upper_bound(*counts)
    low = share_lower_bound(wins, samples, own.level)
    return low, 1 - share_lower_bound(samples - wins, samples, own.level)


def enough_text(own: CertificateRecord, wins: int, losses: int) -> str:
    """Return about how many samples would do if they show the same, or that none would."""
    for times in _MORE:
        more = int(wins * times), int(losses * times), int(own.samples * times)
        if _passes(own, *more):
            return f". If more samples show the same, {about(more[-1], 'sample')} in all would do"
    return (
        f". {_MORE[-1]} times as many that show the same would not do either: promise less, or let "
        "search --promise find a committee that keeps it"
    )


def _passes(own: CertificateRecord, wins: int, losses: int, samples: int) -> bool:
    """Return True if so many samples certify a promise; see :func:`_verdict_of`."""
    if own.promise == "within":
        return paired_p_value(wins, losses, samples, own.margin, own.level) <= 1 - own.level
    return share_lower_bound(wins, samples, own.level) >= promised_goal(own)


def promised_goal(own: CertificateRecord) -> float:
    """Return what the difference, accuracy or agreement must be at least."""
    return {"within": -own.margin, "at least": own.margin, "agreement": 1 - own.margin}[own.promise]


def agreeing_with(pool: Pool, reference: Cascade) -> Pool:
    """Return a pool labelled with the answers of a reference."""
    refuse_outcomes("agreement", pool.kind)
    labels = stored_decisions(reference, pool).predicted.astype(np.int64)
    samples = replace(pool.samples, labels=labels, labelled_by=str(reference))
    return replace(pool, samples=samples)


def reference_of(
    pool: Pool, named: str | Sequence[str] | Cascade, combine: str | None, confidence: str
) -> Cascade:
    """Return the reference that a user names: a model, models of an ensemble, or a cascade."""
    if isinstance(named, Cascade):
        for name in named.names:
            pool.model(name)
        return pool.bound(named)
    names = [named] if isinstance(named, str) else list(named)
    models = [name for each in names for name in pool.single(each, combine)]
    rule = combine or DEFAULT_COMBINE[pool.combined_kind]
    if rule not in JOINT and len(models) > 1:
        raise CascadeError(f"certify: an ensemble needs a mean or vote as combine, not {rule}")
    return Cascade.of([models], (), pool.confidence_or(confidence), rule, pool.calibrations)


def _times(own: CertificateRecord) -> str:
    """Return how much cheaper a cascade is than its reference, or dearer."""
    if not own.average_cost or not own.reference_cost:
        return ""
    return f"{saving(own.reference_cost / own.average_cost)}; "


def _by(own: CertificateRecord) -> str:
    """Return by which measure a cascade is accurate, if it is another than usual."""
    return "" if own.measure == TOP_1.name else f" by {own.measure}"


def _promised(own: CertificateRecord) -> str:
    """Return what was promised, if the samples show more than that."""
    if own.lower_bound <= promised_goal(own):
        return ""
    if own.promise != "within":
        return f"(promised: {percent(promised_goal(own))}) "
    return f"(promised: {points_text(100 * own.margin)} less at most) "


def _within_cost(own: CertificateRecord) -> str:
    """Return what a cost promises, or nothing."""
    if own.max_cost is None:
        return ""
    return f", at an average cost of at most {human_cost(own.max_cost, own.unit, 'up')}"
