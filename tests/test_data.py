"""Samples: what a folder or an npz file means, and what in it is refused by name."""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from committee import reading
from committee.arrays import Array
from committee.data.arrays import ArrayDataset
from committee.data.base import (
    BrokenSamplesError,
    Dataset,
    PartDataset,
    digest,
    digest_of,
    map_ahead,
    readable,
    share,
)
from committee.data.files import IMAGES
from committee.data.open import open_data
from committee.embedded import embedded_images
from committee.errors import (
    CommitteeError,
    DataError,
    MisalignedError,
    PoolFileError,
    ShapeError,
    UnknownNameError,
)
from committee.models.inputs import prepared
from committee.pool.samples import Samples
from committee.spec.preprocessing import Preprocessing
from committee.store.split import Split, read_split, write_split
from small_world import dataset, images, samples

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
RGB = np.stack([GREY, GREY[::-1], GREY.T], axis=-1)
PLAIN = Preprocessing((8, 8), mean=(0, 0, 0), std=(1, 1, 1))


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RGB).save(root / name)
    return root


def as_bytes(image: Any) -> Array:
    """What a model of RGB images gets of one image, back in bytes, shape (H, W, 3)."""
    return np.rint(prepared([image], PLAIN)[0].transpose(1, 2, 0) * 255).astype(np.uint8)


def read_one(root: Path) -> Array:
    return as_bytes(open_data(root).read(np.array([0]))[0])


def test_a_folder_is_a_class(tmp_path: Path) -> None:
    folder_of(tmp_path, "dog/b.png", "cat/z.JPG", "dog/a.png", "cat/deep/er/y.bmp")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    found = open_data(tmp_path, "test", ["cat", "dog"]).samples
    assert found.ids == ("cat/deep/er/y.bmp", "cat/z.JPG", "dog/a.png", "dog/b.png")
    assert found.classes == ("cat", "dog")
    assert found.labels is not None
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.split == "test"


def test_labels_need_the_order_of_the_classes(tmp_path: Path) -> None:
    # The order of the alphabet may not be that of the outputs; guessing would be wrong in silence.
    folder_of(tmp_path, "dog/b.png", "cat/z.png")
    with pytest.raises(MisalignedError, match=r'classes = \["cat", "dog"\]'):
        open_data(tmp_path)


def test_a_slash_in_a_class_is_an_underscore_in_its_folder(tmp_path: Path) -> None:
    folder_of(tmp_path, "T-shirt_top/a.png")
    found = open_data(tmp_path, classes=["Bag", "T-shirt/top"]).samples
    assert found.labels is not None
    assert found.labels.tolist() == [1]


def test_files_of_other_endings_are_counted_and_named(tmp_path: Path) -> None:
    names = ("cat/a.heic", "dog/b.HEIC", "dog/notes.txt", "dog/README", "dog/.hidden")
    folder_of(tmp_path, "cat/a.PNG", "dog/b.png")
    for name in names:
        (tmp_path / name).touch()
    found = open_data(tmp_path, classes=["cat", "dog"]).samples
    assert found.ids == ("cat/a.PNG", "dog/b.png")
    assert found.notes[0] == "4 files of other endings skipped: .heic, .txt, none"
    assert open_data(tmp_path / "cat").samples.notes == ("1 file of other endings skipped: .heic",)
    (tmp_path / "cat" / "a.heic").unlink()
    assert open_data(tmp_path / "cat").samples.notes == ()


def test_classes_of_the_models_give_the_order(tmp_path: Path) -> None:
    folder_of(tmp_path, "dog/b.png", "cat/z.png")
    found = open_data(tmp_path, classes=["dog", "eel", "cat"]).samples
    assert found.labels is not None
    assert dict(zip(found.ids, found.labels.tolist(), strict=True)) == {
        "cat/z.png": 2,
        "dog/b.png": 0,
    }
    assert found.classes == ("dog", "eel", "cat")


def test_one_flat_folder_has_no_labels(tmp_path: Path) -> None:
    found = open_data(folder_of(tmp_path, "b.png", "a.png"), classes=["cat"]).samples
    assert (found.ids, found.labels, found.classes) == (("a.png", "b.png"), None, ("cat",))


def garbage(path: Path, data: bytes = b"garbage") -> Path:
    path.write_bytes(data)
    return path


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **{"images": images(4), **arrays})
    return path


BAD_FOLDERS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "strange": (lambda p: folder_of(p, "cat/a.png", "cow/b.png"), "folders 'cow' are no classes"),
    "mixed": (lambda p: folder_of(p, "cat/a.png", "b.png"), "'b.png' is in no folder"),
    "empty": (lambda p: p, "no image in it"),
    "absent": (lambda p: p / "nowhere", "does not exist"),
    "other": (lambda p: garbage(p / "a.txt"), "is of no known form"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_folders_that_mean_nothing_are_refused(tmp_path: Path, case: str) -> None:
    make, line = BAD_FOLDERS[case]
    with pytest.raises((DataError, MisalignedError), match=line) as told:
        open_data(make(tmp_path), classes=["cat", "dog"])
    assert "\n" not in str(told.value)
    assert str(tmp_path) in str(told.value)


def test_a_image_beside_the_folders_of_classes_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(MisalignedError, match="is in no folder"):
        open_data(folder_of(tmp_path, "cat/a.png", "b.png"))


# How an image is stored, and the RGB bytes that a model must get of it.
OPAQUE = np.full((8, 8, 1), 255, np.uint8)
CYMK = Image.fromarray(np.concatenate([255 - RGB, 0 * OPAQUE], axis=-1), "CMYK")
SIXTEEN = Image.fromarray(GREY.astype(np.uint16) * 257)
HALF = np.concatenate([RGB, OPAQUE // 2], axis=-1)
GREY_AS_RGB = np.repeat(GREY[..., None], 3, axis=-1)
FORMS: dict[str, tuple[Image.Image, str, Array]] = {
    "rgb": (Image.fromarray(RGB), "png", RGB),
    "grey": (Image.fromarray(GREY), "png", GREY_AS_RGB),
    "16 bit": (SIXTEEN, "png", GREY_AS_RGB),
    "16 bit tiff": (SIXTEEN, "tiff", GREY_AS_RGB),
    "alpha": (Image.fromarray(HALF), "png", RGB),
    "grey and alpha": (Image.fromarray(np.stack([GREY, GREY], -1)), "png", GREY_AS_RGB),
    "palette": (Image.fromarray(GREY).convert("P"), "png", GREY_AS_RGB),
    "bits": (Image.fromarray(GREY > 90), "png", np.where(GREY_AS_RGB > 90, 255, 0)),
    "cmyk": (CYMK, "tiff", RGB),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_image_is_prepared(tmp_path: Path, form: str) -> None:
    image, ending, expected = FORMS[form]
    image.save(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(read_one(tmp_path), expected)


def test_a_palette_with_transparent_entries_is_prepared(tmp_path: Path) -> None:
    palette = Image.fromarray(GREY).convert("P")
    palette.save(tmp_path / "a.png", transparency=bytes(range(256)))
    np.testing.assert_array_equal(read_one(tmp_path), GREY_AS_RGB)


@pytest.mark.parametrize("ending", ["png", "jpg"])  # Pillow itself turns a tiff
def test_a_image_is_turned_as_exif_says_if_the_recipe_asks(tmp_path: Path, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side: to be turned clockwise
    half = np.zeros((8, 8, 3), np.uint8)
    half[:4] = 255
    Image.fromarray(half).save(tmp_path / f"a.{ending}", exif=exif)
    images = open_data(tmp_path).read(np.array([0]))
    # JPEG is not exact.
    lying, turned = (
        prepared(images, recipe)[0].transpose(1, 2, 0) > 0.5
        for recipe in (PLAIN, replace(PLAIN, exif=True))
    )
    np.testing.assert_array_equal(lying, half > 127)
    np.testing.assert_array_equal(turned, np.rot90(half, -1) > 127)


def test_whether_exif_counts_is_yes_or_no() -> None:
    with pytest.raises(PoolFileError, match="exif must be true or false, not 1"):
        Preprocessing.from_json({"size": [8, 8], "exif": 1})


def test_images_without_a_known_range_are_named(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "a.tiff")
    Image.fromarray(GREY.astype(np.int32)).save(tmp_path / "b.tiff")
    with pytest.raises(BrokenSamplesError, match=r"a.tiff \(mode F .*b.tiff \(mode I "):
        open_data(tmp_path).read(np.array([0, 1]))


def test_all_unreadable_images_of_a_batch_are_named(tmp_path: Path) -> None:
    folder_of(tmp_path, "a.png", "b.png", "c.png", "d.png")
    garbage(tmp_path / "a.png", (tmp_path / "a.png").read_bytes()[:60])
    garbage(tmp_path / "b.png")
    (tmp_path / "d.png").unlink()
    (tmp_path / "d.png").mkdir()
    (tmp_path / "e.png").symlink_to(tmp_path / "nowhere")
    dataset = open_data(tmp_path)
    (tmp_path / "c.png").unlink()
    with pytest.raises(BrokenSamplesError, match=r"a.png \(.*b.png \(.*c.png \(") as told:
        dataset.read(np.arange(3))
    assert "\n" not in str(told.value)


def test_an_npz_file_gives_images_labels_ids_and_classes(tmp_path: Path) -> None:
    path = npz(
        tmp_path / "a.npz", labels=[1, 0, 1, 1], ids=["w", "x", "y", "z"], classes=["c", "d"]
    )
    opened = open_data(path, "test")
    assert opened.samples.ids == ("w", "x", "y", "z")
    assert opened.samples.classes == ("c", "d")
    assert opened.samples.labels is not None
    assert opened.samples.labels.tolist() == [1, 0, 1, 1]
    np.testing.assert_array_equal(opened.read(np.array([2, 0])), images(4)[[2, 0]])


def test_an_npz_file_may_hold_images_only(tmp_path: Path) -> None:
    found = open_data(npz(tmp_path / "a.npz")).samples
    assert (found.ids, found.labels) == (("0", "1", "2", "3"), None)


OBJECTS = np.array([{}, [], "", None], dtype=object)
BAD_NPZ: dict[str, tuple[Callable[[Path], Path], str]] = {
    "garbage": (garbage, "no readable npz file"),
    "empty": (lambda p: garbage(p, b""), "no readable npz file"),
    "truncated": (lambda p: garbage(p, npz(p).read_bytes()[:-80]), "no readable npz file"),
    "objects": (lambda p: npz(p, ids=OBJECTS), "allow_pickle=False"),
    "floats": (lambda p: npz(p, images=images(4) / 255), "images must be uint8.* not float64"),
    "vectors": (lambda p: npz(p, images=images(4).reshape(4, -1)), r"not uint8 \(4, 16\)"),
    "planes": (lambda p: npz(p, images=np.zeros((4, 3, 8, 8), np.uint8)), r"\(4, 3, 8, 8\)"),
    "no image": (lambda p: npz(p, images=images(0)), "'images' is empty"),
    "long labels": (lambda p: npz(p, labels=[0] * 5), "5 labels|4 images but 5"),
    "float labels": (lambda p: npz(p, labels=[0.5] * 4), "sample 0: label '0.5' is no index"),
    "long numbers unnamed": (
        lambda p: npz(p, labels=[10**15] * 4),
        "label '1000000000000000' is no",
    ),
    "negative labels": (
        lambda p: npz(p, labels=[0, 0, 0, -1]),
        "1 of 4 samples have none: '3'",
    ),
    "long numbers": (
        lambda p: npz(p, labels=["9" * 30] * 4, classes=["c"]),
        "sample 0: label '9{30}' is no class",
    ),
    "pairs": (lambda p: npz(p, labels=[[0, 1]] * 4), r"labels must be .* not int64 \(4, 2\)"),
    "one label": (lambda p: npz(p, labels=1), r"labels must be .* not int64 \(\)"),
    "one id": (lambda p: npz(p, ids="a"), r"ids must be names, shape \(N,\), not \(\)"),
    "one class": (lambda p: npz(p, classes="a"), r"classes must be names, shape \(N,\), not \(\)"),
    "high labels": (
        lambda p: npz(p, labels=[0, 0, 0, 9], classes=["c"]),
        "label 9, but classes 0 to 0",
    ),
    "ids twice": (lambda p: npz(p, ids=["a", "b", "a", "c"]), "id 'a' stands twice"),
    "few ids": (lambda p: npz(p, ids=["a", "b"]), "4 images but 2 samples"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_npz_files_that_mean_nothing_are_refused(tmp_path: Path, case: str) -> None:
    make, line = BAD_NPZ[case]
    with pytest.raises(CommitteeError, match=line) as told:
        open_data(make(tmp_path / "a.npz"))
    assert "\n" not in str(told.value)


def test_an_npz_file_without_images_says_what_it_has(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", labels=[1], pixels=[2])
    with pytest.raises(DataError, match="has labels, pixels, but no 'images'"):
        open_data(tmp_path / "a.npz")


def test_classes_of_an_npz_file_are_matched_by_name(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", labels=[0, 1, 1, 0], classes=["c", "d"])
    found = open_data(path, classes=["d", "b", "c"]).samples
    assert found.labels is not None
    assert found.labels.tolist() == [2, 0, 0, 2]
    with pytest.raises(MisalignedError, match="classes 'c' are no classes of the models, which"):
        open_data(path, classes=["d", "e"])


@pytest.mark.parametrize("rows", [":3", "1:9:2", "::-1", "-4:", "5:6"])
def test_rows_are_those_of_python(tmp_path: Path, rows: str) -> None:
    path = npz(tmp_path / "a.npz", images=images(10), labels=np.arange(10))
    some = open_data(path, rows=rows)
    chosen = np.arange(10)[slice(*(int(n) if n else None for n in rows.split(":")))]
    assert some.samples.ids == tuple(map(str, chosen))
    assert some.samples.labels is not None
    assert some.samples.labels.tolist() == chosen.tolist()
    last = np.array([len(chosen) - 1, 0])
    np.testing.assert_array_equal(some.read(last), images(10)[chosen[last]])


@pytest.mark.parametrize("rows", ["", "3", "a:b", "1:2:3:4", "9:3", "::0", "1.5:2"])
def test_rows_that_name_no_sample_are_refused(tmp_path: Path, rows: str) -> None:
    with pytest.raises(DataError, match="START:STOP:STEP"):
        open_data(npz(tmp_path / "a.npz"), rows=rows)


def test_as_many_images_as_samples() -> None:
    with pytest.raises(MisalignedError, match="3 images but 4 samples"):
        ArrayDataset(images(3), samples(4))


class Slow(ArrayDataset):
    """Reads the first batches most slowly, fails on one row, and notes what was read."""

    def __init__(self, fails_at: int = -1) -> None:
        super().__init__(images(40), samples(40))
        self.fails_at = fails_at
        self.read_rows: list[int] = []

    def read(self, rows: Array) -> Array:
        time.sleep(0.01 / (1 + rows[0]))
        self.read_rows += rows.tolist()
        if self.fails_at in rows:
            raise BrokenSamplesError([(str(self.fails_at), "for the test")])
        return super().read(rows)


def read_ahead(dataset: Dataset, batches: Iterable[Array], threads: int = 2) -> Iterator[Any]:
    return map_ahead(dataset.read, batches, threads)


def batches() -> Iterator[Array]:
    return (np.arange(start, start + 4) for start in range(0, 40, 4))


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_reading_ahead_keeps_the_order(threads: int) -> None:
    rows, read = zip(*read_ahead(Slow(), batches(), threads), strict=True)
    assert np.concatenate(rows).tolist() == list(range(40))
    np.testing.assert_array_equal(np.concatenate(read), images(40))


def test_reading_ahead_holds_few_batches() -> None:
    slow = Slow()
    for number, _ in enumerate(read_ahead(slow, batches(), threads=2)):
        time.sleep(0.01)
        assert len(slow.read_rows) <= 4 * (number + 1 + 2 * 2)


def test_reading_ahead_tells_errors_after_what_came_before() -> None:
    reader, seen = read_ahead(Slow(fails_at=21), batches()), []
    with pytest.raises(BrokenSamplesError, match="21"):
        seen += [rows[0] for rows, _ in reader]
    assert next(reader, None) is None


def test_reading_ahead_ends_with_its_reader() -> None:
    slow, before = Slow(), threading.active_count()
    reader = read_ahead(slow, batches())
    next(reader)
    reader.close()
    assert threading.active_count() == before
    assert len(slow.read_rows) < 40


def test_reading_nothing_ahead_gives_nothing() -> None:
    assert list(read_ahead(dataset(4), [])) == []


def test_one_image_is_a_data_set_of_one(tmp_path: Path) -> None:
    folder_of(tmp_path, "a.PNG", "b.png")
    found = open_data(tmp_path / "a.PNG")
    assert (found.samples.ids, found.samples.labels) == (("a.PNG",), None)
    np.testing.assert_array_equal(as_bytes(found.read(np.array([0]))[0]), RGB)


def test_the_embedded_images_have_a_name() -> None:
    for part, count in (("val", 5000), ("test", 5000), ("all", 10_000)):
        assert len(open_data(f"embedded:{part}", "run").samples) == count
    some = open_data("embedded:test", "run", rows="0:10")
    assert (
        some.samples.fingerprint == embedded_images("test").samples.taken(np.arange(10)).fingerprint
    )
    with pytest.raises(UnknownNameError, match=r"no part 'tset'\. Did you mean 'test'\?"):
        open_data("embedded:tset")


def test_labels_beyond_the_classes_are_told_with_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=np.stack([GREY] * 3), labels=[0, 9, 1])
    line = r"d\.npz: labels of 'run': sample '1' has label 9, but classes 0 to 8 are named\. Fix"
    with pytest.raises(ShapeError, match=line):
        open_data(tmp_path / "d.npz", "run", [str(i) for i in range(9)])


# Shares of every class


def labelled(*counts: int) -> ArrayDataset:
    labels = np.repeat(np.arange(len(counts)), counts)
    order = np.random.default_rng(1).permutation(len(labels))
    ids = [f"image {i}" for i in range(len(labels))]
    return ArrayDataset(images(len(labels)), Samples.of(labels[order], ids))


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 5),
)
def test_a_fraction_and_its_rest_are_all_and_share_nothing(
    counts: list[int], fraction: float, seed: int
) -> None:
    whole = labelled(*counts)
    cuts = [f"0:{fraction}", f"{fraction}:{(1 + fraction) / 2}", f"{(1 + fraction) / 2}:1"]
    parts = [taken(whole, cut, seed) for cut in cuts]
    assert sorted(name for part in parts for name in part) == sorted(whole.samples.ids)
    of = dict(zip(whole.samples.ids, whole.samples.labels.tolist(), strict=True))
    found = np.bincount([of[name] for name in parts[0]], minlength=len(counts))
    # Of every class the share, rounded up or down.
    assert (np.abs(found - fraction * np.array(counts)) < 1).all()


def taken(whole: Dataset, fraction: str, seed: int = 0) -> list[str]:
    try:
        return list(share(whole, fraction, seed).samples.ids)
    except DataError:
        return []


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.7])
def test_a_fraction_of_classes_with_one_sample_is_that_of_the_classes(fraction: float) -> None:
    assert len(taken(labelled(*[1] * 500), f"{fraction}")) == 500 * fraction


def test_the_split_named_test_takes_what_a_fraction_leaves() -> None:
    whole = labelled(10, 20)
    test = ArrayDataset(images(30), replace(whole.samples, split="test"))
    rest = share(test, "0.3", 7).samples
    assert sorted([*taken(whole, "0.3", 7), *rest.ids]) == sorted(whole.samples.ids)
    assert rest.rule == "fraction 0.3:1, seed 7, of 30 samples"


def test_a_fraction_depends_on_seed_and_ids_only() -> None:
    whole = labelled(40, 60)
    assert taken(whole, "0.5", 1) == taken(whole, "0.5", 1) != taken(whole, "0.5", 2)
    turned = PartDataset(whole, np.arange(100)[::-1])
    assert sorted(taken(turned, "0.5", 1)) == sorted(taken(whole, "0.5", 1))
    # Written down: a later version must choose the same samples.
    fixed = Samples.of([0, 0, 0, 1, 1, 1], list("abcdef"))
    assert taken(ArrayDataset(images(6), fixed), "0.5", 0) == ["b", "d", "f"]


def test_a_fraction_works_without_labels() -> None:
    bare = ArrayDataset(images(10), Samples.of(None, count=10))
    assert len(taken(bare, "0.3")) == 3


@pytest.mark.parametrize("fraction", ["", "0", "2", "-0.5", "0.5:0.2", "a", "0.5:0.5", "nan", "1:"])
def test_fractions_that_mean_nothing_are_refused(fraction: str) -> None:
    with pytest.raises(DataError, match=r"F or START:STOP between 0 and 1") as told:
        share(labelled(4), fraction, 0)
    assert "\n" not in str(told.value)


def test_a_fraction_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="takes no sample of 2"):
        share(labelled(2), "0.1", 0)


# Forms of images that only a folder can hold


def test_a_huge_image_is_named_and_not_decoded(tmp_path: Path) -> None:
    # 30,000 x 30,000 pixels in a few bytes: a PNG whose head promises what its body does not hold.
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    (tmp_path / "a.png").write_bytes(png + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\4IDAT")
    with pytest.raises(BrokenSamplesError, match=r"a.png \(.*900000000 pixels"):
        open_data(tmp_path).read(np.array([0]))


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_one(tmp_path), GREY_AS_RGB)


def test_links_are_followed_but_in_no_circle(tmp_path: Path) -> None:
    folder_of(tmp_path / "elsewhere", "a.png", "deep/b.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "round").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    dataset = open_data(tmp_path / "data", classes=["cat"])
    assert dataset.samples.ids == ("cat/a.png", "cat/deep/b.png", "cat/lost.png")
    with pytest.raises(BrokenSamplesError, match=r"lost.png \(No such file"):
        dataset.read(np.arange(3))


# Folders as systems leave them


LEFT = (
    "cat/._a.png",
    "cat/.ipynb_checkpoints/a-checkpoint.png",
    "__MACOSX/cat/._a.png",
    "cat/@eaDir/a.png/thumb.jpg",
    ".git/a.png",
    "cat/Thumbs.db",
    "dog/desktop.ini",
    "$RECYCLE.BIN/a.png",
)


def test_what_systems_leave_is_no_sample_and_counted(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat/a.png", "dog/b.png")
    for name in LEFT:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((tmp_path / "cat/a.png").read_bytes())
    found = open_data(tmp_path, classes=["cat", "dog"]).samples
    assert found.ids == ("cat/a.png", "dog/b.png")
    (note,) = found.notes
    assert note.startswith("8 hidden or system names skipped: '$RECYCLE.BIN', '.git', '__MACOSX'")
    assert note.endswith("'cat/._a.png', 'cat/.ipynb_checkpoints' and 3 more")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_pipes_and_devices_are_never_opened(tmp_path: Path) -> None:
    folder_of(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    found = open_data(tmp_path).samples
    assert found.ids == ("a.png",)
    assert found.notes == (
        "2 special files skipped (pipe, device or socket): 'pipe.png', 'zero.png'",
    )
    (tmp_path / "a.csv").write_text("path\npipe.png\nzero.png\n")
    named = open_data(tmp_path / "a.csv")
    assert named.digests(np.arange(2)).tolist() == [0, 0]
    with pytest.raises(BrokenSamplesError, match=r"pipe.png \(no regular file.*zero.png \(no"):
        named.read(np.arange(2))


def test_a_path_with_a_nul_is_broken(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"path\na\0b.png\n")
    named = open_data(tmp_path / "a.csv")
    assert named.digests(np.arange(1)).tolist() == [0]
    with pytest.raises(BrokenSamplesError, match=r"a\\x00b.png \(its name is no path"):
        named.read(np.arange(1))


def test_a_digest_read_in_blocks_is_that_of_the_bytes(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(3_000_001)
    assert digest_of(garbage(tmp_path / "a", data)) == digest(data)
    assert digest_of(tmp_path) == digest_of(tmp_path / "nowhere") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="file systems there know no such names")
def test_names_of_any_bytes_are_samples(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat/a.png", "cat/b\nc.png")
    (tmp_path / "cat/a.png").rename(tmp_path / "cat" / os.fsdecode(b"caf\xe9.png"))
    by_folder = open_data(tmp_path, classes=["cat"])
    (tmp_path / "a.csv").write_bytes(b'path,label\n"cat/b\nc.png",cat\ncat/caf\xe9.png,cat\n')
    by_table = open_data(tmp_path / "a.csv", classes=["cat"])
    assert by_table.samples.ids == by_folder.samples.ids == ("cat/b\nc.png", "cat/caf\udce9.png")
    assert by_table.samples.fingerprint == by_folder.samples.fingerprint
    assert (by_table.digests(np.arange(2)) == by_folder.digests(np.arange(2))).all()
    assert len(share(by_folder, "0.5", 0).samples) == 1
    content = by_folder.digests(np.arange(2))
    write_split(tmp_path / "val", Split(replace(by_folder.samples, content=content)))
    assert read_split(tmp_path / "val", ("cat",)).samples.ids == by_folder.samples.ids


# Endings


# Endings that Pillow has a plug-in for and that are no samples, with the reason.
NO_SAMPLES = {
    "another program decodes them": (".eps", ".ps", ".wmf", ".emf"),
    "Pillow only names them": (".bufr", ".grib", ".h5", ".hdf", ".mpg", ".mpeg"),
    "measurements without a range": (".fit", ".fits", ".pfm"),
    "of news agencies, around other files": (".iim",),
}


def test_every_image_that_pillow_reads_has_its_ending_in_the_list() -> None:
    Image.init()
    readable = {e for e, form in Image.registered_extensions().items() if form in Image.OPEN}
    assert readable - IMAGES.endings <= {e for some in NO_SAMPLES.values() for e in some}
    assert not IMAGES.endings & {e for some in NO_SAMPLES.values() for e in some}


@pytest.mark.parametrize("ending", ["jfif", "JPE", "tga", "pgm", "pnm", "jp2", "ico", "dib", "pcx"])
def test_images_of_rarer_endings_are_read(tmp_path: Path, ending: str) -> None:
    # Old versions of Pillow save no ico below 16 pixels unless they are told to.
    Image.fromarray(RGB).save(tmp_path / f"a.{ending}", sizes=[(8, 8)])
    dataset = open_data(tmp_path)
    assert len(dataset.samples) == 1
    assert dataset.read(np.array([0]))[0].size == (8, 8)


def test_messages_on_broken_samples_end(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(3000)]
    (tmp_path / "a.csv").write_text("\n".join(["path", *names]))
    broken = [(name, "No such file") for name in names]
    for error in (BrokenSamplesError(broken), BrokenSamplesError(broken, 3000, tmp_path)):
        assert len(str(error)) < 500
        assert "; and 2,995 more" in str(error)
        assert len(error.broken) == 3000
    assert f"none of the 3,000 samples can be read in {tmp_path}: 0.png (" in str(error)


# Tables


@pytest.mark.parametrize("header", ["path,label", "Image_Path, Target", "FILE,Class", "img,y"])
def test_columns_are_known_by_several_words(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.csv").write_text(f"{header}\n\na.png,dog\n\n")
    found = open_data(tmp_path / "a.csv", classes=["cat", "dog"]).samples
    assert (found.ids, found.labels.tolist(), found.notes) == (("a.png",), [1], ())  # type: ignore[union-attr]


def test_columns_that_are_not_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,lable,Width\na.png,dog,8\n")
    assert open_data(tmp_path / "a.csv", classes=["cat", "dog"]).samples.notes == (
        "2 columns are not used: 'lable', 'width'; a column of labels is called 'label'",
        "no labels, because no column is called label, class or target",
    )
    (tmp_path / "a.csv").write_text("path,Label,label\na.png,dog,dog\n")
    with pytest.raises(DataError, match="columns 'label' stand twice"):
        open_data(tmp_path / "a.csv", classes=["cat", "dog"])


def test_only_the_members_asked_for_are_read_of_an_archive(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", labels=[0] * 4, other=OBJECTS)
    assert len(open_data(path).samples) == 4


def test_what_cannot_be_read_is_skipped_if_asked() -> None:
    work = partial(readable, Slow(fails_at=21))
    found = [read for _, read in map_ahead(work, batches(), 2)]
    assert np.concatenate([rows for rows, _, _ in found]).tolist() == [*range(21), *range(22, 40)]
    np.testing.assert_array_equal(found[5][1], images(40)[[20, 22, 23]])
    assert [each for _, _, broken in found for each in broken] == [("21", "for the test")]


@pytest.mark.parametrize("member", ["labels", "ids", "classes"])
def test_members_far_larger_than_the_images_are_not_read(
    tmp_path: Path, member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST", 2**20)
    images = np.zeros((3, 4, 4), np.uint8)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=images, **{member: np.zeros(2**21, np.int8)})
    with pytest.raises(DataError, match=r"has 2,097,280 bytes, packed into .* of 3 samples"):
        open_data(str(path))
