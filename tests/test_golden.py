"""One small pool whose front is written out in a file that a person can check by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from committee import Front, Pool, search

GOLDEN = json.loads((Path(__file__).parent / "golden" / "pool.json").read_text())


@pytest.fixture(scope="module")
def front() -> Front:
    pool = Pool.from_arrays(
        GOLDEN["labels"], GOLDEN["logits"], kind="logits", costs=GOLDEN["costs"]
    )
    return search(pool, confidence=GOLDEN["confidence"], grid=GOLDEN["grid"])


def test_front_is_as_written(front):
    samples = len(GOLDEN["labels"])
    assert [
        {
            "committee": str(member.cascade),
            "thresholds": list(member.cascade.thresholds),
            "correct": member.evaluation.correct,
            "total_cost": member.evaluation.average_cost * samples,
            "worst_case_cost": member.evaluation.worst_case_cost,
            "leaving": [share * samples for share in member.evaluation.exit_ratios],
        }
        for member in front
    ] == GOLDEN["front"]


def test_cascade_matches_the_large_model_for_less_than_half(front):
    choice = front.matching("large")
    assert str(choice.cascade) == "small -> medium -> large"
    assert choice.evaluation.average_cost == 5.5 < GOLDEN["costs"]["large"] / 2
