"""Images with one mask each: ``images/`` and ``labels/``, matched by the stem of the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from committee.arrays import Array
from committee.data.base import digest_of, named_rows
from committee.data.files import ENDINGS, FilesDataset, Walk, reason_of, walk
from committee.errors import DataError
from committee.models.images import converted, upright
from committee.pool.samples import Samples
from committee.reading import check_regular
from committee.text import listed

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES, LABELS = "images", "labels"
# Formats that keep every number as it was written.
MASK_ENDINGS = frozenset(
    {".png", ".apng", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".pgm", ".pbm", ".pnm", ".ppm"}
    | {".tga", ".pcx"}
)
_LOSSLESS = frozenset({"PNG", "BMP", "DIB", "GIF", "TIFF", "PPM", "TGA", "PCX"})
_MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I")
# What Pillow multiplies samples of 2 and 4 bits by, to fill a byte.
_SPREAD = {"L;2": 85, "L;4": 17}
_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)


class LabelledImages(FilesDataset):
    """Images and, if they are labelled, their masks.

    ``labels`` has the mask of each image by its stem. ``ignore`` is the label of pixels that nobody
    labelled. With ``exif`` images are turned, and masks are of the image as it is shown.
    """

    def __init__(
        self,
        root: Path,
        samples: Samples,
        labels: Mapping[str, Path] | None,
        ignore: int | None,
        exif: bool = False,
    ) -> None:
        super().__init__(root, samples)
        self._labels = labels
        self._ignore = ignore
        self.exif = exif

    def check_exif(self, wanted: bool) -> None:
        """Refuse models that see images turned differently."""
        if self.exif != wanted:
            raise DataError(
                f"{self._root}: models see images {'' if wanted else 'not '}turned by EXIF; open "
                f"them so: open_segmentation(…, exif={wanted})"
            )

    @property
    def labelled(self) -> bool:
        """True if the images have masks."""
        return self._labels is not None

    def label_digest(self, row: int) -> int:
        """Return the digest of a mask; 0 if it cannot be opened."""
        return digest_of(self._label_path(row)) if self.labelled else 0

    def _label_path(self, row: int) -> Path:
        if self._labels is None:
            raise DataError(f"{self._root}: no labels; put them into {LABELS}/ beside it")
        return self._labels[Path(self.samples.ids[row]).stem]

    def label(self, row: int, size: tuple[int, int]) -> Array:
        """Return the class of each pixel of an image, shape (height, width), int64."""
        path = self._label_path(row)
        values = _read_mask(path)
        if values.shape != size:
            raise DataError(
                f"{path}: is {values.shape[0]} x {values.shape[1]} pixels, its image {size[0]} x "
                f"{size[1]}; there must be one label per pixel{self._turn(row)}"
            )
        self._check(path, values)
        return values

    def _check(self, path: Path, values: Array) -> None:
        classes = len(self.samples.classes)
        wrong = (values >= classes) & (values != (-1 if self._ignore is None else self._ignore))
        if classes and wrong.any():
            ignored = "" if self._ignore is None else f" and {self._ignore}, which is ignored"
            raise DataError(
                f"{path}: holds class {values[wrong][0]}, classes are 0 to {classes - 1}{ignored}; "
                f"{wrong.sum():,} of {values.size:,} pixels have such labels: "
                f"{listed(np.unique(values[wrong]).tolist())}. "
                "Name all classes in the pool file, or write ignore = NUMBER in its [tiles]"
            )

    def image(self, row: int, size: tuple[int, int]) -> Array:
        """Return an image as bytes (height, width, 3), turned if EXIF counts."""
        image: Image = self.read(np.array([row]))[0]
        values = np.asarray(converted(upright(image) if self.exif else image, 3))
        if values.shape[:2] != size:
            name = self._root / self.samples.ids[row]
            raise DataError(
                f"{name}: is {values.shape[0]} x {values.shape[1]} pixels, the pool file says "
                f"{size[0]} x {size[1]}. Resize images and labels to one size, or change "
                f"resolution{self._turn(row)}"
            )
        return values

    def orientation(self, row: int) -> int:
        """Return how EXIF turns an image: 1 if it does not, 5 to 8 if it swaps height and width."""
        from PIL import Image

        try:
            with Image.open(self._root / self.samples.ids[row]) as image:
                return int(image.getexif().get(_ORIENTATION, 1))
        except Exception:  # Pillow's decoders raise many kinds; reading will say why
            return 1

    def _turn(self, row: int) -> str:
        """Return what EXIF has to do with a size that does not fit; empty if nothing."""
        if self.orientation(row) not in _LYING:
            return ""
        if self.exif:
            return (
                ". EXIF turns the image: draw labels on it as it is shown, or write exif = false "
                "in [preprocessing]"
            )
        return ". EXIF turns the image, and exif = true in [preprocessing] turns it here too"


def _read_mask(path: Path) -> Array:
    """Return the numbers that a mask holds, shape (height, width), int64."""
    from PIL import Image

    try:
        check_regular(path)
        with Image.open(path) as image:
            lossy = _lossy(image)
            # The decoder and its arguments, known only before the pixels are read.
            decoder, coded = next(((tile[0], tile[3]) for tile in image.tile), ("", ""))
            mode, values = image.mode, np.asarray(image).astype(np.int64)
            palette = image.getpalette("RGB") if (image.format, mode) == ("GIF", "P") else None
    except Exception as error:  # Pillow's decoders raise many kinds
        raise DataError(f"{path}: no label image ({reason_of(error)})") from None
    if lossy:
        raise DataError(
            f"{path}: {lossy} changes numbers, and so classes. Make a png from its source"
        )
    if mode not in _MODES or values.ndim != 2:
        raise DataError(
            f"{path}: labels must be indices of classes, grey or with a palette, not colours (mode "
            f"{mode}). Save one number per pixel"
        )
    if decoder.startswith("ppm"):
        raise DataError(
            f"{path}: its header says a largest value other than 255 or 65535, and readers scale "
            "by it. Save it as png"
        )
    if palette is not None:
        return _greys(path, values, np.array(palette, np.int64).reshape(-1, 3))
    raw = coded if isinstance(coded, str) else next(iter(coded), "") if coded else ""
    return values // _SPREAD.get(raw, 1)


def _greys(path: Path, values: Array, palette: Array) -> Array:
    """Return the greys of a gif, whose palette holds only the greys in use."""
    used = np.unique(values)
    if used.max() < len(palette) and (palette[used] == palette[used, :1]).all():
        greys: Array = palette[values, 0]
        return greys
    if len(used) > used.max():
        raise DataError(
            f"{path}: is a gif with colours, whose writers number colours anew, and so classes. "
            "Make a png of what it was made from"
        )
    return values


def _lossy(image: Image) -> str:
    """Return how an image is stored if that loses numbers; empty if it loses none."""
    if image.format not in _LOSSLESS:
        return str(image.format)
    compression = str(image.info.get("compression", ""))
    return f"compression by {compression}" if compression in ("jpeg", "webp") else ""


def open_segmentation(
    root: str | Path,
    split: str = "val",
    classes: Sequence[str] = (),
    ignore: int | None = None,
    rows: str | None = None,
    labels: bool = True,
    exif: bool = False,
) -> LabelledImages:
    """Open ``root/images`` and ``root/labels``; without labels ``root`` may hold the images.

    Args:
        root: The folder.
        split: Name for the split.
        classes: Names of the classes in the order of the models' outputs.
        ignore: The label of pixels that nobody labelled.
        rows: ``START:STOP:STEP`` to take only some, in the order of their names.
        labels: Every image needs a mask.
        exif: Turn images as their EXIF says.

    Raises:
        DataError: If there is no image, two have one stem, or one has no mask.
    """
    root = Path(root)
    folder = root / IMAGES if (root / IMAGES).is_dir() else root
    contents = walk(folder, ENDINGS)
    names = sorted(name for name in contents.names if "/" not in name)
    if not names:
        raise DataError(
            f"data {root}: no image in {folder}. Segmentation takes a folder with {IMAGES}/ and "
            f"{LABELS}/, one label image for each image"
        )
    twice, count = Counter(Path(name).stem for name in names).most_common(1)[0]
    if count > 1:
        raise DataError(f"{folder}: {count} images are called {twice!r}; labels go by that name")
    notes = _notes(IMAGES if folder != root else "", contents)
    every = {Path(name).stem for name in names}
    if rows is not None:
        names = [names[row] for row in named_rows(rows, len(names)).tolist()]
    masks = None
    if labels:
        masks, more = _masks(root / LABELS, [Path(name).stem for name in names], every)
        notes += more
    rule = f"rows {rows}" if rows else ""
    samples = Samples(tuple(names), None, tuple(classes), split, rule=rule, notes=notes)
    return LabelledImages(folder, samples, masks, ignore, exif)


def _masks(
    folder: Path, stems: Sequence[str], every: set[str]
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Return the mask of each image by its stem, and notes on what was skipped.

    ``stems`` need a mask; ``every`` are all images.
    """
    contents = walk(folder, MASK_ENDINGS)
    names = sorted(name for name in contents.names if "/" not in name)
    counted = Counter(Path(name).stem for name in names)
    twice = [stem for stem, count in counted.items() if count > 1]
    if twice:
        raise DataError(f"{folder}: more than one mask is called {listed(twice)}; keep one each")
    masks = {Path(name).stem: folder / name for name in names}
    lacking = [stem for stem in stems if stem not in masks]
    if lacking:
        lossy = {Path(name).stem: name for name in walk(folder, ENDINGS - MASK_ENDINGS).names}
        named = [lossy[stem] for stem in lacking if stem in lossy]
        why = f"; {listed(named)} are stored with loss, which changes classes" if named else ""
        raise DataError(
            f"{folder}: {len(lacking):,} of {len(stems):,} images have no labels: "
            f"{listed([f'{stem}.png' for stem in lacking])}{why}. Add them "
            f"({', '.join(sorted(MASK_ENDINGS))}), or remove those images"
        )
    alone = sorted(masks.keys() - every)
    spare = [f"{len(alone):,} masks in {LABELS}/ have no image: {listed(alone)}"] if alone else []
    return masks, (*_notes(LABELS, contents), *spare)


def _notes(where: str, contents: Walk) -> tuple[str, ...]:
    """Return notes on what was skipped in a folder."""
    below = sorted(name for name in contents.names if "/" in name)
    notes = list(contents.notes)
    if below:
        notes.append(f"{len(below):,} files in folders below skipped: {listed(below)}")
    return tuple(f"{where}/: {note}" if where else note for note in notes)
