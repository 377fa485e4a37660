"""Names from outside, matched with classes, and shown to people."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from committee.errors import DataError, MisalignedError
from committee.models.pool_file import read_pool_file
from committee.names import class_names, matched, permutation, read_class_names
from committee.text import difference, listed, printable, tidy

CLASSES = ("red", "green", "blue")


@given(st.permutations(range(6)))
def test_a_permutation_brings_columns_into_the_order_of_the_classes(order: list[int]) -> None:
    classes = [f"class {i}" for i in range(6)]
    found = [f" {classes[i]}\ufeff" for i in order]
    columns = np.array(order)
    assert columns[permutation("f", found, classes, "columns")].tolist() == list(range(6))


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (("red", "green"), "'blue' are missing"),
        (("red", "green", "bleu"), "did you mean 'blue'"),
        (("red", "green", "Blue"), "'Blue' and 'blue' differ in upper and lower case only"),
        (("red", "red", "blue"), "'red' stand twice"),
        (("a", "b", "c", "d", "e", "f", "g"), "'e' and 2 more are no classes"),
    ],
)
def test_other_names_are_refused_with_what_differs(found: tuple[str, ...], says: str) -> None:
    with pytest.raises(MisalignedError, match=says):
        permutation("file", found, CLASSES, "columns")


def test_doubled_classes_are_refused_where_names_are_keys() -> None:
    with pytest.raises(MisalignedError, match="classes 0 and 3 are both called 'red'"):
        matched("folder", ["red"], (*CLASSES, "red"), "folders")


def test_names_that_look_alike_are_the_same_in_any_form() -> None:
    forms = [unicodedata.normalize(form, "rosé") for form in ("NFC", "NFD")]
    assert matched("f", [forms[1]], [forms[0]]).tolist() == [0]
    assert "U+200B" in difference("red", "re\u200bd")


def test_class_files_are_read_without_marks_and_empty_ends() -> None:
    assert class_names("c", ["\ufeffred", "green ", "", ""]) == ("red", "green")
    with pytest.raises(DataError, match="line 2 is empty"):
        class_names("c", ["red", "", "blue"])


@given(st.text())
def test_what_is_printable_moves_no_terminal(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in shown)
    shown.encode()


@given(st.text())
def test_tidy_twice_is_tidy_once(text: str) -> None:
    assert tidy(tidy(text)) == tidy(text)


def test_lists_end() -> None:
    assert listed(list("abcdefgh")) == "'a', 'b', 'c', 'd', 'e' and 3 more"
    assert len(listed([str(i) for i in range(100_000)])) < 60


# Text files of class names, as systems write them.
FILES = {
    "plain": b"red\ngreen\nblue",
    "windows": b"\xef\xbb\xbfred\r\ngreen\r\nblue\r\n",
    "spaces and empty lines at the end": b"red \n green\nblue\t\n\n \n",
}
POOL = """
classes = "classes.txt"
[[model]]
name = "one"
source = "onnx:one.onnx"
resolution = 4
"""


@pytest.mark.parametrize("form", FILES)
def test_class_files_are_read_alike_by_pool_files_and_import(tmp_path: Path, form: str) -> None:
    (tmp_path / "classes.txt").write_bytes(FILES[form])
    assert read_class_names("--classes", tmp_path / "classes.txt") == CLASSES
    (tmp_path / "pool.toml").write_text(POOL)
    assert read_pool_file(tmp_path / "pool.toml").classes == CLASSES


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"red\0\ngreen", "holds a NUL"),
        (b"red\n\xff\xfe", "no UTF-8 at byte 4"),
        (b"red\n\nblue", "line 2 is empty"),
        (None, "No such file"),
    ],
)
def test_files_that_are_no_lists_of_classes_are_refused(
    tmp_path: Path, data: bytes | None, told: str
) -> None:
    path = tmp_path / "classes.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError, match=told) as caught:
        read_class_names("--classes", path)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero")
def test_devices_and_huge_files_are_no_lists_of_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no regular file"):
        read_class_names("--classes", Path("/dev/zero"))
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(DataError, match="larger than 16,777,216 bytes"):
        read_class_names("--classes", tmp_path / "huge")


def test_a_pool_file_may_name_the_classes_of_imagenet(tmp_path: Path) -> None:
    (tmp_path / "pool.toml").write_text(POOL.replace("classes.txt", "imagenet"))
    classes = read_pool_file(tmp_path / "pool.toml").classes
    assert (len(set(classes)), classes[0], classes[999]) == (1000, "tench", "toilet tissue")


def test_names_that_differ_in_case_are_told_as_that() -> None:
    assert difference("Red", "red") == "'Red' and 'red' differ in upper and lower case only"
    assert difference("big-red", "big_red").endswith("differ in U+002D against U+005F")
    assert difference("red", "re\u200bd").endswith("differ in nothing against U+200B")
