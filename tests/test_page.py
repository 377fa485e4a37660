"""The page in a browser: it shows what evaluate() says, and needs nothing from elsewhere."""

from __future__ import annotations

import html
import json
import random
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import committee as cm
from committee.cli import main
from committee.pool.table import Cell, Column, Table
from committee.report.page import Section, page_of
from committee.report.rows import Report, Row
from committee.report.text import interval, named
from committee.text import human_cost, percent, times

CLASSES = 6
# In order of cost; strange, but what a store takes.
NAMES = ("tiny", "small-1", "base_b+", "large@64", "huge.v2")
# The model that the report is asked to match; speedups are over it.
MATCHED = "base_b+"
NASTY = ("<b>bold</b>", "\"a' & co", "</script><script>document.title='!'//", "–→ never")
PHONE = {"width": 375, "height": 800}


def outputs(names: tuple[str, ...], rows: int, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Labels, and logits of models of rising strength."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, rows)
    shared = rng.normal(size=(rows, CLASSES))
    found = {}
    for number, name in enumerate(names):
        found[name] = 0.7 * shared + rng.normal(size=shared.shape)
        found[name][np.arange(rows), labels] += 1.2 + 0.4 * number
    return labels, found


def costs_of(names: tuple[str, ...]) -> dict[str, float]:
    return {name: 20e6 * 2.1**number for number, name in enumerate(names)}


@dataclass(frozen=True)
class Written:
    """A page, and the front that it shows, in the order of its points."""

    path: Path
    front: cm.Front
    test: cm.Pool
    rows: list[Row]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The page that ``committee report`` writes of a store."""
    folder = tmp_path_factory.mktemp("page")
    for split, seed in (("val", 1), ("test", 2)):
        labels, logits = outputs(NAMES, 900, seed)
        np.save(folder / "labels.npy", labels)
        words = ["import", "--kind", "logits", "--split", split, "--out", f"{folder}/store"]
        words += ["--labels", f"{folder}/labels.npy"]
        for name in NAMES:
            np.save(folder / f"{name}.npy", logits[name])
            words += [f"{name}={folder}/{name}.npy", "--cost", f"{name}={costs_of(NAMES)[name]!r}"]
        assert main([*words, "--json"]) == 0
    out = folder / "report.html"
    store = f"{folder}/store"
    assert main(["report", store, "--match", MATCHED, "--out", str(out), "--json"]) == 0
    val, test = (cm.Pool.load(folder / "store" / split) for split in ("val", "test"))
    front = cm.search(val)
    chosen = front.matching(MATCHED).cascade
    top = Report(front, test, MATCHED, chosen).rows
    rows = [*Report(front, test).members, *Report(front, test).ensembles]
    rows += [row for row in top if row.role == "single model"]
    rows += [row for row in top if row.chosen]
    return Written(out, front, test, rows)


class Opened:
    """A page in the browser, and all that it said or asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}} | options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Any:
        return self.page

    def __exit__(self, *_: object) -> None:
        self.context.close()
        assert self.said == []
        assert len(self.asked) == 1


@pytest.fixture
def page(browser: Any, written: Written) -> Iterator[Any]:
    with Opened(browser, written.path) as opened:
        yield opened


# What the details say, all at once: a browser is quick, asking it is not.
DETAILS = """() => {
  const panel = document.getElementById("details");
  const texts = (selector) => [...panel.querySelectorAll(selector)].map((e) => e.textContent);
  const cells = (row) => [...row.cells].filter((cell) => !cell.hidden).map((e) => e.textContent);
  return {
    title: texts("h3")[0],
    rows: [...panel.querySelectorAll(".figures tbody tr")].map(cells),
    thresholds: texts(".value"),
    command: texts(".command")[0],
    spoken: document.querySelector('.point[aria-selected="true"]').getAttribute("aria-label"),
  };
}"""


@dataclass(frozen=True)
class Details:
    """What stands beside the chart, and what a screen reader says of the selected point."""

    title: str
    figures: dict[str, list[str]]
    thresholds: list[str]
    command: str
    spoken: str

    @classmethod
    def of(cls, told: dict[str, Any]) -> Details:
        figures = {name: texts for name, *texts in told.pop("rows")}
        return cls(figures=figures, **told)


def details(page: Any) -> Details:
    return Details.of(page.evaluate(DETAILS))


def visited(page: Any, count: int) -> list[Details]:
    """The details of the first so many points, each having had the focus."""
    script = f"""() => [...document.querySelectorAll(".point")].slice(0, {count}).map((point) => {{
      point.focus();
      return ({DETAILS})();
    }})"""
    return [Details.of(told) for told in page.evaluate(script)]


def figures(page: Any) -> dict[str, list[str]]:
    return details(page).figures


def told(evaluation: cm.Evaluation, reference: float) -> dict[str, str]:
    """What the details say of an evaluation."""
    stages = enumerate(evaluation.exit_ratios)
    leave = {f"Exit at stage {n}": f"{float(f'{100 * r:.3g}'):g} %" for n, r in stages}
    return {
        "Accuracy": percent(evaluation.accuracy),
        "95 % interval": interval(evaluation),
        "Samples": f"{evaluation.samples:,}",
        "Average cost": human_cost(evaluation.average_cost, "macs"),
        "Worst case": human_cost(evaluation.worst_case_cost, "macs"),
        f"Speedup over {MATCHED}": times(reference / evaluation.average_cost),
        **(leave if len(leave) > 1 else {}),
    }


def expected(row: Row) -> dict[str, list[str]]:
    reference = costs_of(NAMES)[MATCHED]
    both = [told(each, reference) for each in (row.test, row.val) if each is not None]
    return {name: [each[name] for each in both] for name in both[0]}


def title(page: Any) -> str:
    return details(page).title


def heading(row: Row) -> str:
    return named(row.cascade).replace("->", "→")


def middle(page: Any, number: int) -> tuple[float, float]:
    box = page.locator(".point").nth(number).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def apart(page: Any, written: Written, role: str) -> int:
    """A point of a role that no other is near."""
    places = page.locator(".point").evaluate_all(
        "(all) => all.map((each) => each.getBoundingClientRect()).map((box) => [box.x, box.y])"
    )
    gaps = {
        number: min(abs(a - x) + abs(b - y) for i, (a, b) in enumerate(places) if i != number)
        for number, (x, y) in enumerate(places)
        if written.rows[number].role == role
    }
    return max(gaps, key=lambda number: gaps[number])


# What it shows


def test_opens_on_the_front_with_what_was_chosen(page: Any, written: Written) -> None:
    assert page.locator("#chart").is_visible()
    assert page.locator("#still").is_hidden()
    assert page.locator(".point").count() == len(written.rows)
    chosen = written.rows[-1]
    assert chosen.role == "chosen"
    assert title(page) == heading(chosen)
    assert "chosen" in page.locator("#details > p").first.inner_text()
    assert figures(page) == expected(chosen)


def test_every_point_has_the_figures_of_evaluate(page: Any, written: Written) -> None:
    for row, shown in zip(written.rows, visited(page, len(written.rows)), strict=True):
        assert shown.title == heading(row)
        assert shown.figures == expected(row)
        assert shown.thresholds == [f"{each:.4g}" for each in row.cascade.thresholds]
        assert percent(row.test.accuracy) in shown.spoken
        assert heading(row) in shown.spoken


@pytest.mark.parametrize("role", ["front", "best ensemble", "single model"])
def test_a_click_selects_and_the_pointer_previews(page: Any, written: Written, role: str) -> None:
    at = page.locator("#details .command")
    first, number = at.inner_text(), apart(page, written, role)
    x, y = middle(page, number)
    # Beside the point, for no dot has to be hit.
    page.mouse.move(x + 3, y - 3)
    assert title(page) == heading(written.rows[number])
    page.mouse.move(5, 5)
    assert at.inner_text() == first
    page.mouse.click(x + 3, y - 3)
    page.mouse.move(5, 5)
    assert title(page) == heading(written.rows[number])
    assert figures(page) == expected(written.rows[number])
    assert page.locator('.point[aria-selected="true"]').count() == 1


def test_a_touch_selects(browser: Any, written: Written) -> None:
    with Opened(browser, written.path, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        number = apart(page, written, "single model")
        page.touchscreen.tap(*middle(page, number))
        assert title(page) == heading(written.rows[number])


def test_arrow_keys_go_along_a_line_and_between_kinds(page: Any, written: Written) -> None:
    singles = [n for n, row in enumerate(written.rows) if row.role == "single model"]
    page.locator(".point").nth(singles[0]).focus()
    for number in singles[1:]:
        page.keyboard.press("ArrowRight")
        assert title(page) == heading(written.rows[number])
    page.keyboard.press("ArrowRight")
    assert title(page) == heading(written.rows[singles[-1]])
    page.keyboard.press("Home")
    assert title(page) == heading(written.rows[singles[0]])
    page.keyboard.press("ArrowDown")
    assert written.rows[focused(page)].role == "best ensemble"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("End")
    assert focused(page) == singles[-1]


def focused(page: Any) -> int:
    found: int = page.evaluate(
        "[...document.querySelectorAll('.point')].indexOf(document.activeElement)"
    )
    return found


def test_tab_reaches_the_chart_once_then_the_details(page: Any) -> None:
    seen = []
    for _ in range(6):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                "[document.activeElement.getAttribute('role'), document.activeElement.type]"
            )
        )
    assert [role for role, _ in seen].count("option") == 1
    after = seen[[role for role, _ in seen].index("option") + 1 :]
    assert after[0][1] == "range"


def test_the_command_finds_and_saves_that_committee(
    page: Any, written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    last = {row.role: number for number, row in enumerate(written.rows)}
    some = [len(written.front) // 2, *last.values()]
    assert len(some) > 3
    commands = [shown.command for shown in visited(page, len(written.rows))]
    for number in some:
        words = shlex.split(commands[number])
        assert words[:2] == ["committee", "search"]
        assert main([*words[1:], "--json"]) == 0
        saved = cm.Cascade.load("cascade.json")
        row = written.rows[number]
        assert saved.stages == row.cascade.stages
        assert saved.origin.split == "val"
        assert cm.evaluate(saved, written.test) == row.test


# Sliders


def moved(cascade: cm.Cascade, thresholds: list[float | str]) -> cm.Cascade:
    values = [{"always": -np.inf, "never": np.inf}.get(str(t), t) for t in thresholds]
    return cm.Cascade.of(cascade.models_of_stages, values, cascade.confidence, cascade.combine)


COUNTED = """(number) => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const point = data.points[number], stages = data.stages[point.stages];
  const own = moved(stages, choicesOf(stages, point.thresholds));
  const tried = VECTORS.map((shares) => {
    const choices = stages.grid.map((each, stage) => Math.round(shares[stage] * (each.length + 1)));
    const thresholds = choices.map((choice, stage) => thresholdOf(stages, stage, choice));
    return { thresholds, figures: moved(stages, choices) };
  });
  return [{ thresholds: point.thresholds, figures: own }, ...tried];
}"""


def test_moved_figures_are_those_of_evaluate_to_the_last_sample(
    page: Any, written: Written
) -> None:
    chance = random.Random(5)
    vectors = [[0, 0, 0], [1, 1, 1], [0.5, 1, 0.5]]
    vectors += [[chance.random() for _ in range(3)] for _ in range(2)]
    script = COUNTED.replace("VECTORS", json.dumps(vectors))
    seen = set()
    for number, row in enumerate(written.rows[: len(written.front)]):
        if len(row.cascade.stages) == 1 or row.cascade.models_of_stages in seen:
            continue
        seen.add(row.cascade.models_of_stages)
        for answer in page.evaluate(script, number):
            judged = cm.evaluate(moved(row.cascade, answer["thresholds"]), written.test)
            own = answer["figures"]
            assert own["correct"] == judged.correct
            assert own["exits"] == list(judged.exit_ratios)
            assert own["cost"] == pytest.approx(judged.average_cost, rel=1e-12)
            assert (own["low"], own["high"]) == pytest.approx(judged.interval, rel=1e-12)
    assert len(seen) > 3


def test_a_slider_moves_the_point_and_its_figures(page: Any, written: Written) -> None:
    number = next(
        number
        for number, row in enumerate(written.rows)
        if len(row.cascade.stages) == 3 and min(row.test.exit_ratios) > 0.05
    )
    page.locator(".point").nth(number).focus()
    row = written.rows[number]
    assert page.locator(".moved-column:visible").count() == 0
    slider = page.get_by_role("slider", name="Threshold after stage 1")
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    texts = page.locator("#details .value").all_inner_texts()
    assert texts[0] == f"{row.cascade.thresholds[0]:.4g}"
    choice = int(slider.input_value())
    data = json.loads(page.locator("#data").text_content())
    grid = data["stages"][data["points"][number]["stages"]]["grid"]
    thresholds = [row.cascade.thresholds[0], grid[1][choice - 1]]
    assert texts[1] == f"{thresholds[1]:.4g}"
    judged = cm.evaluate(moved(row.cascade, thresholds), written.test)
    assert judged.correct != row.test.correct
    want = told(judged, costs_of(NAMES)[MATCHED])
    assert {name: cells[2] for name, cells in figures(page).items()} == want
    assert f"{want['Exit at stage 1']} exit" in slider.get_attribute("aria-valuetext")
    assert "exploration, not a choice" in page.locator("#details .note:visible").inner_text()
    # The marker stands where the chart puts such a cost and accuracy.
    x, y = middle(page, number)
    ghost = page.locator("#drawing .moved").bounding_box()
    at = ghost["x"] + ghost["width"] / 2, ghost["y"] + ghost["height"] / 2
    assert (at[0] < x) == (judged.average_cost < row.test.average_cost)
    assert (at[1] > y) == (judged.accuracy < row.test.accuracy)
    # Looking at another point and narrowing the window keep it.
    page.mouse.move(*middle(page, apart(page, written, "single model")))
    page.mouse.move(5, 5)
    page.set_viewport_size({"width": 700, "height": 900})
    assert {name: cells[2] for name, cells in figures(page).items()} == want
    page.wait_for_function("document.querySelector('#drawing').clientWidth < 700")
    assert page.locator("#drawing .moved").is_visible()
    page.get_by_role("button", name="Back to its own thresholds").click()
    assert figures(page) == expected(row)
    assert page.locator("#drawing .moved").is_hidden()


# Numbers as text


def test_numbers_are_written_as_in_every_table(page: Any) -> None:
    chance = random.Random(7)
    shares = [chance.random() for _ in range(300)] + [n / 800 for n in range(0, 801, 7)]
    values = [10 ** chance.uniform(-6, 14) for _ in range(400)] + [0, 999.5, 999500, 1e9, 0.25]
    assert page.evaluate("(all) => all.map(percent)", shares) == list(map(percent, shares))
    for unit in ("macs", "latency_ms", "dollars"):
        written_ = page.evaluate(
            "([all, unit]) => all.map((v) => humanCost(v, unit))", [values, unit]
        )
        assert written_ == [human_cost(value, unit) for value in values]
    ratios = [10 ** chance.uniform(-2, 4) for _ in range(200)]
    assert page.evaluate("(all) => all.map(times)", ratios) == list(map(times, ratios))


# Tables


def test_tables_sort_by_click_and_by_key(page: Any, written: Written) -> None:
    table = page.locator("#front")
    page.get_by_text("committees, cheapest first").click()
    names = [named(row.cascade) for row in written.rows[: len(written.front)]]
    assert table.locator("tbody th").all_inner_texts() == names
    sort = table.get_by_role("button", name="Accuracy on test")
    accuracy = sorted(row.test.accuracy for row in written.rows[: len(written.front)])

    def shown() -> list[float]:
        cells = table.locator("tbody td:nth-child(4)")
        found: list[float] = cells.evaluate_all("(all) => all.map((c) => Number(c.dataset.value))")
        return found

    assert shown() != accuracy
    sort.click()
    assert shown() == accuracy
    assert table.locator("[aria-sort=ascending]").inner_text().startswith("Accuracy on test")
    page.keyboard.press("Enter")
    assert shown() == accuracy[::-1]
    assert table.locator("[aria-sort]").get_attribute("aria-sort") == "descending"
    table.get_by_role("button", name="Committee").first.click()
    assert table.locator("[aria-sort]").count() == 1
    assert table.locator("tbody th").all_inner_texts() != names


def test_a_row_of_the_front_shows_its_point(page: Any, written: Written) -> None:
    page.get_by_text("committees, cheapest first").click()
    page.locator("#front").get_by_role("button", name="Worst case").click()
    last = page.locator("#front tbody tr").last
    accuracy = last.locator("td").nth(2).inner_text().split("\n")[0]
    last.get_by_role("button").click()
    assert figures(page)["Accuracy"][0] == accuracy


SECTIONS = [
    Section(
        name="made-up",
        title="Made <up> & new",
        source="section 9, table 99",
        sentences=("First sentence.", "Second, with 5 < 6."),
        tables=(
            Table(
                "Some models",
                (Column("model", itemgetter(0)), Column("gain", itemgetter(1))),
                (
                    ("a10", Cell("+1.0", 1.0, "0.5 to 1.5")),
                    ("a9", None),
                    ("<i>b</i>", Cell("−2.0", -2.0)),
                ),
                "A note.",
            ),
        ),
        svg='<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><g id="axes_1"/></svg>',
    ),
    Section(name="nothing", title="No such thing", left_out="the pool has one resolution"),
]


def test_sections_stand_after_the_front(browser: Any, written: Written, tmp_path: Path) -> None:
    text = page_of(Report(written.front, written.test), sections=SECTIONS)
    (tmp_path / "p.html").write_text(text, encoding="utf-8")
    ids = [part.split('"')[0] for part in text.split(' id="')[1:]]
    assert len(set(ids)) == len(ids)
    with Opened(browser, tmp_path / "p.html") as page:
        assert page.locator("nav a").all_inner_texts() == [
            "Made <up> & new", "No such thing", "Settings and costs",
        ]  # fmt: skip
        part = page.get_by_role("region", name="Made <up> & new")
        for sentence in ("After section 9, table 99", "First sentence.", "5 < 6.", "A note."):
            assert part.get_by_text(sentence).first.is_visible()
        assert part.locator(".still").get_attribute("aria-label").startswith("Made <up> & new")
        names = part.locator("tbody th")
        # Numbers sort as numbers, names as people sort them; what has no number stays last.
        for button, times_, order in (
            ("gain", 1, ["<i>b</i>", "a10", "a9"]),
            ("gain", 1, ["a10", "<i>b</i>", "a9"]),
            ("model", 1, ["<i>b</i>", "a9", "a10"]),
        ):
            part.get_by_role("button", name=button).click(click_count=times_)
            assert names.all_inner_texts() == order
        left = page.get_by_role("region", name="No such thing")
        assert left.inner_text().endswith("Left out: the pool has one resolution")


# Wherever it is read


@pytest.mark.parametrize("width", [320, 375])
def test_a_phone_needs_no_sideways_scrolling(browser: Any, written: Written, width: int) -> None:
    with Opened(browser, written.path, viewport={"width": width, "height": 700}) as page:
        slider = page.get_by_role("slider").first
        slider.focus()
        page.keyboard.press("ArrowLeft")
        assert page.locator(".moved-column:visible").count() > 3
        assert page.evaluate("document.documentElement.scrollWidth") == width
        # Texts of the chart are as large as they are meant to be.
        assert page.locator("#drawing").bounding_box()["width"] <= width
        assert page.evaluate("document.querySelector('#drawing').getScreenCTM().a") == 1


CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (text) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb(text).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = getComputedStyle(each).backgroundColor;
      if (!/, 0\\)$/.test(color)) return light(color);
    }
    return paper;
  };
  const all = (selector) => [...document.querySelectorAll(selector)];
  const saysSomething = (each) =>
    [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const least = (some, over) => Math.min(...some.map((each) => over(each, getComputedStyle(each))));
  const texts = all("main :not(svg *), header *").filter(saysSomething);
  const drawn = (_, style) => ratio(light(style.fill), paper);
  return {
    text: least(texts, (each, style) => ratio(light(style.color), behind(each))),
    label: least(all("#drawing text"), drawn),
    mark: least(all(".point.single, .point.front, .point.target"), drawn),
    paper,
  };
}"""


@pytest.mark.parametrize(
    ("scheme", "media"), [("light", "screen"), ("dark", "screen"), ("dark", "print")]
)
def test_contrast_is_enough(browser: Any, written: Written, scheme: str, media: str) -> None:
    with Opened(browser, written.path, color_scheme=scheme) as page:
        page.emulate_media(media=media, color_scheme=scheme)
        found = page.evaluate(CONTRAST)
        assert (found["paper"] < 0.1) == (scheme == "dark" and media == "screen")
        # What the Web Content Accessibility Guidelines ask of text and of graphics, level AA.
        assert found["text"] >= 4.5
        assert found["label"] >= 4.5
        assert found["mark"] >= 3


def test_print_leaves_out_what_only_hands_use(browser: Any, written: Written) -> None:
    with Opened(browser, written.path) as page:
        page.emulate_media(media="print")
        assert page.locator("#chart").is_visible()
        assert page.locator("#details .value").first.is_visible()
        for part in ("input[type=range]", "button.copy", ".hint"):
            assert page.locator(f"{part}:visible").count() == 0
        assert page.pdf(format="A4").startswith(b"%PDF")


def test_without_scripts_figure_and_tables_are_whole(browser: Any, written: Written) -> None:
    with Opened(browser, written.path, java_script_enabled=False) as page:
        assert page.locator("#still svg").is_visible()
        assert page.locator("#chart, #details").locator("visible=true").count() == 0
        assert page.locator("#front tbody tr").count() == len(written.front)
        assert page.locator("button").count() == 0


def test_a_screen_reader_finds_names_for_everything(page: Any, written: Written) -> None:
    assert page.get_by_role("listbox", name="Committees").get_by_role("option").count() == len(
        written.rows
    )
    graphic = page.get_by_role("group", name="Accuracy on test against average cost")
    assert graphic.count() == 1
    assert page.get_by_role("region", name=title(page)).count() == 1
    named_ = "(all) => all.every((e) => (e.ariaLabel || e.textContent || e.title).trim())"
    for role in ("slider", "button", "table", "link"):
        assert page.get_by_role(role).evaluate_all(named_)
    assert page.locator(".wide:not([role=region][aria-label])").count() == 0
    levels = "(all) => all.map((e) => Number(e.tagName[1]))"
    steps = np.diff(page.get_by_role("heading").evaluate_all(levels))
    assert steps.max() == 1


def test_names_of_models_are_only_text(browser: Any, tmp_path: Path) -> None:
    labels, logits = outputs(NASTY, 600, 3)
    pool = cm.Pool.from_arrays(labels, logits, kind="logits", costs=costs_of(NASTY))
    val, test = pool.rows(slice(0, 300), "val"), pool.rows(slice(300, 600), "test")
    front = cm.search(val, 3, grid=12)
    text = page_of(Report(front, test), title=NASTY[0])
    (tmp_path / "p.html").write_text(text, encoding="utf-8")
    rows = Report(front, test).members
    with Opened(browser, tmp_path / "p.html") as page:
        assert page.title() == NASTY[0]
        for row, shown in zip(rows, visited(page, len(rows)), strict=True):
            assert shown.title == heading(row)
            line = shown.command.removesuffix('.cascade.save("cascade.json")')
            assert eval(line, {"cm": cm, "front": front}).cascade == row.cascade
        assert page.locator("main b").count() == 0
        assert html.escape(NASTY[0]) in text


def test_without_a_judging_split_the_page_says_so(
    browser: Any, written: Written, tmp_path: Path
) -> None:
    (tmp_path / "p.html").write_text(page_of(Report(written.front)), encoding="utf-8")
    with Opened(browser, tmp_path / "p.html") as page:
        assert [len(cells) for cells in figures(page).values()] == [1] * len(figures(page))
        slider = page.get_by_role("slider").first
        slider.focus()
        page.keyboard.press("ArrowLeft")
        assert "on val picks its luck" in page.locator("#details .note:visible").inner_text()


@pytest.fixture(scope="module")
def certified(written: Written, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certified cascade file, and the page that ``committee report`` writes of it."""
    folder = tmp_path_factory.mktemp("certified")
    own = cm.certify(written.front.pool, match="huge.v2", within=0.08, level=0.9)
    assert len(own.cascade.stages) > 1
    file, out = own.cascade.save(folder / "c.json"), folder / "p.html"
    words = ["report", str(written.path.parent / "store"), "--cascade", str(file)]
    assert main([*words, "--out", str(out), "--json"]) == 0
    return file, out


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_begins_with_the_promise(
    browser: Any, certified: tuple[Path, Path], width: int
) -> None:
    cascade = cm.Cascade.load(certified[0])
    with Opened(browser, certified[1], viewport={"width": width, "height": 900}) as page:
        brief, promise = page.locator("header p").all()[:2]
        assert brief.inner_text().startswith("For a manager: Asking cheaper models first is ")
        assert promise.inner_text() == f"{named(cascade)} {cm.Certificate.of(cascade).text}."
        headings = page.get_by_role("heading", level=2).all_inner_texts()
        assert headings[:2] == ["Accuracy and cost", "The promise"]
        part = page.get_by_role("region", name="The promise").first
        cells = dict(
            part.locator("table")
            .first.locator("tbody tr")
            .evaluate_all(
                "(all) => all.map((row) => [...row.cells].map((cell) => cell.textContent))"
            )
        )
        record = cascade.certificate
        assert cells["Level"] == "90 %"
        assert cells["Lower bound"] == "−8.00 points"
        assert cells["Only huge.v2 is correct on"] == f"{record.losses} samples"
        assert cells["Tested on"] == f"{record.samples} samples of val"
        assert cells["On test"].startswith(("kept; ", "broken; ", "cannot tell"))
        gaps = part.locator("table").last.locator("tbody tr")
        assert gaps.count() == len(cascade.stages)
        assert part.get_by_text("with 90 % certainty no stage lies below").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        # Its thresholds are none of those that search tried, so sliders would show others.
        shown = page.locator("#details td.threshold").all_inner_texts()
        assert shown == [*(f"{each:.4g}" for each in cascade.thresholds), "takes the rest"]
        assert page.get_by_role("slider").count() == 0


def test_a_void_certificate_is_seen_first(
    browser: Any, written: Written, certified: tuple[Path, Path], tmp_path: Path
) -> None:
    cascade = cm.Cascade.load(certified[0])
    first, *rest = cascade.stages
    moved_ = replace(cascade, stages=(replace(first, threshold=first.threshold - 1e-3), *rest))
    text = page_of(Report(written.front, written.test, chosen=moved_))
    (tmp_path / "p.html").write_text(text, encoding="utf-8")
    with Opened(browser, tmp_path / "p.html") as page:
        assert (
            "is void: the cascade or its certificate was changed"
            in page.locator("header p.note").inner_text()
        )
        assert page.get_by_role("heading", name="The promise").count() == 0


def test_a_report_of_a_cascade_has_no_other_target(
    written: Written, certified: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", str(written.path.parent / "store"), "--cascade", str(certified[0])]
    assert main([*words, "--match", MATCHED]) == 2
    assert "--match goes with reports without --cascade" in capsys.readouterr().err
