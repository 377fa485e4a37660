"""Draw decisions as images: the class of each pixel, and the exit of each tile."""

from __future__ import annotations

import colorsys
from io import BytesIO

import numpy as np

from committee.arrays import Array
from committee.segment.tiling import Grid

# Steps of the golden ratio around the circle of hues: neighbours differ, however many there are.
_STEP = 0.61803398875


def classes_image(classes: Array) -> bytes:
    """Return a png whose values are class indices: with a palette, or 16 bit if one is above 255.

    Args:
        classes: Shape (height, width), 0 to 65535.
    """
    from PIL import Image

    if classes.max() > 255:
        return _png(Image.fromarray(classes.astype(np.uint16)))
    image = Image.fromarray(classes.astype(np.uint8))
    colours = [colorsys.hsv_to_rgb(i * _STEP % 1, 0.65, 0.9) for i in range(256)]
    image.putpalette([round(255 * part) for colour in colours for part in colour])
    return _png(image)


def stages_image(image: Array, grid: Grid, stages: Array) -> bytes:
    """Return a png of an image in which tiles that exited at stage 1 are grey.

    Other tiles are in colour; each later stage that saw a tile adds a frame.

    Args:
        image: Bytes (height, width, 3).
        grid: The tiles.
        stages: Stage of exit of each tile, from 0, shape (tiles,).
    """
    from PIL import Image

    grey = np.repeat(image.mean(axis=2, keepdims=True) * 0.6 + 70, 3, axis=2)
    late = grid.pasted(stages > 0)
    shown = np.where(late[..., None], image, grey).astype(np.uint8)
    frames = np.zeros((len(grid), *grid.side), bool)
    for frame, stage in zip(frames, stages.tolist(), strict=True):
        for ring in range(stage):
            high, wide = (side - 3 * ring for side in grid.side)
            frame[3 * ring : high, 3 * ring : wide] = True
            frame[3 * ring + 1 : high - 1, 3 * ring + 1 : wide - 1] = False
    shown[grid.pasted(frames)] = (255, 196, 0)
    return _png(Image.fromarray(shown))


def _png(image: object) -> bytes:
    data = BytesIO()
    image.save(data, "png")  # type: ignore[attr-defined]
    return data.getvalue()
