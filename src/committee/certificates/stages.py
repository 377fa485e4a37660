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

from committee.certificates.exact_tests import paired_lower_bound
from committee.errors import CascadeError
from committee.pool.evaluate import check_has_labels, exits_of, source_of
from committee.pool.intervals import Estimate, paired_difference
from committee.pool.metrics import Metric
from committee.pool.pool import Pool
from committee.rule.cascade import Cascade
from committee.selection.evaluate_many import values_on


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


def stage_gaps(
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

    Raises:
        CascadeError: If a sample scores other numbers than 1 and 0, as in segmentation.
        UnknownNameError: If the pool lacks a model.
        MisalignedError: If the pool has no samples, or no labels where they are needed.
    """
    if not (metric or pool.metric).counted:
        raise CascadeError(
            f"gaps per stage: a sample scores any number by {(metric or pool.metric).name!r}; "
            "they need 1 or 0. Use top-1 or another counted metric"
        )
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
