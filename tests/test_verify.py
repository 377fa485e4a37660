"""``committee verify`` and ``committee export``: flips are counted, shown, and can fail a run."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from committee import Cascade, Pool, Runner, Stage
from committee.cli import main
from committee.cli.verify import _flip_text
from committee.data.arrays import ArrayDataset
from committee.embedded import FOLDER
from committee.models.pool_file import read_pool_file
from committee.predict import THREADS, predict
from committee.rule.cascade import ALWAYS, NEVER
from committee.rule.flow import Decisions
from committee.run.offline import run_offline
from committee.run.verify import OfflineWay, OnlineWay, _compare, _stored_way, verify
from export_world import CASCADES, embedded, some_images
from small_world import dataset, images, read_pool, samples, write_npz, write_pool
from test_run_reading import Photographs, at_other_sizes

IMAGES = str(FOLDER / "fashion_mnist_test.npz")


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cascade of the embedded pool, its stored predictions, a bundle and graphs of it."""
    folder = tmp_path_factory.mktemp("verify")
    cascade = embedded(CASCADES["mean_logits"]).save(folder / "cascade.json")
    assert run("predict", FOLDER / "pool.toml", "--data", IMAGES, "--rows", "5000:5080",
               "--split", "test", "--out", folder / "predictions", "--json") == 0  # fmt: skip
    assert run("export", cascade, "--out", folder / "bundle") == 0
    for form in ("one", "any"):
        out = folder / f"{form}.onnx"
        assert run("export", cascade, "--out", out, "--form", form, "--json") == 0
    return folder


def test_all_ways_decide_alike_on_real_images(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    words = [
        *("verify", world / "cascade.json", "--data", IMAGES, "--rows", "5000:5080"),
        *("--predictions", world / "predictions", "--max-flips", 0),
    ]
    more = [
        *("--engine", "onnxruntime", "--batch-size", 32, "--batch-size", 7, "--batch-size", 1),
        *("--against", world / "bundle", "--against", world / "one.onnx"),
        *("--against", world / "any.onnx"),
    ]
    assert run(*words, *more, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["way"] for each in told["ways"]] == [
        "offline, batches of 32", "offline, batches of 7", "offline, batches of 1", "online",
        "offline, onnxruntime", f"bundle, {world / 'bundle'}", f"ONNX file, {world / 'one.onnx'}",
        f"ONNX file, {world / 'any.onnx'}",
    ]  # fmt: skip
    for each in told["ways"]:
        assert each["reference"] == "stored predictions"
        assert each["samples"] == each["same_class"] == each["same_stage"] == 80
        assert each["flips"] == []
        assert each["largest_difference"] < 1e-5
    assert run(*words) == 0
    told = capsys.readouterr().out
    assert "80 samples, each compared with: stored predictions" in told
    scores = r"(all scores are the same|scores differ by up to [1-9])"
    assert re.search(rf"online: all decisions are the same; {scores}", told)


TORCH = """
import torch

def make(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(32, 10))

def one():
    return make(1)

def two():
    return make(2)
"""
POOL = """
[preprocessing]
channels = 1
mean = [0.5]
std = [0.1]
"""


@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
def test_every_engine_of_torch_modules_decides_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for needed in ("torch", "onnxscript"):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    monkeypatch.setenv("COMMITTEE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "code.py").write_text(TORCH)
    models = "".join(
        f'[[model]]\nname = "{name}"\nsource = "python:code.py:{name}"\nresolution = 28\n'
        for name in ("one", "two")
    )
    (tmp_path / "pool.toml").write_text(POOL + models)
    specs = {spec.name: spec for spec in read_pool_file(tmp_path / "pool.toml").models}
    cascade = Cascade.of(["one", "two"], [0.13])
    cascade = replace(cascade, models=specs)
    path = cascade.save(tmp_path / "cascade.json")
    words = [
        *("verify", path, "--data", IMAGES, "--rows", "0:300", "--json", "--module"),
        *("--allow-code", tmp_path / "code.py", "--engine", "torch"),
        *("--engine", "onnxruntime"),
    ]
    assert run(*words) == 0
    ways = {each["way"]: each for each in json.loads(capsys.readouterr().out)["ways"]}
    assert list(ways) == [
        "online", "offline, torch", "offline, onnxruntime", "torch module",
    ]  # fmt: skip
    for told in ways.values():
        assert told["samples"] == 300
        assert len(told["flips"]) <= 1
        assert told["largest_difference"] < 1e-4
    code = [str(tmp_path / "code.py")]
    assert 0 < Runner(cascade, allow_code=code).decide(some_images(300)).stage.sum() < 300


def test_flips_are_shown_and_may_fail(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A cascade whose threshold is another than that of the graph.
    cascade = Cascade.load(world / "cascade.json")
    stages = (replace(cascade.stages[0], threshold=0.8), *cascade.stages[1:])
    other = replace(cascade, stages=stages).save(tmp_path / "other.json")
    words = [
        *("verify", other, "--data", IMAGES, "--rows", "5000:5300"),
        *("--against", world / "any.onnx"),
    ]
    capsys.readouterr()
    assert run(*words) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"t10k-05\d\d\d: stage 0 as [-\w /]+ by the reference, stage [12] as [-\w /]+ here; "
        r"at stage 0 its score was 0\.\d+ above the threshold", told
    )  # fmt: skip
    assert re.search(r"onnx: \d+ samples flip; \d+ have the same class, \d+ exit at the", told)
    assert "more; --json lists all" in told
    assert run(*words, "--json", "--max-flips", 1) == 1
    flips = json.loads(capsys.readouterr().out)["ways"][1]["flips"]
    assert len(flips) > 10
    assert all(0 <= flip["distance"] <= 0.1 + 1e-6 for flip in flips)
    assert run(*words, "--max-flips", len(flips)) == 0
    assert run(*words, "--max-flips", 1) == 1
    assert f"{len(flips)} flips are more than the 1 allowed" in capsys.readouterr().out


def test_another_cascade_file_is_called_so_and_a_lower_threshold_is_told(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cascade = Cascade.load(world / "cascade.json")
    stages = (replace(cascade.stages[0], threshold=0.8), *cascade.stages[1:])
    other = replace(cascade, stages=stages).save(tmp_path / "other.json")
    words = ["verify", world / "cascade.json", "--data", "embedded:test", "--rows", "0:300"]
    capsys.readouterr()
    assert run(*words, "--against", other) == 0
    told = capsys.readouterr().out
    assert f"cascadefile,{other}:" in "".join(told.split())
    assert "below the threshold" in told
    assert "above the threshold" not in told


def test_images_that_cannot_be_read_are_left_out_if_asked(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, image in enumerate(some_images(5)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes(b"")
    words = ["verify", world / "cascade.json", "--data", tmp_path]
    capsys.readouterr()
    assert run(*words) == 2
    assert "committee predict and verify can skip them: --skip-broken" in (capsys.readouterr().err)
    assert run(*words, "--skip-broken") == 0
    told = capsys.readouterr().out
    assert told.startswith("4 samples, each compared with")
    assert "Skipped: 1 broken image: 2.png (no image that Pillow knows)" in told
    assert run(*words, "--skip-broken", "--json") == 0
    left_out = json.loads(capsys.readouterr().out)["broken_left_out"]
    assert left_out == [{"id": "2.png", "reason": "no image that Pillow knows"}]
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(b"")
    assert run(*words, "--skip-broken") == 2
    assert "none of the 5 samples can be read: 0.png" in capsys.readouterr().err


def test_what_a_flip_says() -> None:
    cascade = Cascade((Stage(("a",), 0.5), Stage(("b",))))
    promised = Decisions(
        np.array([1, 1, 2, 0]), np.array([0.9, 0.51, 0.7, 0.6]), np.array([0, 0, 1, 1])
    )
    found = Decisions(
        np.array([1, 2, 2, 1]), np.array([0.9, 0.8, 0.53, 0.6]), np.array([0, 1, 0, 1])
    )
    told = _compare(cascade, ("p", "q", "r", "s"), ("one", promised), ("two", found))
    assert (told.samples, told.same_class, told.same_stage) == (4, 2, 2)
    assert [flip.id for flip in told.flips] == ["q", "r", "s"]
    assert [flip.stages for flip in told.flips] == [(0, 1), (1, 0), (1, 1)]
    assert [flip.classes for flip in told.flips] == [(1, 2), (2, 2), (0, 1)]
    assert told.flips[0].distance == pytest.approx(0.01)
    assert told.flips[1].distance == pytest.approx(0.03)
    assert told.flips[2].distance is None
    assert told.largest_difference == 0
    # Another cascade leaves where the rule has no threshold.
    for threshold in (ALWAYS, NEVER):
        open_ended = Cascade((Stage(("a",), threshold), Stage(("b",))))
        (flip,) = _compare(
            open_ended, ("p", "q", "r", "s"), ("one", promised), ("two", found)
        ).flips[:1]
        assert flip.distance is None
        assert _flip_text(flip, open_ended).endswith("; stage 0 has no threshold")


def test_stored_predictions_are_found_by_name(tmp_path: Path) -> None:
    small, code = read_pool(tmp_path)
    pool = Pool.load(predict(small, dataset(600), tmp_path / "store", allow_code=code))
    chain = replace(Cascade.of(["one", "two"], [0.9]), models=pool.specs)
    runner = Runner(chain, allow_code=code)
    ways = {
        "stored": _stored_way(chain, pool, dataset(600)),
        "offline": OfflineWay(runner, 32),
        "online": OnlineWay(runner),
    }
    seen: list[tuple[int, int]] = []
    found = verify(chain, ways, dataset(600), 32, lambda done, count: seen.append((done, count)))
    assert [each.flips for each in found] == [(), ()]
    assert seen == [(512, 600), (600, 600)]


def test_few_decoded_photographs_are_in_memory(tmp_path: Path) -> None:
    runner = at_other_sizes(Cascade.of(["one", "two"], [0.9]), tmp_path)
    some = Photographs(96)
    one = some.image(0).nbytes
    ways = {
        "online": OnlineWay(runner),
        "offline": OfflineWay(runner, 16),
        "offline, others": OfflineWay(runner, 7),
    }
    tracemalloc.start()
    try:
        found = verify(runner.cascade, ways, some, 16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sorted(some.read_rows) == list(range(96))
    assert [each.same_class for each in found] == [96, 96]
    assert peak < 4 * THREADS * one


def test_offline_is_what_a_run_of_that_batch_size_decides(tmp_path: Path) -> None:
    runner = at_other_sizes(Cascade.of(["one", "two"], [0.9]), tmp_path)
    some = dataset(300)
    ways = {"one": OfflineWay(runner, 3), "other": OfflineWay(runner, 8)}
    made = {}
    for name, way in ways.items():
        finish = way.finish

        def kept(name: str = name, finish: Callable[[], Decisions] = finish) -> Decisions:
            made[name] = finish()
            return made[name]

        way.finish = kept  # type: ignore[method-assign]
    verify(runner.cascade, ways, some, 8)
    for name, size in (("one", 3), ("other", 8)):
        scores = np.concatenate([each.score for _, each in run_offline(runner, some, size)])
        assert made[name].score.tolist() == scores.tolist()


def test_a_graph_is_no_cascade_of_models_for_other_engines(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["verify", world / "any.onnx", "--data", IMAGES, "--rows", "0:5"]
    capsys.readouterr()
    assert run(*words, "--engine", "torch") == 2
    assert "is inside one ONNX file, which onnxruntime runs" in capsys.readouterr().err


CASES = {
    "verify c.json --data d.npz --predictions store": "has no predictions of 10 samples",
    "verify c.json --data d.npz --against no.onnx": "no.onnx: no such file",
    "verify c.json --data d.npz --against .": "not a bundle: SHA256SUMS",
    "verify no.json --data d.npz": "no.json: cannot be read",
    "verify c.json --data d.npz --engine tensorrt": "no engine 'tensorrt'",
    "verify c.json --data d.npz --module": "is no torch module",
    "export c.json --out out": "is no ONNX file. Export it first",
    "export c.json --out out.onnx": "is no ONNX file. Export it first",
    "export c.json --out out --form one": "are for a graph",
    "export c.json --out out --onnx one": "'one' names no model; write NAME=FILE",
    "export c.json --out out.onnx --onnx three=x.onnx": "no model 'three'",
    "export c.json --out out.onnx --form two": "form 'two' is unknown; write 'any', for any",
    "export c.json --out out.onnx --precision float16": "combines and scores in float64 or float32",
    "export c.json --out out.tflite": "one ONNX file, FILE.onnx, or a folder, not a file",
    "export c.json --out out.h5": "or a folder, not a file .h5",
}


@pytest.mark.parametrize("words", CASES)
def test_refusals_are_one_line(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pool(tmp_path)
    write_npz(tmp_path / "d.npz", 30)
    small, allowed = read_pool(tmp_path)
    others = replace(samples(20, "test"), ids=tuple(f"other {i}" for i in range(20)))
    few = ArrayDataset(images(20), others)
    pool = Pool.load(predict(small, few, tmp_path / "store", allow_code=allowed))
    replace(Cascade.of(["one", "two"], [0.9]), models=pool.specs).save(tmp_path / "c.json")
    parts = words.split()
    capsys.readouterr()
    assert run(*parts, *(["--allow-code", "models.py"] if parts[0] == "verify" else ())) == 2
    told = capsys.readouterr().err
    assert CASES[words] in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "out").exists()
