"""Search options: the options of every search, and the same checked against a pool."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from committee.calibration.cross_fitting import cross_fitted
from committee.errors import CascadeError, CostError, UnknownNameError
from committee.pool.evaluate import check_has_labels, check_test_pool
from committee.pool.metrics import Metric
from committee.pool.pool import Pool
from committee.pool.prefixes import PrefixSource, prefixes_of
from committee.rule.outputs import WITH_CONFIDENCE
from committee.rule.scores import AGREEMENTS, CONFIDENCES, is_confidence
from committee.selection.rules import Progress, refuse_auto

Bounds = float | Mapping[str, float] | None


@dataclass(frozen=True, eq=False, kw_only=True)
class SearchOptions:
    """Options that all searches share: keyword arguments, and options of the command line.

    Args:
        confidence: Confidence function, or auto; decisions have their own, or may take agreement.
        combine: Name of the combination, or auto; by default the mean, or last for decisions.
        grid: Percentiles tried for each threshold.
        worst_case: Bound on the cost of all stages together, in the unit of the search or by unit.
        average_case: Bounds on the average cost in units besides that of the search.
        unit: Unit of the cost; see CostTable.unit for the default.
        metric: What a sample scores when it exits; by default that of the pool's task.
        test: The pool on a test split, to evaluate the front on as well.
        threads: Threads to use; all processors by default.
        max_memory: Bytes that statistics may take.
        progress: Called with the name of a part, how much of it is done and how much in all.
    """

    confidence: str = "max_prob"
    combine: str | None = None
    grid: int = 100
    worst_case: Bounds = None
    average_case: Mapping[str, float] | None = None
    unit: str | None = None
    metric: Metric | None = None
    test: Pool | None = None
    threads: int | None = None
    max_memory: float = 4e9
    progress: Progress | None = None


# The help of each option on the command line, taken from the docstring above.
OPTION_HELP: dict[str, str] = dict(re.findall(r"(?m)^\s+(\w+): (.+)", SearchOptions.__doc__ or ""))


class SearchKeywords(TypedDict, total=False):
    """The keywords of :class:`SearchOptions`, for type checkers."""

    confidence: str
    combine: str | None
    grid: int
    worst_case: Bounds
    average_case: Mapping[str, float] | None
    unit: str | None
    metric: Metric | None
    test: Pool | None
    threads: int | None
    max_memory: float
    progress: Progress | None


@dataclass(frozen=True, eq=False)
class SearchPlan:
    """Search options with their defaults filled in, checked against a pool."""

    source: PrefixSource
    grid: int
    unit: str
    worst_case: Mapping[str, float]
    average_case: Mapping[str, float]
    test: Pool | None
    threads: int
    max_memory: float
    progress: Progress | None


def plan_search(pool: Pool, options: SearchOptions) -> SearchPlan:
    """Return options with their defaults filled in, checked against a pool."""
    refuse_auto("search", options.combine, options.confidence)
    threads, test = options.threads, options.test
    check_has_labels(pool, options.metric)
    unit = pool.costs.unit(options.unit)
    if test is not None:
        check_test_pool(pool, test, options.metric, unit)
    pool = cross_fitted(pool)
    source = prefixes_of(pool, options.confidence, options.combine, options.metric)
    if pool.combined_kind not in WITH_CONFIDENCE and not is_confidence(source.confidence):
        known = (*CONFIDENCES, *AGREEMENTS)
        raise UnknownNameError.of("search", "confidence function", source.confidence, known)
    if threads is not None and threads < 1:
        raise CascadeError(f"search: threads must be 1 or more, not {threads}")
    worst_case = options.worst_case if options.worst_case is not None else {}
    if not isinstance(worst_case, Mapping):
        worst_case = {unit: worst_case}
    return SearchPlan(
        source,
        options.grid,
        unit,
        _numbers("worst_case", worst_case),
        _numbers("average_case", options.average_case or {}),
        test,
        threads or processors(),
        options.max_memory,
        options.progress,
    )


def most_models(max_models: int | None, available: int, what: str) -> int:
    """Return how many models a committee may have: 3 by default, or all of a smaller pool."""
    most = min(3, available) if max_models is None else max_models
    if not isinstance(most, int | np.integer) or not 1 <= most <= available:
        raise CascadeError(
            f"search: max_models must be 1 to {available}, as many as are in the {what}, not {most}"
        )
    return most


def _numbers(option: str, bounds: Mapping[str, float]) -> dict[str, float]:
    """Return bounds by unit as floats, refusing NaN."""
    for unit, bound in bounds.items():
        if math.isnan(bound):
            raise CostError(f"search: {option} is NaN; give a number of {unit} or leave it out")
    return {unit: float(bound) for unit, bound in bounds.items()}


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
