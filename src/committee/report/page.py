"""Page: the whole report as one HTML file that needs nothing from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from committee.cost import Cost
from committee.errors import MissingExtraError
from committee.pool import Pool
from committee.report import tables
from committee.report.figure import figure_svg, front_figure
from committee.report.rows import Row, front_rows, summary
from committee.search import Front

if TYPE_CHECKING:
    from jinja2 import Template

_TEMPLATE = "page.html.jinja"
# A longer front is folded away until the reader asks for it.
_FOLDED = 30


def page(
    front: Front,
    rows: Sequence[Row],
    members: Sequence[Row],
    svg: str,
    extra: Mapping[str, str] | None = None,
    *,
    test: Pool | None = None,
    title: str = "Committees and single models",
) -> str:
    """Write the report as one self-contained HTML page.

    Args:
        front: Committees found on the choosing split.
        rows: From :func:`summary`.
        members: From :func:`front_rows`, on the same splits.
        svg: The figure, from :func:`figure_svg`; it is trusted and stands in the page as it is.
        extra: More lines for the settings, by name: the command, the version, the data set.
        test: The pool that judged, for its fingerprint.
        title: Of the page.

    Raises:
        MissingExtraError: If jinja2 is not installed.
    """
    template = _template()
    from markupsafe import Markup

    return template.render(
        title=title,
        rows=rows,
        members=members,
        folded=len(members) > _FOLDED,
        figure=Markup(svg[svg.index("<svg") :]),
        alternative=_alternative(rows),
        splits=_splits(front, test, rows[0]),
        settings=_settings(front) | dict(extra or {}),
        provenance=tables.provenance(rows),
        costs=_costs(front),
    )


def page_of(front: Front, test: Pool | None = None) -> str:
    """The whole report of a front: its rows, its members and its figure; arguments as of summary.

    Raises:
        MissingExtraError: If jinja2 or matplotlib is not installed.
        MisalignedError: If ``test`` holds the samples that chose, other classes, or no labels.
    """
    members = front_rows(front, test)
    svg = figure_svg(front_figure(front, test, members=members))
    samples = [front.pool.samples, *([] if test is None else [test.samples])]
    left_out = "; ".join(each.left_out for each in samples if each.broken)
    extra = {"Samples": left_out} if left_out else None
    return page(front, summary(front, test), members, svg, extra, test=test)


def _template() -> Template:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise MissingExtraError.of("The report page", "jinja2", "report") from None
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    written = (tables.percent, tables.interval, tables.points, tables.times, tables.human_cost)
    environment.filters.update({each.__name__: each for each in (*written, tables.exits)})
    environment.filters["named"] = tables.named
    source = files("committee.report").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(source)


def _splits(front: Front, test: Pool | None, row: Row) -> list[dict[str, Any]]:
    """Which splits there are, what for, how large, and the fingerprint where it is known."""
    val = {"name": row.val.split, "samples": row.val.samples, "chose": True}
    found = [val | {"fingerprint": front.pool.samples.fingerprint, "judged": row.test is None}]
    if row.test is not None:
        mark = "" if test is None else test.samples.fingerprint
        judge = {"name": row.test.split, "samples": row.test.samples, "chose": False}
        found.append(judge | {"fingerprint": mark, "judged": True})
    return found


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
    return ", ".join(tables.human_cost(b, unit) for unit, b in bounds.items()) or "none"


def _costs(front: Front) -> list[tuple[str, Cost]]:
    """The cost of each model in the unit of the search, cheapest first."""
    unit = front.settings.unit
    costs = [(name, each[unit]) for name, each in front.pool.costs.costs.items()]
    return sorted(costs, key=lambda pair: (pair[1].value, pair[0]))


def _alternative(rows: Sequence[Row]) -> str:
    """The figure in words, for those who cannot see it."""
    told = [
        f"{row.role} ({row.cascade}): {tables.percent(row.judged.accuracy)} "
        f"at {tables.human_cost(row.judged.average_cost, row.judged.unit)}"
        for row in rows
    ]
    split = rows[0].judged.split
    return f"Accuracy on {split} against average cost on a log scale. " + "; ".join(told) + "."
