"""Page: the whole report as one HTML file that needs nothing from outside.

Plain scripts in ``web/`` draw its figure of the front: a plotting library would be larger than all
that it draws. Without scripts the figure stands still and the tables are whole.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.arrays import Array
from committee.errors import DataError, needing, require
from committee.pool.comparison import identity_of
from committee.pool.costs import costs_of_stages
from committee.pool.evaluate import Evaluation, stage_costs
from committee.pool.metrics import TOP_1
from committee.pool.pool import Pool
from committee.pool.prefixes import StageSequence
from committee.pool.table import Column, Table
from committee.report.command import Saving, saving_of
from committee.report.figure import figure_svg, front_figure
from committee.report.plane import scales_of
from committee.report.promise import promise_sentence, promise_tables
from committee.report.rows import CHOSEN, SINGLE, Report, Row, matches
from committee.report.tables import curse_table, front_table, provenance, summary_table
from committee.report.text import (
    exit_heading,
    gap_text,
    heading_of,
    measure_text,
    named,
    promised,
    stages_named,
)
from committee.rule.cascade import Cascade
from committee.selection.front import Front, Settings
from committee.selection.threshold_histograms import ThresholdHistogram, threshold_histograms
from committee.text import human_cost, percent, saving
from committee.version import __version__

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

_TEMPLATE, _STYLE = "page.html.jinja", "page.css"
# In this order: each uses what stands before it.
_SCRIPTS = ("words.js", "thresholds.js", "chart.js", "panel.js", "tables.js", "start.js")
_ENDINGS = (".html", ".htm")
# A table of more rows is folded away until the reader asks for it.
_FOLDED = 30


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading of its own.

    Args:
        tables: Its figures.
        sentences: What it says.
        left_out: Why there is nothing to show; empty if there is.
        name: Letters, digits, ``-`` and ``_``; the address of the section within the page.
        title: Its heading.
        source: What it repeats, such as a section and a figure of a paper; may be empty.
        svg: A figure from :func:`committee.report.figure.figure_svg`, which is trusted; or empty.
    """

    tables: tuple[Table, ...] = ()
    sentences: tuple[str, ...] = ()
    left_out: str = ""
    name: str = ""
    title: str = ""
    source: str = ""
    svg: str = ""


def check_page_ending(path: Path) -> None:
    """Refuse an ending that is not that of a page, before any work is done."""
    if path.suffix.lower() not in _ENDINGS:
        raise DataError(
            f"{path}: the report can be written as {' or '.join(_ENDINGS)}, "
            f"not {path.suffix or 'without an ending'}"
        )
    require("The report", "report")


def page_of(
    report: Report,
    *,
    store: str | None = None,
    split: str | None = None,
    title: str = "Committees and single models",
    extra: Mapping[str, str] | None = None,
    sections: Sequence[Section] = (),
    svg: str = "",
) -> str:
    """Return a report as one self-contained HTML page.

    Args:
        report: A front with its rows.
        store: The store in which ``committee search`` finds the same front; see
            :func:`committee.report.command.saving_of`.
        split: The validation split in the store; None for the usual one.
        title: The title of the page.
        extra: More lines for the settings, by name.
        sections: What stands after the front.
        svg: The figure of the front, if it has been drawn already.
    """
    template = _template()
    from markupsafe import Markup

    rows, members, scales = report.rows, report.members, scales_of(report)
    script = "\n".join(map(web_file, _SCRIPTS))
    data = _page_data(report, saving_of(report.front, store, split))
    every = [*rows, *members, *report.ensembles]
    return template.render(
        title=title,
        rows=rows,
        members=members,
        best=report.ensembles,
        summary=summary_table(rows),
        curse=None if report.test is None else curse_table(rows),
        whole=front_table(members),
        splits=_splits_table(report),
        costs=_costs_table(report.front),
        promised="" if report.choice is None else promise_sentence(report.choice.cascade),
        promise=_promise_section(report),
        brief=_brief(report),
        headline=_headline(report) + _promises(report),
        notes=report.notes,
        match=matches(report.reference),
        scales=scales,
        below=any(100 * row.reported.accuracy < scales.low for row in every),
        sliders=any("grid" in each for each in data["stages"]),
        most=_FOLDED,
        max_models=report.front.settings.max_models,
        figure=_drawing(Section(name="still", svg=svg or figure_svg(front_figure(report)))),
        alternative=_alternative(rows),
        settings=_settings(report, extra or {}),
        provenance=provenance(rows),
        measure=heading_of(rows[0].reported.measure),
        samples=rows[0].task.samples,
        sections=sections,
        style=Markup(web_file(_STYLE)),
        data=_in_script(data),
        script=Markup(script),
        # Nothing else may run, whatever found its way into the page.
        digest="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _headline(report: Report) -> str:
    """Say what was chosen, how much cheaper and less accurate it is, and how sure that is."""
    row = report.choice
    if row is None or row.versus is None:
        return ""
    own = row.versus
    what = "Chosen" if CHOSEN in (row.role, *row.also) else f"Cheapest that {row.text}"
    if own.same:
        return f"{what}: {own.reference} itself; nothing cheaper is as accurate on {row.val.split}."
    does = f"is {own.text.removeprefix('be ')} it" if own.within else "matches it"
    sure = {
        "kept": f" The promise to {own.text} it is kept.",
        "missed": f" The promise to {own.text} it is missed.",
        "within chance": f" These {own.samples} are too few to tell whether it {does}.",
    }
    end = sure.get(own.promise or "", "")
    if own.chose:
        end = f" Measured on {own.split}, which chose it: expect less."
    return (
        f"{what}: {named(row.cascade)}, {saving(own.saving, 2)} than {own.reference} and "
        f"{gap_text(own.difference)} in accuracy on {own.split} "
        f"({own.difference.samples:,} {own.samples}).{end}"
    )


def _brief(report: Report) -> str:
    """Say without terms of the field what the choice saves and what it may lose."""
    row = report.choice
    if row is None or row.versus is None:
        return ""
    own = row.versus
    if own.same:
        return f"Keep {own.reference}; nothing cheaper in this pool is as accurate."
    what = "Asking cheaper models first" if len(row.cascade.stages) > 1 else named(row.cascade)
    cost = f"is {saving(own.saving, 2)} than {own.reference}" if own.saving else "costs nothing"
    text = f"{what} {cost}, averaged over all {row.task.samples}"
    gap = own.difference
    if row.reported.measure != TOP_1.name or not math.isfinite(gap.low):
        return f"{text}."
    ends = f"between {_wrong(gap.high)} and {_wrong(gap.low)}"
    return f"{text}. Of 1,000 answers {_wrong(gap.value)} are wrong, with 95 % certainty {ends}."


def _wrong(difference: float) -> str:
    """Return how many more of 1,000 answers are wrong where accuracy differs so much."""
    count = round(1000 * difference)
    return "as many" if not count else f"{abs(count)} {'fewer' if count > 0 else 'more'}"


def _promise_section(report: Report) -> Section | None:
    """Return the figures of the choice's certificate; None without one that is valid."""
    row = report.choice
    tables = () if row is None else promise_tables(report, row)
    return Section(tables, name="promise", title="The promise") if tables else None


def _promises(report: Report) -> str:
    """Say what became of the accuracy and the cost that the user asked for."""
    texts = [] if report.choice is None else map(promised, report.choice.promises)
    return "".join(f" {each[:1].upper()}{each[1:]}." for each in texts)


def _template() -> Template:
    with needing("The report page", "jinja2", "report"):
        from jinja2 import Environment, StrictUndefined
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["drawing"] = _drawing
    return environment.from_string(web_file(_TEMPLATE))


def web_file(name: str) -> str:
    """Return a style or a script of the page."""
    return files("committee.report").joinpath("web", name).read_text(encoding="utf-8")


def _in_script(data: Any) -> Markup:
    """Return data for a script element, in which no tag can begin."""
    from markupsafe import Markup

    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    # Marked as safe because nothing is left that HTML reads as its own.
    return Markup(text)


def _drawing(section: Section) -> Markup:
    """Return the figure of a section, with ids unlike those of other figures on the page."""
    from markupsafe import Markup

    svg = section.svg[section.svg.index("<svg") :]
    return Markup(re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>in-{section.name}-", svg))


def _splits_table(report: Report) -> Table:
    row, pool = report.rows[0], report.front.pool
    splits = [(row.val, pool, "chose the committees")]
    if row.test is None:
        splits = [(row.val, pool, "chose the committees, and evaluates them")]
    elif report.test is not None:
        splits.append((row.test, report.test, "evaluates them"))
    columns = (
        Column("Split", lambda each: each[0].split),
        Column("Use", lambda each: each[2]),
        Column(row.task.samples.capitalize(), lambda each: each[0].samples, "count"),
        Column("Fingerprint", lambda each: _fingerprint(each[1])),
    )
    return Table("Splits", columns, splits)


def _fingerprint(pool: Pool) -> str:
    """Return what tells the samples of a split from others, also where ids only count."""
    known = pool.samples.identity or not pool.names
    return pool.samples.fingerprint if known else identity_of(pool, pool.names)


def _costs_table(front: Front) -> Table:
    unit = front.settings.unit
    known = {n: c[unit] for each in front.pool.divisions for n, c in each.costs.costs.items()}
    columns = (
        Column("Model", lambda item: item[0]),
        Column("Cost of one sample", lambda item: item[1].value, "cost", unit),
        Column("Source", lambda item: item[1].source),
        Column("Conditions", lambda item: item[1].conditions or "not stated"),
    )
    items = sorted(known.items(), key=lambda item: (item[1].value, item[0]))
    return Table("Costs of the models", columns, items)


def _settings(report: Report, extra: Mapping[str, str]) -> dict[str, str]:
    front, own = report.front, report.front.settings
    samples = [front.pool.samples, *([] if report.test is None else [report.test.samples])]
    left_out = "; ".join(each.left_out for each in samples if each.broken)
    exact = "exact: every cascade that these settings allow was covered"
    return {
        "Search": exact if front.exact else "not exact: some cascades were left out",
        "Models of a committee, at most": str(own.max_models),
        **({"Only": "single models and self-cascades"} if own.self_cascades else {}),
        "Sequences of models covered": f"{own.sequences:,}",
        "Cascades covered": f"{own.cascades:,}",
        "Thresholds tried at each exit": f"{own.grid} percentiles, always and never",
        "Confidence": _each(own, 1) or own.confidence,
        "Combination": _each(own, 0) or own.combine,
        "Unit of cost": own.unit,
        "Bound on worst-case cost": _bounds(own.worst_case),
        "Bound on average cost": _bounds(own.average_case),
        "Covered": "everything" if front.exact else front.inexact,
        **extra,
        **({"Samples": left_out} if left_out else {}),
        "Written": f"{date.today():%Y-%m-%d} by committee {__version__}",
    }


def _each(settings: Settings, part: int) -> str:
    """Return the combinations or confidences of a search over several rules; empty for one."""
    several = ", ".join(dict.fromkeys(str(rule[part]) for rule in settings.rules))
    return f"each of {several}" if several else ""


def _bounds(bounds: Mapping[str, float]) -> str:
    return ", ".join(human_cost(bound, unit) for unit, bound in bounds.items()) or "none"


def _alternative(rows: Sequence[Row]) -> str:
    """Return the figure in words, for those who cannot see it."""
    texts = [
        f"{row.text} ({row.cascade}): {percent(row.reported.accuracy)} "
        f"at {human_cost(row.reported.average_cost, row.reported.unit)}"
        for row in rows
    ]
    split, measure = rows[0].reported.split, measure_text(rows[0].reported.measure)
    return f"{measure} on {split} against average cost on a log scale. " + "; ".join(texts) + "."


# Kinds of series; the page draws later ones above earlier ones.
_FRONT, _BEST, _SINGLE, _TARGET = "front", "ensemble", "single", "target"


def _page_data(report: Report, saving: Saving) -> dict[str, Any]:
    """Return everything that the page's script draws, with every number in full precision."""
    front, rows = report.front, report.rows
    row = rows[0]
    rest = [*report.members, *report.ensembles]
    unit = front.settings.unit
    shown = front.pool if report.test is None else report.test
    histograms = threshold_histograms(front, shown)

    def key(cascade: Cascade) -> tuple[StageSequence, bool]:
        return cascade.models_of_stages, _slides(cascade, front, histograms)

    every = {key(each.cascade): each.cascade for each in [*rows, *rest]}
    numbers = {each: number for number, each in enumerate(every)}
    costs, alone = front.pool.prices(unit) | shown.prices(unit), front.alone(report.reference)
    # Where costs differ by sample, so do those of the reference on the two splits.
    on_val = _average(alone, front.pool, unit)
    on_test = None if report.test is None else _average(alone, report.test, unit)

    def series(kind: str, some: Iterable[Row]) -> list[dict[str, Any]]:
        return [
            {
                "series": kind,
                "role": each.role,
                "text": each.text,
                "name": each.name,
                "stages": numbers[key(each.cascade)],
                "thresholds": [_threshold(value) for value in each.cascade.thresholds],
                "val": _figures(each.val, on_val),
                "test": each.test and _figures(each.test, on_test),
                "save": saving.target(each),
            }
            for each in some
        ]

    return {
        "scales": {name: _finite(value) for name, value in asdict(scales_of(report)).items()},
        "unit": unit,
        "heading": heading_of(row.reported.measure),
        "samples": row.task.samples,
        "exit_heading": exit_heading(row.task),
        "counted": front.settings.metric.counted,
        "reference": {
            "name": report.reference,
            "cost": on_val if on_test is None else on_test,
            "match": matches(report.reference),
        },
        "val": {"name": row.val.split, "samples": row.val.samples},
        "test": row.test and {"name": row.test.split, "samples": row.test.samples},
        "saving": {"before": saving.before, "after": saving.after},
        "stages": [
            _stages(cascade, costs, histograms.get(each) if slides else None)
            for (each, slides), cascade in every.items()
        ],
        "points": [
            *series(_FRONT, report.members),
            *series(_BEST, report.ensembles),
            *series(_SINGLE, (each for each in rows if each.role == SINGLE)),
            *series(_TARGET, (each for each in rows if each.chosen and each.role != CHOSEN)),
            *series(CHOSEN, (each for each in rows if each.role == CHOSEN)),
        ],
    }


def _slides(
    cascade: Cascade, front: Front, histograms: Mapping[StageSequence, ThresholdHistogram]
) -> bool:
    """Return True if the histogram of a cascade's models is of its rule and has its thresholds."""
    own, histogram = front.settings, histograms.get(cascade.models_of_stages)
    same = (own.combine, own.confidence) == (cascade.combine, cascade.confidence)
    if histogram is None or not same:
        return False
    pairs = zip(cascade.thresholds, histogram.thresholds, strict=True)
    return all(math.isinf(threshold) or threshold in column for threshold, column in pairs)


def _stages(
    cascade: Cascade, costs: Mapping[str, float], histogram: ThresholdHistogram | None
) -> dict[str, Any]:
    return {
        "models": stages_named(cascade),
        "costs": costs_of_stages(cascade.models_of_stages, costs),
        **_counts(histogram),
    }


def _average(alone: Cascade, pool: Pool, unit: str) -> float:
    """Return what the reference costs on average on a split."""
    (cost,) = stage_costs(alone, pool, unit)
    return float(np.mean(cost))


def _figures(evaluation: Evaluation, reference: float | None) -> dict[str, Any]:
    low, high = evaluation.interval
    correct = evaluation.correct
    return {
        # The page divides by the number of samples.
        "correct": evaluation.accuracy * evaluation.samples if correct is None else correct,
        "low": low,
        "high": high,
        "cost": evaluation.average_cost,
        "worst": evaluation.worst_case_cost,
        "reference": reference,
        "exits": evaluation.exit_ratios,
    }


def _counts(histogram: ThresholdHistogram | None) -> dict[str, Any]:
    """Return the candidates of each threshold, and packed counts; nothing without a histogram."""
    if histogram is None:
        return {}
    records = np.column_stack([histogram.passed, histogram.count, histogram.correct])
    return {
        "grid": [column.tolist() for column in histogram.thresholds],
        "counts": base64.b64encode(_short(records.ravel())).decode("ascii"),
    }


def _short(numbers: Array) -> bytes:
    """Return non-negative integers as bytes of seven bits, lowest first; each last byte is < 128.

    >>> list(_short(np.array([0, 127, 128, 300])))
    [0, 127, 128, 1, 172, 2]
    """
    places = range(max(1, -(-int(numbers.max(initial=0)).bit_length() // 7)))
    digits = np.stack([(numbers >> 7 * place) & 127 for place in places], axis=1)
    more = np.stack([numbers >> 7 * (place + 1) > 0 for place in places], axis=1)
    there = np.stack([(numbers >> 7 * place > 0) | (place == 0) for place in places], axis=1)
    packed: bytes = (digits + 128 * more)[there].astype(np.uint8).tobytes()
    return packed


def _threshold(value: float) -> float | str:
    return {-math.inf: "always", math.inf: "never"}.get(value, value)


def _finite(value: Any) -> Any:
    """Return the value, or None for infinity, which JSON cannot hold."""
    return None if value == math.inf else value
