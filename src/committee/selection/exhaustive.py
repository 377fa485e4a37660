"""Exhaustive search: try every ordered sequence of models with every vector of thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Unpack

from committee.errors import CascadeError, TooLargeError
from committee.pool.metrics import Metric
from committee.pool.pool import Pool
from committee.pool.prefixes import StageSequence
from committee.rule.cascade import Cascade
from committee.rule.combinations import DEFAULT_COMBINE, JOINT
from committee.selection.engine import search_sequences
from committee.selection.evaluate_many import evaluate_all
from committee.selection.front import Committee, Front, join_fronts
from committee.selection.options import SearchKeywords, SearchOptions, most_models, plan_search
from committee.selection.refine import front_of_candidates
from committee.selection.rules import is_auto, search_each_rule
from committee.selection.sequences import checked_stages, earlier_training, every_sequence

# Longer lists of sequences are refused before they are built.
_MOST_SEQUENCES = 3_000_000


def search(
    pool: Pool,
    max_models: int | None = None,
    *,
    families: bool = True,
    stages: Sequence[str | Sequence[str]] | None = None,
    self_cascades: bool = False,
    **options: Unpack[SearchKeywords],
) -> Front:
    """Return all committees of a pool that no other beats in both accuracy and average-case cost.

    The search tries every ordered sequence of up to ``max_models`` distinct models with every
    vector of thresholds from ``grid`` percentiles, "always" and "never". A stage that never exits
    merges with the next, so single models, ensembles and stages of several models are included.
    The result is exact. It depends on neither threads nor the order of the pool, except for the
    order of the models of a family. A model on all groups of its views is always tried. If the
    pool has several tilings, each is searched.

    Args:
        pool: Predictions on the validation split, and costs; labels if the metric needs them.
        max_models: Most models of a committee; 3, or all of a smaller pool, by default.
        families: Treat models of one family (see :class:`Pool`) as interchangeable: the first,
            second, … use of a family takes its first, second, … model.
        stages: The stages to build from, each a name or a list of names. ``max_models`` then
            counts stages.
        self_cascades: Search only single models and self-cascades, sequences whose models share
            one set of weights (see :class:`Pool`), at rising resolution.
        options: The fields of :class:`~committee.selection.options.SearchOptions`. A bound may be
            exceeded by one part in 10^12, for rounding.

    Raises:
        CascadeError: If ``max_models`` is less than 1 or more than there is to build from, or
            the pool has no self-cascades.
        Infeasible: If no committee keeps to the bounds.
        MisalignedError: If there are no labels or samples, or ``test`` cannot evaluate.
        CostError: If a model has no cost in one of the units.
        ShapeError: If ``grid`` is out of range.
        TooLargeError: If there are too many sequences, or statistics exceed ``max_memory``.

    References:
        Wang et al. (2022), section 5, appendix D.3 and E.1.
    """
    usual = SearchOptions(**options)

    def again(own: Pool, **changed: Unpack[SearchKeywords]) -> Front:
        every: dict[str, Any] = {**options, **changed, "families": families, "stages": stages}
        return search(own, max_models, self_cascades=self_cascades, **every)

    if is_auto(usual.combine, usual.confidence):
        return search_each_rule(pool, usual.combine, usual.confidence, usual.progress, again)
    if pool.divided:
        return search_each_tiling(pool, options.get("test"), again)
    plan = plan_search(pool, usual)
    blocks = None if stages is None else checked_stages(pool, stages)
    available = len(blocks) if blocks else pool.most_models
    most = most_models(max_models, available, "stages given" if blocks else "pool")
    if self_cascades:
        if blocks is not None:
            raise CascadeError("search: self_cascades are built from models; leave stages out")
        candidates = search_sequences(plan, _every_self_cascade(pool, most))
        return front_of_candidates(candidates, most, families=False, self_cascades=True)
    known = pool.families if families and blocks is None else {}
    sequences = _listed(pool, most, every_sequence(pool, most, known, blocks))
    if blocks is None:
        # A model on all its views counts as one model, however many groups the views form.
        singles = pool.singles(plan.source.combine).values()
        sequences += [(names,) for names in singles if len(names) > most]
    return front_of_candidates(search_sequences(plan, sequences), most, families=bool(known))


def _every_self_cascade(pool: Pool, most: int) -> list[StageSequence]:
    """Return every model alone, and every sequence of one set of weights at rising resolutions.

    References:
        Wang et al. (2022), section 6.
    """
    if not pool.layout.same_weights:
        raise CascadeError(
            "search: no two models of the pool share their weights, as a self-cascade needs. "
            "Write resolutions = [224, 288] in a [[model]] of the pool file and predict again; in "
            "Python, name the sets: Pool.from_arrays(..., same_weights=[[...]])"
        )
    alone: list[StageSequence] = [((name,),) for name in pool.names]
    rising = (
        names
        for every in pool.layout.same_weights
        for size in range(2, most + 1)
        for names in itertools.combinations(every, size)
    )
    return [*alone, *(tuple((name,) for name in names) for names in rising)]


def _listed(pool: Pool, most: int, sequences: Iterator[StageSequence]) -> list[StageSequence]:
    listed = list(itertools.islice(sequences, _MOST_SEQUENCES + 1))
    if len(listed) > _MOST_SEQUENCES:
        raise TooLargeError(
            f"search: {len(pool.names)} models make more than {_MOST_SEQUENCES:,} sequences of up "
            f"to {most}. Lower max_models, search part of the pool, or use committee.guided"
        )
    return listed


def search_each_tiling(pool: Pool, test: Pool | None, search_one: Callable[..., Front]) -> Front:
    """Return the joint front of ``search_one(pool, test=...)`` over all tilings of a pool."""
    fronts = [
        search_one(own, test=None if test is None else test.divided_as(own))
        for own in pool.divisions
    ]
    return join_fronts(pool, fronts)


def ensembles(
    pool: Pool,
    max_models: int,
    combine: str | None = None,
    unit: str | None = None,
    metric: Metric | None = None,
    families: bool = True,
) -> tuple[Committee, ...]:
    """Return every ensemble of 2 to ``max_models`` models of a pool, evaluated, by rising cost.

    Models are those of :meth:`committee.Pool.singles`, each with all of its views; the dearest
    breaks the ties of a vote. The other arguments are those of :func:`search`.

    References:
        Wang et al. (2022), section 3.
    """
    combine = combine or DEFAULT_COMBINE[pool.combined_kind]
    if combine not in JOINT:
        return ()
    earlier = earlier_training(pool, pool.families if families else {})
    costs = pool.costs.values(pool.costs.unit(unit)) if combine == "vote" else {}
    singles = sorted(pool.singles(combine).values())
    ensembles = [
        sorted((name for models in some for name in models), key=lambda name: costs.get(name, 0))
        for size in range(2, max_models + 1)
        for some in itertools.combinations(singles, size)
    ]
    cascades = [
        pool.described(Cascade.ensemble(names, combine=combine, calibrations=pool.calibrations))
        for names in ensembles
        if all(earlier.get(name, name) in names for name in names)
    ]
    evaluations = evaluate_all(cascades, pool, unit, metric)
    committees = map(Committee, cascades, evaluations)
    return tuple(sorted(committees, key=lambda c: (c.evaluation.average_cost, c.cascade.names)))
