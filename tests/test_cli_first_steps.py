"""What somebody who is new to the command line tries first, by the embedded pool."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from committee import Cascade, Pool, search
from committee.cli import COMMANDS, command, main
from committee.data.base import PartDataset
from committee.embedded import FOLDER, embedded_images, pool_file
from committee.export.bundle import write_bundle
from committee.export.graph import write_graph
from committee.models.pool_file import read_pool_file
from committee.predict import predict
from committee.selection.fixed_models import as_ensemble
from committee.spec.model import ImportedModel
from export_world import CASCADES, embedded

Told = Callable[..., str]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs a command and gives what it says, on the stream that its exit code means."""

    def run(*words: object, code: int = 0) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == code
        caught = capsys.readouterr()
        if code:
            assert caught.err.count("\n") == 1
        return caught.err if code else caught.out

    return run


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cascade as search writes it of outputs that were imported: it knows no model."""
    folder = tmp_path_factory.mktemp("imported")
    cascade = embedded(Cascade.of(["nano", "tiny"], [0.9]))
    return replace(cascade, models={}).save(folder / "chosen.json")


def test_the_demos_cascade_runs_on_the_demos_images(told: Told, tmp_path: Path) -> None:
    cascade = embedded(CASCADES["mean_logits"]).save(tmp_path / "cascade.json")
    out = tmp_path / "results.csv"
    words = ("run", cascade, "--data", "embedded:test", "--rows", "0:200", "--out", out)
    found = told(*words)
    assert found.startswith("200 samples, ")
    assert re.search(r"^Exits by stage: [\d.]+/[\d.]+/[\d.]+ % of nano -> ", found, re.MULTILINE)
    assert re.search(r"^Average cost: [\d.]+ [kM] macs$", found, re.MULTILINE)
    assert re.search(r"^Correct: 1\d\d of 200, [\d.]+ %$", found, re.MULTILINE)


def test_a_pool_file_says_how_models_of_imported_outputs_are_loaded(
    told: Told, imported: Path, tmp_path: Path
) -> None:
    out, onnx = tmp_path / "results.csv", tmp_path / "c.onnx"
    words = ("run", imported, "--data", "embedded:test", "--rows", "0:50", "--out", out)
    line = told(*words, code=2)
    assert "does not say how to load nano, tiny. Name the pool file that lists its models" in line
    assert "--pool POOL.toml" in line
    pool = ("--pool", FOLDER / "pool.toml")
    assert told(*words, *pool).startswith("50 samples")
    assert "--pool POOL.toml" in told("export", imported, "--out", onnx, code=2)
    assert "Written" in told("export", imported, "--out", onnx, *pool)
    words = ("verify", imported, "--data", "embedded:test", "--rows", "0:50", "--against", onnx)
    assert "all decisions are the same" in told(*words, *pool)
    assert "has its models inside; leave --pool out" in told(
        "run", onnx, "--data", "embedded:test", "--out", tmp_path / "other.csv", *pool, code=2
    )


def test_costs_of_imported_models_travel_in_the_cascade_file(told: Told, tmp_path: Path) -> None:
    given = {"nano": 3e5, "tiny": 7e6}
    labels, rng = np.arange(200) % 10, np.random.default_rng(0)
    outputs = {n: rng.normal(size=(200, 10)) + 3 * np.eye(10)[labels] for n in given}
    front = search(Pool.from_arrays(labels, outputs, kind="logits", costs=given))
    chosen = tmp_path / "chosen.json"
    as_ensemble(["tiny"], front.pool).cascade.save(chosen)
    assert isinstance(Cascade.load(chosen).models["tiny"], ImportedModel)
    # A pool file that names no costs.
    lines = (FOLDER / "pool.toml").read_text().splitlines()
    own = FOLDER.as_posix()
    text = "\n".join(line for line in lines if not line.startswith("costs"))
    bare = tmp_path / "bare.toml"
    bare.write_text(text.replace('source = "onnx:', f'source = "onnx:{own}/'))
    assert not any(spec.costs for spec in read_pool_file(bare).models)
    cascade = read_pool_file(bare).described(Cascade.load(chosen))
    assert cascade.models["tiny"].costs[0].value == given["tiny"]
    words = ("run", chosen, "--data", "embedded:test", "--rows", "0:50", "--pool", bare)
    assert "Average cost: 7.00 M macs" in told(*words, "--out", tmp_path / "o.csv")


def test_a_pool_file_of_other_classes_or_models_is_refused(
    told: Told, imported: Path, tmp_path: Path
) -> None:
    words = ("run", imported, "--data", "embedded:test", "--out", tmp_path / "r.csv", "--pool")
    text = (FOLDER / "pool.toml").read_text(encoding="utf-8")
    text = text.replace('"onnx:', f'"onnx:{FOLDER}/')
    pool = tmp_path / "pool.toml"
    pool.write_text(text.replace('"Sandal"', '"Slipper"'), encoding="utf-8")
    assert "its classes (T-shirt/top, " in told(*words, pool, code=2)
    pool.write_text(text.replace('"tiny"', '"wee"'), encoding="utf-8")
    assert "no model 'tiny'" in told(*words, pool, code=2)


def test_bundles_and_single_files_are_judged_as_the_cascade_file_is(
    told: Told, tmp_path: Path
) -> None:
    models = pool_file().only(["nano", "tiny"])
    some = PartDataset(embedded_images("test"), np.arange(200))
    pool = Pool.load(predict(models, some, tmp_path / "store", batch_size=64))
    cascade = replace(embedded(Cascade.of(["nano", "tiny"], [0.9])), models=pool.specs)
    paths = [
        cascade.save(tmp_path / "cascade.json"),
        write_bundle(cascade, tmp_path / "bundle"),
        write_graph(cascade, tmp_path / "cascade.onnx"),
    ]
    first, *others = (json.loads(told("evaluate", p, tmp_path / "store", "--json")) for p in paths)
    assert first["samples"] == 200
    assert others == [first, first]


def test_what_was_exported_is_not_written_over(told: Told, tmp_path: Path) -> None:
    cascade = embedded(Cascade.of(["nano", "tiny"], [0.9])).save(tmp_path / "cascade.json")
    for out in (tmp_path / "c.onnx", tmp_path / "bundle.v2"):
        told("export", cascade, "--out", out)
        before = out.stat().st_mtime_ns
        line = told("export", cascade, "--out", out, code=2)
        assert re.search(rf"{out}: is there already; name another (file|folder), or remove", line)
        assert out.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["c.onnx", "bundle", "r.csv"])
def test_a_place_that_cannot_be_written_is_named_as_the_user_named_it(
    told: Told, tmp_path: Path, name: str
) -> None:
    if not Path("/proc").is_dir():
        pytest.skip("needs a folder that even an administrator cannot write to: /proc")
    cascade = embedded(Cascade.of(["nano", "tiny"], [0.9])).save(tmp_path / "cascade.json")
    words = ("export", cascade, "--out", f"/proc/{name}")
    if name.endswith(".csv"):
        words = ("run", cascade, "--data", "embedded:test", "--out", f"/proc/{name}")
    line = told(*words, code=2)
    assert f"/proc/{name}" in line
    assert ".tmp" not in line


def test_the_list_of_commands_cuts_no_text_off(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = " ".join(told("--help").partition("Begin:")[2].split())
    assert "..." not in found
    for name, line in COMMANDS.items():
        assert f"{name} {line}" in found
        assert str(command(name).help).partition("\n")[0] == line


def test_help_loads_no_command_and_commands_load_nothing_heavy() -> None:
    heavy = ("torch", "onnx", "onnxruntime", "matplotlib", "PIL", "scipy", "jinja2", "pyarrow")
    code = (
        "import sys; from committee.cli import COMMANDS, command, main; main(['--help'])\n"
        "own = [m for m in sys.modules if m.startswith('committee.cli.')]\n"
        "assert own == ['committee.cli.help']\n"
        "for each in COMMANDS: command(each)\n"
        f"assert not {{*{heavy}}} & {{*sys.modules}}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
