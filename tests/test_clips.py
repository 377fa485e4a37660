"""Views of clips, and clip files: which frames are seen, exactly, and what cannot be read."""

from __future__ import annotations

import shutil
import struct
import wave
from pathlib import Path
from socketserver import TCPServer
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_world import number_of, numbered, recipe, write_clip
from committee.arrays import Array
from committee.data.base import BrokenSamplesError, readable
from committee.data.clips import ClipsDataset, read_clip
from committee.data.open import open_data
from committee.errors import DataError, PoolFileError, UnknownNameError
from committee.models.inputs import ArrayClip, Framing, inputs_of, needed_frames
from committee.pool.samples import Samples
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing
from committee.spec.views import Views, spread_out
from committee.testing import check_data

pytest.importorskip("av", reason="clips are decoded by PyAV")

COUNT = 40


def seen(clip: object, asked: Preprocessing) -> Array:
    """Numbers of the frames that each view shows, (views, frames)."""
    inputs = inputs_of([clip], asked)  # type: ignore[list-item]
    assert not isinstance(inputs, np.ndarray)
    views = np.concatenate(list(inputs.parts()))
    assert views.shape == inputs.shape[1:]
    levels = views.mean(axis=(1, 3, 4)) * 255
    return np.array([[number_of(level) for level in view] for view in levels])


# --- Views ----------------------------------------------------------------------------------------


@given(
    st.integers(1, 5), st.integers(1, 3), st.integers(1, 6), st.integers(1, 3), st.integers(1, 60)
)
def test_views_begin_with_the_clip_and_end_with_it(
    frames: int, stride: int, temporal: int, spatial: int, count: int
) -> None:
    views = Views(frames, stride, temporal=temporal, spatial=spatial)
    rows = views.rows(np.arange(count) / 25)
    assert rows.shape == (temporal * spatial, frames)
    assert rows.min() >= 0
    assert rows.max() <= count - 1
    if (frames - 1) * stride < count:
        assert (np.diff(rows) == stride).all()
        if temporal > 1:
            assert (rows[0, 0], rows[-1, -1]) == (0, count - 1)
    else:
        # Too short: it begins with the clip and holds the last frame.
        assert (rows == np.minimum(np.arange(frames) * stride, count - 1)).all()


@given(st.integers(1, 6), st.integers(1, 3), st.data())
def test_blocks_deal_out_every_view_once(temporal: int, spatial: int, data: st.DataObject) -> None:
    total = temporal * spatial
    blocks = data.draw(st.sampled_from([n for n in range(1, total + 1) if total % n == 0]))
    parts = [
        Views(2, temporal=temporal, spatial=spatial, blocks=blocks, block=block)
        for block in range(blocks)
    ]
    dealt = [view for part in parts for view in part.chosen()]
    assert sorted(dealt) == [divmod(number, spatial) for number in range(total)]
    assert {part.count for part in parts} == {total // blocks}


def test_first_block_is_the_middle_one_and_the_next_the_farthest() -> None:
    order = [Views(1, temporal=5, spatial=1, blocks=5, block=b).chosen()[0][0] for b in range(5)]
    assert order == [2, 0, 4, 1, 3]


def test_rate_takes_the_frame_that_stands_at_each_moment() -> None:
    times = np.array([0.0, 0.1, 0.5, 0.6, 0.7])
    rows = Views(8, rate=10.0, temporal=1, spatial=1).rows(times)
    assert rows.tolist() == [[0, 1, 1, 1, 1, 2, 3, 4]]
    rows = Views(3, stride=2, rate=10.0, temporal=2, spatial=1).rows(times)
    assert rows.tolist() == [[0, 1, 1], [1, 2, 4]]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"frames": 0}, "frames must be a whole number"),
        ({"rate": -1}, "rate must be frames a second"),
        ({"frames": 10**9}, "frames must be a whole number from 1 to 10,000"),
        ({"temporal": 3_000_000}, "temporal must be a whole number from 1 to 1,000"),
        ({"temporal": 100, "spatial": 100}, "100 x 100 views are too many"),
        ({"stride": 10**30}, "stride must be a whole number from 1 to 100,000"),
        ({"rate": 1e12}, "rate must be frames a second, up to 1,000"),
        ({"resized": [10**6, 10**6]}, "resized must be .* from 1 to 16,384 pixels"),
        ({"blocks": 4}, "3 x 1 views do not divide into 4 blocks of one size"),
        ({"layout": "CHW"}, "frames must be 1, not 4"),
        ({"block": 1}, "there is no block 1 of 1"),
        ({"resized": [4, 9]}, "must hold the size"),
    ],
)
def test_impossible_views_are_refused(fields: dict[str, object], told: str) -> None:
    with pytest.raises(PoolFileError, match=told):
        recipe(**fields)
    with pytest.raises(UnknownNameError, match="no field 'frame'"):
        recipe(frame=2)


def test_a_crop_that_makes_frames_without_end_is_refused() -> None:
    with pytest.raises(PoolFileError, match="more than 16,384 pixels a side"):
        Preprocessing((8, 8), crop=1e-9, views=Views(1))


def test_stored_views_are_read_as_they_were() -> None:
    asked = recipe(rate=12.5, resized=[9, 20], antialias=False, blocks=3, block=2)
    assert Preprocessing.from_json(asked.to_json()) == asked
    assert "views" not in Preprocessing((4, 4)).to_json()


@pytest.mark.parametrize(
    ("layout", "shape"), [("CTHW", (1, 4, 8, 8)), ("TCHW", (4, 1, 8, 8)), ("CHW", (1, 8, 8))]
)
def test_layouts_hold_the_same_frames(layout: str, shape: tuple[int, ...]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (12, 8, 8), np.uint8)
    asked = recipe(frames=1 if layout == "CHW" else 4, layout=layout, temporal=1)
    inputs = inputs_of([ArrayClip(frames)], asked)
    assert not isinstance(inputs, np.ndarray)
    (part,) = inputs.parts()
    assert part.shape == (1, *shape) == (1, *asked.shape)
    first = (12 - shape[0] * shape[1] if layout != "CHW" else 11) // 2
    expected = frames[round(11 / 2)] if layout == "CHW" else frames[4:8]
    assert first >= 4
    np.testing.assert_allclose(part.squeeze() * 255, expected, atol=1e-4)


def test_spatial_crops_lie_along_the_longer_side() -> None:
    wide = np.broadcast_to(np.arange(20, dtype=np.uint8) * 10, (3, 8, 20))
    inputs = inputs_of([ArrayClip(wide)], recipe(frames=1, temporal=1, spatial=3))
    assert not isinstance(inputs, np.ndarray)
    (part,) = inputs.parts()
    assert (part[:, 0, 0, 0, 0] * 25.5).round().astype(int).tolist() == [0, 6, 12]
    tall = inputs_of([ArrayClip(wide.transpose(0, 2, 1))], recipe(frames=1, temporal=1, spatial=3))
    assert not isinstance(tall, np.ndarray)
    np.testing.assert_array_equal(next(tall.parts()), part.swapaxes(3, 4))
    assert spread_out(5, 1) == [2]


@pytest.mark.parametrize("antialias", [True, False])
def test_resizing_is_that_of_pytorch(antialias: bool) -> None:
    torch = pytest.importorskip("torch", reason="torch resizes to compare")
    frames = np.random.default_rng(0).integers(0, 256, (1, 37, 61, 3), np.uint8)
    views = Views(1, temporal=1, spatial=1, resized=(16, 24), antialias=antialias)
    asked = Preprocessing((16, 24), interpolation="bilinear", views=views)
    ours = ArrayClip(frames).framed(Framing.of(asked), np.array([0]))[0]
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(frames).permute(0, 3, 1, 2).float(),
        (16, 24),
        mode="bilinear",
        antialias=antialias,
        align_corners=False,
    )
    assert np.abs(ours - theirs[0].permute(1, 2, 0).numpy()).max() <= 1.01


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 4, 4)), np.zeros((0, 4, 4), np.uint8), np.zeros((4, 4), np.uint8)]
)
def test_what_is_no_clip_is_refused(frames: Array) -> None:
    with pytest.raises(DataError, match="a clip must be bytes"):
        ArrayClip(frames)


def test_samples_of_the_other_task_are_refused() -> None:
    clip = ArrayClip(np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(DataError, match="takes images, not clips"):
        inputs_of([clip], Preprocessing((4, 4)))
    with pytest.raises(DataError, match="takes clips, not images"):
        inputs_of(np.zeros((2, 8, 8), np.uint8), recipe())
    with pytest.raises(DataError, match="whose rate nobody knows"):
        inputs_of([clip], recipe(rate=5))


# --- Clip files -----------------------------------------------------------------------------------

WRITTEN = {
    "mp4": ("libx264", {"g": "7", "bf": "2"}),
    "mov": ("libx264", {"g": "1"}),
    "mkv": ("libx264", {"g": "250", "bf": "3"}),
    "webm": ("libvpx-vp9", {"g": "9", "b:v": "0"}),
    "avi": ("mpeg4", {"g": "12", "qscale": "1", "b:v": "2M"}),
}


@pytest.mark.parametrize("ending", WRITTEN)
@pytest.mark.parametrize(
    "fields",
    [
        {"frames": 4, "temporal": 3},
        {"frames": 2, "stride": 3, "temporal": 5},
        {"frames": 1, "temporal": 2},
        {"frames": 4, "temporal": 1, "rate": 5},
    ],
    ids=str,
)
def test_views_show_the_very_frames(tmp_path: Path, ending: str, fields: dict[str, object]) -> None:
    codec, options = WRITTEN[ending]
    path = write_clip(tmp_path / f"a.{ending}", numbered(COUNT), codec, **options)
    asked = recipe(**fields)
    clip = read_clip(path, [asked])
    assert asked.views is not None
    np.testing.assert_allclose(clip.times, np.arange(COUNT) / 10, atol=2e-3)
    expected = asked.views.rows(np.arange(COUNT) / 10)
    assert np.abs(seen(clip, asked) - expected).max() == 0


def test_only_what_models_see_is_kept_and_once_for_all(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", numbered(COUNT))
    blocks = [recipe(temporal=4, blocks=2, block=block) for block in range(2)]
    other = recipe(frames=2, temporal=1)
    wide = recipe(size=12, frames=1, temporal=1)
    wanted = needed_frames(np.arange(COUNT) / 10, [*blocks, other, wide])
    assert sorted(len(rows) for rows in wanted.values()) == [1, 4 * 4 + 2]
    clip = read_clip(path, [*blocks, other, wide])
    for asked in (*blocks, other, wide):
        alone = read_clip(path, [asked])
        np.testing.assert_array_equal(seen(clip, asked), seen(alone, asked))
    with pytest.raises(DataError, match="was read for other models"):
        seen(clip, recipe(size=10))


def test_frames_that_come_unevenly_are_taken_by_time(tmp_path: Path) -> None:
    stamps = np.array([0, 1, 2, 10, 11, 30])
    path = write_clip(tmp_path / "a.mkv", numbered(6), stamps=stamps)
    clip = read_clip(path, [recipe(frames=6, rate=2, temporal=1)])
    np.testing.assert_allclose(clip.times, stamps / 10, atol=2e-3)
    assert seen(clip, recipe(frames=6, rate=2, temporal=1)).tolist() == [[0, 2, 3, 4, 4, 4]]


def test_turned_clips_are_shown_upright(tmp_path: Path) -> None:
    frames = np.zeros((4, 16, 32, 3), np.uint8)
    frames[:, :, :16] = 200
    path = write_clip(tmp_path / "a.mp4", frames)
    asked = recipe(size=16, frames=1, temporal=1, spatial=2)
    (lying,) = inputs_of([read_clip(path, [asked])], asked).parts()  # type: ignore[union-attr]
    assert (lying[0].mean() > 0.7, lying[1].mean() < 0.1) == (True, True)
    # The matrix of the track, as a telephone writes it that was held upright: 90 degrees clockwise.
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    data[place : place + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    (upright,) = inputs_of([read_clip(path, [asked])], asked).parts()  # type: ignore[union-attr]
    # What lay left stands above, so that crops lie below one another.
    assert (upright[0].mean() > 0.7, upright[1].mean() < 0.1) == (True, True)


@pytest.mark.parametrize(
    ("shape", "form", "codec"),
    [
        ((33, 47), "yuv444p", "libx264"),
        ((64, 16), "yuv420p", "libx264"),
        ((16, 24), "gray", "libx264"),
        ((10, 300), "yuv420p", "libx264"),
    ],
    ids=str,
)
def test_odd_and_grey_clips(tmp_path: Path, shape: tuple[int, int], form: str, codec: str) -> None:
    path = write_clip(tmp_path / "a.mkv", numbered(6, *shape), codec, form=form)
    asked = recipe(frames=3, temporal=2, spatial=2)
    expected = np.repeat([[0, 1, 2], [3, 4, 5]], 2, axis=0)
    np.testing.assert_array_equal(seen(read_clip(path, [asked]), asked), expected)
    colours = Preprocessing((8, 8), views=asked.views)
    (part,) = inputs_of([read_clip(path, [colours])], colours).parts()  # type: ignore[union-attr]
    assert part.shape == (4, 3, 3, 8, 8)


def test_one_frame_fills_every_view(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", numbered(1))
    asked = recipe(temporal=2, rate=30)
    assert seen(read_clip(path, [asked]), asked).tolist() == [[0] * 4] * 2


def test_an_ending_may_lie(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", numbered(6)).rename(tmp_path / "a.mp4")
    asked = recipe(frames=2, temporal=1)
    assert seen(read_clip(path, [asked]), asked).tolist() == [[2, 3]]


def _sound(path: Path) -> None:
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        silence = np.zeros((1, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, "fltp", "mono")
        frame.sample_rate = 8000
        file.mux([*stream.encode(frame), *stream.encode(None)])


def _bare_sound(path: Path) -> None:
    with wave.open(str(path.with_suffix(".wav")), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 800)
    path.with_suffix(".wav").rename(path)


def _halved(path: Path) -> None:
    write_clip(path, numbered(COUNT))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BROKEN = {
    "empty.mp4": (lambda path: path.write_bytes(b""), "Invalid data found"),
    "text.mp4": (lambda path: path.write_text("no clip"), "Invalid data found"),
    "sound.mp4": (_sound, "has no video stream"),
    "wav.mp4": (_bare_sound, "is of no form that clips have"),
    "half.mp4": (_halved, "Invalid data found"),
    "gone.mp4": (lambda path: path.symlink_to("nowhere"), "No such file or directory"),
}


def data_of(folder: Path) -> ClipsDataset:
    names = tuple(sorted(path.name for path in folder.iterdir()))
    return ClipsDataset(folder, Samples(names, None), [recipe()])


def test_what_cannot_be_read_is_named_with_its_reason(tmp_path: Path) -> None:
    for name, (make, _) in BROKEN.items():
        make(tmp_path / name)
    write_clip(tmp_path / "a.mp4", numbered(6))
    dataset = data_of(tmp_path)
    with pytest.raises(BrokenSamplesError) as caught:
        dataset.read(np.arange(len(dataset.samples)))
    told = dict(caught.value.broken)
    assert told.keys() == BROKEN.keys()
    for name, (_, reason) in BROKEN.items():
        assert reason in told[name]
        assert str(tmp_path) not in told[name]
        assert "\n" not in told[name]


@pytest.mark.parametrize("ending", ["mkv", "avi"])
def test_a_cut_off_clip_ends_earlier_or_is_named(tmp_path: Path, ending: str) -> None:
    codec, options = WRITTEN[ending]
    path = write_clip(tmp_path / f"a.{ending}", numbered(COUNT), codec, **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    asked = recipe(frames=2, temporal=2)
    dataset = ClipsDataset(tmp_path, Samples((path.name,), None), [asked])
    _, clips, broken = readable(dataset, np.array([0]))
    assert [reason.startswith(("Invalid data found", "frame ")) for _, reason in broken] in (
        [],
        [True],
    )
    for clip in clips:
        assert 2 <= len(clip.times) < COUNT  # type: ignore[union-attr]
        assert seen(clip, asked)[0].tolist() == [0, 1]
    assert len(clips) + len(broken) == 1


def test_a_data_set_of_clips_keeps_the_contract(tmp_path: Path) -> None:
    for number, ending in enumerate(WRITTEN):
        codec, options = WRITTEN[ending]
        frames = numbered(30)[number:]
        write_clip(tmp_path / f"{number}.{ending}", frames, codec, **options)
    (tmp_path / "x.mp4").write_text("no clip")
    check_data(data_of(tmp_path), broken=[5], recipe=recipe())
    digests = data_of(tmp_path).digests(np.arange(6))
    shutil.copy(tmp_path / "0.mp4", tmp_path / "1.mov")
    assert (data_of(tmp_path).digests(np.arange(6)) == digests).tolist() == [
        True,
        False,
        *[True] * 4,
    ]


def test_a_long_clip_is_not_decoded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import committee.data.clips as reading

    count = 1200
    path = write_clip(tmp_path / "a.mp4", numbered(count), g="30")
    decoded: list[int] = []
    real = reading._sought

    def counting(*args: object) -> object:
        for row, frame in real(*args):  # type: ignore[arg-type]
            decoded.append(row)
            yield row, frame

    monkeypatch.setattr(reading, "_sought", counting)
    seeks: list[int] = []
    from_key = reading._from_key
    monkeypatch.setattr(
        reading, "_from_key", lambda *args: (seeks.append(args[3]), from_key(*args))[1]
    )
    asked = recipe(frames=2, temporal=5)
    expected = asked.views.rows(np.arange(count) / 10) % 40  # type: ignore[union-attr]
    np.testing.assert_array_equal(seen(read_clip(path, [asked]), asked), expected)
    assert len(decoded) == 10
    assert len(seeks) == 4


# --- Opening --------------------------------------------------------------------------------------

SPECS = [ModelSpec("a", "python:m:f", recipe())]


def test_folders_and_tables_of_clips(tmp_path: Path) -> None:
    for name in ("fall/a.mp4", "rise/b.webm", "rise/c.MP4"):
        codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
        path = tmp_path / "data" / name.lower()
        write_clip(path, numbered(4), codec).rename(path.with_name(Path(name).name))
    (tmp_path / "data" / "rise" / "notes.txt").write_text("not a clip")
    (tmp_path / "data" / "rise" / "cover.jpg").write_text("not a clip")
    found = open_data(tmp_path / "data", "val", ["fall", "rise"], models=SPECS)
    assert found.samples.ids == ("fall/a.mp4", "rise/b.webm", "rise/c.MP4")
    assert found.samples.labels.tolist() == [0, 1, 1]  # type: ignore[union-attr]
    assert len(found.read(np.arange(3))) == 3
    (tmp_path / "data" / "t.csv").write_text("path,label\nrise/b.webm,rise\n")
    table = open_data(tmp_path / "data" / "t.csv", "val", ["fall", "rise"], models=SPECS)
    assert table.samples.ids == ("rise/b.webm",)
    with pytest.raises(DataError, match="no image in it"):
        open_data(tmp_path / "data" / "fall", "val", ["fall", "rise"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no clip in it or its folders \(\.mp4, \.mov"):
        open_data(tmp_path / "empty", models=SPECS)
    (tmp_path / "a.npz").write_text("")
    with pytest.raises(DataError, match=r"is of no known form.*a file \(\.csv\) or one clip"):
        open_data(tmp_path / "a.npz", models=SPECS)


LISTS = {
    "ffconcat": "ffconcat version 1.0\nfile {}\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
    "dash": """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
        mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">
        <Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1000">
        <BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>""",
}


@pytest.mark.parametrize("form", LISTS)
def test_lists_open_neither_files_nor_addresses(tmp_path: Path, form: str) -> None:
    write_clip(tmp_path / "a.ts", numbered(12), codec="libx264")
    assert read_clip(tmp_path / "a.ts", [recipe()])
    connected = []
    with TCPServer(("127.0.0.1", 0), lambda *_: connected.append(1)) as server:  # type: ignore[arg-type, return-value]
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/a.ts"
        for place in ("a.ts", "missing.ts", address):
            (tmp_path / "list.mp4").write_text(LISTS[form].format(place))
            # Some ffmpegs know no DASH, or know a playlist by its ending alone.
            with pytest.raises((DataError, ValueError)) as caught:
                read_clip(tmp_path / "list.mp4", [recipe()])
            assert isinstance(caught.value, DataError) or "Invalid data" in str(caught.value)
            # Known by its form, whether or not what it names is there.
            assert form != "ffconcat" or "no form that clips have" in str(caught.value)
        server.shutdown()
    assert not connected
