"""Guided search of large pools: exact among the models that pairs of models single out."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from committee.arrays import Array
from committee.pool.evaluate import costs_of_stages
from committee.pool.metrics import Utility
from committee.pool.pool import Pool
from committee.selection.engine import check_memory, searched
from committee.selection.exhaustive import everything
from committee.selection.front import Front
from committee.selection.options import Asked, Bounds, Options, Progress, asked_for
from committee.selection.prefixes import PrefixTable
from committee.selection.refine import front_of_found
from committee.selection.sequences import every_sequence, refuse_parts, within
from committee.selection.statistics import prefix_table
from committee.selection.sweep import Batch, sweep

# Costs at which committees are compared, from the cheapest to the dearest, in equal ratios.
_COSTS = 64
# Models of a committee, if nothing else is asked for.
_MOST = 4


def guided(
    pool: Pool,
    max_models: int | None = None,
    *,
    keep: int = 20,
    confidence: str = "max_prob",
    combine: str | None = None,
    grid: int = 100,
    worst_case: Bounds = None,
    average_case: Mapping[str, float] | None = None,
    unit: str | None = None,
    utility: Utility | None = None,
    families: bool = True,
    test: Pool | None = None,
    threads: int | None = None,
    max_memory: float = 4e9,
    progress: Progress | None = None,
) -> Front:
    """Search a pool that is too large for :func:`committee.search`; the result is not exact.

    All cascades of one and two models are covered. By them ``keep`` models are chosen, one after
    the other, each the one that raises the accuracy of cascades of two among those chosen the most,
    averaged over 64 costs in equal ratios. Among these, all committees of up to ``max_models`` are
    covered. What is left out are committees of three or more models of which one was not kept.

    Args:
        pool: As of :func:`committee.search`, and so are all arguments but these.
        max_models: Most models of a committee; 4, or all of a smaller pool, if left out.
        keep: How many models are kept for committees of three or more. Time rises with its power of
            ``max_models``.
        confidence: See there.
        combine: See there.
        grid: See there.
        worst_case: See there.
        average_case: See there.
        unit: See there.
        utility: See there.
        families: See there; of a family the first models are kept.
        test: See there.
        threads: See there.
        max_memory: See there.
        progress: See there.

    Raises:
        CascadeError: If ``max_models`` is less than 1 or more than the pool has, or models see
            parts of samples.
        Infeasible, MisalignedError, CostError, ShapeError, TooLargeError: As of
            :func:`committee.search`.
    """
    most = min(_MOST, pool.most_models) if max_models is None else max_models
    options = Options(
        confidence=confidence,
        combine=combine,
        grid=grid,
        worst_case=worst_case,
        average_case=average_case,
        unit=unit,
        utility=utility,
        test=test,
        threads=threads,
        max_memory=max_memory,
        progress=progress,
    )
    if most <= 2 or len(pool.names) <= max(keep, most):
        return everything(pool, most, options, families)
    refuse_parts("guided", pool)
    asked = asked_for(pool, options)
    known = pool.families if families else {}
    kept, table = _kept(asked, known, max(keep, most))
    chosen = pool.only(name for name in pool.names if name in kept)
    pairs = list(every_sequence(pool, 2, known, None))
    longer = [s for s in every_sequence(chosen, most, known, None) if len(s) > 2]
    found = searched(asked, pairs + longer, table)
    every = _sequences(len(pool.names), most)
    why = (
        f"guided: all committees of up to 2 of {len(pool.names)} models and of up to {most} "
        f"of the {len(kept)} models kept were covered, "
        f"{len(found.sequences):,} of {every:,} sequences"
    )
    return front_of_found(found, most, bool(known), why)


def _sequences(models: int, most: int) -> int:
    return sum(math.perm(models, size) for size in range(1, most + 1))


def _kept(asked: Asked, families: Mapping[str, str], keep: int) -> tuple[set[str], PrefixTable]:
    """Names of the models by which cascades of two gain the most; and the pairs' statistics."""
    pool = asked.rule.pool
    pairs = within(pool, every_sequence(pool, 2, families, None), asked.worst_case)
    keys = [asked.rule.keys(pair) for pair in pairs]
    distinct = list(dict.fromkeys(key for each in keys for key in each))
    check_memory(len(distinct), len(pool), asked.max_memory)
    table = prefix_table(asked.rule, distinct, asked.grid, threads=asked.threads)
    costs = pool.costs.values(asked.unit)
    priced = [costs_of_stages(pair, costs) for pair in pairs]
    levels = _levels(min(c[0] for c in priced), max(sum(c) for c in priced)) * len(pool)
    # Total utility of the best of each pair's cascades for each cost; below the cheapest, nothing.
    best = np.full((len(pairs), len(levels)), -np.inf)
    for row, (own, cost) in enumerate(zip(keys, priced, strict=True)):
        prefixes = np.array([[table.rows[key] for key in own]], np.int32)
        batch = Batch(prefixes, np.array([[cost]]), np.empty(0))
        points = sweep(table, batch, np.empty(0), np.empty(0, np.int64))
        order = np.argsort(points.cost)
        rising = np.maximum.accumulate(points.value[order])
        at = np.searchsorted(points.cost[order], levels, side="right") - 1
        best[row, at >= 0] = rising[at[at >= 0]]
    names = [tuple(stage[0] for stage in pair) for pair in pairs]
    return _by_gain(names, best, families, pool, keep), table


def _levels(lowest: float, highest: float) -> Array:
    positive = max(lowest, highest * 1e-6)
    return np.geomspace(positive, max(highest, positive), _COSTS) * (1 + 1e-9)


def _by_gain(
    pairs: list[tuple[str, ...]],
    best: Array,
    families: Mapping[str, str],
    pool: Pool,
    keep: int,
) -> set[str]:
    floor = best[np.isfinite(best)].min(initial=0.0)
    best = np.where(np.isfinite(best), best, floor)
    rows: dict[str, list[int]] = {name: [] for name in pool.names}
    for row, pair in enumerate(pairs):
        for name in pair:
            rows[name].append(row)
    kept: set[str] = set()
    current = np.full(best.shape[1], floor)
    while len(kept) < keep:
        ranked = []
        for name in pool.names:
            if name in kept or not _next_of_family(name, kept, families, pool):
                continue
            usable = [r for r in rows[name] if set(pairs[r]) <= kept | {name}]
            curve = best[usable].max(axis=0) if usable else np.full_like(current, floor)
            gain = np.maximum(curve - current, 0).sum()
            # Nothing gained: the one whose pairs with any model come nearest.
            near = (best[rows[name]].max(axis=0) if rows[name] else current).sum()
            ranked.append((-gain, -near, name))
        if not ranked:
            break
        name = min(ranked)[2]
        kept.add(name)
        usable = [r for r in rows[name] if set(pairs[r]) <= kept]
        if usable:
            current = np.maximum(current, best[usable].max(axis=0))
    return kept


def _next_of_family(name: str, kept: set[str], families: Mapping[str, str], pool: Pool) -> bool:
    """Whether the models of the family that come first are kept already."""
    if name not in families:
        return True
    before = [n for n in pool.names if families.get(n) == families[name]]
    return all(n in kept for n in before[: before.index(name)])
