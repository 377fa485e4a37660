"""The family scaled by phi: its costs, its resumable training, and what is committed of it."""

import doctest
import gzip
import importlib.util
import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import committee as cm

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "compound_scaling"
README = (EXAMPLE / "README.md").read_text(encoding="utf-8")


def loaded(name):
    """A file of the example under a name of its own; other examples have a network.py too."""
    path = EXAMPLE / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"compound_scaling_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def network():
    pytest.importorskip("torch", reason="the networks are torch modules")
    return loaded("network")


pool = loaded("pool")
MODELS = pool.read_facts()["models"]
STUDY = pool.chosen_models()


def macs(network, phi):
    from committee.profile.macs import torch_macs

    size = network.scaled(phi)
    side = size.resolution
    return torch_macs(network.Network(size).eval(), (1, 1, side, side))


# What a table row holds: phi, resolution, widths, blocks, macs, parameters, val, test, seconds.
ROW = re.compile(r"^\| (-?[\d.]+) \|(.*)\|$", re.MULTILINE)


def table(heading):
    """Rows of the README's table under a heading: phi to the remaining cells."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    return {
        float(phi): [cell.strip() for cell in rest.split("|")] for phi, rest in ROW.findall(section)
    }


STUDY_TABLE, C0_TABLE = table("Results"), table("Thirteen sizes for C0")


def accuracies(phi, seeds, split):
    labels = pool.read_labels(split)
    return [
        100 * np.mean(pool.read_outputs(f"phi{phi:g}-seed{seed}", split).argmax(1) == labels)
        for seed in seeds
    ]


def test_multiply_adds_rise_as_compound_scaling_says(network):
    counted = [macs(network, phi) for phi in range(8)]
    law = network.DEPTH * network.WIDTH**2 * network.RESOLUTION**2
    for phi, (smaller, larger) in enumerate(pairwise(counted)):
        # Whole blocks, channels and pixels make the single steps uneven.
        assert 1.4 < larger / smaller < 2.5, phi
        assert larger / counted[0] == pytest.approx(law ** (phi + 1), rel=1 / 3)


def test_example_in_the_docstring_runs(network):
    result = doctest.testmod(network)
    assert (result.failed, result.attempted) == (0, 2)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["name"])
def test_facts_are_those_of_the_network(network, model):
    size = network.scaled(model["phi"])
    assert model["macs"] == macs(network, model["phi"])
    parameters = sum(p.numel() for p in network.Network(size).parameters())
    assert model["parameters"] == parameters
    assert (model["resolution"], model["widths"], model["blocks"]) == (
        size.resolution,
        list(size.widths),
        list(size.blocks),
    )


def write_idx(path, values):
    head = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">i4").tobytes()
    path.write_bytes(gzip.compress(head + values.tobytes(), 1))


@pytest.fixture(scope="module")
def few_images(tmp_path_factory):
    """A folder like that of Fashion-MNIST; what is not held out makes two batches."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for part, count in (("train", 556), ("t10k", 300)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    return folder


# The script with 300 images held out and three epochs. It trains into two folders and into the
# first once more; before that, a process that dies in its second epoch begins in the first.
TRAIN = """
import os, sys
sys.path.insert(0, sys.argv[1])
import train
train.HELD_OUT, train.EPOCHS = 300, 3
data, killed, whole = sys.argv[2:]
def train_into(folder):
    sys.argv[1:] = ["--data", data, "--out", folder, "--phi", "-4", "--seed", "0"]
    train.main()
    print("end of", folder, flush=True)
saved, save = [], train.torch.save
def save_and_die(*arguments):
    save(*arguments)
    saved.append(1)
    if len(saved) == 2:  # before the checkpoint is on disk
        os._exit(9)
pid = os.fork()
if not pid:
    train.torch.save = save_and_die
    train_into(killed)
    os._exit(0)
_, status = os.waitpid(pid, 0)
print("end with", os.waitstatus_to_exitcode(status), os.listdir(killed), flush=True)
for folder in (killed, whole, killed):
    train_into(folder)
"""


def test_killed_training_goes_on_to_the_same_outputs(few_images, tmp_path):
    pytest.importorskip("torch", reason="the networks are torch modules")
    words = [EXAMPLE, few_images, tmp_path / "killed", tmp_path / "whole"]
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, *words], check=True, capture_output=True, text=True
    )
    # What is done is not trained again.
    assert [said.count("'epoch'") for said in done.stdout.split("end ")] == [1, 2, 3, 0, 0]
    assert "end with 9 ['state']" in done.stdout
    for split in ("val", "test"):
        whole, killed = (
            (tmp_path / out / split / "phi-4-seed0.npz").read_bytes() for out in ("whole", "killed")
        )
        assert whole == killed
    log = json.loads((tmp_path / "killed" / "logs" / "phi-4-seed0.json").read_text())
    assert [each["epoch"] for each in log["epochs"]] == list(range(1, 4))


def test_committed_outputs_take_at_most_fifteen_megabytes():
    sizes = [path.stat().st_size for path in pool.DATA.rglob("*") if path.is_file()]
    assert sum(sizes) <= 15e6


def test_pool_has_eight_sizes_trained_four_times():
    assert [(m["phi"], m["seed"]) for m in STUDY] == [(p, s) for p in range(8) for s in range(4)]
    assert {m["family"] for m in STUDY} == {f"phi{phi}" for phi in range(8)}
    assert len({m["torch_seed"] for m in MODELS}) == len(MODELS)


@pytest.mark.parametrize("split", pool.SPLITS)
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["name"])
def test_committed_outputs_are_finite_and_cover_the_labels(model, split):
    outputs, labels = pool.read_outputs(model["name"], split), pool.read_labels(split)
    assert outputs.shape == (len(labels), 10) == (10_000, 10)
    assert outputs.dtype == np.float16
    assert np.isfinite(outputs).all()
    assert np.bincount(labels).tolist() == pytest.approx([1000] * 10, abs=100)


def test_no_two_trainings_gave_the_same_outputs():
    outputs = {pool.read_outputs(model["name"], "val").tobytes() for model in MODELS}
    assert len(outputs) == len(MODELS)


@pytest.mark.parametrize("phi", range(8))
def test_readme_states_what_the_outputs_give(phi):
    _, _, _, cost, parameters, val, test, seconds = STUDY_TABLE[phi]
    models = pool.chosen_models([phi])
    for cell, split in ((val, "val"), (test, "test")):
        found = accuracies(phi, range(4), split)
        assert cell == f"{np.mean(found):.2f} ± {np.std(found, ddof=1):.2f}"
    assert cost == f"{models[0]['macs'] / 1e6:.3f} M"
    assert parameters == f"{models[0]['parameters']:,}"
    assert seconds == f"{np.mean([model['training_core_seconds'] for model in models]):.0f}"


@pytest.mark.parametrize("phi", pool.C0_PHIS)
def test_readme_states_what_the_outputs_of_the_candidates_for_c0_give(phi):
    *_, val, test, _ = C0_TABLE[phi]
    assert val == f"{accuracies(phi, [0], 'val')[0]:.2f}"
    assert test == f"{accuracies(phi, [0], 'test')[0]:.2f}"


def test_readme_states_what_scaling_c0_up_makes_of_it():
    done = subprocess.run(
        [sys.executable, EXAMPLE / "c0.py"], check=True, capture_output=True, text=True
    )
    thirteen, whole = done.stdout.strip().split("\n\n")
    assert thirteen in README
    assert whole in README
    # Member by member, phi rises by one.
    members = re.findall(r"^\| C(\d) \| (.+?) \|", whole, re.MULTILINE)
    phis = [[int(phi) - int(k) for phi in told.split(" -> ")] for k, told in members]
    assert len(phis) == 6
    assert all(each == phis[0] for each in phis)


@pytest.mark.parametrize("split", pool.SPLITS)
def test_accuracy_rises_with_cost(split):
    means = [np.mean(accuracies(phi, range(4), split)) for phi in range(8)]
    assert means == sorted(means)


def test_training_log_has_every_epoch():
    lines = (pool.DATA / "training.csv").read_text().splitlines()[1:]
    epochs = pool.read_facts()["training"]["epochs"]
    assert [line.split(",")[:2] for line in lines] == [
        [model["name"], str(epoch)] for model in MODELS for epoch in range(1, epochs + 1)
    ]


def test_script_makes_a_store_of_what_is_in_memory(tmp_path):
    words = ["--out", tmp_path, "--phi", "0", "7", "--seed", "1"]
    subprocess.run([sys.executable, EXAMPLE / "pool.py", *words], check=True, capture_output=True)
    for split in pool.SPLITS:
        stored, built = cm.Pool.load(tmp_path / split), pool.pool_of(split, [0, 7], [1])
        assert stored.names == built.names == ["phi0-seed1", "phi7-seed1"]
        assert stored.costs == built.costs
        assert stored.samples.classes == built.samples.classes
        np.testing.assert_array_equal(stored.samples.labels, built.samples.labels)
        for name in stored.names:
            np.testing.assert_array_equal(stored.model(name).values, built.model(name).values)
