"""Clip files: of each the frames that models need, decoded once and resized as they come.

A first pass reads packets, without decoding, and says which frames there are and when they are
shown; a second decodes from the key frames before those that are needed. So memory holds these
frames only, however long the clip.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.data.base import BrokenSamplesError, check_regular
from committee.data.files import digests_of
from committee.errors import DataError, MissingExtraError
from committee.models import Framing, KeptClip, Preprocessing, needed
from committee.predictions import Array
from committee.samples import Samples

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

CLIP_ENDINGS = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"}
)


class ClipsDataset:
    """Clip files, of which the frames that some models need are decoded when they are read.

    Args:
        root: The folder that ids are relative to.
        samples: Ids are paths of the files.
        recipes: Preprocessings of the models that will look at the clips.

    Raises:
        MissingExtraError: If PyAV or Pillow is not installed.
    """

    def __init__(self, root: Path, samples: Samples, recipes: Sequence[Preprocessing] = ()) -> None:
        _import_av()
        self._root = root
        self._recipes = tuple(dict.fromkeys(recipes))
        self.samples = samples

    def read(self, rows: Array) -> list[KeptClip]:
        """See :class:`committee.data.base.Dataset`."""
        clips, broken = [], []
        for row in rows.tolist():
            name = self.samples.ids[row]
            try:
                check_regular(self._root / name)
                clips.append(read_clip(self._root / name, self._recipes))
            except Exception as error:  # ffmpeg's decoders raise of every kind
                broken.append((name, _reason(error)))
        if broken:
            raise BrokenSamplesError(broken, where=self._root)
        return clips

    def digests(self, rows: Array) -> Array:
        """See :class:`committee.data.base.Dataset`."""
        return digests_of(self._root, self.samples, rows)


def read_clip(path: Path, recipes: Sequence[Preprocessing]) -> KeptClip:
    """Decode what some models need of a clip.

    Frames are turned as the file says, as players do; pixels are taken as square.

    Args:
        path: A file with a video stream; of several the first that is no cover picture.
        recipes: Preprocessings of the models; each has views.

    Raises:
        Exception: Of any kind, if it cannot be read.
        DataError: If there is no video, or a frame that is needed cannot be decoded.
        MissingExtraError: If PyAV or Pillow is not installed.
    """
    line = _timeline(path)
    wanted = needed(line.times, recipes)
    rows = np.unique(np.concatenate([np.empty(0, np.int64), *wanted.values()])).tolist()
    kept: dict[Framing, list[Array]] = {framing: [] for framing in wanted}
    lacking = {framing: set(numbers.tolist()) for framing, numbers in wanted.items()}
    for row, frame in _frames(path, line, rows):
        pixels = frame.pixels({framing.grey for framing in wanted if row in lacking[framing]})
        for framing in wanted:
            if row in lacking[framing]:
                kept[framing].append(framing.fit(pixels[framing.grey]))
    return KeptClip(
        line.times,
        {framing: (numbers, _stacked(kept[framing])) for framing, numbers in wanted.items()},
    )


def _stacked(frames: Sequence[Array]) -> Array:
    if len({frame.shape for frame in frames}) > 1:
        raise DataError("its frames change their proportions on the way")
    return np.stack(frames)


@dataclass(frozen=True, eq=False)
class _Timeline:
    """Which frames a clip has.

    Args:
        times: When each is shown, in seconds, rising from 0, shape (n,).
        stamps: The same in the file's own units; empty if the file does not say.
        keys: Of these the ones at which decoding may begin.
    """

    times: Array
    stamps: Sequence[int]
    keys: Sequence[int]


def _timeline(path: Path) -> _Timeline:
    """Read it from packets, or, where these carry no times, by decoding everything once."""
    with _import_av().open(str(path)) as file:
        stream = _stream(file)
        packets = [
            (packet.pts, packet.is_keyframe)
            for packet in file.demux(stream)
            if packet.size and not packet.is_discard
        ]
        unit = stream.time_base or Fraction(1)
        stamps = sorted(stamp for stamp, _ in packets if stamp is not None)
        keys = sorted(stamp for stamp, key in packets if key and stamp is not None)
        whole = len(set(stamps)) == len(packets) and keys and keys[0] == stamps[0]
        rate = stream.average_rate or Fraction(25)
    if whole:
        times = (np.array(stamps, np.float64) - stamps[0]) * float(unit)
        return _Timeline(times, stamps, keys)
    count = sum(1 for _ in _decoded(path))
    if not count:
        raise DataError("no frame can be decoded")
    return _Timeline(np.arange(count) / float(rate), (), ())


class _Frame:
    """A decoded frame, brought to bytes when it is known which are needed."""

    def __init__(self, frame: VideoFrame, reformat: Any) -> None:
        self._frame, self._reformat = frame, reformat

    def pixels(self, greys: Iterable[bool]) -> dict[bool, Array]:
        """Grey and RGB bytes, those asked for, turned as the file says."""
        turns = round(self._frame.rotation / 90) % 4
        made = {}
        for grey in greys:
            form = "gray" if grey else "rgb24"
            values = self._reformat[grey].reformat(self._frame, format=form).to_ndarray()
            made[grey] = np.ascontiguousarray(np.rot90(values, turns))
        return made


def _frames(path: Path, line: _Timeline, rows: Sequence[int]) -> Iterator[tuple[int, _Frame]]:
    """The frames with these numbers, rising."""
    from av.video.reformatter import VideoReformatter

    # One for each form: it keeps what it has set up, which is most of the work on a small frame.
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
    """Frames by their times, decoded from the key frames before them."""
    row_of = {line.stamps[row]: row for row in rows}
    groups: dict[int, list[int]] = {}
    for stamp in row_of:
        groups.setdefault(bisect_right(line.keys, stamp) - 1, []).append(stamp)
    with _import_av().open(str(path)) as file:
        stream = _stream(file)
        frames, before = file.decode(stream), -1
        for key, stamps in groups.items():
            # To decode on is quicker than to seek the next key frame.
            if key > before + 1:
                frames = _from_key(file, stream, line.keys[: key + 1], stamps[0])
            before = key
            last = stamps[-1]
            for frame in frames:
                if frame.pts in row_of:
                    yield row_of[frame.pts], frame
                if frame.pts is not None and frame.pts >= last:
                    break


def _from_key(
    file: InputContainer, stream: VideoStream, keys: Sequence[int], first: int
) -> Iterator[VideoFrame]:
    """Frames from the last of some key frames on, or from one before it.

    Some files list key frames by when they are decoded, not shown, and lead past the one asked for.
    """
    for key in reversed(keys):
        file.seek(key, stream=stream)
        frames = file.decode(stream)
        head = next(frames, None)
        if head is not None and head.pts is not None and head.pts <= first:
            return chain([head], frames)
    return iter(())


def _counted(path: Path, rows: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    """Frames by their number, decoded from the beginning."""
    wanted = set(rows)
    for row, frame in enumerate(_decoded(path)):
        if row in wanted:
            yield row, frame
        if row >= rows[-1]:
            return


def _decoded(path: Path) -> Iterator[VideoFrame]:
    with _import_av().open(str(path)) as file:
        yield from file.decode(_stream(file))


def _stream(file: InputContainer) -> VideoStream:
    """The stream to decode, by one thread: several clips are read at once.

    Raises:
        DataError: If there is none.
    """
    from av.stream import Disposition

    for stream in file.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            stream.thread_count = 1
            return stream
    raise DataError("has no video stream")


def _reason(error: Exception) -> str:
    """Why a clip cannot be read, in one line for people."""
    # ffmpeg's line has a number and the path besides, which is not recorded.
    told = getattr(error, "strerror", None)
    return str(told or error).split("\n")[0] or type(error).__name__


def _import_av() -> Any:
    try:
        import av
        import PIL  # noqa: F401  # resizes frames
    except ImportError:
        raise MissingExtraError.of("Reading clips", "PyAV and Pillow", "video") from None
    return av
