"""What committees cost to train: Wang et al. (2022), section 3 and appendix C.2.

Tables 10 and 11 of the paper: an ensemble of smaller models often takes less training in all than
the single model that it matches, beside costing less to run. Training times are given by the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from committee.errors import Unsupported
from committee.report.style import CASCADE, ENSEMBLE
from committee.study.base import About, Analysis, Column, Finding, Table
from committee.study.context import Judged, Pair, Study, Training
from committee.study.cost_gain_figure import Beside, beside, draw_beside, gain_over
from committee.study.estimates import accuracy_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About("training_cost", "What committees cost to train", "section 3, tables 10 and 11")


@dataclass(frozen=True)
class Trained:
    """A single model and committees that match it on the choosing split.

    Args:
        single: The model alone.
        ensemble: Of those on the front of ensembles that are as accurate, the one that took the
            least training; None if there is none.
        cascade: The cheapest committee to run that is as accurate; None if it is one model.
    """

    single: Judged
    ensemble: Judged | None
    cascade: Judged | None

    @property
    def committees(self) -> dict[str, Judged]:
        """Those that there are, by kind."""
        both = {"ensemble": self.ensemble, "cascade": self.cascade}
        return {kind: each for kind, each in both.items() if each is not None}


@dataclass(frozen=True)
class TrainingCosts:
    """What the figure shows: rows, the unit of their times, and the splits."""

    rows: tuple[Trained, ...]
    drawn: tuple[Beside, ...]
    unit: str
    provenance: str


def analyse(study: Study) -> Finding[TrainingCosts]:
    """Training times of all architectures, and of what matches each single model.

    Raises:
        Unsupported: If no training times are given.
    """
    if study.training is None:
        raise Unsupported("no training times are given; name a file of them with --training")
    training = study.training
    rows = tuple(_trained(study, training, pair) for pair in study.pairs)
    drawn = tuple(
        beside(study, row.single, row.committees, partial(time_of, training=training))
        for row in rows
    )
    return Finding(
        ABOUT,
        (_architectures(study, training), _committees(study, training, rows)),
        _sentences(training, rows),
        TrainingCosts(rows, drawn, training.unit, study.provenance),
    )


def time_of(committee: Judged, training: Training) -> float:
    """What all weights of a committee took to train."""
    return training.of(committee.cascade.names)


def _trained(study: Study, training: Training, pair: Pair) -> Trained:
    enough = pair.single.val.correct
    equals = [each for each in study.ensembles if each.val.correct >= enough]
    ensemble = min(equals, key=partial(time_of, training=training), default=None)
    cascade = pair.same_accuracy
    several = cascade is not None and len(cascade.cascade.stages) > 1
    return Trained(pair.single, ensemble, cascade if several else None)


def _architectures(study: Study, training: Training) -> Table:
    rows = []
    for name, models in study.architectures.items():
        times = [training.times[model] for model in models]
        rows.append((name, len(models), float(np.mean(times)), min(times), max(times)))
    return Table(
        "Training time of each architecture",
        (
            Column("architecture"),
            Column("trainings", "count"),
            Column("mean time", "cost", training.unit),
            Column("least", "cost", training.unit),
            Column("most", "cost", training.unit),
        ),
        tuple(rows),
        name="architectures",
    )


def _committees(study: Study, training: Training, rows: Sequence[Trained]) -> Table:
    cells = []
    for row in rows:
        alone = time_of(row.single, training)
        for kind, each in (("single", row.single), *row.committees.items()):
            time = time_of(each, training)
            cells.append(
                (
                    row.single.told,
                    kind,
                    each.told,
                    accuracy_of(each.test),
                    gain_over(study, each, row.single),
                    each.test.average_cost,
                    time,
                    time / alone if alone else None,
                )
            )
    return Table(
        "Training time of committees that match a single model",
        (
            Column("model"),
            Column("kind"),
            Column("committee"),
            Column("accuracy", "share"),
            Column("accuracy over the model's", "points"),
            Column("average cost", "cost", study.settings.unit),
            Column("training", "cost", training.unit),
            Column("training over the model's", "ratio"),
        ),
        tuple(cells),
        "All are as accurate as the model on the split that chose: of the best ensembles the one "
        "that took the least training, and the cheapest cascade to run. All models of a committee "
        "are counted, one after the other; what is one set of weights counts once.",
        name="committees",
    )


def _sentences(training: Training, rows: Sequence[Trained]) -> tuple[str, ...]:
    told = []
    for kind in ("ensemble", "cascade"):
        ratios = [
            (time_of(each, training) / time_of(row.single, training), row.single.told)
            for row in rows
            for known, each in row.committees.items()
            if known == kind and time_of(row.single, training)
        ]
        if not ratios:
            told.append(f"No {kind} of several models matches a single model.")
            continue
        less = [name for ratio, name in ratios if ratio < 1]
        best, of = min(ratios)
        told.append(
            f"{len(less)} of {len(ratios)} {kind}s took less to train than the single model that "
            f"they match; the least was {best:.2f} times the training of {of}."
        )
    return tuple(told)


def draw(data: TrainingCosts) -> Figure:
    """Time to train and gain in accuracy, a row a single model.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    looks = {"ensemble": ENSEMBLE, "cascade": CASCADE}
    label = f"Training time ({data.unit})"
    return draw_beside(data.drawn, looks, 1.0, label, data.provenance.capitalize())


ANALYSIS = Analysis(ABOUT, analyse, draw)
