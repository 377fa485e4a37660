"""The page at ``/``: what is served, its certificate, an upload, and where samples exit.

It is a fixed text without data, so that nothing has to be made safe for HTML. Its script asks
``/about`` and ``/exits``, as any program may.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from committee.certificates.monitors import expected_of
from committee.errors import CascadeError
from committee.report.page import web_file
from committee.report.promise import figures_of, promise_sentence
from committee.rule.cascade import ALWAYS, NEVER, Cascade
from committee.run.runner import Runner
from committee.serve.samples import IMAGE_FORMS, IMAGES, SampleReader
from committee.text import LISTED, counted, listed


@dataclass(frozen=True)
class Page:
    """An HTML page, and the policy by which nothing else may run in it or be asked by it."""

    html: str
    policy: str


@cache
def page() -> Page:
    """Return the page."""
    style = web_file("page.css") + _own("page.css")
    script = web_file("words.js") + _own("page.js")
    html = _own("page.html").replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    rules = (
        "default-src 'none'",
        f"style-src '{_digest(style)}'",
        f"script-src '{_digest(script)}'",
        "connect-src 'self'",
        "img-src blob: data:",
        *(f"{each} 'none'" for each in ("base-uri", "form-action", "frame-ancestors")),
    )
    return Page(html, "; ".join(rules))


def about(runner: Runner, reader: SampleReader, name: str, version: str) -> dict[str, Any]:
    """Return what is served, as the page shows it.

    Args:
        runner: The loaded cascade.
        reader: What reads its samples.
        name: Its name in addresses.
        version: Its fingerprint.
    """
    cascade, unit, costs = runner.cascade, runner.unit, runner.costs
    expected = _expected(cascade)
    stages = [
        {
            "models": stage.models,
            "threshold": _threshold(stage.threshold),
            "cost": costs[number] if costs else None,
            "expected": expected[number] if expected else None,
        }
        for number, stage in enumerate(cascade.stages)
    ]
    return {
        "name": name,
        "version": version,
        "cascade": str(cascade),
        "takes": "records" if reader.task.records else "images",
        "unit": unit,
        "stages": stages,
        "certificate": _certificate(cascade),
        "figures": _figures(cascade, reader, version, unit),
        "example": _example(reader),
        "curl": _curl(reader),
    }


def _expected(cascade: Cascade) -> tuple[float, ...]:
    """Return the exit ratios that are expected; empty if the file does not say."""
    with suppress(CascadeError):
        expected = expected_of(cascade)
        return tuple(count / expected.samples for count in expected.exits)
    return ()


def _threshold(value: float) -> str | None:
    if value == NEVER:
        return "never"
    return None if value == ALWAYS else f"{value:.4g}"


def _certificate(cascade: Cascade) -> Mapping[str, Any]:
    """Return what was certified: a sentence, and figures with their names."""
    sentence = promise_sentence(cascade)
    if not cascade.is_certified:
        none = "This cascade has no certificate. committee certify makes one."
        return {"sentence": sentence or none, "figures": []}
    return {"sentence": sentence, "figures": [*figures_of(cascade)]}


def _figures(
    cascade: Cascade, reader: SampleReader, version: str, unit: str
) -> list[tuple[str, str]]:
    classes = cascade.classes
    named = f": {listed(classes, LISTED)}" if classes else ""
    figures = [
        ("Version", version),
        ("Task", reader.task.name),
        ("Classes", f"{len(classes):,}{named}" if classes else "without names"),
        ("Confidence", cascade.confidence),
        ("Combination", cascade.combination),
        ("Unit of cost", unit or "not known"),
        ("Inputs", _inputs(reader)),
        ("At once", f"at most {counted(reader.most_samples, reader.task.sample)}"),
    ]
    if not reader.task.records:
        figures.append(("Pixels", f"at most {reader.most_pixels:,} an image"))
    return figures


def _inputs(reader: SampleReader) -> str:
    if not reader.task.records:
        return f"{IMAGES}: {IMAGE_FORMS}"
    return "; ".join(f"{name} {kind} [N]" for name, kind, _ in reader.inputs)


def _example(reader: SampleReader) -> str:
    """Return a record as JSON, for people to fill in; empty for images."""
    if not reader.task.records:
        return ""
    values = {name: "…" if kind == "BYTES" else 0 for name, kind, _ in reader.inputs}
    whole = values if reader.columns else next(iter(values.values()))
    return json.dumps(whole, ensure_ascii=False, indent=1)


def _curl(reader: SampleReader) -> str:
    if not reader.task.records:
        return "curl --data-binary @image.jpg -H 'Content-Type: image/jpeg' ORIGIN/classify"
    return "curl -d @record.json -H 'Content-Type: application/json' ORIGIN/classify"


def _own(name: str) -> str:
    return files("committee.serve").joinpath("web", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
