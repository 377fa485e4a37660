"""Writing a study: tables, figures, an index, one JSON and one page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from committee.files import write_text
from committee.pool.table import Table
from committee.report.figure import Drawing, drawing_of
from committee.report.page import Section, page_of
from committee.study.analyses import ANALYSES
from committee.study.base import Finding
from committee.study.context import Study
from committee.style import Figure
from committee.text import counted

SCHEMA = 2
# The index links longer tables and does not show them.
_ROWS_ON_INDEX = 50


def draw_findings(study: Study, findings: Sequence[Finding]) -> dict[str, Drawing]:
    """Return the figures of findings by name, each drawn once."""
    figures = {finding.name: _figure_of(study, finding) for finding in findings}
    return {name: drawing_of(figure) for name, figure in figures.items() if figure is not None}


def write_study(
    study: Study, findings: Sequence[Finding], drawings: Mapping[str, Drawing], folder: Path
) -> list[Path]:
    """Write every table and figure, then ``index.md`` and ``study.json``, which name them.

    Each file is written whole or not at all, the two that name the others last. Files of the same
    names are replaced, others stay.
    """
    written: list[Path] = []
    for finding in findings:
        for table in finding.tables:
            stem = _stem(finding, table)
            written.append(write_text(folder / f"{stem}.csv", table.csv()))
            written.append(write_text(folder / f"{stem}.md", table.markdown()))
        if finding.name in drawings:
            written += drawings[finding.name].save(folder / finding.name)
    written.append(write_text(folder / "index.md", _index_markdown(study, findings)))
    data = json.dumps(study_json(study, findings), indent=1, ensure_ascii=False)
    written.append(write_text(folder / "study.json", data + "\n"))
    return written


def _figure_of(study: Study, finding: Finding) -> Figure | None:
    """Return the figure of a finding; None if it has none."""
    if finding.data is None:
        return None
    return next(a.draw for a in ANALYSES if a.name == finding.name)(study, finding.data)


def _stem(finding: Finding, table: Table) -> str:
    """Return the name of a table's files, without ending."""
    return "-".join(filter(None, (finding.name, table.name)))


def _index_markdown(study: Study, findings: Sequence[Finding]) -> str:
    """Return the page that names everything, in the order of the paper."""
    own = study.settings
    lines = [
        "# Study",
        "",
        f"{study.text}; committees of up to {own.max_models} models, {own.combine}, confidence "
        f"{own.confidence}, {own.grid} percentiles a threshold, cost in {own.unit}. Everything was "
        f"{study.provenance}. Brackets hold 95 % intervals; those of differences are paired, on "
        f"the same {study.test.task.samples}.",
        "",
        *(line for note in study.notes for line in (f"Note: {note}.", "")),
    ]
    done = [finding for finding in findings if not finding.left_out]
    lines += [f"- [{finding.title}](#{finding.name})" for finding in done]
    lines += [f"- {f.title}: left out, {f.left_out}" for f in findings if f.left_out]
    for finding in done:
        lines += _finding_markdown(finding)
    return "\n".join(lines) + "\n"


def _finding_markdown(finding: Finding) -> Iterator[str]:
    name, title = finding.name, finding.title
    yield from ("", f'<a id="{name}"></a>', "", f"## {title}", "")
    yield f"After Wang et al. (2022), {finding.source}."
    yield from ("", *(f"- {sentence}" for sentence in finding.sentences))
    if finding.data is not None:
        yield from ("", f"[![{title}]({name}.png)]({name}.svg)")
    for table in finding.tables:
        stem = _stem(finding, table)
        if len(table.items) <= _ROWS_ON_INDEX:
            yield from ("", table.markdown().rstrip(), "", f"[{stem}.csv]({stem}.csv)")
        else:
            files = f"[{stem}.csv]({stem}.csv), [{stem}.md]({stem}.md)"
            yield from ("", f"**{table.title}**", "", files)


def study_json(study: Study, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return everything that was found, for programs."""
    val, test = study.val.samples, study.test.samples
    return {
        "schema": SCHEMA,
        "settings": study.settings.to_json(),
        "task": study.val.task.name,
        "measure": study.measure,
        "chosen_on": {"split": val.split, "samples": val.wholes, "fingerprint": val.fingerprint},
        "evaluated_on": {
            "split": test.split, "samples": test.wholes, "fingerprint": test.fingerprint,
        },
        "models": sorted(study.val.prices(study.settings.unit)),
        "warnings": list(study.notes),
        "architectures": {name: list(each) for name, each in study.architectures.items()},
        "analyses": [
            {
                **{key: getattr(finding, key) for key in ("name", "title", "source")},
                "left_out": finding.left_out,
                "sentences": list(finding.sentences),
                "tables": [{"name": _stem(finding, t), **t.to_json()} for t in finding.tables],
            }
            for finding in findings
        ],
    }  # fmt: skip


def study_page(
    study: Study,
    findings: Sequence[Finding],
    drawings: Mapping[str, Drawing],
    store: str | None = None,
    split: str | None = None,
    sections: Sequence[Section] = (),
) -> str:
    """Return the report of a study: its front, then every analysis, as one file."""
    models = len(study.val.singles(study.settings.combine))
    return page_of(
        study.report,
        store=store,
        split=split,
        extra={"Studied": study.text},
        title=f"Study of {counted(models, 'model')}",
        sections=[*sections, *(_section(finding, drawings) for finding in findings)],
    )


def _section(finding: Finding, drawings: Mapping[str, Drawing]) -> Section:
    svg = drawings[finding.name].svg if finding.name in drawings else ""
    return replace(finding, source=f"Wang et al. (2022), {finding.source}", svg=svg)
