"""Image files in requests: decoded within limits, to the size that models see where all see one."""

from __future__ import annotations

import base64
import binascii
import re
import threading
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

from committee.data.files import decoded, reason_of
from committee.errors import CommitteeError, DataError, RequestError
from committee.models.images import fit, upright
from committee.spec.preprocessing import Preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow's names of the formats that images may have: what cameras and browsers send, and no more
# code than these need.
_FORMATS = ("JPEG", "PNG")
# Scans of a JPEG file. Each goes over the whole image, however few bytes it has; progressive files
# have about ten.
_MOST_SCANS = 64
# Where a scan begins, with its length and its number of components.
_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
# What Pillow walks over in Python, which takes microseconds each and lets nobody else run, in the
# images of one request: chunks of PNG, markers of JPEG with the bytes that fill in between, and
# blocks of Photoshop. An image has a dozen, or one each 8 KiB.
_MOST_PARTS = 2**15
_PNG, _JPEG, _BLOCK = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"8BIM"
# The next marker of JPEG, behind what fills in between.
_MARKER = re.compile(rb"(?:[^\xff]|\xff\x00|\xff(?=\xff))*+\xff([^\x00\xff])", re.DOTALL)
_START_OF_SCAN = 0xFFDA
# Decoded images of one request, and of all requests, in those of the largest size.
_LARGEST_AT_ONCE, _LARGEST_TOGETHER = 4, 16


class _PixelRoom:
    """The pixels that decoded images of all requests may have together, while they wait."""

    def __init__(self, most: int) -> None:
        self._left = most
        # A finalizer may run inside the lock.
        self._lock = threading.RLock()

    def take(self, pixels: int) -> None:
        """Take room for an image.

        Raises:
            RequestError: 503 if there is too little.
        """
        with self._lock:
            if pixels > self._left:
                raise RequestError("too many large images wait; ask again", 503)
            self._left -= pixels

    def give(self, pixels: int) -> None:
        """Give back room that was taken."""
        with self._lock:
            self._left += pixels


class ImageDecoder:
    """Decodes the images of requests.

    Args:
        recipes: How models take an image.
        most_pixels: The most pixels that an image may have.
        whole: Keep images as they were sent, though models see less of them.
    """

    def __init__(self, recipes: Sequence[Preprocessing], most_pixels: int, whole: bool) -> None:
        self._most_pixels = most_pixels
        self._room = _PixelRoom(_LARGEST_TOGETHER * most_pixels)
        self._fitting = None if whole else _common_fitting(recipes)
        self._turned = any(each.exif for each in recipes)

    def __call__(self, files: Iterable[bytes]) -> tuple[list[Any], dict[int, str]]:
        """Return images, None in place of each that cannot be used, and why it cannot.

        Raises:
            RequestError: 503 if too many images of all requests wait.
        """
        images: list[Any] = []
        failed: dict[int, str] = {}
        together = room = _LARGEST_AT_ONCE * self._most_pixels
        parts = _MOST_PARTS
        for row, data in enumerate(files):
            try:
                count = _checked_parts(data, parts)
                image, pixels = self._decode(data, min(self._most_pixels, room))
                parts, room = parts - count, room - pixels
            except RequestError:  # of no image, but of all that are in memory
                raise
            except Exception as error:  # decoders raise many kinds
                image, failed[row] = None, _image_reason(error)
                if room < self._most_pixels:
                    failed[row] += f" (of {together:,} in one request)"
            images.append(image)
        return images, failed

    def warm(self) -> None:
        """Decode a small image of each format, so that the first request need not load decoders."""
        from PIL import Image

        for form in _FORMATS:
            Image.new("RGB", (8, 8)).save(file := BytesIO(), form)
            self([file.getvalue()])

    def _decode(self, data: bytes, most: int) -> tuple[Any, int]:
        """Return an image, at the size of the models' input if they have one, and its pixels."""
        pixels = 0

        def check(image: Image) -> None:
            nonlocal pixels
            size = image.width * image.height
            if size > most:
                raise DataError(
                    f"has {image.width:,} x {image.height:,} pixels; {most:,} may be sent"
                )
            self._room.take(size)
            pixels = size

        _check_scans(data)
        try:
            image = decoded(BytesIO(data), _FORMATS, check)
            if self._fitting is not None:
                # Done in the thread of the request, once for all models, and so that no large
                # image waits in memory.
                fitted = fit(image, self._fitting)
                self._room.give(pixels)
                return fitted, pixels
            if self._turned:
                upright(image)  # fails here, not in a batch with others, if EXIF is broken
        except BaseException:
            self._room.give(pixels)
            raise
        weakref.finalize(image, self._room.give, pixels)
        return image, pixels


def _check_scans(data: bytes) -> None:
    """Refuse a JPEG file of so many scans that decoding it takes minutes."""
    # The second count takes longer, and leaves out what other bytes look like.
    if data[:2] == b"\xff\xd8" and data.count(b"\xff\xda") > _MOST_SCANS:
        scans = len(_SCAN.findall(data))
        if scans > _MOST_SCANS:
            raise DataError(f"has {scans:,} scans; {_MOST_SCANS} may be sent. Save it anew")


def _checked_parts(data: bytes, most: int) -> int:
    """Return how many parts a file has; refuse one of which Pillow would walk over too many."""
    count = 0
    if data.startswith(_PNG):
        count = _png_parts(data, most)
    elif data.startswith(_JPEG):
        count = _jpeg_parts(data, most)
    if count > most:
        raise DataError(
            f"has too many chunks, markers or bytes between them; {_MOST_PARTS:,} may be sent in "
            "one request. Save it anew"
        )
    return count


def _png_parts(data: bytes, most: int) -> int:
    """Return the number of chunks, counted until it is above a limit."""
    at, count = len(_PNG), 0
    while at < len(data) and count <= most:
        at += 12 + int.from_bytes(data[at : at + 4])
        count += 1
    return count


def _jpeg_parts(data: bytes, most: int) -> int:
    """Return the number of parts before the first scan, counted until it is above a limit."""
    from PIL.JpegImagePlugin import MARKER

    at, count = 2, data.count(_BLOCK)
    while count <= most and (found := _MARKER.match(data, at, at + most + 2)):
        count += found.end() - at - 1
        at, marker = found.end(), 0xFF00 | found[1][0]
        if marker == _START_OF_SCAN or marker not in MARKER:
            return count  # Pillow goes no further
        if MARKER[marker][2] is not None:
            at += max(2, int.from_bytes(data[at : at + 2]))
    return count + max(0, len(data) - at)


def _common_fitting(recipes: Sequence[Preprocessing]) -> Preprocessing | None:
    """Return how images are resized and cut, if it is the same for all models."""
    none, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    same = {
        replace(each, mean=none[: each.channels], std=one[: each.channels], order="rgb")
        for each in recipes
    }
    return same.pop() if len(same) == 1 else None


def raw_image(data: bytes) -> bytes:
    """Return the bytes of an image file, of which JSON can only hold base64."""
    if not data or not data[:1].isascii():
        return data  # no JPEG and no PNG begins with a letter
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        return data


def _image_reason(error: Exception) -> str:
    reason = reason_of(error)
    if isinstance(error, CommitteeError):
        return reason
    return "no JPEG or PNG image" if reason.startswith("no image") else f"broken image ({reason})"
