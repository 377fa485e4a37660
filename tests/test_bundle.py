"""Bundles: they run without this library, decide the same, and notice what was altered."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import asdict
from PIL import ExifTags, Image

import committee
from committee import Cascade, Runner, register_confidence
from committee.cli import main
from committee.embedded import FOLDER
from committee.errors import CascadeError, CommitteeError, DataError, ExportError
from committee.export.bundle import IMAGE_FILE, RULE_FILES, checksum, read_bundle, write_bundle
from committee.export.graph import write_graph
from committee.models.inputs import as_image, prepared
from committee.rule.cascade import Stage
from committee.rule.flow import Decisions
from committee.rule.scores import CONFIDENCES, max_prob
from committee.spec.preprocessing import Preprocessing
from committee.store.chunks import exclusive
from export_world import (
    CASCADES,
    bare_python,
    decisions_of,
    embedded,
    flips,
    program_of,
    some_images,
)
from small_world import read_pool

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(
        embedded(CASCADES["mean_logits"]), tmp_path_factory.mktemp("bundle") / "out"
    )


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of other sizes and modes, and one that is broken."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for index, (size, mode) in enumerate([((40, 60), "RGB"), ((91, 33), "L"), ((28, 28), "RGBA")]):
        shape = (*size, len(mode)) if len(mode) > 1 else size
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(folder / f"{index}.png")
    (folder / "3.png").write_bytes((folder / "0.png").read_bytes()[:200])
    return folder


@pytest.fixture(scope="module")
def promised(bundle: Path) -> Decisions:
    """What the runner decides, one by one, on test images."""
    runner = Runner(bundle, threads=1)
    return decisions_of(asdict(runner(image)) for image in some_images(500))


def test_test_images_are_decided_as_by_the_runner(bundle: Path, promised: Decisions) -> None:
    cascade = program_of(bundle).Cascade(bundle)
    own = decisions_of(cascade(Image.fromarray(image)) for image in some_images(500))
    assert flips(own, promised) == 0
    np.testing.assert_allclose(own.score, promised.score, rtol=1e-5)


def test_the_rule_inside_is_the_library_s_own_to_the_byte(bundle: Path, tmp_path: Path) -> None:
    own = Path(committee.__file__).parent
    inside = {str(p.relative_to(bundle / "committee")) for p in bundle.glob("committee/**/*.py")}
    assert inside == {"__init__.py", IMAGE_FILE, *RULE_FILES}
    for name in (IMAGE_FILE, *RULE_FILES):
        assert (bundle / "committee" / name).read_bytes() == (own / name).read_bytes()
    assert (bundle / "committee" / "__init__.py").read_bytes() == b""
    # Nothing of the rule imports anything else.
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nsys.path.insert(0, sys.argv[1])\nimport committee.rule.flow, "
        "committee.rule.class_calibration\n"
        "print(*(n for n in sys.modules if n.startswith('committee')))\n"
        "print(sys.modules['committee'].__file__)"
    )
    done = subprocess.run(
        [*bare_python(tmp_path / "packages"), str(script), str(bundle)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded, file = done.stdout.splitlines()
    assert Path(file) == bundle / "committee" / "__init__.py"
    expected = {f"committee.{n.removesuffix('.py').replace('/', '.')}" for n in RULE_FILES}
    assert {*loaded.split()} == {n.removesuffix(".__init__") for n in expected} | {"committee"}


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


def test_the_program_without_images_says_how_it_is_called(bundle: Path) -> None:
    for words, code in (([], 2), (["--help"], 0)):
        done = subprocess.run(
            [sys.executable, bundle / "run.py", *words],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code
        assert (done.stderr if code else done.stdout).startswith("usage: python run.py IMAGE")


RECIPES = {
    "crop": Preprocessing((28, 20), crop=0.875),
    "squash": Preprocessing((20, 28), crop=0.9, resize="squash", interpolation="bilinear"),
    "bgr": Preprocessing((24, 24), order="bgr", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)),
    "lanczos": Preprocessing((31, 31), crop=0.8, interpolation="lanczos"),
    "exif": Preprocessing((25, 19), crop=0.95, exif=True),
    "grey": Preprocessing((25, 19), 1, 0.95, "nearest", (0.5,), (0.5,)),
}


@pytest.mark.parametrize("kind", RECIPES)
def test_images_are_prepared_as_by_the_library(bundle: Path, tmp_path: Path, kind: str) -> None:
    program, recipe = program_of(bundle), RECIPES[kind]
    random = np.random.default_rng(1)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    height, width = recipe.size
    for size in ((61, 40), (33, 92), (12, 15), (height, width)):
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(
            tmp_path / "turned.png", exif=turned
        )
        image = Image.open(tmp_path / "turned.png")
        data = json.loads(json.dumps(recipe.to_json()))
        own = program.prepared(program.of_8_bit(image), data)
        np.testing.assert_allclose(own, prepared([image], recipe), rtol=0, atol=1e-6)


@pytest.mark.parametrize("grey", [False, True])
def test_images_of_every_mode_are_prepared_as_by_the_library(
    bundle: Path, tmp_path: Path, grey: bool
) -> None:
    program, one = program_of(bundle), (0.5,)
    recipe = Preprocessing((9, 7), 1, mean=one, std=one) if grey else Preprocessing((9, 7))
    colours = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 13, 4), np.uint8))
    palette = colours.convert("RGB").quantize(8)
    palette.info["transparency"] = 3
    deep = Image.fromarray(np.random.default_rng(2).integers(0, 65536, (16, 13), np.uint16))
    plain = ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "YCbCr", "HSV", "PA")
    made = [*(colours.convert("RGB").convert(mode) for mode in plain), colours, palette, deep]
    made += [colours.convert("RGB").convert("CMYK"), colours.convert("RGBa")]
    for image in made:
        data = json.loads(json.dumps(recipe.to_json()))
        own = program.prepared(program.of_8_bit(image), data)
        expected = prepared([as_image(image)], recipe)
        np.testing.assert_allclose(own, expected, rtol=0, atol=1e-6, err_msg=image.mode)
        assert expected.std() > 0.1
    for mode in ("LAB", "F", "I", "La"):
        for refuse in (program.of_8_bit, as_image):
            with pytest.raises((ValueError, DataError), match=f"mode {mode}"):
                refuse(Image.new(mode, (4, 4)))


def test_the_runner_opens_the_folder_and_the_file_in_it(bundle: Path) -> None:
    images = some_images(64)
    expected = Runner(embedded(CASCADES["mean_logits"]), threads=1).decide(images)
    for path in (bundle, bundle / "cascade.json"):
        runner = Runner(path, threads=1)
        assert flips(runner.decide(images), expected) == 0
        assert runner(images[0]).class_name in runner.cascade.classes
        assert runner.unit == "macs"


def test_a_moved_bundle_runs(bundle: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(bundle, tmp_path / "elsewhere")
    assert str(moved) in read_bundle(moved).models["nano"].source


def refused_by_all(folder: Path, told: str) -> None:
    """The library and the programs of the bundle refuse it in one line, each in its words."""
    with pytest.raises(CommitteeError, match=told) as caught:
        Runner(folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=told):
        program_of(folder).Cascade(folder)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        assert program_of(folder).main([]) == 2
    assert [told in line for line in errors.getvalue().splitlines()] == [True]


@pytest.mark.parametrize(
    "name", ["cascade.json", "models/nano/model.onnx", "models/large/model.onnx"]
)
def test_an_altered_or_missing_file_is_named(bundle: Path, tmp_path: Path, name: str) -> None:
    broken = shutil.copytree(bundle, tmp_path / "broken")
    whole = (broken / name).read_bytes()
    (broken / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused_by_all(broken, f"{name} was altered")
    (broken / name).unlink()
    refused_by_all(broken, f"{name} is missing")


def with_sums(folder: Path, change: Callable[[str], str]) -> None:
    """Rewrite the checksums of a bundle."""
    sums = folder / "SHA256SUMS"
    sums.write_text(change(sums.read_text()))


def test_what_has_no_checksum_or_leaves_the_folder_is_refused(bundle: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(bundle, tmp_path / "broken")
    with_sums(broken, lambda text: re.sub(r".*models/nano.*\n", "", text))
    refused_by_all(broken, "models/nano/model.onnx has no line in SHA256SUMS")
    for path in ("../other.onnx", str(tmp_path / "other.onnx")):
        outside = shutil.copytree(bundle, tmp_path / str(len(path)))
        shutil.copy(outside / "models/nano/model.onnx", tmp_path / "other.onnx")
        rule = (outside / "cascade.json").read_text()
        rule = rule.replace("onnx:models/nano/model.onnx", f"onnx:{path}")
        old = checksum(outside / "cascade.json")
        (outside / "cascade.json").write_text(rule)
        new = checksum(outside / "cascade.json")
        with_sums(outside, lambda text, old=old, new=new: text.replace(old, new))  # type: ignore[misc]
        refused_by_all(outside, f"{path} has no line in SHA256SUMS")
        line = f"{checksum(tmp_path / 'other.onnx')}  {path}\n"
        with_sums(outside, lambda text, line=line: text + line)  # type: ignore[misc]
        with pytest.raises(ExportError, match=f"{re.escape(path)} leaves the folder"):
            Runner(outside)
        refused_by_all(outside, "leaves the folder")


def test_a_stranger_among_the_models_is_refused(bundle: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(bundle, tmp_path / "broken")
    (broken / "models" / "nano" / "weights.bin").write_bytes(b"who wrote this?")
    with pytest.raises(ExportError, match=r"models/nano/weights.bin has no line in SHA256SUMS"):
        Runner(broken)


def test_a_bundle_of_a_later_version_is_refused(bundle: Path, tmp_path: Path) -> None:
    later = shutil.copytree(bundle, tmp_path / "later")
    rule = json.loads((later / "cascade.json").read_text())
    old = checksum(later / "cascade.json")
    (later / "cascade.json").write_text(json.dumps({**rule, "schema": 99}))
    new = checksum(later / "cascade.json")
    with_sums(later, lambda text: text.replace(old, new))
    with pytest.raises(CascadeError, match=r"schema 99 is newer than .*Use the version") as caught:
        Runner(later)
    assert "\n" not in str(caught.value)


def test_weights_of_a_self_cascade_and_beside_a_model_are_copied(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="exporting needs onnx")
    model = onnx.load(FOLDER / "tiny.onnx")
    onnx.save_model(
        model, tmp_path / "tiny.onnx", save_as_external_data=True, location="weights.bin",
        size_threshold=1024,
    )  # fmt: skip
    cascade = embedded(Cascade.of(["nano", "tiny"], [0.9]))
    again = {**cascade.models, "small": replace(cascade.models["nano"], name="small")}
    cascade = replace(cascade, models=again, stages=(*cascade.stages[:1], Stage(("tiny", "small"))))
    folder = write_bundle(cascade, tmp_path / "out", onnx={"tiny": tmp_path / "tiny.onnx"})
    beside = folder / "models" / "tiny" / "weights.bin"
    assert beside.stat().st_size > 200_000
    assert not (folder / "models" / "small").exists()
    assert {"nano", "tiny", "small"} == set(Runner(folder).cascade.models)
    beside.write_bytes(beside.read_bytes()[:-1] + b"x")
    refused_by_all(folder, "models/tiny/weights.bin was altered")
    beside.unlink()
    refused_by_all(folder, "models/tiny/weights.bin is missing")


def test_refusals_are_one_line(tmp_path: Path) -> None:
    small, _ = read_pool(tmp_path)
    models = {spec.name: spec for spec in small.models}
    functions = replace(Cascade.of(["one", "two"], [0.9]), models=models)
    chain = embedded(CASCADES["ensemble"])
    missing = {**chain.models, "nano": replace(chain.models["nano"], source="onnx:/no/such.onnx")}
    other = {**chain.models, "nano": replace(chain.models["nano"], fingerprint="0" * 16)}
    decisions = {**chain.models, "nano": replace(chain.models["nano"], kind="decisions")}
    text = tmp_path / "text.onnx"
    text.write_text("this is no model")
    register_confidence("own", max_prob)
    cases = (
        (functions, {}, "is no ONNX file. Export it first"),
        (Cascade.of(["nano"]), {}, "does not say how to load nano"),
        (replace(chain, models=missing), {}, "no file /no/such.onnx"),
        (replace(chain, models=other), {}, "has changed since"),
        (replace(chain, models=decisions), {}, "gives decisions"),
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
    with pytest.raises(ExportError, match="not a bundle"):
        Runner(tmp_path)


def test_of_two_exports_to_one_place_one_writes(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    cascade = embedded(CASCADES["mean_logits"])
    with exclusive(out), pytest.raises(DataError, match="another process is writing it"):
        write_bundle(cascade, out)
    with exclusive(tmp_path / "one.onnx"), pytest.raises(DataError, match="another process"):
        write_graph(cascade, tmp_path / "one.onnx")
    assert not list(tmp_path.iterdir())


def test_a_bundle_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_bundle(embedded(CASCADES["mean_logits"]), tmp_path / "bundle")
    hashed: list[Path] = []
    name = "committee.export.bundle.checksum"
    monkeypatch.setattr(name, lambda path: hashed.append(path) or checksum(path))
    data = ["--data", str(FOLDER / "fashion_mnist_test.npz"), "--rows", ":8"]
    out = ["--out", str(tmp_path / "out.csv"), "--json"]
    assert main(["run", str(folder), *data, *out]) == 0
    assert sorted(hashed) == sorted(set(hashed))
    hashed.clear()
    assert main(["export", str(folder), "--out", str(tmp_path / "again")]) == 0
    once = [path for path in hashed if path.is_relative_to(folder)]
    assert sorted(once) == sorted(set(once))
