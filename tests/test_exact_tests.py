"""Exact tests keep their level, whatever the share of discordant samples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multinomial

from committee.certificates.exact_tests import (
    mean_upper_bound,
    paired_lower_bound,
    paired_p_value,
    share_lower_bound,
)
from committee.certificates.paths import _share_p_value

SAMPLES = 40


@pytest.mark.parametrize(("within", "level"), [(0.0, 0.9), (0.01, 0.95), (0.2, 0.9), (-0.05, 0.95)])
def test_a_false_difference_passes_no_more_often_than_the_level_allows(within, level):
    tables = [(w, n - w) for n in range(SAMPLES + 1) for w in range(n + 1)]
    passing = {t for t in tables if paired_p_value(*t, SAMPLES, within, level) <= 1 - level}
    counts = np.array([(w, n, SAMPLES - w - n) for w, n in sorted(passing)])
    sizes = [
        multinomial.pmf(counts, SAMPLES, [(d - within) / 2, (d + within) / 2, 1 - d]).sum()
        for d in np.linspace(max(abs(within), 1e-6), 1, 51)
    ]
    assert 0.8 * (1 - level) < max(sizes) <= 1 - level
    # One loss less, or one win more, never turns a pass into a failure.
    for wins, losses in passing:
        assert losses == 0 or (wins, losses - 1) in passing
        assert wins + losses == SAMPLES or (wins + 1, losses) in passing


def test_the_paired_bound_is_close_to_the_normal_one():
    # Its distance is 0.556 points; that of the normal bound, which is not valid, is 0.546.
    assert paired_lower_bound(137, 138, 5000, 0.95) == pytest.approx(-0.0058, abs=2e-4)


def test_bounds_and_p_values_of_a_share_agree():
    bound = share_lower_bound(990, 1000, 0.95)
    assert _share_p_value(990, 1000, bound) == pytest.approx(0.05, abs=1e-9)
    assert share_lower_bound(0, 10, 0.95) == 0
    assert _share_p_value(0, 10, 0.5) == 1


def test_the_bound_of_a_mean_fails_no_more_often_than_the_level_allows():
    rng = np.random.default_rng(0)
    costs, chances = np.array([0.2, 1.0, 3.0]), np.array([0.7, 0.2, 0.1])
    draws = (rng.choice(costs, 400, p=chances) for _ in range(400))
    misses = sum(mean_upper_bound(each, 3.0, 0.9) < costs @ chances for each in draws)
    assert misses <= 55  # 40 expected at most; 55 is 2.5 standard deviations more
