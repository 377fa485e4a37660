"""Engines: the same module on each answers the same, exported once and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from committee.arrays import Array
from committee.cli import main
from committee.errors import CommitteeError, MissingExtraError, ModelError, PoolFileError
from committee.models.base import outputs_of
from committee.models.engines.exported import TOLERANCE, _cache_folder, difference
from committee.models.engines.torch_module import TorchModel
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.spec.model import ModelSpec

torch = pytest.importorskip("torch", reason="engines run torch modules")
pytest.importorskip("onnxscript", reason="torch exports with onnxscript")

CODE = """
import torch

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.Hardswish(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(16, 9),
    )

def unexportable():
    class Strange(torch.nn.Module):
        def forward(self, batch):
            return batch.mean((2, 3)) if batch.sum() > 0 else batch.amax((2, 3))
    return Strange()

def function():
    return lambda batch: batch.mean(axis=(2, 3))
"""


class World:
    """A folder with code and a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.code = folder, [str(folder / "m.py")]
        (folder / "m.py").write_text(CODE)

    def spec(self, engine: str = "", factory: str = "make", more: str = "") -> ModelSpec:
        path = self.folder / "pool.toml"
        lines = [f'source = "python:m.py:{factory}@12"', more]
        lines += [f'engine = "{engine}"'] if engine else []
        path.write_text("\n".join(["[[model]]", 'name = "a"', *lines]) + "\n")
        return read_pool_file(path).models[0]

    def answers(self, spec: ModelSpec) -> Array:
        model, known = load_model(spec, self.code)
        return outputs_of(model, known, INPUTS).values


INPUTS = np.random.default_rng(0).standard_normal((5, 3, 12, 12), np.float32)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one test exported, the next finds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def world(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("COMMITTEE_CACHE", str(cache))
    return World(tmp_path)


def test_engines_agree_and_are_models_of_their_own(world: World) -> None:
    own = world.answers(world.spec())
    prints = {load_model(world.spec("torch"), world.code)[1].fingerprint}
    assert prints == {load_model(world.spec(), world.code)[1].fingerprint}
    model, known = load_model(world.spec("onnxruntime"), world.code)
    assert model.engine.startswith("onnxruntime")
    assert {cost.unit: cost.value for cost in known.costs}["macs"] == 16 * 27 * 100 + 16 * 9
    apart = np.abs(outputs_of(model, known, INPUTS).values - own).max()
    assert apart <= 1e-4 * np.abs(own).max()
    assert known.fingerprint not in prints


def test_what_is_exported_is_exported_once_and_again_if_it_was_damaged(world: World) -> None:
    before = world.answers(world.spec("onnxruntime"))
    [graph] = _cache_folder().glob("*.onnx")
    whole, stamp = graph.read_bytes(), graph.stat().st_mtime_ns
    world.answers(world.spec("onnxruntime"))
    assert graph.stat().st_mtime_ns == stamp
    graph.write_bytes(whole[:-100])
    assert world.answers(world.spec("onnxruntime")).tobytes() == before.tobytes()
    assert graph.stat().st_mtime_ns != stamp


def test_a_graph_that_answers_otherwise_is_refused(world: World) -> None:
    model, spec = load_model(world.spec(), world.code)
    assert isinstance(model, TorchModel)

    class Off:
        engine, shape = "off 1.0", ()

        def __init__(self, change: Any) -> None:
            self._change = change

        def __call__(self, batch: Array) -> Array:
            return np.asarray(self._change(model(batch)))

    assert difference(spec, model, Off(lambda values: values)) == 0
    assert 0 < difference(spec, model, Off(lambda values: values * (1 + TOLERANCE / 2))) < TOLERANCE
    for change in (lambda values: values * (1 + 2 * TOLERANCE), lambda values: values * np.nan):
        with pytest.raises(ModelError, match=r"'a': exported, its outputs on off 1\.0 are off by"):
            difference(spec, model, Off(change))
    with pytest.raises(ModelError, match=r"answers \(2, 9\) instead of \(3, 9\)"):
        difference(spec, model, Off(lambda values: values[:2]))


WRONG = {
    ("onnxrun", "make", ""): "no engine 'onnxrun'. Did you mean 'onnxruntime'",
    ("torch", "make", 'precision = "bf16"'): "no field 'precision'",
    ("onnxruntime", "unexportable", ""): "torch cannot export it as ONNX",
    ("onnxruntime", "function", ""): "returned no torch module; leave weights and engine out",
}


@pytest.mark.parametrize("asked", WRONG)
def test_an_engine_that_cannot_be_had_gets_a_line(world: World, asked: tuple[str, ...]) -> None:
    with pytest.raises(CommitteeError) as told:
        load_model(world.spec(*asked), world.code)
    assert WRONG[asked] in str(told.value)
    assert "'a'" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_graph_runs_on_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "pool.toml"
    path.write_text('[[model]]\nname = "a"\nsource = "onnx:a.onnx@8"\nengine = "torch"\n')
    with pytest.raises(PoolFileError, match=r"onnx:PATH runs on onnxruntime, not on torch"):
        read_pool_file(path)


def test_missing_engines_are_told_with_their_extras(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setenv("COMMITTEE_CACHE", str(world.folder))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*onnxscript"):
        load_model(world.spec("onnxruntime"), world.code)


def test_a_pool_is_exported_with_its_preprocessing_and_costs(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = world.spec(more='family = "f"\npreprocessing.crop = 0.8\ncosts.dollars = 0.25')
    pool, out = world.folder / "pool.toml", world.folder / "out"
    pool.write_text('classes = ["Ü", "b"]\n' + pool.read_text())
    command = ["export-onnx", str(pool), "--out", str(out), "--allow-code", world.code[0]]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"pool": str(out / "pool.toml"), "models": ["a"]}
    exported = read_pool_file(out / "pool.toml")
    graph = exported.models[0]
    assert exported.classes == ("Ü", "b")
    assert (graph.preprocessing, graph.family) == (spec.preprocessing, "f")
    assert {cost.unit: cost.value for cost in graph.costs} == {
        "dollars": 0.25,
        "macs": 16 * 27 * 100 + 16 * 9,
    }
    np.testing.assert_allclose(world.answers(graph), world.answers(spec), rtol=0, atol=1e-4)


def test_what_is_no_module_cannot_be_exported(world: World) -> None:
    from committee.export.pool import export_pool

    world.spec(factory="function")
    pool = read_pool_file(world.folder / "pool.toml")
    with pytest.raises(ModelError, match="returned no torch module"):
        export_pool(pool, world.folder / "out", world.code)
