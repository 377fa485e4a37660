"""The playground says what Python says, in a browser, from files alone."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

import committee as cm
from committee.certificates.exact_tests import paired_lower_bound
from committee.rule.cascade import Cascade
from committee.text import saving

DOCS = Path(__file__).parent.parent / "docs"
MAKER = runpy.run_path(str(DOCS / "playground.py"))
PARTS = ("playground_data.js", "exact_test.js", "playground.js")
MODELS = ("nano", "micro", "tiny", "small", "medium", "large")


@pytest.fixture(scope="module")
def halves() -> tuple[cm.Pool, cm.Pool]:
    return MAKER["halves"]()


@pytest.fixture(scope="module")
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The playground alone, opened from the disk."""
    scripts = "".join(f'<script src="{DOCS}/site/static/{name}"></script>' for name in PARTS)
    path = tmp_path_factory.mktemp("playground") / "page.html"
    path.write_text(f'<!doctype html><meta charset="utf-8"><div id="playground"></div>{scripts}')
    opened = browser.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.goto(path.as_uri())
    yield opened
    assert not problems


@pytest.mark.parametrize(
    ("models", "most", "reference", "within"),
    [
        (MODELS, 3, "large", 0.0),
        (MODELS, 3, "large", 0.005),
        (MODELS, 2, "medium", 0.01),
        (("nano", "tiny", "small", "medium"), 3, "medium", 0.002),
        (("micro", "large"), 2, "large", 0.03),
        (("nano", "small"), 1, "small", 0.0),
    ],
)
def test_a_choice_is_that_of_the_search(
    page: Any,
    halves: tuple[cm.Pool, cm.Pool],
    models: tuple[str, ...],
    most: int,
    reference: str,
    within: float,
) -> None:
    val, test = (pool.only(models) for pool in halves)
    front = cm.search(val, max_models=most)
    expected = front.matching(reference, within)
    numbers = [MODELS.index(name) for name in models]
    found = page.evaluate(
        "([models, most, reference, within]) => {"
        " const found = choose(models, most, reference, within);"
        " return { ...found.choice, name: nameOf(found.choice), front: found.front.length }; }",
        [numbers, most, MODELS.index(reference), within],
    )
    assert (found["name"], found["front"]) == (str(expected.cascade), len(front))
    cascade = Cascade.of(
        [stage.models for stage in expected.cascade.stages], expected.cascade.thresholds
    )
    alone = cm.Cascade.of([reference])
    for split, pool in (("val", val), ("test", test)):
        own = cm.evaluate(cascade, pool)
        assert found[split]["correct"] == own.correct
        assert found[split]["cost"] == pytest.approx(own.average_cost, rel=1e-12)
        assert found[split]["worst"] == own.worst_case_cost
        assert found[split]["exits"] == pytest.approx(own.exit_ratios)
    gain = cm.evaluate(cascade, test).accuracy - cm.evaluate(alone, test).accuracy
    at = MODELS.index(reference)
    wins, losses = found["wins"][at], found["losses"][at]
    assert (wins - losses) / len(test) == pytest.approx(gain)


@pytest.mark.parametrize(
    "counts", [(20, 25, 5000, 0.95), (0, 0, 5000, 0.9), (150, 163, 5000, 0.99), (3, 1, 40, 0.8)]
)
def test_a_bound_is_that_of_the_exact_test(page: Any, counts: tuple[int, int, int, float]) -> None:
    assert page.evaluate(f"pairedLowerBound{counts}") == paired_lower_bound(*counts)


def test_a_certificate_is_that_of_certify(page: Any, halves: tuple[cm.Pool, cm.Pool]) -> None:
    val, test = halves
    cascade = cm.search(val, max_models=3).matching("large").cascade
    certificate = cm.certify(test, match="large", within=0.01, cascade=cascade).certificate
    page.fill("#within", "0")
    page.wait_for_function("document.querySelector('.certain').textContent.length > 9")
    shown = page.inner_text(".certain")
    assert "at most 0.71 points less accurate" in shown
    lines = page.inner_text("pre")
    assert "confidence thresholds" in page.inner_text("table")
    ran = {"cm": cm, "val": val, "test": test}
    assert "than the 0.0 points asked, so certify refuses it" in shown
    with pytest.raises(cm.Infeasible, match=r"bound reached is −0\.71 points"):
        exec(compile(lines, "playground", "exec"), ran)  # the page is ours
    assert page.inner_text(".answer").startswith(f"{ran['choice'].cascade} is 6.6× cheaper than")
    ratios = (104.2, 99.6, 11.24, 4.449, 1.0, 0.5)
    assert page.evaluate("(ratios) => ratios.map(saving)", ratios) == [saving(r, 2) for r in ratios]
    assert "at most 0.71 points less accurate" in certificate.text


def test_keys_turn_the_knobs_and_the_answer_is_read_aloud(page: Any) -> None:
    page.fill("#within", "0.5")
    before = page.inner_text(".answer")
    page.focus("#within")
    for _ in range(15):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#within-text") == "2.0 points"
    assert page.inner_text(".answer") != before
    page.focus("#level")
    page.keyboard.press("End")
    assert page.get_attribute("#level", "aria-valuetext") == "99.9 %"
    assert page.locator("[aria-live] .answer").count() == 1
    unlabelled = page.evaluate(
        "[...document.querySelectorAll('input, select')].filter((e) => !e.labels.length).length"
    )
    assert unlabelled == 0
    page.focus("#model-large")
    page.keyboard.press("Space")
    assert page.locator("#reference option").all_inner_texts() == list(MODELS[:-1])
