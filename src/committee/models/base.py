"""The contract that every source of models keeps."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

from committee.errors import ModelError
from committee.models.spec import ModelSpec
from committee.predictions import Array, Outputs, checked_outputs


class Model(Protocol):
    """A loaded model. It must be pure: the same input, the same outputs, whatever ran before."""

    @property
    def fingerprint(self) -> str:
        """Changes when weights or code change."""

    @property
    def macs(self) -> int | None:
        """Multiply-adds for one sample of the spec's size, or None if they are not known."""

    def __call__(self, batch: Array) -> Any:
        """Map inputs (N, channels, height, width), float32, to outputs (N, C).

        A model of kind ``decisions`` returns a pair: classes (N,) and confidence (N,).
        """


def outputs_of(model: Model, spec: ModelSpec, batch: Array, first: int = 0) -> Outputs:
    """Run a model on a batch and check what it answers.

    Args:
        model: What to run.
        spec: What it is.
        batch: Inputs (N, channels, height, width), float32.
        first: Number of the batch's first sample, for the error.

    Raises:
        ModelError: If it fails, or does not answer with one row a sample.
        NotFiniteError, ShapeError: If its outputs cannot be used; the model is named.
    """
    where = f"model {spec.name!r}"
    try:
        answer = model(batch)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{where}: failed on input {batch.shape} ({type(error).__name__}: {reason}). "
            "Do resolution and channels in the pool file fit the model?"
        ) from error
    pair = answer if spec.kind == "decisions" else (answer, None)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ModelError(f"{where}: decisions are a pair of classes (N,) and confidence (N,)")
    values, confidence = pair
    outputs = checked_outputs(where, spec.kind, values, confidence, first)
    if len(outputs) != len(batch):
        raise ModelError(f"{where}: answered {len(outputs)} rows to {len(batch)} samples")
    return outputs


def file_fingerprint(path: Path) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
