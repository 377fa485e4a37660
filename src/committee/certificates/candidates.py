"""The rules and sequences of stages among which a certificate chooses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from committee.certificates.procedure import Rule
from committee.certificates.promised import Promised
from committee.pool.pool import Pool
from committee.pool.prefixes import StageSequence, prefixes_of
from committee.rule.combinations import DEFAULT_COMBINE
from committee.selection.exhaustive import search
from committee.selection.sequences import every_sequence

# More sequences than this are not all tried, but those that end in the reference, and the front's.
_MOST_SEQUENCES = 3000
USUAL, RANKED = "max_prob", "ranked_agreement"


def rules_to_try(
    choosing: Pool,
    testing: Pool,
    promised: Promised,
    most: int,
    combine: str | None = None,
    confidence: str | None = None,
) -> list[Rule]:
    """Return the rules to try, with the sequences to try by each."""
    # What is tested must not depend on the samples that test, and so not on what they cost.
    costs = choosing.costs.values(promised.unit)
    usual = combine or DEFAULT_COMBINE[choosing.combined_kind]
    rules = []
    for name in dict.fromkeys([usual, combine or "last"]):
        sequences = list(_sequences_of(choosing, promised, name, most, costs))
        for score, own in _by_confidence(choosing, confidence, sequences).items():
            source = prefixes_of(choosing, score, name, promised.metric)
            rules.append(Rule(source, replace(source, pool=testing), own))
    return rules


def _by_confidence(
    pool: Pool, confidence: str | None, sequences: Sequence[StageSequence]
) -> dict[str, Sequence[StageSequence]]:
    """Return the confidences to try, with the sequences to try by each."""
    usual = {pool.confidence_or(confidence or USUAL): sequences}
    # A mean of several outputs knows already where models agree.
    if confidence is not None or pool.combined_kind != "decisions":
        return usual
    # One model agrees with itself: after it, ranked agreement is the usual confidence.
    several = [each for each in sequences if sum(map(len, each[:-1])) > 1]
    return usual | ({RANKED: several} if several else {})


def _sequences_of(
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
