"""Monitors: e-processes against their definition, and how often and how soon an alarm is raised."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta, binom

from committee import Cascade, Pool, certify, search
from committee.certificates.e_values import ShareWithin, Uniform, log_weight, starts_of
from committee.certificates.monitors import BLOCK, Monitors, expected_of
from committee.errors import CascadeError, CommitteeError
from committee.pool.evaluate import stored_decisions
from committee.rule.expected import Expected, StageExits

INTERVALS = [(0.2, 0.3), (0.0, 0.01), (0.7, 1.0), (0.5, 0.5)]


@pytest.mark.parametrize(("low", "high"), INTERVALS)
@pytest.mark.parametrize("seen", [(0, 0), (3, 5), (40, 2), (0, 90)])
def test_no_share_in_the_interval_makes_the_evidence_grow(low, high, seen):
    null, now = ShareWithin(low, high), np.array(seen)
    more = np.exp(null.log_e(now + np.eye(2)))
    for share in np.linspace(low, high, 5):
        assert [share, 1 - share] @ more <= np.exp(null.log_e(now)) * (1 + 1e-9)


@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_the_mean_of_the_evidence_is_at_most_one(low, high):
    yes = np.arange(201)
    log_e = ShareWithin(low, high).log_e(np.stack([yes, 200 - yes], axis=-1))
    for share in np.linspace(low, high, 5):
        assert np.exp(binom.logpmf(yes, 200, share) + log_e).sum() <= 1 + 1e-9


def test_no_evidence_is_a_number_too():
    own = monitors(most_failed=1 - 1e-12)
    state = own.advance(own.start(), cells(own, 640, 1))
    assert all(math.isfinite(each) for each in state.evidence)
    assert own.resumed(json.loads(json.dumps(state.to_json()))) == state
    assert state.alarms == (None,) * 4


def test_evidence_is_the_mixture_of_likelihood_ratios():
    def ratio(share: float) -> float:
        prior = beta.pdf(share, 0.5, 0.5) / beta.sf(0.4, 0.5, 0.5)
        return (share / 0.4) ** 30 * ((1 - share) / 0.6) ** 20 * prior

    mixture, _ = quad(ratio, 0.4, 1)
    assert ShareWithin(0.0, 0.4).log_e(np.array([30, 20])) == pytest.approx(math.log(mixture))


def test_evidence_of_ranks_is_the_product_of_predictions():
    ranks, counts, log_e = [0, 3, 0, 0, 1, 0], np.zeros(4), 0.0
    for rank in ranks:
        log_e += math.log(4 * (counts[rank] + 0.5) / (counts.sum() + 2))
        counts[rank] += 1
    assert Uniform(4).log_e(counts) == pytest.approx(log_e)


@given(st.lists(st.integers(0, 5000), min_size=2, max_size=2), st.sampled_from(INTERVALS))
def test_the_bound_is_never_below_the_evidence(counts, interval):
    null = ShareWithin(*interval)
    assert null.log_e(np.array(counts)) <= null.bound(np.array(counts)) + 1e-9


def test_windows_share_the_capital_and_never_return():
    ends = np.arange(1, 600)
    starts = [{int(s) for s in row if s >= 0} for row in starts_of(ends, 10)]
    assert all(len(now) <= 2 * math.log2(end) + 3 for end, now in zip(ends, starts, strict=True))
    for end, (now, after) in enumerate(pairwise(starts), 1):
        assert after <= now | {end}
    for end, now in zip(ends, starts, strict=True):
        # Every length is there but for a factor of two, or the whole past.
        assert all(
            any(length <= end - s < 2 * length for s in now) for length in range(1, end // 2)
        )
    assert np.exp(log_weight(np.arange(10**6))).sum() < 1


def world(samples: int = 2000, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Stages and scores of a cascade of three stages that exits at 0.7 and 0.5."""
    scores = np.random.default_rng(seed).beta(3 * spread, 1.5, (3, samples)).cumsum(axis=0)
    scores = scores / np.arange(1, 4)[:, None]
    stage = np.select([scores[0] >= 0.7, scores[1] >= 0.6], [0, 1], 2)
    return stage, scores[stage, np.arange(samples)]


def monitors(samples: int = 2000, seed: int = 0, **options: float) -> Monitors:
    return Monitors(Expected.of("", "val", *world(samples, seed), 3), **options)


def cells(own: Monitors, samples: int, seed: int, spread: float = 1.0) -> np.ndarray:
    return own.cells(*world(samples, seed, spread))


def test_cells_are_those_that_were_counted():
    own = monitors()
    found = np.bincount(cells(own, 2000, 0), minlength=len(own.expected.counts))
    assert tuple(found) == own.expected.counts
    assert own.expected.samples == 2000
    # The surest exit is the first stage's with the highest score.
    best = own.cells(np.array([0, 2]), np.array([1.0, 0.0]))
    assert best.tolist() == [len(own.expected.counts) - 1, 0]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 900), min_size=1, max_size=8), st.integers(0, 99))
def test_state_is_the_same_however_samples_are_divided_and_after_a_file(sizes, seed):
    own = monitors()
    samples = cells(own, sum(sizes), seed, spread=0.9)
    samples[::7] = -1
    state = own.start(seed=3)
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        state = own.advance(state, samples[end - size : end])
        state = own.resumed(json.loads(json.dumps(state.to_json())))
    assert state == own.advance(own.start(seed=3), samples)
    assert state.samples == len(samples)


def test_a_state_is_refused_by_other_monitors():
    state = monitors().start().to_json()
    with pytest.raises(CascadeError, match="another cascade"):
        monitors(tau=0.05).resumed(state)


DAMAGES = {
    "totals": ([1], [-1] * 41, [2**60] * 41),
    "blocks": (-1, 7, 10**30, "x"),
    "seed": (-1, 2**70),
    "starts": ([], [[5, [0] * 41]], [[0, [0]]]),
    "pending": ([99], [-2], [0] * 32),
    "evidence": ([],),
    "alarms": ([], ["x"] * 4),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, each) for name, values in DAMAGES.items() for each in values]
)
def test_a_damaged_state_is_refused(name, value):
    own = monitors()
    state = own.start().to_json()
    assert own.resumed(state) == own.start()
    for data in ({}, {**state, name: value}):
        with pytest.raises(CommitteeError):
            own.resumed(data)


def test_ranks_are_uniform_and_independent_of_the_samples_before():
    own = monitors(samples=300)
    bins = own._rank_bins(own.start(), cells(own, 50_000, seed=1))
    expected = 50_000 / 100
    pairs = np.bincount(bins[:-1] * 10 + bins[1:], minlength=100)
    # 99 degrees of freedom; the chance of more than 160 is 1e-4.
    assert ((pairs - expected) ** 2 / expected).sum() < 160


def alarms(own: Monitors, samples: np.ndarray, seed: int = 0) -> dict[str, int | None]:
    state = own.advance(own.start(seed), samples)
    return {each.name: each.alarm_at for each in own.readings(state)}


def test_false_alarms_are_rarer_than_alpha():
    # Certifying samples are drawn anew each time. benchmarks/alarms.py: 1,000 runs of 100,000.
    runs, alpha = 80, 0.1
    raised = 0
    for run in range(runs):
        own = monitors(1000, seed=run, alpha=alpha, tau=0.0)
        raised += any(alarms(own, cells(own, 4000, seed=10_000 + run), run).values())
    assert raised <= binom.ppf(0.999, runs, alpha)
    # The tests do not sleep either.
    own = monitors(1000, alpha=alpha, tau=0.0)
    assert all(any(alarms(own, cells(own, 4000, s, 0.7)).values()) for s in range(5))


@pytest.mark.parametrize("certifying", [1, 11, 200])
@pytest.mark.parametrize("values", [5, 10**9])
def test_false_alarms_are_as_rare_with_few_certifying_samples_and_with_ties(certifying, values):
    def drawn(rng: np.random.Generator, samples: int) -> tuple[np.ndarray, np.ndarray]:
        score = rng.integers(0, values, samples) / values
        return np.where(score > 0.4, 0, np.where(score > 0.2, 1, 2)), score

    runs, alpha, raised = 40, 0.2, 0
    for run in range(runs):
        rng = np.random.default_rng([run, certifying])
        own = Monitors(Expected.of("", "val", *drawn(rng, certifying), 3), alpha, tau=0.0)
        raised += any(alarms(own, own.cells(*drawn(rng, 1024)), run).values())
    assert raised <= binom.ppf(0.999, runs, alpha)


@pytest.mark.parametrize("before", [0, 50_000])
def test_alarm_comes_soon_however_long_nothing_changed(before):
    own = monitors()
    good = cells(own, before, seed=1)
    raised = alarms(own, np.concatenate([good, cells(own, 3000, seed=2, spread=0.5)]))
    for name in ("exits of stage 0", "scores"):
        at = raised[name]
        assert at is not None
        assert before < at <= before + 1000
    assert raised["failures"] is None


def test_within_tau_is_no_alarm_of_exits():
    own = monitors(20_000, tau=0.06)
    stage, score = world(100_000, seed=5, spread=0.9)
    certified = own.expected.exits[0] / own.expected.samples
    assert 0.03 < certified - (stage == 0).mean() < 0.05
    raised = alarms(own, own.cells(stage, score))
    assert raised["exits of stage 0"] is None
    # The scores have no such tolerance.
    assert raised["scores"] is not None


def test_failures():
    own = monitors(most_failed=0.02)
    stage, score = world(5000, seed=1)
    few, many = (np.random.default_rng(0).random(5000) < share for share in (0.015, 0.06))
    assert alarms(own, own.cells(np.where(few, -1, stage), score))["failures"] is None
    raised = alarms(own, own.cells(np.where(many, -1, stage), score))
    assert raised["failures"] is not None
    assert raised["exits of stage 0"] is None


def test_readings_are_of_all_samples_and_alarms_stay():
    own = monitors()
    samples = np.concatenate([np.full(320, -1), cells(own, 6400, seed=1)])
    first, *_, last = own.readings(own.advance(own.start(), samples))
    assert last.alarm_at == BLOCK
    assert last.share == 320 / 6720
    assert first.share == pytest.approx((cells(own, 6400, 1) >= 20).mean())
    assert first.low < first.expected < first.high


def pool_of(samples: int, seed: int) -> Pool:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, samples)
    logits = {
        name: rng.normal(size=(samples, 3)) + strength * np.eye(3)[labels]
        for name, strength in (("small", 2), ("large", 4))
    }
    return Pool.from_arrays(
        labels, logits, kind="logits", costs={"small": 1, "large": 10}, split=f"s{seed}"
    )


def test_search_and_certify_write_what_they_saw(tmp_path):
    val, new = pool_of(2000, 0), pool_of(3000, 1)
    cascade = search(val).matching("large", within=0.01).cascade
    saved = Cascade.load(cascade.save(tmp_path / "c.json"))
    assert saved.expected == cascade.expected
    made = stored_decisions(cascade, val)
    assert cascade.expected.exits == tuple(np.bincount(made.stage))
    ratios = np.array(cascade.expected.exits) / 2000
    assert tuple(ratios) == pytest.approx(cascade.origin.promised.exit_ratios)
    given = certify(new, match="large", within=0.05, level=0.9, cascade=saved).cascade
    assert (given.expected.samples, given.expected.split) == (3000, "s1")
    assert given.is_certified
    assert given.origin == saved.origin
    chosen = certify(new, match="large", within=0.05, level=0.9)
    assert chosen.cascade.expected.samples == chosen.certificate.record.samples


def test_what_older_and_changed_files_say():
    cascade = search(pool_of(2000, 0)).matching("large", within=0.01).cascade
    old = replace(cascade, expected=None)
    assert expected_of(old).exits == cascade.expected.exits
    assert [each.name for each in Monitors.of(old).monitors] == ["exits of stage 0", "failures"]
    with pytest.raises(CascadeError, match="does not say"):
        Monitors.of(Cascade.of(["a", "b"], [0.5], combine="last"))
    stages = (replace(cascade.stages[0], threshold=0.123), cascade.stages[1])
    with pytest.raises(CascadeError, match="was changed"):
        Monitors.of(replace(cascade, stages=stages))


@pytest.mark.parametrize(
    ("edges", "counts"),
    [((0.5,), (1,)), ((0.5, 0.5), (1, 1, 1)), ((), (-1,)), ((), ()), ((), (10**300,))],
)
def test_impossible_exits_are_refused(edges, counts):
    with pytest.raises(CascadeError, match="expected"):
        StageExits(edges, counts)


def test_few_scores_and_none():
    assert StageExits.of(np.array([1.0, 1.0, 2.0])).counts == (0, 2, 1)
    assert StageExits.of(np.array([])) == StageExits((), (0,))
    assert StageExits.of(np.array([-np.inf])) == StageExits((), (1,))


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"tau": 1.0}, {"most_failed": 0.0}])
def test_settings_are_shares(options):
    with pytest.raises(CascadeError, match=next(iter(options))):
        monitors(**options)


def test_a_stage_that_the_cascade_lacks():
    with pytest.raises(CascadeError, match="exited at 7"):
        monitors().cells(np.array([7]), np.array([0.5]))
