"""Rules of committees: in words, and what each of several rules that were searched chooses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from committee.errors import Infeasible
from committee.pool.pool import Pool
from committee.pool.table import Column, Table
from committee.report.text import named, versus
from committee.rule.cascade import Cascade
from committee.rule.outputs import WITH_CONFIDENCE
from committee.selection.front import Committee, Front, SearchedRule
from committee.selection.paired import Comparison, compare
from committee.selection.targets import Target
from committee.text import human_cost, percent, points_text


def _rule_name(rule: SearchedRule, kind: str = "logits") -> str:
    """Return a rule in words.

    >>> _rule_name(SearchedRule("vote", "max_prob"), "decisions")
    'vote by their own confidence'
    >>> _rule_name(SearchedRule("last", "agreement", calibrated=False))
    'last by agreement, uncalibrated'
    """
    own = kind in WITH_CONFIDENCE and rule.confidence == "max_prob"
    plain = "" if rule.calibrated else ", uncalibrated"
    return f"{rule.combine} by {'their own confidence' if own else rule.confidence}{plain}"


@dataclass(frozen=True)
class _RuleChoice:
    """What one rule of several chooses."""

    name: str
    committee: Committee | None
    members: int

    def to_json(self) -> dict[str, Any]:
        """Return the choice with its figures on both splits."""
        own = self.committee
        return {
            "rule": self.name,
            "members": self.members,
            "chosen": own and str(own.cascade),
            "evaluation": own and own.evaluation.to_json(),
            "test": own and own.test and own.test.to_json(),
        }


@dataclass(frozen=True)
class RuleChoices:
    """What each rule of a search over several chooses, the default rule first.

    Args:
        choices: One for each rule.
        won: The rule of the choice from the joint front.
        target: By what it was chosen, in words.
        versus: That choice compared with the default rule's; None if that has none.
    """

    choices: Sequence[_RuleChoice]
    won: str
    target: str
    versus: Comparison | None

    @property
    def line(self) -> str:
        """Which rule the choice has, by what it was chosen, and how it compares."""
        default = self.choices[0].name
        chosen = f"Of {len(self.choices)} rules {self.won} has {self.target}"
        if self.won == default:
            return f"{chosen}; it is the default."
        if self.versus is None:
            return f"{chosen}; the default, {default}, has none."
        on = f"on {self.versus.split}{', which chose it' if self.versus.chose else ''}"
        return f"{chosen}: {versus(self.versus)} ({on})."

    def table(self) -> Table:
        """Return a table of the rules."""

        def cost(own: _RuleChoice) -> str | None:
            each = own.committee and own.committee.reported
            return human_cost(each.average_cost, each.unit) if each else None

        def accuracy(own: _RuleChoice) -> str | None:
            return percent(own.committee.reported.accuracy) if own.committee else None

        split = next((c.committee.reported.split for c in self.choices if c.committee), "")
        columns = (
            Column("rule", lambda own: own.name),
            Column("chooses", lambda own: own.committee and named(own.committee.cascade)),
            Column(f"{split} accuracy", accuracy),
            Column("average cost", cost),
            Column("on the front", lambda own: own.members, "count"),
        )
        return Table("What each rule chooses", columns, self.choices)

    def to_json(self) -> dict[str, Any]:
        """Return every choice, which rule won, and by how much."""
        return {
            "won": self.won,
            "versus_default": self.versus and self.versus.to_json(),
            "choices": [each.to_json() for each in self.choices],
        }


def choices_by_rule(front: Front, target: Target, test: Pool | None = None) -> RuleChoices | None:
    """Return what each rule of a front chooses; None unless it was searched over several."""
    if not front.by_rule:
        return None
    own = front.settings
    names = {
        rule: _rule_name(rule, part.pool.combined_kind)
        for part, rule in zip(front.by_rule, own.rules, strict=True)
    }
    if target == Target():
        target = Target(match=front.most_accurate_single)

    def rule_of(cascade: Cascade) -> SearchedRule:
        calibrated = bool(cascade.calibrations) or not front.pool.calibrations
        return SearchedRule(str(cascade.combine), cascade.confidence, calibrated)

    on_front = Counter(rule_of(each.cascade) for each in front)
    choices = []
    for part, rule in zip(front.by_rule, names, strict=True):
        committee = None
        with suppress(Infeasible):
            committee = target.of(part)
        choices.append(_RuleChoice(names[rule], committee, on_front[rule]))
    best = target.of(front)
    assert best is not None
    usual = choices[0]
    comparison = None
    if usual.committee is not None:
        comparison = compare(
            best.cascade, usual.committee.cascade, test or front.pool, own.unit, own.metric,
            name=f"{named(usual.committee.cascade)} of {usual.name}", chose=test is None,
        )  # fmt: skip
    won = names[rule_of(best.cascade)]
    return RuleChoices(choices, won, _target_text(target, front), comparison)


def _target_text(target: Target, front: Front) -> str:
    """Return by what a target chooses from a front, and on which split."""
    split = front.pool.samples.split
    if target.match is None and target.min_accuracy is None:
        return f"the most accurate committee for that cost on {split}"
    least = "" if target.min_accuracy is None else f"has {percent(target.min_accuracy)} or more"
    margin = f"is within {points_text(100 * target.within)} of" if target.within else "matches"
    match = "" if target.match is None else f"{margin} {target.match}"
    return f"the cheapest committee that {' and '.join(filter(None, (match, least)))} on {split}"
