"""Preprocessing: from a picture to the input of a model, by the model's own published recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from committee.compiled import native
from committee.errors import (
    DataError,
    MissingExtraError,
    PoolFileError,
    UnknownNameError,
    UnreadableError,
)
from committee.reading import typed
from committee.rule.outputs import Array
from committee.spec.views import Views

if TYPE_CHECKING:
    from PIL.Image import Image

    from committee.models.clip import Clip, ViewedClips

# A picture as data sets give it: PIL's, or bytes (H, W) or (H, W, channels).
Picture: TypeAlias = "Image | Array"
# Pictures of one size in one array, or of any size in a list; or clips in a list.
Pictures: TypeAlias = "Array | Sequence[Picture] | Sequence[Clip]"
# What a model runs on: pictures that lie ready, or clips whose views are made when they are needed.
ModelInputs: TypeAlias = "Array | ViewedClips"

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
RESIZES = ("crop", "squash")
ORDERS = ("rgb", "bgr")
# Pixels of a side: beyond, one float32 input of three channels takes more than 3 GiB.
MOST_SIDE = 16_384
_MODES = {1: "L", 3: "RGB"}
# What Pillow converts to RGB or grey by no rule, or not at all.
_UNKNOWN_COLOURS = ("LAB", "La")
_BYTE = np.dtype(np.uint8)
# Means and deviations of values from 0 to 1 that anyone published are below; those of bytes above.
_MOST_SCALE = 2.0
# Of most models that were trained on colours; grey has their average.
_COLOURS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes an input (channels, height, width), float32.

    The picture is resized until it just covers ``size / crop``, the centre is cut out, bytes are
    divided by 255, the mean subtracted and the result divided by the deviation. A picture that
    already has the input's size is not resized.

    Args:
        size: Height and width of the input, in pixels.
        channels: 1 for grey, 3 for RGB; pictures of other modes are converted.
        crop: Share of the resized picture's shorter side that the centre crop keeps, in (0, 1].
        interpolation: ``nearest``, ``bilinear``, ``bicubic`` or ``lanczos``, with antialiasing.
        mean: One a channel in the order of the input, of values in [0, 1].
        std: One a channel in the order of the input, of values in [0, 1].
        resize: ``crop`` keeps the picture's proportions, as told above; ``squash`` resizes both
            sides to ``size / crop`` whatever they were.
        order: Order of the input's channels, ``rgb`` or ``bgr``.
        exif: Whether a photograph is turned as its EXIF says. timm and torchvision, whose recipes
            most models were trained with, do not.
        views: Which frames of a clip the model sees, each prepared as told above; None for models
            of pictures.

    Raises:
        PoolFileError: If a field is out of range.
    """

    size: tuple[int, int]
    channels: int = 3
    crop: float = 1.0
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = _COLOURS["mean"]
    std: tuple[float, ...] = _COLOURS["std"]
    resize: str = "crop"
    order: str = "rgb"
    exif: bool = False
    views: Views | None = None

    def __post_init__(self) -> None:
        for what, value, known in (
            ("interpolation", self.interpolation, INTERPOLATIONS),
            ("resize", self.resize, RESIZES),
            ("order", self.order, ORDERS),
        ):
            if value not in known:
                raise UnknownNameError.of("preprocessing", what, str(value), known)
        if self.channels not in _MODES:
            raise PoolFileError(f"preprocessing: channels must be 1 or 3, not {self.channels}")
        if not (0 < self.crop <= 1) or not all(1 <= side <= MOST_SIDE for side in self.size):
            raise PoolFileError(
                f"preprocessing: crop {self.crop} must be in (0, 1] and size {self.size} positive, "
                f"at most {MOST_SIDE:,}"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise PoolFileError(
                    f"preprocessing: {name} needs {self.channels} values, not {len(values)}"
                )
            if not all(isinstance(each, int | float) for each in values):
                raise PoolFileError(f"preprocessing: {name} must be numbers, not {values}")
            if max(map(abs, values)) > _MOST_SCALE:
                told = ", ".join(f"{each / 255:.3f}" for each in values)
                raise PoolFileError(
                    f"preprocessing: {name} {list(values)} is not of values from 0 to 1, but of "
                    f"bytes, 0 to 255? Then write {name} = [{told}]"
                )
        if not isinstance(self.exif, bool):
            raise PoolFileError(f"preprocessing: exif must be true or false, not {self.exif!r}")
        if min(self.std) <= 0:
            raise PoolFileError(f"preprocessing: std {self.std} must be positive")
        if self.views is not None:
            self._check_views(self.views)

    def _check_views(self, views: Views) -> None:
        if self.exif:
            raise PoolFileError(
                "preprocessing: exif is of pictures; clips are turned as their files say, so leave "
                "exif out"
            )
        if max(self.size) / self.crop > MOST_SIDE:
            raise PoolFileError(
                f"preprocessing: crop {self.crop} of size {self.size} makes frames of more than "
                f"{MOST_SIDE:,} pixels a side"
            )
        if views.resized and (self.crop, self.resize) != (1.0, "crop"):
            raise PoolFileError(
                "preprocessing: views.resized says how frames are resized; crop and resize would "
                "change nothing, so leave them out"
            )
        if views.resized and (views.resized[0] < self.size[0] or views.resized[1] < self.size[1]):
            raise PoolFileError(
                f"preprocessing: views.resized {views.resized} must hold the size {self.size}"
            )
        if not views.antialias and self.interpolation == "lanczos":
            raise PoolFileError("preprocessing: lanczos is antialiased; leave views.antialias out")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input, the batch left out: of a picture, or of one view of a clip."""
        if self.views is None or self.views.layout == "CHW":
            return self.channels, *self.size
        if self.views.layout == "TCHW":
            return self.views.frames, self.channels, *self.size
        return self.channels, self.views.frames, *self.size

    @property
    def inputs(self) -> int:
        """How many inputs a model sees of one sample: one picture, or the views of a clip."""
        return 1 if self.views is None else self.views.count

    @property
    def sample(self) -> str:
        """One sample as the model sees it, for people: ``sample of 224 x 224``."""
        sides = " x ".join(map(str, self.size))
        if self.views is None:
            return f"sample of {sides}"
        times = f", {self.inputs} views" if self.inputs > 1 else ", one view"
        return f"clip of {self.views.frames} x {sides}{times}"

    def to_json(self) -> dict[str, Any]:
        """What a store and a cascade file hold."""
        told = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        # Of pictures nothing is told of views, as in files of before there were any.
        del told["views"]
        return told if self.views is None else {**told, "views": self.views.to_json()}

    @cached_property
    def scale_and_shift(self) -> Array:
        """What a byte is multiplied by and what is then added, shape (2, channels), float32."""
        # Kept, for where one small picture is prepared it would take as long as the picture.
        std = np.array(self.std, np.float32)
        scale = np.float32(1) / (np.float32(255) * std)
        return np.stack([scale, -np.array(self.mean, np.float32) / std])

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Read what :meth:`to_json` wrote; unknown keys are refused by name.

        Raises:
            PoolFileError, UnknownNameError: If a field is unknown or out of range.
        """
        values = dict(data)
        if isinstance(values.get("views"), Mapping):
            values["views"] = Views.from_json(values["views"])
        try:
            count = values.get("channels", 3)
            for key, colours in _COLOURS.items():
                if count == 1:
                    values.setdefault(key, (sum(colours) / len(colours),))
                if type(values.get(key)) in (int, float) and count in (1, 3):
                    values[key] = (values[key],) * count  # one number for all channels
            return typed("preprocessing", values, cls)
        except UnreadableError as error:
            raise PoolFileError(str(error)) from None


def inputs_of(samples: Pictures, preprocessing: Preprocessing) -> ModelInputs:
    """What a model runs on, of N pictures or of N clips.

    Args:
        samples: As data sets give them; see :func:`prepared` for pictures.
        preprocessing: The model's recipe; it says whether it is one of clips.

    Raises:
        DataError: If a sample has a form that is not handled, or is none that the model takes.
    """
    if preprocessing.views is None and isinstance(samples, np.ndarray):
        return normalised(_sized(samples, preprocessing), preprocessing)
    clips = not isinstance(samples, np.ndarray) and any(hasattr(s, "framed") for s in samples)
    if preprocessing.views is None:
        if clips:
            raise DataError("this model takes pictures, not clips; name the views that it sees")
        return prepared(samples, preprocessing)
    if len(samples) and not clips:
        raise DataError("this model takes clips, not pictures; give clip files, or ArrayClip")
    from committee.models.clip import ViewedClips

    return ViewedClips(cast("Sequence[Clip]", samples), preprocessing)


def prepared(pictures: Pictures, preprocessing: Preprocessing, out: Array | None = None) -> Array:
    """The input batch (N, channels, height, width), float32, C order, of N pictures.

    Args:
        pictures: One byte array (N, H, W) or (N, H, W, channels), or a sequence of pictures.
        preprocessing: The model's recipe.
        out: Where to write it; a new array if left out.

    Raises:
        DataError: If a picture has a form that is not handled.
    """
    return normalised(_sized(pictures, preprocessing), preprocessing, out)


def fitted(pictures: Pictures, preprocessing: Preprocessing) -> Array:
    """Bytes (N, height, width, channels) of N pictures, resized and cut but not normalised.

    Colours are red, green, blue, whatever order the input has.

    Args:
        pictures: One byte array (N, H, W) or (N, H, W, channels), or a sequence of pictures.
        preprocessing: The model's recipe.

    Raises:
        DataError: If a picture has a form that is not handled.
    """
    sized = _sized(pictures, preprocessing)
    return np.broadcast_to(sized, (*sized.shape[:3], preprocessing.channels))


def normalised(pictures: Array, preprocessing: Preprocessing, out: Array | None = None) -> Array:
    """Bytes as the model takes them, (N, channels, height, width), float32.

    Args:
        pictures: Shape (N, height, width, channels); one channel serves for all.
        preprocessing: The model's recipe.
        out: Where to write them; a new array if left out.
    """
    # (x / 255 - mean) / std, as one multiplication and one addition of float32.
    constants, reverse = preprocessing.scale_and_shift, preprocessing.order == "bgr"
    if out is None:
        out = np.empty((len(pictures), preprocessing.channels, *preprocessing.size), np.float32)
    if native is not None:
        native.normalise(pictures, constants, reverse, out)
        return out
    given = pictures.shape[3]
    # Written channel by channel, straight into the layout that models take.
    for channel, (scale, shift) in enumerate(constants.T):
        # The other order reads the picture's channels from behind.
        source = 0 if given == 1 else -1 - channel if reverse else channel
        plane = out[:, channel]
        np.multiply(pictures[..., source], scale, out=plane)
        np.add(plane, shift, out=plane)
    return out


def _sized(pictures: Pictures, preprocessing: Preprocessing) -> Array:
    """Bytes (N, height, width, c) of N pictures, resized and cut; c is 1 if all channels agree."""
    # Bytes of the input's size already, with no colours to be converted?
    if isinstance(pictures, np.ndarray) and pictures.dtype == _BYTE:
        shape = pictures.shape
        if shape[1:3] == preprocessing.size:
            if len(shape) == 3:
                return pictures[..., None]
            if len(shape) == 4 and shape[3] in (1, preprocessing.channels):
                return pictures
    return np.stack([_fit(cast("Picture", picture), preprocessing) for picture in pictures])


def _fit(picture: Picture, preprocessing: Preprocessing) -> Array:
    """One picture, resized and cut, as bytes (height, width, channels)."""
    image = as_image(picture)
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
    """A picture in grey or RGB; transparency is left out, as in the published recipes."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    mode = _MODES[channels]
    # Pillow would copy a picture that has the mode.
    return image if image.mode == mode else image.convert(mode)


def _resized(image: Image, preprocessing: Preprocessing) -> Image:
    from PIL.Image import Resampling

    height, width = preprocessing.size
    full_width, full_height = covering(image.size, preprocessing)
    # One call resizes and cuts, in half the time of two: the box is the part of the picture that
    # the input shows. Whole pixels of the resized picture are cut off, as published recipes do.
    # Bytes differ from theirs by one level here and there, and by more at hard edges of some tall
    # pictures: Pillow takes height and width in turn, in an order that depends on the call.
    left, top = round((full_width - width) / 2), round((full_height - height) / 2)
    across, down = image.width / full_width, image.height / full_height
    return image.resize(
        (width, height),
        Resampling[preprocessing.interpolation.upper()],
        box=(left * across, top * down, (left + width) * across, (top + height) * down),
    )


def covering(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Width and height to which a whole picture is resized before the centre is cut out.

    Args:
        size: Width and height of the picture.
        preprocessing: The model's recipe.
    """
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
    """A whole picture at a width and height.

    Args:
        image: The picture.
        size: Width and height.
        preprocessing: It names the interpolation.
        antialias: Whether the picture is smoothed where it shrinks.
    """
    from PIL.Image import Resampling, Transform

    if image.size == size:
        return image
    how = Resampling[preprocessing.interpolation.upper()]
    if antialias:
        return image.resize(size, how)
    across, down = image.width / size[0], image.height / size[1]
    return image.transform(size, Transform.AFFINE, (across, 0, 0, 0, down, 0), how)


def as_image(picture: Picture) -> Image:
    """A PIL picture, 8 bit, of a byte array or a PIL picture.

    Raises:
        DataError: If an array is neither (H, W) nor (H, W, 1 or 3) bytes, a PIL picture has values
            of 32 bit, or it is no picture but a path, say.
        MissingExtraError: If Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError.of("Reading pictures", "Pillow", "images") from None
    if isinstance(picture, Image.Image):
        if picture.mode in ("I", "F"):
            raise DataError(f"mode {picture.mode} has 32 bit of no known range; save it as 8 bit")
        if picture.mode in _UNKNOWN_COLOURS:
            raise DataError(f"mode {picture.mode} is not converted to grey or RGB; save it as RGB")
        if not picture.mode.startswith("I;16"):
            return picture
        # Pillow's own conversion cuts off at 255 what goes up to 65535.
        image = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        if "exif" in picture.info:
            image.info["exif"] = picture.info["exif"]
        return image
    given: Any = picture
    if isinstance(given, str | Path):
        raise DataError(f"{given}: a path is not taken; open it: PIL.Image.open(path)")
    if not isinstance(given, Sequence) and not hasattr(given, "__array__"):
        raise DataError(
            "a picture must be bytes of shape (H, W) or (H, W, 3), or PIL's, not of type "
            f"{type(given).__name__}"
        )
    array = np.asarray(given)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    shaped = array.ndim in (2, 3) and array.shape[2:] in ((), (3,)) and array.size
    if array.dtype != np.uint8 or not shaped:
        raise DataError(
            f"a picture must be bytes of shape (H, W) or (H, W, 3), not {array.dtype} {array.shape}"
        )
    return Image.fromarray(array)
