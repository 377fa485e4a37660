"""Queues of stages: in whatever order batches run, every sample is decided as if it were alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from committee import Cascade
from committee.errors import NotFiniteError
from committee.rule.flow import decide, drive
from committee.rule.outputs import Outputs
from committee.run.sample_batch import SampleBatch
from committee.run.stage_queues import StageQueues
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing

RECIPE = Preprocessing((1, 1), channels=1, mean=(0.5,), std=(0.5,))
NAMES = ("a", "b", "c", "d")
SPECS = {name: ModelSpec(name, "python:m.py:f", RECIPE) for name in NAMES}
CASCADE = Cascade.of(["a", ["b", "c"], "d"], [0.7, 0.8])
SAMPLES = 300


def tables(seed: int) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    return {n: draw.normal(scale=2, size=(SAMPLES, 3)).astype(np.float32) for n in NAMES}


def wanted(cascade: Cascade, table: dict[str, Any]) -> Any:
    return drive(
        decide(cascade, SAMPLES, keep_values=True),
        lambda request: {n: Outputs("logits", table[n][request.rows]) for n in request.models},
    )


def numbered(first: int, count: int) -> SampleBatch:
    """Samples whose only pixel is their number."""
    rows = np.arange(first, first + count, dtype=np.float32)
    return SampleBatch(count, {}, {RECIPE: rows.reshape(-1, 1, 1, 1)})


@pytest.mark.parametrize("seed", range(25))
def test_any_order_of_batches_gives_the_same_decisions(seed: int) -> None:
    table, draw = tables(seed), np.random.default_rng(seed)
    queues, flows, exited = StageQueues(CASCADE, SPECS), {}, {}
    dropped: set[int] = set()
    under_way: list[Any] = []
    added = 0

    def see(exits: Any) -> None:
        first = flows[exits.first]
        for row in exits.rows.tolist():
            assert first + row not in exited
            made = exits.decisions.rows(row)
            exited[first + row] = (made.predicted, made.score, made.stage, made.values.tolist())
        if exits.ended:
            del flows[exits.first]

    while added < SAMPLES or flows:
        step = draw.integers(4)
        waiting = [stage for stage in range(3) if queues.waiting(stage)]
        if step == 0 and added < SAMPLES:
            count = min(int(draw.integers(1, 30)), SAMPLES - added)
            flows[queues.add(numbered(added, count), keep_values=True)] = added
            added += count
        elif step == 1 and waiting:
            batch = queues.take(draw.choice(waiting), int(draw.integers(1, 20)))
            assert [first + row for first, rows in batch.flows for row in rows] == [*batch.numbers]
            under_way.append(batch)
        elif step == 2 and under_way:
            batch = under_way.pop(draw.integers(len(under_way)))
            rows = batch.inputs(RECIPE).ravel().astype(int)
            some = np.sort(draw.permutation(len(batch))[: draw.integers(1, len(batch) + 1)])
            assert (batch.inputs_of(some, RECIPE).ravel() == rows[some]).all()
            answer = {name: Outputs("logits", table[name][rows]) for name in batch.models}
            gone = {*rows.tolist()} <= dropped and draw.integers(2)
            for exits in queues.give(batch, {} if gone else answer):
                see(exits)
        elif flows and draw.integers(4) == 0:
            first = draw.choice([*flows])
            rows = draw.integers(0, 30, 2).tolist()
            dropped |= {flows[first] + row for row in rows}
            for exits in queues.drop(first, rows):
                see(exits)
    made = wanted(CASCADE, table)
    assert {*range(SAMPLES)} - dropped <= exited.keys()
    for number in exited.keys() - dropped:
        values = made.values[number].tolist()
        own = made.predicted[number], made.score[number], made.stage[number], values
        assert exited[number] == own


def test_a_flow_whose_samples_are_all_dropped_ends() -> None:
    queues = StageQueues(CASCADE, SPECS)
    first = queues.add(numbered(0, 3))
    assert [*queues.drop(first, [0, 2])] == []
    (end,) = queues.drop(first, [1])
    assert end.ended
    assert not len(end.rows)
    assert queues.waiting(0) == 0
    assert queues.next_flow(0) is None
    assert [*queues.drop(first, [1])] == []


def test_what_a_flow_cannot_score_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    queues = StageQueues(CASCADE, SPECS)
    queues.add(numbered(0, 2))
    batch = queues.take(0, 2)
    (end,) = queues.give(batch, {"a": Outputs("logits", np.full((2, 3), np.nan))})
    assert end.ended
    assert isinstance(end.error, NotFiniteError)
