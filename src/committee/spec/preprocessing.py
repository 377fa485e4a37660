"""Preprocessing: how an image becomes the input of a model, by the model's own published recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import PoolFileError, UnknownNameError, UnreadableError
from committee.reading import plain, typed
from committee.spec.recipe import Recipe
from committee.spec.views import Views

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
RESIZES = ("crop", "squash")
ORDERS = ("rgb", "bgr")
# Pixels of a side: beyond, one float32 input of three channels takes more than 3 GiB.
MOST_SIDE = 16_384
# Means and deviations of values from 0 to 1 that anyone published are below; those of bytes above.
_MOST_SCALE = 2.0
# Of most models that were trained on colours; grey has their average.
_COLOURS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@dataclass(frozen=True)
class Preprocessing(Recipe):
    """How an image becomes an input (channels, height, width), float32.

    The image is resized until it just covers ``size / crop``, the centre is cut out, bytes are
    divided by 255, the mean subtracted and the result divided by the deviation. An image that
    already has the input's size is not resized.

    Args:
        size: Height and width of the input, in pixels.
        channels: 1 for grey, 3 for RGB; images of other modes are converted.
        crop: Share of the resized image's shorter side that the centre crop keeps, in (0, 1].
        interpolation: ``nearest``, ``bilinear``, ``bicubic`` or ``lanczos``, with antialiasing.
        mean: One a channel in the order of the input, of values in [0, 1].
        std: One a channel in the order of the input, of values in [0, 1].
        resize: ``crop`` keeps the image's proportions, as described above; ``squash`` resizes both
            sides to ``size / crop`` whatever they were.
        order: Order of the input's channels, ``rgb`` or ``bgr``.
        exif: True to turn a photograph as its EXIF says. timm and torchvision, whose recipes most
            models were trained with, do not.
        views: Which frames of a clip the model sees, each prepared as described above; None for
            models of images.

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
        if self.channels not in (1, 3):
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
                text = ", ".join(f"{each / 255:.3f}" for each in values)
                raise PoolFileError(
                    f"preprocessing: {name} {list(values)} is not of values from 0 to 1, but of "
                    f"bytes, 0 to 255? Then write {name} = [{text}]"
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
                "preprocessing: exif is of images; clips are turned as their files say, so leave "
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
        """Shape of one input without the batch: an image, or one view of a clip."""
        if self.views is None or self.views.layout == "CHW":
            return self.channels, *self.size
        if self.views.layout == "TCHW":
            return self.views.frames, self.channels, *self.size
        return self.channels, self.views.frames, *self.size

    @property
    def inputs(self) -> int:
        """How many inputs a model sees of one sample: one image, or the views of a clip."""
        return 1 if self.views is None else self.views.count

    @property
    def lazy(self) -> bool:
        """True if inputs are made when the model runs, because those of clips are large."""
        return self.views is not None

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
        data: dict[str, Any] = plain(self)
        if self.views is None:
            del data["views"]
        return data

    @cached_property
    def scale_and_shift(self) -> Array:
        """The factor for a byte and the summand, shape (2, channels), float32."""
        # Cached: computing it takes as long as preparing a small image.
        std = np.array(self.std, np.float32)
        scale = np.float32(1) / (np.float32(255) * std)
        return np.stack([scale, -np.array(self.mean, np.float32) / std])

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Read what :meth:`to_json` wrote; unknown keys are refused by name."""
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
