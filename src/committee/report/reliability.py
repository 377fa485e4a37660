"""Figure: how often each model is right, by how sure it is, before and after calibration."""

from __future__ import annotations

import math

import numpy as np

from committee.arrays import Array
from committee.calibration.reliability import Reliability, reliability, says_probabilities
from committee.errors import CalibrationError, MisalignedError
from committee.pool.intervals import wilson_interval
from committee.pool.pool import Pool
from committee.style import BLUE, GREY, VERMILION, Axes, Figure, empty_figure, plain

# Markers differ too, for print in grey.
_BEFORE, _AFTER = (VERMILION, "o", "Original"), (BLUE, "s", "Calibrated")
_COLUMNS = 3

# Colour, marker and word, and what to draw with them.
_Drawn = tuple[tuple[str, str, str], Reliability]


def reliability_figure(pool: Pool, bins: int = 15) -> Figure:
    """Draw accuracy by confidence, after figure 6 of Wang et al. (2022), one panel a model.

    A point is the mean confidence and the accuracy of the samples of one bin, with the 95 % Wilson
    interval of the accuracy; the bars below say how many samples each bin holds. On the diagonal
    confidence is accuracy. Confidences that are no probabilities are not drawn.

    Args:
        pool: Labelled predictions, and the calibrations to show, fitted on other samples.
        bins: How many bins of confidence there are.

    Raises:
        CalibrationError: If the pool has no calibrations.
        MisalignedError: If there are no labels or no samples.
        MissingExtraError: If matplotlib is not installed.
    """
    labels = pool.samples.labels
    if not pool.calibrations:
        raise CalibrationError(
            "reliability figure: the pool has no calibrations. Load it with calibrated=True, or "
            "give it some with with_calibrations"
        )
    if labels is None:
        raise MisalignedError(f"split {pool.samples.split!r} has no labels; accuracy needs them")
    columns = min(_COLUMNS, len(pool.calibrations))
    rows = math.ceil(len(pool.calibrations) / columns)
    figure = empty_figure(3.1 * columns + 0.6, 3.9 * rows + 0.9)
    # For each row of panels one of curves and a lower one of counts.
    grid = figure.subplots(
        2 * rows, columns, squeeze=False, sharex=True, height_ratios=[3.4, 1] * rows
    )
    for axes in grid.flat[:]:
        axes.set_visible(False)
    for number, (name, calibration) in enumerate(pool.calibrations.items()):
        row, column = divmod(number, columns)
        raw = pool.outputs[name]
        found = [
            (style, reliability(each, labels, bins))
            for style, each in ((_BEFORE, raw), (_AFTER, calibration.apply(raw)))
            if says_probabilities(each)
        ]
        _draw_curves(grid[2 * row, column], name, found)
        _draw_counts(grid[2 * row + 1, column], found, bins)
    fitted = sorted({each.split for each in pool.calibrations.values() if each.split})
    on = f", fitted on {', '.join(fitted)}" if fitted else ""
    figure.suptitle(
        f"Calibration{on}, shown on {pool.samples.split} ({len(pool):,} samples)",
        fontsize=10, x=0.01, ha="left", parse_math=False,
    )  # fmt: skip
    return figure


def _draw_curves(axes: Axes, name: str, found: list[_Drawn]) -> None:
    axes.set_visible(True)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--", zorder=1)
    for (color, marker, what), each in found:
        count, confidence, accuracy = _drawn(each)
        ends = [wilson_interval(round(s * n), n) for s, n in zip(accuracy, count, strict=True)]
        low, high = np.array(ends).T
        axes.errorbar(
            confidence, accuracy, yerr=np.stack([accuracy - low, high - accuracy]), color=color,
            marker=marker, markersize=3.5, linewidth=1, elinewidth=0.6, capsize=1.5, zorder=2,
            label=f"{what}, ECE {each.error:.2%}",
        )  # fmt: skip
    plain(axes)
    axes.set_title(name, fontsize=9, loc="left", parse_math=False)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower right", fontsize=7, framealpha=0.9)
    axes.set_ylabel("Accuracy")


def _draw_counts(axes: Axes, found: list[_Drawn], bins: int) -> None:
    axes.set_visible(True)
    width = 1 / bins
    left = np.arange(bins) * width
    for number, ((color, _, _), each) in enumerate(found):
        count = _joined(each.count)
        axes.bar(
            left + number * width / 2, count, width / 2, align="edge", color=color, linewidth=0
        )
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.8)
    axes.set_xlabel("Confidence")
    axes.tick_params(labelbottom=True)
    axes.set_ylabel("Samples")


def _drawn(each: Reliability) -> tuple[Array, Array, Array]:
    """Return count, confidence and accuracy of the bins that hold samples."""
    count = _joined(each.count)
    some = count > 0
    confidence = _joined(each.count * each.confidence)[some] / count[some]
    accuracy = _joined(each.count * each.accuracy)[some] / count[some]
    return count[some], confidence, accuracy


def _joined(values: Array) -> Array:
    """Join the bin of certainty, which has no width, to the bin below it."""
    return np.append(values[:-2], values[-2] + values[-1])
