"""Writing a study: tables as csv and markdown, figures as png and svg, an index, and one JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from committee.files import write_text
from committee.report.figure import save_figure
from committee.selection.paired import Estimate
from committee.study.analyses import figure_of
from committee.study.base import AnyFinding, Table
from committee.study.context import Study
from committee.study.text import cell_text
from committee.text import csv_text

SCHEMA = 1
# Longer tables are linked from the index, not shown on it.
_ROWS_ON_INDEX = 50


def write_study(study: Study, findings: Sequence[AnyFinding], folder: Path) -> list[Path]:
    """Write every table and figure, then ``index.md`` and ``study.json``, which name them.

    Each file is written whole or not at all, the two that name the others last.

    Args:
        study: What was asked.
        findings: What :func:`committee.study.run_study` gave.
        folder: Made if it is not there; files of the same names are written anew, others left.

    Returns:
        The files, in the order written.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    written: list[Path] = []
    figures: dict[str, str] = {}
    for finding in findings:
        for table in finding.tables:
            stem = file_of(finding, table)
            written.append(write_text(folder / f"{stem}.csv", table_csv(table)))
            written.append(write_text(folder / f"{stem}.md", table_markdown(table)))
        figure = figure_of(finding)
        if figure is not None:
            written += save_figure(figure, folder / finding.name)
            figures[finding.name] = finding.name
    written.append(write_text(folder / "index.md", index_markdown(study, findings, figures)))
    data = json.dumps(study_json(study, findings), indent=1, ensure_ascii=False)
    written.append(write_text(folder / "study.json", data + "\n"))
    return written


def file_of(finding: AnyFinding, table: Table) -> str:
    """Name of a table's files, without ending."""
    return "-".join(part for part in (finding.name, table.name) if part)


def table_csv(table: Table) -> str:
    """A table for programs: every figure in full.

    A column of estimates is followed by its ``low``, ``high`` and ``samples``; a cost's heading
    names its unit.
    """
    estimates = [_holds_estimates(table, number) for number in range(len(table.columns))]
    heading: list[str] = []
    for column, wide in zip(table.columns, estimates, strict=True):
        name = f"{column.name} ({column.unit})" if column.unit else column.name
        heading += [name, *(f"{name}: {end}" for end in ("low", "high", "samples") if wide)]
    lines: list[list[Any]] = [heading]
    for row in table.rows:
        cells: list[Any] = []
        for cell, wide in zip(row, estimates, strict=True):
            if isinstance(cell, Estimate):
                cells += [cell.value, cell.low, cell.high, cell.samples]
            else:
                cells += [cell, *([None] * 3 if wide else [])]
        lines.append(cells)
    return csv_text(lines)


def _holds_estimates(table: Table, number: int) -> bool:
    return any(isinstance(row[number], Estimate) for row in table.rows)


def table_markdown(table: Table) -> str:
    """A table for people: figures rounded, costs with units, intervals behind their figures."""
    lines = [
        f"**{table.title}**",
        "",
        _line([column.name for column in table.columns]),
        _line(["---" if column.written == "text" else "---:" for column in table.columns]),
        *(
            _line(
                [cell_text(cell, column) for cell, column in zip(row, table.columns, strict=True)]
            )
            for row in table.rows
        ),
    ]
    if table.note:
        lines += ["", table.note]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    escaped = (" ".join(cell.replace("|", "\\|").split()) for cell in cells)
    return f"| {' | '.join(escaped)} |"


def index_markdown(study: Study, findings: Sequence[AnyFinding], figures: dict[str, str]) -> str:
    """The page that names everything: what was found, in the order of the paper."""
    own = study.settings
    made = [finding for finding in findings if not finding.left_out]
    lines = [
        "# Study",
        "",
        f"{study.told}; committees of up to {own.max_models} models, {own.combine}, confidence "
        f"{own.confidence}, {own.grid} percentiles a threshold, cost in {own.unit}. Everything was "
        f"{study.provenance}. Brackets hold 95 % intervals; those of differences are paired, on "
        f"the same {study.judge.samples}.",
        "",
        *(line for note in study.notes for line in (f"Note: {note}.", "")),
    ]
    for finding in made:
        lines += [f"- [{finding.about.title}](#{finding.name})"]
    lines += [f"- {f.about.title}: left out, {f.left_out}" for f in findings if f.left_out]
    for finding in made:
        lines += [
            "",
            f'<a id="{finding.name}"></a>',
            "",
            f"## {finding.about.title}",
            "",
            f"After Wang et al. (2022), {finding.about.source}.",
            "",
            *(f"- {sentence}" for sentence in finding.sentences),
        ]
        if finding.name in figures:
            image = figures[finding.name]
            lines += ["", f"[![{finding.about.title}]({image}.png)]({image}.svg)"]
        for table in finding.tables:
            stem = file_of(finding, table)
            whole = len(table.rows) <= _ROWS_ON_INDEX
            shown = table_markdown(table).rstrip() if whole else f"**{table.title}**"
            files = [f"[{stem}.csv]({stem}.csv)", *([] if whole else [f"[{stem}.md]({stem}.md)"])]
            lines += ["", shown, "", ", ".join(files)]
    return "\n".join(lines) + "\n"


def study_json(study: Study, findings: Sequence[AnyFinding]) -> dict[str, Any]:
    """Everything that was found, for programs."""
    val, test = study.val.samples, study.test.samples
    return {
        "schema": SCHEMA,
        "settings": vars(study.settings),
        "task": study.val.task.name,
        "measure": study.judge.measure,
        "chosen_on": {"split": val.split, "samples": val.wholes, "fingerprint": val.fingerprint},
        "judged_on": {"split": test.split, "samples": test.wholes, "fingerprint": test.fingerprint},
        "models": sorted(study.val.prices(study.settings.unit)),
        "warnings": list(study.notes),
        "architectures": {name: list(each) for name, each in study.architectures.items()},
        "analyses": [_finding_json(finding) for finding in findings],
    }


def _finding_json(finding: AnyFinding) -> dict[str, Any]:
    return {
        **vars(finding.about),
        "left_out": finding.left_out,
        "sentences": list(finding.sentences),
        "tables": [
            {
                "name": file_of(finding, table),
                "title": table.title,
                "note": table.note,
                "columns": [vars(column) for column in table.columns],
                "rows": [
                    [c.to_json() if isinstance(c, Estimate) else c for c in row]
                    for row in table.rows
                ],
            }
            for table in finding.tables
        ],
    }
