"""``FILE.npz``: pictures of one size as an array, with labels, ids and class names beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from committee.errors import DataError, MisalignedError
from committee.predictions import Array
from committee.samples import Samples

# What may follow (N, H, W): nothing, or one or three channels.
_COLOURS = ((), (1,), (3,))


class ArrayDataset:
    """Pictures in memory.

    Args:
        images: Shape (N, H, W) or (N, H, W, 3), uint8.
        samples: One entry a picture.
    """

    def __init__(self, images: Array, samples: Samples) -> None:
        if len(images) != len(samples):
            raise MisalignedError(f"data: {len(images)} images but {len(samples)} samples")
        self._images = images
        self.samples = samples

    def read(self, rows: Array) -> Array:
        """See :class:`committee.data.base.Dataset`."""
        return self._images[rows]


def open_npz(path: Path, split: str, classes: Sequence[str]) -> ArrayDataset:
    """Open an npz file with ``images`` and, if known, ``labels``, ``ids`` and ``classes``.

    Raises:
        DataError: If it cannot be read, or ``images`` is missing or of the wrong form.
        MisalignedError: If its classes are not those of the models.
    """
    try:
        # Opened here, for numpy leaves a file open that is no zip archive.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # zip, zlib and numpy raise of every kind
        reason = str(error).split("\n")[0]
        raise DataError(f"{path}: no readable npz file ({reason})") from None
    images = arrays.get("images")
    if images is None:
        raise DataError(f"{path}: has {', '.join(arrays) or 'nothing'}, but no 'images'")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in _COLOURS:
        raise DataError(
            f"{path}: images must be uint8 of shape (N, H, W) or (N, H, W, 3), "
            f"not {images.dtype} {images.shape}"
        )
    if not len(images):
        raise DataError(f"{path}: 'images' is empty; there is no sample")
    named = [str(name) for name in arrays.get("classes", [])]
    if classes and named and list(classes) != named:
        raise MisalignedError(
            f"{path}: its classes ({', '.join(named[:3])} …) are not those of the models "
            f"({', '.join(classes[:3])} …)"
        )
    ids = [str(each) for each in arrays["ids"]] if "ids" in arrays else None
    samples = Samples.of(arrays.get("labels"), ids, classes or named, split, len(images))
    return ArrayDataset(images, samples)
