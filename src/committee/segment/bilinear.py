"""Maps of pixels at another size."""

from __future__ import annotations

import numpy as np

from committee.arrays import Array


def bilinear(values: Array, size: tuple[int, int]) -> Array:
    """Return maps (…, h, w) at another size, pixels' centres half a pixel from the edge.

    As torch's ``interpolate(mode="bilinear", align_corners=False)``, which the models' own
    evaluations use.
    """
    if values.shape[-2:] == size:
        return values
    above, below, down = _places(values.shape[-2], size[0])
    left, right, across = _places(values.shape[-1], size[1])
    tall = values[..., above, :]
    tall += (values[..., below, :] - tall) * down[:, None]
    wide: Array = tall[..., left]
    wide += (tall[..., right] - wide) * across
    return wide


def _places(length: int, wanted: int) -> tuple[Array, Array, Array]:
    """Return the two neighbours of each place, and its share of the second, float32."""
    at = np.clip((np.arange(wanted) + 0.5) * (length / wanted) - 0.5, 0, length - 1)
    low = at.astype(np.int64)
    return low, np.minimum(low + 1, length - 1), (at - low).astype(np.float32)
