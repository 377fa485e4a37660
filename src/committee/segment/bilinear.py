"""Resize maps of pixels."""

from __future__ import annotations

import numpy as np

from committee.arrays import Array


def bilinear(values: Array, size: tuple[int, int]) -> Array:
    """Return maps (…, h, w) resized to ``size``; pixel centres lie half a pixel from the edge.

    Same as torch's ``interpolate(mode="bilinear", align_corners=False)``, which the models' own
    evaluations use.
    """
    if values.shape[-2:] == size:
        return values
    above, below, down = _neighbours(values.shape[-2], size[0])
    left, right, across = _neighbours(values.shape[-1], size[1])
    tall = values[..., above, :]
    tall += (values[..., below, :] - tall) * down[:, None]
    wide: Array = tall[..., left]
    wide += (tall[..., right] - wide) * across
    return wide


def _neighbours(length: int, size: int) -> tuple[Array, Array, Array]:
    """Return the two neighbours of each position, and the weight of the second, float32."""
    at = np.clip((np.arange(size) + 0.5) * (length / size) - 0.5, 0, length - 1)
    low = at.astype(np.int64)
    return low, np.minimum(low + 1, length - 1), (at - low).astype(np.float32)
