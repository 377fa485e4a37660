"""Metric: what a sample scores when it exits at a given prefix; 1 or 0 for top-1 by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from committee.arrays import Array
from committee.errors import MisalignedError, NotFiniteError, ShapeError, UnknownNameError
from committee.rule.outputs import Outputs


@dataclass(frozen=True, eq=False)
class Exits:
    """Samples that exit after the same models ran.

    Args:
        models: Names of the models whose outputs are combined, sorted: all that ran, or the newest
            alone where ``last`` combines.
        outputs: Their combination, n rows.
        labels: Shape (n,), or None where nobody knows.
        rows: Indices of the samples in the split, shape (n,).
        samples: How many samples the split has.
    """

    models: tuple[str, ...]
    outputs: Outputs
    labels: Array | None
    rows: Array
    samples: int


@dataclass(frozen=True, eq=False)
class Metric:
    """What samples score.

    Args:
        name: What tables and files call it.
        function: From :class:`Exits` to the score of each sample, shape (n,), finite. It must
            treat every sample by itself.
        counted: True if a sample scores 1 or 0 and nothing else.
        needs_labels: Whether it can only be computed where labels are known.
        figure: Where the figure is no mean over samples: each sample scores K counts, and this
            makes the figure of their sums, from (…, K) to (…). None where it is a mean.
    """

    name: str
    function: Callable[[Exits], Array]
    counted: bool = True
    needs_labels: bool = True
    figure: Callable[[Array], Array] | None = None

    def of(self, exits: Exits) -> Array:
        """Score each sample, shape (n,), float64, or int64 if counted; counts are (n, K), int64.

        Raises:
            ShapeError: If the function does not give one number a sample, or a counted metric
                gives something else than 1 and 0.
            NotFiniteError: If a score is NaN or infinite.
        """
        values = np.asarray(self.function(exits))
        if self.figure is not None:
            return self._counts(values, len(exits.rows))
        if values.shape != (len(exits.rows),) or values.dtype.kind not in "biuf":
            raise ShapeError(
                f"metric {self.name!r}: {values.dtype} {values.shape} for {len(exits.rows)} "
                "samples; it must give one number a sample"
            )
        if not np.isfinite(values).all():
            row = exits.rows[np.argmin(np.isfinite(values))]
            raise NotFiniteError(f"metric {self.name!r}: NaN or infinite for sample {row}")
        if not self.counted:
            return values.astype(np.float64)
        if not np.isin(values, (0, 1)).all():
            raise ShapeError(f"metric {self.name!r} is counted, so it must be 1 or 0")
        return values.astype(np.int64)

    def _counts(self, values: Array, samples: int) -> Array:
        if values.ndim != 2 or len(values) != samples or values.dtype.kind not in "iu":
            raise ShapeError(
                f"metric {self.name!r}: {values.dtype} {values.shape} for {samples} samples; it "
                "must give whole numbers, the same number of them for each sample"
            )
        return values.astype(np.int64)


def _is_right(exits: Exits) -> Array:
    right: Array = exits.outputs.predicted() == exits.labels
    return right


TOP_1 = Metric("top-1", _is_right)


def mean_iou(counts: Array) -> Array:
    """Mean over classes of intersection over union, of summed counts of pixels.

    A class that occurs neither in the labels nor in what was predicted has no part in the mean.
    Where no class occurs, the mean is NaN.

    Args:
        counts: Shape (…, 3 C): of each class the pixels that are both labelled and predicted so,
            then those predicted so, then those labelled so. Pixels without a label are left out.

    Returns:
        Shape (…).

    References:
        Everingham et al. (2010), section 4.1, the measure of VOC and of Cityscapes.

    >>> mean_iou(np.array([3, 0, 4, 0, 4, 0]))
    array(0.6)
    """
    classes = counts.shape[-1] // 3
    both, predicted, labelled = (counts[..., i * classes : (i + 1) * classes] for i in range(3))
    union = predicted + labelled - both
    occurs = union > 0
    shares = np.divide(both, union, out=np.zeros(union.shape), where=occurs)
    number = occurs.sum(axis=-1)
    mean: Array = np.divide(
        shares.sum(axis=-1), number, out=np.full(number.shape, np.nan), where=number > 0
    )
    return mean


def _own_counts(exits: Exits) -> Array:
    if exits.outputs.kind != "counts":
        raise ShapeError(
            f"mIoU: {exits.outputs.kind} are no counts of pixels; it is for semantic segmentation"
        )
    return exits.outputs.values


MEAN_IOU = Metric("mIoU", _own_counts, counted=False, needs_labels=False, figure=mean_iou)

# Metrics that a task names as its own.
METRICS = {metric.name: metric for metric in (TOP_1, MEAN_IOU)}


def top_k(k: int) -> Metric:
    """1 if the label is among the k likeliest classes; of equal values the lower index is first.

    Args:
        k: 1 or more.

    Raises:
        ShapeError: If k is less than 1 or more than there are classes, or the outputs are
            decisions, which know one class.

    References:
        Wang et al. (2022), appendix D.2 states top-1 throughout; top-5 is ImageNet's other figure.
    """
    if k < 1:
        raise ShapeError(f"top_k: k must be 1 or more, not {k}")
    if k == 1:
        return TOP_1

    def function(exits: Exits) -> Array:
        if exits.outputs.kind == "decisions":
            raise ShapeError(f"top-{k}: decisions name one class only; use top-1")
        values, labels = exits.outputs.values, exits.labels
        own = np.take_along_axis(values, np.asarray(labels)[:, None], axis=1)
        before = np.arange(values.shape[1]) < np.asarray(labels)[:, None]
        ahead: Array = ((values > own) | ((values == own) & before)).sum(axis=1)
        return ahead < k

    return Metric(f"top-{k}", function)


def weighted(weights: ArrayLike, name: str = "weighted") -> Metric:
    """What a sample scores is a weight that depends on the predicted class.

    Args:
        weights: Shape (N, C): the score of each sample for each predicted class; or (N,): the
            score of each sample if it is predicted right, else 0.
        name: What tables and files call it.
    """
    table = np.asarray(weights, dtype=np.float64)
    if table.ndim not in (1, 2) or not np.isfinite(table).all():
        raise ShapeError(f"metric {name!r}: weights must be finite, (N,) or (N, C)")

    def function(exits: Exits) -> Array:
        _check_count(name, len(table), exits.samples)
        own = table[exits.rows]
        predicted = exits.outputs.predicted()
        if table.ndim == 2 and len(predicted) and predicted.max() >= table.shape[1]:
            raise MisalignedError(
                f"metric {name!r}: weights of {table.shape[1]} classes, but class "
                f"{predicted.max()} is predicted"
            )
        if table.ndim == 1:
            right: Array = own * (predicted == exits.labels)
            return right
        scores: Array = own[np.arange(len(own)), predicted]
        return scores

    return Metric(name, function, counted=False, needs_labels=table.ndim == 1)


def _check_count(name: str, given_: int, samples: int) -> None:
    if given_ != samples:
        raise MisalignedError(
            f"metric {name!r}: {given_} scores for the {samples} samples of the split; "
            "give one a sample"
        )


def precomputed(scores: Mapping[Sequence[str], ArrayLike], name: str = "precomputed") -> Metric:
    """Scores that were computed elsewhere, for each set of models that may have run.

    Args:
        scores: From names of models, in any order, to the score of each sample, shape (N,).
        name: What tables and files call it.
    """
    known = {tuple(sorted(models)): np.asarray(each, float) for models, each in scores.items()}

    def function(exits: Exits) -> Array:
        if exits.models not in known:
            asked, names = "+".join(exits.models), map("+".join, known)
            raise UnknownNameError.of(f"metric {name!r}", "scores of", asked, names)
        array = known[exits.models]
        _check_count(name, len(array), exits.samples)
        scores: Array = array[exits.rows]
        return scores

    return Metric(name, function, counted=False, needs_labels=False)
