"""What is asked of a search: its options as the user gives them, and checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from committee.errors import CascadeError, CostError, UnknownNameError
from committee.pool.evaluate import check_judge, check_judgeable
from committee.pool.metrics import Utility
from committee.pool.pool import Pool
from committee.rule.combinations import DEFAULT_COMBINE
from committee.rule.scores import CONFIDENCES, confidence_of
from committee.selection.prefixes import Rule
from committee.selection.statistics import processors

# Called with what is being done, how much is done and how much there is.
Progress = Callable[[str, int, int], None]
Bounds = float | Mapping[str, float] | None


@dataclass(frozen=True, eq=False)
class Options:
    """What every search takes, whatever it goes through; see :func:`committee.search`."""

    confidence: str = "max_prob"
    combine: str | None = None
    grid: int = 100
    worst_case: Bounds = None
    average_case: Mapping[str, float] | None = None
    unit: str | None = None
    utility: Utility | None = None
    test: Pool | None = None
    threads: int | None = None
    max_memory: float = 4e9
    progress: Progress | None = None


@dataclass(frozen=True, eq=False)
class Asked:
    """What every committee of one search shares; arguments as of :class:`Options`."""

    rule: Rule
    grid: int
    unit: str
    worst_case: Mapping[str, float]
    average_case: Mapping[str, float]
    test: Pool | None
    threads: int
    max_memory: float
    progress: Progress | None


def asked_for(pool: Pool, options: Options) -> Asked:
    """What is asked of a search over a pool, checked.

    Raises:
        MisalignedError: If there are no labels or samples, or ``test`` cannot judge.
        UnknownNameError: If there is no such confidence function.
        CostError: If a bound is NaN, or a model has no cost in the unit.
        CascadeError: If ``threads`` is less than 1.
    """
    utility = options.utility or pool.task.utility
    threads, test = options.threads, options.test
    check_judgeable(pool, utility)
    unit = pool.costs.unit(options.unit)
    if test is not None:
        check_judge(pool, test, utility, unit)
    confidence = pool.confidence_or(options.confidence)
    rule = Rule(pool, confidence, options.combine or DEFAULT_COMBINE[pool.kind], utility)
    if rule.pool.kind != "decisions" and confidence_of(rule.confidence) is None:
        raise UnknownNameError.of("search", "confidence function", rule.confidence, CONFIDENCES)
    if threads is not None and threads < 1:
        raise CascadeError(f"search: threads must be 1 or more, not {threads}")
    worst = _bounds_of(options.worst_case, unit)
    average = options.average_case or {}
    for what, bounds in (("worst_case", worst), ("average_case", average)):
        for each, bound in bounds.items():
            if math.isnan(bound):
                raise CostError(f"search: {what} is NaN; give a number of {each} or leave it out")
    return Asked(
        rule,
        options.grid,
        unit,
        worst,
        _bounds_of(average, unit),
        test,
        threads or processors(),
        options.max_memory,
        options.progress,
    )


def most_models(asked: int | None, available: int, what: str) -> int:
    """How many models a committee may have: what is asked, else 3, or all of a smaller pool.

    Raises:
        CascadeError: If that is less than 1 or more than there are.
    """
    most = min(3, available) if asked is None else asked
    if not isinstance(most, int | np.integer) or not 1 <= most <= available:
        raise CascadeError(
            f"search: max_models must be 1 to {available}, as many as are in the {what}, not {most}"
        )
    return most


def _bounds_of(worst_case: Bounds, unit: str) -> dict[str, float]:
    """Bounds by unit, from one number in the unit of the search or several by unit."""
    if worst_case is None:
        return {}
    given = worst_case if isinstance(worst_case, Mapping) else {unit: worst_case}
    return {each: float(bound) for each, bound in given.items()}
