"""What a lower precision changes: outputs and decisions beside those of float32."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from committee.models.base import Model, outputs_of
from committee.models.clip import ModelInputs
from committee.models.load import load_model
from committee.spec.model import ModelSpec


@dataclass(frozen=True)
class Change:
    """How a model in a lower precision differs from the same in float32.

    Args:
        samples: How many were compared.
        largest: The largest difference of an output.
        mean: The mean difference of the outputs.
        decisions: How many samples get another class.
    """

    samples: int
    largest: float
    mean: float
    decisions: int

    def to_json(self) -> dict[str, Any]:
        """What ``committee profile --json`` prints."""
        return asdict(self)


def changed_by_precision(
    model: Model,
    spec: ModelSpec,
    batches: Iterable[ModelInputs],
    allow_code: Collection[str] = (),
    threads: int = 0,
) -> Change:
    """Run a model in its own precision and in float32 on the same inputs.

    Args:
        model: In its own precision.
        spec: What it is; its outputs are logits or probabilities.
        batches: Inputs, of images or of clips.
        allow_code: Python files and modules that may be run.
        threads: How many the engine may use.

    Raises:
        ModelError: If it cannot be loaded in float32.
    """
    exact, _ = load_model(replace(spec, precision="float32", fingerprint=""), allow_code, threads)
    apart, decisions = [], 0
    for batch in batches:
        ours, theirs = (outputs_of(each, spec, batch).values for each in (model, exact))
        apart.append(np.abs(ours - theirs))
        decisions += int((ours.argmax(1) != theirs.argmax(1)).sum())
    differences = np.concatenate(apart)
    return Change(len(differences), float(differences.max()), float(differences.mean()), decisions)
