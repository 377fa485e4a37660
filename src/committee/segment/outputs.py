"""Running a model on images or windows: logits for each pixel, checked."""

from __future__ import annotations

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError, NotFiniteError
from committee.models.base import Model, answer_of
from committee.segment.bilinear import bilinear
from committee.spec.model import ModelSpec


def pixel_logits(model: Model, spec: ModelSpec, batch: Array, classes: int = 0) -> Array:
    """Logits of each pixel of a batch, shape (n, C, height, width), float32.

    What a model gives at a lower resolution, as most do, is brought up bilinearly, here and nowhere
    else.

    Args:
        model: What to run.
        spec: What it is.
        batch: Inputs (n, channels, height, width), float32.
        classes: How many it must tell apart; any number if 0.

    Raises:
        ModelError: If it fails, or answers with another shape.
        NotFiniteError: If it answers with NaN or infinity.
    """
    values = np.asarray(answer_of(model, spec, batch))
    where = f"model {spec.name!r}"
    if values.ndim != 4 or len(values) != len(batch) or values.dtype.kind != "f":
        raise ModelError(
            f"{where}: answered {values.dtype} {values.shape} to {batch.shape}; segmentation needs "
            f"logits ({len(batch)}, classes, height, width)"
        )
    if classes and values.shape[1] != classes:
        raise ModelError(f"{where}: tells {values.shape[1]} classes apart, not {classes}")
    if not np.isfinite(values).all():
        raise NotFiniteError(f"{where}: NaN or infinite logits. Recompute or mend this model")
    return bilinear(values.astype(np.float32, copy=False), (batch.shape[2], batch.shape[3]))
