"""Preprocessing: from an image to the input of a model, by the model's own published recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from committee.arrays import Array
from committee.compiled import native
from committee.errors import DataError, needing
from committee.spec.preprocessing import Preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image


# An image as data sets give it: PIL's, or bytes (H, W) or (H, W, channels).
ImageLike: TypeAlias = "Image | Array"
# Samples as data sets give them: images of one size in one array or of any size in a list, or a
# list of clips.
RawSamples: TypeAlias = Array | Sequence[Any]

_MODES = {1: "L", 3: "RGB"}
# What Pillow converts to RGB or grey by no rule, or not at all.
_UNKNOWN_COLOURS = ("LAB", "La")
_BYTE = np.dtype(np.uint8)
_FORMS = "bytes of shape (H, W) or (H, W, 3)"


def prepared(images: RawSamples, preprocessing: Preprocessing, out: Array | None = None) -> Array:
    """Return the input batch (N, channels, height, width) of N images, float32 in C order.

    Images are one byte array (N, H, W) or (N, H, W, channels), or a sequence of images.

    Raises:
        DataError: If an image has a form that is not handled.
    """
    return normalised(_sized(images, preprocessing), preprocessing, out)


def fitted(images: RawSamples, preprocessing: Preprocessing) -> Array:
    """Return N images as :func:`prepared`, but as bytes (N, height, width, channels) in RGB.

    Raises:
        DataError: If an image has a form that is not handled.
    """
    sized = _sized(images, preprocessing)
    return np.broadcast_to(sized, (*sized.shape[:3], preprocessing.channels))


def normalised(images: Array, preprocessing: Preprocessing, out: Array | None = None) -> Array:
    """Return bytes (N, height, width, channels) as :func:`prepared`; one channel serves for all."""
    # (x / 255 - mean) / std, as one multiplication and one addition of float32.
    constants, reverse = preprocessing.scale_and_shift, preprocessing.order == "bgr"
    if out is None:
        out = np.empty((len(images), preprocessing.channels, *preprocessing.size), np.float32)
    if native is not None:
        native.normalise(images, constants, reverse, out)
        return out
    # Written channel by channel, straight into the layout that models take.
    for channel, (scale, shift) in enumerate(constants.T):
        # The other order reads the image's channels from behind.
        source = 0 if images.shape[3] == 1 else -1 - channel if reverse else channel
        plane = out[:, channel]
        np.multiply(images[..., source], scale, out=plane)
        np.add(plane, shift, out=plane)
    return out


def _sized(images: RawSamples, preprocessing: Preprocessing) -> Array:
    """Return N images, resized and cut, as bytes (N, height, width, c); c is 1 if all are alike."""
    # Bytes that have the input's size and colours are not copied.
    if isinstance(images, np.ndarray) and images.dtype == _BYTE:
        shape = images.shape
        if shape[1:3] == preprocessing.size:
            if len(shape) == 3:
                return images[..., None]
            if len(shape) == 4 and shape[3] in (1, preprocessing.channels):
                return images
    return np.stack([_fit(cast("Image", image), preprocessing) for image in images])


def _fit(image: ImageLike, preprocessing: Preprocessing) -> Array:
    """Return an image, resized and cut, as bytes (height, width, channels)."""
    image = as_image(image)
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
        _pillow().Resampling[preprocessing.interpolation.upper()],
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


def resized(
    image: Image, size: tuple[int, int], preprocessing: Preprocessing, antialias: bool
) -> Image:
    """Return a whole image at a width and height; ``antialias`` smooths it where it shrinks."""
    if image.size == size:
        return image
    how = _pillow().Resampling[preprocessing.interpolation.upper()]
    if antialias:
        return image.resize(size, how)
    across, down = image.width / size[0], image.height / size[1]
    return image.transform(size, _pillow().Transform.AFFINE, (across, 0, 0, 0, down, 0), how)


def as_image(image: Any) -> Image:
    """Return a byte array or a PIL image as a PIL image of 8 bit.

    Raises:
        DataError: If an array is neither (H, W) nor (H, W, 1 or 3) bytes, a PIL image has values
            of 32 bit, or it is no image at all.
    """
    pillow = _pillow()
    if isinstance(image, pillow.Image):
        return _of_8_bit(image)
    if isinstance(image, str | Path):
        raise DataError(f"{image}: a path is not taken; open it: PIL.Image.open(path)")
    if not isinstance(image, Sequence) and not hasattr(image, "__array__"):
        kind = type(image).__name__
        raise DataError(f"an image must be {_FORMS}, or PIL's, not of type {kind}")
    array = np.asarray(image)
    if array.shape[2:] == (1,):
        array = array[..., 0]
    shaped = array.ndim in (2, 3) and array.shape[2:] in ((), (3,)) and array.size
    if array.dtype != np.uint8 or not shaped:
        raise DataError(f"an image must be {_FORMS}, not {array.dtype} {array.shape}")
    made: Image = pillow.fromarray(array)
    return made


def _pillow() -> Any:
    with needing("Reading images", "Pillow", "images"):
        from PIL import Image
    return Image


def _of_8_bit(image: Image) -> Image:
    if image.mode in ("I", "F"):
        raise DataError(f"mode {image.mode} has 32 bit of no known range; save it as 8 bit")
    if image.mode in _UNKNOWN_COLOURS:
        raise DataError(f"mode {image.mode} is not converted to grey or RGB; save it as RGB")
    if not image.mode.startswith("I;16"):
        return image
    # Pillow's own conversion cuts off at 255 what goes up to 65535.
    upper: Image = _pillow().fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "exif" in image.info:
        upper.info["exif"] = image.info["exif"]
    return upper
