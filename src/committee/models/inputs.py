"""Preprocessing: from an image to the input of a model, by the model's own published recipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import numpy as np

from committee.arrays import Array
from committee.compiled import native
from committee.errors import DataError
from committee.models.images import converted, covering, fit, of_8_bit, pillow
from committee.models.records import RecordBatch
from committee.spec.preprocessing import Preprocessing
from committee.spec.recipe import Recipe
from committee.spec.record import Record
from committee.spec.views import Views, spread_out

if TYPE_CHECKING:
    from PIL.Image import Image

# An image as data sets give it: PIL's, or bytes (H, W) or (H, W, channels).
ImageLike: TypeAlias = "Image | Array"
# Samples as data sets give them: images of one size, or records, in one array; or a list of images
# of any size, of clips or of records.
RawSamples: TypeAlias = Array | Sequence[Any]

_BYTE = np.dtype(np.uint8)
_FORMS = "bytes of shape (H, W) or (H, W, 3)"


def prepared(images: RawSamples, preprocessing: Preprocessing, out: Array | None = None) -> Array:
    """Return the input batch (N, channels, height, width) of N images, float32 in C order.

    Images are one byte array (N, H, W) or (N, H, W, channels), or a sequence of images.
    """
    return _normalised(_sized(images, preprocessing), preprocessing, out)


def fitted(images: RawSamples, preprocessing: Preprocessing) -> Array:
    """Return N images as :func:`prepared`, but as bytes (N, height, width, channels) in RGB."""
    sized = _sized(images, preprocessing)
    return np.broadcast_to(sized, (*sized.shape[:3], preprocessing.channels))


def _normalised(images: Array, preprocessing: Preprocessing, out: Array | None = None) -> Array:
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
    return np.stack([fit(as_image(image), preprocessing) for image in images])


def _resized_whole(
    image: Image, size: tuple[int, int], preprocessing: Preprocessing, antialias: bool
) -> Image:
    """Return a whole image at a width and height; ``antialias`` smooths it where it shrinks."""
    if image.size == size:
        return image
    how = pillow().Resampling[preprocessing.interpolation.upper()]
    if antialias:
        return image.resize(size, how)
    across, down = image.width / size[0], image.height / size[1]
    return image.transform(size, pillow().Transform.AFFINE, (across, 0, 0, 0, down, 0), how)


def as_image(image: Any) -> Image:
    """Return a byte array or a PIL image as a PIL image of 8 bit."""
    module = pillow()
    if isinstance(image, module.Image):
        return of_8_bit(image)
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
    made: Image = module.fromarray(array)
    return made


# Views of one forward pass: enough to fill it, few enough that memory holds large ones.
VIEWS_AT_ONCE = 16


@dataclass(frozen=True)
class Framing:
    """How whole frames are resized for a model, before views are cut out of them.

    Models whose preprocessing differs in nothing of this share resized frames.
    """

    recipe: Preprocessing

    @classmethod
    def of(cls, recipe: Preprocessing) -> Framing:
        """Return the framing of a preprocessing that has views."""
        views = _views_of(recipe)
        plain = Views(1, resized=views.resized, antialias=views.antialias)
        return cls(
            Preprocessing(
                size=recipe.size,
                channels=recipe.channels,
                crop=recipe.crop,
                interpolation=recipe.interpolation,
                mean=(0.0,) * recipe.channels,
                std=(1.0,) * recipe.channels,
                resize=recipe.resize,
                views=plain,
            )
        )

    @property
    def grey(self) -> bool:
        """True if frames have one channel."""
        return self.recipe.channels == 1

    def fit(self, frame: Array) -> Array:
        """Resize a whole frame, bytes (H, W) or (H, W, 3), to bytes (height, width, channels)."""
        from PIL import Image

        image = converted(Image.fromarray(frame), self.recipe.channels)
        views = _views_of(self.recipe)
        height, width = views.resized or covering(image.size, self.recipe)[::-1]
        values = np.asarray(_resized_whole(image, (width, height), self.recipe, views.antialias))
        return values[..., None] if values.ndim == 2 else values


class Clip(Protocol):
    """One clip, as sources of samples give it."""

    @property
    def times(self) -> Array:
        """When each frame is shown, in seconds, rising from 0, shape (n,)."""

    def framed(self, framing: Framing, rows: Array) -> Array:
        """Return some of its frames, resized: bytes (n, height, width, channels)."""


class ArrayClip:
    """A clip whose frames are in memory.

    Args:
        frames: Bytes (n, H, W) or (n, H, W, 3).
        rate: Frames a second; needed by models that take clips at a rate of their own.
    """

    def __init__(self, frames: Array, rate: float = 0.0) -> None:
        frames = np.asarray(frames)
        if (
            frames.dtype != np.uint8
            or frames.ndim not in (3, 4)
            or frames.shape[3:] not in ((), (3,))
            or not frames.size
        ):
            raise DataError(
                "a clip must be bytes of shape (frames, H, W) or (frames, H, W, 3), not "
                f"{frames.dtype} {frames.shape}"
            )
        self._frames, self.rate = frames, rate
        self.times = np.arange(len(frames)) / (rate or 1.0)

    def framed(self, framing: Framing, rows: Array) -> Array:
        """See :class:`Clip`."""
        return np.stack([framing.fit(self._frames[row]) for row in rows.tolist()])


def needed_frames(times: Array, recipes: Iterable[Preprocessing]) -> dict[Framing, Array]:
    """Return for each framing of some models the frames of a clip that they see, rising."""
    needed: dict[Framing, Array] = {}
    for recipe in recipes:
        framing = Framing.of(recipe)
        rows = _views_of(recipe).rows(times).ravel()
        needed[framing] = np.union1d(needed.get(framing, rows[:0]), rows)
    return needed


def _views_of(recipe: Preprocessing) -> Views:
    """Return the views of a preprocessing."""
    if recipe.views is None:
        raise DataError(
            "this model takes images, not clips; say which frames it sees: views.frames"
        )
    return recipe.views


class ViewedClips:
    """The inputs of N clips for one model: views, cut when they are needed."""

    def __init__(self, clips: Sequence[Clip], recipe: Preprocessing) -> None:
        self._clips, self._recipe = clips, recipe
        self._views, self._framing = _views_of(recipe), Framing.of(recipe)
        if self._views.rate and any(getattr(clip, "rate", 1.0) == 0.0 for clip in clips):
            raise DataError(
                f"models take {self._views.rate:g} frames a second of a clip whose rate nobody "
                "knows; say it: ArrayClip(frames, rate=25)"
            )
        self.shape = (len(clips), self._views.count, *recipe.shape)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, rows: slice | Array) -> ViewedClips:
        """Return some of the clips: a slice, or rows (n,)."""
        some = range(len(self))[rows] if isinstance(rows, slice) else rows.tolist()
        return ViewedClips([self._clips[row] for row in some], self._recipe)

    def joined(self, others: Sequence[ViewedClips]) -> ViewedClips:
        """Return these clips and others for the same model."""
        more = [clip for other in others for clip in other._clips]
        return ViewedClips([*self._clips, *more], self._recipe)

    def parts(self) -> Iterator[Array]:
        """Yield all views of all clips in order, at most :data:`VIEWS_AT_ONCE` at a time."""
        views = self._cut()
        while part := list(islice(views, VIEWS_AT_ONCE)):
            yield self._normalised(part)

    def _cut(self) -> Iterator[Array]:
        for clip in self._clips:
            rows = self._views.rows(clip.times)
            numbers = np.unique(rows)
            frames = clip.framed(self._framing, numbers)
            for (_, place), shown in zip(self._views.chosen(), rows, strict=True):
                seen = frames[np.searchsorted(numbers, shown)]
                yield _cut(seen, self._recipe.size, place, self._views.spatial)

    def _normalised(self, views: Sequence[Array]) -> Array:
        layout, recipe = self._views.layout, self._recipe
        shape = (len(views), self._views.frames, recipe.channels, *recipe.size)
        values = _normalised(np.concatenate(views), recipe).reshape(shape)
        if layout == "CTHW":
            return np.ascontiguousarray(values.swapaxes(1, 2))
        return values if layout == "TCHW" else values[:, 0]


# What a model runs on: prepared images, clips whose views are cut when they are needed, or records.
ModelInputs: TypeAlias = Array | ViewedClips | RecordBatch


def _cut(frames: Array, size: tuple[int, int], place: int, places: int) -> Array:
    """Cut a crop out of frames: centred on the shorter side, one of several along the longer."""
    height, width = size
    down, across = frames.shape[1] - height, frames.shape[2] - width
    top = spread_out(down, places)[place] if down > across else round(down / 2)
    left = spread_out(across, places)[place] if across >= down else round(across / 2)
    return frames[:, top : top + height, left : left + width]


def inputs_of(samples: RawSamples, preprocessing: Recipe) -> ModelInputs:
    """Return what a model runs on, from N images, clips or records as data sets give them."""
    if isinstance(preprocessing, Record):
        return RecordBatch.of(samples, preprocessing)
    assert isinstance(preprocessing, Preprocessing)
    clips = not isinstance(samples, np.ndarray) and any(hasattr(s, "framed") for s in samples)
    if preprocessing.views is None:
        if clips:
            raise DataError("this model takes images, not clips; name the views that it sees")
        return prepared(samples, preprocessing)
    if len(samples) and not clips:
        raise DataError("this model takes clips, not images; give clip files, or ArrayClip")
    return ViewedClips(cast("Sequence[Clip]", samples), preprocessing)
