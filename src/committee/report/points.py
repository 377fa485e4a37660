"""Points: what the page's chart, details and sliders are drawn from, as plain data for JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.pool.evaluate import Evaluation, costs_of_stages
from committee.pool.pool import Pool
from committee.report.command import Saving
from committee.report.rows import CHOSEN, SINGLE, Row, matches
from committee.report.scales import heading_of, scales_of
from committee.report.text import exit_heading, stages_named
from committee.selection.front import Front
from committee.selection.threshold_histograms import Moves, moves

# What a series of points is drawn as. Later ones lie above earlier ones.
_FRONT, _BEST, _SINGLE, _TARGET = "front", "ensemble", "single", "target"


def page_data(
    front: Front,
    rows: Sequence[Row],
    members: Sequence[Row],
    best: Sequence[Row],
    saving: Saving,
    test: Pool | None = None,
) -> dict[str, Any]:
    """Everything that the page's script draws, figures in full.

    Args:
        front: Committees found on the choosing split.
        rows: From :func:`committee.report.summary`.
        members: From :func:`committee.report.front_rows`.
        best: From :func:`committee.report.ensemble_rows`.
        saving: How a committee is saved.
        test: The pool that judges, or None.
    """
    row = rows[0]
    every = {each.cascade.models_of_stages: each.cascade for each in [*rows, *members, *best]}
    numbers = {each: number for number, each in enumerate(every)}
    counted = moves(front, front.pool if test is None else test)
    costs = front.pool.prices(front.settings.unit)
    reference = front.pool.single(row.reference, front.settings.combine)

    def series(kind: str, some: Iterable[Row]) -> list[dict[str, Any]]:
        return [
            {
                "series": kind,
                "role": each.role,
                "told": each.told,
                "name": each.name,
                "stages": numbers[each.cascade.models_of_stages],
                "thresholds": [_threshold(value) for value in each.cascade.thresholds],
                "val": _figures(each.val),
                "test": each.test and _figures(each.test),
                "save": saving.target(each),
            }
            for each in some
        ]

    scales = asdict(scales_of(rows, [*members, *best]))
    return {
        "scales": {name: _finite(value) for name, value in scales.items()},
        "unit": front.settings.unit,
        "heading": heading_of(row.judged.measure),
        "samples": row.task.samples,
        "leaving": exit_heading(row.task),
        "counted": front.settings.metric.counted,
        "reference": {
            "name": row.reference,
            "cost": sum(costs[name] for name in reference),
            "match": matches(row.reference),
        },
        "val": {"name": row.val.split, "samples": row.val.samples},
        "test": row.test and {"name": row.test.split, "samples": row.test.samples},
        "saving": {"before": saving.before, "after": saving.after},
        "stages": [
            {
                "models": stages_named(cascade),
                "costs": costs_of_stages(each, costs),
                **_counts(counted.get(each)),
            }
            for each, cascade in every.items()
        ],
        "points": [
            *series(_FRONT, members),
            *series(_BEST, best),
            *series(_SINGLE, (each for each in rows if each.role == SINGLE)),
            *series(_TARGET, (each for each in rows if each.chosen and each.role != CHOSEN)),
            *series(CHOSEN, (each for each in rows if each.role == CHOSEN)),
        ],
    }


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    low, high = evaluation.interval
    return {
        "right": evaluation.correct,
        "low": low,
        "high": high,
        "cost": evaluation.average_cost,
        "leaving": evaluation.exit_ratios,
    }


def _counts(found: Moves | None) -> dict[str, Any]:
    """The candidates of each threshold, and the cells as text; nothing if there are none."""
    if found is None:
        return {}
    records = np.column_stack([found.passed, found.count, found.right])
    return {
        "grid": [column.tolist() for column in found.thresholds],
        "cells": base64.b64encode(_short(records.ravel())).decode("ascii"),
    }


def _short(numbers: Array) -> bytes:
    """Whole numbers of 0 and more, seven bits a byte, lowest first; a last byte is below 128.

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
    """What JSON can hold: nothing stands for infinity."""
    return None if value == math.inf else value
