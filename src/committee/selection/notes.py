"""Notes: one-line warnings that users should read before they trust a choice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from committee.arrays import Array
from committee.calibration.reliability import (
    expected_calibration_error,
    says_probabilities,
    worse_note,
)
from committee.pool.comparison import identity_of
from committee.pool.evaluate import Evaluation
from committee.pool.intervals import chance_of
from committee.pool.prefixes import PrefixSource, StageSequence
from committee.rule.calibration import Calibration
from committee.rule.cascade import Cascade
from committee.rule.outputs import WITH_CONFIDENCE
from committee.selection.front import Front
from committee.selection.paired import Comparison
from committee.selection.shard_counts import CountTable
from committee.selection.statistics import PrefixTable, Statistics
from committee.selection.targets import Promise
from committee.spec.task import Task

# Fewer images than this get a note even if they tell models apart: the search compares thousands
# of cascades on them, and the bootstrap of so few is too narrow.
_FEW = 30
# A 95 % interval of accuracy wider than this gets a note.
_WIDE = 0.05


def target_of(
    cascade: Cascade, calibrations: Mapping[str, Calibration] | None = None
) -> tuple[str, Cascade, float] | None:
    """Return the name, cascade and margin of the reference that a cascade should match, or None.

    Args:
        cascade: The cascade.
        calibrations: Those of the reference's models; by default those that the cascade carries,
            and its target records.
    """
    target = cascade.origin.target
    if not target.models:
        return None
    known = calibrations
    if known is None:
        known = {**cascade.calibrations, **target.known_calibrations()}
    # A model alone is not combined; without its calibration it may be of another kind.
    combine = cascade.combine if len(target.models) > 1 else None
    reference = Cascade.of([target.models], (), cascade.confidence, combine, known)
    return target.match or str(reference), reference, target.within


def notes_of(
    front: Front, comparison: Comparison | None = None, promises: Sequence[Promise] = ()
) -> tuple[str, ...]:
    """Return every note on a front and on the committee chosen from it, one line each."""
    own = [] if comparison is None else of_comparison(comparison, front.pool.task)
    return tuple(dict.fromkeys([*own, *of_promises(promises), *front.warnings]))


def of_comparison(comparison: Comparison, task: Task) -> list[str]:
    """Return the notes on a committee compared with the reference that it should match."""
    own = comparison.difference
    names = f"`{comparison.committee}` is less accurate than `{comparison.reference}`"
    if comparison.same or comparison.certified:
        return []
    if comparison.promise == "missed":
        return [
            f"{names} on {comparison.split}: its promise to {comparison.text} it is missed there"
        ]
    if own.low <= 0 <= own.high:
        spread = (own.high - own.low) / 2
        pair = comparison.committee, comparison.reference
        return [_within_chance(*pair, own.value, spread, own.samples, task)]
    if comparison.promise == "within chance":
        return [
            f"{names}; {own.samples:,} {comparison.samples} are too few to tell whether its "
            f"promise to {comparison.text} it is kept"
        ]
    return []


def of_promises(promises: Sequence[Promise]) -> list[str]:
    """Return the notes on a committee that is less accurate or costs more than it promised."""
    than = {"accuracy": "is less accurate", "cost": "costs more on average"}
    return [
        f"the choice {than[each.what]} on {each.split} than its target: that promise is missed"
        for each in promises
        if each.outcome == "missed"
    ]


@dataclass(frozen=True, eq=False)
class SearchNotes:
    """The warnings on a search, one line each, computed when it is called.

    Args:
        quick: Those that are known.
        source: What was searched.
        unit: The unit of the costs.
        values: Values of the single models that the search had, by name; None if ``quick`` says
            all that they tell.
        last: Those that come after the computed ones.
    """

    quick: tuple[str, ...]
    source: PrefixSource
    unit: str
    values: Mapping[str, Array] | None
    last: tuple[str, ...]

    def __call__(self) -> tuple[str, ...]:
        """Return the warnings."""
        close = [] if self.values is None else _too_few_samples(self.source, self.values, self.unit)
        return (
            *self.quick,
            *close,
            *_calibrated_here(self.source),
            *_calibrated_worse(self.source),
            *self.last,
        )


def search_notes(
    source: PrefixSource,
    table: Statistics,
    sequences: Sequence[StageSequence],
    unit: str,
    best: Evaluation,
    last: tuple[str, ...],
) -> SearchNotes:
    """Return the warnings on a search, which keep no part of its large table alive."""
    quick = (
        *_one_model(source),
        *_alone(source, sequences),
        *_constant_scores(source, table),
        *few_samples(best, source.pool.task),
    )
    if isinstance(table, CountTable):
        quick = (*quick, *_too_few_samples(source, table, unit))
        return SearchNotes(quick, source, unit, None, last)
    values = {}
    if source.additive and isinstance(table, PrefixTable):
        # Bounds on the worst case keep dear models out of the table.
        rows = {name: table.rows.get((name,)) for name in source.pool.names}
        values = {name: table.values[row].copy() for name, row in rows.items() if row is not None}
    return SearchNotes(quick, source, unit, values, last)


def few_samples(evaluation: Evaluation, task: Task, use: str = "choose") -> list[str]:
    """Return a note if an accuracy is too uncertain to choose or evaluate by."""
    if not evaluation.is_share:
        return []
    low, high = evaluation.interval
    count = evaluation.samples
    if high - low <= _WIDE and (count >= _FEW or evaluation.bounds is None):
        return []
    what = task.sample if count == 1 else task.samples
    are = "is" if count == 1 else "are"
    known = f"is uncertain by ±{50 * (high - low):.1f} points"
    if round(50 * (high - low), 1) == 0:
        known = f"is uncertain by more than so few {task.samples} show"
    accuracy = f"an accuracy measured on {evaluation.split} {known}"
    return [f"{count:,} {what} {are} few to {use} on: {accuracy}"]


def _one_model(source: PrefixSource) -> list[str]:
    if len(source.pool.singles(source.combine)) > 1 or len(source.pool.names) > 1:
        return []
    return ["there is one model, so there is nothing to choose. Add models or resolutions"]


def _calibrated_worse(source: PrefixSource) -> list[str]:
    samples, labels = source.pool.samples, source.pool.samples.labels
    if labels is None or not len(labels) or samples.labelled_by:
        return []
    notes = []
    for name, calibration in sorted(source.pool.calibrations.items()):
        model = source.pool.models[name]
        if says_probabilities(model.outputs):
            before = expected_calibration_error(model.outputs, labels)
            after = expected_calibration_error(model.calibrated(slice(None)), labels)
            fitted = calibration.split == samples.split and model.cross_fitted is None
            notes.append(worse_note(name, before, after, samples.split, len(labels), fitted))
    return [line for line in notes if line]


def _calibrated_here(source: PrefixSource) -> list[str]:
    pool, samples = source.pool, source.pool.samples
    names = sorted(n for n, c in pool.calibrations.items() if c.samples == identity_of(pool, [n]))
    apart = [n for n in names if pool.models[n].cross_fitted is not None]
    names = [n for n in names if n not in apart]
    notes = []
    if apart:
        notes.append(
            f"calibrations of {', '.join(apart)} were fitted on {samples.split}, which also chose: "
            "there each sample was calibrated by a fit to the other four of five folds"
        )
    if not names:
        return notes
    return [
        *notes,
        f"calibrations of {', '.join(names)} were fitted on {samples.split}, which also chose: "
        "committees look surer there than they are. Calibrate on a split of its own",
    ]


def _alone(source: PrefixSource, sequences: Sequence[StageSequence]) -> list[str]:
    if source.confidence != "agreement" or len(source.pool.names) < 2:
        return []
    if any(sum(map(len, sequence[:-1])) > 1 for sequence in sequences):
        return []
    return [
        "a model agrees with itself, so agreement lets no sample exit after a first model alone. "
        "Allow 3 models, name stages of several, or take ranked_agreement"
    ]


def _constant_scores(source: PrefixSource, table: Statistics) -> list[str]:
    if source.confidence == "agreement":
        return []
    names = [
        name
        for name in sorted(source.pool.names)
        if (row := table.rows.get((name,))) is not None and table.widths[row] == 1
    ]
    if not names or len(source.pool) < 2:
        return []
    what = (
        "confidence"
        if source.pool.combined_kind in WITH_CONFIDENCE or not source.pool.keeps_outputs
        else source.confidence
    )
    return [
        f"{what} of {', '.join(names)} is the same for every sample: no cascade can stop there on "
        "some samples only. Give outputs that tell sure from unsure, or another confidence"
    ]


def _too_few_samples(
    source: PrefixSource, known: CountTable | Mapping[str, Array], unit: str
) -> list[str]:
    """Return a note on neighbours in cost, of the best single models, that samples cannot rank."""
    if source.additive and not source.metric.counted:
        return []
    costs, task = source.pool.costs.values(unit), source.pool.task
    figure_of, chance_between = _accuracies(source, known)
    best, front = -math.inf, []
    for name in sorted(source.pool.names, key=lambda name: (costs[name], name)):
        if (figure := figure_of(name)) > best:
            best = figure
            front.append(name)
    close = []
    for cheap, dear in itertools.pairwise(front):
        if (chance := chance_between(cheap, dear)) is not None:
            close.append((*chance, cheap, dear))
    if not close:
        return []
    difference, spread, cheap, dear = min(close)
    count = source.pool.samples.wholes
    note = _within_chance(dear, cheap, difference, spread, count, task)
    more = len(close) - 1
    if more:
        note += f"; so {'is' if more == 1 else 'are'} {more} more pair{'s' * (more > 1)} of models"
    return [note]


def _accuracies(
    source: PrefixSource, known: CountTable | Mapping[str, Array]
) -> tuple[Callable[[str], float], Callable[[str, str], tuple[float, float] | None]]:
    """Return what gives the figure of a model, and what compares two, the lower figure first."""
    if isinstance(known, CountTable):
        counts = known

        def wins(one: str, other: str) -> int:
            return int(
                counts.wins[counts.rows[source.key([one])], counts.rows[source.key([other])]]
            )

        return (
            lambda name: wins(name, name) / counts.samples,
            lambda low, high: chance_of(wins(high, low), wins(low, high), counts.samples),
        )

    @cache
    def values(name: str) -> Array:
        own = known.get(name)
        every = np.arange(len(source))
        return source.per_sample(source.values((name,), every) if own is None else own)

    return (
        lambda name: source.figure(values(name)),
        lambda low, high: source.within_chance(values(low), values(high)),
    )


def _within_chance(
    one: str, other: str, difference: float, spread: float, count: int, task: Task
) -> str:
    """Return the note that samples cannot tell two committees apart; shares of 1."""
    on = f"this {count} {task.sample}" if count == 1 else f"these {count:,} {task.samples}"
    if f"{100 * abs(difference):.2f} {100 * spread:.2f}" == "0.00 0.00":
        return f"`{one}` and `{other}` score the same on {on}; any difference is within chance"
    return (
        f"`{one}` and `{other}` differ by {100 * abs(difference):.2f} ± {100 * spread:.2f} points "
        f"on {on}, which is within chance"
    )
