"""Every source of samples keeps the contract, and the contract notices what does not."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import record_world
from committee.arrays import Array
from committee.data.arrays import ArrayDataset
from committee.data.base import BrokenSamplesError, Dataset
from committee.data.huggingface import _HuggingFaceDataset
from committee.data.open import open_data
from committee.errors import CommitteeError, DataError, MisalignedError, UnknownNameError
from committee.pool.samples import Samples
from committee.spec.model import ModelSpec
from committee.spec.record import Field, Record
from committee.testing import check_data

CLASSES = ("cat", "dog", "eel")
COUNT = 7
# Photographs of several sizes, and what is in them differs.
IMAGES = [
    np.random.default_rng(i).integers(0, 256, (9 + i, 20 - i, 3), np.uint8) for i in range(COUNT)
]
LABELS = [0, 2, 1, 0, 2, 2, 1]


def folder(root: Path) -> Path:
    for i, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        (root / "data" / CLASSES[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / "data" / CLASSES[label] / f"{i}.png")
    return root / "data"


def table(root: Path, labels: Sequence[Any] | None = None) -> Path:
    images = sorted(folder(root).rglob("*.png"), key=lambda path: path.name)
    names = [path.relative_to(root).as_posix() for path in images]
    with (root / "data.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "path", "note"])
        told = labels or [CLASSES[label] for label in LABELS]
        writer.writerows([label, name, "x"] for label, name in zip(told, names, strict=True))
    return root / "data.csv"


def npz(root: Path) -> Path:
    np.savez(root / "data.npz", images=_same_size(), labels=LABELS, classes=CLASSES)
    return root / "data.npz"


def npy(root: Path) -> Path:
    np.save(root / "data.npy", _same_size())
    np.save(root / "data.labels.npy", LABELS)
    np.save(root / "data.ids.npy", [f"id {i}" for i in range(COUNT)])
    return root / "data.npy"


def saved(root: Path, names: Sequence[str] = CLASSES, **more: Any) -> Path:
    datasets = pytest.importorskip("datasets", reason="the extra datasets is not installed")
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=list(names)), **more
    )
    encoded = [path.read_bytes() for path in sorted(folder(root).rglob("*.png"), key=_number)]
    columns = {"image": [{"bytes": each, "path": None} for each in encoded], "label": LABELS}
    columns |= {name: [f"{name} {i}" for i in range(COUNT)] for name in more}
    made = datasets.Dataset.from_dict(columns, features=features)
    made.save_to_disk(root / "saved")
    return root / "saved"


def _number(path: Path) -> int:
    return int(path.stem)


def _same_size() -> Array:
    return np.stack([image[:9, :14] for image in IMAGES])


def remote(make: Callable[[Path], Path]) -> Callable[[Path], str]:
    """A source behind an address."""

    def made(root: Path) -> str:
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        return f"file://{make(root)}"

    return made


SOURCES: dict[str, Callable[[Path], Path | str]] = {
    "folder": folder,
    "csv": table,
    "npz": npz,
    "npy": npy,
    "datasets": saved,
    "remote folder": remote(folder),
    "remote csv": remote(table),
    "remote npz": remote(npz),
    "remote npy": remote(npy),
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    return SOURCES[request.param](tmp_path)


def test_every_source_keeps_the_contract(source: Path | str) -> None:
    check_data(open_data(source, "test", CLASSES))


def test_every_source_gives_images_and_labels(source: Path | str) -> None:
    dataset = open_data(source, "test", CLASSES)
    samples = dataset.samples
    assert (samples.split, samples.classes) == ("test", CLASSES)
    assert samples.labels is not None
    for row, image in enumerate(dataset.read(np.arange(COUNT))):
        # Which image it is, told by its content.
        values = np.asarray(image)
        (number,) = [i for i in range(COUNT) if (IMAGES[i][:9, :14] == values[:9, :14]).all()]
        assert samples.labels[row] == LABELS[number]


def test_digests_are_those_of_the_images(source: Path | str) -> None:
    dataset = open_data(source, "test", CLASSES)
    assert len(set(dataset.digests(np.arange(COUNT)).tolist())) == COUNT


@pytest.mark.parametrize("address", ["", "file://"])
@pytest.mark.parametrize("make", [folder, table, saved])
def test_broken_images_keep_the_contract(
    tmp_path: Path, make: Callable[[Path], Path], address: str
) -> None:
    if address and make is saved:
        with pytest.raises(DataError, match="no image in it"):
            open_data(f"{address}{broken(make, tmp_path)}", "val", CLASSES)
        return
    dataset = open_data(f"{address}{broken(make, tmp_path)}", "val", CLASSES)
    rows = [row for row in range(COUNT) if _is_broken(dataset, row)]
    assert len(rows) == len(SPOILT)
    check_data(dataset, rows)


# What is left of a file.
SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "0.png": lambda _: b"",
    "4.png": lambda _: b"garbage",
    "6.png": lambda data: data[:60],
}


def broken(make: Callable[[Path], Path], root: Path) -> Path:
    """A source some of whose image files are no images: empty, garbage, truncated."""
    if make is saved:
        datasets = pytest.importorskip("datasets", reason="the extra datasets is not installed")
        files = sorted(folder(root).rglob("*.png"), key=_number)
        for path in files:
            _spoil(path)
        columns = {
            "image": [{"bytes": path.read_bytes(), "path": None} for path in files],
            "label": LABELS,
        }
        features = datasets.Features(
            image=datasets.Image(), label=datasets.ClassLabel(names=list(CLASSES))
        )
        datasets.Dataset.from_dict(columns, features=features).save_to_disk(root / "saved")
        return root / "saved"
    made = make(root)
    for path in root.rglob("*.png"):
        _spoil(path)
    return made


def _spoil(path: Path) -> None:
    if path.name in SPOILT:
        path.write_bytes(SPOILT[path.name](path.read_bytes()))


def _is_broken(dataset: Dataset, row: int) -> bool:
    try:
        dataset.read(np.array([row]))
    except BrokenSamplesError:
        return True
    return False


class Faulty(ArrayDataset):
    """Keeps the contract but for one thing."""

    def __init__(self, fault: str) -> None:
        images = np.arange(COUNT * 64, dtype=np.uint8).reshape(COUNT, 8, 8)
        super().__init__(images, Samples.of(LABELS, classes=CLASSES))
        self.fault = fault
        self.reads = 0

    def read(self, rows: Array) -> Array:
        self.reads += 1
        if self.fault == "refuses":
            raise ValueError("no BrokenSamplesError")
        if self.fault == "sorts":
            rows = np.sort(rows)
        if self.fault == "forgets":
            rows = rows[:-1]
        images = super().read(rows)
        if self.fault == "changes":
            images = images + np.uint8(self.reads)
        return images

    def digests(self, rows: Array) -> Array:
        if self.fault == "signed":
            return super().digests(rows).astype(np.int64)
        if self.fault == "counts":
            return np.arange(len(rows), dtype=np.uint64)
        return super().digests(rows)


FAULTS = {
    "sorts": "order of the rows",
    "forgets": "one sample a row",
    "changes": "reading again gives the same",
    "signed": "digests are uint64",
    "counts": "digests come in the order",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_contract_notices(fault: str) -> None:
    check_data(Faulty("none"))
    with pytest.raises(AssertionError, match=FAULTS[fault]):
        check_data(Faulty(fault))


def test_the_contract_notices_what_is_read_though_it_is_broken() -> None:
    with pytest.raises(AssertionError, match="is a BrokenSamplesError"):
        check_data(Faulty("none"), [3])


# Addresses


def _same(here: Dataset, there: Dataset) -> None:
    rows = np.arange(len(here.samples))
    assert there.samples.fingerprint == here.samples.fingerprint
    assert there.samples.classes == here.samples.classes
    assert len(there.samples.notes) == len(here.samples.notes)
    assert not any("/committee-" in note for note in there.samples.notes)
    assert there.digests(rows).tolist() == here.digests(rows).tolist()
    for own, other in zip(here.read(rows), there.read(rows), strict=True):
        assert np.array_equal(own, other) if isinstance(own, np.ndarray) else own == other


def _of_records(field: Field) -> ModelSpec:
    return ModelSpec("m", "python:m.py:m", Record((field,)), task="classification")


def test_records_behind_an_address_are_those_of_the_file(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    rows = record_world.reviews(9, 0)
    record_world.write_csv(tmp_path / "d.csv", rows)
    record_world.write_jsonl(tmp_path / "d.jsonl", [dict(row) for row in rows])
    models = [_of_records(Field("", ("text",)))]
    for name in ("d.csv", "d.jsonl", "d.csv:label=stars,id=text"):
        specs = (f"{at}{tmp_path / name}" for at in ("", "file://"))
        _same(*(open_data(each, "val", ("no", "3"), models=models, labels="if they fit")
                for each in specs))  # fmt: skip
    files = [_of_records(Field())]
    _same(*(open_data(f"{at}{folder(tmp_path)}", "val", CLASSES, models=files)
            for at in ("", "file://")))  # fmt: skip
    (tmp_path / "torn.csv").write_text("text,label\na\n")
    with pytest.raises(DataError, match=rf"^file://{tmp_path}/torn.csv: line 2 has not"):
        open_data(f"file://{tmp_path}/torn.csv", models=models)


def test_a_table_behind_an_address_names_files_by_their_addresses(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    images = sorted(folder(tmp_path).rglob("*.png"))
    (tmp_path / "lists").mkdir()
    names = [f"file://{images[0]}", f"../data/{images[1].parent.name}/{images[1].name}", "../none"]
    (tmp_path / "lists" / "list.csv").write_text("\n".join(["path", *names]))
    dataset = open_data(f"file://{tmp_path}/lists/list.csv")
    for row in (0, 1):
        (read,) = dataset.read(np.array([row]))
        assert np.array_equal(np.asarray(read), np.asarray(Image.open(images[row])))
    with pytest.raises(BrokenSamplesError, match="No such file"):
        dataset.read(np.array([2]))
    assert dataset.digests(np.array([2])).tolist() == [0]


def test_what_does_not_answer_is_no_fault_of_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    dataset = open_data(f"file://{folder(tmp_path)}", "val", CLASSES)

    def down(*_: object) -> None:
        raise OSError("the network is down")

    monkeypatch.setattr("committee.data.remote.Place._copy_into", down)
    with pytest.raises(DataError, match=r"cannot be read .*network is down.* run the same") as told:
        dataset.read(np.array([0]))
    assert not isinstance(told.value, BrokenSamplesError)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("file:///none/such", "file:///none/such: does not exist"),
        ("nosuch://bucket/images", "neither pyarrow nor fsspec opens it"),
        (f"file://{__file__}", r"is of no known form\. Of addresses a folder of images"),
    ],
)
def test_addresses_without_samples_are_refused(spec: str, told: str) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    with pytest.raises(DataError, match=told):
        open_data(spec)


# Tables


def test_labels_of_a_table_may_be_indices(tmp_path: Path) -> None:
    found = open_data(table(tmp_path, LABELS), classes=CLASSES).samples
    assert found.labels is not None
    assert found.labels.tolist() == LABELS


def test_digits_may_be_names_of_classes(tmp_path: Path) -> None:
    # A name wins over an index, so that the digits 1, 2, 3 are not shifted in silence.
    path = table(tmp_path, [1 + label for label in LABELS])
    found = open_data(path, classes=["3", "2", "1"]).samples
    assert found.labels is not None
    assert found.labels.tolist() == [2 - label for label in LABELS]


BAD_TABLES = {
    "": "must name the columns path",
    "phat,label\na,b\n": "must name the columns path",
    "path,label\n": "names no image",
    "path,label\na.png\n": "line 2 has not the 2 columns",
    "path,label\na.png,cat\nb.png,cow\n": "line 3: label 'cow' is no class of the models",
    "path,label\na.png,1\nb.png,cow\n": "line 2: label '1' is no class|line 3: label 'cow'",
    "path,label\na.png,cat\nb.png,1\n": "line 3: label '1' is an index, but others",
    "path,label\na.png,9\n": "has label 9, but classes 0 to ",
    "path\na.png\na.png\n": "id 'a.png' stands twice",
    "path,label\n\xff": "no readable csv|columns path|has not the 2",
}


@pytest.mark.parametrize("text", BAD_TABLES)
def test_tables_that_mean_nothing_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="latin-1")
    with pytest.raises(CommitteeError, match=BAD_TABLES[text]) as told:
        open_data(tmp_path / "a.csv", classes=CLASSES)
    assert "\n" not in str(told.value)


def test_a_table_may_have_no_labels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path\nb.png\na.png\n")
    found = open_data(tmp_path / "a.csv").samples
    assert (found.ids, found.labels) == (("b.png", "a.png"), None)


def test_images_missing_from_a_table_are_broken(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path\nb.png\n")
    with pytest.raises(BrokenSamplesError, match=r"b.png \(No such file"):
        open_data(tmp_path / "a.csv").read(np.array([0]))


# Arrays


def test_an_array_stays_on_disk(tmp_path: Path) -> None:
    dataset = open_data(npy(tmp_path), classes=CLASSES)
    assert isinstance(dataset._images, np.memmap)  # type: ignore[attr-defined]
    assert dataset.samples.ids[:2] == ("id 0", "id 1")


def test_an_archive_named_npy_is_refused(tmp_path: Path) -> None:
    npz(tmp_path).rename(tmp_path / "data.npy")
    with pytest.raises(DataError, match="not an archive"):
        open_data(tmp_path / "data.npy")


# Saved data sets


def test_classes_of_a_saved_data_set_are_matched_by_name(tmp_path: Path) -> None:
    found = open_data(saved(tmp_path), classes=["eel", "dog", "bee", "cat"]).samples
    assert found.labels is not None
    assert found.labels.tolist() == [{0: 3, 1: 1, 2: 0}[label] for label in LABELS]


def test_a_saved_data_set_tells_its_classes_and_ids(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra datasets is not installed")
    found = open_data(saved(tmp_path, id=datasets.Value("string"))).samples
    assert (found.classes, found.ids[0]) == (CLASSES, "id 0")


def test_other_classes_of_a_saved_data_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MisalignedError, match="'dog', 'eel' are no classes of the models"):
        open_data(saved(tmp_path), classes=["cat", "cow"])


def test_two_columns_of_images_are_refused(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra datasets is not installed")
    path = saved(tmp_path)
    both = datasets.load_from_disk(path)
    both = both.add_column("mask", both["label"]).cast_column("mask", datasets.Value("int64"))
    both.save_to_disk(tmp_path / "fine")
    assert len(open_data(tmp_path / "fine", classes=CLASSES).samples) == COUNT
    both.remove_columns("image").save_to_disk(tmp_path / "none")
    with pytest.raises(DataError, match="has 0 columns of images"):
        open_data(tmp_path / "none")


def test_of_several_saved_splits_the_one_named_is_taken(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra datasets is not installed")
    whole = datasets.load_from_disk(saved(tmp_path))
    splits = {"val": whole.select(range(3)), "test": whole.select(range(3, COUNT))}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "both")
    assert len(open_data(tmp_path / "both", "test", CLASSES).samples) == COUNT - 3
    assert len(open_data(tmp_path / "both" / "val", "x", CLASSES).samples) == 3
    with pytest.raises(UnknownNameError, match=r"no split 'train'.*There are: test, val"):
        open_data(tmp_path / "both", "train", CLASSES)


def test_a_saved_data_set_that_is_damaged_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path)
    for file in path.glob("*.arrow"):
        file.unlink()
    with pytest.raises(DataError, match="no readable data set"):
        open_data(path)


def test_damaged_offsets_of_a_saved_data_set_are_not_followed(tmp_path: Path) -> None:
    # Arrow would read wherever they lead, and end the process.
    import pyarrow as pa

    (file,) = saved(tmp_path).glob("*.arrow")
    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
        whole = reader.read_all()
    images = whole.column("image").chunk(0)
    offsets = np.frombuffer(images.field("bytes").buffers()[1], np.int32)
    place = file.read_bytes().index(offsets[: COUNT + 1].tobytes())
    with file.open("r+b") as opened:
        opened.seek(place + 4 * COUNT)
        opened.write(np.int32(2**31 - 1).tobytes())
    with pytest.raises(DataError, match="damaged data set"):
        open_data(tmp_path / "saved", classes=CLASSES)


def test_images_of_a_saved_data_set_that_are_no_files_are_broken(tmp_path: Path) -> None:
    told = [None, {"bytes": None, "path": "/dev/null"}, {"bytes": None, "path": "nowhere"}]
    made = _HuggingFaceDataset(lambda rows: [told[row] for row in rows], Samples.of([0, 1, 0]))
    assert made.digests(np.arange(3)).tolist() == [0, 0, 0]
    with pytest.raises(BrokenSamplesError, match=r"0 \(no image\); 1 \(no regular file\); 2 \(No"):
        made.read(np.arange(3))


# Plug-ins


def generated(rest: str, split: str, classes: tuple[str, ...]) -> Dataset:
    if rest == "fail":
        raise ZeroDivisionError("first\nsecond")
    count = int(rest)
    images = np.zeros((count, 8, 8), np.uint8)
    return ArrayDataset(images, Samples.of(None, None, classes, split, count))


@pytest.fixture
def _plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("zeros", f"{__name__}:generated", "committee.data")
    monkeypatch.setattr("committee.data.open.entry_points", lambda group: [entry])


@pytest.mark.usefixtures("_plugged")
def test_a_plug_in_opens_what_its_name_says() -> None:
    dataset = open_data("zeros:12", "val", CLASSES, rows="2:")
    assert (len(dataset.samples), dataset.samples.classes) == (10, CLASSES)
    check_data(dataset)


def test_labels_of_the_demo_can_be_left_out() -> None:
    bare = open_data("embedded:val", "val", labels="none", rows=":3")
    whole = open_data("embedded:val", "val", rows=":3")
    assert (bare.samples.labels, bare.samples.ids) == (None, whole.samples.ids)
    assert (bare.digests(np.arange(3)) == whole.digests(np.arange(3))).all()


@pytest.mark.usefixtures("_plugged")
@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("zero:12", r"no plug-in of committee\.data 'zero'\. Did you mean 'zeros'\?"),
        ("zeros:fail", r"failed \(ZeroDivisionError: first\)"),
        ("nowhere", "does not exist"),
    ],
)
def test_a_plug_in_that_is_not_there_or_fails_is_told(spec: str, told: str) -> None:
    with pytest.raises((UnknownNameError, DataError), match=told) as caught:
        open_data(spec)
    assert "\n" not in str(caught.value)


def test_records_that_datasets_saved(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the extra datasets is not installed")
    features = datasets.Features(
        text=datasets.Value("string"), mood=datasets.ClassLabel(names=["sad", "glad"])
    )
    columns = {"text": ["a", "b", "c"], "mood": [0, 1, 1]}
    made = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict({"val": made, "test": made}).save_to_disk(tmp_path / "saved")
    spec = ModelSpec("m", "python:m.py:m", Record((Field("", ("text",)),)), task="classification")
    source = f"{tmp_path / 'saved'}:label=mood"
    data = open_data(source, "test", ("glad", "sad"), models=[spec])
    assert data.samples.labels is not None
    assert data.samples.labels.tolist() == [1, 0, 0]
    assert data.read(np.array([2, 0])) == ["c", "a"]
    check_data(data, recipe=spec.preprocessing)
