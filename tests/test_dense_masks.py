"""Masks and images of every form: read as they were written, or refused; skipped is told."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from committee import Cascade
from committee.arrays import Array
from committee.cli import main
from committee.data.files import ENDINGS, decoded
from committee.data.segmentation import LABELS, MASK_ENDINGS, open_segmentation
from committee.errors import DataError, PoolFileError
from committee.export.bundle import write_bundle
from committee.models.inputs import prepared
from committee.models.pool_file import read_pool_file
from committee.pool.prefixes import prefixes_of
from committee.segment.predict import predict_tiles
from committee.segment.run import Segmenter, _classes_image
from committee.segment.store import _load_tiles, left_out
from committee.spec.preprocessing import Preprocessing
from dense_world import CLASSES, IGNORED, SIZE, predicted, write_world
from test_dense_bundle import write_onnx

TRUTH = np.random.default_rng(1).integers(0, 3, SIZE).astype(np.uint8)


def folder_of(root: Path, mask: str = "a.png", image: str = "a.png") -> Path:
    """A folder with one image and a place for its mask."""
    for name in ("images", LABELS):
        (root / name).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1]).save(root / "images" / image)
    return root / LABELS / mask


def read(root: Path, classes: tuple[str, ...] = CLASSES, ignore: int | None = None) -> Array:
    return open_segmentation(root, "val", classes, ignore).label(0, SIZE)


def with_palette(values: Array) -> Image.Image:
    image = Image.fromarray(values)
    image.putpalette(list(range(255, -1, -1)) * 3)
    return image


def png(values: Array, bits: int) -> bytes:
    """A grey png whose samples have few bits, as PyPNG and others write them."""
    height, width = values.shape
    rows = np.unpackbits(values[..., None], axis=2)[..., -bits:].reshape(height, -1)
    data = b"".join(b"\0" + np.packbits(row).tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    blocks = (
        struct.pack(">I", len(p)) + k + p + struct.pack(">I", zlib.crc32(k + p)) for k, p in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(blocks)


@pytest.mark.parametrize("ending", sorted(MASK_ENDINGS))
@pytest.mark.parametrize("capital", [False, True])
def test_masks_are_read_as_they_were_written(tmp_path: Path, ending: str, capital: bool) -> None:
    values, image = TRUTH, Image.fromarray(TRUTH)
    if ending == ".pbm":
        values = TRUTH % 2
        image = Image.fromarray(values.astype(bool))
    path = folder_of(tmp_path, f"a{ending}")
    image.save(path)
    path.rename(path.with_suffix(ending.upper() if capital else ending))
    np.testing.assert_array_equal(read(tmp_path), values)


@pytest.mark.parametrize("values", [[0, 2], [0, 1, 2], [2], [1, 2]])
def test_a_grey_gif_reads_as_its_png(tmp_path: Path, values: list[int]) -> None:
    truth = np.resize(np.array(values, np.uint8), TRUTH.shape)
    Image.fromarray(truth).save(folder_of(tmp_path, "a.gif"))
    np.testing.assert_array_equal(read(tmp_path), truth)


def test_a_gif_with_colours_is_refused(tmp_path: Path) -> None:
    with_palette(np.where(TRUTH == 1, 0, TRUTH)).save(folder_of(tmp_path, "a.gif"))
    with pytest.raises(DataError, match="writers number colours anew"):
        read(tmp_path)


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
def test_masks_with_a_palette_are_indices(tmp_path: Path, ending: str) -> None:
    with_palette(TRUTH).save(folder_of(tmp_path, f"a{ending}"))
    np.testing.assert_array_equal(read(tmp_path), TRUTH)


@pytest.mark.parametrize("ending", [".png", ".tif", ".pgm"])
def test_masks_of_16_bit_keep_their_numbers(tmp_path: Path, ending: str) -> None:
    values = TRUTH.astype(np.uint16)
    values[0] = 65535
    path = folder_of(tmp_path, f"a{ending}")
    if ending == ".pgm":  # which old versions of Pillow only read
        path.write_bytes(b"P5 %d %d 65535\n" % values.shape[::-1] + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(path)
    np.testing.assert_array_equal(read(tmp_path, ignore=65535), values)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_masks_of_few_bits_keep_their_numbers(tmp_path: Path, bits: int) -> None:
    values = TRUTH & (2**bits - 1)
    folder_of(tmp_path).write_bytes(png(values, bits))
    np.testing.assert_array_equal(read(tmp_path), values)


def test_masks_of_one_bit_are_classes_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(TRUTH == 1).save(folder_of(tmp_path))
    np.testing.assert_array_equal(read(tmp_path, ("other", "road")), TRUTH == 1)


@pytest.mark.parametrize(
    ("mode", "told"),
    [("RGB", "mode RGB"), ("RGBA", "mode RGBA"), ("LA", "mode LA"), ("F", "mode F")],
)
def test_masks_without_indices_are_refused(tmp_path: Path, mode: str, told: str) -> None:
    path = folder_of(tmp_path, "a.tif")
    Image.fromarray(TRUTH).convert(mode).save(path)
    with pytest.raises(DataError, match=told):
        read(tmp_path)


def test_masks_that_were_stored_with_loss_are_refused(tmp_path: Path) -> None:
    path = folder_of(tmp_path, "a.jpg")
    Image.fromarray(TRUTH).save(path)
    with pytest.raises(DataError, match=r"have no labels: 'a.png'; 'a.jpg' are stored with loss"):
        read(tmp_path)
    path.rename(path.with_suffix(".png"))
    with pytest.raises(DataError, match="JPEG changes numbers"):
        read(tmp_path)
    path.with_suffix(".png").unlink()
    Image.fromarray(TRUTH).save(path.with_suffix(".tif"), compression="jpeg")
    with pytest.raises(DataError, match="compression by jpeg changes numbers"):
        read(tmp_path)


def test_a_mask_whose_numbers_readers_scale_is_refused(tmp_path: Path) -> None:
    head = f"P5 {SIZE[1]} {SIZE[0]} 2\n".encode()
    folder_of(tmp_path, "a.pgm").write_bytes(head + TRUTH.tobytes())
    with pytest.raises(DataError, match="readers scale by it"):
        read(tmp_path)


def test_labels_that_are_no_classes_are_counted(tmp_path: Path) -> None:
    values = TRUTH.copy()
    values[0, :7] = [200, 201, 202, 203, 204, 205, 206]
    Image.fromarray(values).save(folder_of(tmp_path))
    with pytest.raises(DataError, match=r"7 of 864 pixels .*'204' and 2 more") as caught:
        read(tmp_path)
    assert "a.png: holds class 200" in str(caught.value)


def test_what_has_no_mask_is_counted_and_the_first_named(tmp_path: Path) -> None:
    for number in range(9):
        folder_of(tmp_path, image=f"{number}.png")
    Image.fromarray(TRUTH).save(tmp_path / LABELS / "8.png")
    with pytest.raises(DataError, match=r"8 of 9 images have no labels: .*'4.png' and 3 more"):
        read(tmp_path)
    Image.fromarray(TRUTH).save(tmp_path / LABELS / "8.TIF")
    with pytest.raises(DataError, match="more than one mask is called '8'"):
        read(tmp_path)


def test_what_systems_leave_is_left_out_and_counted(tmp_path: Path) -> None:
    path = folder_of(tmp_path)
    Image.fromarray(TRUTH).save(path)
    for folder in ("images", LABELS):
        (tmp_path / folder / "._a.png").write_bytes(b"")
        (tmp_path / folder / ".ipynb_checkpoints").mkdir()
        os.mkfifo(tmp_path / folder / "pipe.png")
        (tmp_path / folder / "notes.txt").write_text("")
    (tmp_path / "images" / "below").mkdir()
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "images" / "below" / "b.png")
    Image.fromarray(TRUTH).save(path.with_name("spare.png"))
    data = open_segmentation(tmp_path, "val", CLASSES)
    assert data.samples.ids == ("a.png",)
    notes = "\n".join(data.samples.notes)
    for told in (
        "images/: 2 hidden or system names skipped",
        "images/: 1 special file skipped",
        "images/: 1 file of other endings skipped: .txt",
        "images/: 1 files in folders below skipped: 'below/b.png'",
        "labels/: 2 hidden or system names skipped",
        "labels/: 1 special file skipped",
        "1 masks in labels/ have no image: 'spare'",
    ):
        assert told in notes
    path.unlink()
    path.symlink_to("pipe.png")
    with pytest.raises(DataError, match="no regular file"):
        data.label(0, SIZE)
    assert data.label_digest(0) == 0


def test_ignored_pixels_and_classes_without_labels_are_told(tmp_path: Path, capsys) -> None:
    path = write_world(tmp_path, ("small",), count=3)
    code = ["--allow-code", str(tmp_path / "models.py"), "--out", str(tmp_path / "s")]
    masks = sorted((tmp_path / "val" / LABELS).iterdir())
    counts = np.zeros(10, int)
    for mask in masks:
        values = np.where(np.asarray(Image.open(mask)) == 2, IGNORED, np.asarray(Image.open(mask)))
        Image.fromarray(values.astype(np.uint8)).save(mask)
        counts += np.bincount(values.ravel(), minlength=10)
    share = counts[IGNORED] / counts.sum()
    words = ["predict", str(path), "--data", str(tmp_path / "val"), "--split", "val", *code]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ignored"] == pytest.approx(share)
    assert told["classes_without_labels"] == ["tree"]
    assert f"{share:.1%} of the pixels of 'val' do not count" in told["notes"][0]
    assert "no label of 'val' has 1 of 3 classes: 'tree'" in told["notes"][1]
    assert ("more than half" in told["notes"][0]) == (share > 0.5)
    # Done before, and told again.
    assert main(words) == 0
    assert capsys.readouterr().out.count("Note: ") == 2
    for mask in masks:
        values = np.where(np.asarray(Image.open(mask)) == 1, IGNORED, np.asarray(Image.open(mask)))
        Image.fromarray(values.astype(np.uint8)).save(mask)
    assert main(words) == 0
    assert "more than half: if that label is a class" in capsys.readouterr().out
    assert left_out(tmp_path / "s" / "val").classes == ("road", "tree")


def test_what_no_figure_counts_stands_beside_every_figure(tmp_path: Path, capsys) -> None:
    store = str(predicted(write_world(tmp_path, count=3), tmp_path / "s"))
    chosen, page = str(tmp_path / "c.json"), str(tmp_path / "p.html")
    chooses = ["search", store, "--max-cost", "100%", "--out", chosen]
    for words in (chooses, ["evaluate", chosen, store], ["report", store, "--out", page]):
        notes = [] if words[0] == "evaluate" else list(left_out(f"{store}/val").notes)
        notes += left_out(f"{store}/test").notes
        capsys.readouterr()
        assert main(words) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert main([*words, "--json"]) == 0
        warnings = json.loads(capsys.readouterr().out)["warnings"]
        assert "do not count" in notes[0]
        assert all(f"Note: {note}" in told and note in warnings for note in notes)
    assert "of the pixels of &#39;test&#39; do not count" in Path(page).read_text()


def test_labels_beyond_unnamed_classes_are_refused(tmp_path: Path) -> None:
    path = write_world(tmp_path, ("small",), count=1)
    text = path.read_text().replace(f"classes = {list(CLASSES)}", "")
    path.write_text(text.replace(f"ignore = {IGNORED}", ""))
    with pytest.raises(
        DataError, match=r"val0.png: labels hold '9', but models have classes 0 to 2"
    ):
        predicted(path, tmp_path / "s")


def test_more_classes_than_a_byte_holds_are_written_whole(tmp_path: Path) -> None:
    values = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
    names = tuple(map(str, range(values.size)))
    for most in (255, 700):
        kept = np.minimum(values, most)
        folder_of(tmp_path).write_bytes(_classes_image(kept))
        np.testing.assert_array_equal(read(tmp_path, names), kept)


# --- EXIF -----------------------------------------------------------------------------------------

ORIENTATIONS = range(1, 9)


def as_stored(image: Image.Image, orientation: int) -> Image.Image:
    """The pixels of a file that is shown as this image by an orientation of EXIF."""
    ways = Image.Transpose
    back = {
        2: ways.FLIP_LEFT_RIGHT,
        3: ways.ROTATE_180,
        4: ways.FLIP_TOP_BOTTOM,
        5: ways.TRANSPOSE,
        6: ways.ROTATE_90,
        7: ways.TRANSVERSE,
        8: ways.ROTATE_270,
    }
    return image.transpose(back[orientation]) if orientation in back else image


def turn(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    as_stored(Image.open(path), orientation).save(path, exif=exif)


def test_turned_images_count_and_decide_as_upright_ones(tmp_path: Path) -> None:
    path = write_world(tmp_path, ("small", "large"), ("full", 10), count=8)
    text = path.read_text().replace("[preprocessing]\n", "[preprocessing]\nexif = true\n")
    for seed, name in enumerate(("small", "large")):
        write_onnx(tmp_path / f"{name}.onnx", seed)
        text = text.replace(f"python:models.py:{name}", f"onnx:{name}.onnx")
    path.write_text(text)
    pool = read_pool_file(path)
    data = open_segmentation(tmp_path / "test", "val", CLASSES, IGNORED, exif=True)
    predict_tiles(pool, data, tmp_path / "upright", batch_size=16)
    cascade = with_models(tmp_path / "upright")
    upright = decided(cascade, tmp_path / "test")
    for orientation, image in enumerate(sorted((tmp_path / "test" / "images").iterdir()), 1):
        turn(image, orientation)
    predict_tiles(pool, data, tmp_path / "turned", batch_size=16)
    for grid in ("full", "10+4"):
        one, two = (_load_tiles(tmp_path / s / "val", grid) for s in ("turned", "upright"))
        for name in one.names:
            first, second = (
                prefixes_of(pool).scored((name,), np.arange(len(pool))) for pool in (one, two)
            )
            np.testing.assert_array_equal(first[0], second[0])
            np.testing.assert_array_equal(first[1], second[1])
    np.testing.assert_array_equal(decided(cascade, tmp_path / "test"), upright)
    bundle = write_bundle(cascade, tmp_path / "bundle")
    images = sorted((tmp_path / "test" / "images").iterdir())
    command = [sys.executable, "run.py", str(tmp_path / "out"), *map(str, images)]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    own = [np.asarray(Image.open(each)) for each in sorted((tmp_path / "out").iterdir())]
    np.testing.assert_array_equal(own, upright)


def with_models(store: Path) -> Cascade:
    pool = _load_tiles(store / "val", "10+4")
    cascade = Cascade.of(["small", "large@10+4"], [0.5], confidence="tile_max_prob>0.6")
    return pool.described(cascade)


def decided(cascade: Cascade, folder: Path) -> Array:
    """Classes of all pixels of all images of a folder."""
    segmenter = Segmenter(cascade)
    data = open_segmentation(folder, labels=False, exif=segmenter.exif)
    images = np.stack([data.image(row, SIZE) for row in range(len(data.samples))])
    return np.stack([each.classes for each in segmenter.decide(images)])


def test_data_are_opened_as_models_see_them(tmp_path: Path) -> None:
    path = write_world(tmp_path, ("small",), count=1)
    path.write_text(path.read_text().replace("[preprocessing]\n", "[preprocessing]\nexif = true\n"))
    pool = read_pool_file(path)
    data = open_segmentation(tmp_path / "val", "val", pool.classes, IGNORED)
    with pytest.raises(DataError, match="exif=True"):
        predict_tiles(pool, data, tmp_path / "s")


def test_a_turn_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = write_world(tmp_path, ("small",), count=1)
    image = tmp_path / "val" / "images" / "val0.png"
    turn(image, 6)
    with pytest.raises(DataError, match=r"and exif = true in \[preprocessing\] turns it here too"):
        predicted(path, tmp_path / "s")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE[::-1]).save(image, exif=exif)
    text = path.read_text().replace("[preprocessing]\n", "[preprocessing]\nexif = true\n")
    path.write_text(text.replace("[24, 36]", "[36, 24]"))
    with pytest.raises(DataError, match="EXIF turns the image: draw labels on it as it is shown"):
        predicted(path, tmp_path / "other")


def test_turns_that_are_not_heeded_are_told(tmp_path: Path) -> None:
    path = write_world(tmp_path, ("small",), count=1)
    turn(tmp_path / "val" / "images" / "val0.png", 3)
    notes: list[str] = []
    predicted(path, tmp_path / "s", note=notes.append)
    assert "EXIF rotates 1 images" in "\n".join(notes)


def test_models_must_see_images_turned_alike(tmp_path: Path) -> None:
    path = write_world(tmp_path, count=1)
    line = 'name = "large"\npreprocessing = { exif = true }\n'
    path.write_text(path.read_text().replace('name = "large"\n', line))
    with pytest.raises(PoolFileError, match="'large' see images rotated by EXIF, 'small' do not"):
        predicted(path, tmp_path / "s")


# --- Images of other forms ------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_images_of_any_depth_have_one_scale(tmp_path: Path, bits: int) -> None:
    """Black and white are black and white, and 16 bit are not cut off at 255."""
    values = np.tile(np.array([0, 1], np.uint8), (4, 2))
    form = {1: values.astype(bool), 8: values * 255, 16: values.astype(np.uint16) * 65535}[bits]
    Image.fromarray(form).save(tmp_path / "a.png")
    recipe = Preprocessing((4, 4), mean=(0.0,) * 3, std=(1.0,) * 3)
    try:
        image = decoded(tmp_path / "a.png")
    except DataError:
        assert tuple(map(int, Image.__version__.split(".")[:2])) < (11, 3)
        return
    np.testing.assert_allclose(prepared([image], recipe)[0, 1], values, atol=1e-6)


@pytest.mark.parametrize("mode", ["LAB", "F", "I"])
def test_images_without_a_known_range_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="save it as"):
        decoded(tmp_path / "a.tif")


def test_an_image_of_16_bit_is_turned_by_exif_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    values = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4096
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    recipe = Preprocessing((4, 4), channels=1, mean=(0.0,), std=(1.0,), exif=True)
    try:
        image = decoded(tmp_path / "a.png")
    except DataError:
        assert tuple(map(int, Image.__version__.split(".")[:2])) < (11, 3)
        return
    found = prepared([image], recipe)[0, 0] * 255
    np.testing.assert_allclose(found, (values >> 8)[::-1, ::-1], atol=1e-3)


def test_masks_have_endings_that_images_have() -> None:
    assert MASK_ENDINGS < ENDINGS
