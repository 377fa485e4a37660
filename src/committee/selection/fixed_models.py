"""Fixed models: an ensemble as it is or turned into a cascade, and a sweep of one threshold."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from committee.errors import CascadeError
from committee.pool.evaluate import check_judgeable, evaluate
from committee.pool.metrics import Utility
from committee.pool.pool import Pool
from committee.rule.cascade import ALWAYS, NEVER, Cascade
from committee.rule.combinations import DEFAULT_COMBINE, ORDER_FREE
from committee.selection.engine import searched
from committee.selection.evaluate_many import evaluate_all
from committee.selection.exhaustive import over_divisions
from committee.selection.front import Committee, Front, described, with_target
from committee.selection.options import Bounds, Options, asked_for
from committee.selection.prefixes import Rule
from committee.selection.refine import front_of_found
from committee.selection.sequences import as_stages, checked_stages
from committee.selection.statistics import prefix_table


def as_ensemble(
    models: Sequence[str],
    pool: Pool,
    confidence: str = "max_prob",
    combine: str | None = None,
    unit: str | None = None,
    utility: Utility | None = None,
) -> Committee:
    """An ensemble, or a model alone, whether or not another committee beats it.

    Args:
        models: One or more.
        pool: Predictions on the split that chooses, and costs.
        confidence: Name of the confidence function.
        combine: Name of the combination; by default the mean of what the models give.
        unit: Unit of the cost; see :meth:`committee.spec.cost.CostTable.unit` for the default.
        utility: What a sample scores; that of the pool's task if left out.

    Raises:
        UnknownNameError: If a model is not in the pool.
        CascadeError: If a model stands twice, or nothing combines the outputs of several.
    """
    pool = pool.holding([models])
    for name in models:
        pool.model(name)
    combine = combine or DEFAULT_COMBINE[pool.kind]
    if len(models) > 1 and combine not in ORDER_FREE:
        if pool.kind == "decisions":
            why = "decisions cannot be averaged; name one model, or import probabilities"
        else:
            why = f"{combine} takes the outputs of the last model; name one, or combine by a mean"
        raise CascadeError(f"as_ensemble: {', '.join(models)}: {why}")
    cascade = Cascade.ensemble(models, pool.confidence_or(confidence), combine, pool.calibrations)
    return described(cascade, evaluate(cascade, pool, pool.costs.unit(unit), utility), pool)


def as_cascade(
    models: Sequence[str | Sequence[str]],
    pool: Pool,
    tolerance: float = 0.0,
    *,
    confidence: str = "max_prob",
    combine: str | None = None,
    grid: int = 100,
    worst_case: Bounds = None,
    unit: str | None = None,
    utility: Utility | None = None,
    threads: int | None = None,
) -> Committee:
    """Turn an ensemble into the cheapest cascade of the same models that does as well.

    Every order of the models and every vector of thresholds is tried, so that at worst the ensemble
    itself is the answer; where samples are divided in parts, with every way to divide them.

    Args:
        models: Models of the ensemble; a list of names among them runs as one stage.
        pool: Predictions on the split that chooses, and costs.
        tolerance: How much less accurate than the ensemble the cascade may be, a share of 1.
        confidence: Name of the confidence function.
        combine: Name of the combination; by default the mean of what the models give.
        grid: Percentiles tried for each threshold.
        worst_case: As of :func:`committee.search`.
        unit: Unit of the cost; see :meth:`committee.spec.cost.CostTable.unit` for the default.
        utility: What a sample scores when it exits; that of the pool's task if left out.
        threads: How many to use; all processors if left out.

    Raises:
        UnknownNameError: If a model is not in the pool.
        CascadeError: If a model stands twice.
        Infeasible: If nothing that does as well keeps to ``worst_case``.

    References:
        Wang et al. (2022), section 4.2.
    """
    options = Options(
        confidence=confidence,
        combine=combine,
        grid=grid,
        worst_case=worst_case,
        unit=unit,
        utility=utility,
        threads=threads,
    )
    ensemble = asked_for(pool, options)
    stages = checked_stages(pool, models)
    names = [name for stage in stages for name in stage]
    if len(stages) < len(models):
        raise CascadeError(f"as_cascade: {list(models)} must name every model once")
    orders = [
        order
        for size in range(1, len(stages) + 1)
        for order in itertools.permutations(stages, size)
    ]

    def found(own: Pool, _: Pool | None) -> Front:
        # Of one division to the next only what later stages see differs.
        seen = list(dict.fromkeys(own.seeing_parts(order) for order in orders))
        return front_of_found(searched(asked_for(own, options), seen), len(stages), families=False)

    front = over_divisions(pool, None, found)
    together = ensemble.rule.cascade([names], [])
    goal = evaluate(together, pool, ensemble.unit, utility).accuracy - tolerance
    told = {"match": str(together), "models": together.names, "within": tolerance}
    return with_target(front.at_least(goal), **told)


def in_order(
    stages: Sequence[str | Sequence[str]],
    pool: Pool,
    *,
    confidence: str = "max_prob",
    combine: str | None = None,
    grid: int = 100,
    unit: str | None = None,
    utility: Utility | None = None,
    test: Pool | None = None,
    threads: int | None = None,
) -> Front:
    """Find the best thresholds of one cascade, whose models and order are given.

    Args:
        stages: In the order in which they run, each a name or a list of names.
        pool: Predictions on the split that chooses, and costs.
        confidence: Name of the confidence function.
        combine: Name of the combination; by default the mean of what the models give.
        grid: Percentiles tried for each threshold.
        unit: Unit of the cost; see :meth:`committee.spec.cost.CostTable.unit` for the default.
        utility: What a sample scores when it exits; that of the pool's task if left out.
        test: The pool on a split that judges.
        threads: How many to use; all processors if left out.

    Returns:
        The front over all vectors of thresholds; at its ends are the first stage alone and the
        ensemble, unless others beat them.

    Raises:
        UnknownNameError: If a model is not in the pool.
        CascadeError: If a model stands twice.

    References:
        Wang et al. (2022), appendices D.3 and E.2.
    """
    pool = pool.holding(as_stages(stages))
    options = Options(
        confidence=confidence,
        combine=combine,
        grid=grid,
        unit=unit,
        utility=utility,
        test=None if test is None else test.divided_as(pool),
        threads=threads,
    )
    asked = asked_for(pool, options)
    sequence = tuple(checked_stages(pool, stages))
    names = [name for stage in sequence for name in stage]
    if len(sequence) < len(stages) or len(set(names)) < len(names):
        raise CascadeError(f"in_order: {list(stages)} must name every model once")
    # A stage that always exits ends the cascade: that is what shorter ones stand for.
    begun = [sequence[:end] for end in range(1, len(sequence) + 1)]
    return front_of_found(searched(asked, begun), len(sequence), families=False)


def threshold_sweep(
    stages: Sequence[str | Sequence[str]],
    pool: Pool,
    *,
    confidence: str = "max_prob",
    combine: str | None = None,
    grid: int = 100,
    unit: str | None = None,
    utility: Utility | None = None,
) -> tuple[Committee, ...]:
    """Every threshold of a cascade of two stages, from the first stage alone to the ensemble.

    Args:
        stages: Two stages, each a name or a list of names.
        pool: Predictions and costs.
        confidence: Name of the confidence function.
        combine: Name of the combination; by default the mean of what the models give.
        grid: Percentiles tried.
        unit: Unit of the cost; see :meth:`committee.spec.cost.CostTable.unit` for the default.
        utility: What a sample scores when it exits; that of the pool's task if left out.

    Returns:
        Committees by rising threshold, which is rising cost; the dominated ones too.

    Raises:
        CascadeError: If there are not two stages, or they share a model.

    References:
        Wang et al. (2022), figure 4.
    """
    pool = pool.holding(as_stages(stages))
    pair = checked_stages(pool, stages)
    if len(pair) != 2:
        raise CascadeError(f"threshold_sweep: takes two stages, not {len(pair)}")
    utility = utility or pool.task.utility
    check_judgeable(pool, utility)
    combine = combine or DEFAULT_COMBINE[pool.kind]
    rule = Rule(pool, pool.confidence_or(confidence), combine, utility)
    key = rule.key(pair[0])
    table = prefix_table(rule, [key], grid)
    thresholds = table.thresholds(key, np.arange(table.widths[0] - 1))
    cascades = [rule.cascade(pair, [t]).joined() for t in (ALWAYS, *thresholds.tolist(), NEVER)]
    evaluations = evaluate_all(cascades, pool, unit, utility)
    return tuple(map(Committee, cascades, evaluations))
