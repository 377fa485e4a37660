"""Searches over fixed models: one ensemble, its cheapest cascade, the thresholds of a cascade."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Unpack

import numpy as np

from committee.calibration.cross_fitting import cross_fitted
from committee.errors import CascadeError
from committee.pool.evaluate import check_has_labels, evaluate, with_expected
from committee.pool.metrics import Metric
from committee.pool.pool import Pool
from committee.pool.prefixes import prefixes_of
from committee.rule.cascade import ALWAYS, NEVER, Cascade
from committee.rule.combinations import DEFAULT_COMBINE, JOINT
from committee.rule.origin import RecordedTarget
from committee.selection.engine import search_sequences
from committee.selection.evaluate_many import evaluate_all
from committee.selection.exhaustive import search_each_tiling
from committee.selection.front import Committee, Front, committee_of, with_target
from committee.selection.options import SearchKeywords, SearchOptions, plan_search
from committee.selection.refine import front_of_candidates
from committee.selection.rules import refuse_auto
from committee.selection.sequences import as_stages, checked_stages
from committee.selection.statistics import prefix_table


def as_ensemble(
    models: Sequence[str],
    pool: Pool,
    confidence: str = "max_prob",
    combine: str | None = None,
    unit: str | None = None,
    metric: Metric | None = None,
) -> Committee:
    """Return an ensemble, or a model alone, whether or not another committee beats it.

    The last of the models is the newest, which breaks the ties of a vote.

    ``pool`` is the validation split; the other arguments are those of :func:`committee.search`.

    Raises:
        UnknownNameError: If a model is not in the pool.
        CascadeError: If a model is named twice, or the outputs of several cannot be averaged.
    """
    refuse_auto("as_ensemble", combine, confidence)
    pool = cross_fitted(pool.holding([models]))
    for name in models:
        pool.model(name)
    combine = combine or DEFAULT_COMBINE[pool.combined_kind]
    if len(models) > 1 and combine not in JOINT:
        if pool.combined_kind == "outcomes":
            why = "outcomes cannot be combined; name one model"
        elif pool.combined_kind == "decisions":
            why = "decisions cannot be averaged; combine them by vote, or name one model"
        else:
            why = f"{combine} takes the outputs of the last model; name one, or combine by a mean"
        raise CascadeError(f"as_ensemble: {', '.join(models)}: {why}")
    cascade = Cascade.ensemble(models, pool.confidence_or(confidence), combine, pool.calibrations)
    evaluation = evaluate(cascade, pool, pool.costs.unit(unit), metric)
    return committee_of(with_expected(cascade, pool, metric), evaluation, pool)


def as_cascade(
    models: Sequence[str | Sequence[str]],
    pool: Pool,
    within: float = 0.0,
    **options: Unpack[SearchKeywords],
) -> Committee:
    """Return the cheapest cascade of an ensemble's models that is as accurate as the ensemble.

    The search tries every order of the models with every vector of thresholds, in every tiling of
    the pool. At worst it returns the ensemble itself.

    Args:
        models: Models of the ensemble; a list of names among them runs as one stage.
        pool: Predictions on the validation split, and costs.
        within: How much less accurate than the ensemble the cascade may be, a share of 1.
        options: As in :func:`committee.search`.

    Raises:
        UnknownNameError: If a model is not in the pool.
        CascadeError: If a model is named twice.
        Infeasible: If no cascade that is as accurate is within ``worst_case``.

    References:
        Wang et al. (2022), section 4.2.
    """
    plan = plan_search(pool, SearchOptions(**options))
    pool = plan.source.pool
    stages = checked_stages(pool, models)
    names = [name for stage in stages for name in stage]
    if len(stages) < len(models):
        raise CascadeError(f"as_cascade: {list(models)} must name every model once")
    orders = [
        order
        for size in range(1, len(stages) + 1)
        for order in itertools.permutations(stages, size)
    ]

    def search_one(own: Pool, test: Pool | None) -> Front:
        # Tilings differ only in what later stages see.
        sequences = list(dict.fromkeys(own.layout.on_tiles(order) for order in orders))
        own_plan = plan_search(own, SearchOptions(**(options | {"test": test})))
        candidates = search_sequences(own_plan, sequences)
        return front_of_candidates(candidates, len(stages), families=False)

    front = search_each_tiling(pool, plan.test, search_one)
    ensemble = plan.source.cascade([names], [])
    goal = evaluate(ensemble, pool, plan.unit, plan.source.metric).accuracy - within
    target = RecordedTarget(str(ensemble), ensemble.names, within)
    return with_target(front.at_least(goal), target, ensemble)


def threshold_front(
    stages: Sequence[str | Sequence[str]], pool: Pool, **options: Unpack[SearchKeywords]
) -> Front:
    """Return the front over all thresholds of one cascade whose models and order are fixed.

    At its ends are the first stage alone and the ensemble, unless others beat them.

    References:
        Wang et al. (2022), appendices D.3 and E.2.
    """
    pool = pool.holding(as_stages(stages))
    test = options.get("test")
    own_test = None if test is None else test.divided_as(pool)
    plan = plan_search(pool, SearchOptions(**(options | {"test": own_test})))
    sequence = tuple(checked_stages(pool, stages))
    names = [name for stage in sequence for name in stage]
    if len(sequence) < len(stages) or len(set(names)) < len(names):
        raise CascadeError(f"threshold_front: {list(stages)} must name every model once")
    # A stage that always exits ends the cascade; the shorter sequences cover that case.
    beginnings = [sequence[:end] for end in range(1, len(sequence) + 1)]
    return front_of_candidates(search_sequences(plan, beginnings), len(sequence), families=False)


def threshold_sweep(
    stages: Sequence[str | Sequence[str]],
    pool: Pool,
    *,
    confidence: str = "max_prob",
    combine: str | None = None,
    grid: int = 100,
    unit: str | None = None,
    metric: Metric | None = None,
) -> tuple[Committee, ...]:
    """Return a two-stage cascade under every threshold, by rising threshold, which is rising cost.

    The first is the first stage alone and the last the ensemble; dominated ones are included. A
    stage is a name or a list of names; the other arguments are those of :func:`committee.search`.

    Raises:
        CascadeError: If there are not two stages, or they share a model.

    References:
        Wang et al. (2022), figure 4.
    """
    pool = pool.holding(as_stages(stages))
    pair = checked_stages(pool, stages)
    if len(pair) != 2:
        raise CascadeError(f"threshold_sweep: takes two stages, not {len(pair)}")
    check_has_labels(pool, metric)
    pool = cross_fitted(pool)
    source = prefixes_of(pool, confidence, combine, metric)
    key = source.key(pair[0])
    table = prefix_table(source, [key], grid)
    thresholds = table.thresholds(key, np.arange(table.widths[0] - 1))
    cascades = [source.cascade(pair, [t]).joined() for t in (ALWAYS, *thresholds.tolist(), NEVER)]
    return tuple(map(Committee, cascades, evaluate_all(cascades, pool, unit, metric)))
