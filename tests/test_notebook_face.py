"""What notebooks and terminals show of a pool, a front, a choice and a certificate."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

import committee as cm
from committee.errors import MissingExtraError

NASTY = "<b>small\x1b[31m"
rng = np.random.default_rng(0)
LABELS = rng.integers(0, 10, 1000)
SIGNAL = np.eye(10)[LABELS]
OUTPUTS = {
    NASTY: 2.0 * SIGNAL + rng.normal(size=(1000, 10)),
    "large": 3.5 * SIGNAL + rng.normal(size=(1000, 10)),
}


def pool(rows: slice, split: str = "val") -> cm.Pool:
    costs = {NASTY: 41e6, "large": 126e6}
    whole = cm.Pool.from_arrays(LABELS, OUTPUTS, kind="logits", costs=costs)
    return whole.rows(rows, split)


VAL, TEST = pool(slice(0, 500)), pool(slice(500, None), "test")
FRONT = cm.search(VAL, test=TEST)
CHOICE = FRONT.matching("large", 0.01)
PROMISE = cm.certify(TEST, match="large", within=0.05)
SHOWN = {
    "pool": VAL,
    "front": FRONT,
    "choice": CHOICE,
    "evaluation": CHOICE.evaluation,
    "cascade": CHOICE.cascade,
    "promise": PROMISE,
    "certificate": PROMISE.certificate,
    "verdict": PROMISE.certificate.holds_on(VAL),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_terminal_gets_one_short_line(name: str) -> None:
    text = repr(SHOWN[name])
    assert len(text) < 250
    assert text.isprintable()


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_gets_a_table_and_names_are_no_markup(name: str) -> None:
    html = SHOWN[name]._repr_html_()
    assert html.startswith("<table>")
    assert "<b>" not in html
    assert "\x1b" not in html


@pytest.mark.parametrize("name", ["pool", "front", "cascade", "certificate"])
def test_completion_offers_what_is_there_and_no_more(name: str) -> None:
    own = SHOWN[name]
    assert dir(own)
    for each in dir(own):
        assert not each.startswith("_")
        getattr(own, each)


def test_figures_in_words() -> None:
    ev = CHOICE.evaluation
    assert f"{100 * ev.accuracy:.2f} % (" in repr(ev)
    assert "on 500 samples of 'val'" in repr(ev)
    assert "41.0 M macs, given" in VAL._repr_html_()
    assert f"{CHOICE.cascade.thresholds[0]:.4g}" in repr(CHOICE.cascade)
    assert "accuracy on test" in FRONT._repr_html_()
    assert repr(cm.Cascade.ensemble(["a", "b"])) == "<Cascade: a+b; max_prob>"
    assert "None" not in cm.Cascade.of(["a", "b"], [0.5])._repr_html_()


def test_what_a_certificate_promises_and_new_samples_say_is_in_points() -> None:
    html = PROMISE.certificate._repr_html_()
    assert "<td>top-1 at most 5 points below that of large</td>" in html
    verdict = SHOWN["verdict"]
    assert f"{verdict.samples} samples (one-sided bounds " in repr(verdict)
    assert " points" in repr(verdict)
    assert "difference from the reference" in verdict._repr_html_()


def test_another_metric_is_named_and_costs_are_short() -> None:
    front = cm.search(VAL, metric=cm.top_k(5))
    assert "with top-5 " in repr(front)
    assert "with top-5 " in repr(front[0])
    assert "with accuracy " in repr(FRONT[0])
    cost = cm.Cost(0.0131234, "ms_per_sample", "measured", "one core, " * 20)
    assert repr(cost) == "<Cost: 0.0131 ms/sample, measured>"


def test_a_long_front_shows_its_ends() -> None:
    assert len(FRONT) > 40
    html = FRONT._repr_html_()
    assert html.count("<tr>") == 41
    assert f"{len(FRONT) - 40} in the middle are left out" in html


def test_a_frame_holds_every_number_in_full() -> None:
    frame = FRONT.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame["accuracy"].tolist() == [each.val.accuracy for each in FRONT]
    assert frame["test_average_cost"].tolist() == [each.test.average_cost for each in FRONT]
    assert frame["thresholds"].tolist() == [list(each.cascade.thresholds) for each in FRONT]


class Polars:
    """What is needed of polars."""

    class DataFrame:
        def __init__(self, rows: list[dict[str, Any]]) -> None:
            self.rows = rows


def test_a_frame_is_of_the_library_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "polars", Polars)
    assert len(FRONT.to_frame().rows) == len(FRONT)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtraError, match="pip install pandas"):
        FRONT.to_frame()


def test_a_plot_is_drawn_on_axes_and_gives_them_back() -> None:
    figure = pytest.importorskip("matplotlib.figure", reason="the extra report is not installed")
    axes = figure.Figure().add_subplot()
    assert FRONT.plot(axes) is axes
    assert {each.get_text() for each in axes.texts} == {r"<b>small\x1b[31m", "large"}
    line = next(each for each in axes.get_lines() if str(each.get_label()).startswith("Front"))
    accuracies = [100 * each.val.accuracy for each in FRONT]
    np.testing.assert_allclose(line.get_ydata(), accuracies)
    assert axes.get_xlabel() == "Average multiply-adds per sample (millions)"


def test_a_plot_makes_its_own_axes() -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="the extra report is not installed")
    matplotlib.use("agg")
    from matplotlib import pyplot

    axes = FRONT.plot()
    axes.figure.draw_without_rendering()
    pyplot.close(axes.figure)


def test_models_that_cost_nothing_are_drawn() -> None:
    figure = pytest.importorskip("matplotlib.figure", reason="the extra report is not installed")
    free = cm.Pool.from_arrays(
        LABELS, OUTPUTS, kind="logits", costs={NASTY: 0.0, "large": 3.0}, unit="dollars"
    )
    cm.search(free).plot(figure.Figure().add_subplot())


def test_values_that_are_no_shares_are_no_percentages() -> None:
    given = {"a": (5.0 * (LABELS < 3), rng.random(1000)), "b": (5.0 * (LABELS < 8), LABELS / 9)}
    costs = {"a": 1.0, "b": 3.0}
    graded = cm.Pool.from_arrays(
        None, given, kind="outcomes", bounds=(0, 5), costs=costs, unit="dollars"
    )
    front = cm.search(graded)
    assert "with mean value" in repr(front)
    assert "%" not in repr(front)
    assert "mean value" in front._repr_html_()
