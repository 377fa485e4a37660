"""Clip files: decode the frames that the models need, once, and resize them as they come.

A first pass lists the frames and their times, a second decodes those that are needed, so memory
holds only these, however long the clip is. If the container stores the time of every frame, the
first pass reads packets only and the second begins at key frames; it checks that the frames it
decodes have the times of the packets, one after the other. Otherwise both passes decode from the
beginning, which is slower.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from errno import EINVAL
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.arrays import Array
from committee.data.files import FilesDataset
from committee.errors import DataError, needing
from committee.models.inputs import Framing, needed_frames
from committee.pool.samples import Samples
from committee.spec.preprocessing import Preprocessing

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

CLIP_ENDINGS = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".flv", ".avi", ".wmv", ".asf"}
    | {".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts", ".ogv", ".gif"}
)
# Containers that store the time of every frame; for others ffmpeg computes it.
_TIMED_CONTAINERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv"})
# Codecs whose packets are one shown frame each: no half images, no hidden frames.
_WHOLE_PACKETS = frozenset({"h264", "hevc", "vp9", "av1", "mjpeg", "prores"})
# What a file with one of those endings may be. ffmpeg knows more formats, and some are lists of
# other files and addresses, which it opens before it says what the format is.
_FORMATS = "mov,matroska,flv,live_flv,avi,asf,mpeg,mpegts,mpegvideo,m4v,h264,hevc,ogg,gif"
# How far a display matrix may be from a right angle: about a degree.
_SKEW = 0.02


class _FramedClip:
    """A clip that holds only the frames that some models need, resized for them.

    ``frames`` has for each framing the numbers of the frames, rising, and the frames.
    """

    def __init__(self, times: Array, frames: Mapping[Framing, tuple[Array, Array]]) -> None:
        self.times = times
        self._frames = frames

    def framed(self, framing: Framing, rows: Array) -> Array:
        """See :class:`Clip`."""
        none = (np.empty(0, np.int64), np.empty(0, np.uint8))
        numbers, frames = self._frames.get(framing, none)
        if not np.isin(rows, numbers).all():
            raise DataError("this clip was read for other models; open the data with these models")
        wanted: Array = frames[np.searchsorted(numbers, rows)]
        return wanted


class ClipsDataset(FilesDataset):
    """Clip files; the frames that some models need are decoded when they are read.

    ``recipes`` are the preprocessings of the models that will see the clips.
    """

    def __init__(self, root: Path, samples: Samples, recipes: Sequence[Preprocessing] = ()) -> None:
        _import_av()
        super().__init__(root, samples)
        self._recipes = tuple(dict.fromkeys(recipes))

    def decode(self, path: Path) -> _FramedClip:
        """See :func:`read_clip`."""
        return read_clip(path, self._recipes)

    def reason(self, error: Exception) -> str:
        """Return why a clip cannot be read, in one line."""
        # ffmpeg's line also has a number and the path, which are not recorded.
        text = getattr(error, "strerror", None) or str(error)
        return text.split("\n")[0] or type(error).__name__


def read_clip(path: Path, recipes: Sequence[Preprocessing]) -> _FramedClip:
    """Decode the frames of a clip that some models need.

    Frames are turned and mirrored as the file says, as players do; pixels count as square.

    Args:
        path: A file with a video stream; the first that is no cover image counts.
        recipes: Preprocessings of the models; each has views.
    """
    # Packets are quicker; the frames that come are checked against them.
    line = _timeline(path)
    if line is not None:
        with suppress(_UntrueError, DataError, _import_av().FFmpegError):
            return _needed_frames(path, line, recipes)
    return _needed_frames(path, _counted_timeline(path), recipes)


def _needed_frames(path: Path, line: _Timeline, recipes: Sequence[Preprocessing]) -> _FramedClip:
    wanted = needed_frames(line.times, recipes)
    rows = np.unique(np.concatenate([np.empty(0, np.int64), *wanted.values()])).tolist()
    frames: dict[Framing, list[Array]] = {framing: [] for framing in wanted}
    lacking = {framing: set(numbers.tolist()) for framing, numbers in wanted.items()}
    for row, frame in _frames(path, line, rows):
        pixels = frame.pixels({framing.grey for framing in wanted if row in lacking[framing]})
        for framing in wanted:
            if row in lacking[framing]:
                frames[framing].append(framing.fit(pixels[framing.grey]))
    return _FramedClip(
        line.times,
        {framing: (numbers, _stacked(frames[framing])) for framing, numbers in wanted.items()},
    )


def _stacked(frames: Sequence[Array]) -> Array:
    if len({frame.shape for frame in frames}) > 1:
        raise DataError("its frames change their proportions")
    return np.stack(frames)


@dataclass(frozen=True, eq=False)
class _Timeline:
    """The frames of a clip.

    ``times`` are in seconds, rising from 0; ``stamps`` are the same in the file's own units, and
    empty where frames must be counted; decoding may begin at ``keys``.
    """

    times: Array
    stamps: Sequence[int] = ()
    keys: Sequence[int] = ()


class _UntrueError(Exception):
    """The decoded frames are not those of the packets."""


def _timeline(path: Path) -> _Timeline | None:
    """Return the frames that the packets name; None if packets cannot be trusted."""
    with _opened(path) as file:
        stream = _stream(file)
        codec = stream.codec_context.codec.canonical_name
        if file.format.name not in _TIMED_CONTAINERS or codec not in _WHOLE_PACKETS:
            return None
        unit = stream.time_base
        # Not the packets themselves, which together are the file.
        packets = [
            (p.pts, p.is_keyframe, p.is_discard, p.is_corrupt) for p in file.demux(stream) if p.size
        ]
    stamps = sorted({pts for pts, _, hidden, _ in packets if pts is not None and not hidden})
    keys = sorted({pts for pts, key, _, _ in packets if pts is not None and key})
    shown = sum(not hidden for _, _, hidden, _ in packets)
    damaged = any(corrupt for *_, corrupt in packets)
    whole = stamps and keys and len(stamps) == shown and keys[0] <= stamps[0]
    if unit is None or damaged or not whole:
        return None
    return _Timeline(_seconds(stamps, unit), stamps, keys)


def _counted_timeline(path: Path) -> _Timeline:
    """Return the frames of a clip by decoding all of it."""
    every = [frame.pts for frame in _decoded(path)]
    if not every:
        raise DataError("no frame can be decoded")
    with _opened(path) as file:
        stream = _stream(file)
        unit, rate = stream.time_base, stream.average_rate or Fraction(25)
    stamps = [stamp for stamp in every if stamp is not None]
    # Times that fall back are those of other frames: then only the number of frames is known.
    if unit and len(stamps) == len(every) and all(a < b for a, b in pairwise(stamps)):
        return _Timeline(_seconds(stamps, unit))
    return _Timeline(np.arange(len(every)) / float(rate))


def _seconds(stamps: Sequence[int], unit: Fraction) -> Array:
    return (np.array(stamps, np.float64) - stamps[0]) * float(unit)


class _Frame:
    """A decoded frame, converted to bytes when they are needed."""

    def __init__(self, frame: VideoFrame, reformat: Any) -> None:
        self._frame, self._reformat = frame, reformat

    def pixels(self, greys: Iterable[bool]) -> dict[bool, Array]:
        """Return grey bytes, RGB bytes or both, turned and mirrored as the file says."""
        matrix: Any = self._frame.side_data.get("DISPLAYMATRIX")
        made = {}
        for grey in greys:
            form = "gray" if grey else "rgb24"
            values = self._reformat[grey].reformat(self._frame, format=form).to_ndarray()
            if matrix is not None:
                values = _displayed(values, struct.unpack("=9i", bytes(matrix)))
            made[grey] = np.ascontiguousarray(values)
        return made


def _displayed(values: Array, matrix: Sequence[int]) -> Array:
    """Return a frame (H, W, …) as players show it by a display matrix.

    The matrix ``a b u c d v x y w`` shows the pixel (x, y) at (a x + c y, b x + d y); shift and
    scale do not matter here.
    """
    a, b, c, d = (matrix[place] for place in (0, 1, 3, 4))
    straight, crossed = min(abs(a), abs(d)), min(abs(b), abs(c))
    if max(abs(b), abs(c)) <= _SKEW * straight and straight:
        across, down = a, d
    elif max(abs(a), abs(d)) <= _SKEW * crossed and crossed:
        values, across, down = values.swapaxes(0, 1), c, b
    else:
        numbers = " ".join(f"{each / 65536:.3g}" for each in (a, b, c, d))
        raise DataError(
            f"its display matrix ({numbers}) neither turns by right angles nor mirrors. Convert "
            "it: ffmpeg -i CLIP NEW.mp4"
        )
    return values[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def _frames(path: Path, line: _Timeline, rows: Sequence[int]) -> Iterator[tuple[int, _Frame]]:
    """Yield the frames with these numbers, which rise."""
    from av.video.reformatter import VideoReformatter

    # One for each form: setting it up is most of the work on a small frame.
    reformat = {False: VideoReformatter(), True: VideoReformatter()}
    found = _sought(path, line, rows) if line.stamps else _counted(path, rows)
    missing = deque(rows)
    for row, frame in found:
        if row != missing[0]:
            break
        if frame.is_corrupt:
            raise DataError(f"frame {row} of {len(line.times)} is damaged")
        yield missing.popleft(), _Frame(frame, reformat)
    if missing:
        raise DataError(f"frame {missing[0]} of {len(line.times)} cannot be decoded")


def _sought(path: Path, line: _Timeline, rows: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    """Yield frames by their times, decoded from the key frames before them."""
    row_of = {stamp: row for row, stamp in enumerate(line.stamps)}
    wanted = set(rows)
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(bisect_right(line.keys, line.stamps[row]) - 1, []).append(row)
    with _opened(path) as file:
        stream = _stream(file)
        frames, before, key_before = _decoded_from(file, stream), -1, -1
        for key, group in groups.items():
            # Decoding on is quicker than seeking the next key frame.
            if key > key_before + 1:
                first = line.stamps[group[0]]
                frames = _from_key(file, stream, line.keys[: key + 1], first)
                before = -1
            key_before = key
            for frame in frames:
                row = -1 if frame.pts is None else row_of.get(frame.pts, -1)
                if row < 0 or (before >= 0 and row != before + 1):
                    raise _UntrueError
                before = row
                if row in wanted:
                    yield row, frame
                if row >= group[-1]:
                    break


def _from_key(
    file: InputContainer, stream: VideoStream, keys: Sequence[int], first: int
) -> Iterator[VideoFrame]:
    """Return frames from the last of some key frames on, or from one before it.

    Some files list key frames by when they are decoded, not shown, and a seek leads past them.
    """
    for key in reversed(keys):
        file.seek(key, stream=stream)
        frames = _decoded_from(file, stream)
        head = next(frames, None)
        if head is not None and head.pts is not None and head.pts <= first:
            return chain([head], frames)
    return iter(())


def _counted(path: Path, rows: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    """Yield frames by their number, decoded from the beginning."""
    wanted = set(rows)
    for row, frame in enumerate(_decoded(path)):
        if row in wanted:
            yield row, frame
        if row >= rows[-1]:
            return


def _decoded(path: Path) -> Iterator[VideoFrame]:
    with _opened(path) as file:
        yield from _decoded_from(file, _stream(file))


def _decoded_from(file: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield every frame from the current place on."""
    for packet in file.demux(stream):
        # An empty packet shows a frame longer; the decoder would take it for the end.
        if packet.size:
            yield from stream.decode(packet)
    yield from stream.decode(None)


def _opened(path: Path) -> InputContainer:
    """Open a clip; titles and names in it may be of any encoding."""
    # Not options of the streams too: they crash PyAV before 17.1.
    limits = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
    try:
        container: InputContainer = _import_av().open(
            str(path), metadata_errors="replace", container_options=limits
        )
    except ValueError as error:
        if getattr(error, "errno", None) == EINVAL:
            raise DataError("is of no form that clips have, or is damaged") from None
        raise
    return container


def _stream(file: InputContainer) -> VideoStream:
    """Return the stream to decode, by one thread: several clips are read at once."""
    from av.stream import Disposition

    for stream in file.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if getattr(stream, "codec_context", None) is None:
                raise DataError("this ffmpeg cannot decode its codec")
            stream.thread_count = 1
            return stream
    raise DataError("has no video stream")


def _import_av() -> Any:
    with needing("Reading clips", "PyAV and Pillow", "video"):
        import av
        import PIL  # noqa: F401  # resizes frames
    return av
