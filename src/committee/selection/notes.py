"""Notes: what must be known before a choice is trusted; every printer takes them from here."""

from __future__ import annotations

from collections.abc import Sequence

from committee.pool.pool import Pool
from committee.rule.cascade import Cascade
from committee.selection.chance import few_samples, within_chance
from committee.selection.front import Committee, Front
from committee.selection.paired import Comparison, compare
from committee.selection.targets import Promise
from committee.spec.task import Task


def target_of(cascade: Cascade) -> tuple[str, Cascade, float] | None:
    """What a cascade was chosen to match, from its origin: name, reference and margin; or None."""
    target = cascade.origin.get("target")
    target = target if isinstance(target, dict) else {}
    models = target.get("models")
    if not isinstance(models, list) or not models or not all(isinstance(m, str) for m in models):
        return None
    reference = Cascade.of([models], (), cascade.confidence, cascade.combine, cascade.calibrations)
    within = target.get("within", 0.0)
    known = isinstance(within, int | float) and not isinstance(within, bool)
    name = target.get("match")
    told = name if isinstance(name, str) else str(reference)
    return told, reference, float(within) if known else 0.0


def notes_of(
    front: Front, comparison: Comparison | None = None, promises: Sequence[Promise] = ()
) -> tuple[str, ...]:
    """Everything to note on a front and on the committee chosen from it, one line each.

    Args:
        front: What was searched.
        comparison: The chosen committee beside its reference, where it is evaluated.
        promises: What became of the accuracy and the cost that it was chosen for.
    """
    own = [] if comparison is None else of_comparison(comparison, front.pool.task)
    return tuple(dict.fromkeys([*own, *of_promises(promises), *front.warnings]))


def of_comparison(comparison: Comparison, task: Task) -> list[str]:
    """What to note on a committee beside the reference that it is to match."""
    own = comparison.difference
    if comparison.same:
        return []
    if comparison.promise == "missed":
        return [
            f"`{comparison.committee}` is less accurate than `{comparison.reference}` on "
            f"{comparison.split}: its promise to {comparison.asked} it is missed there"
        ]
    if not own.low <= 0 <= own.high:
        return [_open(comparison)] if comparison.promise == "within chance" else []
    spread = (own.high - own.low) / 2
    names = comparison.committee, comparison.reference
    return [within_chance(*names, own.value, spread, own.samples, task)]


def _open(comparison: Comparison) -> str:
    """Say that a committee is less accurate than its reference, but perhaps within its margin."""
    count = comparison.difference.samples
    return (
        f"`{comparison.committee}` is less accurate than `{comparison.reference}`; "
        f"{count:,} {comparison.samples} are too few to tell whether its promise to "
        f"{comparison.asked} it is kept"
    )


def of_promises(promises: Sequence[Promise]) -> list[str]:
    """What to note on a committee that is less accurate or costs more than it was chosen for."""
    than = {"accuracy": "is less accurate", "cost": "costs more on average"}
    return [
        f"the choice {than[each.what]} on {each.split} than was asked for: that promise is missed"
        for each in promises
        if each.outcome == "missed"
    ]


def front_comparison(
    front: Front,
    committee: Committee | Cascade,
    reference: str,
    test: Pool | None = None,
    within: float | None = None,
) -> Comparison:
    """A committee beside a model of the pool, on the split that evaluates, or else that chose."""
    cascade = committee.cascade if isinstance(committee, Committee) else committee
    own = front.settings
    target = target_of(cascade)
    name, other = reference, front.alone(reference)
    if target is not None:
        name, other, within = target
    return compare(
        cascade,
        other,
        front.pool if test is None else test,
        own.unit,
        own.utility,
        name=name,
        within=within,
        chose=test is None,
    )


__all__ = [
    "few_samples",
    "front_comparison",
    "notes_of",
    "of_comparison",
    "of_promises",
    "target_of",
]
