"""Calibrations kept in a store: fitted on a split of its own, searched with, run as promised."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from committee import Calibration, Cascade, Pool, Runner, evaluate, search
from committee.calibration.fitting import fit_calibrations
from committee.calibration.reliability import expected_calibration_error
from committee.cli import main
from committee.data.open import open_data
from committee.embedded import FOLDER, pool_file
from committee.errors import (
    CalibrationError,
    ChangedError,
    CommitteeError,
    DamagedError,
    DataError,
    MisalignedError,
    StoreError,
)
from committee.predict import predict
from committee.report.figure import write_figure
from committee.report.reliability import reliability_figure
from committee.rule.flow import joined_decisions
from committee.run.offline import run_offline
from committee.run.verify import agreement
from committee.store.calibrations import (
    _write_calibrations,
    calibrate,
    calibration_effects,
    read_calibrations,
)
from committee.store.entry import write_json
from committee.store.import_predictions import import_predictions
from small_world import files_of

ROOT = Path(__file__).parent.parent
MODELS = ["nano", "micro", "tiny"]
ROWS = {"cal": "0:600", "val": "600:1200", "test": "1200:1800"}


def dataset(split: str) -> Any:
    classes = pool_file().classes
    return open_data(FOLDER / "fashion_mnist_test.npz", split, classes, ROWS[split])


def fill(store: Path, *splits: str) -> Path:
    for split in splits:
        predict(pool_file().only(MODELS), dataset(split), store, batch_size=64)
    return store


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("filled") / "store", "cal", "val", "test")


@pytest.fixture(scope="module")
def shared(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated store that no test changes."""
    store = shutil.copytree(filled, tmp_path_factory.mktemp("shared") / "store")
    calibrate(store, method="platt")
    return store


@pytest.fixture
def store(filled: Path, tmp_path: Path) -> Path:
    """A store of the test's own."""
    return shutil.copytree(filled, tmp_path / "store")


def refused(kind: type[CommitteeError], line: str) -> Any:
    return pytest.raises(kind, match=line)


def test_what_was_fitted_is_kept_and_asked_for(store: Path) -> None:
    before = files_of(store)
    cal = Pool.load(store / "cal")
    fitted = calibrate(store)
    assert fitted == fit_calibrations(cal)
    assert read_calibrations(store, MODELS) == fitted
    assert Pool.load(store / "val", calibrated=True).calibrations == fitted
    assert Pool.load(store / "val", ["tiny"], calibrated=True).calibrations.keys() == {"tiny"}
    assert Pool.load(store / "val").calibrations == {}
    # How a model is loaded does not change by how it is calibrated.
    assert Pool.load(store / "val").specs == cal.specs
    changed = {name for name, data in files_of(store).items() if before[name] != data}
    assert changed == {"store.json"}


def test_predicting_more_keeps_them(store: Path) -> None:
    fitted = calibrate(store, method="platt")
    index = (store / "store.json").read_bytes()
    fill(store, "val")
    assert (store / "store.json").read_bytes() == index
    assert read_calibrations(store, MODELS) == fitted


def test_one_model_is_calibrated_again_and_the_others_stay(store: Path) -> None:
    first = calibrate(store)
    second = calibrate(store, method="platt", models=["micro"])
    assert read_calibrations(store, MODELS) == {**first, **second}
    assert [each.method for each in read_calibrations(store, MODELS).values()] == [
        "temperature",
        "platt",
        "temperature",
    ]


def test_numbered_samples_are_told_apart_by_their_outputs(tmp_path: Path) -> None:
    labels = np.arange(60) % 3
    for seed, split in enumerate(("cal", "val")):
        values = np.random.default_rng(seed).normal(size=(60, 3)) + np.eye(3)[labels]
        np.savez(tmp_path / "a.npz", outputs=values, label=labels)
        import_predictions({"a": tmp_path / "a.npz"}, tmp_path / "s", kind="logits", split=split)
    assert calibrate(tmp_path / "s").keys() == {"a"}
    import_predictions({"a": tmp_path / "a.npz"}, tmp_path / "s", kind="logits", split="again")
    with refused(MisalignedError, "60 samples of 'again' are also in 'val'"):
        calibrate(tmp_path / "s", "again")


def test_a_model_without_one_is_told(store: Path) -> None:
    calibrate(store, models=["nano"])
    with refused(StoreError, r"no calibration of micro, tiny\. Fit it with: committee calibrate"):
        Pool.load(store / "val", calibrated=True)


@pytest.mark.parametrize(
    ("spoil", "kind", "line"),
    [
        (lambda m: m.update(fingerprint="0" * 16), ChangedError, "'nano' has changed since it was"),
        (lambda m: m["calibration"].update(slopes=[0]), DamagedError, "'nano': altered"),
        (lambda m: m["calibration"].pop("model"), DamagedError, "'nano': altered"),
        (lambda m: m.update(calibration=7), DamagedError, "'nano': altered"),
    ],
)
def test_a_changed_model_or_calibration_is_refused(
    store: Path, spoil: Any, kind: type[CommitteeError], line: str
) -> None:
    calibrate(store)
    index = json.loads((store / "store.json").read_text())
    spoil(index["models"]["nano"])
    del index["checksum"]
    write_json(store / "store.json", index)
    with refused(kind, f"{line}.*committee calibrate") as told:
        Pool.load(store / "val", calibrated=True)
    assert "\n" not in str(told.value)


def test_outputs_made_elsewhere_are_known_by_those_fitted_to(tmp_path: Path) -> None:
    for split, seed in (("cal", 0), ("val", 1)):
        random = np.random.default_rng(seed)
        labels = random.integers(0, 3, 400)
        outputs = 5 * (random.normal(size=(400, 3)) + np.eye(3)[labels])
        ids = [f"{split} {i}" for i in range(400)]
        np.savez(tmp_path / "a.npz", outputs=outputs, label=labels, id=ids)
        import_predictions({"a": tmp_path / "a.npz"}, tmp_path / "s", kind="logits", split=split)
    fitted = calibrate(tmp_path / "s")
    assert Pool.load(tmp_path / "s" / "val", calibrated=True).calibrations == fitted
    manifest = tmp_path / "s" / "cal" / "a.json"
    entry = json.loads(manifest.read_text())
    del entry["checksum"]
    entry["entry"]["fingerprint"] = "f" * 16
    write_json(manifest, entry)
    with refused(ChangedError, "'a' has changed since"):
        Pool.load(tmp_path / "s" / "val", calibrated=True)


def test_errors_before_and_after_are_those_of_each_split(shared: Path) -> None:
    pool = Pool.load(shared / "test", calibrated=True)
    rows = calibration_effects(pool, pool.calibrations)
    assert [row.model for row in rows] == MODELS
    labels = pool.samples.labels
    for row in rows:
        raw = pool.outputs[row.model]
        assert (row.split, row.samples) == ("test", 600)
        assert row.before == expected_calibration_error(raw, labels)
        made = pool.calibrations[row.model].apply(raw)
        assert row.after == expected_calibration_error(made, labels) != row.before


@pytest.mark.parametrize("combine", ["mean_logits", "mean_probabilities"])
def test_what_runs_is_what_was_evaluated(shared: Path, tmp_path: Path, combine: str) -> None:
    val, test = (Pool.load(shared / split, calibrated=True) for split in ("val", "test"))
    front = search(val, 3, combine=combine, test=test)
    # The member with the most stages: several models averaged, at scores that differ from raw ones.
    chosen = max(front, key=lambda each: len(each.cascade.stages))
    assert len(chosen.cascade.stages) > 1
    path = chosen.cascade.save(tmp_path / "cascade.json")
    runner = Runner(path, threads=1)
    assert runner.cascade.calibrations == chosen.cascade.calibrations
    # Loaded raw: the cascade brings its own.
    raw = Pool.load(shared / "test")
    assert evaluate(runner.cascade, raw) == chosen.test
    decisions = [each for _, each in run_offline(runner, dataset("test"), 64)]
    rows = np.concatenate([each.predicted for each in decisions])
    assert int((rows == raw.samples.labels).sum()) == chosen.test.correct
    assert agreement(runner, raw, joined_decisions(decisions)).complete
    images = dataset("test").read(np.arange(40))
    for image, stage, score in zip(images, decisions[0].stage, decisions[0].score, strict=False):
        one = runner(image)
        assert one.stage == stage
        assert one.confidence == pytest.approx(score, rel=1e-5)


def test_removing_a_calibration_from_a_file_changes_what_runs(shared: Path, tmp_path: Path) -> None:
    val = Pool.load(shared / "val", calibrated=True)
    cascade = Cascade.of(["nano", "tiny"], [0.8], calibrations=val.calibrations)
    data = cascade.to_json()
    assert evaluate(Cascade.from_json(data), val) == evaluate(cascade, val)
    data["calibrations"] = {}
    assert evaluate(Cascade.from_json(data), val) != evaluate(cascade, val)


# The command.


def words(text: str, store: Path) -> list[str]:
    return text.replace("STORE", str(store)).split()


def json_of(text: str, store: Path, capsys: Any) -> Any:
    assert main([*words(text, store), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_command_fits_tells_and_search_uses_it(store: Path, capsys: Any) -> None:
    told = json_of("calibrate STORE --method platt", store, capsys)
    fitted = read_calibrations(store, MODELS)
    assert told["calibrations"] == {name: each.to_json() for name, each in fitted.items()}
    rows = told["expected_calibration_error"]
    assert [(row["split"], row["samples"]) for row in rows[::3]] == [
        ("cal", 600),
        ("val", 600),
        ("test", 600),
    ]
    out = store.parent / "cascade.json"
    found = json_of(f"search STORE --match tiny --calibrated --out {out}", store, capsys)
    cascade = Cascade.load(out)
    assert cascade.calibrations == {name: fitted[name] for name in cascade.names}
    test = evaluate(cascade, Pool.load(store / "test"))
    assert found["chosen"]["test"] == json.loads(json.dumps(test.to_json()))
    plain = json_of("search STORE --match tiny", store, capsys)
    assert plain["chosen"]["cascade"]["calibrations"] == {}
    judged = json_of(f"evaluate {out} STORE", store, capsys)
    assert judged["correct"] == test.correct


def test_the_table_names_splits_counts_and_errors(store: Path, capsys: Any) -> None:
    assert main(words("calibrate STORE", store)) == 0
    output = capsys.readouterr().out
    assert output.count("600 samples") == 3
    for model in MODELS:
        assert re.search(rf"{model} .*T = \d\.\d+.*% → .*% → .*% → ", output)
    assert "Note" not in output


def test_val_and_test_must_be_named_and_are_minded(store: Path, capsys: Any) -> None:
    assert main(words("calibrate STORE --split val", store)) == 0
    assert "Note: val usually chooses" in capsys.readouterr().out
    calibrate(store)
    assert main(words("calibrate STORE --split val --json", store)) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any("fitted on 'cal', a split of its own; fit them again" in each for each in notes)
    found = json_of("search STORE --calibrated", store, capsys)
    assert any("fitted on val, which also chose" in each for each in found["warnings"])
    assert main(words("calibrate STORE --split test", store)) == 0
    assert "Note: test usually evaluates" in capsys.readouterr().out
    assert main(words("search STORE --calibrated", store)) == 2
    assert "'test' holds the samples that the calibrations of" in capsys.readouterr().err
    out = store.parent / "c.json"
    Cascade.of(["nano"], calibrations=Pool.load(store / "val", calibrated=True).calibrations).save(
        out
    )
    assert main(words(f"evaluate {out} STORE", store)) == 0
    assert "These samples fitted calibrations" in capsys.readouterr().out


def test_they_are_removed(store: Path, capsys: Any) -> None:
    calibrate(store)
    assert json_of("calibrate STORE --remove --only nano", store, capsys) == {"removed": ["nano"]}
    assert read_calibrations(store, ["micro", "tiny"]).keys() == {"micro", "tiny"}
    with refused(StoreError, "no calibration of nano"):
        read_calibrations(store, MODELS)
    assert json_of("calibrate STORE --remove", store, capsys) == {"removed": MODELS}
    assert '"calibration"' not in (store / "store.json").read_text()


BAD = {
    "calibrate STORE --split kal": "no split 'kal'. Did you mean",
    "calibrate STORE --only nono": "no model 'nono'. There are: micro, nano, tiny",
    "calibrate STORE --remove --only nono": "no model 'nono'. There are: micro, nano, tiny",
    "calibrate STORE --method isotonic": "--method",
    "calibrate STORE --figure a.pdf": "a.pdf: a figure can be written as .png or .svg",
    "calibrate STORE/nowhere": "no store is there",
    "calibrate STORE/nowhere --remove": "not there; make it with",
    "calibrate STORE/nowhere --remove --only nano": "not there; make it with",
    "search STORE --calibrated": "no calibration of nano, micro, tiny. Fit it with: committee",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_input_gets_one_line_and_changes_nothing(store: Path, text: str, capsys: Any) -> None:
    before = files_of(store)
    assert main(words(text, store)) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("committee: ")
    assert BAD[text] in errors
    assert errors.count("\n") == 1
    assert files_of(store) == before


def test_decisions_of_a_service_are_calibrated(tmp_path: Path, capsys: Any) -> None:
    for split, seed in (("cal", 0), ("val", 1)):
        random = np.random.default_rng(seed)
        score = random.normal(50, 20, 900)
        labels = np.where(random.random(900) < 1 / (1 + np.exp(1 - score / 25)), 1, 0)
        ids = [f"{split} {i}" for i in range(900)]
        columns = {"class": np.ones(900, np.int64), "confidence": score, "label": labels, "id": ids}
        np.savez(tmp_path / "a.npz", **columns)
        import_predictions({"a": tmp_path / "a.npz"}, tmp_path / "s", kind="decisions", split=split)
    assert main(words("calibrate STORE --method temperature", tmp_path / "s")) == 2
    assert "use the method platt" in capsys.readouterr().err
    told = json_of("calibrate STORE", tmp_path / "s", capsys)
    rows = told["expected_calibration_error"]
    # A score of 50 is no probability: there is nothing to compare with before.
    assert [row["before"] for row in rows] == [None, None]
    assert rows[1]["after"] < 0.06
    figure = tmp_path / "a.png"
    assert main(words(f"calibrate STORE --method platt --figure {figure}", tmp_path / "s")) == 0
    assert "- → " in capsys.readouterr().out
    assert figure.read_bytes().startswith(b"\x89PNG")


# What the documents show.


def snippet_or_script(name: str) -> str:
    text = (ROOT / name).read_text(encoding="utf-8")
    found = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return found[0] if name.endswith(".md") else text


@pytest.mark.parametrize("name", ["docs/calibration.md", "examples/calibration.py"])
def test_what_the_documents_show_runs(
    name: str, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "demo-out").mkdir()
    (tmp_path / "demo-out" / "predictions").symlink_to(filled)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [name, "demo-out/predictions"])
    code = (
        snippet_or_script(name)
        .replace("val, 3", "val, 2")
        .replace("calibrations), 3", "calibrations), 2")
        .replace('"large"', '"tiny"')
    )
    exec(compile(code, name, "exec"), {"__name__": "__main__"})  # the code is ours
    output = capsys.readouterr().out
    assert len(re.findall(r"0\.\d+", output)) >= 4
    assert (tmp_path / "reliability.png").exists() == name.endswith(".md")


# The figure.


def test_the_figure_draws_what_is_counted(shared: Path) -> None:
    pool = Pool.load(shared / "test", calibrated=True)
    figure = reliability_figure(pool, bins=10)
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    counts = [axes for axes in figure.axes if axes.get_xlabel() == "Confidence"]
    assert [axes.get_title(loc="left") for axes in panels] == MODELS
    labels = pool.samples.labels
    for name, axes, bars in zip(MODELS, panels, counts, strict=True):
        made = pool.calibrations[name].apply(pool.outputs[name])
        errors = [expected_calibration_error(o, labels, 10) for o in (pool.outputs[name], made)]
        told = [text.get_text() for text in axes.get_legend().get_texts()]
        assert told == [f"Original, ECE {errors[0]:.2%}", f"Calibrated, ECE {errors[1]:.2%}"]
        assert sum(patch.get_height() for patch in bars.patches) == 2 * len(pool)
        # Points weighted by their counts are the accuracy and the mean confidence.
        points = axes.containers[1].lines[0].get_xydata()
        heights = [patch.get_height() for patch in bars.patches[10:]]
        weights = np.array([height for height in heights if height])
        right = (pool.outputs[name].predicted() == labels).mean()
        assert np.average(points[:, 1], weights=weights) == pytest.approx(right)
    assert figure.get_suptitle() == "Calibration, fitted on cal, shown on test (600 samples)"


def test_figures_are_written_by_their_ending_and_repeat(shared: Path, tmp_path: Path) -> None:
    pool = Pool.load(shared / "test", ["nano"], calibrated=True)
    for ending, start in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        paths = [tmp_path / f"{i}{ending}" for i in range(2)]
        written = [write_figure(reliability_figure(pool), path).read_bytes() for path in paths]
        assert written[0].startswith(start)
        assert written[0] == written[1]
    with refused(DataError, r"a\.gif: a figure can be written as \.png or \.svg"):
        write_figure(reliability_figure(pool), tmp_path / "a.gif")


def test_a_pool_without_calibrations_or_labels_has_no_figure(shared: Path) -> None:
    with refused(CalibrationError, "has no calibrations"):
        reliability_figure(Pool.load(shared / "test"))
    one = Calibration.of_temperature(1.0)
    pool = Pool.from_arrays(None, {"a": [[1.0, 2.0]]}, kind="logits").with_calibrations({"a": one})
    with refused(MisalignedError, "has no labels"):
        reliability_figure(pool)


def test_a_store_that_is_written_to_is_left_alone(store: Path) -> None:
    from committee.store.folder import writing

    with writing(store), refused(StoreError, "another process is writing"):
        _write_calibrations(store, {"nano": Calibration.of_temperature(2.0)})


def test_what_comes_after_a_fit_is_what_the_store_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    outputs = 2 * np.eye(3)[labels] + rng.normal(size=(200, 3))
    np.savez(tmp_path / "a.npz", outputs=outputs, label=labels)
    store = tmp_path / "s"
    import_predictions({"a": tmp_path / "a.npz"}, store, kind="logits", split="cal")
    assert main(["calibrate", str(store), "--method", "per-class"]) == 0
    said = capsys.readouterr().out
    assert "Next: predict or import val and test; then: committee search" in said
    assert "only other splits tell what they are worth" in said
