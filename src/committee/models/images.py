"""One image in the mode, the colours and the size that a model sees; bundles carry this file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from committee.arrays import Array
from committee.errors import DataError, needing

if TYPE_CHECKING:
    from PIL.Image import Image

    from committee.spec.preprocessing import Preprocessing

_MODES = {1: "L", 3: "RGB"}
# What Pillow converts to RGB or grey by no rule, or not at all.
_UNKNOWN_COLOURS = ("LAB", "La")


def fit(image: Image, preprocessing: Preprocessing) -> Array:
    """Return an image of 8 bit, resized and cut, as bytes (height, width, channels)."""
    if preprocessing.exif:
        image = upright(image)
    image = converted(image, preprocessing.channels)
    height, width = preprocessing.size
    if image.size != (width, height):
        image = _resized(image, preprocessing)
    values = np.asarray(image)
    return values[..., None] if values.ndim == 2 else values


def upright(image: Image) -> Image:
    """Return an image turned as its EXIF says."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def converted(image: Image, channels: int) -> Image:
    """Return an image in grey or RGB, without transparency, as in the published recipes."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    mode = _MODES[channels]
    # Pillow would copy an image that has the mode.
    return image if image.mode == mode else image.convert(mode)


def _resized(image: Image, preprocessing: Preprocessing) -> Image:
    height, width = preprocessing.size
    full_width, full_height = covering(image.size, preprocessing)
    # One call resizes and cuts, in half the time of two: the box is the part of the image that
    # the input shows. Whole pixels of the resized image are cut off, as published recipes do.
    # Bytes differ from theirs by one level here and there, and by more at hard edges of some tall
    # images: Pillow takes height and width in turn, in an order that depends on the call.
    left, top = round((full_width - width) / 2), round((full_height - height) / 2)
    across, down = image.width / full_width, image.height / full_height
    return image.resize(
        (width, height),
        pillow().Resampling[preprocessing.interpolation.upper()],
        box=(left * across, top * down, (left + width) * across, (top + height) * down),
    )


def covering(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Return width and height to which an image of a width and height is resized before the cut."""
    width, height = size
    target_height, target_width = (round(side / preprocessing.crop) for side in preprocessing.size)
    if preprocessing.resize == "squash":
        return target_width, target_height
    # The longer side is rounded down, as torchvision and timm do.
    if target_width * height >= target_height * width:
        return target_width, max(target_height, target_width * height // width)
    return max(target_width, target_height * width // height), target_height


def pillow() -> Any:
    """Return the module of Pillow's images."""
    with needing("Reading images", "Pillow", "images"):
        from PIL import Image
    return Image


def of_8_bit(image: Image) -> Image:
    """Return an image of 8 bit; what has no known range or colours is refused."""
    if image.mode in ("I", "F"):
        raise DataError(f"mode {image.mode} has 32 bit of no known range; save it as 8 bit")
    if image.mode in _UNKNOWN_COLOURS:
        raise DataError(f"mode {image.mode} is not converted to grey or RGB; save it as RGB")
    if not image.mode.startswith("I;16"):
        return image
    # Pillow's own conversion cuts off at 255 what goes up to 65535.
    upper: Image = pillow().fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "exif" in image.info:
        upper.info["exif"] = image.info["exif"]
    return upper
