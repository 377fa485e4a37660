"""Report: its numbers are those of evaluate(); its files are whole, safe and repeatable."""

import csv
import html
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest

import committee as cm
from committee.pool.comparison import identity_of
from committee.report.figure import figure_svg, front_figure, save_figure
from committee.report.page import page_of
from committee.report.rows import ENSEMBLE, SINGLE, Report
from committee.report.tables import front_csv
from committee.report.text import exits, interval
from committee.style import empty_figure, scale_cost
from committee.text import human_cost, percent, points, times

NAMES = ("tiny", "small", "base", "large", "huge")
STEPS = (1.2, 1.7, 2.1, 2.5, 2.9)
BELOW = "Below the range, in the colour of its kind"
NASTY = '<b>"x"</b>'


def pools(names=NAMES, costs=None, samples=2000, kind="logits", unit="macs"):
    """A pool of models of rising strength and cost, in two halves."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 6, samples)
    shared = rng.normal(size=(samples, 6))
    outputs = {}
    for name, step in zip(names, STEPS, strict=False):
        logits = 0.7 * shared + rng.normal(size=shared.shape)
        logits[np.arange(samples), labels] += step
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        outputs[name] = {
            "logits": logits,
            "probabilities": shares,
            "decisions": (logits.argmax(axis=1), shares.max(axis=1)),
        }[kind]
    costs = costs or {name: 20e6 * 2.1**i for i, name in enumerate(names)}
    pool = cm.Pool.from_arrays(labels, outputs, kind=kind, costs=costs, unit=unit)
    half = samples // 2
    return pool.rows(slice(0, half), "val"), pool.rows(slice(half, samples), "test")


@pytest.fixture(scope="module")
def both():
    return pools()


@pytest.fixture(scope="module")
def front(both):
    return cm.search(both[0], 3, grid=12, threads=1)


@pytest.fixture(scope="module")
def test(both):
    return both[1]


@pytest.fixture(scope="module")
def rows(front, test):
    return Report(front, test).rows


@pytest.fixture(scope="module")
def members(front, test):
    return Report(front, test).members


@pytest.fixture(scope="module")
def figure(front, test):
    return front_figure(Report(front, test))


@pytest.fixture(scope="module")
def page(front, test):
    return report(front, test)


@pytest.fixture(scope="module")
def alone(front):
    """The page of the split that chose."""
    return report(front, None)


def report(front, test, **options):
    return page_of(Report(front, test), **options)


def visible(text):
    """What a reader of the page sees: its text without the figure, tags, script and style."""
    text = re.sub(r"<(svg|script|style)\b.*?</\1>", " ", text, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", " ", text))


# Rows


def test_numbers_are_those_of_evaluate(rows, members, front, test):
    for row in [*rows, *members]:
        assert row.val == cm.evaluate(row.cascade, front.pool)
        assert row.test == cm.evaluate(row.cascade, test)
        assert row.reported is row.test
        assert row.gap == row.val.accuracy - row.test.accuracy


def test_summary_holds_singles_by_cost_then_ensemble_then_targets(rows, front):
    assert [row.role for row in rows] == [
        *[SINGLE] * 5, ENSEMBLE, "matches huge", "most accurate for huge's cost",
    ]  # fmt: skip
    assert [row.cascade.names[0] for row in rows[:5]] == list(NAMES)
    assert rows[-2].cascade == front.matching("huge").cascade
    assert rows[-1].cascade == front.at_most(rows[4].val.average_cost).cascade
    assert [row.chosen for row in rows] == [False] * 6 + [True] * 2


def test_speedup_is_over_the_reference_on_the_judging_split(front, test):
    for judge in (test, None):
        for row in Report(front, judge, "large").rows:
            pool = front.pool if judge is None else judge
            own = cm.evaluate(row.cascade, pool).average_cost
            large = cm.evaluate(cm.Cascade.of(["large"]), pool).average_cost
            assert row.reference == "large"
            assert row.speedup == pytest.approx(large / own)


def test_without_a_judging_split_the_choosing_one_is_named(front):
    for row in Report(front).rows:
        assert row.test is None
        assert row.gap is None
        assert row.reported.split == "val"


def test_front_rows_are_the_front_in_order(members, front):
    assert [row.cascade for row in members] == [c.cascade for c in front]


def test_a_target_out_of_reach_is_left_out(both):
    bounded = cm.search(both[0], 2, grid=6, worst_case=70e6, threads=1)
    roles = [row.role for row in Report(bounded, both[1]).rows]
    assert "matches huge" not in roles
    assert "most accurate for huge's cost" in roles


@pytest.mark.parametrize("kind", ["probabilities", "decisions"])
def test_every_kind_of_outputs_is_reported(kind):
    val, judge = pools(kind=kind)
    found = Report(cm.search(val, 2, grid=6, threads=1), judge)
    assert (ENSEMBLE in [row.role for row in found.rows]) == (kind != "decisions")
    assert front_figure(found) is not None


def test_the_split_that_chose_cannot_judge(front):
    with pytest.raises(cm.errors.MisalignedError, match="holds the same samples as 'val'"):
        Report(front, front.pool)


def test_an_unknown_reference_is_refused(front, test):
    with pytest.raises(cm.errors.UnknownNameError, match="'huge'"):
        Report(front, test, "hug")


# Numbers as text and tables


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (41_234_567, "macs", "41.2 M macs"),
        (999_999_999, "macs", "1.00 G macs"),
        (512, "macs", "512 macs"),
        (0, "macs", "0 macs"),
        (3.1, "latency_ms", "3.10 ms"),
        (12_345, "ms_per_sample", "12,345 ms/sample"),
        (0.00012, "dollars", "0.000120 dollars"),
    ],
)
def test_costs_are_written_for_people(value, unit, text):
    assert human_cost(value, unit) == text


def test_csv_parses_back_with_every_member_and_every_digit(members, front):
    read = list(csv.DictReader(io.StringIO(front_csv(members))))
    assert len(read) == len(front)
    for line, row in zip(read, members, strict=True):
        assert json.loads(line["stages"]) == [list(s.models) for s in row.cascade.stages]
        assert tuple(json.loads(line["thresholds"])) == row.cascade.thresholds
        for split, evaluation in (("val", row.val), ("test", row.test)):
            assert line[f"{split}_split"] == split
            assert float(line[f"{split}_accuracy"]) == evaluation.accuracy
            assert float(line[f"{split}_average_cost"]) == evaluation.average_cost
            assert tuple(json.loads(line[f"{split}_exit_ratios"])) == evaluation.exit_ratios
            assert (float(line[f"{split}_low"]), float(line[f"{split}_high"])) == (
                evaluation.interval
            )
        assert float(line["worst_case_cost"]) == row.val.worst_case_cost


def test_csv_without_a_judging_split_leaves_its_columns_empty(front):
    first = next(csv.DictReader(io.StringIO(front_csv(Report(front).members))))
    assert {value for name, value in first.items() if name.startswith("test_")} == {""}


# Figure


def test_svg_is_the_same_every_time(front, test, figure):
    first, second = (figure_svg(each) for each in (figure, front_figure(Report(front, test))))
    assert first == second
    assert "<dc:date>" not in first


def test_save_figure_writes_png_and_svg(figure, tmp_path):
    png, svg = save_figure(figure, tmp_path / "front.v1")
    assert png.name == "front.v1.png"
    assert png.read_bytes().startswith(b"\x89PNG")
    assert svg.read_text(encoding="utf-8").rstrip().endswith("</svg>")


def texts(figure):
    axes = figure.axes[0]
    return [figure.get_suptitle(), axes.get_xlabel(), axes.get_ylabel()] + [
        text.get_text() for text in axes.texts
    ]


def test_figure_says_which_split_chose_and_which_judged(figure, rows):
    title, x, y, *labels = texts(figure)
    assert title == "Chosen on val (1,000 samples), evaluated on test (1,000 samples)"
    assert x == "Average multiply-adds per sample (millions), log scale"
    assert y == "Top-1 accuracy on test (%)"
    assert set(NAMES) <= set(labels)
    lost = points(rows[-2].versus.difference.value)
    assert f"{times(rows[-2].speedup)} cheaper, {lost} points" in labels


def test_figure_without_a_judging_split_says_so(front):
    title, _, y, *_ = texts(front_figure(Report(front)))
    assert title.endswith("evaluated on the same")
    assert "val, the split that chose" in y


def test_figure_draws_what_the_judging_split_says(figure, members):
    lines = figure.axes[0].get_lines()
    line = next(line for line in lines if str(line.get_label()).startswith("Front"))
    assert line.get_ydata() == pytest.approx([100 * row.test.accuracy for row in members])
    assert line.get_xdata() == pytest.approx([row.test.average_cost / 1e6 for row in members])


def test_figure_of_one_model():
    val, judge = pools(["only"])
    assert "only" in texts(front_figure(Report(cm.search(val), judge)))


@pytest.mark.parametrize("free", [("tiny",), NAMES[:2]])
def test_figure_with_models_that_cost_nothing(free):
    names = NAMES[:2] if len(free) == 2 else NAMES
    costs = {name: 0.0 if name in free else 20.0 * 3**i for i, name in enumerate(names)}
    val, judge = pools(names, costs, unit="latency_ms")
    front = cm.search(val, 2, grid=6, threads=1)
    figure = front_figure(Report(front, judge))
    low, high = figure.axes[0].get_xlim()
    assert low < 0 < high
    assert "nan" not in figure_svg(figure).lower()
    assert "–" in report(front, judge)


def test_a_very_weak_model_does_not_crush_the_range():
    val, _ = pools()
    weak = np.random.default_rng(0).normal(size=(len(val), 6))
    outputs = {"weak": weak} | {name: val.outputs[name].values for name in NAMES}
    costs = {"weak": 1e6} | val.costs.values("macs")
    pool = cm.Pool.from_arrays(val.samples.labels, outputs, kind="logits", costs=costs)
    front = cm.search(pool, 1, threads=1)
    figure = front_figure(Report(front))
    assert figure.axes[0].get_ylim()[0] > 35
    assert any(text.startswith("▼ weak") for text in texts(figure))
    # It is on the front too, as the cheapest.
    assert BELOW in figure.axes[0].get_legend_handles_labels()[1]
    assert BELOW.lower() in visible(report(front, None)).lower()


def test_a_chosen_committee_is_in_the_range():
    val, judge = pools(NAMES[:3])
    front = cm.search(val, 2, grid=6, threads=1)
    weakest = cm.Cascade.of(["tiny"])
    figure = front_figure(Report(front, judge, chosen=weakest))
    assert figure.axes[0].get_ylim()[0] < 100 * cm.evaluate(weakest, judge).accuracy


def test_the_legend_tells_of_what_the_figure_has(front, test, figure, page, members):
    (axes,) = figure.axes
    lowest = min(100 * row.reported.accuracy for row in [*members, *Report(front, test).ensembles])
    assert lowest > axes.get_ylim()[0]
    assert BELOW not in axes.get_legend_handles_labels()[1]
    assert BELOW.lower() not in visible(page).lower()
    assert "moved by the sliders" in page
    singles = cm.search(front.pool, 1, threads=1)
    assert "moved by the sliders" not in report(singles, test)


def test_a_match_names_the_split_on_which_it_matches(figure, page, alone):
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert "Matches huge on val" in labels
    assert "matches huge on val" in visible(page)
    # Without a judging split all figures are of the one that chose.
    assert "matches huge on" not in visible(alone)


@pytest.mark.parametrize("right", [1.1, 1.5, 2.2, 6, 11, 90, 900, 5e3, 2e6])
@pytest.mark.parametrize("left", [0.0123, 1.0, 165.0])
def test_an_axis_of_cost_has_ticks_enough_to_read_its_scale(left, right):
    axes = empty_figure().add_subplot()
    scale_cost(axes, left, left * right)
    ticks = [tick for tick in axes.get_xticks() if left <= tick <= left * right]
    assert 4 <= len(ticks) <= 12
    told = [axes.xaxis.get_major_formatter()(tick) for tick in ticks]
    assert len({*told}) == len(told)


def test_names_are_no_mathematics():
    val, judge = pools(["$\\frac$", "_b"])
    figure = front_figure(Report(cm.search(val, grid=6, threads=1), judge, "$\\frac$"))
    assert figure_svg(figure)


# Page


def test_page_needs_nothing_from_outside(page):
    assert not re.search(r"""(src|href|action|data)\s*=\s*["']?\s*(https?:)?//""", page)
    assert not re.search(r"<(link|img|iframe|object|embed|base)\b|@import|url\((?!#)", page)
    assert "default-src 'none'" in html.unescape(page)
    assert page.count("<!DOCTYPE") == 1
    assert "<?xml" not in page


def test_page_holds_every_number_of_the_summary(page, rows):
    seen = re.sub(r"\s+", " ", visible(page))
    for row in rows:
        for evaluation in (row.val, row.test):
            assert percent(evaluation.accuracy) in seen
            assert human_cost(evaluation.average_cost, "macs") in seen
        told = [interval(row.test), times(row.speedup), exits(row.test), points(row.gap)]
        for part in [row.role, *told, human_cost(row.test.worst_case_cost, "macs")]:
            assert part in seen


def test_page_says_what_chose_what_judged_and_how(front, test):
    seen = visible(report(front, test, extra={"Data set": "made up & small"}))
    for part in (
        identity_of(front.pool, front.pool.names), test.samples.fingerprint, "1,000", "exact",
        f"{front.settings.cascades:,}", "max_prob", "mean_logits", "12 percentiles",
        "Winner's curse: val against test", "Data set", "made up & small", "not stated", "given",
    ):  # fmt: skip
        assert part in seen


def test_page_without_a_judging_split_warns(front, alone):
    seen = visible(alone)
    assert "There is no test split" in seen
    assert identity_of(front.pool, front.pool.names) in seen


def test_page_holds_the_whole_front_and_folds_a_long_one(front, test, page, members):
    table = page[page.index('<table id="front"') :]
    table = table[: table.index("</table>")]
    assert table.count('<th scope="row">') == len(members) > 30
    assert "<details>" in page
    # A short one stands on paper too.
    short = cm.search(front.pool.only(["huge"]))
    assert '<details class="prints">' in report(short, test.only(["huge"]))


def test_page_escapes_names_everywhere():
    val, judge = pools([NASTY, "</script><script>alert(1)//", "--> & co"])
    text = report(cm.search(val, grid=6, threads=1), judge, title=NASTY)
    assert NASTY not in text
    assert html.escape(NASTY, quote=False) in text.replace("&#34;", '"')
    assert text.count("<script>") == 1
    assert text.count("</script>") == 2
    assert "--> & co" not in text


# Extras


def test_a_missing_extra_is_answered_with_its_remedy(front, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (front_figure, page_of):
        with pytest.raises(cm.errors.MissingExtraError, match="Install it with: pip install"):
            draw(Report(front))


def test_importing_the_report_loads_no_plotting_library():
    code = (
        "import sys, committee.report; "
        "print([m for m in ('matplotlib', 'jinja2', 'rich') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_names_in_a_figure_do_not_cover_each_other():
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 6, 2000)
    names = [f"a_model_with_a_long_name_{n}" for n in range(24)]
    # Alike in cost and accuracy.
    outputs = {n: rng.normal(size=(2000, 6)) + 2.5 * np.eye(6)[labels] for n in names}
    costs = {name: 10 * 1.02**n for n, name in enumerate(names)}
    pool = cm.Pool.from_arrays(labels, outputs, kind="logits", costs=costs, unit="gpu_ms")
    figure = front_figure(Report(cm.search(pool, 1)))
    (axes,) = figure.axes
    figure.draw_without_rendering()
    shown = [each for each in axes.texts if each.get_text() in names]
    boxes = [each.get_window_extent() for each in shown]
    assert 0 < len(shown) < len(names)
    best = min(names, key=costs.__getitem__)
    assert best in [each.get_text() for each in shown]
    overlaps = sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert overlaps <= 2, "only names of the best models may"
    assert axes.get_xlabel().startswith("Average time per sample (ms, gpu_ms)")
    assert "Best single models for their cost" in axes.get_legend_handles_labels()[1]
