"""Committees of one architecture against those of several: Wang et al. (2022), appendix E.5.1.

Table 18 of the paper: cascades of trainings of one architecture already cost less than an equally
accurate single model; those that mix architectures cost less still.
"""

from __future__ import annotations

from collections.abc import Sequence

from committee.errors import Unsupported
from committee.report.text import ratio_range
from committee.selection.front import Committee
from committee.study import columns
from committee.study.base import Analysis, Entry, Finding
from committee.study.context import Study, feasible
from committee.study.drawing import draw_beside
from committee.style import CASCADE, SERIES, Figure, cost_axis

ONE, ANY = "one architecture", "any architectures"


def _analyse(study: Study) -> Finding:
    """Find for each single model the cheapest equal of one architecture, and of any."""
    trained = [models for models in study.architectures.values() if len(models) > 1]
    if not trained or len(study.architectures) < 2:
        raise Unsupported(
            "it takes two architectures and two trainings of one; families say which models are "
            "trainings of one architecture"
        )
    rows = [(single, _of_one(study, single), mixed) for single, mixed in study.matched]
    entries = [
        Entry(single, kind, committee)
        for single, same, mixed in rows
        for kind, committee in (("", single), (ONE, same), (ANY, mixed))
    ]
    table = columns.beside_table(
        study,
        "Committees of one architecture and of any",
        "architectures",
        entries,
        "The cheapest committees that are as accurate as the model on the split that chose.",
    )
    known = [(columns.speedup(s, one), columns.speedup(s, mixed)) for s, one, mixed in rows]
    pairs = [(one, mixed) for one, mixed in known if one and mixed]
    sentences = (
        f"Against {len(rows)} single models, committees of one architecture are cheaper by "
        f"{ratio_range([one for one, _ in pairs])}, those of any architectures by "
        f"{ratio_range([mixed for _, mixed in pairs])}.",
        f"Mixing architectures was cheaper for {sum(m > one for one, m in pairs)} of {len(rows)}.",
    )
    return Finding((table,), sentences, data=entries)


def _of_one(study: Study, single: Committee) -> Committee:
    """Return the cheapest equal over all architectures, each searched by itself."""
    candidates = [single]
    for trainings in study.architectures.values():
        front = study.search(models=[n for each in trainings for n in study.val.single(each)])
        best = feasible(front.at_least, single.val.accuracy)
        candidates += [] if best is None else [best]
    return min(candidates, key=lambda each: each.val.average_cost)


def _draw(study: Study, entries: Sequence[Entry]) -> Figure:
    """Draw average cost and gain in accuracy, a row a single model."""
    size, label = cost_axis(
        study.settings.unit, [each.single.reported.average_cost for each in entries]
    )
    looks = {ONE: SERIES[2], ANY: CASCADE}
    return draw_beside(study, entries, looks, label, study.provenance.capitalize(), size=size)


ANALYSIS = Analysis(
    "diversity", "One architecture or several", "appendix E.5.1, table 18", _analyse, _draw
)
