"""Cascades of the embedded pool, its test pictures, and decisions on them, for tests of exports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from committee import Cascade
from committee.embedded import pictures, pool_file
from committee.flow import Decisions
from committee.predictions import Array


def some_pictures(count: int = 5000) -> Array:
    """Pictures (count, 28, 28) of the embedded test split."""
    images: Array = pictures("test").read(np.arange(count))
    return images


def embedded(cascade: Cascade) -> Cascade:
    """A cascade over models of the embedded pool, which knows how they are loaded."""
    pool = pool_file()
    specs = {spec.name: spec.to_json() for spec in pool.models}
    return replace(
        cascade, models={name: specs[name] for name in cascade.names}, classes=pool.classes
    )


CASCADES = {
    "mean_logits": Cascade.of(["nano", "tiny", "large"], [0.9, 0.9]),
    "mean_probabilities": Cascade.of(
        ["nano", "tiny", "small"], [0.9, 0.85], "max_prob", "mean_probabilities"
    ),
    "last": Cascade.of(["nano", "micro", "medium"], [0.9, 0.9], "max_prob", "last"),
    "logit_gap": Cascade.of(["nano", "small"], [2.5], "logit_gap"),
    "logit_gap of probabilities": Cascade.of(
        ["nano", "small"], [2.5], "logit_gap", "mean_probabilities"
    ),
    "prob_gap": Cascade.of(["nano", "small"], [0.8], "prob_gap"),
    "neg_entropy": Cascade.of(["nano", "small"], [-0.3], "neg_entropy"),
    "several in a stage": Cascade.of([["tiny", "micro"], ["nano", "medium"]], [0.9]),
    "never in the middle": Cascade.of(["nano", "micro", "tiny"], [np.inf, 0.9]),
    "always in the middle": Cascade.of(["nano", "micro", "tiny"], [0.9, -np.inf]),
    "ensemble": Cascade.ensemble(["nano", "micro"]),
}


def flips(one: Decisions, other: Decisions) -> int:
    """Samples whose class or stage of exit differs."""
    alike = (one.predicted == other.predicted) & (one.stage == other.stage)
    return int((~alike).sum())


def decisions_of(rows: Iterable[Mapping[str, Any]]) -> Decisions:
    """Decisions from rows as the programs of a bundle print them."""
    told = list(rows)
    return Decisions(
        np.array([row["class_index"] for row in told]),
        np.array([row["confidence"] for row in told]),
        np.array([row["stage"] for row in told]),
    )
