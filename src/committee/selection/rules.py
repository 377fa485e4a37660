"""Searches over rules: every combination, confidence and calibration of a pool, in one front."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

from committee.errors import CascadeError
from committee.pool.pool import Pool
from committee.rule.combinations import COMBINES_OF, DEFAULT_COMBINE
from committee.rule.outputs import WITH_CONFIDENCE
from committee.rule.scores import AGREEMENTS, CONFIDENCES
from committee.selection.front import Front, SearchedRule, join_fronts

AUTO = "auto"
# Called with the name of a part of the search, how much of it is done and how much in all.
Progress = Callable[[str, int, int], None]


def is_auto(combine: str | None, confidence: str) -> bool:
    """Return True if a search is over several rules."""
    return AUTO in (combine, confidence)


def _rules_of(pool: Pool, combine: str | None, confidence: str) -> tuple[SearchedRule, ...]:
    """Return the rules to search, the default first.

    Args:
        pool: The pool. If it has calibrations, rules without them follow.
        combine: Name of the combination, or ``auto`` for all that the kind of outputs allows.
        confidence: Name of the confidence, or ``auto`` for all.
    """
    if not pool.keeps_outputs:
        raise CascadeError(f"search: {pool.task.units} have the scores of one rule; leave auto out")
    pools = (pool, pool.with_calibrations({})) if pool.calibrations else (pool,)
    return tuple(
        SearchedRule(each, score, own is pool)
        for own in pools
        for each, score in _rules_of_kind(own, combine, confidence)
    )


def _rules_of_kind(pool: Pool, combine: str | None, confidence: str) -> list[tuple[str, str]]:
    kind = pool.combined_kind
    usual = DEFAULT_COMBINE[kind]
    combines = [combine or usual]
    if combine == AUTO:
        combines = [usual, *(each for each in COMBINES_OF[kind] if each != usual)]
    confidences = [confidence]
    if confidence == AUTO:
        own = ("max_prob",) if kind in WITH_CONFIDENCE else tuple(CONFIDENCES)
        confidences = [*own, *(AGREEMENTS if kind != "outcomes" else ())]
    return [(each, score) for each in combines for score in confidences]


def search_each_rule(
    pool: Pool,
    combine: str | None,
    confidence: str,
    progress: Progress | None,
    search_one: Callable[..., Front],
) -> Front:
    """Return the joint front of all rules; see :func:`_rules_of`.

    ``search_one`` takes a pool and by keyword ``combine``, ``confidence`` and ``progress``.
    """
    rules = _rules_of(pool, combine, confidence)
    numbers = itertools.count(1)

    def search_next(own: Pool, combine: str, confidence: str) -> Front:
        part = f"rule {next(numbers)} of {len(rules)}"
        named = _named(progress, part)
        return search_one(own, combine=combine, confidence=confidence, progress=named)

    return search_rules(pool, rules, search_next)


def _named(progress: Progress | None, name: str) -> Progress | None:
    if progress is None:
        return None
    return lambda part, done, total: progress(f"{name}: {part}", done, total)


def search_rules(
    pool: Pool, rules: Sequence[SearchedRule], search_one: Callable[[Pool, str, str], Front]
) -> Front:
    """Return the joint front of the fronts of some rules; it is exact if they are."""
    # One pool for all rules without calibrations: it remembers what it computes of its outputs.
    plain = pool.with_calibrations({})
    fronts = tuple(
        search_one(pool if rule.calibrated else plain, rule.combine, rule.confidence)
        for rule in rules
    )
    joint = join_fronts(pool, fronts)
    inexact = next((each.inexact for each in fronts if each.inexact), "")
    settings = replace(joint.settings, rules=tuple(rules))
    # Notes are on the pool; those of the default rule say them all.
    return replace(joint, settings=settings, inexact=inexact, notes=fronts[0].notes, by_rule=fronts)


def refuse_auto(where: str, combine: str | None, confidence: str) -> None:
    """Refuse ``auto`` where one rule is needed."""
    if is_auto(combine, confidence):
        raise CascadeError(
            f"{where}: auto is for searches for a front, exact or guided; name one "
            "rule here, or leave both out"
        )
