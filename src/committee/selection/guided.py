"""Guided search of large pools: cascades of two models select the models of longer ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Unpack

import numpy as np

from committee.arrays import Array
from committee.pool.costs import costs_of_stages
from committee.pool.pool import Pool
from committee.selection.engine import check_memory, search_sequences
from committee.selection.exhaustive import search
from committee.selection.front import Front
from committee.selection.options import SearchKeywords, SearchOptions, SearchPlan, plan_search
from committee.selection.refine import front_of_candidates
from committee.selection.rules import is_auto, search_each_rule
from committee.selection.sequences import every_sequence, refuse_tiles, within_bounds
from committee.selection.statistics import PrefixTable, prefix_table
from committee.selection.sweep import Batch, sweep
from committee.selection.threads import executor_for

# Number of costs at which pairs are compared, from the cheapest to the dearest, in equal ratios.
_COSTS = 64
# Pairs that a thread takes at a time.
_PAIRS = 256
# Most models of a committee by default.
_MOST = 4


def guided(
    pool: Pool,
    max_models: int | None = None,
    *,
    keep: int = 20,
    families: bool = True,
    **options: Unpack[SearchKeywords],
) -> Front:
    """Return a front, not exact, of a pool that is too large for :func:`committee.search`.

    The search covers all cascades of one and two models. They select ``keep`` models, one after
    another: each is the one that most raises the accuracy of cascades of two selected models,
    averaged over 64 costs in equal ratios. The search also covers all committees of up to
    ``max_models`` of the selected models, but no others of three or more models.

    Args:
        pool: As in :func:`committee.search`.
        max_models: Most models of a committee; 4, or all of a smaller pool, by default.
        keep: How many models are selected for committees of three or more. Time rises with its
            power of ``max_models``.
        families: As in :func:`committee.search`; the first models of a family are selected.
        options: As in :func:`committee.search`, and so are the errors.

    Raises:
        CascadeError: Also if models see tiles.
    """
    most = min(_MOST, pool.most_models) if max_models is None else max_models
    if most <= 2 or len(pool.names) <= max(keep, most):
        return search(pool, most, families=families, **options)
    refuse_tiles("guided", pool)
    own = SearchOptions(**options)
    if is_auto(own.combine, own.confidence):

        def again(each: Pool, **rule: Unpack[SearchKeywords]) -> Front:
            return guided(each, max_models, keep=keep, families=families, **(options | rule))

        return search_each_rule(pool, own.combine, own.confidence, own.progress, again)
    plan = plan_search(pool, own)
    known = pool.families if families else {}
    selected, table = _select(plan, known, max(keep, most))
    chosen = pool.only(name for name in pool.names if name in selected)
    pairs = list(every_sequence(pool, 2, known, None))
    longer = [s for s in every_sequence(chosen, most, known, None) if len(s) > 2]
    candidates = search_sequences(plan, pairs + longer, table)
    every = sum(math.perm(len(pool.names), size) for size in range(1, most + 1))
    why = (
        f"guided: all committees of up to 2 of {len(pool.names)} models and of up to {most} "
        f"of {len(selected)} selected models were covered, "
        f"{len(candidates.sequences):,} of {every:,} sequences"
    )
    return front_of_candidates(candidates, most, families=bool(known), inexact=why)


def _select(
    plan: SearchPlan, families: Mapping[str, str], keep: int
) -> tuple[set[str], PrefixTable]:
    """Return the models that improve cascades of two the most, and the statistics of all pairs."""
    pool = plan.source.pool
    pairs = within_bounds(pool, every_sequence(pool, 2, families, None), plan.worst_case)
    keys = [plan.source.keys(pair) for pair in pairs]
    distinct = list(dict.fromkeys(key for each in keys for key in each))
    check_memory(len(distinct), len(pool), plan.max_memory)
    table = prefix_table(plan.source, distinct, plan.grid, threads=plan.threads)
    means, each = pool.costs.values(plan.unit), pool.sample_costs(plan.unit)
    priced = [costs_of_stages(pair, means) for pair in pairs]
    levels = _levels(min(c[0] for c in priced), max(sum(c) for c in priced)) * len(pool)
    # Total value of each pair's best cascade at each cost; -inf where none is that cheap.
    best = np.full((len(pairs), len(levels)), -np.inf)

    def compare(first: int) -> None:
        for row in range(first, min(first + _PAIRS, len(pairs))):
            prefixes = [[table.rows[key] for key in keys[row]]]
            batch = Batch.of(prefixes, [[costs_of_stages(pairs[row], each)]], np.empty(0))
            points = sweep(table, batch, np.empty(0), np.empty(0, np.int64))
            order = np.argsort(points.cost)
            rising = np.maximum.accumulate(points.value[order])
            at = np.searchsorted(points.cost[order], levels, side="right") - 1
            best[row, at >= 0] = rising[at[at >= 0]]

    with executor_for(len(pairs) * len(pool), plan.threads) as executor:
        try:
            for _ in executor.map(compare, range(0, len(pairs), _PAIRS)):
                pass
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
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
    # For a model and another, or itself: the rows of their pairs.
    between: dict[tuple[str, str], list[int]] = {}
    for row, pair in enumerate(pairs):
        for name, other in {pair[:1] + pair[-1:], pair[-1:] + pair[:1]}:
            rows[name].append(row)
            between.setdefault((name, other), []).append(row)
    nearest = {name: float(best[own].max(axis=0).sum()) for name, own in rows.items() if own}
    selected: set[str] = set()
    current = np.full(best.shape[1], floor)
    while len(selected) < keep:
        ranked = []
        for name in pool.names:
            if name in selected or not _next_of_family(name, selected, families, pool):
                continue
            usable = [row for each in (*selected, name) for row in between.get((name, each), ())]
            curve = best[usable].max(axis=0) if usable else np.full_like(current, floor)
            gain = np.maximum(curve - current, 0).sum()
            # If no model gains anything, take the one whose pairs with any model come nearest.
            near = nearest.get(name, float(current.sum()))
            ranked.append((-gain, -near, name))
        if not ranked:
            break
        name = min(ranked)[2]
        selected.add(name)
        usable = [row for each in selected for row in between.get((name, each), ())]
        if usable:
            current = np.maximum(current, best[usable].max(axis=0))
    return selected


def _next_of_family(name: str, selected: set[str], families: Mapping[str, str], pool: Pool) -> bool:
    """Return True if the earlier models of this one's family are selected already."""
    if name not in families:
        return True
    before = [n for n in pool.names if families.get(n) == families[name]]
    return all(n in selected for n in before[: before.index(name)])
