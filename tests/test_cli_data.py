"""What the command line says of shares, of splits, and of broken images."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from committee import Cascade, Pool
from committee.cli import main
from committee.data.open import open_data
from small_world import CLASSES, code_of, images, write_npz, write_pool

Caught = pytest.CaptureFixture[str]
EACH = 20


class Workplace:
    """A pool file and a folder of images in the current folder, and the commands run there."""

    def __init__(self, caught: Caught) -> None:
        self.caught = caught
        pool = write_pool(Path())
        self.code = f"--allow-code {code_of(pool)[0]}"
        for i, image in enumerate(images(EACH * len(CLASSES))):
            folder = Path("data") / CLASSES[i % len(CLASSES)]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{i:02}.png")

    def run(self, words: str) -> str:
        assert main(words.split()) == 0, self.caught.readouterr().err
        return self.caught.readouterr().out

    def predict(self, options: str) -> Any:
        told = self.run(f"predict pool.toml --data data {self.code} {options} --json")
        return json.loads(told)

    def fails(self, words: str) -> str:
        assert main(words.split()) == 2
        error = self.caught.readouterr().err
        assert error.count("\n") == 1
        return error


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Caught) -> Workplace:
    monkeypatch.chdir(tmp_path)
    return Workplace(capsys)


@pytest.mark.parametrize("again", ["--fraction 0.4 --seed 3", ""], ids=["same words", "no words"])
def test_val_takes_a_fraction_and_test_the_rest(work: Workplace, again: str) -> None:
    val = work.predict("--split val --fraction 0.4 --seed 3")
    test = work.predict(f"--split test {again}")
    assert (val["samples"], test["samples"]) == (24, 36)
    pools = [Pool.load(f"predictions/{split}") for split in ("val", "test")]
    labels = [np.bincount(pool.samples.labels).tolist() for pool in pools]
    assert labels == [[8, 8, 8], [12, 12, 12]]
    assert not set(pools[0].samples.ids) & set(pools[1].samples.ids)
    assert val["rule"] == "fraction 0:0.4, seed 3, of 60 samples"
    assert test["rule"] == (
        "fraction 0.4:1, seed 3, of 60 samples"
        if again
        else "what val left (fraction 0:0.4, seed 3, of 60 samples)"
    )
    # The same again computes nothing and refuses nothing.
    assert work.predict(f"--split test {again}") == test


def test_what_another_split_has_is_refused(work: Workplace) -> None:
    work.predict("--split val --fraction 0.5")
    words = f"predict pool.toml --data data {work.code} --split test"
    assert "would share 10 samples" in work.fails(f"{words} --rows :20")
    assert "would share" in work.fails(f"{words} --fraction 0.5 --seed 1")
    assert "'val' and 'cal' would share 30" in work.fails(f"{words[:-4]}cal")


def test_three_splits_of_one_folder(work: Workplace) -> None:
    work.predict("--split val --fraction 0:0.5")
    work.predict("--split cal --fraction 0.5:0.6")
    assert work.predict("--split test")["samples"] == 24


def test_other_data_for_test_is_taken_whole(work: Workplace) -> None:
    work.predict("--split val --fraction 0.5")
    np.savez("other.npz", images=images(9, seed=5), labels=np.arange(9) % 3)
    told = work.run(f"predict pool.toml --data other.npz {work.code} --split test --json")
    assert (json.loads(told)["samples"], json.loads(told)["rule"]) == (9, "")


def spoil() -> None:
    work = [Path("data/cat/00.png"), Path("data/dog/34.png"), Path("data/eel/02.png")]
    for path in work:
        path.write_bytes(path.read_bytes()[:50])


def test_what_is_broken_in_one_split_is_not_the_rest(work: Workplace) -> None:
    spoil()
    val = work.predict("--split val --fraction 0.5 --skip-broken")
    test = work.predict("--split test --skip-broken")
    assert len(val["broken"]) + len(test["broken"]) == 3
    assert val["samples"] + test["samples"] == 57


def test_broken_images_are_an_error_that_says_how_to_go_on(work: Workplace) -> None:
    spoil()
    error = work.fails(f"predict pool.toml --data data {work.code} --split val")
    assert "3 of the samples cannot be read: cat/00.png (" in error
    assert "--skip-broken" in error


def test_every_report_counts_the_broken_images(work: Workplace) -> None:
    spoil()
    # Which of the three the first half holds depends on their names alone.
    val = work.predict("--split val --rows ::2 --skip-broken")
    test = work.predict("--split test --rows 1::2 --skip-broken")
    counts = {"val": len(val["broken"]), "test": len(test["broken"])}
    assert sum(counts.values()) == 3
    assert val["notes"] == [told(counts, "val")]
    assert {each["id"] for each in val["broken"] + test["broken"]} == {
        "cat/00.png",
        "dog/34.png",
        "eel/02.png",
    }
    searched = work.run("search predictions --max-cost 100 --out cascade.json")
    assert told(counts, "val") in searched
    assert told(counts, "test") in searched
    assert json.loads(work.run("search predictions --json"))["broken_left_out"] == counts
    assert told(counts, "test") in work.run("evaluate cascade.json predictions")
    evaluated = json.loads(work.run("evaluate cascade.json predictions --json"))
    assert evaluated["broken_left_out"] == {"test": counts["test"]}
    assert told(counts, "val") in work.run("report predictions --out report.html")
    assert told(counts, "test") in Path("report.html").read_text()
    assert json.loads(work.run("report predictions --json"))["broken_left_out"] == counts
    ran = work.run(f"run cascade.json --data data --out r.csv {work.code}")
    assert "3 broken images: cat/00.png (" in ran
    assert len(Path("r.csv").read_text().splitlines()) == 1 + 60
    words = f"run cascade.json --data data --out r.csv {work.code} --json --overwrite"
    assert len(json.loads(work.run(words))["broken"]) == 3


def test_predict_and_run_name_what_they_pass_over(work: Workplace) -> None:
    Path("data/cat/new.heic").write_bytes(b"")
    line = "1 file of other endings skipped: .heic"
    assert work.predict("--split val")["notes"][0] == line
    work.run("search predictions --max-cost 100 --out cascade.json")
    words = f"run cascade.json --data data --out r.csv {work.code}"
    assert line in work.run(words)
    assert json.loads(work.run(f"{words} --overwrite --json"))["notes"] == [line]


def test_run_says_why_costs_are_unknown(work: Workplace) -> None:
    text = Path("pool.toml").read_text()
    Path("priceless.toml").write_text(re.sub(r"(?m)^costs\..*$", "", text))
    words = (
        f"run {Cascade.of(['one']).save('hand.json')} --data data --out r.csv {work.code} "
        "--overwrite --pool"
    )
    told = work.run(f"{words} priceless.toml")
    assert "Average cost: unknown, because one has no costs. Write costs.macs" in told
    assert "unknown" not in work.run(f"{words} pool.toml")


def told(counts: dict[str, int], split: str) -> str:
    plural = "" if counts[split] == 1 else "s"
    return f"{counts[split]} broken sample{plural} left out of {split}"


def test_nothing_is_said_where_nothing_is_broken(work: Workplace) -> None:
    work.predict("--split val --skip-broken")
    assert "broken" not in work.run("search predictions")
    assert json.loads(work.run("search predictions --json"))["broken_left_out"] == {"val": 0}


def test_a_share_can_be_run(work: Workplace) -> None:
    work.predict("--split val --fraction 0.5")
    work.run("search predictions --max-cost 100 --out cascade.json")
    work.run(f"run cascade.json --data data --out r.csv {work.code} --fraction 0.5:1")
    ran = {line.split(",")[0] for line in Path("r.csv").read_text().splitlines()[1:]}
    assert len(ran) == 30
    assert not ran & set(Pool.load("predictions/val").samples.ids)


def test_the_type_of_the_stored_numbers_is_asked_for(work: Workplace) -> None:
    work.predict("--split val --dtype float16")
    assert np.load("predictions/val/one.npy").dtype == np.float16
    assert "Did you mean" in work.fails(
        f"predict pool.toml --data data {work.code} --split test --dtype float"
    )


def test_calibrate_says_that_a_third_split_is_needed(work: Workplace) -> None:
    work.predict("--split val --fraction 0:0.4")
    error = work.fails("calibrate predictions")
    assert "no split 'cal'. Calibration needs a third split, beside val and test" in error
    assert "Did you mean" not in error
    work.predict("--split cal --fraction 0.4:0.7")
    # The models guess, which no calibration can better; the split is one of its own.
    assert "no temperature" in work.fails("calibrate predictions")


def test_run_counts_what_is_broken_and_speaks_of_one_as_of_one(work: Workplace) -> None:
    work.predict("--split val --fraction 0.5")
    work.run("search predictions --max-cost 100 --out cascade.json")
    Path("data/cat/00.png").write_bytes(b"")
    told = work.run(f"run cascade.json --data data --out r.csv {work.code}")
    assert told.startswith("60 samples, 59 decided and 1 broken, ")
    assert "1 broken image: cat/00.png (" in told
    assert "It has a row with the reason." in told
    error = work.fails(f"run cascade.json --data data/cat/00.png --out one.csv {work.code}")
    assert "the only image could not be decided: 00.png (" in error


@pytest.mark.parametrize("ending", ["NPZ", "CSV"])
def test_endings_in_capitals_are_endings(tmp_path: Path, ending: str) -> None:
    small = write_npz(tmp_path / "a.npz", 5)
    if ending == "CSV":
        Image.fromarray(images(1)[0]).save(tmp_path / "a.png")
        (tmp_path / "x.CSV").write_text("path,label\na.png,cat\n")
    else:
        small.rename(tmp_path / "x.NPZ")
    found = open_data(tmp_path / f"x.{ending}", classes=CLASSES)
    assert found.samples.labels is not None
