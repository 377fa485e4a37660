"""The populations of the benchmarks have the samples, costs and accuracies that are published."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import committee as cm

ROOT = Path(__file__).parents[1]
WORLDS = runpy.run_path(str(ROOT / "benchmarks" / "worlds.py"))
DATA = WORLDS["DATA"]

# Top-1 on all 50,000 images.
IMAGENET = {
    "densenetblur121d": 0.7658,
    "efficientnet_b1": 0.7870,
    "efficientnet_b3a": 0.8187,
    "ese_vovnet19b_dw": 0.7680,
    "gluon_senet154": 0.8122,
    "mixnet_m": 0.7726,
    "mobilenetv3_large_100": 0.7577,
    "resnet34": 0.7511,
    "resnext50_32x4d": 0.7976,
    "tf_inception_v3": 0.7786,
    "torchvision-densenet161": 0.7714,
    "torchvision-inception_v3": 0.7732,
    "torchvision-resnet101": 0.7737,
    "torchvision-resnext101_32x8d": 0.7931,
}
# Top-1 of the four trainings, by phi, mean of val and test.
SIZES = [0.88475, 0.89365, 0.89955, 0.9071, 0.9135, 0.91825, 0.92355, 0.9283]
CIFAR10 = {"resnet20": 0.9173, "resnet32": 0.9263, "resnet44": 0.9310, "resnet56": 0.9339}
EMBEDDED = {
    "nano": 0.8980,
    "micro": 0.9105,
    "tiny": 0.9159,
    "small": 0.9225,
    "medium": 0.9335,
    "large": 0.9364,
}


def top_1(pool):
    labels = pool.samples.labels
    return {name: float(np.mean(pool.model(name).predicted() == labels)) for name in pool.names}


def test_imagenet_has_the_accuracies_and_costs_in_three_units():
    pool = WORLDS["imagenet"]()
    assert (len(pool), pool.kind) == (50_000, "decisions")
    assert np.bincount(pool.samples.labels).tolist() == [50] * 1000
    assert top_1(pool) == pytest.approx(IMAGENET, abs=5e-5)
    assert pool.costs.units == ["cpu_ms", "gpu_ms", "macs"]
    b3a = {unit: pool.costs.values(unit)["efficientnet_b3a"] for unit in pool.costs.units}
    assert b3a == {"cpu_ms": 21.164, "gpu_ms": 0.37091, "macs": 2.01e9}


def test_imagenet_takes_three_megabytes_and_has_its_licence():
    folder = DATA / "imagenet_decisions"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 3e6
    assert "M.I. Hollemans" in (folder / "LICENSE").read_text("utf-8")


def test_compound_scaling_joins_both_splits_of_every_model():
    pool = WORLDS["compound_scaling"]()
    assert (len(pool), pool.kind, pool.costs.units) == (20_000, "logits", ["macs"])
    found = np.array(list(top_1(pool).values())).reshape(8, 4)
    assert found.mean(axis=1) == pytest.approx(SIZES, abs=1e-4)
    assert (pool.samples.ids[0], pool.samples.ids[-1]) == ("val-0", "test-9999")
    first = WORLDS["eight_sizes"]()
    assert first.names == [f"phi{phi}-seed0" for phi in range(8)]
    assert list(top_1(first).values()) == found[:, 0].tolist()


@pytest.mark.parametrize(
    ("name", "accuracies"), [("cifar10", CIFAR10), ("embedded", EMBEDDED)], ids=lambda each: each
)
def test_collected_outputs_have_the_accuracies_of_the_networks(name, accuracies):
    pool = WORLDS[name]()
    assert (len(pool), pool.kind, pool.costs.units) == (10_000, "logits", ["macs"])
    assert top_1(pool) == accuracies


def test_cifar10_has_what_the_networks_decided_and_the_mean_of_all():
    pool = WORLDS["cifar10"]()
    decided = np.load(Path(__file__).parent / "golden" / "cifar10_resnet.npz")
    for name in pool.names:
        np.testing.assert_array_equal(pool.model(name).predicted(), decided[name])
    assert cm.evaluate(cm.Cascade.ensemble(pool.names), pool).correct == 9453
    millions = [round(cost / 1e6, 1) for cost in pool.costs.values("macs").values()]
    assert millions == [40.6, 68.9, 97.2, 125.5]
