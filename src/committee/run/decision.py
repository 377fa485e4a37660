"""What a runner answers for one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from committee.rule.cascade import Cascade
from committee.spec.cost import CostTable
from committee.spec.model import KnownModel


class Decision(msgspec.Struct, frozen=True):
    """The decision of a cascade for one sample; a thirtieth of the time that a data class takes.

    Args:
        class_index: Predicted class.
        class_name: Its name, or its index where classes are unnamed.
        confidence: Score of the combination at the exit.
        stage: Stage of exit, from 0.
        cost: Cost of the stages that ran, in the runner's unit; None if costs are unknown.
    """

    class_index: int
    class_name: str
    confidence: float
    stage: int
    cost: float | None


def unit_of(cascade: Cascade, models: Mapping[str, KnownModel]) -> str:
    """Return the unit of the costs of decisions: that of the choice, else one all models have."""
    units = CostTable.of({name: model.costs for name, model in models.items()}).units
    wanted = cascade.origin.unit or "macs"
    return wanted if wanted in units else next(iter(units), "")


def class_name(classes: Sequence[str], index: int) -> str:
    """Return the name of a class, or its index where classes are unnamed."""
    return classes[index] if classes else str(index)
