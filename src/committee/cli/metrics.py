"""``--metric``: the metric that a text names, for a pool."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from committee.arrays import Array
from committee.cli.options import names
from committee.data.table import LABEL_WORDS, Table, read_table
from committee.errors import CascadeError, DataError, ShapeError, UnknownNameError
from committee.pool.labels import indices
from committee.pool.metrics import BALANCED, TOP_1, Metric, class_weighted, top_k
from committee.pool.pool import Pool
from committee.rule.cascade import Cascade
from committee.text import listed, printable

_FORMS = ("top-K", "balanced", "weights:FILE.csv")
# What a metric of a file is called, before the file.
_WEIGHTED = "accuracy weighted by"
_WEIGHT_WORDS = ("weight", "weights")
_AMONG = re.compile(r"top-(\d+)")


def with_metric(pool: Pool, metric: str | None, agree_with: str | None) -> tuple[Pool, Metric]:
    """Return a pool with the labels of ``--agree-with``, and the metric of ``--metric``."""
    if agree_with is not None:
        pool = pool.labelled_by(names(agree_with))
    return pool, pool.metric if metric is None else _metric_named(metric, pool)


def with_metric_of(
    chosen: Cascade, pool: Pool, metric: str | None, agree_with: str | None
) -> tuple[Pool, Metric]:
    """Return the same as :func:`with_metric`, by default the metric that chose a cascade.

    A file of weights must be named again: a cascade knows its name and its checksum alone.
    """
    promised = chosen.origin.promised
    if metric is None and agree_with is None and promised is not None and pool.metric == TOP_1:
        known = {BALANCED.name: BALANCED.option}
        own = known.get(promised.measure, promised.measure)
        metric = own if own in known.values() or _AMONG.fullmatch(own) else None
    return with_metric(pool, metric, agree_with)


def note_on_metric(chosen: Cascade, used: Metric) -> str:
    """Return a note if a cascade was chosen by weights, and evaluated by another metric."""
    promised = chosen.origin.promised
    if promised is None or not promised.measure.startswith(_WEIGHTED) or used.weights is not None:
        return ""
    return (
        f"the cascade was chosen by {promised.measure}, and these figures are {used.name}. Name "
        "the file of weights: --metric weights:FILE.csv"
    )


def _metric_named(text: str, pool: Pool) -> Metric:
    """Return the metric that a text such as ``top-5`` or ``weights:FILE.csv`` names.

    Raises:
        UnknownNameError: If there is no such metric.
        CascadeError: If it is no mean over samples.
        ShapeError: If the outputs have fewer classes than top-k needs.
        DataError: If the file of weights does not give each class one.
    """
    if text.startswith("weights:"):
        return _weights_in(Path(text.removeprefix("weights:")), pool, text)
    among = _AMONG.fullmatch(text)
    if among:
        return _top(int(among[1]), pool)
    if text == "balanced":
        return BALANCED
    if re.match(r"f-?(1|score|beta)", text.casefold()):
        raise CascadeError(
            f"--metric {text}: F1 is no mean over samples, because what a sample adds depends on "
            "all others. Neither the exact search nor a paired interval holds for it; take "
            "balanced, in which each class counts alike too, or weights:FILE.csv"
        )
    raise UnknownNameError.of("--metric", "metric", text, _FORMS)


def _top(k: int, pool: Pool) -> Metric:
    values = next(iter(pool.outputs.values())).values if pool.outputs else None
    if values is not None and values.ndim == 2 and k > max(values.shape[1], 1):
        raise ShapeError(f"--metric top-{k}: the outputs have only {values.shape[1]} classes")
    return top_k(k)


def _weights_in(path: Path, pool: Pool, option: str) -> Metric:
    """Return the metric of a csv file with the columns class and weight."""
    table = read_table(path)
    own, weight = table.named(LABEL_WORDS), table.named(_WEIGHT_WORDS)
    if not own or not weight:
        raise DataError(
            f"{path}: its first line must name the columns class and weight, separated by a comma; "
            f"it names {listed(table.header)}"
        )
    rows = indices(str(path), table.column(own), pool.samples.classes, place=table.place)
    weights = _one_each(table, rows, _numbers(table, weight), pool.samples.classes)
    known = hashlib.sha256(weights.tobytes()).hexdigest()[:4]
    return class_weighted(weights, f"{_WEIGHTED} {path.name} ({known})", option)


def _one_each(table: Table, rows: Array, weights: Array, classes: tuple[str, ...]) -> Array:
    """Return the weights in the order of the classes, or refuse classes without or with two."""
    count = len(classes) or int(rows.max(initial=-1)) + 1
    given = np.bincount(rows[rows >= 0], minlength=count)
    wrong = np.flatnonzero(given != 1)
    if (rows < 0).any() or len(given) > count or len(wrong) or not count:
        which = listed([classes[i] if classes else i for i in wrong if i < count])
        missing = f"; see {which}" if which else ""
        raise DataError(
            f"{table.path}: it must name each of the {count} classes once, with its weight{missing}"
        )
    return weights[np.argsort(rows)]


def _numbers(table: Table, column: str) -> Array:
    """Return the weights of a column, or refuse what is no number of 0 or more."""
    values = np.empty(len(table.rows))
    for row, text in enumerate(table.column(column)):
        try:
            values[row] = float(text)
        except ValueError:
            values[row] = np.nan
        if not 0 <= values[row] < np.inf:
            raise DataError(
                f"{table.path}: {table.place(row)}: weight '{printable(text)}' is no number of 0 "
                "or more"
            )
    return values
