"""Labels: the same whatever their guise, none where nobody knows them, never needed to run."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from committee.cli.predict import _labels_note
from committee.data.open import open_data
from committee.errors import CommitteeError, MisalignedError
from committee.pool.imagenet import imagenet_classes
from committee.pool.labels import indices
from committee.pool.samples import Samples
from small_world import CLASSES, images

COUNT = 6
LABELS = [2, 0, 1, 1, 0, 2]

# How the same labels may stand; a label below 0 is none.
GUISES: dict[str, Callable[[list[int]], Any]] = {
    "list": lambda labels: [None if each < 0 else each for each in labels],
    "int8": lambda labels: np.array(labels, np.int8),
    "float": lambda labels: np.where(np.array(labels) < 0, np.nan, labels),
    "digits": lambda labels: ["" if each < 0 else f" {each}" for each in labels],
    "decimals": lambda labels: ["NaN" if each < 0 else f"{each}.0" for each in labels],
    "names": lambda labels: ["none" if each < 0 else CLASSES[each] for each in labels],
    "texts": lambda labels: np.array(["-1" if each < 0 else CLASSES[each] for each in labels]),
    "bytes": lambda labels: np.array([b"" if each < 0 else CLASSES[each] for each in labels], "S"),
}


@given(
    labels=st.lists(st.integers(-3, 2), min_size=1, max_size=8),
    guise=st.sampled_from(sorted(GUISES)),
)
def test_labels_mean_the_same_in_every_guise(labels: list[int], guise: str) -> None:
    found = indices("here", GUISES[guise](labels), CLASSES)
    assert found.tolist() == [max(label, -1) for label in labels]


@given(st.permutations(CLASSES), st.lists(st.integers(-1, 2), min_size=1))
def test_classes_in_another_order_are_permuted(named: list[str], labels: list[int]) -> None:
    found = indices("here", labels, CLASSES, named).tolist()
    assert found == [-1 if label < 0 else CLASSES.index(named[label]) for label in labels]


def test_a_class_may_be_called_none() -> None:
    assert indices("here", ["nan", "none", ""], ["none", "nan"]).tolist() == [1, 0, -1]


def test_yes_and_no_are_labels_of_two_classes_only() -> None:
    assert indices("here", np.array([True, False]), ["no", "yes"]).tolist() == [1, 0]
    with pytest.raises(MisalignedError, match="label 'True' is no class"):
        indices("here", [True, False], CLASSES)


def npz(root: Path, labels: Any) -> Path:
    np.savez(root / "data.npz", images=images(COUNT), labels=GUISES["float"](labels))
    return root / "data.npz"


def npy(root: Path, labels: Any) -> Path:
    np.save(root / "data.npy", images(COUNT))
    np.save(root / "data.labels.npy", labels)
    return root / "data.npy"


def table(root: Path, labels: Any) -> Path:
    with (root / "data.csv").open("w", newline="") as file:
        told = GUISES["names"](labels)
        rows = [(f"{i}.png", label) for i, label in enumerate(told)]
        csv.writer(file).writerows([("Image", "Target"), *rows])
    for i, image in enumerate(images(COUNT)):
        Image.fromarray(image).save(root / f"{i}.png")
    return root / "data.csv"


def saved(root: Path, labels: Any) -> Path:
    datasets = pytest.importorskip("datasets", reason="the extra datasets is not installed")
    table(root, labels)
    features = datasets.Features(
        image=datasets.Image(), kind=datasets.ClassLabel(names=list(CLASSES[::-1]))
    )
    columns = {
        "image": [{"bytes": (root / f"{i}.png").read_bytes(), "path": None} for i in range(COUNT)],
        "kind": [None if label < 0 else 2 - label for label in labels],
    }
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(root / "saved")
    return root / "saved"


SOURCES = {"npz": npz, "npy": npy, "csv": table, "datasets": saved}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_knows_labels_that_nobody_knows(tmp_path: Path, source: str) -> None:
    make = SOURCES[source]
    found = open_data(make(tmp_path, LABELS), "val", CLASSES).samples
    assert found.labels is not None
    assert found.labels.tolist() == LABELS
    none = open_data(make(tmp_path, [-1] * COUNT), "val", CLASSES).samples
    assert none.labels is None
    assert "none of the 6 samples has a label" in none.notes
    some = make(tmp_path, [-1, *LABELS[1:5], -1])
    with pytest.raises(MisalignedError, match=r"2 of 6 samples have none: '0.*', '5.*--unlabelled"):
        open_data(some, "val", CLASSES)
    run = open_data(some, "run", CLASSES, labels="if they fit").samples
    assert run.labels is None
    assert "no labels, because they do not fit" in run.notes[-1]
    unlabelled = open_data(some, "val", CLASSES, labels="none").samples
    assert (unlabelled.labels, unlabelled.ids) == (None, run.ids)


def folder(*names: str) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images(1)[0]).save(root / name)
        return root

    return make


# Data whose labels do not fit, their classes, and why.
STRANGE: dict[str, tuple[Callable[[Path], Path], tuple[str, ...], str]] = {
    "by month": (folder("2024-05/a.png", "2024-06/b.png"), CLASSES, "'2024-05', '2024-06'"),
    "mixed": (folder("cat/a.png", "b.png"), CLASSES, "is in no folder"),
    "unnamed classes": (folder("cat/a.png"), (), "nothing says which output is which"),
    "doubled": (folder("cat/a.png"), ("cat", "dog", "cat"), "classes 0 and 2 are both called"),
    "other": (lambda root: npz(root, [3] * COUNT), CLASSES, "has label 3, but classes 0 to 2"),
    "words": (lambda root: table(root, LABELS), ("a", "b", "c"), "line 2: label 'eel' is no class"),
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_run_needs_no_labels(tmp_path: Path, case: str) -> None:
    make, classes, told = STRANGE[case]
    data = make(tmp_path)
    with pytest.raises(CommitteeError, match=told):
        open_data(data, "val", classes)
    run = open_data(data, "run", classes, labels="if they fit")
    assert run.samples.labels is None
    assert told in run.samples.notes[-1]
    assert len(run.read(np.arange(len(run.samples)))) == len(run.samples)


def test_classes_without_samples_are_counted() -> None:
    assert _labels_note(Samples.of([0, 2, 2], classes=CLASSES)) == "2 of 3 classes have samples"
    assert _labels_note(Samples.of([0], classes=CLASSES)) == "1 of 3 classes has samples"
    assert _labels_note(Samples.of([0, 1, 2], classes=CLASSES)) == ""
    assert _labels_note(Samples.of([0, 1])) == ""
    assert "committee relabel" in _labels_note(Samples.of(None, count=3, classes=CLASSES))


# ImageNet


def test_folders_of_imagenet_are_its_wordnet_ids_or_names(tmp_path: Path) -> None:
    make = folder("n02012849/a.png", "n01440764/b.png", "n03126707/c.png")
    found = open_data(make(tmp_path), "val", imagenet_classes()).samples
    assert found.labels is not None
    assert found.labels.tolist() == [0, 134, 517]
    (tmp_path / "n01440764").rename(tmp_path / "tench")
    found = open_data(tmp_path, "val", imagenet_classes()).samples
    assert found.labels is not None
    assert sorted(found.labels.tolist()) == [0, 134, 517]


def test_a_name_of_two_classes_of_imagenet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisalignedError, match=r"two classes of ImageNet, n02012849.*n03126707"):
        open_data(folder("crane/a.png")(tmp_path), "val", imagenet_classes())
    (tmp_path / "data.csv").write_text("path,label\ncrane/a.png,crane\n")
    with pytest.raises(MisalignedError, match="two classes of ImageNet"):
        open_data(tmp_path / "data.csv", "val", imagenet_classes())


def test_folders_of_imagenet_say_how_to_name_them(tmp_path: Path) -> None:
    with pytest.raises(MisalignedError, match='write classes = "imagenet" in the pool file'):
        open_data(folder("n01440764/a.png", "n02012849/b.png")(tmp_path))


def test_many_folders_without_classes_are_no_line_without_end(tmp_path: Path) -> None:
    make = folder(*(f"class {i}/a.png" for i in range(40)))
    with pytest.raises(MisalignedError, match=r"these are 40 folders, .* and 35 more") as told:
        open_data(make(tmp_path))
    assert len(str(told.value)) < 500
