"""Origin: what the choice of a cascade rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from committee.errors import CascadeError
from committee.rule.calibration import Calibration
from committee.rule.calibration_format import calibration_from_json


@dataclass(frozen=True)
class RecordedTarget:
    """What a committee was chosen for.

    Args:
        match: What the reference is called; empty if there is none.
        models: Names of the reference's models.
        within: How much less accurate than the reference the committee may be, a share of 1.
        min_accuracy: The least accuracy.
        max_cost: The most that it may cost on average.
        calibrations: Those of models of the reference that are not in the committee, as JSON.
    """

    match: str = ""
    models: tuple[str, ...] = ()
    within: float = 0.0
    min_accuracy: float | None = None
    max_cost: float | None = None
    calibrations: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        self.known_calibrations()

    def known_calibrations(self) -> dict[str, Calibration]:
        """Return the calibrations of the reference's other models, by name."""
        return {name: calibration_from_json(each) for name, each in self.calibrations.items()}


@dataclass(frozen=True)
class Promised:
    """What a committee scored and cost on the split that chose it, as an ``Evaluation`` has it."""

    samples: int
    accuracy: float
    average_cost: float
    worst_case_cost: float
    exit_ratios: tuple[float, ...]
    measure: str

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise CascadeError(f"promised: samples must be 1 or more, not {self.samples}")
        if min(self.exit_ratios, default=0) < 0 or abs(sum(self.exit_ratios) - 1) > 1e-6:
            raise CascadeError(
                f"promised: exit_ratios {list(self.exit_ratios)} must be shares that sum to 1"
            )


@dataclass(frozen=True)
class Origin:
    """What the choice of a cascade rests on.

    Args:
        split: Name of the split that chose it.
        samples_fingerprint: Of the samples of that split.
        samples_sum: Of the set of those samples, from numbers that add up over stores.
        labels_fingerprint: Of their labels.
        unit: Unit of the costs by which it was chosen.
        target: What it was chosen for.
        promised: What it scored and cost on that split.
        notes: What people note; nothing reads it.
    """

    split: str = ""
    samples_fingerprint: str = ""
    samples_sum: str = ""
    labels_fingerprint: str = ""
    unit: str = ""
    target: RecordedTarget = RecordedTarget()
    promised: Promised | None = None
    notes: Mapping[str, Any] = field(default_factory=dict, hash=False)
