"""Labels that come later, or are corrected: the store is as if they had always been there."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import committee.files
from committee import Pool
from committee.cli import main
from committee.data.arrays import ArrayDataset
from committee.data.open import open_data
from committee.errors import ChangedError, CommitteeError, StoreError
from committee.pool.samples import Samples
from committee.predict import predict
from committee.rule.calibration import Calibration
from committee.run.results import Result, _write_results
from committee.store.calibrations import _write_calibrations
from committee.store.relabel import relabel
from committee.text import csv_text
from small_world import CLASSES, files_of, images, read_pool, unfinished

COUNT = 9
IDS = [f"image {i}" for i in range(COUNT)]
BEFORE = np.arange(COUNT) % 3
AFTER = np.array([2, 1, 0, 0, 0, 1, 1, 2, 2])


class World:
    """A pool, and stores of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pool, self.code = read_pool(folder)

    def predict(self, name: str, labels: Any, count: int = COUNT, ids: Any = IDS) -> Path:
        samples = Samples.of(labels, ids[:count], CLASSES, count=count)
        predict(
            self.pool,
            ArrayDataset(images(count), samples),
            self.folder / name,
            allow_code=self.code,
        )
        return self.folder / name


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def labels_of(store: Path) -> list[int]:
    found = Pool.load(store / "val").samples.labels
    assert found is not None
    return found.tolist()


@pytest.mark.parametrize("before", [BEFORE, None], ids=["corrected", "added"])
def test_a_store_is_as_if_the_labels_had_been_there(world: World, before: Any) -> None:
    store = world.predict("store", before)
    done = relabel(store, "val", AFTER)
    assert (done.added, done.changed) == ((9, 0) if before is None else (0, 6))
    fresh = world.predict("fresh", AFTER)
    world.predict("store", AFTER)  # computes nothing
    assert files_of(store / "val") == files_of(fresh / "val")
    assert relabel(store, "val", AFTER).changed == 0


def test_predict_takes_labels_in_and_keeps_them(world: World) -> None:
    store = world.predict("store", None, 7)
    world.predict("store", BEFORE)
    assert labels_of(store) == BEFORE.tolist()
    world.predict("store", None)
    assert labels_of(store) == BEFORE.tolist()
    with pytest.raises(ChangedError, match="1 new samples have none: 'more'"):
        world.predict("store", None, 10, [*IDS, "more"])
    with pytest.raises(ChangedError, match=r"6 of 9 labels differ.*committee relabel"):
        world.predict("store", AFTER)


def test_whenever_it_stops_the_store_is_whole(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = 0

    def stopping(path: Path, data: bytes) -> Path:
        nonlocal writes
        writes -= 1
        if writes < 0:
            raise KeyboardInterrupt
        return whole(path, data)

    whole = committee.files.write_bytes
    monkeypatch.setattr("committee.files.write_bytes", stopping)
    for part in ("entry", "split"):
        monkeypatch.setattr(f"committee.store.{part}.write_bytes", stopping)
    seen = []
    for moment in range(2):
        writes = 10**6
        store = world.predict(f"store {moment}", BEFORE)
        writes = moment
        with suppress(KeyboardInterrupt):
            relabel(store, "val", AFTER)
        seen.append(labels_of(store))
        writes = 10**6
        relabel(store, "val", AFTER)
        assert labels_of(store) == AFTER.tolist()
    assert seen == [BEFORE.tolist(), AFTER.tolist()]


def test_unfinished_outputs_go_on_after_new_labels(world: World) -> None:
    store = world.predict("store", BEFORE)
    unfinished(store / "val", "two")
    relabel(store, "val", AFTER)
    world.predict("store", AFTER)
    assert files_of(store / "val") == files_of(world.predict("fresh", AFTER) / "val")


def test_calibrations_of_the_labels_before_are_removed(world: World) -> None:
    store = world.predict("store", BEFORE)
    fitted = Calibration("temperature", (0.5,), split="val")
    _write_calibrations(store, {"one": fitted, "two": replace(fitted, split="cal")})
    assert not relabel(store, "val", BEFORE).notes
    assert "calibration" in json.loads((store / "store.json").read_text())["models"]["one"]
    (note,) = relabel(store, "val", AFTER).notes
    assert "calibrations of 'one' were fitted to the old labels" in note
    models = json.loads((store / "store.json").read_text())["models"]
    assert ["calibration" in models[name] for name in ("one", "two")] == [False, True]


def by_csv(folder: Path) -> Path:
    with (folder / "new.csv").open("w", newline="") as file:
        rows = [(f" {CLASSES[AFTER[i]]}", i, IDS[i]) for i in (4, 2, 8, 0, 1, 3, 5, 6, 7)]
        csv.writer(file).writerows([("Label", "n", "ID"), *rows, ("eel", 9, "of another split")])
    return folder / "new.csv"


def by_npz(folder: Path) -> Path:
    order = np.argsort(IDS)[::-1]
    np.savez(
        folder / "new.npz",
        labels=(2 - AFTER)[order],
        ids=np.array(IDS)[order],
        classes=CLASSES[::-1],
    )
    return folder / "new.npz"


def by_npy(folder: Path) -> Path:
    np.save(folder / "new.npy", [CLASSES[label] for label in AFTER])
    return folder / "new.npy"


FORMS: dict[str, Callable[[Path], Any]] = {
    "csv": by_csv,
    "npz": by_npz,
    "npy": by_npy,
    "by id": lambda _: dict(zip(IDS, [CLASSES[label] for label in AFTER], strict=True)),
    "data": lambda folder: Path(
        _saved(folder / "data.npz", images=images(COUNT), labels=AFTER, ids=IDS)
    ),
}


def _saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_labels_come_in_many_forms(world: World, form: str) -> None:
    store = world.predict("store", BEFORE)
    relabel(store, "val", FORMS[form](world.folder))
    assert labels_of(store) == AFTER.tolist()


def test_some_labels_are_corrected_and_empty_ones_are_none(world: World) -> None:
    store = world.predict("store", BEFORE)
    done = relabel(store, "val", {IDS[1]: "eel", IDS[2]: None, IDS[3]: float("nan"), IDS[4]: -1})
    assert (done.changed, done.notes) == (1, ("3 labels are empty and change nothing",))
    assert labels_of(store) == [0, 2, *BEFORE[2:].tolist()]


def test_files_that_were_sorted_anew_are_known_by_content(world: World) -> None:
    for i, image in enumerate(images(COUNT)):
        folder = world.folder / "data" / CLASSES[BEFORE[i]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    store = world.folder / "store"
    first = open_data(world.folder / "data", classes=CLASSES)
    predict(world.pool, first, store, allow_code=world.code)
    (world.folder / "data" / "dog" / "1.png").rename(world.folder / "data" / "eel" / "1.png")
    assert relabel(store, "val", str(world.folder / "data")).changed == 1
    samples = Pool.load(store / "val").samples
    assert samples.labels is not None
    assert samples.labels[samples.ids.index("dog/1.png")] == 2


BAD: dict[str, tuple[Any, str]] = {
    "fewer": ([0, 1], "2 labels without ids, but the split has 9"),
    "strange": (dict.fromkeys(IDS, "cow"), "label 'cow' is no class of the models"),
    "of others": ({"x": 0}, "none of the 1 ids is in the split.*'image 0'.* labels have 'x'"),
    "some": ({IDS[0]: 0}, "8 of 9 samples would have no label: 'image 1'.*and 3 more"),
    "beyond": ([7] * COUNT, "has label 7, but classes 0 to 2|there is label 7"),
}


@pytest.mark.parametrize("case", BAD)
def test_labels_that_mean_nothing_change_nothing(world: World, case: str) -> None:
    store = world.predict("store", None)
    before = files_of(store)
    given, told = BAD[case]
    with pytest.raises(CommitteeError, match=told) as caught:
        relabel(store, "val", given)
    assert "\n" not in str(caught.value)
    assert files_of(store) == before


def test_a_split_that_is_not_there_is_told(world: World) -> None:
    with pytest.raises(StoreError, match="no split 'test' to relabel; there are: val"):
        relabel(world.predict("store", None), "test", AFTER)


def test_the_command_says_what_changed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    store = world.predict("store", None)
    words = ["relabel", str(store), "--split", "val", "--labels", str(by_csv(world.folder))]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "Note: 1 labels belong to samples that are not in the split" in told
    assert "9 labels added of 9 samples" in told
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == 0


def test_a_csv_of_paths_is_joined_by_the_files_that_it_names(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    for row, image in enumerate(images(COUNT)):
        # The last two are copies of one another: their paths tell which is which.
        path = tmp_path / "pics" / CLASSES[row % 3] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images(COUNT)[COUNT - 2] if row == COUNT - 1 else image).save(path)
        names.append(f"{path.parent.name}/{path.name}")
    data = open_data(str(tmp_path / "pics"), "val", CLASSES)
    predict(world.pool, data, world.folder / "s", allow_code=world.code)
    place = {name: row for row, name in enumerate(names)}
    for table in (tmp_path / "here.csv", tmp_path / "tables" / "there.csv"):
        table.parent.mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path)
        lines = [f"pics/{name},{CLASSES[label]}" for name, label in zip(names, AFTER, strict=True)]
        table.write_text("\n".join(["path,label", *lines]))
        relabel(world.folder / "s", "val", table)
        ids = Pool.load(world.folder / "s" / "val").samples.ids
        assert labels_of(world.folder / "s") == [int(AFTER[place[name]]) for name in ids]
        relabel(world.folder / "s", "val", dict.fromkeys(ids, 0))


def test_names_and_indices_are_not_mixed(world: World) -> None:
    store = world.predict("s", BEFORE)
    with pytest.raises(CommitteeError, match=r"label '1' is an index.*the two are mixed"):
        relabel(store, "val", [CLASSES[0], "1", *[CLASSES[2]] * 7])


@pytest.mark.parametrize("form", ["results", "table"])
def test_names_are_found_behind_the_apostrophe_of_a_csv(world: World, form: str) -> None:
    ids = [f"={i}\r.png" for i in range(COUNT)]
    store = world.predict("store", BEFORE, ids=ids)
    path = world.folder / "labels.csv"
    if form == "results":
        rows = zip(ids, AFTER.tolist(), strict=True)
        _write_results(
            path, [Result(name, 0, "cat", 1.0, 0, None, k, CLASSES[k]) for name, k in rows]
        )
    else:
        named = [[name, CLASSES[k]] for name, k in zip(ids, AFTER, strict=True)]
        path.write_text(csv_text([["id", "label"], *named]), newline="")
    assert relabel(store, "val", path).changed == 6
    assert labels_of(store) == AFTER.tolist()


def test_a_file_without_a_label_says_so(world: World) -> None:
    store = world.predict("a", None)
    with pytest.raises(CommitteeError, match="there are no labels, all are -1"):
        relabel(store, "val", [-1] * 9)
