"""Identity goes by content where there is content, else by names, and never by ids that count."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from committee import Pool, search
from committee.cli import main
from committee.errors import MisalignedError
from committee.pool.evaluate import check_test_pool
from committee.pool.identity import content_copies, shared
from committee.pool.samples import Samples
from small_world import CLASSES, read_pool


def split(content: list[int] | None, names: list[str] | None = None, name: str = "val") -> Samples:
    count = len(content if content is not None else names or ())
    ids = names or [f"{name}/{i}" for i in range(count)]
    known = None if content is None else np.array(content, np.uint64)
    return Samples(tuple(ids), None, split=name, content=known)


contents = st.lists(st.integers(0, 6), max_size=12)


@given(contents, contents, st.randoms())
def test_shared_is_symmetric_and_knows_no_names_or_order(one, two, random) -> None:
    found = shared(split(one), split(two, name="test"))
    back = shared(split(two, name="test"), split(one))
    assert found.first.tolist() == back.second.tolist()
    assert found.second.tolist() == back.first.tolist()
    assert found.most == back.most
    # By the definition: a content that is known, and stands in the other split.
    assert found.first.tolist() == [i for i, each in enumerate(one) if each and each in two]
    mixed = random.sample(one, len(one))
    renamed = shared(split(mixed, [f"x{i}" for i in range(len(one))]), split(two, name="test"))
    assert (len(renamed.first), len(renamed.second)) == (len(found.first), len(found.second))
    if 0 not in one:
        assert split(mixed, [f"x{i}" for i in range(len(one))]).identity == split(one).identity


@given(contents)
def test_copies_are_all_but_the_first_of_a_content(content) -> None:
    seen = [each for each in content if each]
    count = len(seen) - len(set(seen))
    assert content_copies(split(content)).partition(" ")[0] == (str(count) if count else "")


@pytest.mark.parametrize(
    ("one", "two", "count"),
    [
        ("ab", "ab", 2),
        ("ab", "bc", 1),
        ("ab", "cd", 0),
        ("01", "01", 0),  # ids that only count
        ("12", "12", 0),
        ("10", "01", 0),
        ("19", "29", 1),
    ],
)
def test_without_content_names_say_it_unless_they_count(one, two, count) -> None:
    assert len(shared(split(None, [*one]), split(None, [*two], "test"))) == count


def outputs(rows: int, seed: int, kind: str) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    if kind == "decisions":
        draws = (rng.integers(0, 3, rows), rng.integers(0, 11, rows) / 10)
        return {"a": draws, "b": draws}
    values = rng.dirichlet(np.ones(3), rows)
    return {"a": values, "b": values[:, ::-1]}


def numbered(rows: int, seed: int, kind: str, name: str) -> Pool:
    """A pool sorted by class, whose ids only count."""
    labels = np.sort(np.arange(rows) % 3)
    return Pool.from_arrays(
        labels, outputs(rows, seed, kind), kind=kind, costs={"a": 1, "b": 2}, split=name
    )


@pytest.mark.parametrize("kind", ["probabilities", "decisions"])
def test_two_imports_of_one_size_are_other_samples(kind: str) -> None:
    check_test_pool(numbered(150, 0, kind, "val"), numbered(150, 1, kind, "test"))


@pytest.mark.parametrize("kind", ["probabilities", "decisions"])
def test_the_same_outputs_of_the_same_models_are_the_same_samples(kind: str) -> None:
    with pytest.raises(MisalignedError, match="'test' holds the same samples as 'val'"):
        check_test_pool(numbered(150, 0, kind, "val"), numbered(150, 0, kind, "test"))


def test_outputs_in_another_order_or_precision_are_the_same_samples() -> None:
    val = numbered(150, 0, "probabilities", "val")
    mixed = val.rows(np.random.default_rng(0).permutation(150), "test")
    single = {name: each.values.astype(np.float32) for name, each in mixed.outputs.items()}
    test = Pool.from_arrays(
        mixed.samples.labels, single, kind="probabilities", costs={"a": 1, "b": 2}, split="test"
    )
    with pytest.raises(MisalignedError, match="150 of 150"):
        check_test_pool(val, test)


def test_what_few_share_is_a_warning_with_the_count() -> None:
    names = [f"n{i}" for i in range(150)]
    val, test = (numbered(150, seed, "probabilities", s) for seed, s in ((0, "val"), (1, "test")))
    val = replace(val, samples=split([*range(1, 151)], names))
    val = replace(val, samples=replace(val.samples, labels=np.arange(150) % 3))
    content = [*range(141, 291)]
    test = replace(test, samples=replace(split(content, names, "test"), labels=np.arange(150) % 3))
    front = search(val, test=test, unit="macs")
    assert any("10 of 150 samples of 'test' are also in 'val'" in each for each in front.warnings)


# In a store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pool file, images of two classes in two folders, other images of the same names."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    read_pool(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        for label in CLASSES:
            (tmp_path / name / label).mkdir(parents=True)
            for i in range(8):
                pixels = rng.integers(0, 256, (4, 4), np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / label / f"{i}.png")
    return tmp_path


def run(capsys, words: str) -> tuple[int, str]:
    code = main(words.split())
    output = capsys.readouterr()
    return code, output.out + output.err


PREDICT = "predict pool.toml --allow-code models.py --data"


def predicted(capsys, data: str, name: str, more: str = "") -> str:
    code, told = run(capsys, f"{PREDICT} {data} --split {name} {more}")
    assert code == 0, told
    return told


def test_other_images_of_the_same_names_are_fine_everywhere(folder, capsys) -> None:
    predicted(capsys, "one", "val")
    predicted(capsys, "two", "test")
    for words in (
        "search predictions --match two --out c.json",
        "evaluate c.json predictions",
    ):
        code, told = run(capsys, words)
        assert code == 0, told
    assert "chose the cascade" not in run(capsys, "evaluate c.json predictions")[1]
    assert "chose the cascade" in run(capsys, "evaluate c.json predictions --split val")[1]


def test_the_same_images_under_other_names_are_counted(folder, capsys) -> None:
    predicted(capsys, "one", "val")
    for number, path in enumerate(sorted((folder / "one").rglob("*.png"))):
        (folder / "leak" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "leak" / path.parent.name / f"copy{number}.png")
    code, told = run(capsys, f"{PREDICT} leak --split test")
    assert code == 2
    assert "24 of 24 samples of 'test' are also in 'val'" in told
    assert "copy0.png" in told
    # In another store nothing refuses them before the search.
    predicted(capsys, "leak", "test", "--out other")
    code, told = run(capsys, "search predictions --test other/test --match two")
    assert code == 2
    assert "24 of 24" in told


def test_few_copies_are_a_note_in_predict_search_and_evaluate(folder, capsys) -> None:
    shutil.copy(folder / "one" / "cat" / "0.png", folder / "two" / "cat" / "copy.png")
    shutil.copy(folder / "two" / "dog" / "0.png", folder / "two" / "dog" / "again.png")
    predicted(capsys, "one", "val")
    told = predicted(capsys, "two", "test")
    assert "Note: 1 of 26 samples of 'test' is also in 'val': 'cat/copy.png'" in told
    assert "Note: 1 of 26 samples is a copy of another in 'test', by content" in told
    told = run(capsys, "search predictions --match two --out c.json")[1]
    assert "1 of 26 samples of 'test' is also in 'val'" in " ".join(told.split()).replace(
        "images", "samples"
    ).replace("images", "samples")
    assert (
        "1 of 26 samples of 'test' is also in 'val'"
        in run(capsys, "evaluate c.json predictions")[1]
    )
    copy = "1 of 26 samples is a copy of another in 'test', by content"
    for words in ("search predictions", "evaluate c.json predictions", "report predictions"):
        assert copy in " ".join(run(capsys, words)[1].split())
        assert copy in " ".join(json.loads(run(capsys, f"{words} --json")[1])["warnings"])
    assert "1 of 26 samples is a copy of another" in Path("report.html").read_text()


def change(path: Path, grey: int = 7) -> None:
    from PIL import Image

    Image.fromarray(np.full((4, 4), grey, np.uint8)).save(path)


def test_a_changed_image_is_told_as_that_in_every_split(folder, capsys) -> None:
    predicted(capsys, "one", "val", "--fraction 0.5")
    ids = Pool.load("predictions").samples.ids
    change(folder / "one" / ids[0])
    for words in ("val --fraction 0.5", "test"):
        code, told = run(capsys, f"{PREDICT} one --split {words}")
        assert code == 2
        assert f"1 of its 12 samples has changed: '{ids[0]}'; content of '{ids[0]}' was" in told
        assert len(set(re.findall(r"\b[0-9a-f]{16}\b", told))) == 2


def test_a_folder_that_grows_keeps_its_splits(folder, capsys) -> None:
    predicted(capsys, "one", "val", "--fraction 0.5")
    predicted(capsys, "one", "test")
    before = {name: set(Pool.load(f"predictions/{name}").samples.ids) for name in ("val", "test")}
    for number, label in enumerate(CLASSES):
        change(folder / "one" / label / "00.png", number)
    told = predicted(capsys, "one", "test")
    told += predicted(capsys, "one", "val", "--fraction 0.5")
    after = {name: set(Pool.load(f"predictions/{name}").samples.ids) for name in ("val", "test")}
    assert before["val"] == after["val"]
    assert len(after["test"]) == len(before["test"]) + 3
    assert "fraction 0:0.5" in told


def test_a_rule_is_not_dropped_in_silence(folder, capsys) -> None:
    predicted(capsys, "one", "val", "--fraction 0.5")
    code, told = run(capsys, f"{PREDICT} one --split val")
    assert code == 2
    assert "fraction 0:0.5, seed 0, of 24 samples" in told
    assert "--fraction" in told


def test_a_renamed_image_is_told_and_never_left_to_the_rest(folder, capsys) -> None:
    predicted(capsys, "one", "val", "--fraction 0.5")
    name = Pool.load("predictions").samples.ids[0]
    (folder / "one" / name).rename((folder / "one" / name).with_name("zz.png"))
    new = name.rpartition("/")[0] + "/zz.png"
    predicted(capsys, "one", "test")
    assert new not in Pool.load("predictions/test").samples.ids
    code, told = run(capsys, f"{PREDICT} one --split val --fraction 0.5")
    assert code == 2
    assert f"'{name}' is '{new}' now" in told


def test_an_import_beside_predictions_keeps_what_is_known(folder, capsys) -> None:
    predicted(capsys, "one", "val", "--fraction 0.5")
    known = Pool.load("predictions").samples
    np.savez(
        folder / "c.npz",
        outputs=np.random.default_rng(0).normal(size=(12, 3)),
        label=known.labels,
        id=np.array(known.ids),
    )
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    words = "import three=c.npz --kind logits --split val --classes classes.txt"
    code, told = run(capsys, words)
    assert code == 0, told
    again = Pool.load("predictions").samples
    assert again.content.tolist() == known.content.tolist()
    assert again.rule == known.rule


def test_verify_finds_predictions_by_content(folder, capsys) -> None:
    predicted(capsys, "one", "val")
    assert run(capsys, "search predictions --match two --out c.json")[0] == 0
    for path in sorted((folder / "one").rglob("*.png")):
        path.rename(path.with_name(f"renamed-{path.name}"))
    words = "verify c.json --data one --predictions predictions --split val --allow-code models.py"
    code, told = run(capsys, words)
    assert code == 0, told
    assert "all decisions are the same" in told
    code, told = run(capsys, words.replace("one", "two"))
    assert code == 2
    assert "24 samples: 'cat/0.png'" in told or "have changed" in told
