"""The page of a study: the front first, then every analysis, whole figures behind rounded ones."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest

import committee as cm
from committee.pool.intervals import Estimate
from committee.report.figure import Drawing
from committee.study.analyses import run_study
from committee.study.base import Finding
from committee.study.context import Study, study_of
from committee.study.write import draw_findings, study_page
from committee.text import human_cost

Drawings = dict[str, Drawing]

ASKED = ["ensembles_vs_singles", "threshold_sweep", "measured_costs"]


@pytest.fixture(scope="module")
def study() -> Study:
    pools = []
    for seed, split in enumerate(("val", "test")):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 5, 300)
        outputs = {
            name: rng.normal(size=(300, 5)) + gain * np.eye(5)[labels]
            for name, gain in (("s", 1.0), ("m", 1.5), ("l", 2.2))
        }
        costs = {"s": 1e6, "m": 3e6, "l": 9e6}
        ids = [f"{split}-{number}" for number in range(300)]
        pools.append(
            cm.Pool.from_arrays(labels, outputs, kind="logits", costs=costs, ids=ids, split=split)
        )
    return study_of(*pools, max_models=2, grid=12)


@pytest.fixture(scope="module")
def findings(study: Study) -> tuple[Finding, ...]:
    return run_study(study, ASKED)


@pytest.fixture(scope="module")
def drawings(study: Study, findings: tuple[Finding, ...]) -> Drawings:
    return draw_findings(study, findings)


def test_every_analysis_stands_after_the_front(
    study: Study, findings: tuple[Finding, ...], drawings: Drawings
) -> None:
    text = html.unescape(study_page(study, findings, drawings))
    assert "<h1>Study of 3 models</h1>" in text
    places = [text.index('id="chart"')]
    for finding in findings:
        places.append(text.index(f'<h2 id="part-{finding.name}">{finding.title}</h2>'))
        section = text[places[-1] : text.index("</section>", places[-1])]
        assert f"After Wang et al. (2022), {finding.source}" in section
        assert all(sentence in section for sentence in finding.sentences)
        assert ("<svg" in section) == (finding.data is not None)
        assert section.count("<table") == len(finding.tables)
        if finding.left_out:
            assert f"Left out: {finding.left_out}" in section
    assert places == sorted(places)
    assert [bool(finding.left_out) for finding in findings] == [False, False, True]


def test_tables_sort_by_whole_figures_and_show_rounded_ones(
    study: Study, findings: tuple[Finding, ...], drawings: Drawings
) -> None:
    text = html.unescape(study_page(study, findings, drawings))
    table = findings[0].tables[0]
    start = text.index(f"<caption>{table.title}</caption>")
    rows = text[start : text.index("</table>", start)].split("<tr>")[2:]
    assert len(rows) == len(table.rows)
    for shown, row in zip(rows, table.rows, strict=True):
        values = [
            cell.value if isinstance(cell, Estimate) else float(cell)
            for cell in row
            if cell is not None and not isinstance(cell, str)
        ]
        assert [float(v) for v in re.findall(r'data-value="([^"]*)"', shown)] == values
        assert shown.count("<small>") == sum(isinstance(cell, Estimate) for cell in row)
        for cell, column in zip(row, table.columns, strict=True):
            if column.format == "cost" and isinstance(cell, float):
                assert human_cost(cell, column.unit) in shown


def test_the_command_repeats_the_search_of_the_study(
    study: Study, findings: tuple[Finding, ...], drawings: Drawings
) -> None:
    text = study_page(study, findings, drawings, store="my store")
    assert '"before":"committee search \'my store\' --max-models 2 --grid 12 "' in text
