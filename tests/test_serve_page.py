"""The page of a server in a browser: what is served, uploads, and where samples exit."""

from __future__ import annotations

import io
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import committee as cm
from app_world import images_runner, records_runner, served
from committee.pool.pool import Pool
from committee.rule.expected import Expected
from committee.serve.page import about
from committee.serve.samples import SampleReader
from committee.serve.settings import Observing
from export_world import embedded
from small_world import images
from test_page import CONTRAST

NASTY = ("<b>bold</b>", "\"a' & co", "</script><script>document.title='!'//")
IMAGES = images(6)


def png(pixels: np.ndarray) -> bytes:
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "PNG")
    return made.getvalue()


def files(*pixels: np.ndarray, broken: bool = False) -> list[dict[str, Any]]:
    """Files as a browser's upload takes them."""
    made = [(f"{n}.png", png(each)) for n, each in enumerate(pixels)]
    made += [("notes.txt", b"no image")] if broken else []
    return [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in made]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def runner(folder: Path) -> cm.Runner:
    return images_runner(folder, NASTY)


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with served(lambda: images_runner(folder, NASTY)) as found:
        yield found


@contextmanager
def opened(browser: Any, address: str, expected: tuple[str, ...] = (), **options: Any) -> Any:
    """The page, which may say and ask for nothing but what is expected of it."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    context.close()
    assert [each for each in said if not any(some in each for some in expected)] == []
    assert all(url.startswith((address, "blob:", "data:")) for url in asked), asked


def decide(page: Any, *uploads: dict[str, Any]) -> list[str]:
    """The answers to some files."""
    page.get_by_label("Images, JPEG or PNG").set_input_files([*uploads])
    page.get_by_role("button", name="Decide").click()
    page.get_by_role("status").get_by_text("Answers: ").wait_for()
    return page.get_by_role("list", name="Answers").locator(".answer").all_inner_texts()


def test_the_page_shows_what_is_served(browser: Any, address: str, runner: cm.Runner) -> None:
    with opened(browser, address) as page:
        page.wait_for_selector("#stages tr")
        assert page.get_by_role("heading", level=1).inner_text() == "cascade"
        assert page.locator("#rule").inner_text() == "one -> two"
        assert page.title() == "cascade – committee serve"
        rows = page.locator("#stages tr").all_inner_texts()
        assert [row.split("\t")[0] for row in rows] == ["0: one", "1: two"]
        assert "0.9" in rows[0]
        assert "always" in rows[1]
        assert "11.0 macs" in rows[1]
        assert "This cascade has no certificate" in page.locator("#certificate").inner_text()
        assert NASTY[2] in page.locator("#what").inner_text()
        assert f"{address}/classify" in page.locator("#curl").inner_text()
        assert page.get_by_label("A record as JSON").is_hidden()


def test_an_upload_is_answered_as_the_runner_decides(
    browser: Any, address: str, runner: cm.Runner
) -> None:
    with opened(browser, address) as page:
        found = decide(page, *files(*IMAGES[:5], broken=True))
        assert len(found) == 6
        for image, text in zip(IMAGES, found[:5], strict=False):
            made = runner(image)
            lines = text.split("\n")
            assert lines[2].startswith(made.class_name)
            models = " + ".join(runner.cascade.stages[made.stage].models)
            where = f"Exit at stage {made.stage} ({models}), confidence {made.confidence:.3f}"
            assert where in lines[-1]
        assert " ".join(found[5].split()) == "notes.txt Not decided: no JPEG or PNG image"
        assert page.locator(".answer img").count() == 5
        loaded = "[...document.images].every((each) => each.naturalWidth === 4)"
        assert page.evaluate(loaded)
        # One file is answered in another form.
        assert len(decide(page, *files(IMAGES[0]))) == 1


def test_where_samples_exit_is_followed(browser: Any, folder: Path, runner: cm.Runner) -> None:
    with served(lambda: images_runner(folder)) as address, opened(browser, address) as page:
        page.get_by_text("No sample was decided yet").wait_for()
        for image in IMAGES:
            request = urllib.request.Request(f"{address}/classify", png(image))
            urllib.request.urlopen(request).close()
        page.get_by_text("6 samples were decided since").wait_for()
        stages = [runner(image).stage for image in IMAGES]
        texts = page.locator("#stages tr td:nth-child(2)").all_inner_texts()
        for stage, text in enumerate(texts):
            assert text.startswith(f"{100 * stages.count(stage) / 6:.2f} % ({stages.count(stage)})")


def test_alarms_are_shown(browser: Any, folder: Path) -> None:
    def expecting() -> cm.Runner:
        """The cascade, of which a file says that nearly all exits are at the first stage."""
        made = images_runner(folder)
        stage, score = np.arange(1000) % 100 == 0, np.full(1000, 0.99)
        own = Expected.of(made.cascade.rule_fingerprint, "val", stage, score, 2)
        return cm.Runner(
            replace(made.cascade, expected=own), allow_code=[f"{folder}/images/models.py"]
        )

    with served(expecting, Observing()) as address, opened(browser, address) as page:
        page.get_by_text("No sample was looked at yet; ").wait_for()
        for seed in range(4):
            tensor = {"name": "images", "datatype": "UINT8", "shape": [500, 4, 4]}
            tensor["data"] = images(500, seed).ravel().tolist()
            body = json.dumps({"inputs": [tensor]}).encode()
            urllib.request.urlopen(f"{address}/v2/models/cascade/infer", body).close()
        page.reload()
        page.get_by_text("Alarm: ").wait_for()
        assert "at sample" in page.locator("#alarms.note").inner_text()


def test_the_keyboard_is_enough(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.wait_for_selector("#stages tr")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the upload"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "try"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "files"
        page.get_by_label("Images, JPEG or PNG").set_input_files(files(IMAGES[0]))
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector(".answer")


def test_screen_readers_hear_names_and_news(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        decide(page, *files(IMAGES[0], broken=True))
        for name in ("Try it", "Where samples exit", "Certificate", "What is served"):
            assert page.get_by_role("region", name=name).first.is_visible()
        assert page.get_by_role("img", name="Preview of 0.png").is_visible()
        assert page.get_by_role("status").inner_text().startswith("Answers: 0.png: ")
        assert page.get_by_role("columnheader").count() == 5
        unnamed = """[...document.querySelectorAll("input, textarea, button")]
            .filter((each) => !(each.labels?.length || each.textContent.trim())).length"""
        assert page.evaluate(unnamed) == 0


def test_nothing_chosen_is_said(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.get_by_role("button", name="Decide").click()
        assert page.get_by_role("alert").inner_text() == "Choose one or more images first."


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_needs_no_sideways_scrolling(browser: Any, address: str, width: int) -> None:
    with opened(browser, address, viewport={"width": width, "height": 800}) as page:
        decide(page, *files(IMAGES[0], broken=True))
        assert page.evaluate("document.documentElement.scrollWidth") == width
        # In one call, for the table is drawn anew while it is looked at.
        cell = "document.querySelector('#stages tr td:nth-child(2)').getBoundingClientRect().right"
        assert 0 < page.evaluate(cell) <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(browser: Any, address: str, scheme: str) -> None:
    with opened(browser, address, color_scheme=scheme) as page:
        decide(page, *files(IMAGES[0], broken=True))
        found = page.evaluate(CONTRAST)
        assert (found["paper"] < 0.1) == (scheme == "dark")
        assert found["text"] >= 4.5


def test_records_are_asked_as_json(browser: Any, folder: Path) -> None:
    with (
        served(lambda: records_runner(folder)) as address,
        opened(browser, address, ("400",)) as page,
    ):
        box = page.get_by_label("A record as JSON")
        box.wait_for()
        assert json.loads(box.input_value()) == {"text": "…"}
        box.fill('[{"text": "good great"}, {"text": "awful"}, {"other": 1}]')
        page.get_by_role("button", name="Decide").click()
        page.wait_for_selector(".answer")
        texts = page.locator(".answer").all_inner_texts()
        assert [text.split("\n")[0] for text in texts] == ["Record 1", "Record 2", "Record 3"]
        assert "yes" in texts[0].split("\n")[1]
        assert "Not decided: has no 'text', but 'other'" in texts[2]
        box.fill("{")
        page.get_by_role("button", name="Decide").click()
        page.get_by_text("request: no valid JSON").wait_for()


def test_a_token_is_asked_for(browser: Any, folder: Path) -> None:
    with (
        served(lambda: images_runner(folder), token="secret") as address,
        opened(browser, address, ("401",)) as page,
    ):
        token = page.get_by_label("Token")
        token.wait_for()
        assert page.locator("main").is_hidden()
        token.fill("wrong")
        page.get_by_role("button", name="Use it").click()
        page.get_by_text("The token is not right.").wait_for()
        token.fill("secret")
        token.press("Enter")
        page.wait_for_selector("#stages tr")
        assert token.is_hidden()
        assert len(decide(page, *files(IMAGES[0]))) == 1
        assert "secret" not in page.url


def test_a_server_that_went_away_is_said(browser: Any, folder: Path) -> None:
    with served(lambda: images_runner(folder)) as address:
        context = opened(browser, address, ("ERR_CONNECTION",))
        page = context.__enter__()
        page.wait_for_selector("#stages tr")
    page.get_by_text("The server does not answer.").wait_for()
    context.__exit__(None, None, None)


def test_without_scripts_it_says_where_the_data_are(browser: Any, address: str) -> None:
    with opened(browser, address, java_script_enabled=False) as page:
        assert "/about" in page.locator("noscript").inner_text()


def test_a_certificate_is_shown(browser: Any, address: str) -> None:
    chance = np.random.default_rng(0)
    labels = chance.integers(0, 10, 4000)
    logits = {
        name: chance.normal(size=(4000, 10)) + scale * np.eye(10)[labels]
        for name, scale in (("nano", 2.0), ("small", 5.0))
    }
    pool = Pool.from_arrays(
        labels, logits, kind="logits", costs={"nano": 1.0, "small": 30.0}, unit="macs"
    )
    promise = cm.certify(pool, match="small", within=0.02)
    runner = cm.Runner(embedded(promise.cascade))
    reader = SampleReader(runner.task, frozenset())
    shown = about(runner, reader, "m", "v")
    assert promise.certificate.text in shown["certificate"]["sentence"]
    assert dict(shown["certificate"]["figures"])["Level"] == "95 %"
    assert sum(each["expected"] for each in shown["stages"]) == pytest.approx(1)
    assert json.loads(json.dumps(shown)) == json.loads(json.dumps(shown, allow_nan=False))
    with opened(browser, address) as page:
        page.route("**/about", lambda route: route.fulfill(json=shown))
        page.reload()
        page.get_by_text(promise.certificate.text).wait_for()
        assert "95 %" in page.locator("#figures").inner_text()
