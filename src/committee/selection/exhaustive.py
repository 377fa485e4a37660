"""Exhaustive search: every ordered sequence of models, every vector of thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from committee.errors import CascadeError, TooLargeError
from committee.pool.metrics import Utility
from committee.pool.pool import Pool
from committee.rule.cascade import Cascade
from committee.rule.combinations import DEFAULT_COMBINE, ORDER_FREE
from committee.selection.engine import searched
from committee.selection.evaluate_many import evaluate_all
from committee.selection.front import Committee, Front, joined_fronts
from committee.selection.options import Bounds, Options, Progress, asked_for, most_models
from committee.selection.refine import front_of_found
from committee.selection.sequences import (
    checked_stages,
    earlier_training,
    every_self_cascade,
    every_sequence,
)

# More than this are not listed, let alone searched.
_MOST_SEQUENCES = 3_000_000


def search(
    pool: Pool,
    max_models: int | None = None,
    *,
    confidence: str = "max_prob",
    combine: str | None = None,
    grid: int = 100,
    worst_case: Bounds = None,
    average_case: Mapping[str, float] | None = None,
    unit: str | None = None,
    utility: Utility | None = None,
    families: bool = True,
    stages: Sequence[str | Sequence[str]] | None = None,
    self_cascades: bool = False,
    test: Pool | None = None,
    threads: int | None = None,
    max_memory: float = 4e9,
    progress: Progress | None = None,
) -> Front:
    """Find all committees of a pool that no other beats in both accuracy and average-case cost.

    Every ordered sequence of up to ``max_models`` distinct models is tried with every vector of
    thresholds out of ``grid`` percentiles, "always" and "never"; single models and ensembles are
    among them, and so are stages of several models, for a stage that never exits is one with the
    next. The result is exact and depends on neither threads nor the order of the pool, but for the
    order of the models of a family. A model on all blocks of its views is tried whatever
    ``max_models`` is. Where samples are divided in parts in several ways, every way
    is searched, and a committee keeps to one.

    Args:
        pool: Predictions on the split that chooses, and costs; labels unless the utility needs
            none.
        max_models: Most models of a committee; 3, or all of a smaller pool, if left out.
        confidence: Name of the confidence function; decisions bring their own.
        combine: ``mean_logits``, ``mean_probabilities`` or ``last``; by default the mean of what
            the models give.
        grid: Percentiles tried for each threshold.
        worst_case: Bound on the sum of the costs of all stages, in ``unit``, or by unit.
        average_case: Bounds on the average-case cost in units besides ``unit``. Bounds have a hair
            of slack, one part in 10^12, so that rounding breaks none.
        unit: Unit of the cost; see :meth:`committee.spec.cost.CostTable.unit` for the default.
        utility: What a sample scores when it exits; that of the pool's task if left out: top-1,
            and mIoU for segmentation.
        families: Whether models of one family (see :class:`Pool`) are interchangeable: then the
            first, second, … use of a family takes its first, second, … model.
        stages: What to build from: names of models, or lists of names for stages of several models.
            ``max_models`` then counts stages.
        self_cascades: Whether to search single models and self-cascades only: sequences in which
            all models are one set of weights (see :class:`Pool`), at rising resolution.
        test: The pool on a split that judges; every committee found is evaluated there too.
        threads: How many to use; all processors if left out.
        max_memory: Bytes that statistics may take.
        progress: Called with (what is done, how much is done, how much there is).

    Raises:
        CascadeError: If ``max_models`` is less than 1 or more than there is to build from, or
            self-cascades are asked for and cannot be.
        Infeasible: If no committee keeps to the bounds.
        MisalignedError: If there are no labels or samples, or ``test`` cannot judge.
        CostError: If a model has no cost in a unit asked for.
        ShapeError: If ``grid`` is out of range.
        TooLargeError: If there are too many sequences, or statistics exceed ``max_memory``.

    References:
        Wang et al. (2022), section 5, appendix D.3 and E.1.
    """
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
    return everything(pool, max_models, options, families, stages, self_cascades)


def everything(
    pool: Pool,
    max_models: int | None,
    options: Options,
    families: bool = True,
    stages: Sequence[str | Sequence[str]] | None = None,
    self_cascades: bool = False,
) -> Front:
    """As :func:`search`, with what all searches take in one."""
    if pool.divided:

        def one(own: Pool, judge: Pool | None) -> Front:
            alone = replace(options, test=judge)
            return everything(own, max_models, alone, families, stages, self_cascades)

        return over_divisions(pool, options.test, one)
    asked = asked_for(pool, options)
    blocks = None if stages is None else checked_stages(pool, stages)
    available = len(blocks) if blocks else pool.most_models
    most = most_models(max_models, available, "stages given" if blocks else "pool")
    if self_cascades:
        if blocks is not None:
            raise CascadeError("search: self_cascades are built from models; leave stages out")
        found = searched(asked, every_self_cascade(pool, most))
        return front_of_found(found, most, False, self_cascades=True)
    known = pool.families if families and blocks is None else {}
    sequences = every_sequence(pool, most, known, blocks)
    listed = list(itertools.islice(sequences, _MOST_SEQUENCES + 1))
    if len(listed) > _MOST_SEQUENCES:
        raise TooLargeError(
            f"search: {len(pool.names)} models make more than {_MOST_SEQUENCES:,} sequences of up "
            f"to {most}. Lower max_models, search part of the pool, or use committee.guided"
        )
    if blocks is None:
        # A model on all its views is one model, in however many blocks these are.
        wholes = pool.singles(asked.rule.combine).values()
        listed += [(names,) for names in wholes if len(names) > most]
    return front_of_found(searched(asked, listed), most, bool(known))


def over_divisions(
    pool: Pool, test: Pool | None, search_one: Callable[[Pool, Pool | None], Front]
) -> Front:
    """The best of what a search finds in each division of a pool's samples.

    Args:
        pool: The pool, divided or not.
        test: The pool on the split that judges.
        search_one: From one division on both splits to its front.
    """
    fronts = [
        search_one(own, None if test is None else test.divided_as(own)) for own in pool.divisions
    ]
    return joined_fronts(pool, fronts)


def ensembles(
    pool: Pool,
    max_models: int,
    combine: str | None = None,
    unit: str | None = None,
    utility: Utility | None = None,
    families: bool = True,
) -> tuple[Committee, ...]:
    """Every ensemble of 2 to ``max_models`` models of a pool, evaluated on it, by rising cost.

    Models are those of :meth:`committee.Pool.singles`: blocks of views go together.

    Models of one family are interchangeable, unless ``families`` is false, as in :func:`search`.

    References:
        Wang et al. (2022), section 3.
    """
    combine = combine or DEFAULT_COMBINE[pool.kind]
    if combine not in ORDER_FREE:
        return ()
    earlier = earlier_training(pool, pool.families if families else {})
    singles = sorted(pool.singles(combine).values())
    together = [
        [name for models in some for name in models]
        for size in range(2, max_models + 1)
        for some in itertools.combinations(singles, size)
    ]
    cascades = [
        pool.described(Cascade.ensemble(names, combine=combine, calibrations=pool.calibrations))
        for names in together
        if all(earlier.get(name, name) in names for name in names)
    ]
    evaluations = evaluate_all(cascades, pool, unit, utility)
    found = [Committee(*pair) for pair in zip(cascades, evaluations, strict=True)]
    return tuple(sorted(found, key=lambda c: (c.evaluation.average_cost, c.cascade.names)))
