"""Sequences: which stages may follow which, and which keep to the bounds on the worst case."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from committee.errors import CascadeError, Infeasible
from committee.pool.costs import worst_cost
from committee.pool.pool import Pool
from committee.pool.prefixes import Stage, StageSequence
from committee.selection.sweep import CLEARLY


def every_sequence(
    pool: Pool, most: int, families: Mapping[str, str], stages: Sequence[Stage] | None
) -> Iterator[StageSequence]:
    """Yield every ordered sequence of 1 to ``most`` stages that share no model.

    Args:
        pool: The pool of the models.
        most: Most stages; in a pool whose models see tiles, most models.
        families: Maps models to their architectures. Trainings of one are interchangeable: the
            first, second, … use of a family takes its first, second, … model in the order of the
            pool (Wang et al. 2022, appendix E.1).
        stages: The stages to build from; each model alone by default. In a pool with tiles the
            first stage may run several models, since models of whole samples run only there.
    """
    blocks: list[Stage] = [(name,) for name in pool.names] if stages is None else list(stages)
    if pool.layout.whole_of and stages is None:
        whole = sorted(name for name in pool.names if name not in pool.layout.whole_of)
        for size in range(2, most + 1):
            blocks += itertools.combinations(whole, size)
    weights = {name: pool.layout.whole_of.get(name, name) for name in pool.names}
    earlier = earlier_training(pool, families)

    def may_follow(sequence: StageSequence, block: Stage) -> bool:
        if pool.layout.whole_of and any(
            (name in pool.layout.whole_of) != bool(sequence) for name in block
        ):
            return False
        used = [name for stage in sequence for name in stage]
        if not {weights[name] for name in used}.isdisjoint(weights[name] for name in block):
            return False
        for name in block:
            # No continuation can repair the order of a family.
            if name in earlier and earlier[name] not in used:
                return False
            used.append(name)
        return True

    def grow(sequence: StageSequence) -> Iterator[StageSequence]:
        for block in blocks:
            if may_follow(sequence, block):
                longer = (*sequence, block)
                yield longer
                if (sum(map(len, longer)) if pool.layout.whole_of else len(longer)) < most:
                    yield from grow(longer)

    return grow(())


def earlier_training(pool: Pool, families: Mapping[str, str]) -> dict[str, str]:
    """Map each model but the first of its family to the one that comes before it in the pool."""
    newest, earlier = dict[str, str](), {}
    for name in pool.names:
        if name in families:
            if families[name] in newest:
                earlier[name] = newest[families[name]]
            newest[families[name]] = name
    return earlier


def as_stages(stages: Sequence[str | Sequence[str]]) -> list[Stage]:
    """Return the user's stages, a name or several names each, as tuples of names."""
    if isinstance(stages, str):
        raise CascadeError(f"search: stages must be a list of names, not the text {stages!r}")
    return [(each,) if isinstance(each, str) else tuple(each) for each in stages]


def checked_stages(pool: Pool, stages: Sequence[str | Sequence[str]]) -> list[Stage]:
    """Return the user's stages as tuples of names, without repeated stages."""
    named = as_stages(stages)
    for stage in named:
        for name in stage:
            pool.model(name)
        if not stage or len(set(stage)) < len(stage):
            raise CascadeError(
                f"search: stage {list(stage)} must name different models, one or more"
            )
    if not named:
        raise CascadeError("search: no stage to search over; give at least one")
    return list(dict.fromkeys(named))


def refuse_tiles(where: str, pool: Pool) -> None:
    """Raise CascadeError if models of a pool see tiles, which only exact search supports."""
    if pool.divided or pool.layout.whole_of:
        raise CascadeError(
            f"{where}: models of this pool see {pool.task.units} of {pool.task.samples}, which "
            "only the exact search supports. Use committee.search"
        )


def within_bounds(
    pool: Pool, sequences: Iterable[StageSequence], bounds: Mapping[str, float]
) -> list[StageSequence]:
    """Return the sequences whose worst-case cost is within the bound in each unit."""
    tables = {unit: pool.sample_costs(pool.costs.unit(unit)) for unit in bounds}
    allowed, least = [], dict[str, tuple[float, StageSequence]]()
    for sequence in sequences:
        names = [name for stage in sequence for name in stage]
        totals = {unit: worst_cost(own[name] for name in names) for unit, own in tables.items()}
        # A bound may be exceeded by rounding.
        if all(totals[unit] * CLEARLY <= bound for unit, bound in bounds.items()):
            allowed.append(sequence)
        elif not allowed:
            for unit, total in totals.items():
                least[unit] = min(least.get(unit, (total, sequence)), (total, sequence))
    if not allowed:
        limits = " and ".join(f"at most {bound:g} {unit}" for unit, bound in bounds.items())
        near = "; ".join(
            f"{' -> '.join('+'.join(stage) for stage in sequence)} with {total:g} {unit}"
            for unit, (total, sequence) in least.items()
        )
        raise Infeasible(f"no committee has a worst-case cost of {limits}. Nearest: {near}")
    return allowed
