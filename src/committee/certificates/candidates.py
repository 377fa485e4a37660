"""The sequences of stages among which a certificate chooses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from committee.certificates.promised import Promised
from committee.pool.pool import Pool
from committee.pool.prefixes import StageSequence
from committee.rule.combinations import DEFAULT_COMBINE
from committee.selection.exhaustive import search
from committee.selection.sequences import every_sequence

# More sequences than this are not all tried, but those that end in the reference, and the front's.
_MOST_SEQUENCES = 3000


def sequences_of(
    pool: Pool, promised: Promised, combine: str, most: int, costs: dict[str, float]
) -> Iterator[StageSequence]:
    """Yield the sequences to try: all, or where those are too many, the most promising."""

    def rises(sequence: StageSequence) -> bool:
        own = [sum(costs[name] for name in stage) for stage in sequence]
        return combine != "last" or all(a <= b for a, b in itertools.pairwise(own))

    every = filter(rises, every_sequence(pool, most, {}, None))
    first = list(itertools.islice(every, _MOST_SEQUENCES + 1))
    if len(first) <= _MOST_SEQUENCES:
        yield from first
        return
    found = dict.fromkeys(_ending_in_reference(promised, most, costs))
    if combine == DEFAULT_COMBINE[pool.combined_kind] or promised.reference is None:
        front = search(pool, most, combine=combine, unit=promised.unit, metric=promised.metric)
        found |= dict.fromkeys(each.cascade.models_of_stages for each in front)
    yield from found


def _ending_in_reference(
    promised: Promised, most: int, costs: dict[str, float]
) -> Iterator[StageSequence]:
    """Yield sequences of cheaper models, by rising cost, that end in a reference of one stage."""
    reference = promised.reference
    if reference is None or len(reference.stages) > 1:
        return
    last = reference.names
    limit = sum(costs[name] for name in last)
    cheaper = sorted(
        (n for n in costs if n not in last and costs[n] < limit), key=costs.__getitem__
    )
    for size in range(1, most):
        for names in itertools.combinations(cheaper, size):
            yield (*((name,) for name in names), last)
