"""The figures of docs/alarms.md, with few runs: three kinds of change, and one that nobody sees."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def alarms() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        found = runpy.run_path(str(ROOT / "benchmarks" / "alarms.py"))
    whole = found["world"]("embedded")
    # A fifth of the images, which run in seconds.
    small = replace(whole, images=whole.images[::5], labels=whole.labels[::5])
    found["changed"].__globals__["world"] = lambda name: small
    return found


@pytest.mark.parametrize(
    ("change", "most"),
    [
        ("noise, 25 of 255", 200),
        ("a hard class comes four times as often", 6000),
        ("broken preprocessing: upside down", 200),
    ],
)
def test_a_change_is_noticed(alarms, change, most):
    found = alarms["changed"]("embedded", change, runs=3)
    assert (found.early, found.alarms) == (0, 3)
    assert found.most <= most
    assert found.accuracy < found.accuracy_before - 0.02


def test_what_changes_no_output_is_never_noticed(alarms):
    found = alarms["changed"]("embedded", "two classes swap their names", runs=3)
    assert (found.early, found.alarms) == (0, 0)
    assert found.accuracy < 0.8


def test_nothing_is_noticed_where_nothing_changes(alarms):
    found = alarms["quiet"]("embedded", 0.1, 0.0, runs=10, samples=10_000)
    assert found.alarms <= 3


def test_the_runs_that_were_measured_kept_the_stated_rate_of_false_alarms():
    rows = pd.read_csv(ROOT / "benchmarks" / "results" / "alarms_quiet.csv")
    assert len(rows) >= 4
    assert (rows["runs"] >= 1000).all()
    assert (rows["samples"] >= 100_000).all()
    assert (rows["alarms"] <= rows["alpha"] * rows["runs"]).all()


def test_the_page_has_the_tables_of_the_results(alarms):
    tables = alarms["tables"](ROOT / "benchmarks" / "results")
    page = (ROOT / "docs" / "alarms.md").read_text()
    assert all(table in page for table in tables.values())
