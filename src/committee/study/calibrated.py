"""Calibration, and what it does to ensembles: Wang et al. (2022), appendix D.2.

Figure 6 of the paper: models are right a little more often than they say; after calibration
confidence is accuracy. Accuracy of ensembles hardly changes by it.

Calibrations are fitted on samples that neither choose nor judge: those that the pool brings, or
else new ones, fitted on one half of the choosing split while the other half chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from committee.arrays import Array
from committee.calibration.fitting import fit_calibrations
from committee.calibration.reliability import says_probabilities
from committee.errors import Unsupported
from committee.pool.evaluate import Evaluation
from committee.pool.pool import Pool
from committee.report.reliability import reliability_figure
from committee.report.text import points
from committee.rule.calibration import Calibration
from committee.rule.cascade import Cascade
from committee.rule.outputs import Outputs
from committee.rule.scores import max_prob
from committee.selection.evaluate_many import evaluate_all
from committee.selection.exhaustive import ensembles
from committee.selection.front import front_of
from committee.selection.paired import Estimate
from committee.store.calibrate import Judged, judge
from committee.study.base import About, Analysis, Column, Finding, Table
from committee.study.context import Study
from committee.study.estimates import accuracy_of, paired_difference
from committee.study.text import told_gains

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About("calibration", "Calibration and ensembles", "appendix D.2, figure 6")
# The paper's: a learned rising map.
_METHOD = "platt"
_SEED = 0


@dataclass(frozen=True, eq=False)
class Apart:
    """Which samples fit calibrations and which choose.

    Args:
        fits: The pool on samples to fit on; None if the pool brought its calibrations.
        chooses: The pool, uncalibrated, on samples that no calibration was fitted on.
        told: Both, for people.
    """

    fits: Pool | None
    chooses: Pool
    told: str


@dataclass(frozen=True)
class Reliable:
    """One model on the judging split.

    Args:
        model: Its name.
        calibration: Its calibration, for people.
        errors: Expected calibration errors before and after.
        before: Mean confidence less accuracy; None if confidence is no probability.
        after: The same after calibration.
    """

    model: str
    calibration: str
    errors: Judged
    before: Estimate | None
    after: Estimate


@dataclass(frozen=True)
class Change:
    """An ensemble before and after its models were calibrated, on the judging split.

    Args:
        models: Their names.
        before: Of outputs as they are.
        after: Of calibrated outputs.
        gain: Accuracy after less that before, paired.
    """

    models: tuple[str, ...]
    before: Evaluation
    after: Evaluation
    gain: Estimate


def analyse(study: Study) -> Finding[Pool]:
    """Reliability of each architecture's first model, and the best ensembles, before and after.

    Raises:
        Unsupported: If the calibrations of the pool were fitted on samples that choose.
        CalibrationError: If no calibration is best; the model is named.
    """
    if study.val.kind == "counts":
        raise Unsupported(
            f"of {study.judge.units} only scores and counts are kept; there are no outputs to "
            "calibrate"
        )
    own, apart = study.settings, set_apart(study)
    every = ensembles(apart.chooses, own.max_models, own.combine, own.unit)
    best = [each.cascade.names for each in front_of(every)] if every else []
    # Of blocks of views the first stands for all: they are of one size and one set of weights.
    first = [study.val.single(name)[0] for name in study.names]
    needed = sorted({*first, *(name for names in best for name in names)})
    known: Mapping[str, Calibration] = study.val.calibrations
    if apart.fits is not None:
        known = fit_calibrations(apart.fits.only(needed), _METHOD)
    shown = study.test.only(first)
    shown = shown.with_calibrations({n: known[n] for n in first if n in known})
    reliable = reliabilities(shown)
    tables = [_reliability(study, reliable, apart)]
    sentences = [f"{apart.told}.", *_told_confidence(reliable)]
    if best:
        changes = changes_of(study, best, known)
        tables.append(_ensembles(study, changes, apart))
        sentences.append(_told_ensembles(changes))
    return Finding(ABOUT, tuple(tables), tuple(sentences), shown)


def set_apart(study: Study) -> Apart:
    """Samples that fit and samples that choose; of a calibrated pool all of its split choose.

    Raises:
        Unsupported: If its calibrations were fitted on the samples that choose.
    """
    raw, split = study.val.with_calibrations({}), study.val.samples.split
    known = study.val.calibrations
    given = known.values()
    if any(each.samples == raw.identity([name]) for name, each in known.items()):
        raise Unsupported(
            f"the pool's calibrations were fitted on {split!r}, which chooses; fit them on a split "
            "of its own, or leave them away"
        )
    if given:
        on = ", ".join(sorted({each.split for each in given if each.split})) or "other samples"
        return Apart(None, raw, f"Calibrations were fitted on {on}, {split} chose the ensembles")
    order = np.random.default_rng(_SEED).permutation(len(raw))
    middle = len(raw) // 2
    fits = raw.rows(np.sort(order[:middle]), f"half of {split}")
    chooses = raw.rows(np.sort(order[middle:]), f"other half of {split}")
    told = (
        f"Calibrations were fitted on a random half of {split} ({len(fits):,} samples), the other "
        f"half ({len(chooses):,}) chose the ensembles"
    )
    return Apart(fits, chooses, told)


def changes_of(
    study: Study, best: Sequence[tuple[str, ...]], calibrations: Mapping[str, Calibration]
) -> tuple[Change, ...]:
    """Ensembles, by the names of their models, before and after calibration."""
    own = study.settings
    before, after = (
        [Cascade.ensemble(names, own.confidence, own.combine, each) for names in best]
        for each in ({}, calibrations)
    )
    gains = map(study.gain, after, before)
    judged = (evaluate_all(each, study.test, own.unit) for each in (before, after))
    return tuple(map(Change, best, *judged, gains))


def reliabilities(pool: Pool) -> tuple[Reliable, ...]:
    """Reliability of the calibrated models of a pool, before and after."""
    labels = pool.samples.labels
    assert labels is not None  # a study has judged on them
    found = []
    for errors in judge(pool, pool.calibrations):
        raw, calibration = pool.model(errors.model), pool.calibrations[errors.model]
        before = overconfidence(raw, labels) if says_probabilities(raw) else None
        after = overconfidence(calibration.apply(raw), labels)
        found.append(Reliable(errors.model, calibration.text, errors, before, after))
    return tuple(found)


def overconfidence(outputs: Outputs, labels: Array) -> Estimate:
    """Mean confidence less accuracy, paired; below 0 a model is right more often than it says."""
    if outputs.kind == "decisions":
        confidence = np.asarray(outputs.confidence, np.float64)
    else:
        confidence = max_prob(outputs.values, outputs.kind)
    return paired_difference(confidence, outputs.predicted() == labels)


def _reliability(study: Study, reliable: Sequence[Reliable], apart: Apart) -> Table:
    return Table(
        "Reliability before and after calibration",
        (
            Column("model"),
            Column("calibration"),
            Column("expected calibration error", "share"),
            Column("after calibration", "share"),
            Column("confidence less accuracy", "points"),
            Column("confidence less accuracy, after", "points"),
        ),
        tuple(
            (e.model, e.calibration, e.errors.before, e.errors.after, e.before, e.after)
            for e in reliable
        ),
        _note(study, apart),
        name="reliability",
    )


def _ensembles(study: Study, changes: Sequence[Change], apart: Apart) -> Table:
    return Table(
        "The best ensembles before and after calibration",
        (
            Column("ensemble"),
            Column("average cost", "cost", study.settings.unit),
            Column("accuracy", "share"),
            Column("accuracy after calibration", "share"),
            Column("gain", "points"),
        ),
        tuple(
            (
                " + ".join(each.models),
                each.before.average_cost,
                accuracy_of(each.before),
                accuracy_of(each.after),
                each.gain,
            )
            for each in changes
        ),
        _note(study, apart),
        name="ensembles",
    )


def _note(study: Study, apart: Apart) -> str:
    return f"{apart.told}; judged on {study.test.samples.split} ({len(study.test):,} samples)."


def _told_confidence(reliable: Sequence[Reliable]) -> list[str]:
    before = [each.before for each in reliable if each.before is not None]
    after = [100 * each.errors.after for each in reliable]
    now = f"{min(after):.2f} to {max(after):.2f} % after calibration."
    if not before:
        return [
            "Confidences are no probabilities before calibration. The expected calibration error "
            f"is {now}"
        ]
    errors = [100 * e.errors.before for e in reliable if e.errors.before is not None]
    under, over = sum(e.high < 0 for e in before), sum(e.low > 0 for e in before)
    return [
        f"Of {len(before)} models {under} are clearly underconfident and {over} clearly "
        "overconfident.",
        f"The expected calibration error is {min(errors):.2f} to {max(errors):.2f} % before, {now}",
    ]


def _told_ensembles(changes: Sequence[Change]) -> str:
    gains = [each.gain for each in changes]
    clear = sum(gain.low > 0 or gain.high < 0 for gain in gains)
    mean = float(np.mean([gain.value for gain in gains]))
    return (
        f"Calibrating their models changes the accuracy of {len(changes)} best ensembles by "
        f"{told_gains(gains)} points, {points(mean)} on average; {clear} of the changes are clear "
        "of their paired interval."
    )


def draw(data: Pool) -> Figure:
    """Accuracy by confidence before and after, a panel a model, after figure 6 of the paper.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    return reliability_figure(data)


ANALYSIS = Analysis(ABOUT, analyse, draw)
