"""Gaps per stage against counting by hand, and bounds against resampling."""

from __future__ import annotations

import numpy as np
import pytest

import committee as cm
from committee.certificates.exact_tests import paired_lower_bound
from committee.certificates.stages import _stage_gaps
from committee.pool.evaluate import stored_decisions

CASCADE = cm.Cascade.of(["small", "middle", "large"], [0.9, 0.7])
REFERENCE = cm.Cascade.of(["large"])


def pool_of(rows: int, seed: int = 0) -> cm.Pool:
    """Three models of rising strength."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, rows)
    logits = {
        name: gain * np.eye(5)[labels] + rng.normal(size=(rows, 5))
        for name, gain in (("small", 2.0), ("middle", 2.5), ("large", 3.5))
    }
    costs = {"small": 1.0, "middle": 2.0, "large": 9.0}
    return cm.Pool.from_arrays(labels, logits, kind="logits", costs=costs)


def test_gaps_are_those_of_counting() -> None:
    pool = pool_of(2000)
    own, other = (stored_decisions(each, pool) for each in (CASCADE, REFERENCE))
    correct = own.predicted == pool.samples.labels
    others = other.predicted == pool.samples.labels
    gaps = _stage_gaps(CASCADE, REFERENCE, pool)
    for gap in gaps:
        here = own.stage == gap.stage
        assert gap.models == CASCADE.stages[gap.stage].models
        assert gap.samples == here.sum() > 0
        assert gap.wins == (here & correct & ~others).sum()
        assert gap.losses == (here & ~correct & others).sum()
        assert gap.difference is not None
        assert gap.difference.value == pytest.approx((gap.wins - gap.losses) / gap.samples)
        assert gap.lower_bound is None
    difference = correct.mean() - others.mean()
    assert sum(gap.wins - gap.losses for gap in gaps) / len(pool) == pytest.approx(difference)


def test_bounds_share_the_level() -> None:
    gaps = _stage_gaps(CASCADE, REFERENCE, pool_of(2000), level=0.9)
    for gap in gaps:
        shared = paired_lower_bound(gap.wins, gap.losses, gap.samples, 1 - 0.1 / 3)
        assert gap.lower_bound == shared


def test_all_bounds_hold_together_as_often_as_the_level_says() -> None:
    truth = [each.difference for each in _stage_gaps(CASCADE, REFERENCE, pool_of(100_000, 99))]
    broken = 0
    for seed in range(60):
        gaps = _stage_gaps(CASCADE, REFERENCE, pool_of(400, seed), level=0.8)
        pairs = zip(gaps, truth, strict=True)
        broken += any(gap.lower_bound > true.high for gap, true in pairs)
    # Of 60 draws 12 may break; more than 21 have a chance of 0.2 %.
    assert broken <= 21


def test_a_stage_where_nothing_exits_promises_nothing() -> None:
    cascade = cm.Cascade.of(["small", "large"], [np.inf])
    first, last = _stage_gaps(cascade, REFERENCE, pool_of(100), level=0.9)
    assert (first.samples, first.difference, first.lower_bound) == (0, None, -1.0)
    assert last.samples == 100
    assert first.to_json()["difference"] is None


def test_the_reference_itself_has_no_gap() -> None:
    (gap,) = _stage_gaps(REFERENCE, REFERENCE, pool_of(100))
    assert (gap.samples, gap.wins, gap.losses) == (100, 0, 0)


def test_scores_that_are_any_number_are_refused() -> None:
    pool = pool_of(100)
    metric = cm.Metric("mean", lambda *_: np.ones(100), counted=False)
    with pytest.raises(cm.CommitteeError, match="they need 1 or 0"):
        _stage_gaps(CASCADE, REFERENCE, pool, metric)
