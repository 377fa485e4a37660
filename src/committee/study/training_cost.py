"""What committees cost to train: Wang et al. (2022), section 3 and appendix C.2.

Tables 10 and 11 of the paper: an ensemble of smaller models often takes less training in all than
the single model that it matches, beside costing less to run. The user supplies the training times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from committee.errors import Unsupported
from committee.pool.table import Column, Table
from committee.report.text import named
from committee.selection.front import Committee
from committee.study import columns
from committee.study.base import Analysis, Entry, Finding
from committee.study.context import Pair, Study, Training
from committee.study.drawing import draw_beside
from committee.style import CASCADE, ENSEMBLE, Figure


def _analyse(study: Study) -> Finding:
    """Return training times of all architectures, and of what matches each single model."""
    if study.training is None:
        raise Unsupported("there are no training times; name a file of them with --training")
    entries = [e for pair in study.pairs for e in _entries(study, study.training, pair)]
    tables = (
        _architectures(study, study.training),
        _committees(study, study.training, entries),
    )
    return Finding(tables, tuple(_sentences(study.training, entries)), data=entries)


def time_of(committee: Committee, training: Training) -> float:
    """Return how long all weights of a committee took to train."""
    return training.of(committee.cascade.names)


def _entries(study: Study, training: Training, pair: Pair) -> Iterator[Entry]:
    """Yield a model, the equal ensemble that trained fastest, and the cascade cheapest to run."""
    single, cascade = pair.single, pair.same_accuracy
    yield Entry(single, "single", single)
    equals = [each for each in study.ensembles if each.val.accuracy >= single.val.accuracy]
    if equals:
        yield Entry(single, "ensemble", min(equals, key=partial(time_of, training=training)))
    if cascade is not None and len(cascade.cascade.stages) > 1:
        yield Entry(single, "cascade", cascade)


def _architectures(study: Study, training: Training) -> Table:
    def times(name: str) -> list[float]:
        return [training.times[model] for model in study.architectures[name]]

    return Table(
        "Training time of each architecture",
        (
            Column("architecture", str),
            Column("trainings", lambda name: len(times(name)), "count"),
            Column("mean time", lambda name: float(np.mean(times(name))), "cost", training.unit),
            Column("least", lambda name: min(times(name)), "cost", training.unit),
            Column("most", lambda name: max(times(name)), "cost", training.unit),
        ),
        list(study.architectures),
        name="architectures",
    )


def _ratio(entry: Entry, training: Training) -> float | None:
    """Return the training time of a committee over that of its model."""
    alone = time_of(entry.single, training)
    return time_of(entry.committee or entry.single, training) / alone if alone else None


def _committees(study: Study, training: Training, entries: Sequence[Entry]) -> Table:
    return columns.beside_table(
        study,
        "Training time of committees that match a single model",
        "kind",
        entries,
        "All are as accurate as the model on the split that chose: the ensemble that took the "
        "least training among the best ensembles, and the cascade that is cheapest to run. The "
        "times of all models of a committee add up; each set of weights counts once.",
        Column("training", lambda e: time_of(e.committee, training), "cost", training.unit),
        Column("training over the model's", partial(_ratio, training=training), "ratio"),
        name="committees",
    )


def _sentences(training: Training, entries: Sequence[Entry]) -> Iterator[str]:
    for kind in ("ensemble", "cascade"):
        ratios = [
            (ratio, named(entry.single.cascade))
            for entry in entries
            if entry.kind == kind and (ratio := _ratio(entry, training)) is not None
        ]
        if not ratios:
            yield f"No {kind} of several models matches a single model."
            continue
        least, model = min(ratios)
        yield (
            f"{sum(ratio < 1 for ratio, _ in ratios)} of {len(ratios)} {kind}s took less to train "
            f"than the single model that they match; the least was {least:.2f} times the training "
            f"of {model}."
        )


def _draw(study: Study, entries: Sequence[Entry]) -> Figure:
    """Draw time to train and gain in accuracy, a row a single model."""
    assert study.training is not None  # without it there are no entries
    return draw_beside(
        study,
        entries,
        {"ensemble": ENSEMBLE, "cascade": CASCADE},
        f"Training time ({study.training.unit})",
        study.provenance.capitalize(),
        cost=partial(time_of, training=study.training),
    )


ANALYSIS = Analysis(
    "training_cost", "What committees cost to train", "section 3, tables 10 and 11", _analyse, _draw
)
