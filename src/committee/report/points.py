"""Points: the data of the page's chart, details and sliders, as plain values for JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.pool.evaluate import Evaluation, costs_of_stages
from committee.report.command import Saving
from committee.report.rows import CHOSEN, SINGLE, Report, Row, matches
from committee.report.scales import heading_of, scales_of
from committee.report.text import exit_heading, stages_named
from committee.selection.threshold_histograms import ThresholdHistogram, threshold_histograms

# Kinds of series; the page draws later ones above earlier ones.
_FRONT, _BEST, _SINGLE, _TARGET = "front", "ensemble", "single", "target"


def page_data(report: Report, saving: Saving) -> dict[str, Any]:
    """Return everything that the page's script draws, with every number in full precision."""
    front, rows = report.front, report.rows
    row = rows[0]
    rest = [*report.members, *report.ensembles]
    every = {each.cascade.models_of_stages: each.cascade for each in [*rows, *rest]}
    numbers = {each: number for number, each in enumerate(every)}
    histograms = threshold_histograms(front, front.pool if report.test is None else report.test)
    costs = front.pool.prices(front.settings.unit)
    reference = front.pool.single(report.reference, front.settings.combine)

    def series(kind: str, some: Iterable[Row]) -> list[dict[str, Any]]:
        return [
            {
                "series": kind,
                "role": each.role,
                "text": each.text,
                "name": each.name,
                "stages": numbers[each.cascade.models_of_stages],
                "thresholds": [_threshold(value) for value in each.cascade.thresholds],
                "val": _figures(each.val),
                "test": each.test and _figures(each.test),
                "save": saving.target(each),
            }
            for each in some
        ]

    scales = asdict(scales_of(report))
    return {
        "scales": {name: _finite(value) for name, value in scales.items()},
        "unit": front.settings.unit,
        "heading": heading_of(row.reported.measure),
        "samples": row.task.samples,
        "exit_heading": exit_heading(row.task),
        "counted": front.settings.metric.counted,
        "reference": {
            "name": report.reference,
            "cost": sum(costs[name] for name in reference),
            "match": matches(report.reference),
        },
        "val": {"name": row.val.split, "samples": row.val.samples},
        "test": row.test and {"name": row.test.split, "samples": row.test.samples},
        "saving": {"before": saving.before, "after": saving.after},
        "stages": [
            {
                "models": stages_named(cascade),
                "costs": costs_of_stages(each, costs),
                **_counts(histograms.get(each)),
            }
            for each, cascade in every.items()
        ],
        "points": [
            *series(_FRONT, report.members),
            *series(_BEST, report.ensembles),
            *series(_SINGLE, (each for each in rows if each.role == SINGLE)),
            *series(_TARGET, (each for each in rows if each.chosen and each.role != CHOSEN)),
            *series(CHOSEN, (each for each in rows if each.role == CHOSEN)),
        ],
    }


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    low, high = evaluation.interval
    correct = evaluation.correct
    return {
        # The page divides by the number of samples.
        "correct": evaluation.accuracy * evaluation.samples if correct is None else correct,
        "low": low,
        "high": high,
        "cost": evaluation.average_cost,
        "exits": evaluation.exit_ratios,
    }


def _counts(histogram: ThresholdHistogram | None) -> dict[str, Any]:
    """Return the candidates of each threshold, and packed counts; nothing without a histogram."""
    if histogram is None:
        return {}
    records = np.column_stack([histogram.passed, histogram.count, histogram.correct])
    return {
        "grid": [column.tolist() for column in histogram.thresholds],
        "counts": base64.b64encode(_short(records.ravel())).decode("ascii"),
    }


def _short(numbers: Array) -> bytes:
    """Return non-negative integers as bytes of seven bits, lowest first; each last byte is < 128.

    >>> list(_short(np.array([0, 127, 128, 300])))
    [0, 127, 128, 1, 172, 2]
    """
    places = range(max(1, -(-int(numbers.max(initial=0)).bit_length() // 7)))
    digits = np.stack([(numbers >> 7 * place) & 127 for place in places], axis=1)
    more = np.stack([numbers >> 7 * (place + 1) > 0 for place in places], axis=1)
    there = np.stack([(numbers >> 7 * place > 0) | (place == 0) for place in places], axis=1)
    packed: bytes = (digits + 128 * more)[there].astype(np.uint8).tobytes()
    return packed


def _threshold(value: float) -> float | str:
    return {-math.inf: "always", math.inf: "never"}.get(value, value)


def _finite(value: Any) -> Any:
    """Return the value, or None for infinity, which JSON cannot hold."""
    return None if value == math.inf else value
