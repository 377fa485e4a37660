"""Queues of stages: in whatever order batches run, every sample is decided as if it were alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from committee import Cascade
from committee.rule import scores
from committee.rule.flow import decide, drive
from committee.rule.outputs import Outputs
from committee.run.sample_batch import SampleBatch
from committee.run.stage_queues import Exits, StageQueues
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
    turns: list[Any] = []
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
            turns += queues.give(batch, {} if gone else answer)
        elif flows and draw.integers(4) == 0:
            first = draw.choice([*flows])
            rows = draw.integers(0, 30, 2).tolist()
            dropped |= {flows[first] + row for row in rows}
            turns += queues.drop(first, rows)
        while turns and draw.integers(2):  # what is dropped meanwhile does not matter
            see(turns.pop(draw.integers(len(turns))).taken())
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
    (turn,) = queues.drop(first, [1])
    end = turn.taken()
    assert end.ended
    assert not len(end.rows)
    assert queues.waiting(0) == 0
    assert queues.next_flow(0) is None
    assert [*queues.drop(first, [1])] == []


def unusual(logits: Any, kind: str) -> Any:
    """The largest logit; no number where the first is 7, an error where it is 8."""
    if (logits[:, 0] == 8).any():
        raise ZeroDivisionError("an 8")
    return np.where(logits[:, 0] == 7, np.nan, logits.max(axis=1))


@pytest.fixture
def rule(monkeypatch: pytest.MonkeyPatch) -> Cascade:
    monkeypatch.setitem(scores.CONFIDENCES, "unusual", unusual)
    return Cascade.of(["a", ["b", "c"], "d"], [4.0, 4.0], confidence="unusual", combine="last")


def outputs(rows: list[list[float]]) -> Outputs:
    return Outputs("logits", np.array(rows, np.float32))


def given(queues: StageQueues, stage: int, answers: dict[str, Outputs]) -> Exits:
    """What the answers to all that wait at a stage decide."""
    (turn,) = queues.give(queues.take(stage, SAMPLES), answers)
    return turn.taken()


def test_a_sample_that_cannot_be_scored_fails_alone(rule: Cascade) -> None:
    queues = StageQueues(rule, SPECS, go_on=True)
    queues.add(numbered(0, 6), keep_values=True)
    first = outputs([[0, 5], [8, 0], [0, 1], [7, 0], [1, 0], [8, 0]])
    exits = given(queues, 0, {"a": first})
    assert exits.failed.keys() == {1, 3, 5}
    assert exits.failed[1] == exits.failed[5] == "confidence 'unusual': ZeroDivisionError: an 8"
    assert exits.failed[3] == "confidence 'unusual': NaN or infinite score"
    assert exits.stayed.tolist() == [2, 4]
    assert exits.decisions.rows(0).predicted == 1
    # All that are left fail at the next stage, and are named by their rows of the flow.
    late = {"b": first.rows(slice(0, 2)), "c": outputs([[8, 0], [7, 0]])}
    end = given(queues, 1, late)
    assert end.ended
    assert end.failed.keys() == {2, 4}
    assert end.decisions.rows(0).predicted == 1


def test_what_failed_at_one_stage_is_not_told_again_at_one_that_scores_nobody(
    rule: Cascade,
) -> None:
    queues = StageQueues(
        Cascade.of(["a", ["b", "c"], "d"], [4.0, np.inf], confidence="unusual", combine="last"),
        SPECS,
        go_on=True,
    )
    queues.add(numbered(0, 3))
    exits = given(queues, 0, {"a": outputs([[8, 0], [0, 1], [0, 2]])})
    assert exits.failed.keys() == {0}
    two = outputs([[0, 1], [0, 2]])
    exits = given(queues, 1, {"b": two, "c": two})
    assert not exits.failed
    assert exits.stayed.tolist() == [1, 2]


def test_without_going_on_what_cannot_be_scored_is_raised(rule: Cascade) -> None:
    queues = StageQueues(rule, SPECS)
    queues.add(numbered(0, 2))
    with pytest.raises(ZeroDivisionError):
        given(queues, 0, {"a": outputs([[8, 0], [0, 1]])})
