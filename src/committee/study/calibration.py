"""Calibration, and what it does to ensembles: Wang et al. (2022), appendix D.2.

Figure 6 of the paper: models are right a little more often than they say; after calibration
confidence is accuracy. Accuracy of ensembles hardly changes by it.

Calibrations are fitted on samples that neither choose nor evaluate: those that the pool brings, or
else new ones, fitted on one half of the validation split while the other half chooses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from committee.arrays import Array
from committee.calibration.fitting import fit_calibrations
from committee.calibration.reliability import says_probabilities
from committee.errors import Unsupported
from committee.pool.comparison import identity_of
from committee.pool.intervals import Estimate, paired_difference
from committee.pool.pool import Pool
from committee.pool.table import Column, Table
from committee.report.reliability import reliability_figure
from committee.report.text import gain_range
from committee.rule.calibration import Calibration
from committee.rule.cascade import Cascade
from committee.rule.outputs import Outputs
from committee.rule.scores import max_prob
from committee.selection.exhaustive import ensembles
from committee.selection.front import Committee, front_of
from committee.store.calibrations import CalibrationEffect, calibration_effects
from committee.study import columns
from committee.study.base import Analysis, Finding
from committee.study.context import Study
from committee.style import Figure
from committee.text import points

# The paper's: a learned rising map.
_METHOD = "platt"
_SEED = 0


@dataclass(frozen=True, eq=False)
class _Halves:
    """The pool on samples that fit, None if it was calibrated before, and on those that choose."""

    fits: Pool | None
    chooses: Pool
    text: str


@dataclass(frozen=True)
class _Reliable:
    """One model on the test split: its errors and its overconfidence, before and after."""

    calibration: str
    errors: CalibrationEffect
    before: Estimate | None
    after: Estimate


def _analyse(study: Study) -> Finding:
    """Return the reliability of each architecture's first model, and what calibration changes."""
    if study.one_score:
        raise Unsupported(
            f"only scores and counts are kept of {study.test.task.units}; there are no outputs to "
            "calibrate"
        )
    own, halves = study.settings, _split_halves(study)
    every = ensembles(halves.chooses, own.max_models, own.combine, own.unit, own.metric)
    best = [each.cascade.names for each in front_of(every)] if every else []
    # The first block of views stands for all: they are of one size and one set of weights.
    first = [study.val.single(name)[0] for name in study.names]
    needed = sorted({*first, *(name for names in best for name in names)})
    known: Mapping[str, Calibration] = study.val.calibrations
    if halves.fits is not None:
        known = fit_calibrations(halves.fits.only(needed), _METHOD)
    shown = study.test.only(first)
    shown = shown.with_calibrations({n: known[n] for n in first if n in known})
    note = f"{halves.text}; evaluated on {study.test.samples.split} ({len(study.test):,} samples)."
    reliable = list(_reliable(shown))
    tables = [_reliability_table(reliable, note)]
    sentences = [f"{halves.text}.", *_confidence_sentences(reliable)]
    if best:
        changes = _changes(study, best, known)
        tables.append(_ensembles_table(study, changes, note))
        sentences.append(_ensembles_sentence(study, changes))
    return Finding(tuple(tables), tuple(sentences), data=shown)


def _split_halves(study: Study) -> _Halves:
    """Return samples that fit and samples that choose; all choose if the pool is calibrated."""
    raw, split = study.val.with_calibrations({}), study.val_name
    known = study.val.calibrations
    if any(each.samples == identity_of(raw, [name]) for name, each in known.items()):
        raise Unsupported(
            f"the pool's calibrations were fitted on {split!r}, which chooses; fit them on a split "
            "of its own, or leave them out"
        )
    if known:
        fitted = {each.split for each in known.values() if each.split}
        on = ", ".join(sorted(fitted)) or "other samples"
        return _Halves(None, raw, f"Calibrations were fitted on {on}, {split} chose the ensembles")
    order = np.random.default_rng(_SEED).permutation(len(raw))
    middle = len(raw) // 2
    fits = raw.rows(np.sort(order[:middle]), f"half of {split}")
    chooses = raw.rows(np.sort(order[middle:]), f"other half of {split}")
    text = (
        f"Calibrations were fitted on a random half of {split} ({len(fits):,} samples), the other "
        f"half ({len(chooses):,}) chose the ensembles"
    )
    return _Halves(fits, chooses, text)


# An ensemble before and after its models were calibrated.
_Change = tuple[Committee, Committee]


def _changes(
    study: Study, best: Sequence[tuple[str, ...]], calibrations: Mapping[str, Calibration]
) -> list[_Change]:
    own = study.settings
    before, after = (
        study.evaluated([Cascade.ensemble(n, own.confidence, own.combine, known) for n in best])
        for known in ({}, calibrations)
    )
    return list(zip(before, after, strict=True))


def _reliable(pool: Pool) -> Iterator[_Reliable]:
    """Yield the reliability of the calibrated models of a pool."""
    labels = pool.samples.labels
    assert labels is not None  # a study has evaluated on them
    for errors in calibration_effects(pool, pool.calibrations):
        raw, calibration = pool.model(errors.model), pool.calibrations[errors.model]
        before = _overconfidence(raw, labels) if says_probabilities(raw) else None
        after = _overconfidence(calibration.apply(raw), labels)
        yield _Reliable(calibration.text, errors, before, after)


def _overconfidence(outputs: Outputs, labels: Array) -> Estimate:
    """Return mean confidence less accuracy, paired.

    Below 0 a model is right more often than it says.
    """
    if outputs.kind == "decisions":
        confidence = np.asarray(outputs.confidence, np.float64)
    else:
        confidence = max_prob(outputs.values, outputs.kind)
    return paired_difference(confidence, outputs.predicted() == labels)


def _reliability_table(reliable: Sequence[_Reliable], note: str) -> Table:
    return Table(
        "Reliability before and after calibration",
        (
            Column("model", lambda each: each.errors.model),
            Column("calibration", lambda each: each.calibration),
            Column("expected calibration error", lambda each: each.errors.before, "share"),
            Column("after calibration", lambda each: each.errors.after, "share"),
            Column("confidence less accuracy", lambda each: each.before, "points"),
            Column("confidence less accuracy, after", lambda each: each.after, "points"),
        ),
        reliable,
        note,
        name="reliability",
    )


def _ensembles_table(study: Study, changes: Sequence[_Change], note: str) -> Table:
    before, after = itemgetter(0), itemgetter(1)
    return Table(
        "The best ensembles before and after calibration",
        (
            Column("ensemble", lambda change: " + ".join(change[0].cascade.names)),
            columns.costs("average cost", before, study.settings.unit),
            columns.accuracies("accuracy", before),
            columns.accuracies("accuracy after calibration", after),
            study.gains("gain", after, before),
        ),
        changes,
        note,
        name="ensembles",
    )


def _confidence_sentences(reliable: Sequence[_Reliable]) -> Iterator[str]:
    before = [each.before for each in reliable if each.before is not None]
    after = [100 * each.errors.after for each in reliable]
    now = f"{min(after):.2f} to {max(after):.2f} % after calibration."
    if not before:
        yield (
            "Confidences are no probabilities before calibration. The expected calibration error "
            f"is {now}"
        )
        return
    errors = [100 * e.errors.before for e in reliable if e.errors.before is not None]
    under, over = sum(e.high < 0 for e in before), sum(e.low > 0 for e in before)
    yield (
        f"{under} of {len(before)} models are clearly underconfident and {over} clearly "
        "overconfident."
    )
    yield (
        f"The expected calibration error is {min(errors):.2f} to {max(errors):.2f} % before, {now}"
    )


def _ensembles_sentence(study: Study, changes: Sequence[_Change]) -> str:
    gains = study.gains_of(changes)
    clear = sum(gain.low > 0 or gain.high < 0 for gain in gains)
    mean = float(np.mean([gain.value for gain in gains]))
    return (
        f"Calibrating their models changes the accuracy of {len(changes)} best ensembles by "
        f"{gain_range(gains)} points, {points(mean)} on average; {clear} of the changes are clear "
        "of their paired interval."
    )


def _draw(study: Study, pool: Pool) -> Figure:
    """Draw accuracy by confidence before and after calibration, after figure 6 of the paper."""
    return reliability_figure(pool)


ANALYSIS = Analysis(
    "calibration", "Calibration and ensembles", "appendix D.2, figure 6", _analyse, _draw
)
