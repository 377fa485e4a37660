"""Figure: how often each model is right by how sure it is, before and after calibration."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from committee.arrays import Array
from committee.calibration.reliability import Reliability, reliability, says_probabilities
from committee.errors import (
    CalibrationError,
    DataError,
    MisalignedError,
    MissingExtraError,
    require,
)
from committee.files import write_bytes
from committee.pool.pool import Pool
from committee.report.figure import figure_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours; markers differ too, for print in grey.
_BEFORE, _AFTER = ("#D55E00", "o", "Original"), ("#0072B2", "s", "Calibrated")
_COLUMNS = 3
_ENDINGS = (".png", ".svg")
_DPI = 200

# Colour, marker and word, and what to draw with them.
_Drawn = tuple[tuple[str, str, str], Reliability]


def reliability_figure(pool: Pool, bins: int = 15) -> Figure:
    """Draw accuracy by confidence, after figure 6 of Wang et al. (2022), one panel a model.

    A point is the mean confidence and the accuracy of the samples of one bin, with the 95 % Wilson
    interval of the accuracy; the bars below say how many samples each bin holds. On the diagonal
    confidence is accuracy. Confidences of decisions that are no probabilities are not drawn.

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
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError.of("The figure", "matplotlib", "report") from None
    columns = min(_COLUMNS, len(pool.calibrations))
    rows = math.ceil(len(pool.calibrations) / columns)
    figure = Figure(figsize=(3.1 * columns + 0.6, 3.9 * rows + 0.9), layout="constrained")
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


def check_figure_ending(path: Path) -> None:
    """Refuse an ending that is neither png nor svg, before any work is done.

    Raises:
        DataError: If so.
        MissingExtraError: If matplotlib is not installed.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise DataError(f"{path}: a figure can be written as {' or '.join(_ENDINGS)}")
    require("The figure", "report")


def write_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as png, at 200 dots an inch, or svg, by the ending.

    Raises:
        DataError: If the ending is neither.
    """
    check_figure_ending(path)
    if path.suffix.lower() == ".svg":
        return write_bytes(path, figure_svg(figure).encode())
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=_DPI)
    return write_bytes(path, image.getvalue())


def _draw_curves(axes: Axes, name: str, found: list[_Drawn]) -> None:
    axes.set_visible(True)
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle="--", zorder=1)
    for (color, marker, what), each in found:
        count, confidence, accuracy = _drawn(each)
        low, high = _wilson(accuracy, count)
        axes.errorbar(
            confidence, accuracy, yerr=np.stack([accuracy - low, high - accuracy]), color=color,
            marker=marker, markersize=3.5, linewidth=1, elinewidth=0.6, capsize=1.5, zorder=2,
            label=f"{what}, ECE {each.error:.2%}",
        )  # fmt: skip
    axes.set_title(name, fontsize=9, loc="left", parse_math=False)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
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
    """Count, confidence and accuracy of the bins that hold samples."""
    count = _joined(each.count)
    some = count > 0
    confidence = _joined(each.count * each.confidence)[some] / count[some]
    accuracy = _joined(each.count * each.accuracy)[some] / count[some]
    return count[some], confidence, accuracy


def _joined(values: Array) -> Array:
    """What is certain has a bin of its own, of no width; it is drawn with the bin below it."""
    return np.append(values[:-2], values[-2] + values[-1])


def _wilson(share: Array, count: Array) -> tuple[Array, Array]:
    """95 % Wilson intervals of shares."""
    from scipy.special import ndtri

    z = -float(ndtri(0.025))
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    root = np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    half = z / (1 + z * z / count) * root
    # Rounding must not put a bound beyond the share itself.
    return np.minimum(middle - half, share), np.maximum(middle + half, share)
