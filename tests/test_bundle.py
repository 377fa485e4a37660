"""Bundles: they run without this library, decide the same, and notice what was altered."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from committee import Cascade, Runner, register_confidence
from committee.cascade import Stage
from committee.confidence import CONFIDENCES, max_prob
from committee.embedded import FOLDER
from committee.errors import CommitteeError, ExportError
from committee.export import read_bundle, write_bundle
from committee.models import Preprocessing, prepared
from export_world import CASCADES, coloured, decisions_of, embedded, flips, some_pictures
from small_world import read_pool

ROOT = Path(__file__).parent.parent
BARE = ("numpy", "numpy.libs", "onnxruntime", "PIL", "pillow.libs")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(
        embedded(CASCADES["mean_logits"]), tmp_path_factory.mktemp("bundle") / "out"
    )


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of other sizes and modes, and one that is broken."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for index, (size, mode) in enumerate([((40, 60), "RGB"), ((91, 33), "L"), ((28, 28), "RGBA")]):
        shape = (*size, len(mode)) if len(mode) > 1 else size
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(folder / f"{index}.png")
    (folder / "3.png").write_bytes((folder / "0.png").read_bytes()[:200])
    return folder


def test_all_test_pictures_are_decided_as_by_the_runner(bundle: Path) -> None:
    images = some_pictures()
    program = runpy(bundle)
    cascade = program.Cascade(bundle)
    own = decisions_of(cascade(Image.fromarray(image)) for image in images)
    one_by_one = Runner(bundle, threads=1)
    expected = decisions_of(vars(one_by_one(image)) for image in images)
    assert flips(own, expected) == 0
    np.testing.assert_allclose(own.score, expected.score, rtol=1e-5)


@pytest.mark.parametrize("kind", CASCADES)
def test_every_rule_is_that_of_the_library(kind: str, tmp_path: Path) -> None:
    cascade = embedded(CASCADES[kind])
    program = runpy(write_bundle(cascade, tmp_path / "out"))
    own, runner = program.Cascade(tmp_path / "out"), Runner(cascade, threads=1)
    images = some_pictures(200)
    decisions = decisions_of(own(Image.fromarray(image)) for image in images)
    expected = decisions_of(vars(runner(image)) for image in images)
    assert flips(decisions, expected) == 0
    np.testing.assert_allclose(decisions.score, expected.score, rtol=1e-4, atol=1e-6)
    if "always" not in kind and kind != "ensemble":
        assert len(set(expected.stage)) > 1


def runpy(bundle: Path):  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("bundle_run", bundle / "run.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def bare_python(folder: Path) -> list[str]:
    """An interpreter that sees the standard library, numpy, onnxruntime and Pillow alone."""
    packages = Path(np.__file__).parent.parent
    folder.mkdir()
    for name in BARE:
        if (packages / name).exists():
            (folder / name).symlink_to(packages / name)
    start = (
        "import runpy, sys; sys.path.append(sys.argv[1]); sys.argv = sys.argv[2:]; "
        "sys.path.insert(0, sys.argv[0].rpartition('/')[0]); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return [sys.executable, "-I", "-S", "-c", start, str(folder)]


def test_runs_where_there_is_nothing_else(bundle: Path, photographs: Path, tmp_path: Path) -> None:
    python = bare_python(tmp_path / "packages")
    alone = subprocess.run(
        [*python[:3], "-c", "import sys; sys.path.append(sys.argv[1]); import committee",
         python[-1]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "No module named 'committee'" in alone.stderr
    paths = [str(photographs / f"{index}.png") for index in range(4)]
    done = subprocess.run(
        [*python, str(bundle / "run.py"), *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert "error" in told.pop()
    runner = Runner(bundle, threads=1)
    for row, path in zip(told, paths, strict=False):
        expected = runner(Image.open(path))
        assert (row["class_name"], row["stage"]) == (expected.class_name, expected.stage)
        assert row["confidence"] == pytest.approx(expected.confidence, rel=1e-4)


RECIPES = {
    "crop": Preprocessing((28, 20), crop=0.875),
    "squash": Preprocessing((20, 28), crop=0.9, resize="squash", interpolation="bilinear"),
    "bgr": Preprocessing((24, 24), order="bgr", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)),
    "lanczos": Preprocessing((31, 31), crop=0.8, interpolation="lanczos"),
    "exif": Preprocessing((25, 19), crop=0.95, exif=True),
    "grey": Preprocessing((25, 19), 1, 0.95, "nearest", (0.5,), (0.5,)),
}


@pytest.mark.parametrize("kind", RECIPES)
def test_pictures_are_prepared_as_by_the_library(bundle: Path, tmp_path: Path, kind: str) -> None:
    program, recipe = runpy(bundle), RECIPES[kind]
    random = np.random.default_rng(1)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    height, width = recipe.size
    for size in ((61, 40), (33, 92), (12, 15), (height, width)):
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(
            tmp_path / "turned.png", exif=turned
        )
        picture = Image.open(tmp_path / "turned.png")
        data = json.loads(json.dumps(recipe.to_json()))
        own = program.prepared(program.of_bytes(picture), data)
        np.testing.assert_allclose(own, prepared([picture], recipe), rtol=0, atol=1e-6)


def node_modules() -> Path | None:
    """Where npm's onnxruntime-node is, if node is there too."""
    folder = Path(os.environ.get("NODE_MODULES", ROOT / ".node" / "node_modules"))
    return folder if shutil.which("node") and (folder / "onnxruntime-node").is_dir() else None


needs_node = pytest.mark.skipif(
    node_modules() is None,
    reason="node with npm's onnxruntime-node is not at hand; `make node` installs it",
)


@needs_node
def test_javascript_decides_all_test_pictures_as_the_runner_does(
    bundle: Path, tmp_path: Path
) -> None:
    images = some_pictures()
    images.tofile(tmp_path / "pictures.raw")
    here = shutil.copytree(bundle, tmp_path / "bundle")
    (tmp_path / "node_modules").symlink_to(node_modules())  # type: ignore[arg-type]
    done = subprocess.run(
        ["node", here / "run.mjs", f"28x28x1={tmp_path / 'pictures.raw'}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = decisions_of(map(json.loads, done.stdout.splitlines()))
    runner = Runner(bundle, threads=1)
    expected = decisions_of(vars(runner(image)) for image in images)
    assert len(told.stage) == len(images)
    assert flips(told, expected) == 0
    np.testing.assert_allclose(told.score, expected.score, rtol=1e-5)


@needs_node
def test_javascript_knows_every_rule_and_refuses_what_was_altered(tmp_path: Path) -> None:
    images = some_pictures(100)
    images.tofile(tmp_path / "pictures.raw")
    (tmp_path / "node_modules").symlink_to(node_modules())  # type: ignore[arg-type]
    for number, cascade in enumerate(map(embedded, CASCADES.values())):
        here = write_bundle(cascade, tmp_path / str(number))
        command = ["node", here / "run.mjs", f"28x28x1={tmp_path / 'pictures.raw'}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        told = decisions_of(map(json.loads, done.stdout.splitlines()))
        runner = Runner(cascade, threads=1)
        expected = decisions_of(vars(runner(image)) for image in images)
        assert flips(told, expected) == 0
        np.testing.assert_allclose(told.score, expected.score, rtol=1e-4, atol=1e-6)
    (here / "models" / "nano" / "model.onnx").write_bytes(b"other")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "models/nano/model.onnx was altered" in done.stderr


@needs_node
def test_javascript_takes_channels_in_the_order_of_the_input(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the model is made with onnx")
    cascade, images = coloured("bgr", tmp_path)
    images.tofile(tmp_path / "pictures.raw")
    (tmp_path / "node_modules").symlink_to(node_modules())  # type: ignore[arg-type]
    here = write_bundle(cascade, tmp_path / "bundle")
    command = ["node", here / "run.mjs", f"4x4x3={tmp_path / 'pictures.raw'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = decisions_of(map(json.loads, done.stdout.splitlines()))
    runner = Runner(here, threads=1)
    expected = decisions_of(vars(runner(image)) for image in images)
    assert flips(told, expected) == 0
    np.testing.assert_allclose(told.score, expected.score, rtol=1e-5)


@needs_node
def test_javascript_refuses_models_of_one_size_that_see_different_parts(tmp_path: Path) -> None:
    chain = embedded(Cascade.of(["nano", "tiny"], [0.9]))
    nano = chain.models["nano"]
    other = {**nano, "preprocessing": {**nano["preprocessing"], "resize": "squash"}}
    (tmp_path / "node_modules").symlink_to(node_modules())  # type: ignore[arg-type]
    here = write_bundle(replace(chain, models={**chain.models, "nano": other}), tmp_path / "out")
    done = subprocess.run(
        ["node", here / "run.mjs", "28x28x1=none"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "models nano and tiny see other parts of a picture of 28x28x1" in done.stderr


def test_the_runner_opens_the_folder_and_the_file_in_it(bundle: Path) -> None:
    images = some_pictures(64)
    expected = Runner(embedded(CASCADES["mean_logits"]), threads=1).decide(images)
    for path in (bundle, bundle / "cascade.json"):
        runner = Runner(path, threads=1)
        assert flips(runner.decide(images), expected) == 0
        assert runner(images[0]).class_name in runner.cascade.classes
        assert runner.unit == "macs"


def test_a_moved_bundle_runs(bundle: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(bundle, tmp_path / "elsewhere")
    assert str(moved) in read_bundle(moved).models["nano"]["source"]


@pytest.mark.parametrize(
    "name", ["cascade.json", "run.py", "models/nano/model.onnx", "models/large/model.onnx"]
)
def test_an_altered_or_missing_file_is_named(bundle: Path, tmp_path: Path, name: str) -> None:
    broken = shutil.copytree(bundle, tmp_path / "broken")
    whole = (broken / name).read_bytes()
    (broken / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ExportError, match=f"{name} was altered"):
        Runner(broken)
    with pytest.raises(ValueError, match=f"{name} was altered"):
        runpy(bundle).Cascade(broken)
    (broken / name).unlink()
    with pytest.raises(ExportError, match=f"{name} is missing"):
        Runner(broken)


def test_a_model_without_a_checksum_is_refused(bundle: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(bundle, tmp_path / "broken")
    lines = (broken / "SHA256SUMS").read_text().splitlines(keepends=True)
    (broken / "SHA256SUMS").write_text("".join(line for line in lines if "nano" not in line))
    with pytest.raises(ExportError, match=r"models/nano/model.onnx has no line"):
        Runner(broken)


def test_weights_of_a_self_cascade_and_beside_a_model_are_copied(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="exporting needs onnx")
    model = onnx.load(FOLDER / "tiny.onnx")
    onnx.save_model(
        model, tmp_path / "tiny.onnx", save_as_external_data=True, location="weights.bin",
        size_threshold=1024,
    )  # fmt: skip
    cascade = embedded(Cascade.of(["nano", "tiny"], [0.9]))
    again = {**cascade.models, "small": cascade.models["nano"]}
    cascade = replace(cascade, models=again, stages=(*cascade.stages[:1], Stage(("tiny", "small"))))
    folder = write_bundle(cascade, tmp_path / "out", onnx={"tiny": tmp_path / "tiny.onnx"})
    assert (folder / "models" / "tiny" / "weights.bin").stat().st_size > 200_000
    assert not (folder / "models" / "small").exists()
    assert {"nano", "tiny", "small"} == set(Runner(folder).cascade.models)


def test_refusals_are_one_line(tmp_path: Path) -> None:
    small, _ = read_pool(tmp_path)
    models = {spec.name: spec.to_json() for spec in small.models}
    functions = replace(Cascade.of(["one", "two"], [0.9]), models=models)
    chain = embedded(CASCADES["ensemble"])
    missing = {**chain.models, "nano": {**chain.models["nano"], "source": "onnx:/no/such.onnx"}}
    other = {**chain.models, "nano": {**chain.models["nano"], "fingerprint": "0" * 16}}
    decisions = {**chain.models, "nano": {**chain.models["nano"], "kind": "decisions"}}
    vino = {**chain.models, "nano": {**chain.models["nano"], "engine": "openvino"}}
    text = tmp_path / "text.onnx"
    text.write_text("this is no model")
    register_confidence("own", max_prob)
    cases = (
        (functions, {}, "is no ONNX file. Export it first"),
        (Cascade.of(["nano"]), {}, "does not say how nano is loaded"),
        (replace(chain, models=missing), {}, "no file /no/such.onnx"),
        (replace(chain, models=other), {}, "has changed since"),
        (replace(chain, models=decisions), {}, "gives decisions"),
        (replace(chain, models=vino), {}, "was chosen on openvino in float32"),
        (replace(chain, confidence="own"), {}, "is your own function"),
        (chain, {"nano": text}, "is no ONNX model"),
        (chain, {"nani": text}, "Did you mean 'nano'"),
    )
    for cascade, onnx, told in cases:
        with pytest.raises(CommitteeError, match=told) as caught:
            write_bundle(cascade, tmp_path / "out", onnx=onnx)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "out.tmp").exists()
    del CONFIDENCES["own"]
    with pytest.raises(ExportError, match="is there already"):
        write_bundle(chain, tmp_path)
    with pytest.raises(ExportError, match="no bundle"):
        Runner(tmp_path)
