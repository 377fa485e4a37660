"""CIFAR-10 ResNets, written as ONNX by torch, as one graph: the decisions of torch itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from committee import Cascade, Runner
from committee.data import open_data
from committee.export import write_graph
from committee.models import read_pool_file
from export_world import flips

ROOT = Path(__file__).parent.parent
CIFAR, DATA = ROOT / "examples" / "cifar10_resnet", ROOT.parent / "shared" / "data" / "cifar10"
NAMES = ("resnet20", "resnet32")

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the CIFAR-10 pictures and weights are not at hand"
)


@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
def test_cifar_graph_decides_as_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="the CIFAR-10 ResNets are torch modules")
    pytest.importorskip("onnxscript", reason="torch needs it to write ONNX")
    monkeypatch.setenv("CIFAR10_DATA", str(DATA))
    subprocess.run([sys.executable, CIFAR / "prepare.py", DATA, tmp_path], check=True)
    code = [str(CIFAR / "models.py")]
    specs = {spec.name: spec.to_json() for spec in read_pool_file(CIFAR / "pool.toml").models}
    cascade = replace(Cascade.of(NAMES, [0.9]), models={name: specs[name] for name in NAMES})
    eager = Runner(cascade, allow_code=code)
    module = cascade.as_module(allow_code=code)
    files = {}
    for name, network in zip(NAMES, module.models, strict=True):
        files[name] = tmp_path / f"{name}.onnx"
        torch.onnx.export(
            network, (torch.zeros(2, 3, 32, 32),), files[name], dynamo=True, external_data=False,
            verbose=False, dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    graph = Runner(write_graph(cascade, tmp_path / "cascade.onnx", onnx=files))
    data = open_data(tmp_path / "cifar10_test.npz")
    images = data.read(np.arange(2000))
    found, expected = graph.decide(images, 100), eager.decide(images, 100)
    assert min(np.bincount(expected.stage, minlength=2)) > 100
    # Two engines: a score could lie that close to the threshold.
    assert flips(found, expected) <= 2
    assert np.abs(found.score - expected.score)[found.stage == expected.stage].max() < 1e-4
