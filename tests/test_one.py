"""One sample at a time: the rule in the fewest steps decides as the flow does, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from committee import Cascade
from committee.arrays import Array
from committee.compiled import native
from committee.errors import NotFiniteError
from committee.rule.calibration import Calibration
from committee.rule.flow import decide, drive
from committee.rule.outputs import checked_outputs
from committee.run import runner as one_module
from committee.run.runner import _One

NAMES = ("c", "a", "b")
CLASSES = 5


def logits(kind: type) -> st.SearchStrategy[Array]:
    """One row, small numbers and large ones, with ties."""
    width = {np.float16: 16, np.float32: 32, np.float64: 64}[kind]
    most = {np.float16: 6e4, np.float32: 2.0**120, np.float64: 1e300}[kind]
    some = st.sampled_from([0.0, 1.0, -1.0, most, -most])
    any_ = st.floats(-40, 40, width=width) if width > 16 else st.floats(-32, 32, width=16)
    return arrays(kind, (1, CLASSES), elements=some | any_)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Cascade, dict[str, Array]]:
    """A cascade of up to three models, and what each answers."""
    names = NAMES[: draw(st.integers(1, 3))]
    cuts = [draw(st.booleans()) for _ in names[1:]]
    stages: list[list[str]] = [[names[0]]]
    for name, cut in zip(names[1:], cuts, strict=True):
        if cut:
            stages.append([name])
        else:
            stages[-1].append(name)
    thresholds = [draw(st.floats(0, 1)) for _ in stages[1:]]
    rows = {
        name: draw(st.sampled_from([np.float16, np.float32, np.float64]).flatmap(logits))
        for name in names
    }
    return Cascade.of(stages, thresholds), rows


def by_flow(cascade: Cascade, rows: dict[str, Any]) -> tuple[int, float, int]:
    decided = drive(
        decide(cascade, 1), lambda request: {n: check(n, rows[n]) for n in request.models}
    )
    return decided.predicted.item(), decided.score.item(), decided.stage.item()


def check(name: str, answer: Any) -> Any:
    return checked_outputs(f"model {name!r}", "logits", answer)


@given(worlds())
def test_decides_as_the_flow_does(world: tuple[Cascade, dict[str, Array]]) -> None:
    cascade, rows = world
    asked: list[str] = []

    def run(name: str) -> Array:
        asked.append(name)
        return rows[name]

    found = _One(cascade, logits=True)(run, check)
    assert found == by_flow(cascade, rows)
    # Stages after the exit are not run, and nothing is run twice.
    assert asked == [n for stage in cascade.stages[: found[2] + 1] for n in stage.models]


@pytest.mark.skipif(native is None, reason="the compiled part could not be built")
def test_the_common_rule_does_not_go_through_the_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError

    rows = {name: np.array([[1.0, 2.0, 0.5]], np.float32) for name in NAMES}
    cascade = Cascade.of(["c", "a"], [0.99])
    wanted = by_flow(cascade, rows)
    monkeypatch.setattr(one_module, "drive", never)
    assert _One(cascade, logits=True)(rows.__getitem__, check) == wanted
    # Any other rule does.
    for other, logits_alone in (
        (Cascade.of(["c", "a"], [0.99], confidence="logit_gap"), True),
        (Cascade.of(["c", "a"], [0.99], combine="mean_probabilities"), True),
        (Cascade.of(["c"], calibrations={"c": Calibration.of_temperature(2.0)}), True),
        (cascade, False),
    ):
        with pytest.raises(AssertionError):
            _One(other, logits=logits_alone)(rows.__getitem__, check)


@pytest.mark.parametrize("late", [False, True])
def test_a_class_that_is_masked_is_decided_as_by_the_flow(late: bool) -> None:
    rows = {"c": np.array([[0.0, 0.5, 0.1]]), "a": np.array([[0.2, 0.0, 0.4]])}
    rows["a" if late else "c"][0, 1] = -np.inf
    cascade = Cascade.of(["c", "a"], [0.9])
    found = _One(cascade, logits=True)(rows.__getitem__, check)
    assert found == by_flow(cascade, rows)
    assert found[0] != 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("late", [False, True])
def test_what_is_not_finite_is_refused_by_name(wrong: float, kind: type, late: bool) -> None:
    rows = {"c": np.zeros((1, 3), kind), "a": np.zeros((1, 3), kind)}
    rows["a" if late else "c"][0, 1] = wrong
    with pytest.raises(NotFiniteError, match=f"model '{'a' if late else 'c'}'"):
        _One(Cascade.of(["c", "a"], [0.9]), logits=True)(rows.__getitem__, check)


@pytest.mark.parametrize("answer", [[[1.0, 2.0, 0.0]], np.array([[1, 2, 0]])])
def test_answers_of_other_types_are_taken(answer: Any) -> None:
    cascade = Cascade.of(["c"])
    assert _One(cascade, logits=True)(lambda _: answer, check) == by_flow(cascade, {"c": answer})
