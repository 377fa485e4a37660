"""Sequences: which stages may follow which, and what each costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from committee.errors import CascadeError, Infeasible
from committee.pool.pool import Pool
from committee.selection.prefixes import Sequence_, Stage
from committee.selection.sweep import CLEARLY


def every_sequence(
    pool: Pool, most: int, families: Mapping[str, str], stages: Sequence[Stage] | None
) -> Iterator[Sequence_]:
    """Every ordered sequence of 1 to ``most`` stages that share no model.

    Args:
        pool: Where the models are.
        most: Most stages.
        families: Family of models that are trainings of one architecture. These are
            interchangeable: the first, second, … use of a family takes its first, second, … model
            in the order of the pool (Wang et al. 2022, appendix E.1). Models not named stand alone.
        stages: The stages to build from; each model alone if left out. Of a pool with models that
            see parts the first stage may run several, for what sees the whole can only run there.
    """
    blocks = [(name,) for name in pool.names] if stages is None else list(stages)
    if pool.whole_of and stages is None:
        blocks += _together([name for name in pool.names if name not in pool.whole_of], most)
    trainings: dict[str, list[str]] = {}
    for name in pool.names:
        trainings.setdefault(families.get(name, ""), []).append(name)

    def in_turn(sequence: Sequence_) -> bool:
        """Whether models of a family come in the order of the pool, none left out."""
        used: dict[str, int] = {}
        for name in (name for stage in sequence for name in stage):
            if name in families:
                number = used.get(families[name], 0)
                if trainings[families[name]][number] != name:
                    return False
                used[families[name]] = number + 1
        return True

    def grow(sequence: Sequence_) -> Iterator[Sequence_]:
        taken = {pool.whole_of.get(name, name) for stage in sequence for name in stage}
        for block in blocks:
            longer = (*sequence, block)
            if pool.whole_of and not _follows(pool, sequence, block):
                continue
            # What is out of turn stays so however it is continued.
            if taken.isdisjoint(pool.whole_of.get(name, name) for name in block) and (
                not families or in_turn(longer)
            ):
                yield longer
                if sum(map(len, longer)) < most if pool.whole_of else len(longer) < most:
                    yield from grow(longer)

    return grow(())


def every_self_cascade(pool: Pool, most: int) -> list[Sequence_]:
    """Every model alone, and every sequence of one set of weights at rising resolutions.

    Args:
        pool: Where the models are, and which are one set of weights.
        most: Most models of a sequence.

    Raises:
        CascadeError: If no two models are one set of weights.

    References:
        Wang et al. (2022), section 6.
    """
    if not pool.same_weights:
        raise CascadeError(
            "search: no two models of the pool are one set of weights, as those of a self-cascade. "
            "Write resolutions = [224, 288] in a [[model]] of the pool file and predict again; in "
            "Python, name the sets: Pool.from_arrays(..., same_weights=[[...]])"
        )
    alone: list[Sequence_] = [((name,),) for name in pool.names]
    rising = (
        names
        for every in pool.same_weights
        for size in range(2, most + 1)
        for names in itertools.combinations(every, size)
    )
    return [*alone, *(tuple((name,) for name in names) for names in rising)]


def earlier_training(pool: Pool, families: Mapping[str, str]) -> dict[str, str]:
    """Of each model but the first of its family, the one that comes before it in the pool."""
    newest, earlier = dict[str, str](), {}
    for name in pool.names:
        if name in families:
            if families[name] in newest:
                earlier[name] = newest[families[name]]
            newest[families[name]] = name
    return earlier


def _together(names: Sequence[str], most: int) -> list[Stage]:
    """Stages of two or more models."""
    return [
        stage
        for size in range(2, most + 1)
        for stage in itertools.combinations(sorted(names), size)
    ]


def _follows(pool: Pool, sequence: Sequence_, block: Stage) -> bool:
    """Whether a stage may come next: the first sees the whole, later ones what is asked for."""
    return all((name in pool.whole_of) == bool(sequence) for name in block)


def as_stages(stages: Sequence[str | Sequence[str]]) -> list[Stage]:
    """Stages given by the user, a name or several names each, as lists of names.

    Raises:
        CascadeError: If they are one text.
    """
    if isinstance(stages, str):
        raise CascadeError(f"search: stages must be a list of names, not the text {stages!r}")
    return [(each,) if isinstance(each, str) else tuple(each) for each in stages]


def checked_stages(pool: Pool, stages: Sequence[str | Sequence[str]]) -> list[Stage]:
    """Stages given by the user, a name or several names each.

    Raises:
        UnknownNameError: If a model is not in the pool.
        CascadeError: If a stage is empty or names a model twice, or there is no stage.
    """
    found = as_stages(stages)
    for stage in found:
        for name in stage:
            pool.model(name)
        if not stage or len(set(stage)) < len(stage):
            raise CascadeError(
                f"search: stage {list(stage)} must name different models, one or more"
            )
    if not found:
        raise CascadeError("search: no stage to search over; give at least one")
    return list(dict.fromkeys(found))


def refuse_parts(what: str, pool: Pool) -> None:
    """Refuse a pool whose models see parts of samples, which only exact search knows.

    Raises:
        CascadeError: If it is one.
    """
    if pool.divided or pool.whole_of:
        raise CascadeError(
            f"{what}: models of this pool see {pool.task.units} of {pool.task.samples}, which only "
            "the exact search knows. Use committee.search"
        )


def within(
    pool: Pool, sequences: Iterator[Sequence_], bounds: Mapping[str, float]
) -> list[Sequence_]:
    """Sequences whose worst-case cost keeps to the bounds, one for each unit.

    Raises:
        CostError: If a model has no cost in a unit.
        Infeasible: If no sequence keeps to all bounds; the cheapest in each unit is named.
    """
    tables = {unit: pool.costs.values(pool.costs.unit(unit)) for unit in bounds}

    def worst(sequence: Sequence_, unit: str) -> float:
        return math.fsum(tables[unit][name] for stage in sequence for name in stage)

    kept, least = [], dict[str, tuple[float, Sequence_]]()
    for sequence in sequences:
        totals = {unit: worst(sequence, unit) for unit in bounds}
        # A hair of slack, so that rounding breaks no bound.
        if all(totals[unit] * CLEARLY <= bound for unit, bound in bounds.items()):
            kept.append(sequence)
        elif not kept:
            for unit, total in totals.items():
                least[unit] = min(least.get(unit, (total, sequence)), (total, sequence))
    if not kept:
        told = " and ".join(f"at most {bound:g} {unit}" for unit, bound in bounds.items())
        near = "; ".join(
            f"{' -> '.join('+'.join(stage) for stage in sequence)} with {total:g} {unit}"
            for unit, (total, sequence) in least.items()
        )
        raise Infeasible(f"no committee has a worst-case cost of {told}. Nearest: {near}")
    return kept
