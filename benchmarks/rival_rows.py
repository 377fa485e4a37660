"""The results of rivals.py: a row for each world, split and method, in a file."""

from __future__ import annotations

from dataclasses import dataclass

OURS, TWO, CERTIFIED = "committee", "committee, two models", "committee, certified"
# World and unit of cost.
WORLDS = [
    ("imagenet", "gpu_ms"), ("imagenet", "macs"), ("cifar10", "macs"), ("embedded", "macs"),
    ("compound_scaling", "macs"),
]  # fmt: skip
# Costs between the cheapest and the dearest model, evenly on a logarithmic axis.
BUDGETS = 65


@dataclass(frozen=True)
class Row:
    """What one method gave on one split; gains are over ours, in shares of 1.

    Args:
        world: Name of a function of worlds.py.
        unit: Unit of the cost.
        split: Seed of the two halves.
        method: Name of the method.
        samples: Those that evaluate.
        reference: The most accurate single model of the half that chooses.
        area: Mean accuracy over the budgets.
        area_gain: Over ours, and half the width of its paired 95 % interval.
        at_25: Accuracy for at most a quarter of the reference's cost; at_50 for half, at_dearest
            for the cost of the dearest model.
        match_speedup: The reference's cost over that of the cheapest choice as accurate.
        match_gain: That choice's accuracy minus the reference's, with its interval.
        within_speedup: The same for the cheapest choice at most 0.5 points less accurate.
        seconds: To choose, all budgets together.
        members: Of the method's front.
        curve: Accuracy at each budget.
    """

    world: str
    unit: str
    split: int
    method: str
    samples: int
    reference: str
    area: float
    area_gain: float
    area_half: float
    at_25: float
    at_25_gain: float
    at_25_half: float
    at_50: float
    at_50_gain: float
    at_50_half: float
    at_dearest: float
    at_dearest_gain: float
    at_dearest_half: float
    match_speedup: float
    match_gain: float
    match_low: float
    match_high: float
    within_speedup: float
    within_gain: float
    within_low: float
    within_high: float
    seconds: float
    members: int
    curve: str
