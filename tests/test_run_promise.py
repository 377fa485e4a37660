"""A run is held against what its cascade promised: exits, kind of outputs, calibrations."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from committee import Calibration, Cascade, Pool, Runner, evaluate
from committee.cli import main
from committee.errors import CascadeError, MisalignedError
from committee.models.pool_file import read_pool_file
from committee.rule.expected import Expected, StageExits
from committee.rule.origin import Origin, Promised
from committee.run.offline import run_into
from committee.run.promise import Promise, _p_value
from committee.run.results import Result, _write_results, read_results
from committee.spec.model import ImportedModel
from pool_changes import with_specs
from small_world import CLASSES, CODE, code_of, dataset, images, samples, write_npz, write_pool

Caught = pytest.CaptureFixture[str]
PROBABILITIES = "z = np.exp(batch.reshape(len(batch), -1) @ matrix); return z / z.sum(1)[:, None]"
ANSWER = "return batch.reshape(len(batch), -1) @ matrix"


class World:
    """A pool of probabilities, imported and searched, and pool files that would run it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = write_pool(folder, CODE.replace(ANSWER, PROBABILITIES))
        self.code = code_of(path)[0]
        text = path.read_text()
        for kind in ("logits", "probabilities"):
            kinds = text.replace("resolution = 4", f'resolution = 4\nkind = "{kind}"')
            (folder / f"{kind}.toml").write_text(kinds)
        write_npz(folder / "data.npz", 300, seed=1)
        rng = np.random.default_rng(1)
        labels = samples(300, seed=1).labels
        for name, noise in (("one", 1.5), ("two", 0.4)):
            logits = np.eye(3)[labels] * 5 + rng.normal(0, noise, (300, 3))
            values = np.exp(logits)
            np.save(folder / f"{name}.npy", values / values.sum(axis=1, keepdims=True))
        np.save(folder / "labels.npy", labels)
        (folder / "classes.txt").write_text("\n".join(CLASSES))
        words = ["import", folder / "one.npy", folder / "two.npy", "--kind", "probabilities"]
        words += ["--labels", folder / "labels.npy", "--classes", folder / "classes.txt"]
        words += ["--split", "val", "--out", folder / "store", "--cost", "one=1", "--cost", "two=9"]
        assert self.run(*words) == 0
        self.cascade = folder / "cascade.json"

    def run(self, *words: object) -> int:
        return main([str(word) for word in words])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("world"))
    # What search writes, found once for all tests.
    pool = Pool.load(made.folder / "store" / "val")
    chain = Cascade.of(["one", "two"], [0.95])
    promised = evaluate(chain, pool)
    from committee.selection.front import committee_of

    committee_of(pool.bound(chain), promised, pool).cascade.save(made.cascade)
    return made


@pytest.mark.parametrize("command", ["run", "verify"])
def test_a_pool_of_another_kind_is_refused(world: World, capsys: Caught, command: str) -> None:
    words = [command, world.cascade, "--data", world.folder / "data.npz", "--json"]
    words += ["--allow-code", world.code, "--pool"]
    out = ["--out", world.folder / f"{command}.csv"] if command == "run" else []
    capsys.readouterr()
    assert world.run(*words, world.folder / "logits.toml", *out) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "model 'one' gives logits, but the cascade was chosen on probabilities" in told
    assert 'declare kind = "probabilities"' in told
    assert world.run(*words, world.folder / "probabilities.toml", *out) == 0


def test_a_pool_file_and_an_evaluation_refuse_another_kind(world: World) -> None:
    cascade = Cascade.load(world.cascade)
    known = read_pool_file(world.folder / "probabilities.toml").described(cascade)
    assert Runner(known, allow_code=[world.code]).cascade.combine == "mean_probabilities"
    with pytest.raises(MisalignedError, match="gives logits, but the cascade was chosen on prob"):
        read_pool_file(world.folder / "logits.toml").described(cascade)
    pool = Pool.load(world.folder / "store" / "val")
    other = Pool.from_arrays(
        pool.samples.labels,
        {n: np.log(pool.model(n).values) for n in pool.names},
        kind="logits",
        costs={"one": 1, "two": 10},
        classes=CLASSES,
    )
    with pytest.raises(MisalignedError, match="split 'val': model 'one' gives logits, but"):
        evaluate(cascade, other)


def test_a_calibration_of_another_model_is_refused(world: World) -> None:
    pool = Pool.load(world.folder / "store" / "val")
    specs = {"one": ImportedModel("one", "probabilities", fingerprint="a")}
    chain = Cascade.of(["one"], calibrations={"one": Calibration.of_temperature(2.0)})
    mine = replace(chain, models=specs)
    other = {"one": replace(specs["one"], fingerprint="b", costs=pool.specs["one"].costs)}
    evaluate(mine, pool)
    with pytest.raises(MisalignedError, match=r"'one' has fingerprint b, .* was fitted to a"):
        evaluate(mine, with_specs(pool, other))


def test_exits_stand_beside_those_that_are_expected(
    world: World, tmp_path: Path, capsys: Caught
) -> None:
    ratios = json.loads(world.cascade.read_text())["origin"]["promised"]["exit_ratios"]
    words = ["run", world.cascade, "--data", world.folder / "data.npz", "--allow-code", world.code]
    words += ["--pool", world.folder / "probabilities.toml", "--out"]
    capsys.readouterr()
    assert world.run(*words, tmp_path / "out.csv") == 0
    told = capsys.readouterr().out
    stages = [result.stage for result in read_results(tmp_path / "out.csv")]
    # These are other models, made up for the test: they exit elsewhere.
    found = np.bincount(stages, minlength=2) / 300
    shown, promised = ("/".join(f"{100 * each:.3g}" for each in some) for some in (found, ratios))
    assert f"Exits by stage: {shown} % (expected {promised} %) of one -> two" in told
    assert f"Note: exits by stage are {shown} % of 300 samples; expected were {promised} % " in told
    assert world.run(*words, tmp_path / "out.jsonl", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["promised_exit_ratios"] == ratios
    assert len(summary["notes"]) == 1
    # As few samples as these may exit anywhere.
    assert world.run(*words, tmp_path / "few.csv", "--rows", ":4", "--json") == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []


@given(st.data())
def test_chance_is_that_of_fishers_exact_test(data: st.DataObject) -> None:
    of_one, of_two = (data.draw(st.integers(1, 60)) for _ in range(2))
    one, two = data.draw(st.integers(0, of_one)), data.draw(st.integers(0, of_two))
    # Of all ways to spread what both have over the two, those that are no more likely than this.
    ways = [math.comb(of_one, k) * math.comb(of_two, one + two - k) for k in range(one + two + 1)]
    expected = sum(each for each in ways if each <= ways[one]) / sum(ways)
    assert _p_value(one, of_one, two, of_two) == pytest.approx(expected)


@pytest.mark.parametrize(
    "promised",
    [
        [],
        {"exit_ratios": [0.5, "0.5"]},
        {"exit_ratios": [0.5, 0.9]},
        {"exit_ratios": [-1, 2]},
        {"samples": 0},
        {"exit_ratios": 7},
    ],
)
def test_what_cannot_be_promised_is_refused(promised: Any) -> None:
    sound = Promised(9, 8 / 9, 1.0, 2.0, (0.5, 0.5), "top-1")
    cascade = replace(Cascade.of(["a", "b"], [0.5]), origin=Origin(promised=sound))
    assert Promise.of(cascade) == Promise((0.5, 0.5), 9)
    assert Promise.of(replace(Cascade.of(["a"]), origin=cascade.origin)) is None
    expected = Expected(
        cascade.rule_fingerprint, "test", (StageExits((), (3,)), StageExits((), (1,)))
    )
    certified = replace(cascade, expected=expected)
    assert Promise.of(certified) == Promise((0.75, 0.25), 4)
    changed = replace(certified, expected=replace(expected, rule="other"))
    assert Promise.of(changed) == Promise((0.5, 0.5), 9)
    data = cascade.to_json()
    data["origin"]["promised"] = {**vars(sound), **promised} if promised else promised
    with pytest.raises(CascadeError, match=r"c\.json: .*promised"):
        Cascade.from_json(data, "c.json")


def test_results_name_labels_and_classes_without_names_are_numbers(
    world: World, tmp_path: Path
) -> None:
    cascade = Cascade.load(world.cascade)
    known = read_pool_file(world.folder / "probabilities.toml").described(cascade)
    runner = Runner(known, allow_code=[world.code])
    rows = [r for part in run_into(runner, dataset(20), tmp_path / "out.csv") for r in part]
    assert {row.cascade for row in rows} == {known.rule_fingerprint}
    assert [row.label_name for row in rows] == [CLASSES[row.label or 0] for row in rows]
    assert (
        (tmp_path / "out.csv")
        .read_text()
        .startswith(
            "id,class_index,class_name,confidence,stage,cost,label,label_name,error,cascade\n"
        )
    )
    unnamed = Runner(replace(known, classes=()), allow_code=[world.code])
    decision = unnamed(images(1)[0])
    assert decision.class_name == str(decision.class_index)
    assert repr(unnamed.decide(images(20))).startswith("<Decisions: 20 samples; exits by stage ")


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_names_that_are_no_unicode_are_written_escaped(tmp_path: Path, ending: str) -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    result = Result(name, 0, "\ud800", 1.0, 0, None, None)
    path = _write_results(tmp_path / f"out{ending}", [result])
    [found] = read_results(path)
    assert (found.id, found.class_name) == ("caf\\xe9.png", "\\ud800")
