"""Queues of stages: in whatever order batches run, every sample is decided as if it were alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from committee import Cascade
from committee.errors import CascadeError
from committee.rule import scores
from committee.rule.flow import decide, drive
from committee.rule.outputs import Outputs
from committee.run.deciding import Decider
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
    # Some samples may run fewer stages.
    short = Cascade.of(["a", ["b", "c"]], [0.7])
    deciders = [(Decider(rule, keep_values=True), wanted(rule, table)) for rule in (CASCADE, short)]
    queues, exited = StageQueues(CASCADE, SPECS), {}
    dropped: set[int] = set()
    under_way: list[Any] = []
    made: list[Any] = []

    while len(made) < SAMPLES or {*range(SAMPLES)} - dropped - exited.keys():
        step = draw.integers(4)
        waiting = [stage for stage in range(3) if queues.waiting(stage)]
        if step == 0 and len(made) < SAMPLES:
            count = min(int(draw.integers(1, 30)), SAMPLES - len(made))
            decider, decided = deciders[draw.integers(2)]
            assert queues.add(numbered(len(made), count), decider) == len(made)
            made += [decided] * count
        elif step == 1 and waiting:
            batch = queues.take(draw.choice(waiting), int(draw.integers(1, 20)))
            assert not dropped.intersection(batch.numbers.tolist())
            under_way.append(batch)
        elif step == 2 and under_way:
            batch = under_way.pop(draw.integers(len(under_way)))
            rows = batch.inputs(RECIPE).ravel().astype(int)
            assert (rows == batch.numbers).all()
            some = np.sort(draw.permutation(len(batch))[: draw.integers(1, len(batch) + 1)])
            assert (batch.inputs_of(some, RECIPE).ravel() == rows[some]).all()
            answer = {name: Outputs("logits", table[name][rows]) for name in batch.models}
            for exits in queues.give(batch, queues.decide(batch, answer)):
                for place, number in enumerate(exits.numbers.tolist()):
                    assert number not in exited.keys() | dropped
                    own = exits.decisions.rows(place)
                    exited[number] = own.predicted, own.score, own.stage, own.values.tolist()
        elif made and draw.integers(4) == 0:
            gone = {*draw.integers(0, len(made), 2).tolist()} - exited.keys() - dropped
            queues.drop(gone)
            dropped |= gone
    assert sum(map(queues.waiting, range(3))) == 0
    for number, found in exited.items():
        own = made[number].rows(number)
        assert found == (own.predicted, own.score, own.stage, own.values.tolist())


def test_samples_that_are_dropped_wait_no_more() -> None:
    queues = StageQueues(CASCADE, SPECS)
    queues.add(numbered(0, 3), since=5.0)
    assert queues.since(0) == 5.0
    queues.drop([0, 2])
    assert queues.waiting(0) == 1
    batch = queues.take(0, 3)
    assert batch.numbers.tolist() == [1]
    queues.drop([1])
    answer = {"a": Outputs("logits", np.zeros((1, 3), np.float32))}
    (exits,) = queues.give(batch, queues.decide(batch, answer))
    assert not len(exits.numbers)
    assert queues.since(1) is None


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


def given(queues: StageQueues, stage: int, answer: dict[str, Outputs], **failed: Any) -> Any:
    """What leaves after all that waits at a stage has run."""
    batch = queues.take(stage, 10)
    (exits,) = queues.give(batch, queues.decide(batch, answer, **failed))
    return exits


def test_a_sample_that_cannot_be_scored_fails_alone(rule: Cascade) -> None:
    queues = StageQueues(rule, SPECS, go_on=True)
    queues.add(numbered(0, 7))
    first = outputs([[0, 5], [8, 0], [0, 1], [7, 0], [1, 0], [8, 0], [0, 6]])
    exits = given(queues, 0, {"a": first}, failed={6: "the model fails"})
    assert exits.failed == {
        1: "confidence 'unusual': ZeroDivisionError: an 8",
        3: "confidence 'unusual': NaN or infinite score",
        5: "confidence 'unusual': ZeroDivisionError: an 8",
        6: "the model fails",
    }
    assert exits.numbers.tolist() == [0]
    assert exits.decisions.predicted.tolist() == [1]
    assert queues.exits.tolist() == [5, 0, 0]
    # All that are left fail at the next stage, and are named by their numbers.
    late = {"b": first.rows(slice(0, 2)), "c": outputs([[8, 0], [7, 0]])}
    end = given(queues, 1, late)
    assert end.failed.keys() == {2, 4}
    assert not len(end.numbers)
    assert queues.waiting(2) == 0


def test_what_failed_at_one_stage_is_not_told_again_at_one_that_scores_nobody(
    rule: Cascade,
) -> None:
    queues = StageQueues(
        Cascade.of(["a", ["b", "c"], "d"], [4.0, np.inf], confidence="unusual", combine="last"),
        SPECS,
        go_on=True,
    )
    queues.add(numbered(0, 3))
    assert given(queues, 0, {"a": outputs([[8, 0], [0, 1], [0, 2]])}).failed.keys() == {0}
    two = outputs([[0, 1], [0, 2]])
    exits = given(queues, 1, {"b": two, "c": two})
    assert not exits.failed
    assert not len(exits.numbers)
    assert queues.take(2, 9).numbers.tolist() == [1, 2]


def test_without_going_on_what_cannot_be_scored_is_raised(rule: Cascade) -> None:
    queues = StageQueues(rule, SPECS)
    queues.add(numbered(0, 2))
    with pytest.raises(ZeroDivisionError):
        queues.decide(queues.take(0, 2), {"a": outputs([[8, 0], [0, 1]])})


def test_the_kinds_that_score_first_imply_the_combination_of_all_stages() -> None:
    rule = Cascade.of([["a"], ["b"]], [0.5])
    logits = Outputs("logits", np.random.default_rng(0).normal(size=(20, 3)))
    mixed = {"a": logits, "b": Outputs("probabilities", np.full((20, 3), 1 / 3))}
    with pytest.raises(CascadeError, match="gives probabilities, not logits") as whole:
        drive(decide(rule, 20), lambda asked: {n: mixed[n].rows(asked.rows) for n in asked.models})
    with pytest.raises(CascadeError) as late:
        Decider(rule)(1, mixed, 20)
    assert str(late.value) == str(whole.value)
