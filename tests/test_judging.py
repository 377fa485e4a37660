"""Judging sample by sample: what is fast equals what the definition decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from committee import Cascade, errors
from committee.pool.evaluate import stored_decisions
from committee.selection.evaluate_many import values_on
from strategies import RULES, calibrated_pools, pools, random_pool

THRESHOLDS = st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 1 / 3, 0.5, 0.7, 1.0, np.inf])


@given(st.data(), st.sampled_from(RULES), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_cascade_is_right_where_the_definition_says_so(data, rule, calibrated):
    kind, combine, confidence = rule
    pool = data.draw(calibrated_pools(kind) if calibrated else pools(kind))
    names = data.draw(st.permutations(pool.names))
    thresholds = data.draw(st.lists(THRESHOLDS, min_size=len(names) - 1, max_size=len(names) - 1))
    cascade = Cascade.of(names, thresholds, confidence, combine, pool.calibrations)
    expected = stored_decisions(cascade, pool).predicted == pool.samples.labels
    found = values_on(cascade, pool)
    assert found.astype(bool).tolist() == expected.tolist()


def test_what_cannot_be_judged_is_refused():
    pool = random_pool(0, models=2, samples=9)
    with pytest.raises(errors.UnknownNameError, match="no model 'z'"):
        values_on(Cascade.of(["z"]), pool)
    unlabelled = type(pool).from_arrays(None, {"a": np.ones((3, 2))}, kind="logits")
    with pytest.raises(errors.MisalignedError, match="has no labels"):
        values_on(Cascade.of(["a"]), unlabelled)
