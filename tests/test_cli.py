"""Command line: one line for what is wrong, JSON for programs, help that fits a terminal."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from committee import Cascade, CommitteeError, Pool, __version__
from committee.cli import COMMANDS, main
from committee.cli.output import print_json
from committee.models.pool_file import read_pool_file
from committee.predict import predict
from small_world import code_of, dataset, files_of, unfinished, write_npz, write_pool


def test_json_is_ascii_with_an_indent_and_without_infinities(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for given, shown in (
        ({"a": (1, 1e-5, {}), "é\udcff\x1b": [[], 1e16]},) * 2,
        ({"a": math.inf, "b": [-math.inf, math.nan, 0.5]}, {"a": None, "b": [None, None, 0.5]}),
        (MappingProxyType({"a": 2**70}), {"a": 2**70}),
    ):
        print_json(given)
        assert capsys.readouterr().out == json.dumps(shown, indent=2) + "\n"


class World:
    """A folder with a pool of two numpy models, data, a store with val and test, and a cascade."""

    def __init__(self, root: Path) -> None:
        self.root = root
        pool = write_pool(root)
        self.code = code_of(pool)
        for split, rows, seed in (("val", 200, 0), ("test", 150, 1)):
            write_npz(root / f"{split}.npz", rows, seed)
            data = dataset(rows, split, seed)
            predict(read_pool_file(pool), data, root / "store", allow_code=self.code)
        chosen = Cascade.of(["one", "two"], [0.9])
        store = Pool.load(root / "store" / "val")
        models = {name: store.specs[name] for name in store.names}
        Cascade(chosen.stages, models=models, classes=store.samples.classes).save(
            root / "good.json"
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("cli"))


@pytest.fixture
def world(made: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(made.root)
    monkeypatch.setenv("COLUMNS", "80")
    return made


Caught = pytest.CaptureFixture[str]


def line_of(words: str, caught: Caught) -> str:
    """The one line that a command with bad input writes."""
    assert main(words.split()) == 2
    output, errors = caught.readouterr()
    # What is noted when work begins may stand before it.
    assert all(line.startswith("Note: ") for line in output.splitlines())
    assert errors.startswith("committee: ")
    assert errors.count("\n") == 1
    assert "Traceback" not in errors
    return errors


def json_of(words: str, caught: Caught) -> Any:
    assert main([*words.split(), "--json"]) == 0
    output, errors = caught.readouterr()
    assert errors == ""
    return json.loads(output)


PREDICT = "predict pool.toml --allow-code models.py --data val.npz --split val"
RUN = "run good.json --allow-code models.py --data test.npz --out results.csv"
BAD = {
    # unknown names
    "search store --match tow": "no model 'tow'. Did you mean 'two'? There are: one, two",
    "search store --match two --confidence max": "no confidence function 'max'",
    "search store --combine mean": "no combination 'mean'",
    "search store --unit dollars": "no 'dollars' for one, two",
    "search store --split vla": "no split 'vla'. Did you mean 'val'",
    "search store/val --split test": "--split test: store/val names a split already",
    "evaluate good.json store/val --split test": "names a split already",
    "search store --test store/tset": "no split 'tset'. Did you mean 'test'",
    "predict pool.toml --data val.npz --split val --only tow": "no model 'tow'",
    # an unreachable target
    "search store --min-accuracy 0.999": "no committee reaches accuracy 99.90 % on 'val'",
    "search store --max-cost 0.5": "no committee costs at most 0.500 macs on 'val'. Nearest",
    "search store --worst-case 0.5": "0.5",
    # addresses where a path of this machine is meant
    "predict pool.toml --data val.npz --split val --out s3://b/f": "s3://b/f: is an address, and a",
    "search s3://b/f": "s3://b/f: is an address, and a path of this machine is meant",
    "watch good.json s3://b/f": "s3://b/f: is an address, and a path of this machine is meant",
    # options that do not fit
    "search store --out c.json": "--out needs --match, --min-accuracy, --max-cost, --cascade-of or",
    "search store --match two --max-cost 0.5": "no committee is that accurate for at most 0.500",
    "search store --match two --ensemble one": "--cascade-of and --ensemble stand alone",
    "search store --max-cost cheap": "'cheap' is no cost",
    "search store --average-case 5": "'5' names no unit; write UNIT=COST",
    "search store --worst-case dollars=5": "no 'dollars' for",
    "search store --method greedy --worst-case 5": "--worst-case goes with other methods",
    "search store --method greedy --cascade-of one,two": "--cascade-of goes with other",
    "search store --cascade-of one,tow": "no model 'tow'. Did you mean 'two'?",
    "search store --ensemble one,tow": "no model 'tow'. Did you mean 'two'?",
    "search store --ensemble one,one": "one stands twice",
    "search store --ensemble one,two --combine last": "takes the outputs of the last model",
    "report store --out rep.pdf": "rep.pdf: the report can be written as .html or .htm, not .pdf",
    "report store --match two --max-cost 0.5": "no committee is that accurate for at most 0.500",
    "report store --match tow --out r.html": "no model 'tow'. Did you mean 'two'?",
    "report store --max-cost 0.5 --out r.html": "no committee costs at most 0.500 macs",
    "search store --metric top-0": "k must be 1 or more",
    "search store --grid 0": "grid must be 1 to 65000",
    "search store --max-models 0": "max_models",
    "search store --max-cost nan": "NaN",
    "search store --grid many": "'--grid'",
    "search store --gird 3": "No such option: --gird",
    "search": "Missing argument 'STORE'",
    "serch store": "Did you mean 'search', 'serve'? See: committee --help",
    "predict pool.toml --data val.npz": "Missing option '--split'",
    f"{PREDICT} --batch-size 3": "batch size must divide 256, not 3",
    f"{PREDICT} --split ../up": "'../up' must be letters",
    f"{PREDICT} --rows 9:3": "rows '9:3' name no sample",
    f"{RUN} --batch-size 0": "'--batch-size'",
    f"{RUN} --out results.xlsx": "results can be written as",
    # files
    "search nowhere": "no store is there; make one with committee predict or import",
    "evaluate nowhere.json store": "nowhere.json: cannot be read",
    "evaluate newer.json store": "newer.json: schema 99 is newer than 2",
    "evaluate broken.json store": "broken.json: no valid JSON",
    "evaluate strange.json store": "no model 'three'",
    "run newer.json --data test.npz --out r.csv": "schema 99 is newer",
    "predict nowhere.toml --data val.npz --split val": "nowhere.toml: cannot be read",
    "predict pool.toml --data nowhere --split val --allow-code models.py": "does not exist",
    "predict pool.toml --data val.npz --split val": "--allow-code",
    "predict pool.toml --data test.npz --split val --out store --allow-code models.py": "holds",
    f"{PREDICT} --out pool.toml": "pool.toml: cannot be written",
    f"{RUN} --out val.npz/results.csv": "val.npz",
    "run good.json --data test.npz --out r.csv": "--allow-code",
    f"{PREDICT} --data images --out s": "1 of the samples cannot be read: cat/b.png (",
    # predictions made elsewhere
    "import a.npy --kind logits --split val": "a.npy: no such file",
    "import x/nan.npz --kind logits --split val --out s": "first at sample 1 ",
    "import x/good.npz x/other.npz --kind logits --split val --out s": "differ in labels",
    "import x/good.npz x/short.npz --kind logits --split val --out s": "differ in ids",
    "import x/good.npz x/order.npz --kind logits --split val --out s": "of sample 'b' 1 and 2",
    "import x/good.npz a=x/good.npz a=x/order.npz --kind logits --split val": "same model name",
    "import x/good.npz --kind logit --split val": "Did you mean 'logits'",
    "import x/good.npz --kind logits --split val --cost good=much": "write NAME=NUMBER",
    "import x/good.npz --kind logits --split val --cost godo=1": "Did you mean 'good'",
    "import x/good.npz --kind logits --split val --classes nowhere": "--classes nowhere",
    # stores
    "search truncated": "one.npy: truncated, ",
    "search flipped": "one.npy: altered in chunk 0, samples 0 to ",
    "search unfinished": "'two' is unfinished. Run the same committee predict again",
    "search two-sets/a": "was computed on other samples",
    "search unlabelled": "has no labels",
}


def fill(root: Path) -> None:
    """Files that are wrong in one way each."""
    cascade = json.loads((root / "good.json").read_text())
    (root / "newer.json").write_text(json.dumps({**cascade, "schema": 99}))
    (root / "broken.json").write_text("{")
    Cascade.of(["three"]).save(root / "strange.json")
    (root / "x").mkdir()
    outputs = 4 * np.eye(3)[[0, 1, 2, 0]]
    columns = {"outputs": outputs, "label": np.arange(4) % 3, "id": list("abcd")}
    np.savez(root / "x" / "good.npz", **columns)
    np.savez(root / "x" / "order.npz", **{**columns, "id": list("dcba")})
    np.savez(root / "x" / "other.npz", **{**columns, "label": [0, 0, 0, 0]})
    np.savez(root / "x" / "short.npz", **{key: each[:3] for key, each in columns.items()})
    outputs = columns["outputs"].copy()
    outputs[1, 2] = math.nan
    np.savez(root / "x" / "nan.npz", **{**columns, "outputs": outputs})
    (root / "images" / "cat").mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / "images" / "cat" / "a.png")
    (root / "images" / "cat" / "b.png").write_bytes(b"garbage")
    stored = files_of(root / "store")

    def store(name: str, **changed: bytes | None) -> None:
        for path, data in {**stored, **changed}.items():
            if data is not None:
                (root / name / path).parent.mkdir(parents=True, exist_ok=True)
                (root / name / path).write_bytes(data)

    one = stored["val/one.npy"]
    store("truncated", **{"val/one.npy": one[:-9]})
    store("flipped", **{"val/one.npy": one[:200] + bytes([one[200] ^ 1]) + one[201:]})
    store("unfinished")
    unfinished(root / "unfinished" / "val", "two")
    samples = stored["test/samples.json"]
    store("two-sets", **{f"a/{k[4:]}": v for k, v in stored.items() if k.startswith("val/")})
    (root / "two-sets" / "a" / "samples.json").write_bytes(samples)
    np.savez(root / "no-labels.npz", images=dataset(5).read(np.arange(5)))
    words = f"{PREDICT} --data no-labels.npz --out unlabelled --json"
    assert main(words.split()) == 0


@pytest.fixture(scope="module")
def filled(made: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.root)
        fill(made.root)
    return made


@pytest.mark.parametrize("words", BAD)
def test_bad_input_gets_one_line(filled: World, world: World, capsys: Caught, words: str) -> None:
    before = files_of(world.root / "store")
    capsys.readouterr()
    assert BAD[words] in line_of(words, capsys)
    assert files_of(world.root / "store") == before


def test_debug_shows_the_traceback(world: World) -> None:
    with pytest.raises(CommitteeError):
        main(["search", "nowhere", "--debug"])
    with pytest.raises(CommitteeError, match=r"val\.npz"):
        main(["--debug", *f"{RUN} --out val.npz/results.csv".split()])


def test_a_disk_that_is_full_is_told(
    world: World, capsys: Caught, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in line_of(f"{PREDICT} --out {tmp_path} --json", capsys)


def test_ctrl_c_says_how_to_go_on(
    world: World, capsys: Caught, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("committee.cli.search.exact", interrupted)
    assert main(["search", "store", "--json"]) == 130
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "Run the same command again" in errors


def test_version_and_help(capsys: Caught, world: World) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns_and_explains_every_option(
    command: str, capsys: Caught, world: World
) -> None:
    assert main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    named = [line.split() for line in lines if line.startswith("  --")]
    assert named
    # An option's words stand beside it or below it.
    assert all(len(words) > 1 for words in named)


def test_predict_goes_on_and_tells_what_there_is(
    world: World, capsys: Caught, tmp_path: Path
) -> None:
    words = f"{PREDICT} --rows :50 --out {tmp_path}"
    first = json_of(f"{words} --only two", capsys)
    assert first == {
        "split": f"{tmp_path}/val",
        "models": ["two"],
        "samples": 50,
        "rule": "",
        "broken": [],
        "notes": [],
    }
    assert json_of(words, capsys)["models"] == ["one", "two"]
    assert main(words.split()) == 0
    output = capsys.readouterr().out
    assert f"2 models x 50 samples are in {tmp_path}/val" in output
    assert f"committee search {tmp_path}\n" in output


def test_progress_is_drawn_where_somebody_watches(
    world: World, capsys: Caught, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(f"{PREDICT} --out {tmp_path}".split()) == 0
    errors = capsys.readouterr().err
    assert "outputs/s" in errors
    assert "400/400" in errors
    line_of(f"{PREDICT} --out {tmp_path} --batch-size 3", capsys)
    monkeypatch.delenv("FORCE_COLOR")
    assert main(f"{PREDICT} --out {tmp_path / 'b'}".split()) == 0
    assert capsys.readouterr().err == ""


def test_import_answers_in_json(
    filled: World, world: World, capsys: Caught, tmp_path: Path
) -> None:
    words = f"import first=x/good.npz x/good.npz --kind logits --split val --out {tmp_path}"
    told = json_of(f"{words} --cost first=1 --cost good=2 --unit dollars", capsys)
    assert told == {"split": f"{tmp_path}/val", "models": ["first", "good"], "samples": 4} | {
        "notes": []
    }
    assert Pool.load(tmp_path / "val").costs.values("dollars") == {"first": 1, "good": 2}
    assert main(words.split()) == 0
    assert f"committee search {tmp_path}\n" in capsys.readouterr().out


TARGETS: dict[str, Callable[[Any, Any], bool]] = {
    "--match two": lambda e, models: e["accuracy"] >= models["two"],
    "--min-accuracy 0.3": lambda e, _: e["accuracy"] >= 0.3,
    "--max-cost 6": lambda e, _: e["average_cost"] <= 6,
    "--max-cost 6 --worst-case 10": lambda e, _: e["worst_case_cost"] <= 10,
}


@pytest.mark.parametrize("target", TARGETS)
def test_search_meets_its_target_and_writes_the_cascade(
    world: World, capsys: Caught, tmp_path: Path, target: str
) -> None:
    pool = Pool.load(world.root / "store" / "val")
    labels = pool.samples.labels
    models = {n: float((pool.model(n).predicted() == labels).mean()) for n in pool.names}
    out = tmp_path / "cascade.json"
    told = json_of(f"search store --max-models 2 --grid 20 {target} --out {out}", capsys)
    assert TARGETS[target](told["chosen"]["evaluation"], models)
    assert told["chosen"]["test"]["split"] == "test"
    assert Cascade.load(out) == Cascade.from_json(told["chosen"]["cascade"])
    # The promised figures are those that evaluate finds, on val and on test.
    for split, figures in (("val", "evaluation"), ("test", "test")):
        judged = json_of(f"evaluate {out} store --split {split}", capsys)
        assert judged["chosen_on_these_samples"] == (split == "val")
        assert {k: judged[k] for k in told["chosen"][figures]} == told["chosen"][figures]


MORE_SEARCHES: dict[str, Callable[[Any], bool]] = {
    "--cascade-of one,two --within 0.02": lambda t: (
        set(t["chosen"]["cascade"]["stages"][0]["models"]) <= {"one", "two"}
    ),
    "--max-cost 0.006k --worst-case macs=0.01k": lambda t: (
        t["settings"]["worst_case"] == {"macs": 10.0}
        and t["chosen"]["evaluation"]["worst_case_cost"] <= 10
    ),
    "--agree-with one,two --min-accuracy 0.5": lambda t: (
        t["chosen"]["test"]["measure"] == "agreement with one+two"
    ),
    "--metric top-2 --min-accuracy 0.5": lambda t: t["chosen"]["evaluation"]["measure"] == "top-2",
    "--method greedy --max-cost 9": lambda t: not t["exact"] and "greedy" in t["inexact"],
    "--method guided --keep 2 --max-cost 9": lambda t: t["exact"] == (not t["inexact"]),
    "--no-families --max-cost 9": lambda t: t["settings"]["families"] is False,
}


@pytest.mark.parametrize("words", MORE_SEARCHES)
def test_search_knows_more(world: World, capsys: Caught, words: str) -> None:
    assert MORE_SEARCHES[words](json_of(f"search store --max-models 2 --grid 20 {words}", capsys))
    assert main(f"search store --max-models 2 --grid 20 --front {words}".split()) == 0
    output = capsys.readouterr().out
    table = [line for line in output.splitlines() if not line.startswith("Not exact")]
    assert max(map(len, table)) <= 80


def test_agreement_is_judged_as_it_was_promised(
    world: World, capsys: Caught, tmp_path: Path
) -> None:
    out = tmp_path / "cascade.json"
    words = f"--agree-with two --min-accuracy 0.5 --max-models 2 --out {out}"
    told = json_of(f"search store {words}", capsys)
    judged = json_of(f"evaluate {out} store --split test --agree-with two", capsys)
    assert {k: judged[k] for k in told["chosen"]["test"]} == told["chosen"]["test"]


def test_search_without_a_target_shows_the_front(world: World, capsys: Caught) -> None:
    told = json_of("search store --max-models 2 --grid 20", capsys)
    assert told["chosen"] is None
    assert main(["search", "store", "--max-models", "2", "--grid", "20"]) == 0
    output = capsys.readouterr().out
    assert "are on the front" in output
    assert max(map(len, output.splitlines())) <= 80


def test_search_says_when_one_split_chose_and_judged(
    world: World, capsys: Caught, tmp_path: Path
) -> None:
    assert main(f"{PREDICT} --rows :50 --out {tmp_path} --json".split()) == 0
    capsys.readouterr()
    assert main(f"search {tmp_path} --max-models 1".split()) == 0
    assert "No other split evaluates it" in " ".join(capsys.readouterr().out.split())
    out = f"{tmp_path}/cascade.json"
    assert main(f"search {tmp_path} --max-models 1 --match one --out {out}".split()) == 0
    assert f"Next: committee run {out}" in " ".join(capsys.readouterr().out.split())
    assert main(f"evaluate {out} {tmp_path}/val".split()) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "it; name one with --split" in told
    assert "These images chose the cascade" in told


def test_run_writes_a_row_a_image(world: World, capsys: Caught, tmp_path: Path) -> None:
    out = tmp_path / "results.csv"
    told = json_of(f"{RUN} --out {out}", capsys)
    judged = json_of("evaluate good.json store", capsys)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert told["samples"] == len(rows) == 150
    assert told["correct"] == judged["correct"]
    assert told["correct"] == sum(row["class_index"] == row["label"] for row in rows)
    assert told["exit_ratios"] == judged["exit_ratios"]
    # Two ways to add the same 150 numbers.
    assert told["average_cost"] == pytest.approx(judged["average_cost"], rel=1e-12)
    assert [row["id"] for row in rows] == [str(i) for i in range(150)]
    assert main(f"{RUN} --out {out}".split()) == 2
    assert f"{out}: is there already; name another file, or" in capsys.readouterr().err
    assert main(f"{RUN} --out {out} --overwrite".split()) == 0
    output = capsys.readouterr().out
    assert f"Correct: {judged['correct']} of 150" in output
    assert f"Written: {out}" in output


def test_report_writes_one_page(world: World, capsys: Caught, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    told = json_of(f"report store --max-models 2 --out {out}", capsys)
    assert told["report"] == str(out)
    assert told["committees"] > 0
    assert told["chosen"] is None
    text = out.read_text(encoding="utf-8")
    assert text.lstrip().lower().startswith("<!doctype html>")
    assert f"front: {told['committees']} committees of up to 2 models" in text
    assert main(f"report store --max-models 2 --out {out}".split()) == 0
    line = f"{told['committees']} committees of up to 2 models are on the front."
    assert line in capsys.readouterr().out


def test_speedups_are_over_the_model_that_is_to_be_matched(world: World, capsys: Caught) -> None:
    assert main(["search", "store", "--match", "two", "--max-models", "1"]) == 0
    assert "; speedup over two. " in " ".join(capsys.readouterr().out.split())
    # The most accurate, though two is dearer.
    assert main(["search", "store", "--max-models", "1"]) == 0
    assert "; speedup over one. " in " ".join(capsys.readouterr().out.split())


def test_report_marks_what_search_would_choose(
    world: World, capsys: Caught, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    target = "--max-models 2 --max-cost 6"
    told = json_of(f"report store {target} --out {out}", capsys)
    assert told["chosen"] == json_of(f"search store {target}", capsys)["chosen"]["cascade"]
    page = out.read_text()
    assert "--max-cost 6" in page
    assert '"role":"chosen"' in page


@pytest.mark.parametrize("names", ["two", "two,one"])
def test_search_writes_an_ensemble_as_it_is(
    world: World, capsys: Caught, tmp_path: Path, names: str
) -> None:
    out = tmp_path / "cascade.json"
    told = json_of(f"search store --ensemble {names} --out {out}", capsys)
    cascade = Cascade.load(out)
    assert cascade.models_of_stages == (tuple(names.split(",")),)
    # It can be run: the file says how its models are loaded.
    assert set(cascade.models) == set(names.split(","))
    judged = json_of(f"evaluate {out} store --split val", capsys)
    assert told["chosen"]["evaluation"]["correct"] == judged["correct"]
    assert cascade.origin.promised.accuracy == judged["accuracy"]


@pytest.mark.parametrize(("named", "judged"), [("", True), ("/val", True), ("/test", False)])
def test_search_judges_on_the_test_split_beside_the_one_that_chooses(
    named: str, judged: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    store, labels = tmp_path / "store", tmp_path / "labels.npy"
    for split in ("val", "test"):
        np.save(labels, rng.integers(0, 3, 20))
        for name in ("a", "b"):
            np.save(tmp_path / f"{name}.npy", 4 * np.eye(3)[rng.integers(0, 3, 20)])
        files = [str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]
        costs = ["--cost", "a=1", "--cost", "b=2"]
        where = ["--kind", "logits", "--split", split, "--out", str(store)]
        assert main(["import", *files, "--labels", str(labels), *costs, *where, "--json"]) == 0
    capsys.readouterr()
    assert main(["search", f"{store}{named}", "--min-accuracy", "0", "--json"]) == 0
    assert (json.loads(capsys.readouterr().out)["chosen"]["test"] is not None) == judged


def test_evaluate_refuses_other_models_of_the_same_names(
    world: World, tmp_path: Path, capsys: Caught
) -> None:
    found = json.loads((world.root / "good.json").read_text())
    then = found["models"]["one"]["fingerprint"]
    assert main(["evaluate", "good.json", "store", "--json"]) == 0
    capsys.readouterr()
    found["models"]["one"]["fingerprint"] = "other" + then[5:]
    (tmp_path / "other.json").write_text(json.dumps(found))
    assert main(["evaluate", str(tmp_path / "other.json"), "store"]) != 0
    told = capsys.readouterr().err
    assert all(part in told for part in ("'one'", then))
    assert "other" + then[5:] in told
