"""What benchmarks/serve.py compares with runs, answers, and is refused if it fails."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from committee import Cascade
from committee.embedded import embedded_images
from committee.run import loading
from export_world import embedded

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
VARIANTS = [
    ("serve_variants.py", "per request"),
    ("serve_variants.py", "at once"),
    ("serve_by_hand.py",),
]


@pytest.fixture(scope="module")
def bench() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        # The benchmarks let all runners share loaded models; other tests do not.
        patch.setattr(loading, "load_model", loading.load_model)
        yield runpy.run_path(str(BENCHMARKS / "serve.py"))


@pytest.mark.parametrize("words", VARIANTS, ids=lambda words: words[-1])
def test_every_variant_answers(bench: dict[str, Any], tmp_path: Path, words: tuple[str]) -> None:
    cascade = embedded(Cascade.of(["nano", "tiny"], [0.9])).save(tmp_path / "cascade.json")
    requests = bench["written"](tmp_path, embedded_images("test").read(np.arange(32)))
    script, *others = words
    command = [sys.executable, str(BENCHMARKS / script), *others, str(cascade)]
    with bench["started"](command, requests) as server:
        for images in requests:
            # A busy machine may answer nothing in the first moments.
            loads = (server.load(seconds, 4, None, images) for seconds in (0.3, 3, 10))
            assert any(made["images_per_second"] > 0 for made in loads)
        wrong = tmp_path / "wrong.bin"
        wrong.write_bytes(bench["request"]("/nowhere", b""))
        server.requests[1] = wrong, wrong.stat().st_size
        with pytest.raises(SystemExit, match="'404': "):
            server.load(0.1, 1, None)


def test_the_page_says_which_goals_are_met(bench: dict[str, Any]) -> None:
    each = {"server_ms": 1.0, "images_per_second": 100.0, "p50": 2.5, "p99": 4.0}
    slow = {**each, "server_ms": 6.0, "images_per_second": 120.0}
    at_once = {**each, "server_ms": 0.25}
    by = {"cascade": each, "largest": slow, "per request": slow, "by hand": slow}
    names = ("1 at a time", "256 at a time", "16 at a time, 16 images each")
    loads = {load: {**by, "at once": at_once} for load in names}
    goals = bench["goals"](loads, ideal=0.6, largest=3.0, online_p50=1.0)
    found = {
        **{"what": "a pool", "cascade": "a -> b", "largest": "b", "reach": [1.0, 0.5]},
        **{"loads": loads, "goals": goals},
        "conditions": {"date": "2026-01-02 03:04 UTC", "rounds": 2, "load before": 0.5},
        "asked": {name: bench["asked"](figures) for name, figures in goals.items()},
    }
    page = bench["markdown"]({"conditions": {}, "pools": {"a": found}})
    assert "| of the offline limit, net of HTTP | 0.800 | at least 0.85 | missed |" in page
    assert "| speedup over the largest, net of HTTP | 7.667 | at least 4.25 | met |" in page
    assert "| over by hand | 6.000 | at least 1 | met |" in page
    assert "| images a second over per request | 0.833 | at least 1 | missed |" in page
    assert "| more | 1.500 | at most 1 | missed |" in page
    assert "| offline speedup | 5.000 |  |  |" in page
    assert "Measured 2026-01-02 03:04 UTC, 2 rounds, load before 0.5." in page
