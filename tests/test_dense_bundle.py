"""Bundles of segmentation: they run alone, and decide as the library does, pixel by pixel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from committee import Cascade, Runner
from committee.cli import main
from committee.data.segmentation import open_segmentation
from committee.errors import CascadeError, ExportError
from committee.export.bundle import write_bundle
from committee.export.graph import write_graph
from committee.export.torch_module import as_module
from committee.segment.run import Segmenter
from committee.segment.store import _load_tiles
from dense_world import CLASSES, SIZE, predicted, write_world
from export_world import bare_python

onnx = pytest.importorskip("onnx", reason="makes the models")
pytest.importorskip("onnxruntime", reason="runs the models")


def write_onnx(path: Path, seed: int) -> Path:
    """Logits at half the resolution: a 4 x 4 convolution with a step of 2."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.1, (3, 3, 4, 4)) + 0.1 * np.eye(3)[:, :, None, None]
    tensors = [numpy_helper.from_array(weights.astype(np.float32), "w")]
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3, f"{n}h", f"{n}w"])
        for n in ("x", "y")
    ]
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "net", values[:1], values[1:], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(made, path)
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundle")
    pool = write_world(root, ("small", "large"), ("full", 10))
    text = pool.read_text()
    for seed, name in enumerate(("small", "large")):
        write_onnx(root / f"{name}.onnx", seed)
        text = text.replace(f"python:models.py:{name}", f"onnx:{name}.onnx")
    pool.write_text(text)
    predicted(pool, root / "store")
    return root


def cascade_of(world, grid, combine="mean_logits"):
    """Of two models; about half of the tiles go on."""
    later = "" if grid == "full" else f"@{grid}"
    pool = _load_tiles(world / "store" / "val", grid)
    middle = np.median(pool.table.scores_of(("small",), np.arange(len(pool))))
    confidence = pool.confidence_or("")
    cascade = Cascade.of(["small", f"large{later}"], [float(middle)], confidence, combine)
    told = pool.described(cascade)
    return Cascade.from_json({**told.to_json(), "classes": list(CLASSES)})


@pytest.mark.parametrize(
    ("grid", "combine"), [("full", "mean_logits"), ("10+4", "mean_logits"), ("10+4", "last")]
)
def test_a_bundle_alone_decides_as_the_library(world, tmp_path, grid, combine):
    cascade = cascade_of(world, grid, combine)
    folder = write_bundle(cascade, tmp_path / "bundle")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "SHA256SUMS",
        "cascade.json",
        "classify.py",
        "committee",
        "models",
        "opening.py",
        "run.py",
    ]
    assert f"Tiles are {grid}" in (folder / "README.md").read_text()
    data = open_segmentation(world / "test", "test", CLASSES, labels=False)
    images = np.stack([data.image(row, SIZE) for row in range(len(data.samples))])
    expected = Segmenter(cascade).decide(images)
    assert 0 < np.mean([each.stages.mean() for each in expected]) < 1
    names = [str(world / "test" / "images" / name) for name in data.samples.ids]
    done = subprocess.run(
        # Nothing of the library is to be had there.
        [*bare_python(tmp_path / "packages"), "run.py", str(tmp_path / "out"), *names],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    for each, own, name in zip(expected, told, data.samples.ids, strict=True):
        classes = np.asarray(Image.open(tmp_path / "out" / Path(name).with_suffix(".png").name))
        assert np.array_equal(classes, each.classes)
        assert own["stages"] == each.stages.tolist()
        assert own["scores"] == pytest.approx(each.scores.tolist(), abs=1e-9)
    # The library runs it, too.
    again = Segmenter(folder).decide(images[:2])
    assert np.array_equal(again[1].classes, expected[1].classes)


def test_a_bundle_names_what_it_cannot_use(world, tmp_path):
    folder = write_bundle(cascade_of(world, "10+4"), tmp_path / "bundle")
    small = tmp_path / "small.png"
    Image.new("RGB", (20, 20)).save(small)

    def run(*words):
        command = [sys.executable, "run.py", *map(str, words)]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    assert run().returncode == 2
    twice = run(tmp_path / "out", small, tmp_path / "other" / "small.jpg")
    assert (twice.returncode, twice.stderr.splitlines()) == (
        2,
        ["run.py: small.png would be written twice; give names apart"],
    )
    told = run(tmp_path / "out", small)
    assert told.returncode == 1
    assert json.loads(told.stdout)["error"] == "is 20 x 20 pixels, not 24 x 36"
    (folder / "classify.py").write_text((folder / "classify.py").read_text() + "\n")
    altered = run(tmp_path / "out", small)
    assert (altered.returncode, altered.stderr) == (2, "run.py: classify.py was altered\n")


def test_commands_take_a_bundle(world, tmp_path, capsys):
    file = cascade_of(world, "10+4").save(tmp_path / "cascade.json")
    bundle = tmp_path / "bundle"
    assert main(["export", str(file), "--out", str(bundle)]) == 0
    words = ["run", str(bundle), "--data", str(world / "test"), "--out", str(tmp_path / "out.csv")]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 6


def test_what_cannot_segment_says_what_can(world, tmp_path):
    cascade = cascade_of(world, "10+4")
    with pytest.raises(ExportError, match="only a folder can hold"):
        write_graph(cascade, tmp_path / "cascade.onnx")
    with pytest.raises(ExportError, match="which no module does"):
        as_module(cascade)
    with pytest.raises(CascadeError, match="Run it with committee run"):
        Runner(cascade)
