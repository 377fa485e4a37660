"""How many models a committee needs: Wang et al. (2022), appendix E.4.1.

Figure 7 of the paper: committees of at most 2, 3 and 4 models over a sweep of target costs. It
finds a clear step from 2 to 3 models, and little beyond.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from committee.errors import Unsupported
from committee.pool.table import Column, Table
from committee.report.text import gain_range
from committee.selection.front import Committee
from committee.study import columns
from committee.study.base import Analysis, Finding
from committee.study.context import Pick, Study
from committee.study.drawing import plane_of
from committee.style import SERIES, Figure
from committee.text import points

_TARGETS = 16

# For each number of models, the committee for each target cost, dearer targets last.
Chosen = Mapping[int, tuple[Committee, ...]]


def _analyse(study: Study) -> Finding:
    """Pick, for each target cost and number of models, the most accurate committee."""
    most = study.settings.max_models
    if most < 3:
        raise Unsupported(f"committees of up to {most} models; a comparison needs 3 or more")
    targets = _target_costs(study)
    # The cheapest model is on every front, so that every target can be met.
    chosen = {
        number: tuple(study.search(number).at_most(target) for target in targets)
        for number in range(2, most + 1)
    }
    sentences = tuple(_sentence(study, chosen, number) for number in range(3, most + 1))
    return Finding(_tables(study, targets, chosen), sentences, data=chosen)


def _target_costs(study: Study) -> list[float]:
    """Return costs of equal ratio from the cheapest model to the dearest committee that pays."""
    lowest = study.singles[0].val.average_cost
    highest = max(
        study.search(number)[-1].val.average_cost
        for number in range(2, study.settings.max_models + 1)
    )
    if lowest <= 0:
        return [float(cost) for cost in np.linspace(lowest, highest, _TARGETS)]
    costs = np.geomspace(lowest, highest, _TARGETS)
    # Rounding must not put the ends out of reach of their owners.
    return [lowest, *map(float, costs[1:-1]), highest]


def _tables(study: Study, targets: list[float], chosen: Chosen) -> tuple[Table, Table]:
    target = Column("target", lambda place: targets[place], "cost", study.settings.unit)
    places = range(len(targets))

    def pick(number: int) -> Pick:
        return lambda place: chosen[number][place]

    best = [
        column
        for number in chosen
        for column in (
            columns.models(f"up to {number} models", pick(number)),
            columns.accuracies(f"up to {number}: accuracy", pick(number)),
        )
    ]
    steps = [
        study.gains(f"{number} over {number - 1} models", pick(number), pick(number - 1))
        for number in list(chosen)[1:]
    ]
    note = f"Chosen within the target on {study.val_name}; accuracy is of {study.test_text}."
    return (
        Table("The most accurate committee for each target cost", (target, *best), places, note,
              name="targets"),
        Table("What one model more brings at each target", (target, *steps), places, name="steps"),
    )  # fmt: skip


def _sentence(study: Study, chosen: Chosen, number: int) -> str:
    gains = study.gains_of(list(zip(chosen[number - 1], chosen[number], strict=True)))
    mean = float(np.mean([gain.value for gain in gains]))
    clear = sum(gain.low > 0 for gain in gains)
    return (
        f"Up to {number} models instead of {number - 1} bring {points(mean)} points on average "
        f"over {len(gains)} target costs, {gain_range(gains)}; {clear} of the gains are clear of "
        "their paired interval."
    )


def _draw(study: Study, chosen: Chosen) -> Figure:
    """Draw accuracy against average cost, one curve a number of models, after figure 7."""
    plane = plane_of(study)
    plane.mark_singles()
    for look, (number, committees) in zip(SERIES, chosen.items(), strict=False):
        plane.mark(committees, look, f"Up to {number} models", line=True)
    return plane.finish()


ANALYSIS = Analysis(
    "number_of_models",
    "How many models a committee needs",
    "appendix E.4.1, figure 7",
    _analyse,
    _draw,
)
