"""Gaps per stage: how a cascade differs from its reference on the samples that exit at each stage.

Samples that exit first may lose more than the average tells.

References:
    Ringel, Cohen, Freedman, Elad and Romano (2024), Early Time Classification with Accumulated
    Accuracy Gap Control, arXiv 2402.00857.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from committee.certificates.certificate import Certificate, agreeing_with, identities, seen_as
from committee.certificates.exact_tests import paired_lower_bound
from committee.errors import CascadeError
from committee.pool.evaluate import check_has_labels, exits_of, measure_of, source_of
from committee.pool.intervals import Estimate, paired_difference
from committee.pool.metrics import Metric
from committee.pool.pool import Pool
from committee.rule.cascade import Cascade
from committee.selection.evaluate_many import values_on
from committee.selection.notes import target_of

# The level of bounds for a cascade without a certificate.
_LEVEL = 0.95


@dataclass(frozen=True)
class StageGap:
    """How a cascade differs from its reference on the samples that exit at one stage.

    Args:
        stage: Number of the stage, from 0.
        models: Models of the stage.
        samples: Samples that exit there.
        wins: Those on which only the cascade is correct.
        losses: Those on which only the reference is correct.
        difference: Accuracy of the cascade less that of the reference, with its 95 % interval; None
            if no sample exits there.
        lower_bound: What the difference is at least on new data, at a level that all stages share;
            None if it was not asked for.
    """

    stage: int
    models: tuple[str, ...]
    samples: int
    wins: int
    losses: int
    difference: Estimate | None
    lower_bound: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return every figure by name."""
        return {**vars(self), "difference": self.difference and self.difference.to_json()}


@dataclass(frozen=True)
class Gaps:
    """How a cascade differs, stage by stage, from the reference that its file names.

    Args:
        reference: What the reference is called.
        split: Name of the split.
        measure: Name of the metric, or of the agreement that was certified.
        stages: One gap for each stage.
        level: The chance that all bounds hold; None if there are none.
        unbounded: Why there are no bounds; else empty.
    """

    reference: str
    split: str
    measure: str
    stages: tuple[StageGap, ...]
    level: float | None
    unbounded: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return every figure by name."""
        return {**vars(self), "stages": [each.to_json() for each in self.stages]}


def gaps_on(cascade: Cascade, pool: Pool, metric: Metric | None = None) -> Gaps:
    """Return the gap at each stage between a cascade and the reference that its file names.

    That is the reference of its certificate, else the one that it was chosen to match. Bounds have
    the level of the certificate, else 0.95; samples that chose, certified or calibrated the cascade
    give none.
    """
    _check_counted(pool, metric)
    own = cascade.certificate if cascade.is_certified else None
    name, reference = _reference(cascade)
    if own is not None and own.promise == "agreement":
        pool, metric = agreeing_with(pool, reference), None
    unbounded = seen_as(cascade, identities(cascade, pool))
    level = None if unbounded else own.level if own else _LEVEL
    gaps = _stage_gaps(cascade, reference, pool, metric, level)
    measure = measure_of(pool, metric or pool.metric)
    return Gaps(name, pool.samples.split, measure, gaps, level, unbounded)


def _reference(cascade: Cascade) -> tuple[str, Cascade]:
    """Return the reference that the file of a cascade names, and what it is called."""
    certificate = Certificate.of(cascade) if cascade.is_certified else None
    certified = None if certificate is None else certificate.reference()
    if certificate is not None and certified is not None:
        return certificate.record.reference, certified
    target = target_of(cascade)
    if target is None:
        raise CascadeError(
            f"{cascade}: gaps per stage need a reference, and the cascade names none. Certify it "
            "with: committee certify CASCADE STORE --match MODEL; or choose it with: committee "
            "search STORE --match MODEL"
        )
    return target[0], target[1]


def _stage_gaps(
    cascade: Cascade,
    reference: Cascade,
    pool: Pool,
    metric: Metric | None = None,
    level: float | None = None,
) -> tuple[StageGap, ...]:
    """Return the gap at each stage of a cascade.

    Args:
        cascade: The cascade.
        reference: What it is compared with.
        pool: Labelled predictions of the models of both. For a bound, samples that chose nothing.
        metric: What a sample scores, 1 or 0; by default that of the pool.
        level: The chance that all bounds hold; no bounds without it.
    """
    _check_counted(pool, metric)
    check_has_labels(pool, metric)
    exits, values = exits_of(cascade, source_of(cascade, pool, metric))
    gaps = values.astype(np.int64) - values_on(reference, pool, metric).astype(np.int64)
    found = []
    for stage, each in enumerate(cascade.stages):
        own = gaps[exits == stage]
        wins, losses = int((own > 0).sum()), int((own < 0).sum())
        bound = None
        if level is not None:
            # All bounds hold together (Bonferroni). How many samples exit is no unknown to test.
            shared = 1 - (1 - level) / len(cascade.stages)
            bound = paired_lower_bound(wins, losses, len(own), shared) if len(own) else -1.0
        difference = paired_difference(own, np.zeros_like(own)) if len(own) else None
        found.append(StageGap(stage, each.models, len(own), wins, losses, difference, bound))
    return tuple(found)


def _check_counted(pool: Pool, metric: Metric | None) -> None:
    own = metric or pool.metric
    if not own.counted:
        raise CascadeError(
            f"gaps per stage: a sample scores any number by {own.name!r}; they need 1 or 0. Use "
            "top-1 or another counted metric, or grade outcomes 1 or 0"
        )
