"""CIFAR-10 ResNets on every engine, as one graph and as a module: the decisions of torch itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from committee import Cascade, Runner
from committee.data.open import open_data
from committee.export.graph import write_graph
from committee.export.torch_module import as_module
from committee.models.load import load_model, specs_of
from committee.models.pool_file import read_pool_file
from committee.run.verify import module_way, offline_way, on_engine, verify

ROOT = Path(__file__).parent.parent
CIFAR, DATA = ROOT / "examples" / "cifar10_resnet", ROOT.parent / "shared" / "data" / "cifar10"
NAMES = ("resnet20", "resnet32")
BATCH = 128

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the CIFAR-10 images and weights are not at hand"
)


@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
def test_cifar_networks_decide_as_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for needed in ("torch", "onnxscript"):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    monkeypatch.setenv("CIFAR10_DATA", str(DATA))
    monkeypatch.setenv("COMMITTEE_CACHE", str(tmp_path / "cache"))
    subprocess.run([sys.executable, CIFAR / "prepare.py", DATA, tmp_path], check=True)
    code = [str(CIFAR / "models.py")]
    specs = {spec.name: spec.to_json() for spec in read_pool_file(CIFAR / "pool.toml").models}
    cascade = replace(Cascade.of(NAMES, [0.9]), models={name: specs[name] for name in NAMES})
    exported = specs_of(on_engine(cascade, "onnxruntime"))
    files = {name: load_model(spec, code)[0].path for name, spec in exported.items()}  # type: ignore[attr-defined]
    graph = write_graph(cascade, tmp_path / "cascade.onnx", onnx=files)
    module = as_module(cascade, allow_code=code)
    torch_way = offline_way(Runner(cascade, allow_code=code), BATCH)
    graph_way = offline_way(Runner(graph), BATCH)
    # Every test image as one graph; some on each engine and as a module.
    images = tmp_path / "cifar10_all.npz"
    found = verify(cascade, {"torch": torch_way, "graph": graph_way}, open_data(images), BATCH)
    again = offline_way(Runner(cascade, allow_code=code), BATCH)
    ways = {"torch": again, "module": module_way(module, BATCH)}
    other = Runner(on_engine(cascade, "onnxruntime"), allow_code=code)
    ways["onnxruntime"] = offline_way(other, BATCH)
    some = open_data(images, rows="0:1000")
    stages = Runner(cascade, allow_code=code).decide(some.read(np.arange(1000)), BATCH).stage
    assert min(np.bincount(stages, minlength=2)) > 50
    found += verify(cascade, ways, some, BATCH)
    for told in found:
        # Engines round differently: a score or two could lie that close to the threshold.
        assert len(told.flips) <= 3, told
        assert told.largest_difference < 1e-3, told
    assert (found[0].way, found[0].samples) == ("graph", 10_000)
