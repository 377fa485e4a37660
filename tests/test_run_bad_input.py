"""What a run meets that is bad: one line for each, and the run's other results stay."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import asdict
from PIL import Image

from committee import Cascade, Pool, Runner
from committee.cli import main
from committee.data.arrays import ArrayDataset
from committee.embedded import FOLDER
from committee.errors import CommitteeError, DataError, ModelError, NotFiniteError
from committee.export.graph import write_graph
from committee.models.load import load_model
from committee.models.pool_file import PoolFile
from committee.pool.samples import Samples
from committee.predict import predict
from committee.run.decision import Decision
from committee.run.offline import run_into, run_offline
from committee.run.results import Result, read_results
from export_world import embedded, some_images
from small_world import (
    ANSWER,
    CLASSES,
    CODE,
    DECIDE,
    code_of,
    dataset,
    decisions_pool,
    images,
    read_pool_file,
    write_pool,
)

Caught = pytest.CaptureFixture[str]
ROWS = 60


def of_pool(cascade: Cascade, pool: PoolFile, code: list[str], classes: Any = CLASSES) -> Cascade:
    """A cascade that knows how the models of a pool file are loaded."""
    known = {spec.name: load_model(spec, code)[1] for spec in pool.models}
    return replace(
        cascade, models={name: known[name] for name in cascade.names}, classes=tuple(classes)
    )


def refused(words: str, caught: Caught) -> str:
    """The one line that a command ends with."""
    caught.readouterr()
    assert main(words.split()) == 2
    told = caught.readouterr().err
    assert told.count("\n") == 1
    return told


def as_result(name: str, decision: Decision, label: int | None = None) -> Result:
    return Result(id=name, label=label, **asdict(decision))


def png_header(width: int, height: int) -> bytes:
    """A PNG of that size whose pixels are missing: who reads more than the header says so."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + crc + b"\0\0\0\x09IDAT"


BROKEN = {
    "empty.jpg": "no image that Pillow knows",
    "huge.png": "Image size (900000000 pixels) exceeds limit of 178956970 pixels; make it smaller",
    "text.png": "no image that Pillow knows",
    "truncated.jpg": "image file is truncated",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good images of several modes, and one of every kind that cannot be read."""
    root = tmp_path_factory.mktemp("images")
    for i, image in enumerate(some_images(20)):
        Image.fromarray(image).convert(("L", "RGB", "RGBA", "LA")[i % 4]).save(
            root / f"good{i:02}.png"
        )
    (root / "empty.jpg").write_bytes(b"")
    (root / "text.png").write_text("no image")
    (root / "huge.png").write_bytes(png_header(30_000, 30_000))
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    Image.fromarray(noise).save(root / "whole.jpg")
    (root / "truncated.jpg").write_bytes((root / "whole.jpg").read_bytes()[:5000])
    (root / "whole.jpg").unlink()
    return root


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_images_that_cannot_be_read_are_rows(
    folder: Path, tmp_path: Path, caught_json: Callable[[str], Any], ending: str, batch_size: int
) -> None:
    cascade = embedded(Cascade.of(["nano", "tiny"], [0.9])).save(tmp_path / "cascade.json")
    out = tmp_path / f"out{ending}"
    told = caught_json(f"run {cascade} --data {folder} --out {out} --batch-size {batch_size}")
    assert [each["id"] for each in told["broken"]] == sorted(BROKEN)
    assert (told["samples"], told["resumed"]) == (20, 0)
    runner = Runner(cascade)
    found = {result.id: result for result in read_results(out)}
    assert sorted(found) == list(found)
    assert len(found) == 24
    for name, result in found.items():
        if name in BROKEN:
            assert BROKEN[name] in result.error
            assert result == Result.broken(name, result.error, None)
            continue
        alone = runner(Image.open(folder / name))
        assert replace(result, confidence=alone.confidence) == as_result(name, alone)
        assert result.confidence == pytest.approx(alone.confidence, abs=1e-6)


@pytest.fixture
def caught_json(capsys: Caught) -> Callable[[str], Any]:
    def run(words: str) -> Any:
        capsys.readouterr()
        assert main([*words.split(), "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return run


def test_broken_images_are_told_to_people(folder: Path, tmp_path: Path, capsys: Caught) -> None:
    cascade = embedded(Cascade.of(["nano"])).save(tmp_path / "cascade.json")
    assert main(f"run {cascade} --data {folder} --out {tmp_path / 'out.csv'}".split()) == 0
    told = capsys.readouterr().out
    assert "4 broken images: empty.jpg (no image that Pillow knows); " in told


def test_a_run_in_which_nothing_can_be_decided_fails_and_keeps_the_reasons(
    tmp_path: Path, capsys: Caught
) -> None:
    cascade = embedded(Cascade.of(["nano"])).save(tmp_path / "cascade.json")
    (tmp_path / "data").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "data" / name).write_bytes(b"")
    out = tmp_path / "out.csv"
    told = refused(f"run {cascade} --data {tmp_path / 'data'} --out {out}", capsys)
    assert "none of the 2 images could be decided; the first: a.png (no image that" in told
    assert [result.id for result in read_results(out)] == ["a.png", "b.png"]


def test_a_large_image_is_read_without_a_warning(
    tmp_path: Path, caught_json: Callable[[str], Any]
) -> None:
    # 100 megapixels of one bit each: Pillow warns above 89.
    (tmp_path / "images").mkdir()
    Image.new("1", (10_000, 10_000)).save(tmp_path / "images" / "large.png")
    cascade = embedded(Cascade.of(["nano"])).save(tmp_path / "cascade.json")
    told = caught_json(f"run {cascade} --data {tmp_path / 'images'} --out {tmp_path / 'o.csv'}")
    assert (told["samples"], told["broken"]) == (1, [])


@pytest.mark.parametrize("channels", [2, 4])
def test_a_wrong_number_of_channels_is_refused(
    tmp_path: Path, capsys: Caught, channels: int
) -> None:
    cascade = embedded(Cascade.of(["nano"]))
    wrong = np.zeros((3, 28, 28, channels), np.uint8)
    with pytest.raises(CommitteeError, match=r"an image must be bytes of shape \(H, W\) or"):
        Runner(cascade)(wrong[0])
    path = cascade.save(tmp_path / "cascade.json")
    np.savez(tmp_path / "wrong.npz", images=wrong)
    out = tmp_path / "out.csv"
    told = refused(f"run {path} --data {tmp_path / 'wrong.npz'} --out {out}", capsys)
    assert f"not uint8 (3, 28, 28, {channels})" in told
    assert not out.exists()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("new/01200.png", r"^new/01200.png: a path is not taken; open it: PIL.Image.open\(path\)$"),
        (Path("a.png"), r"^a.png: a path is not taken"),
        (None, r"^an image must be bytes .*, not of type NoneType$"),
    ],
)
def test_what_is_no_image_is_told(given: Any, line: str) -> None:
    with pytest.raises(DataError, match=line):
        Runner(embedded(Cascade.of(["nano"])))(given)


# An image whose first pixel is white makes NaN.
WHITE = "(np.where(batch[:, :1, 0, 0] > 0.99, np.nan, 1))"
NAN = {
    "logits": f"return (batch.reshape(len(batch), -1) @ matrix) * {WHITE}",
    "probabilities": "z = np.exp(batch.reshape(len(batch), -1) @ matrix); "
    f"return z / z.sum(1, keepdims=True) * {WHITE}",
    "decisions": DECIDE.replace("z.max(1)", f"z.max(1) * {WHITE}[:, 0]"),
}


class NanWorld:
    """A pool one of whose models makes NaN of some images, and the cascade."""

    def __init__(self, folder: Path, kind: str, spoilt: str) -> None:
        path = write_pool(folder)
        lines = [f'resolution = 4\nkind = "{kind}"' if kind != "logits" else "resolution = 4"]
        path.write_text(path.read_text().replace("resolution = 4", lines[0]))
        usual = NAN[kind].replace(f" * {WHITE}[:, 0]", "").replace(f" * {WHITE}", "")
        code = CODE.format(pixels=16, classes=3).replace(
            ANSWER, f"if name == {spoilt!r}: {NAN[kind]}\n        {usual}"
        )
        (folder / "models.py").write_text(code)
        self.code, self.pool = code_of(path), read_pool_file(path)
        combine = {"probabilities": "mean_probabilities", "decisions": "last"}.get(kind)
        bound = {"logits": 0.9, "probabilities": 0.9, "decisions": 3.0}[kind]
        chain = Cascade.of(["one", "two"], [bound], combine=combine or "mean_logits")
        self.cascade = of_pool(chain, self.pool, self.code)
        self.runner = Runner(self.cascade, allow_code=self.code)
        self.images = np.minimum(images(ROWS), 250)
        self.white = [7, 8, 21, 59]
        self.images[self.white, 0, 0] = 255

    def without(self) -> tuple[Any, list[int]]:
        """The same data without the images that make NaN, and which ones are in it."""
        rows = [row for row in range(ROWS) if row not in self.white]
        return data_of(self.images[rows]), rows


def data_of(images: Any) -> ArrayDataset:
    return ArrayDataset(images, Samples.of(None, None, CLASSES, "run", len(images)))


@pytest.mark.parametrize("kind", NAN)
@pytest.mark.parametrize("spoilt", ["one", "two"])
@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_nan_of_one_sample_leaves_the_others_as_they_are(
    tmp_path: Path, kind: str, spoilt: str, batch_size: int
) -> None:
    world = NanWorld(tmp_path, kind, spoilt)
    out = tmp_path / "out.csv"
    parts = list(run_into(world.runner, data_of(world.images), out, batch_size))
    found = [result for part in parts for result in part]
    data, rows = world.without()
    [decisions] = [each for _, each in run_offline(world.runner, data, 64)]
    assert set(decisions.stage) == {0, 1}
    for i, row in enumerate(rows):
        expected = as_result(str(row), world.runner.explained(decisions, i))
        assert replace(found[row], id=str(row), confidence=expected.confidence) == expected
        # Batches of another size round differently; float32 moves in its last places.
        assert found[row].confidence == pytest.approx(expected.confidence, rel=1e-5, abs=1e-6)
    failed = [row for row, result in enumerate(found) if result.error]
    # Those that leave before the model that makes NaN are decided.
    assert failed == world.white if spoilt == "one" else set(failed) < set(world.white)
    assert failed
    for row in failed:
        told = f"model {spoilt!r}: NaN or infinite outputs"
        assert found[row] == Result.broken(found[row].id, told, None)
    assert read_results(out) == found
    # Online the one image is an error, and the next is decided.
    with pytest.raises(NotFiniteError, match=f"model {spoilt!r}: NaN or infinite outputs") as info:
        world.runner(world.images[failed[0]])
    assert "\n" not in str(info.value)
    assert as_result("0", world.runner(world.images[0])).class_index == found[0].class_index


def test_nan_ends_what_has_no_rows_for_it(tmp_path: Path) -> None:
    world = NanWorld(tmp_path, "logits", "one")
    with pytest.raises(NotFiniteError, match=r"^model 'one': NaN .* first at sample 7 "):
        world.runner.decide(world.images, 5)
    with pytest.raises(NotFiniteError, match=r"^sample '7': model 'one': NaN or infinite outputs"):
        list(run_offline(world.runner, data_of(world.images), 5))


def test_people_see_rate_and_exits_so_far(
    tmp_path: Path, capsys: Caught, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as if somebody watched
    monkeypatch.setenv("COLUMNS", "160")
    cascade = embedded(Cascade.of(["nano", "tiny"], [0.9]))
    path = cascade.save(tmp_path / "cascade.json")
    np.savez(tmp_path / "data.npz", images=some_images(300))
    words = f"run {path} --data {tmp_path / 'data.npz'} --out {tmp_path / 'o.csv'} --batch-size 8"
    assert main(words.split()) == 0
    told = capsys.readouterr()
    line = next(line for line in told.out.splitlines() if "Exits by stage" in line)
    shares = line.removeprefix("Exits by stage: ").partition(" of ")[0]
    assert f"exits {shares}" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", told.err)
    assert "samples/s" in told.err


def test_nan_is_a_row_by_the_command_line(
    tmp_path: Path, caught_json: Callable[[str], Any]
) -> None:
    world = NanWorld(tmp_path, "logits", "one")
    path = world.cascade.save(tmp_path / "cascade.json")
    np.savez(tmp_path / "data.npz", images=world.images)
    told = caught_json(
        f"run {path} --data {tmp_path / 'data.npz'} --out {tmp_path / 'out.jsonl'} "
        f"--allow-code {world.code[0]}"
    )
    assert [each["reason"] for each in told["broken"]] == [
        "model 'one': NaN or infinite outputs"
    ] * len(world.white)
    assert told["samples"] == ROWS - len(world.white)


def test_nan_in_a_cascade_that_is_one_file_is_a_row(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="a graph is written with onnx")
    broken = onnx.load(FOLDER / "nano.onnx")
    broken.graph.node[-1].output[0] = "before"
    # NaN where the last logit is below zero, and zero where it is not.
    broken.graph.node.append(onnx.helper.make_node("Sqrt", ["before"], ["root"], name="root"))
    broken.graph.node.append(onnx.helper.make_node("Sub", ["root", "root"], ["zero"], name="zero"))
    broken.graph.node.append(
        onnx.helper.make_node("Slice", ["zero", "from", "to", "axis"], ["last"], name="last")
    )
    broken.graph.node.append(onnx.helper.make_node("Add", ["before", "last"], ["logits"]))
    for name, value in (("from", 9), ("to", 10), ("axis", 1)):
        broken.graph.initializer.append(
            onnx.numpy_helper.from_array(np.array([value], np.int64), name)
        )
    onnx.save(broken, tmp_path / "broken.onnx")
    some, cascade = some_images(100), embedded(Cascade.of(["nano", "tiny"], [0.9]))
    path = write_graph(cascade, tmp_path / "c.onnx", onnx={"nano": tmp_path / "broken.onnx"})
    own = Runner(cascade, threads=1)
    alone = [own(image) for image in some]
    [found] = list(run_into(Runner(path), data_of(some), tmp_path / "out.csv", 32))
    failed = [result for result in found if result.error]
    assert 0 < len(failed) < 100
    assert {result.error for result in failed} == {"c.onnx: NaN or infinite outputs"}
    for result, expected in zip(found, alone, strict=True):
        if not result.error:
            assert (result.class_index, result.stage) == (expected.class_index, expected.stage)


def test_a_model_that_makes_nothing_but_nan_is_told(tmp_path: Path) -> None:
    world = NanWorld(tmp_path, "logits", "one")
    world.images[:, 0, 0] = 255
    out = tmp_path / "out.csv"
    [found] = list(run_into(world.runner, data_of(world.images), out, 16))
    assert {result.error for result in found} == {"model 'one': NaN or infinite outputs"}


FAILS = "if name == 'two' and len(state) > 1: raise RuntimeError('no memory left')\n        "
NOTES = "state = batches.setdefault(name, []); "


def test_a_model_that_fails_late_leaves_what_was_decided(tmp_path: Path) -> None:
    path = write_pool(tmp_path)
    code = CODE.replace(ANSWER, NOTES + ANSWER).format(pixels=16, classes=3)
    (tmp_path / "models.py").write_text(code.replace(NOTES, NOTES.strip() + "\n        " + FAILS))
    pool, code_names = read_pool_file(path), code_of(path)
    runner = Runner(
        of_pool(Cascade.of(["one", "two"], [np.inf]), pool, code_names), allow_code=code_names
    )
    out = tmp_path / "out.csv"
    seen: list[Result] = []
    stretches = run_into(runner, dataset(200), out, 4)
    with pytest.raises(ModelError, match=r"model 'two': failed .*no memory left") as told:
        seen.extend(result for part in stretches for result in part)
    assert "\n" not in str(told.value)
    assert not out.exists()
    kept = sorted((tmp_path / "out.csv.part").glob("*.csv"))
    assert [result for part in kept for result in read_results(part)] == seen


@pytest.mark.parametrize("lazy", [False, True])
def test_a_missing_or_altered_model_leaves_an_unfinished_run(
    tmp_path: Path, capsys: Caught, lazy: bool
) -> None:
    for name in ("nano", "tiny"):
        (tmp_path / f"{name}.onnx").write_bytes((FOLDER / f"{name}.onnx").read_bytes())
    cascade = embedded(Cascade.of(["nano", "tiny"], [0.9]))
    store = predict_into(tmp_path)
    known = {
        name: replace(
            cascade.models[name],
            source=f"onnx:{tmp_path / name}.onnx",
            fingerprint=store.specs[name].fingerprint,
        )
        for name in cascade.names
    }
    path = replace(cascade, models=known).save(tmp_path / "cascade.json")
    np.savez(tmp_path / "data.npz", images=some_images(300))
    out = tmp_path / "out.csv"
    words = f"run {path} --data {tmp_path / 'data.npz'} --out {out} --batch-size 8"
    begin = run_into(Runner(path, lazy=lazy), data_of_file(tmp_path / "data.npz"), out, 8)
    first = next(begin)
    begin.close()
    kept = {part.name: part.read_bytes() for part in (tmp_path / "out.csv.part").iterdir()}
    model = tmp_path / "tiny.onnx"
    whole = model.read_bytes()
    for spoil, line in (
        (lambda: model.write_bytes(whole[:-10]), "model 'tiny': "),
        (lambda: model.write_bytes((FOLDER / "micro.onnx").read_bytes()), "has changed since"),
        (model.unlink, f"model 'tiny': no file {model}"),
    ):
        spoil()
        assert line in refused(words, capsys)
        with pytest.raises(ModelError):
            Runner(path, lazy=lazy)
        found = {part.name: part.read_bytes() for part in (tmp_path / "out.csv.part").iterdir()}
        assert found == kept
    model.write_bytes(whole)
    assert main([*words.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resumed"] == len(first)
    assert read_results(out)[: len(first)] == first


def predict_into(folder: Path) -> Pool:
    """Stored predictions of two models, for their fingerprints."""
    from committee.embedded import pool_file

    some = ArrayDataset(
        some_images(32), Samples.of(np.zeros(32, np.int64), None, pool_file().classes, "val", 32)
    )
    return Pool.load(predict(pool_file().only(["nano", "tiny"]), some, folder / "store"))


def data_of_file(path: Path) -> Any:
    from committee.data.open import open_data
    from committee.embedded import pool_file

    return open_data(path, "run", pool_file().classes)


@pytest.mark.parametrize("kind", ["logits", "decisions"])
def test_classes_that_the_models_do_not_have_are_refused(
    tmp_path: Path, capsys: Caught, kind: str
) -> None:
    if kind == "decisions":
        pool, code = decisions_pool(tmp_path)
        chain, named = Cascade.of(["one"], combine="last"), CLASSES[:1]
    else:
        path = write_pool(tmp_path)
        pool, code = read_pool_file(path), code_of(path)
        chain, named = Cascade.of(["one"]), (*CLASSES, "fox")
    cascade = of_pool(chain, pool, code, named)
    runner = Runner(cascade, allow_code=code)
    gives = "at least [23]" if kind == "decisions" else "3"
    line = f"model 'one': gives {gives} classes, but the cascade names {len(named)}"
    with pytest.raises(ModelError, match=line) as told:
        [runner(image) for image in images(20)]
    assert "\n" not in str(told.value)
    with pytest.raises(ModelError, match=line):
        runner.decide(images(20))
    file = cascade.save(tmp_path / "cascade.json")
    np.savez(tmp_path / "data.npz", images=images(20))
    words = f"run {file} --data {tmp_path / 'data.npz'} --out {tmp_path / 'o.csv'}"
    assert re.search(line, refused(f"{words} --allow-code {code[0]}", capsys))
    if kind == "logits":
        with pytest.raises(ModelError, match=line):
            runner.warm()
