"""Every analysis, in the order of the paper, and how a study runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from committee.errors import CommitteeError, MissingExtraError, UnknownNameError
from committee.study import (
    best_cascades,
    calibration,
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
from committee.study.base import Analysis, Finding
from committee.study.context import Study

# Called with the name of what begins, how many are done, and how many there are.
Progress = Callable[[str, int, int], None]

ANALYSES: tuple[Analysis, ...] = (
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


def chosen_analyses(only: Sequence[str] = ()) -> tuple[Analysis, ...]:
    """Return the analyses of these names, in the order of the paper; all without names."""
    known = [analysis.name for analysis in ANALYSES]
    for name in only:
        if name not in known:
            raise UnknownNameError.of("study", "analysis", name, known)
    return tuple(a for a in ANALYSES if not only or a.name in only)


def run_study(
    study: Study, only: Sequence[str] = (), progress: Progress | None = None
) -> tuple[Finding, ...]:
    """Run analyses one after the other; those that the pool cannot support say why.

    Args:
        study: The pool and its settings.
        only: Names of analyses; all if left out.
        progress: Called as each begins, and once more when all are done.

    Returns:
        One finding for each analysis, in the order of :data:`ANALYSES`; ``left_out`` is empty or
        says why the pool cannot support it.
    """
    analyses = chosen_analyses(only)
    findings: list[Finding] = []
    for number, analysis in enumerate(analyses):
        if progress is not None:
            progress(analysis.name, number, len(analyses))
        finding = _finding(analysis, study)
        about = {"name": analysis.name, "title": analysis.title, "source": analysis.source}
        findings.append(replace(finding, **about))  # type: ignore[arg-type]
    if progress is not None:
        progress("", len(analyses), len(analyses))
    return tuple(findings)


def _finding(analysis: Analysis, study: Study) -> Finding:
    try:
        return analysis.analyse(study)
    except MissingExtraError:
        raise
    except CommitteeError as error:
        return Finding(left_out=str(error))
