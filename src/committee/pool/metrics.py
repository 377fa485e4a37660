"""Metrics: what a sample scores when it exits after a prefix; by default top-1, 1 or 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from committee.arrays import Array
from committee.errors import MisalignedError, NotFiniteError, ShapeError, UnknownNameError
from committee.rule.outputs import WITH_CONFIDENCE, Outputs


@dataclass(frozen=True, eq=False)
class Exits:
    """The n samples that exit after the same models ran.

    Args:
        models: Sorted names of the models whose outputs are combined: all that ran, or only the
            newest under ``last``.
        outputs: Their combined outputs, n rows.
        labels: Shape (n,), or None without labels.
        rows: Indices of the samples in the split, shape (n,).
        samples: Number of samples in the split.
        split_labels: Labels of all samples of the split, shape (samples,), or None without labels.
    """

    models: tuple[str, ...]
    outputs: Outputs
    labels: Array | None
    rows: Array
    samples: int
    split_labels: Array | None = None


@dataclass(frozen=True)
class Metric:
    """A score for each sample; the accuracy is the mean over samples, or over their weights.

    Args:
        name: Name in tables and files.
        function: Takes :class:`Exits` and returns the score of each sample, shape (n,), finite. The
            score of a sample must not depend on other samples.
        counted: True if every score is 1 or 0.
        needs_labels: True if the metric needs labels.
        weights: Takes the labels of a split and returns what each sample scores if its class is
            predicted correctly, and else 0, shape (N,). The accuracy is then the sum of the scores
            over that of the weights, a share of 1. None for other metrics.
        option: What ``--metric`` calls it; empty if no option gives it.
    """

    name: str
    function: Callable[[Exits], Array]
    counted: bool = True
    needs_labels: bool = True
    weights: Callable[[Array], Array] | None = None
    option: str = ""

    @property
    def is_share(self) -> bool:
        """True if the mean score is a share of 1."""
        return self.counted or self.weights is not None

    def of(self, exits: Exits) -> Array:
        """Return the score of each sample, shape (n,), float64, or int64 if counted.

        Raises:
            ShapeError: If the function does not return one number a sample, or a counted metric
                returns anything but 1 and 0.
            NotFiniteError: If a score is NaN or infinite.
        """
        values = np.asarray(self.function(exits))
        if values.shape != (len(exits.rows),) or values.dtype.kind not in "biuf":
            raise ShapeError(
                f"metric {self.name!r}: {values.dtype} {values.shape} for {len(exits.rows)} "
                "samples; it must give one number a sample"
            )
        if self.counted and values.dtype == bool:
            return values.astype(np.int64)
        if not np.isfinite(values).all():
            row = exits.rows[np.argmin(np.isfinite(values))]
            raise NotFiniteError(f"metric {self.name!r}: NaN or infinite for sample {row}")
        if not self.counted:
            return values.astype(np.float64)
        if not np.isin(values, (0, 1)).all():
            raise ShapeError(f"metric {self.name!r} is counted, so it must be 1 or 0")
        return values.astype(np.int64)


def check_metric(metric: object) -> None:
    """Refuse a metric that is no :class:`Metric`, such as a word of ``--metric``."""
    if metric is None or isinstance(metric, Metric):
        return
    word = str(metric)
    top = word.removeprefix("top-")
    give = "committee.top_k(5), committee.BALANCED or committee.class_weighted(weights)"
    if top != word and top.isdigit():
        give = f"committee.top_k({top})"
    if word == BALANCED.option:
        give = "committee.BALANCED"
    raise ShapeError(f"metric {word[:50]!r} is a {type(metric).__name__}; give {give}")


def _is_correct(exits: Exits) -> Array:
    correct: Array = exits.outputs.predicted() == exits.labels
    return correct


TOP_1 = Metric("top-1", _is_correct, option="top-1")


def _value(exits: Exits) -> Array:
    if exits.outputs.kind != "outcomes":
        raise ShapeError(f"value: {exits.outputs.kind} have no values; this is for outcomes")
    return exits.outputs.values


# What outcomes score: answers graded 1 or 0, or by numbers within stated bounds.
GRADED = Metric("correct answers", _value, needs_labels=False)
VALUE = Metric("mean value", _value, counted=False, needs_labels=False)


@dataclass(frozen=True)
class _AmongTop:
    """The function of a top-k metric."""

    k: int

    def __call__(self, exits: Exits) -> Array:
        if exits.outputs.kind in WITH_CONFIDENCE:
            raise ShapeError(f"top-{self.k}: {exits.outputs.kind} name one class only; use top-1")
        values, labels = exits.outputs.values, np.asarray(exits.labels)[:, None]
        own = np.take_along_axis(values, labels, axis=1)
        before = np.arange(values.shape[1]) < labels
        ahead: Array = ((values > own) | ((values == own) & before)).sum(axis=1)
        return ahead < self.k


def top_k(k: int) -> Metric:
    """Return a metric that is 1 if the label is among the k likeliest classes, else 0.

    Among classes with equal values the lower index ranks first.

    Raises:
        ShapeError: If k is less than 1. The metric itself raises it for decisions.

    References:
        Wang et al. (2022), appendix D.2 states top-1 throughout; top-5 is ImageNet's other figure.
    """
    if k < 1:
        raise ShapeError(f"top_k: k must be 1 or more, not {k}")
    return TOP_1 if k == 1 else Metric(f"top-{k}", _AmongTop(k), option=f"top-{k}")


@dataclass(frozen=True)
class _ByClass:
    """The function of a metric that weighs samples by the class of their label."""

    name: str
    known: tuple[float, ...] | None = None

    def weights(self, labels: Array) -> Array:
        """Return the weight of each sample of a split, shape (N,), not all 0."""
        if self.known is None:
            counts = np.bincount(labels)
            each: Array = len(labels) / (np.count_nonzero(counts) * counts[labels])
            return each
        if len(labels) and labels.max() >= len(self.known):
            raise MisalignedError(
                f"metric {self.name!r}: weights of {len(self.known)} classes, but class "
                f"{labels.max()} is a label; give one a class"
            )
        own: Array = np.array(self.known)[labels]
        if not own.any():
            raise MisalignedError(
                f"metric {self.name!r}: every class of this split weighs 0, so that no sample "
                "counts; give a class of the split a weight above 0"
            )
        return own

    def __call__(self, exits: Exits) -> Array:
        """Return the weight of each sample that is predicted correctly, else 0."""
        weights = self.weights(np.asarray(exits.split_labels))
        scores: Array = weights[exits.rows] * (exits.outputs.predicted() == exits.labels)
        return scores


def _by_class(function: _ByClass, option: str) -> Metric:
    name, weights = function.name, function.weights
    return Metric(name, function, counted=False, weights=weights, option=option)


# The mean of the recalls of all classes that have samples in the split.
BALANCED = _by_class(_ByClass("balanced accuracy"), "balanced")


def class_weighted(
    weights: ArrayLike, name: str = "class-weighted accuracy", option: str = ""
) -> Metric:
    """Return the share of the weight of all samples that lies on those predicted correctly.

    A sample weighs what the class of its label does. Only the ratios of weights count.

    Args:
        weights: The weight of each class, shape (C,), finite and 0 or more, not all 0.
        name: Name in tables and files.
        option: What ``--metric`` calls it; empty if no option gives it.

    Raises:
        ShapeError: If the weights are not like that.
    """
    each: Array = np.asarray(weights, dtype=np.float64)
    if each.ndim != 1 or not np.isfinite(each).all() or (each < 0).any() or not each.any():
        raise ShapeError(f"metric {name!r}: weights must be (C,), finite, 0 or more, not all 0")
    return _by_class(_ByClass(name, tuple(each.tolist())), option)


@dataclass(frozen=True, eq=False)
class _Table:
    """Scores of every sample from tables; two of the same numbers are equal.

    Args:
        name: Name of the metric.
        scores: By the models that ran, or for all of them by None.
    """

    name: str
    scores: Mapping[Any, Array]

    def __call__(self, exits: Exits) -> Array:
        """Return the score of each sample."""
        table = self.scores.get(None)
        if table is None and exits.models not in self.scores:
            models, names = "+".join(exits.models), ("+".join(each or ()) for each in self.scores)
            raise UnknownNameError.of(f"metric {self.name!r}", "scores of", models, names)
        own: Array = self.scores[exits.models] if table is None else table
        _check_count(self.name, len(own), exits.samples)
        return own[exits.rows] if table is None else self._of_classes(own[exits.rows], exits)

    def _of_classes(self, own: Array, exits: Exits) -> Array:
        predicted = exits.outputs.predicted()
        if own.ndim == 1:
            correct: Array = own * (predicted == exits.labels)
            return correct
        if len(predicted) and predicted.max() >= own.shape[1]:
            raise MisalignedError(
                f"metric {self.name!r}: weights of {own.shape[1]} classes, but class "
                f"{predicted.max()} is predicted"
            )
        scores: Array = own[np.arange(len(own)), predicted]
        return scores

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Table)
            and self.name == other.name
            and self.scores.keys() == other.scores.keys()
            and all(np.array_equal(each, other.scores[key]) for key, each in self.scores.items())
        )

    def __hash__(self) -> int:
        return hash((self.name, frozenset(self.scores)))


def weighted(weights: ArrayLike, name: str = "weighted") -> Metric:
    """Return a metric that scores a sample by a weight of its predicted class.

    Args:
        weights: Shape (N, C): the score of each sample for each predicted class; or (N,): the
            score of each sample if it is predicted correctly, else 0.
        name: Name in tables and files.
    """
    table = np.asarray(weights, dtype=np.float64)
    if table.ndim not in (1, 2) or not np.isfinite(table).all():
        raise ShapeError(f"metric {name!r}: weights must be finite, (N,) or (N, C)")

    function = _Table(name, {None: table})
    return Metric(name, function, counted=False, needs_labels=table.ndim == 1)


def _check_count(name: str, scores: int, samples: int) -> None:
    if scores != samples:
        raise MisalignedError(
            f"metric {name!r}: {scores} scores for the {samples} samples of the split; "
            "give one a sample"
        )


def precomputed(scores: Mapping[Sequence[str], ArrayLike], name: str = "precomputed") -> Metric:
    """Return a metric of scores that were computed elsewhere.

    Args:
        scores: The score of each sample, shape (N,), by the set of models that ran.
        name: Name in tables and files.
    """
    known = {tuple(sorted(models)): np.asarray(each, float) for models, each in scores.items()}
    return Metric(name, _Table(name, known), counted=False, needs_labels=False)
