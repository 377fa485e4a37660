"""Names from outside, matched with classes, and shown to people."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from committee.errors import DataError, MisalignedError
from committee.names import class_names, matched, permutation
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
        (("red", "green", "Blue"), r"U\+0042 .* against U\+0062"),
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
