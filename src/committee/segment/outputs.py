"""Run a model on images or windows, and check its logits for each pixel."""

from __future__ import annotations

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError, NotFiniteError
from committee.models.base import Model, answer_of
from committee.segment.bilinear import bilinear
from committee.spec.model import ModelSpec


def pixel_logits(model: Model, spec: ModelSpec, batch: Array, classes: int = 0) -> Array:
    """Return the logits of each pixel of a batch, shape (n, C, height, width), float32.

    Logits of a lower resolution, which most models give, are resized bilinearly.

    Args:
        model: The model.
        spec: Its spec.
        batch: Inputs (n, channels, height, width), float32.
        classes: Number of classes it must have; any number if 0.

    Raises:
        ModelError: If it fails, or its outputs have another shape.
        NotFiniteError: If its outputs hold NaN or infinity.
    """
    values = np.asarray(answer_of(model, spec, batch))
    where = f"model {spec.name!r}"
    if values.ndim != 4 or len(values) != len(batch) or values.dtype.kind != "f":
        raise ModelError(
            f"{where}: gave {values.dtype} {values.shape} for {batch.shape}; segmentation needs "
            f"logits ({len(batch)}, classes, height, width)"
        )
    if classes and values.shape[1] != classes:
        raise ModelError(f"{where}: has {values.shape[1]} classes, not {classes}")
    if not np.isfinite(values).all():
        raise NotFiniteError(f"{where}: NaN or infinite logits. Fix the model")
    return bilinear(values.astype(np.float32, copy=False), (batch.shape[2], batch.shape[3]))
