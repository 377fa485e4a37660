"""How many models a committee needs: Wang et al. (2022), appendix E.4.1.

Figure 7 of the paper: committees of at most 2, 3 and 4 models over a sweep of target costs. It
finds a clear step from 2 to 3 models, and little beyond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from committee.errors import Unsupported
from committee.report.style import SERIES
from committee.report.text import points
from committee.study.base import About, Analysis, Cell, Column, Finding, Table
from committee.study.context import Judge, Judged, Study
from committee.study.drawing import finish, mark, mark_singles, plane
from committee.study.estimates import accuracy_of
from committee.study.text import told_gains

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About(
    "number_of_models",
    "How many models a committee needs",
    "appendix E.4.1, figure 7",
)
_TARGETS = 16


@dataclass(frozen=True)
class ByNumber:
    """What the figure shows.

    Args:
        singles: One model an architecture, by rising cost.
        chosen: For each number of models, the committee for each target, dearer targets last.
        unit: Unit of the costs.
        judge: Which split judged.
    """

    singles: tuple[Judged, ...]
    chosen: Mapping[int, tuple[Judged, ...]]
    unit: str
    judge: Judge


def analyse(study: Study) -> Finding[ByNumber]:
    """Pick, for each target cost and number of models, the most accurate committee.

    Raises:
        Unsupported: If committees have fewer than three models, so that nothing can be compared.
    """
    most = study.settings.max_models
    if most < 3:
        raise Unsupported(f"committees of up to {most} models; a comparison needs 3 or more")
    numbers = range(2, most + 1)
    targets = target_costs(study)
    # The cheapest model is on every front, so that every target can be met.
    chosen = {
        number: tuple(Judged.of(study.search(number).at_most(target)) for target in targets)
        for number in numbers
    }
    return Finding(
        ABOUT,
        (_table(study, targets, chosen), _steps(study, targets, chosen)),
        tuple(_told(study, chosen, number) for number in numbers[1:]),
        ByNumber(study.singles, chosen, study.settings.unit, study.judge),
    )


def target_costs(study: Study) -> list[float]:
    """Costs of equal ratio from the cheapest model's to that of the dearest committee that pays."""
    lowest = study.singles[0].val.average_cost
    highest = max(
        study.search(number).committees[-1].evaluation.average_cost
        for number in range(2, study.settings.max_models + 1)
    )
    if lowest <= 0:
        return [float(cost) for cost in np.linspace(lowest, highest, _TARGETS)]
    costs = np.geomspace(lowest, highest, _TARGETS)
    # Rounding must not put the ends out of reach of their owners.
    return [lowest, *map(float, costs[1:-1]), highest]


def _table(study: Study, targets: list[float], chosen: Mapping[int, tuple[Judged, ...]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for place, target in enumerate(targets):
        cells: list[Cell] = [target]
        for found in chosen.values():
            cells += [found[place].told, accuracy_of(found[place].test)]
        rows.append(tuple(cells))
    return Table(
        "The most accurate committee for each target cost",
        (
            Column("target", "cost", study.settings.unit),
            *(
                column
                for number in chosen
                for column in (
                    Column(f"up to {number} models"),
                    Column(f"up to {number}: accuracy", "share"),
                )
            ),
        ),
        tuple(rows),
        f"Chosen within the target on {study.val.samples.split}; accuracy is of {study.judge}.",
        name="targets",
    )


def _steps(study: Study, targets: list[float], chosen: Mapping[int, tuple[Judged, ...]]) -> Table:
    numbers = list(chosen)[1:]
    return Table(
        "What one model more brings at each target",
        (
            Column("target", "cost", study.settings.unit),
            *(Column(f"{number} over {number - 1} models", "points") for number in numbers),
        ),
        tuple(
            (
                target,
                *(
                    study.gain(chosen[n][place].cascade, chosen[n - 1][place].cascade)
                    for n in numbers
                ),
            )
            for place, target in enumerate(targets)
        ),
        name="steps",
    )


def _told(study: Study, chosen: Mapping[int, tuple[Judged, ...]], number: int) -> str:
    gains = [
        study.gain(more.cascade, fewer.cascade)
        for more, fewer in zip(chosen[number], chosen[number - 1], strict=True)
    ]
    mean = float(np.mean([gain.value for gain in gains]))
    clear = sum(gain.low > 0 for gain in gains)
    return (
        f"Up to {number} models instead of {number - 1} bring {points(mean)} points on average "
        f"over {len(gains)} target costs, {told_gains(gains)}; {clear} of the gains are clear of "
        "their paired interval."
    )


def draw(data: ByNumber) -> Figure:
    """Accuracy against average cost, one curve a number of models, after figure 7 of the paper.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure, axes, size, label = plane(data.unit, data.singles)
    drawn = [mark_singles(axes, data.singles, size)]
    for look, (number, found) in zip(SERIES, data.chosen.items(), strict=False):
        drawn.append(mark(axes, found, size, look, f"Up to {number} models", line=True))
    finish(axes, drawn, label, data.judge, data.singles)
    return figure


ANALYSIS = Analysis(ABOUT, analyse, draw)
