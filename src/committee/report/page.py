"""Page: the whole report as one HTML file that needs nothing from outside.

Its figure of the front is drawn by plain scripts of our own, in ``web/``: a plotting library would
be larger than all that it draws. Without scripts the figure stands still and the tables are whole.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from committee.errors import DataError, MissingExtraError, require
from committee.pool.pool import Pool
from committee.report import tables
from committee.report import text as words
from committee.report.command import Saving, saving_of
from committee.report.figure import figure_svg, front_figure
from committee.report.points import page_data
from committee.report.rows import (
    CHOSEN,
    Row,
    choice_of,
    ensemble_rows,
    front_rows,
    matches,
    merged,
    summary,
)
from committee.report.scales import heading_of, measure_text, scales_of
from committee.report.section import Section
from committee.rule.cascade import Cascade
from committee.segment.tile_maps import tiles_section
from committee.selection.front import Front
from committee.selection.notes import notes_of
from committee.spec.cost import Cost
from committee.text import human_cost, percent

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Template
    from markupsafe import Markup

_TEMPLATE, _STYLE = "page.html.jinja", "page.css"
# In this order: each uses what stands before it.
_SCRIPTS = ("words.js", "moves.js", "chart.js", "panel.js", "tables.js", "start.js")
_ENDINGS = (".html", ".htm")
# A table of more rows is folded away until the reader asks for it.
_FOLDED = 30
_TITLE = "Committees and single models"


def check_page_ending(path: Path) -> None:
    """Refuse an ending that is not that of a page, before any work is done.

    Raises:
        DataError: If so.
        MissingExtraError: If jinja2 or matplotlib is not installed.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise DataError(
            f"{path}: the report can be written as {' or '.join(_ENDINGS)}, "
            f"not {path.suffix or 'without an ending'}"
        )
    require("The report", "report")


def page(
    front: Front,
    rows: Sequence[Row],
    members: Sequence[Row],
    best: Sequence[Row],
    svg: str,
    extra: Mapping[str, str] | None = None,
    *,
    test: Pool | None = None,
    title: str = _TITLE,
    saving: Saving | None = None,
    sections: Sequence[Section] = (),
    notes: Sequence[str] = (),
) -> str:
    """Write the report as one self-contained HTML page.

    Args:
        front: Committees found on the choosing split.
        rows: From :func:`summary`.
        members: From :func:`front_rows`, on the same splits.
        best: From :func:`ensemble_rows`, likewise.
        svg: The figure, from :func:`figure_svg`; it is trusted and stands in the page as it is.
        extra: More lines for the settings, by name: the command, the version, the data set.
        test: The pool that judged.
        title: Of the page.
        saving: How a committee is found again and saved; in Python, if left out.
        sections: What stands after the front.
        notes: What to note before the choice is trusted, one line each.

    Raises:
        MissingExtraError: If jinja2 is not installed.
    """
    template = _template()
    from markupsafe import Markup

    saving = saving or saving_of(front)
    script = "\n".join(_web(name) for name in _SCRIPTS)
    scales = scales_of(rows, [*members, *best])
    data = page_data(front, rows, members, best, saving, test)
    return template.render(
        title=title,
        rows=rows,
        shown=merged(rows),
        headline=_headline(rows) + _promises(rows),
        notes=notes,
        members=members,
        best=best,
        match=matches(rows[0].reference),
        scales=scales,
        below=any(100 * row.judged.accuracy < scales.low for row in [*rows, *members, *best]),
        sliders=any("grid" in each for each in data["stages"]),
        most=_FOLDED,
        max_models=front.settings.max_models,
        figure=_drawing(Section("still", title, svg=svg)),
        alternative=_alternative(rows),
        splits=_splits(front, test, rows[0]),
        settings=_settings(front) | dict(extra or {}) | _written(front),
        provenance=tables.provenance(rows),
        measure=heading_of(rows[0].judged.measure),
        samples=rows[0].task.samples,
        leaving=words.exit_heading(rows[0].task),
        costs=_costs(front),
        sections=sections,
        style=Markup(_web(_STYLE)),
        data=_in_script(data),
        script=Markup(script),
        # Nothing else may run, whatever found its way into the page.
        digest="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def page_of(
    front: Front,
    test: Pool | None = None,
    reference: str | None = None,
    *,
    chosen: Cascade | None = None,
    store: str | None = None,
    split: str | None = None,
    title: str = _TITLE,
    extra: Mapping[str, str] | None = None,
    sections: Sequence[Section] = (),
) -> str:
    """The whole report of a front: its rows, its members, its figure.

    Args:
        front: Committees found on the choosing split.
        test: The pool on a split that chose nothing, or None.
        reference: A model of the pool; the most accurate single one if left out.
        chosen: A committee of the front to mark, or None.
        store: The store in which ``committee search`` finds the same front; see
            :func:`committee.report.command.saving_of`.
        split: The split of the store that chose; None for the usual one.
        title: Of the page.
        extra: More lines for the settings, by name.
        sections: What stands after the front.

    Raises:
        MissingExtraError: If jinja2 or matplotlib is not installed.
        UnknownNameError, MisalignedError, CostError: As of :func:`summary`.
    """
    rows = summary(front, test, reference, chosen)
    members = front_rows(front, test, reference)
    best = ensemble_rows(front, test, reference)
    choice = choice_of(rows)
    figure = front_figure(front, test, reference, chosen=chosen, members=members, best=best)
    tiles = tiles_section(rows, members, front.pool if test is None else test)
    sections = [*([] if tiles is None else [tiles]), *sections]
    samples = [front.pool.samples, *([] if test is None else [test.samples])]
    left_out = "; ".join(each.left_out for each in samples if each.broken)
    told = dict(extra or {}) | ({"Samples": left_out} if left_out else {})
    return page(
        front,
        rows,
        members,
        best,
        figure_svg(figure),
        told,
        test=test,
        title=title,
        saving=saving_of(front, store, split),
        sections=sections,
        notes=notes_of(front, *(() if choice is None else (choice.versus, choice.promises))),
    )


def _headline(rows: Sequence[Row]) -> str:
    """What was chosen, how much cheaper and how much less accurate it is, and how sure that is."""
    row = choice_of(rows)
    if row is None or row.versus is None:
        return ""
    own = row.versus
    what = "Chosen" if CHOSEN in (row.role, *row.also) else f"Cheapest that {row.told}"
    if own.same:
        return f"{what}: {own.reference} itself; nothing cheaper is as accurate on {row.val.split}."
    does = f"is {own.text.removeprefix('be ')} it" if own.within else "matches it"
    sure = {
        "kept": f"The promise to {own.text} it is kept.",
        "missed": f"The promise to {own.text} it is missed.",
        "within chance": f"These {own.samples} are too few to tell whether it {does}.",
    }
    where = f"on {own.split} ({own.difference.samples:,} {own.samples})"
    flattered = f" Measured on {own.split}, which chose it: expect less." if own.chose else ""
    return (
        f"{what}: {words.named(row.cascade)}, {words.saving(own.saving)} than {own.reference} "
        f"and {words.difference(own.difference)} in accuracy {where}."
        f"{flattered or ' ' + sure.get(own.promise or '', '')}".rstrip()
    )


def _promises(rows: Sequence[Row]) -> str:
    """What became of the accuracy and the cost that the choice was asked for."""
    row = choice_of(rows)
    told = () if row is None else map(words.promised, row.promises)
    return "".join(f" {each[:1].upper()}{each[1:]}." for each in told)


def _written(front: Front) -> dict[str, str]:
    """When the page was written, and by which version."""
    from committee.version import __version__

    return {"Written": f"{date.today():%Y-%m-%d} by committee {__version__}"}


def _template() -> Template:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise MissingExtraError.of("The report page", "jinja2", "report") from None
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    written = (percent, words.interval, words.points, words.times, human_cost)
    environment.filters.update({each.__name__: each for each in (*written, words.exits)})
    environment.filters["difference"] = words.difference
    environment.filters["named"] = words.named
    environment.filters["drawing"] = _drawing
    return environment.from_string(_web(_TEMPLATE))


def _web(name: str) -> str:
    return files("committee.report").joinpath("web", name).read_text(encoding="utf-8")


def _in_script(data: Any) -> Markup:
    """Data for a script element, in which no tag can begin."""
    from markupsafe import Markup

    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    # Marked as safe because nothing is left that HTML reads as its own.
    return Markup(text)


def _drawing(section: Section) -> Markup:
    """The figure of a section, its names of parts unlike those of other figures on the page."""
    from markupsafe import Markup

    svg = section.svg[section.svg.index("<svg") :]
    return Markup(re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>in-{section.name}-", svg))


def _splits(front: Front, test: Pool | None, row: Row) -> list[dict[str, Any]]:
    """Which splits there are, what for, how large, and the fingerprint where it is known."""
    val = {"name": row.val.split, "samples": row.val.samples, "chose": True}
    found = [val | {"fingerprint": _mark(front.pool), "judged": row.test is None}]
    if row.test is not None:
        mark = "" if test is None else _mark(test)
        judge = {"name": row.test.split, "samples": row.test.samples, "chose": False}
        found.append(judge | {"fingerprint": mark, "judged": True})
    return found


def _mark(pool: Pool) -> str:
    """Return what tells the samples of a split from others, also where ids only count."""
    known = pool.samples.identity or not pool.names
    return pool.samples.fingerprint if known else pool.identity(pool.names)


def _settings(front: Front) -> dict[str, str]:
    settings = front.settings
    whole = "exact: every cascade that these settings allow was covered"
    return {
        "Search": whole if front.exact else "not exact: some cascades were left out",
        "Models of a committee, at most": str(settings.max_models),
        **({"Only": "single models and self-cascades"} if settings.self_cascades else {}),
        "Sequences of models covered": f"{settings.sequences:,}",
        "Cascades covered": f"{settings.cascades:,}",
        "Thresholds tried at each exit": f"{settings.grid} percentiles, always and never",
        "Confidence": settings.confidence,
        "Combination": settings.combine,
        "Unit of cost": settings.unit,
        "Bound on worst-case cost": _bounds(settings.worst_case),
        "Bound on average cost": _bounds(settings.average_case),
        "Covered": "everything" if front.exact else front.inexact,
    }


def _bounds(bounds: Mapping[str, float]) -> str:
    return ", ".join(human_cost(b, unit) for unit, b in bounds.items()) or "none"


def _costs(front: Front) -> list[tuple[str, Cost]]:
    """The cost of each model in the unit of the search, cheapest first."""
    unit = front.settings.unit
    tables_ = [division.costs.costs for division in front.pool.divisions]
    known = {name: each[unit] for costs in tables_ for name, each in costs.items()}
    costs = list(known.items())
    return sorted(costs, key=lambda pair: (pair[1].value, pair[0]))


def _alternative(rows: Sequence[Row]) -> str:
    """The figure in words, for those who cannot see it."""
    told = [
        f"{row.told} ({row.cascade}): {percent(row.judged.accuracy)} "
        f"at {human_cost(row.judged.average_cost, row.judged.unit)}"
        for row in rows
    ]
    split, measure = rows[0].judged.split, measure_text(rows[0].judged.measure)
    return f"{measure} on {split} against average cost on a log scale. " + "; ".join(told) + "."
