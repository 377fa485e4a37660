"""Mean intersection over union of summed counts, and its bootstrap over images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from committee.arrays import Array
from committee.errors import ShapeError
from committee.pool.intervals import CONFIDENCE_LEVEL, Estimate
from committee.pool.metrics import Exits, Metric

_DRAWS = 2000
# Draws of the bootstrap are cached up to this many bytes, else drawn again.
_CACHE_BYTES = 1 << 28
# Bytes of draws that are converted to double precision at a time.
_BLOCK = 1 << 26


def _refuse(exits: Exits) -> Array:
    raise ShapeError(
        f"mIoU: needs counts of pixels, not {exits.outputs.kind}; it is for semantic segmentation"
    )


# The counts come from a store of tiles, never from outputs.
MEAN_IOU = Metric("mIoU", _refuse, counted=False, needs_labels=False)


def mean_iou(counts: Array) -> Array:
    """Return the mean over classes of intersection over union, from summed counts of pixels.

    The mean leaves out classes that occur neither in labels nor in predictions. Without any class
    it is NaN.

    Args:
        counts: Shape (…, 3 C): for each class the pixels both labelled and predicted as it, then
            those predicted, then those labelled. Pixels without a label do not count.

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


def bootstrap(counts: Sequence[Array]) -> Array:
    """Return the mIoU of several committees on resampled images, the same images for all.

    Args:
        counts: For each committee the counts of each image, shape (N, 3 C). Tiles of one image must
            be summed before, because they are not independent.

    Returns:
        Shape (committees, draws): 2,000 draws from a fixed seed, the same for the same N.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, section 13.3.
    """
    blocks = [[mean_iou(drawn @ each) for each in counts] for drawn in _blocks(len(counts[0]))]
    return np.concatenate(blocks, axis=1)


def bootstrap_interval(counts: Array) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mIoU, from the counts of each image."""
    return _percentiles(bootstrap([counts])[0])


def paired_estimate(counts: Sequence[Array], others: Sequence[Array]) -> Estimate:
    """Return by how much the mean mIoU of committees exceeds that of others; counts by image."""

    def mean(some: Sequence[Array]) -> float:
        return float(np.mean([mean_iou(each.sum(axis=0)) for each in some]))

    figures = bootstrap([*counts, *others])
    differences = figures[: len(counts)].mean(axis=0) - figures[len(counts) :].mean(axis=0)
    return Estimate(mean(counts) - mean(others), *_percentiles(differences), len(counts[0]))


def _percentiles(figures: Array) -> tuple[float, float]:
    tail = 100 * (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.nanpercentile(figures, [tail, 100 - tail])
    return float(low), float(high)


def _blocks(samples: int) -> Iterator[Array]:
    """Yield how often each draw takes each sample, shape (some draws, N).

    In float64 counts of pixels are exact and products fast.
    """
    # Many committees are evaluated on the same samples.
    few = _DRAWS * samples <= _CACHE_BYTES
    for drawn in _cached(samples) if few else _drawn(samples):
        yield drawn.astype(np.float64)


def _drawn(samples: int) -> Iterator[Array]:
    rng, step = np.random.default_rng(0), max(1, _BLOCK // (8 * samples))
    for start in range(0, _DRAWS, step):
        # uint8 suffices: the probability of 256 draws of one sample is below 10^-500.
        shares, count = np.full(samples, 1 / samples), min(step, _DRAWS - start)
        yield rng.multinomial(samples, shares, size=count).astype(np.uint8)


@lru_cache(maxsize=1)
def _cached(samples: int) -> list[Array]:
    return list(_drawn(samples))
