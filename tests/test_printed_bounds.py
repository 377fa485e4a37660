"""A printed bound is never better than the true one, and off by less than its last digit."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import committee as cm
from committee.certificates.certificate import Certificate, Checked
from committee.certificates.figures import level_text, share_text
from committee.certificates.stages import Gaps, StageGap
from committee.certificates.verdict import Verdict
from committee.report.promise import figures_of, gaps_table
from committee.text import human_cost, percent, points, to_decimals, to_digits
from test_certificate_travels import certified

# Doubles that should be round figures are rounded as such.
NOISE = 1e-11
SHARES = st.floats(0, 1)
DIFFERENCES = st.floats(-1, 1)
BOUND = re.compile(r"at (least|most) ([\d.]+) points (more|less)")
CASCADE = cm.Cascade.of(["small", "large"], [0.9], combine="mean_logits")


def number(text: str) -> float:
    """The first number of a text."""
    found = re.search(r"[-−+]?[\d,.]*\d(e-\d+)?", text)
    assert found is not None
    return float(found[0].replace("−", "-").replace(",", ""))


@given(DIFFERENCES, st.integers(0, 6))
def test_decimals_are_rounded_outward(value: float, decimals: int) -> None:
    low, high = (to_decimals(value, decimals, side) for side in ("down", "up"))
    assert low - NOISE <= value <= high + NOISE
    assert high - low <= 10.0**-decimals + NOISE
    assert to_decimals(low, decimals, "down") == low
    assert to_decimals(value, decimals, "nearest") == value


@given(st.floats(1e-9, 1e15), st.integers(1, 6))
def test_digits_are_rounded_outward(value: float, digits: int) -> None:
    low, high = (to_digits(value, digits, side) for side in ("down", "up"))
    assert low * (1 - NOISE) <= value <= high * (1 + NOISE)
    assert high - low <= 10.0 ** (1 - digits) * value * (1 + 1e-9)
    assert float(f"{low:.{digits}g}") == low


@pytest.mark.parametrize("within", [0.0, 0.001, 0.003, 0.005, 0.007, 0.01, 0.02, 0.07, 0.3])
def test_a_margin_that_was_asked_for_is_printed_as_it_is(within: float) -> None:
    assert number(share_text(-within, True, "down")) == pytest.approx(-100 * within)
    assert number(percent(1 - within, "down")) == pytest.approx(100 * (1 - within), abs=1e-9)


@given(SHARES)
def test_shares_and_points(value: float) -> None:
    for text in (percent(value, "down"), share_text(value, True, "down"), points(value, "down")):
        assert 100 * value - 0.01 - NOISE <= number(text) <= 100 * value + NOISE
    for text in (percent(value, "up"), share_text(value, True, "up"), points(value, "up")):
        assert 100 * value - NOISE <= number(text) <= 100 * value + 0.01 + NOISE


@given(st.floats(1e-3, 9e14), st.sampled_from(["macs", "latency_ms", "dollars"]))
def test_costs(value: float, unit: str) -> None:
    text = human_cost(value, unit, "up")
    scale = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get(text.split(" ")[1], 1.0)
    assert value * (1 - NOISE) <= number(text) * scale <= 1.01 * value


@given(st.floats(1e-6, 1, exclude_max=True))
@example(1 - 1e-9)
def test_levels(level: float) -> None:
    assert 0 < number(level_text(level)) <= 100 * level * (1 + NOISE)


@given(DIFFERENCES)
@example(0.0)
@example(-0.0055634)
def test_the_sentence_of_a_difference(bound: float) -> None:
    text = Certificate.of(certified(CASCADE, lower_bound=bound)).text
    found = BOUND.search(text)
    assert found is not None
    assert "-" not in found[0]
    which, figure, side = found.groups()
    assert (which, side) == (("least", "more") if bound >= 1e-4 else ("most", "less"))
    signed = float(figure) if side == "more" else -float(figure)
    assert signed <= 100 * bound + NOISE
    assert signed == pytest.approx(100 * bound, abs=0.01 + NOISE)


@given(SHARES, st.sampled_from(["agreement", "at least"]))
def test_the_sentence_of_a_share(bound: float, promise: str) -> None:
    text = Certificate.of(certified(CASCADE, lower_bound=bound, promise=promise)).text
    figure = number(text.split("certainty")[1])
    assert 100 * bound - 0.01 - NOISE <= figure <= 100 * bound + NOISE


@given(DIFFERENCES, DIFFERENCES, st.sampled_from(["within", "at least"]))
def test_what_new_samples_say(one: float, two: float, promise: str) -> None:
    low, high = sorted((abs(one), abs(two)) if promise == "at least" else (one, two))
    certificate = Certificate.of(certified(CASCADE, promise=promise))
    found = Checked(
        "test", certificate, Verdict("open", low, low, high, 100, paired=promise == "within")
    )
    down, up = map(number, found.lines[1].split("bounds")[1].split(", ", 1))
    assert down <= 100 * low + NOISE
    assert up >= 100 * high - NOISE


@given(DIFFERENCES, SHARES.filter(lambda level: 1e-3 < level < 1))
def test_the_table_of_gaps(bound: float, level: float) -> None:
    stage = StageGap(0, ("small",), 9, 0, 0, None, bound)
    table = gaps_table(Gaps("large", "test", "top-1", (stage,), level))
    cell = table.cells[0][-1]
    assert cell.value == bound
    assert number(cell.text) <= 100 * bound + NOISE
    assert number(table.note.split("with")[1]) <= 100 * level + NOISE


@given(DIFFERENCES, st.floats(1, 1e9), st.floats(1e-6, 0.5))
def test_the_figures_of_a_difference(bound: float, cost: float, margin: float) -> None:
    figures = figures_with(lower_bound=bound, margin=margin, max_cost=cost, cost_bound=0.9 * cost)
    assert number(figures["Lower bound"]) <= 100 * bound + NOISE
    most, reached = map(number, figures["Cost promised"].split("bound"))
    assert most >= cost * (1 - NOISE)
    assert reached >= 0.9 * cost * (1 - NOISE)
    assert number(figures["Promise"].split("most")[1]) >= 100 * margin * (1 - NOISE)


@given(SHARES, st.floats(1e-6, 0.5))
def test_the_figures_of_a_share(bound: float, margin: float) -> None:
    for promise, words, goal in (("at least", " of ", margin), ("agreement", " on ", 1 - margin)):
        figures = figures_with(lower_bound=bound, margin=margin, promise=promise)
        assert number(figures["Lower bound"]) <= 100 * bound + NOISE
        assert number(figures["Promise"].split(words)[-1]) <= 100 * goal + NOISE


def figures_with(**changes: object) -> dict[str, str]:
    cascade = certified(CASCADE, unit="ms", **changes)
    return dict(figures_of(cascade))
