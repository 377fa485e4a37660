"""Clips of every ending: models see the frames of a full decode, whatever the files say."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_world import recipe, write_clip
from committee.arrays import Array
from committee.data.clips import CLIP_ENDINGS, _displayed, read_clip
from committee.errors import DataError
from committee.models.inputs import Framing
from committee.spec.preprocessing import Preprocessing

av = pytest.importorskip("av", reason="clips are decoded by PyAV")

COUNT, HEIGHT, WIDTH = 40, 64, 80
VIEWS = [
    recipe(resized=[HEIGHT, WIDTH], **fields)
    for fields in (
        {"frames": 1, "temporal": 1},
        {"frames": 1, "temporal": 10},
        {"frames": 2, "temporal": 3, "stride": 5},
        {"frames": 3, "temporal": 2, "rate": 7},
    )
]
EVERY = [recipe(resized=[HEIGHT, WIDTH], frames=1, temporal=n) for n in (2, 3, 7, COUNT)]


def frames_of(count: int = COUNT) -> Array:
    """Frames whose grey and whose stripe tell their number."""
    values = np.empty((count, HEIGHT, WIDTH, 3), np.uint8)
    for number, frame in enumerate(values):
        frame[...] = 20 + 5 * number % 200
        frame[:, 2 * number % WIDTH :][:, :2] = (255, 0, 0)
    return values


def full_decode(path: Path) -> Array:
    """Grey bytes of every frame, decoded from the beginning."""
    with av.open(str(path)) as file:
        if not file.streams.video:
            raise DataError("no clip")
        frames = []
        for packet in file.demux(video=0):
            frames += packet.decode() if packet.size else []
        frames += file.streams.video[0].decode(None)
        if any(frame.is_corrupt for frame in frames):
            raise DataError("damaged")
        return np.stack([frame.to_ndarray(format="gray") for frame in frames])


def check(path: Path, recipes: list[Preprocessing] = VIEWS, count: int | None = COUNT) -> None:
    """Each model, alone and with the others, sees the frames that a full decode gives."""
    expected = full_decode(path)
    assert len(expected) == (count or len(expected))
    for asked in recipes[:1], recipes:
        clip = read_clip(path, asked)
        assert len(clip.times) == len(expected)
        assert (np.diff(clip.times) > 0).all()
        for each in asked:
            assert each.views is not None
            rows = np.unique(each.views.rows(clip.times))
            got = clip.framed(Framing.of(each), rows)[..., 0]
            np.testing.assert_array_equal(got, expected[rows], err_msg=f"{path.name} {rows}")


B = {"g": "12", "bf": "3"}
MADE: dict[str, list[tuple[str, str, dict[str, str]]]] = {
    ".mp4": [
        ("libx264", "yuv420p", B),
        ("libx264", "yuv420p", {"g": "250", "bf": "0"}),
        ("libx265", "yuv420p", {"g": "12", "x265-params": "log-level=none:open-gop=1"}),
        ("mpeg4", "yuv420p", {"g": "12", "bf": "2"}),
        ("mpeg2video", "yuv420p", {"g": "12", "bf": "2"}),
    ],
    ".m4v": [("libx264", "yuv420p", {"g": "5", "bf": "1"})],
    ".mov": [("prores", "yuv422p10le", {}), ("libx264", "yuv420p", {"g": "1"})],
    ".3gp": [("libx264", "yuv420p", {"g": "12", "bf": "2"}), ("mpeg4", "yuv420p", {"g": "12"})],
    ".3g2": [("libx264", "yuv420p", {"g": "12"})],
    ".mkv": [
        ("libx264", "yuv420p", {**B, "x264-params": "open-gop=1"}),
        ("libx264", "yuv420p", {"g": "12", "x264-params": "intra-refresh=1"}),
        ("mpeg2video", "yuv420p", {"g": "9", "bf": "2"}),
        ("ffv1", "yuv420p", {"g": "4"}),
    ],
    ".webm": [
        ("libvpx-vp9", "yuv420p", {"g": "9", "b:v": "0", "cpu-used": "8"}),
        (
            "libvpx",
            "yuv420p",
            {"g": "30", "auto-alt-ref": "1", "b:v": "1M", "crf": "10"},
        ),
    ],
    ".flv": [("libx264", "yuv420p", B), ("flv", "yuv420p", {"g": "12"})],
    ".avi": [
        ("libx264", "yuv420p", B),
        ("mpeg4", "yuv420p", {"g": "12", "bf": "2"}),
        ("mpeg4", "yuv420p", {"g": "250"}),
        ("mjpeg", "yuvj420p", {}),
    ],
    ".wmv": [("wmv2", "yuv420p", {"g": "12"}), ("wmv1", "yuv420p", {"g": "5"})],
    ".asf": [("wmv2", "yuv420p", {"g": "12"}), ("libx264", "yuv420p", B)],
    ".mpg": [
        ("mpeg1video", "yuv420p", {"g": "12", "bf": "2"}),
        ("mpeg2video", "yuv420p", {"g": "12", "bf": "2"}),
    ],
    ".mpeg": [("mpeg2video", "yuv420p", {"g": "15"})],
    ".vob": [("mpeg2video", "yuv420p", {"g": "12", "bf": "2"})],
    ".ts": [("libx264", "yuv420p", B), ("mpeg2video", "yuv420p", {"g": "12", "bf": "2"})],
    ".mts": [("libx264", "yuv420p", {"g": "12", "flags": "+ildct"})],
    ".m2ts": [("libx264", "yuv420p", {"g": "250", "bf": "2"})],
    ".ogv": [("libvpx", "yuv420p", {"g": "12", "crf": "10"})],
    ".gif": [("gif", "rgb8", {})],
}
CASES = [(ending, *each) for ending, some in MADE.items() for each in some]


def test_every_ending_is_tested() -> None:
    assert MADE.keys() == CLIP_ENDINGS


@pytest.mark.parametrize(("ending", "codec", "form", "options"), CASES, ids=str)
def test_frames_are_those_of_a_full_decode(
    tmp_path: Path, ending: str, codec: str, form: str, options: dict[str, str]
) -> None:
    rate = 25 if codec.startswith("mpeg") else 10
    check(write_clip(tmp_path / f"a{ending}", frames_of(), codec, rate, form, **options))


def remuxed(source: Path, target: Path, change: Callable[[list[Any]], list[Any]]) -> Path:
    """The packets of a clip, changed, in another file."""
    with av.open(str(source)) as file, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0])
        packets = [packet for packet in file.demux(video=0) if packet.size]
        for packet in change(packets):
            packet.stream = stream
            out.mux(packet)
    return target


def in_order_of_decoding(packets: list[Any]) -> list[Any]:
    """Times as of a container that knows none: each packet is shown when it comes."""
    for packet in packets:
        packet.pts = packet.dts
    return packets


def begun_late(packets: list[Any]) -> list[Any]:
    """What is shown begins in the middle of a group, with the frames before it cut by an edit."""
    step = packets[1].dts - packets[0].dts
    for packet in packets:
        packet.pts -= 5 * step
        packet.dts -= 5 * step
    return packets


def shifted(packets: list[Any]) -> list[Any]:
    for packet in packets:
        packet.pts += 100_000
        packet.dts += 100_000
    return packets


def without_head(packets: list[Any]) -> list[Any]:
    return packets[3:]


@pytest.mark.skipif(int(av.__version__.split(".")[0]) < 15, reason="PyAV copies no headers yet")
@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(
    "change",
    [
        in_order_of_decoding,
        begun_late,
        shifted,
        lambda packets: packets[:-2],
        lambda packets: packets[:13] + packets[15:],
        without_head,
    ],
    ids=["lying", "edited", "late", "no tail", "a gap", "no head"],
)
def test_what_packets_say_is_held_against_the_frames(
    tmp_path: Path, ending: str, change: Callable[[list[Any]], list[Any]]
) -> None:
    source = write_clip(tmp_path / "a.mp4", frames_of(), g="12", bf="3")
    if (ending, change) == (".ts", without_head):
        pytest.skip("ffmpeg itself reads no such file")
    check(remuxed(source, tmp_path / f"b{ending}", change), VIEWS + EVERY, count=None)


@pytest.mark.parametrize(
    ("ending", "codec"), [(".avi", "mpeg4"), (".avi", "libx264"), (".mkv", "libx264"), (".mp4", "")]
)
def test_frames_that_are_shown_longer_are_one_frame(
    tmp_path: Path, ending: str, codec: str
) -> None:
    """An avi says so by empty packets, which end a decoder's work if it gets them."""
    stamps = np.cumsum(np.arange(20) % 4 + 1)
    path = write_clip(
        tmp_path / f"a{ending}",
        frames_of(20),
        codec or "mjpeg",
        stamps=stamps,
        form="yuvj420p" if not codec else "yuv420p",
    )
    check(path, VIEWS + EVERY, count=20)


@pytest.mark.parametrize("ending", [".mkv", ".avi", ".mpg", ".flv", ".wmv"])
@pytest.mark.parametrize("share", [0.5, 0.98])
def test_a_broken_tail_is_named_or_leaves_the_frames_of_a_full_decode(
    tmp_path: Path, ending: str, share: float
) -> None:
    codec = {".mpg": "mpeg2video", ".wmv": "wmv2"}.get(ending, "libx264")
    rate = 25 if ending == ".mpg" else 10
    options = {"g": "12"} if codec == "wmv2" else {"g": "12", "bf": "2"}
    path = write_clip(tmp_path / f"a{ending}", frames_of(), codec, rate, **options)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    try:
        full_decode(path)
    except (av.FFmpegError, DataError):
        with pytest.raises((av.FFmpegError, DataError)):
            read_clip(path, EVERY)
    else:
        check(path, EVERY, count=None)


# --- Display matrices -----------------------------------------------------------------------------

RIGHT = list(itertools.product((1, -1), (1, -1), (False, True)))


@pytest.mark.parametrize(("across", "down", "crossed"), RIGHT)
def test_a_matrix_moves_pixels_where_it_says(across: int, down: int, crossed: bool) -> None:
    """Each pixel (x, y) goes to (a x + c y, b x + d y), up to a shift and a scale."""
    pixels = np.arange(6).reshape(2, 3)
    a, b, c, d = (0, down, across, 0) if crossed else (across, 0, 0, down)
    places = {(a * x + c * y, b * x + d * y): pixels[y, x] for y in range(2) for x in range(3)}
    left, top = (min(place[axis] for place in places) for axis in (0, 1))
    expected = np.empty((3, 2) if crossed else (2, 3), int)
    for (x, y), value in places.items():
        expected[y - top, x - left] = value
    matrix = [value * 65536 for value in (a, b, 0, c, d, 0, 7, 9)]
    np.testing.assert_array_equal(_displayed(pixels, [*matrix, 1 << 30]), expected)
    doubled = [2 * value for value in matrix]
    np.testing.assert_array_equal(_displayed(pixels, [*doubled, 1 << 30]), expected)


@pytest.mark.parametrize("numbers", [(1, 1, -1, 1), (1, 0.5, 0, 1), (0, 0, 0, 0), (1, 0, 0, 0)])
def test_other_matrices_are_refused(numbers: tuple[float, ...]) -> None:
    a, b, c, d = (round(65536 * each) for each in numbers)
    with pytest.raises(DataError, match=r"its display matrix \(.*\) neither turns"):
        _displayed(np.zeros((2, 3)), [a, b, 0, c, d, 0, 0, 0, 1 << 30])


def with_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    numbers = [round(65536 * each) for each in (a, b, 0, c, d, 0, 0, 0)]
    data[place : place + 36] = struct.pack(">9i", *numbers, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("across", "down", "crossed"), RIGHT)
def test_files_are_shown_by_their_matrix(
    tmp_path: Path, across: int, down: int, crossed: bool
) -> None:
    frames = np.zeros((3, 32, 32, 3), np.uint8)
    frames[:, :16, :16] = 200
    frames[:, :16, 16:] = 100
    numbers = (0, down, across, 0) if crossed else (across, 0, 0, down)
    path = with_matrix(write_clip(tmp_path / "a.mp4", frames), *numbers)
    asked = recipe(size=8, resized=[32, 32], frames=1, temporal=1)
    shown = read_clip(path, [asked]).framed(Framing.of(asked), np.array([1]))[0, ..., 0]
    expected = frames[0, ..., 0].T if crossed else frames[0, ..., 0]
    assert np.abs(shown - expected[::down, ::across].astype(int)).mean() < 4


def test_a_clip_that_is_shown_askew_is_refused(tmp_path: Path) -> None:
    path = with_matrix(write_clip(tmp_path / "a.mp4", frames_of(3)), 0.8, 0.6, -0.6, 0.8)
    with pytest.raises(DataError, match="neither turns by right angles nor mirrors"):
        read_clip(path, VIEWS)


# --- What may stand in a file besides -------------------------------------------------------------


def test_titles_may_be_of_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        file.metadata["title"] = "A film about cafés"
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for values in frames_of(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(values, "rgb24")))
        file.mux(stream.encode())
    title = "cafés".encode()
    assert title in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(title, "cafés ".encode("latin-1")))
    assert len(read_clip(path, VIEWS).times) == 3


def test_a_clip_that_no_decoder_knows_is_named_so(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", frames_of(3))
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XYZ"))
    with pytest.raises(DataError, match="this ffmpeg cannot decode its codec"):
        read_clip(path, VIEWS)
