"""Every analysis, in the order of the paper, and how a study runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from committee.errors import CommitteeError, MissingExtraError, UnknownNameError
from committee.study import (
    best_cascades,
    confidence_functions,
    diversity,
    ensembles_as_cascades,
    ensembles_vs_singles,
    exit_ratios,
    measured_costs,
    number_of_models,
    outside_references,
    scaled_family,
    self_cascades,
    threshold_sweep,
    tiles,
    training_cost,
    trainings,
    views,
    worst_case,
)
from committee.study import calibrated as calibration
from committee.study.base import AnyAnalysis, AnyFinding, Finding
from committee.study.context import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Called with the name of what is begun, how many are done, and how many there are.
Progress = Callable[[str, int, int], None]

ANALYSES: tuple[AnyAnalysis, ...] = (
    ensembles_vs_singles.ANALYSIS,
    ensembles_as_cascades.ANALYSIS,
    confidence_functions.ANALYSIS,
    threshold_sweep.ANALYSIS,
    best_cascades.ANALYSIS,
    measured_costs.ANALYSIS,
    outside_references.ANALYSIS,
    worst_case.ANALYSIS,
    self_cascades.ANALYSIS,
    views.ANALYSIS,
    tiles.ANALYSIS,
    training_cost.ANALYSIS,
    calibration.ANALYSIS,
    scaled_family.ANALYSIS,
    exit_ratios.ANALYSIS,
    number_of_models.ANALYSIS,
    trainings.ANALYSIS,
    diversity.ANALYSIS,
)


def chosen_analyses(only: Sequence[str] = ()) -> tuple[AnyAnalysis, ...]:
    """The analyses named, in their own order; all if none is named.

    Raises:
        UnknownNameError: If there is no analysis of a name.
    """
    known = [analysis.about.name for analysis in ANALYSES]
    for name in only:
        if name not in known:
            raise UnknownNameError.of("study", "analysis", name, known)
    return tuple(a for a in ANALYSES if not only or a.about.name in only)


def run_study(
    study: Study, only: Sequence[str] = (), progress: Progress | None = None
) -> tuple[AnyFinding, ...]:
    """Run analyses one after the other; what the pool cannot support is left out by name.

    Args:
        study: What is asked.
        only: Names of analyses; all if left out.
        progress: Called as each begins, and once more when all are done.

    Returns:
        One finding an analysis, in the order of :data:`ANALYSES`; each that could not be made says
        why in ``left_out``.

    Raises:
        UnknownNameError: If there is no analysis of a name.
        MissingExtraError: If a package is missing: that is no property of the pool.
    """
    analyses = chosen_analyses(only)
    found: list[AnyFinding] = []
    for number, analysis in enumerate(analyses):
        if progress is not None:
            progress(analysis.about.name, number, len(analyses))
        found.append(_finding(analysis, study))
    if progress is not None:
        progress("", len(analyses), len(analyses))
    return tuple(found)


def _finding(analysis: AnyAnalysis, study: Study) -> AnyFinding:
    try:
        return replace(analysis.analyse(study), about=analysis.about)
    except MissingExtraError:
        raise
    except CommitteeError as error:
        return Finding(analysis.about, left_out=str(error))


def figure_of(finding: AnyFinding) -> Figure | None:
    """The figure of a finding; None if it has none.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    draw = next(a.draw for a in ANALYSES if a.about.name == finding.name)
    return None if draw is None or finding.data is None else draw(finding.data)
