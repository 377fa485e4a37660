"""Run a model on images or windows, and check its logits for each pixel."""

from __future__ import annotations

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError, NotFiniteError
from committee.models.base import Model, answer_of
from committee.segment.bilinear import bilinear
from committee.segment.tiling import Grid
from committee.spec.model import ModelSpec


def pixel_logits(model: Model, spec: ModelSpec, batch: Array, classes: int = 0) -> Array:
    """Return the logits of each pixel of a batch, shape (n, C, height, width), float32.

    Logits of a lower resolution, which most models give, are resized bilinearly. ``classes`` is how
    many it must have; any number if 0.
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


def window_logits(
    model: Model,
    spec: ModelSpec,
    grid: Grid,
    inputs: Array,
    owner: Array,
    tiles: Array,
    batch_size: int,
    classes: int = 0,
) -> Array:
    """Return the logits of some tiles, each from its window: (n, C, tile height, tile width).

    ``inputs`` are images (images, channels, height, width), ``owner`` the number of each tile's.
    """
    parts = []
    for start in range(0, len(tiles), batch_size):
        some = slice(start, start + batch_size)
        windows = [
            grid.windows(inputs[image], tile[None])
            for image, tile in zip(owner[some], tiles[some], strict=True)
        ]
        values = pixel_logits(model, spec, np.concatenate(windows), classes)
        parts.append(grid.inner(values, tiles[some]))
    return np.concatenate(parts)
