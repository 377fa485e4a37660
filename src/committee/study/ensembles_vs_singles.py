"""Ensembles against single models: Wang et al. (2022), section 3.

Figure 2 of the paper shows the Pareto-optimal ensembles beside the single models, table 11 an
ensemble as accurate as a large model for less. The paper finds that ensembles pay in the regime of
much computation, and not in that of little.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from committee.errors import Unsupported
from committee.pool.table import Column, Table
from committee.report.text import gain_range, named, ratio_range
from committee.selection.front import Committee
from committee.study import columns
from committee.study.base import Analysis, Finding
from committee.study.context import Study
from committee.study.drawing import plane_of
from committee.style import ENSEMBLE, Figure


def _analyse(study: Study) -> Finding:
    """Find, for each single model, the cheapest ensemble that is as accurate."""
    best = best_ensembles(study)
    matches = [(single, _match(single, best)) for single in study.singles]
    cheaper = [
        (single, ensemble)
        for single, ensemble in matches
        if ensemble and ensemble.val.average_cost < single.val.average_cost
    ]
    sentences = [
        f"{len(best)} ensembles of 2 to {study.settings.max_models} models are Pareto-optimal.",
        f"{len(cheaper)} of {len(matches)} single models {'has' if len(cheaper) == 1 else 'have'} "
        f"an ensemble that is as accurate on {study.val_name} for less.",
    ]
    if cheaper:
        names = ", ".join(named(single.cascade) for single, _ in cheaper)
        sentences.append(
            f"For {names} the speedup is {ratio_range(columns.speedups(cheaper))}; accuracy on "
            f"{study.test_text} differs by {gain_range(study.gains_of(cheaper))} points."
        )
    return Finding((_matching(study, matches), _pareto(study, best)), tuple(sentences), data=best)


def best_ensembles(study: Study) -> tuple[Committee, ...]:
    """Return the study's Pareto-optimal ensembles."""
    if study.ensembles:
        return study.ensembles
    if len(study.val.singles(study.settings.combine)) == 1:
        raise Unsupported("no ensemble: there is one model only")
    raise Unsupported(
        f"no ensemble: of {study.val.combined_kind}, {study.settings.combine} averages nothing"
    )


def _match(single: Committee, ensembles: Sequence[Committee]) -> Committee | None:
    # Ensembles rise in both, so that the first that is good enough is the cheapest.
    return next((each for each in ensembles if each.val.accuracy >= single.val.accuracy), None)


def _matching(study: Study, matches: Sequence[tuple[Committee, Committee | None]]) -> Table:
    single, ensemble, unit = itemgetter(0), itemgetter(1), study.settings.unit
    return Table(
        "For each single model the cheapest ensemble that is as accurate",
        (
            columns.models("model", single),
            columns.accuracies("accuracy", single),
            columns.costs("cost", single, unit),
            columns.models("ensemble", ensemble),
            columns.accuracies("ensemble: accuracy", ensemble),
            columns.costs("ensemble: cost", ensemble, unit),
            study.gains("gain", ensemble, single),
            columns.ratios("speedup", ensemble, single),
        ),
        matches,
        f"As accurate on {study.val_name}; the figures are of {study.test_text}. A speedup below 1 "
        "means that the ensemble costs more. The first training of each architecture stands for "
        "it.",
        name="matching",
    )


def _pareto(study: Study, ensembles: Sequence[Committee]) -> Table:
    def ensemble(each: Committee) -> Committee:
        return each

    return Table(
        "Pareto-optimal ensembles",
        (
            columns.models("ensemble", ensemble),
            Column("models", lambda each: len(study.by_weights(each.cascade)), "count"),
            columns.costs("cost", ensemble, study.settings.unit),
            columns.accuracies("accuracy", ensemble),
            Column("accuracy on the validation split", lambda each: each.val.accuracy, "share"),
        ),
        ensembles,
        name="pareto",
    )


def _draw(study: Study, ensembles: Sequence[Committee]) -> Figure:
    """Draw accuracy against cost of single models and ensembles, after figure 2 of the paper."""
    plane = plane_of(study)
    plane.mark_singles()
    plane.mark(ensembles, ENSEMBLE, "Pareto-optimal ensembles", line=True)
    return plane.finish()


ANALYSIS = Analysis(
    "ensembles_vs_singles",
    "Ensembles against single models",
    "section 3, figure 2, table 11",
    _analyse,
    _draw,
)
