"""Certificates at the command line: made, checked, voided; labels only where answers differ."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from committee import Cascade, Certificate, Pool, certify
from committee.certificates.disagreements import disagreements
from committee.certificates.stages import _stage_gaps
from committee.cli import main
from committee.errors import CascadeError
from committee.report.text import at_thresholds, named
from committee.text import csv_text

CLASSES = ("cat", "=dog", "eel")
SIZES = {"val": 1200, "test": 1500, "new": 1000}
# How many standard deviations a model's logit of the right class is above the others.
STRENGTH = {"small": 3.0, "large": 4.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of one noise, so that they mostly agree; the split ``new`` has no labels."""
    folder = tmp_path_factory.mktemp("certificates")
    for number, (split, samples) in enumerate(SIZES.items()):
        rng = np.random.default_rng(number)
        labels = rng.integers(0, 3, samples)
        np.save(folder / f"{split}-labels.npy", labels)
        noise = rng.normal(size=(samples, 3))
        files = []
        for name, strength in STRENGTH.items():
            own = 2 * strength * np.eye(3)[labels] + 2 * noise
            own += 0.5 * rng.normal(size=(samples, 3))
            truth = {} if split == "new" else {"label": labels}
            ids = [f"{split}/{i}" for i in range(samples)]
            np.savez(folder / f"{name}.npz", outputs=own, id=ids, **truth)
            files.append(f"{folder}/{name}.npz")
        (folder / "classes.txt").write_text("\n".join(CLASSES))
        words = ["import", *files, "--kind", "logits", "--split", split]
        words += ["--out", str(folder / "store"), "--classes", str(folder / "classes.txt")]
        words += ["--cost", "small=1", "--cost", "large=10"]
        assert main([*words, "--json"]) == 0
    Cascade.of(["small", "large"], [0.99]).save(folder / "good.json")
    Cascade.of(["small", "large"], [0.4]).save(folder / "bold.json")
    return folder


@pytest.fixture
def world(root: Path, enter_beside: Callable[[Path], Path]) -> Path:
    """A folder of its own with the cascades, beside the store."""
    return enter_beside(root)


Caught = pytest.CaptureFixture[str]


def line_of(words: str, caught: Caught) -> str:
    caught.readouterr()
    assert main(shlex.split(words)) == 2
    errors = caught.readouterr().err
    assert errors.count("\n") == 1
    return errors


def text_of(words: str, caught: Caught, code: int = 0) -> str:
    caught.readouterr()
    assert main(shlex.split(words)) == code, caught.readouterr().err
    return caught.readouterr().out


def json_of(words: str, caught: Caught) -> Any:
    return json.loads(text_of(f"{words} --json", caught))


CERTIFY = "certify good.json store"
CHOSE = "these samples chose the cascade"
PROMISES = {
    "--match large --within 0.02": "at most",
    "--agree-with large --within 0.05": "gives the same answer",
    "--min-accuracy 0.8": "accurate",
    "--match large --within 0.02 --max-cost 9": "at most",
    "--match bold.json --within 0.02": "replaces small -> large",
    "--match small,large --within 0.02 --level 0.9": "with 90 % certainty",
}


@pytest.mark.parametrize("promise", PROMISES)
def test_a_given_cascade_is_certified_into_its_own_file(world, capsys, promise):
    text = text_of(f"{CERTIFY} {promise}", capsys)
    assert PROMISES[promise] in text.splitlines()[0]
    certificate = Certificate.of(Cascade.load("good.json"))
    assert f"Certificate: {certificate.text}." in text
    found = json_of("evaluate good.json store", capsys)
    assert found["certificate"]["text"] == certificate.text
    assert found["certificate"]["outcome"]["outcome"] == "kept"


def test_evaluate_prints_the_certificate_first_or_that_it_is_void(world, capsys):
    before = Cascade.load("good.json")
    text_of(f"{CERTIFY} --match large --within 0.02 --out c.json", capsys)
    assert Cascade.load("good.json").certificate is None
    assert Cascade.load("c.json").stages == before.stages
    lines = text_of("evaluate c.json store", capsys).splitlines()
    assert lines[0].startswith("Certificate: replaces large: ")
    assert lines[1].startswith("On test: kept; −")
    lines = text_of("evaluate c.json store --split val", capsys).splitlines()
    assert "rests on these samples" in lines[1]
    assert "the promise is of top-1" in text_of("evaluate c.json store --metric top-2", capsys)
    data = json.loads(Path("c.json").read_text())
    data["stages"][0]["threshold"] = 0.5
    Path("c.json").write_text(json.dumps(data))
    lines = text_of("evaluate c.json store", capsys, code=1).splitlines()
    assert lines[0] == "THE CERTIFICATE IS VOID."
    assert "changed after it was certified" in lines[1]
    found = json.loads(text_of("evaluate c.json store --json", capsys, code=1))["certificate"]
    assert found["void"]
    assert found["outcome"] is None
    assert json_of("evaluate bold.json store", capsys)["certificate"] is None


def test_the_list_to_label_holds_every_disagreement(world, capsys):
    found = json_of("label good.json store --against large --split new", capsys)
    with Path("to_label.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "cascade", "reference", "label"]
    assert found == {"samples": 1000, "disagreements": len(rows), "written": "to_label.csv"}
    assert 0 < len(rows) < 100
    pool = Pool.load("store/new")
    place = {name: row for row, name in enumerate(pool.samples.ids)}
    one, two = (pool.model(name).predicted() for name in ("small", "large"))
    for name, cascade, reference, label in rows:
        row = place[name]
        assert (cascade.lstrip("'"), reference.lstrip("'")) == (
            CLASSES[one[row]],
            CLASSES[two[row]],
        )
        assert label == ""
    words = "label good.json store --against large --split new"
    assert "is there already" in line_of(words, capsys)
    assert "disagree on" in text_of(f"{words} --out other.csv", capsys)


def labelled(root: Path, done: int) -> list[list[str]]:
    """Fill in the first rows of the list."""
    labels = np.load(root / "new-labels.npy")
    with Path("to_label.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    for row in rows[:done]:
        row[3] = CLASSES[labels[int(row[0].split("/")[1])]]
    Path("done.csv").write_text(csv_text([header, *rows]))
    return rows


WITH = "certify good.json store --split new --match large --within {} --labels done.csv"


def test_labels_of_disagreements_certify_as_all_labels_do(world, root, capsys):
    text_of("label good.json store --against large --split new", capsys)
    rows = labelled(root, 1000)
    found = json_of(f"{WITH.format(0.03)} --out c.json", capsys)["certificate"]
    labels = np.load(root / "new-labels.npy")
    pool = Pool.load("store/new")
    small, large = (pool.model(name).predicted() == labels for name in ("small", "large"))
    index = {name: row for row, name in enumerate(pool.samples.ids)}
    ours = [index[row[0]] for row in rows]
    assert found["wins"] == int((small & ~large)[ours].sum())
    assert found["losses"] == int((~small & large)[ours].sum())
    assert (found["unlabelled"], found["samples"], found["measure"]) == (0, 1000, "top-1")
    # The certificate can be checked where all labels are known.
    outcome = json_of("evaluate c.json store", capsys)["certificate"]["outcome"]
    assert outcome["outcome"] == "kept"
    # Fewer labels never promise more.
    bounds = [found["lower_bound"]]
    for done in (len(rows) - 2, len(rows) // 2):
        labelled(root, done)
        some = json_of(f"{WITH.format(0.2)} --out d.json", capsys)["certificate"]
        assert some["unlabelled"] == len(rows) - done
        bounds.append(some["lower_bound"])
    assert bounds == sorted(bounds, reverse=True)
    text = text_of(f"{WITH.format(0.2)} --out d.json", capsys)
    assert f"{len(rows) - len(rows) // 2} of them without a label" in text
    labelled(root, 0)
    assert "without a label count as lost" in line_of(WITH.format(0.0), capsys)


def test_the_list_begins_where_the_cascade_is_surest_in_comparison():
    # Of six samples the models disagree on the last three; on the last the small one is surest.
    small = (np.array([0, 1, 2, 0, 1, 2]), np.array([0.1, 0.2, 0.3, 0.5, 0.6, 0.9]))
    large = (np.array([0, 1, 2, 1, 2, 0]), np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]))
    orders = []
    for power in (1, 3):  # Any rising scale of confidences gives the same order.
        outputs = {"small": (small[0], small[1] ** power), "large": large}
        pool = Pool.from_arrays(None, outputs, kind="decisions")
        found = disagreements(Cascade.of(["small"]), Cascade.of(["large"]), pool)
        orders.append(found.ids)
        assert found.compared({}) == (0, 3, 3)
        assert found.compared({"5": 2, "4": 0, "3": 1}) == (1, 1, 0)
        assert found.compared({"5": 2, "4": -1}) == (1, 2, 2)
    assert orders == [("5", "4", "3")] * 2


LABELS = {
    "id,label\nnew/1,cow\n": "done.csv: line 2: label 'cow' is no class",
    "id,label\nnew/9999,cat\n": "has no sample 'new/9999'",
    "id,label\n{same},cat\n": "give the same answer to",
    "id,label\n{other},cat\n{other},cat\n": "appear twice",
    "id,label\n{other},7\n": "has label 7",
    "name,answer\nnew/1,cat\n": "must name the columns id (or path) and label",
    "": "must name the columns",
}


@pytest.mark.parametrize("text", LABELS)
def test_labels_that_do_not_fit_get_one_line(world, capsys, text):
    text_of("label good.json store --against large --split new", capsys)
    with Path("to_label.csv").open(newline="") as file:
        names = [row["id"] for row in csv.DictReader(file)]
    same = next(f"new/{i}" for i in range(1000) if f"new/{i}" not in names)
    Path("done.csv").write_text(text.format(same=same, other=names[0]))
    before = Path("good.json").read_bytes()
    assert LABELS[text] in line_of(WITH.format(0.1), capsys)
    assert Path("good.json").read_bytes() == before


BAD = {
    f"{CERTIFY}": "certify: give one of --match, --agree-with and --min-accuracy",
    f"{CERTIFY} --min-accuracy 2": "--min-accuracy 2: it must lie between 0 and 1",
    f"{CERTIFY} --match large --min-accuracy 0.5": "give one of",
    f"{CERTIFY} --match lage": "Did you mean 'large'",
    f"{CERTIFY} --match nowhere.json": "nowhere.json: cannot be read",
    f"{CERTIFY} --match large --within 2": "--within 2",
    f"{CERTIFY} --match large --within -0.1": "within",
    f"{CERTIFY} --match large --level 1": "level 1.0 must lie between 0.5 and 0.999999",
    f"{CERTIFY} --match large --split new": "has no labels",
    f"{CERTIFY} --match large --max-cost 0": "the cost to promise must be a number above 0, not 0",
    f"{CERTIFY} --match large --max-cost cheap": "'cheap' is no cost",
    f"{CERTIFY} --match large --within 0.02 --max-cost 1": "more than the promised 1.00 macs",
    f"{CERTIFY} --match large --labels no.csv": "no.csv",
    f"{CERTIFY} --agree-with large --labels to.csv": "--labels goes with --match",
    f"{CERTIFY} --match large --metric top-2 --labels to.csv": "--labels goes with --metric top-1",
    f"{CERTIFY} --match large --labels to.csv": "has labels of its own",
    "certify bold.json store --match large": "cannot be certified",
    "certify good.json nowhere --match large": "no store is there",
    "label good.json store --against large": "has labels. Certify with them",
    "label good.json store --against lage --split new": "Did you mean 'large'",
    "label good.json store --split new": "Missing option '--against'",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_gets_one_line(world, capsys, words):
    Path("to.csv").write_text("id,label\n")
    assert BAD[words] in line_of(words, capsys)


SEARCH = "search store --max-models 2 --threads 2 --out c.json --promise 0.9"
SEARCHES = {
    "--match large --within 0.03": "large",
    "--match large --within 0.03 --max-cost 80%": "large",
    "--match large --within 0.03 --metric top-2": "large",
    "--match good.json --within 0.1": "small -> large",
    "--match small,large --within 0.1 --combine mean_logits": "small+large",
    "--agree-with large --within 0.08": "large",
    "--min-accuracy 0.8 --worst-case 11": "",
    "--min-accuracy 0.8 --max-cost 99%": "",
}


@pytest.mark.parametrize("target", SEARCHES)
def test_search_chooses_what_keeps_the_promise(world, capsys, target):
    found = json_of(f"{SEARCH} {target}", capsys)
    chosen = Cascade.load("c.json")
    certificate = Certificate.of(chosen)
    assert found["certificate"]["reference"] == SEARCHES[target]
    assert found["certificate"]["text"] == certificate.text
    assert found["promise_on_test"]["outcome"]["outcome"] in ("kept", "open")
    assert found["evaluation"]["samples"] == SIZES["val"]
    assert found["test"]["samples"] == SIZES["test"]
    assert not found["reference_kept"]
    assert found["certificate"]["average_cost"] < 10
    text = text_of(f"{SEARCH} {target}", capsys)
    assert text.startswith(f"Choice    {named(chosen)}")
    assert f"{at_thresholds(chosen)}\n" in text
    assert f"\nCertificate: {certificate.text}." in text
    assert "On test: " in text
    assert "\nWritten: c.json\n" in text
    # Beside what the certificate promises nothing is said of the usual interval.
    assert "How sure" not in text
    assert "How sure" not in text_of("evaluate c.json store", capsys)


def test_search_needs_no_labels_to_agree(world, capsys):
    words = "search store/new --promise 0.9 --agree-with large --within 0.08 --out c.json --test"
    found = json_of(f"{words} test", capsys)
    assert found["certificate"]["promise"] == "agreement"
    assert found["evaluation"]["measure"] == "agreement with large"
    assert found["promise_on_test"]["outcome"]["outcome"] == "kept"


def test_search_says_when_the_reference_is_kept(world, capsys):
    found = json_of(f"{SEARCH} --match large", capsys)
    text = text_of(f"{SEARCH} --match large", capsys)
    assert found["reference_kept"]
    assert text.startswith("Choice    large\n")
    assert "\nCertificate: keeps large: nothing cheaper could be certified" in text
    assert found["promise_on_test"]["outcome"]["outcome"] == "kept"
    more = "About" if found["enough"] else "Many more samples would probably not do either"
    assert more in text
    assert str(Cascade.load("c.json")) == "large"


BAD_SEARCHES = {
    "": "give one of --match, --agree-with and --min-accuracy",
    "--match large --agree-with large": "give one of --match, --agree-with and --min-accuracy",
    "--match large --method greedy": "--method goes with searches without --promise",
    "--match large --method guided": "--method goes with searches without --promise",
    "--match large --grid 50": "--grid goes with",
    "--match large --average-case macs=3 --no-families": "--average-case, --no-families go with",
    "--cascade-of small,large": "--cascade-of goes with",
    "--ensemble small,large": "--ensemble goes with",
    "--match large --front": "--front goes with",
    "--min-accuracy 0.5 --within 0.1": "--within goes with --match or --agree-with",
    "--agree-with large --metric top-2": "--metric goes with",
    "--match large --worst-case seconds=3": "in the unit of the promise, macs",
    "--match large --promise 1": "level 1.0 must lie between 0.5",
    "--match large --within 2": "within",
    "--match lage": "Did you mean 'large'",
    "--match large --split new": "has no labels",
    "--min-accuracy 0.999": "Nearest at any cost",
    "--match large --max-models 4": "max_models",
}


@pytest.mark.parametrize("words", BAD_SEARCHES)
def test_bad_searches_get_one_line(world, capsys, words):
    assert BAD_SEARCHES[words] in line_of(f"{SEARCH} {words}", capsys)
    assert not Path("c.json").exists()


def test_the_split_that_chose_does_not_certify(world, capsys):
    text_of("search store --match large --within 0.02 --out c.json", capsys)
    for words in ("certify c.json store --match large", "label c.json store --against large"):
        line = line_of(words, capsys)
        assert "split 'val': these samples chose the cascade" in line
        assert "--split: 'new', 'test'" in line
        assert "cascade=" not in line
    assert not Path("to_label.csv").exists()
    text_of("certify c.json store --split test --match large --within 0.1", capsys)
    assert Cascade.load("c.json").origin.split == "val"
    lines = text_of("evaluate c.json store --split val", capsys).splitlines()
    assert lines[1] == "split 'val': these samples chose the cascade. Evaluate it on others."


def test_the_only_split_that_did_not_choose_certifies_by_default(world, capsys):
    shutil.copytree("store", "two", ignore=shutil.ignore_patterns("new"))
    found = json_of("search two --match large --within 0.5", capsys)
    assert found["warnings"][0] == "--within 0.5 is 50 points; half a point is 0.005"
    found = json_of("search two --min-accuracy 0.5 --promise 0.95", capsys)
    assert not [note for note in found["warnings"] if "within" in note]
    text_of("search two --match large --within 0.02 --out c.json", capsys)
    text_of("certify c.json two --match large --within 0.1", capsys)
    certificate = Cascade.load("c.json").certificate
    assert certificate is not None
    assert certificate.split == "test"
    told = text_of("certify good.json two --match large --within 0.5", capsys)
    assert "Note: --within 0.5 is 50 points; half a point is 0.005." in told
    certificate = Cascade.load("good.json").certificate
    assert certificate is not None
    assert certificate.split == "val"


def test_evaluate_prints_the_gap_per_stage_with_bounds(world, capsys):
    text_of(f"{CERTIFY} --match large --within 0.02 --level 0.9 --out c.json", capsys)
    text = text_of("evaluate c.json store --per-stage", capsys)
    flat = " ".join(text.split())
    assert "Gap per stage on test" in text
    assert "Difference from large" in text
    assert "with 90 % certainty no stage lies below its bound" in flat
    found = json_of("evaluate c.json store --per-stage", capsys)["per_stage"]
    assert (found["reference"], found["level"], found["measure"]) == ("large", 0.9, "top-1")
    pool = Pool.load("store/test")
    gaps = _stage_gaps(Cascade.load("c.json"), Cascade.of(["large"]), pool, level=0.9)
    assert found["stages"] == json.loads(json.dumps([gap.to_json() for gap in gaps]))
    assert sum(stage["samples"] for stage in found["stages"]) == SIZES["test"]
    for stage in found["stages"]:
        assert stage["lower_bound"] < stage["difference"]["value"]
    assert json_of("evaluate c.json store", capsys)["per_stage"] is None


def test_samples_that_certified_or_chose_bound_no_stage(world, capsys):
    text_of(f"{CERTIFY} --match large --within 0.02 --out c.json", capsys)
    flat = " ".join(text_of("evaluate c.json store --split val --per-stage", capsys).split())
    assert "the certificate rests on these samples, so there is no bound" in flat
    assert "At least" not in flat
    text_of("search store --match large --within 0.02 --out c.json", capsys)
    for split, level, unbounded in (("test", 0.95, ""), ("val", None, CHOSE)):
        words = f"evaluate c.json store --split {split} --per-stage"
        found = json_of(words, capsys)["per_stage"]
        assert (found["reference"], found["level"]) == ("large", level)
        assert found["unbounded"] == unbounded
        bounds = [stage["lower_bound"] is None for stage in found["stages"]]
        assert bounds == [level is None] * len(Cascade.load("c.json").stages)


def test_gaps_per_stage_of_an_agreement_are_of_agreement(world, capsys):
    text_of(f"{CERTIFY} --agree-with large --within 0.05 --out c.json", capsys)
    found = json_of("evaluate c.json store --per-stage", capsys)["per_stage"]
    assert found["measure"] == "agreement with large"
    pool = Pool.load("store/test").labelled_by("large")
    agreed = json_of("evaluate c.json store --agree-with large", capsys)
    lost = sum(stage["losses"] for stage in found["stages"])
    assert lost == len(pool) - agreed["correct"] > 0


def test_gaps_per_stage_need_a_reference(world, capsys):
    line = "gaps per stage need a reference, and the cascade names none. Certify it with"
    assert line in line_of("evaluate good.json store --per-stage", capsys)
    text_of(f"{CERTIFY} --min-accuracy 0.8", capsys)
    assert line in line_of("evaluate good.json store --per-stage", capsys)
    # A certificate that is void names none either.
    text_of(f"{CERTIFY} --match large --within 0.02 --out good.json", capsys)
    text_of("evaluate good.json store --per-stage", capsys)
    data = json.loads(Path("good.json").read_text())
    data["stages"][0]["threshold"] = 0.5
    Path("good.json").write_text(json.dumps(data))
    assert line in line_of("evaluate good.json store --per-stage", capsys)


def test_a_certificate_says_its_measure_and_its_cost(world, capsys):
    words = f"{CERTIFY} --match large --within 0.02 --max-cost 9 --metric top-2 --out c.json"
    first = text_of(words, capsys).splitlines()[0]
    assert "points less accurate by top-2 (promised: 2 points less at most) on data" in first
    assert first.endswith("at an average cost of at most 9.00 macs.")
    assert "only 3 classes" in line_of(f"{CERTIFY} --match large --metric top-4", capsys)
    assert "only 3 classes" in line_of(f"{SEARCH} --match large --metric top-4", capsys)


def test_an_agreement_is_not_of_the_likeliest_classes(world, capsys):
    text = "agreement is of answers, not of top-2"
    assert text in line_of(f"{CERTIFY} --agree-with large --metric top-2", capsys)


def test_a_level_is_never_rounded_up(world, capsys):
    words = f"{CERTIFY} --match large --within 0.001 --level 0.9999987"
    assert "at level 99.9998 %" in line_of(words, capsys)
    assert "with 99.9998 % certainty at most" in text_of(words.replace("0.001", "0.1"), capsys)


def test_a_cost_that_cannot_be_certified_is_named_plainly(world, capsys):
    found = line_of(f"{CERTIFY} --match large --within 0.02 --max-cost 5", capsys)
    assert "on new data small -> large may cost up to" in found
    assert "on average, more than the promised 5.00 macs; here it is" in found


def test_a_test_split_that_chose_is_refused_before_anything_is_written(world, capsys):
    line = line_of(f"{SEARCH} --match large --within 0.02 --split val --test val", capsys)
    assert "which chose the committees" in line
    assert not Path("c.json").exists()


def test_samples_among_those_that_chose_do_not_certify(world, root, capsys):
    """A split that holds some of the samples that chose."""
    labels, rows = np.load(root / "val-labels.npy"), np.arange(900)
    ids = [f"val/{i}" if i < 300 else f"more/{i}" for i in rows]
    for name in STRENGTH:
        own = np.random.default_rng(5).normal(size=(900, 3)) + 9 * np.eye(3)[labels[:900]]
        np.savez(f"{name}.npz", outputs=own, id=ids, label=labels[:900])
    shutil.copytree(root / "store", "copy")
    words = "import small.npz large.npz --kind logits --split more --out copy"
    text_of(f"{words} --classes {root}/classes.txt", capsys)
    text_of("search copy --match large --within 0.02 --out c.json", capsys)
    before = Path("c.json").read_bytes()
    line = line_of("certify c.json copy --split more --match large --within 0.5", capsys)
    assert "300 of 900 samples of 'more' are also in 'val'" in line
    assert Path("c.json").read_bytes() == before


def test_an_empty_reference_gets_a_line_about_models(world, capsys):
    assert "no model" in line_of(f"{CERTIFY} --match ''", capsys)


def test_without_labels_certify_names_what_labels_few(world, capsys):
    words = f"{CERTIFY} --split new --match large --within 0.03"
    line = line_of(words, capsys)
    assert "committee relabel store --split new --labels FILE" in line
    assert "--agree-with MODEL" in line
    # The two commands that it names do certify.
    label, certify = line.split("differ: committee ")[1].split("; or")[0].split(", then committee ")
    text_of(label, capsys)
    text_of(f"{certify.replace('0.03', '0.2')} --out c.json", capsys)
    line = line_of(f"{CERTIFY} --split new --min-accuracy 0.5", capsys)
    assert "committee label" not in line


def test_a_certificate_that_fails_says_how_many_samples_would_do(world, capsys):
    line = line_of(f"{CERTIFY} --match large --within 0.01", capsys)
    found = re.search(r"If more samples show the same, about ([0-9,]+) samples in all", line)
    assert found is not None
    assert int(found[1].replace(",", "")) > SIZES["val"]
    # No number of samples shows what is not true of them.
    assert "in all" not in line_of("certify bold.json store --match large", capsys)


def test_a_certificate_that_is_replaced_gets_a_note(world, capsys):
    words = f"{CERTIFY} --match large --within 0.02"
    assert json_of(words, capsys)["warnings"] == []
    before = Path("good.json").read_bytes()
    has = "top-1 at most 2 points below that of large, tested on 1,200 samples of val"
    line = line_of(f"{CERTIFY} --min-accuracy 0.8", capsys)
    assert f"good.json has a certificate: {has}" in line
    assert "replace it by --out good.json" in line
    assert Path("good.json").read_bytes() == before
    text = " ".join(text_of(f"{CERTIFY} --min-accuracy 0.8 --out good.json", capsys).split())
    assert f"Note: replaces the certificate that was in good.json: {has}" in text
    assert "replaces the certificate" not in text_of(f"{words} --out new.json", capsys)


def test_labels_of_another_reference_are_refused(world, capsys):
    text_of("label good.json store --against large --split new", capsys)
    Path("done.csv").write_text(Path("to_label.csv").read_text())
    line = line_of(WITH.format(0.1).replace("large", "small,large"), capsys)
    assert "Labels of another cascade, or of another reference?" in line


CHOSEN_BY_PROMISE = f"{SEARCH} --match large --within 0.03"


def test_samples_that_tested_are_not_said_to_have_chosen(world, capsys):
    flat = " ".join(text_of(CHOSEN_BY_PROMISE, capsys).split())
    assert "Of val (1,200 samples) 300 chose what is certified, the other 900 tested it" in flat
    assert "Committees were chosen on" not in flat
    text = text_of("evaluate c.json store", capsys)
    assert "on the 900 samples of val that tested it and did not choose it." in text
    # It is compared with the reference of its certificate.
    assert re.search(r"Accuracy .* points .* vs large\n", text)
    versus = json_of("evaluate c.json store", capsys)["versus"]
    assert (versus["reference"], versus["promise"]) == ("large", None)
    assert versus["saving"] > 1
    text_of("search store --match large --out c.json", capsys)
    assert "on val, which chose it." in text_of("evaluate c.json store", capsys)


def test_samples_of_a_certificate_get_one_warning(world, capsys):
    text_of(CHOSEN_BY_PROMISE, capsys)
    text = text_of("evaluate c.json store --split val", capsys)
    assert "the certificate rests on these samples. Evaluate it on others." in text
    assert "Evaluate on another split" not in text
    data = json.loads(Path("c.json").read_text())
    data["stages"][0]["threshold"] = 0.5
    Path("c.json").write_text(json.dumps(data))
    text = text_of("evaluate c.json store --split val", capsys, code=1)
    assert "Evaluate on another split" in text


def test_an_agreement_is_checked_without_labels(world, capsys):
    assert "has no labels" in line_of("evaluate good.json store --split new", capsys)
    text_of(f"{CERTIFY} --agree-with large --within 0.05", capsys)
    found = json_of("evaluate good.json store --split new", capsys)
    assert found["certificate"]["outcome"]["outcome"] == "kept"
    assert found["measure"] == "agreement with large"
    text_of(f"{CERTIFY} --match large --within 0.02 --out good.json", capsys)
    assert "has no labels" in line_of("evaluate good.json store --split new", capsys)


def test_a_cascade_of_one_model_has_one_row(world, capsys):
    Cascade.of(["small"]).save("one.json")
    choice, *lines = text_of("evaluate one.json store", capsys).splitlines()
    assert choice == "Choice    small"
    assert sum("small" in line for line in lines) == 1


def test_a_report_says_whether_the_promise_is_kept(world, capsys):
    text_of(CHOSEN_BY_PROMISE, capsys)
    line = next(
        line for line in text_of("evaluate c.json store", capsys).splitlines() if "On test:" in line
    )
    text = text_of("report store --cascade c.json --max-models 2 --out r.html", capsys)
    assert line in text
    finding = line.removeprefix("On test: ").removesuffix(".")
    assert finding in Path("r.html").read_text(encoding="utf-8")


def test_a_certificate_prints_its_sentence_and_reads_a_file(world, capsys):
    text_of(f"{CERTIFY} --match large --within 0.02", capsys)
    own = Certificate.of("good.json")
    assert own == Certificate.of(Path("good.json")) == Certificate.of(Cascade.load("good.json"))
    assert str(own) == f"{own.text}."
    assert repr(own) == f"<Certificate: {own.text}>"
    found = certify(Pool.load("store/val"), match="large", within=0.02, cascade=own.cascade)
    assert str(found) == f"small -> large: {own}"
    with pytest.raises(CascadeError, match="no certificate"):
        Certificate.of("bold.json")


def test_a_third_split_without_labels_is_said_to_need_few(world, root, capsys):
    words = f"import {root}/small.npz {root}/large.npz --kind logits --split fresh --out other"
    for split in ("val", "test"):
        shutil.copytree(root / "store" / split, Path("other") / split)
    shutil.copy(root / "store" / "store.json", "other")
    assert "committee label CASCADE other --split fresh" in text_of(words, capsys)


@pytest.mark.parametrize("value", ["", "high"])
def test_a_level_that_is_missing_gets_an_example(world, capsys, value):
    line = line_of(f"search store --match large --promise {value}", capsys)
    assert "for example --promise 0.95" in line


def test_no_line_is_wider_than_the_terminal(world, root, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    commands = [
        f"import {root}/small.npz {root}/large.npz --kind logits --split fresh --out other",
        f"{SEARCH} --match large --within 0.03",
        "evaluate c.json store",
        "evaluate c.json store --split val",
        "report store --cascade c.json --max-models 2 --out r.html",
        "label good.json store --against large --split new",
        f"{CERTIFY} --match large --within 0.02",
        f"{CERTIFY} --min-accuracy 0.8 --out good.json",
        "search store --match large --within 0.02 --out c.json",
        "evaluate c.json store --split val",
    ]
    for words in commands:
        # A command is never broken, so that it can be copied.
        lines = [line for line in text_of(words, capsys).splitlines() if "  committee " not in line]
        assert max(map(len, lines)) <= 80, words
