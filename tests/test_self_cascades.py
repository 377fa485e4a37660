"""Self-cascades: one set of weights at several resolutions, from the pool file to the exports."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import committee as cm
from brute_force import Oracle, Tried, front
from committee.cli import main
from committee.embedded import FOLDER, pool_file
from committee.errors import CascadeError, CommitteeError, MisalignedError, UnknownNameError
from committee.export.bundle import write_bundle
from committee.export.graph import write_graph
from committee.export.pool import export_pool
from committee.export.torch_module import as_module
from committee.models.load import load_models
from committee.models.pool_file import read_pool_file
from committee.models.sources.python import _imported
from committee.models.sources.transformers import _recipe_of
from committee.pool.layout import Layout, same_weights
from committee.predict import predict
from committee.report.rows import Report
from committee.report.tables import front_csv
from committee.rule.calibration import Calibration
from committee.rule.scores import max_prob
from committee.run.runner import Runner
from committee.run.verify import agreement
from export_world import embedded, flips, some_images
from small_world import CLASSES, dataset, images

# A function of images of any size, and a module; each counts how often it is made.
CODE = """
import numpy as np

made = []

def any_size():
    made.append("any_size")
    matrix = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    def run(batch):
        parts = [batch[:, 0, i::2, j::2].mean((1, 2)) for i in (0, 1) for j in (0, 1)]
        return 8 * np.stack(parts, 1) @ matrix
    return run

def module():
    import torch
    made.append("module")
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3, padding=1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(6, 3),
    )
"""
HEAD = """
classes = ["cat", "dog", "eel"]
[preprocessing]
channels = 1
mean = [0.5]
std = [0.5]
"""
LINE = """
[[model]]
name = "net"
source = "python:models.py:any_size"
resolutions = [2, 4, 6]
costs.macs = [4, 16, 36]
"""


def written(folder: Path, lines: str = LINE) -> Path:
    (folder / "models.py").write_text(CODE)
    (folder / "pool.toml").write_text(HEAD + lines)
    return folder / "pool.toml"


def code(folder: Path) -> list[str]:
    return [str(folder / "models.py")]


def made(folder: Path) -> list[str]:
    """Which factories of a pool's code were called, in order."""
    calls: list[str] = _imported(str(folder / "models.py")).made
    return calls


# The pool file.


def test_a_line_with_resolutions_is_a_model_at_each(tmp_path: Path) -> None:
    models = read_pool_file(written(tmp_path)).models
    assert [m.name for m in models] == ["net@2", "net@4", "net@6"]
    assert [m.preprocessing.size for m in models] == [(2, 2), (4, 4), (6, 6)]
    assert [m.costs[0].value for m in models] == [4, 16, 36]
    assert len({m.weights_key for m in models}) == 1


def test_sides_and_crops_may_differ(tmp_path: Path) -> None:
    lines = LINE.replace("[2, 4, 6]", "[[2, 3], [4, 6], 6]") + "preprocessing.crop = [0.5, 0.8, 1]"
    models = read_pool_file(written(tmp_path, lines)).models
    assert [m.name for m in models] == ["net@2x3", "net@4x6", "net@6"]
    assert [m.preprocessing.crop for m in models] == [0.5, 0.8, 1]
    one_crop = read_pool_file(written(tmp_path, LINE + "preprocessing.crop = 0.5")).models
    assert [m.preprocessing.crop for m in one_crop] == [0.5] * 3


def test_only_takes_a_line_or_one_of_its_models(tmp_path: Path) -> None:
    other = '[[model]]\nname = "net-2"\nsource = "python:models.py:module"\nresolution = 4\n'
    pool = read_pool_file(written(tmp_path, LINE + other))
    assert [m.name for m in pool.only(["net"]).models] == ["net@2", "net@4", "net@6"]
    assert [m.name for m in pool.only(["net@4", "net-2"]).models] == ["net@4", "net-2"]
    with pytest.raises(UnknownNameError, match="no model 'ne'"):
        pool.only(["ne"])


BAD = {
    LINE.replace("[2, 4, 6]", "[2, 4, 2]"): r"resolutions are \[2, 4, 2\]; write two or more, all",
    LINE.replace("[2, 4, 6]", "[2, [2, 2], 6]"): "all different",
    LINE.replace("[2, 4, 6]", "[4]"): "write two or more",
    LINE.replace("[2, 4, 6]", "[]"): "write two or more",
    LINE.replace("[2, 4, 6]", "4"): "resolutions must be a list",
    LINE.replace("[2, 4, 6]", "[0, 4, 6]"): "resolutions: 0 is wrong",
    LINE.replace("[2, 4, 6]", "[-2, 4, 6]"): "resolutions: -2 is wrong",
    LINE.replace("[2, 4, 6]", "[2.5, 4, 6]"): "resolutions: 2.5 is wrong",
    LINE.replace("[2, 4, 6]", "[[2, 4, 6], 4, 6]"): "is wrong; write two or more",
    LINE.replace("[2, 4, 6]", "[true, 4, 6]"): "resolutions: True is wrong",
    LINE + "resolution = 4": "resolution stands beside resolutions; leave one",
    LINE + "family = 'f'": "family stands beside resolutions",
    LINE.replace("any_size", "any_size@4"): r"source says \(4, 4\) and resolutions too; leave @",
    LINE.replace("[4, 16, 36]", "4"): "costs.macs must be a list of 3, one for each of resolutions",
    LINE.replace("[4, 16, 36]", "[4, 16]"): "costs.macs must be a list of 3",
    LINE + "preprocessing.crop = [0.5]": "crop must be a list of 3",
    LINE + LINE.replace("[2, 4, 6]", "[6, 8, 9]"): "model 'net@6' stands twice",
    LINE.replace('name = "net"', ""): "lacks name",
    LINE.replace('"net"', '"a b"'): "must be letters",
}  # fmt: skip


@pytest.mark.parametrize("lines", BAD)
def test_what_is_wrong_gets_a_line(tmp_path: Path, lines: str) -> None:
    path = written(tmp_path, lines)
    with pytest.raises(CommitteeError, match=BAD[lines]) as told:
        read_pool_file(path)
    assert "\n" not in str(told.value)
    assert str(path) in str(told.value)


def test_models_are_one_set_if_only_the_size_differs(tmp_path: Path) -> None:
    one = '[[model]]\nname = "{}"\nsource = "python:models.py:{}"\nresolution = {}\n{}\n'
    lines = (
        one.format("large", "any_size", 6, "")
        + one.format("other", "module", 4, "")
        + one.format("small", "any_size", 4, "")
        + one.format("cropped", "any_size", 4, "preprocessing.crop = 0.5")
        + one.format("fast", "module", 6, 'engine = "onnxruntime"')
    )
    models = read_pool_file(written(tmp_path, lines)).models
    # By rising resolution; what is at the same resolution, or runs otherwise, is no part of it.
    assert same_weights({m.name: m for m in models}) == (("small", "large"),)


# Loading.


def test_predict_and_run_make_a_function_once(tmp_path: Path) -> None:
    pool = read_pool_file(written(tmp_path))
    predict(pool, dataset(20), tmp_path / "store", allow_code=code(tmp_path))
    assert made(tmp_path) == ["any_size"]
    stored = cm.Pool.load(tmp_path / "store/val")
    assert stored.layout.same_weights == (("net@2", "net@4", "net@6"),)
    cascade = replace(cm.Cascade.of(["net@2", "net@6"], [0.7]), models=stored.specs)
    Runner(cascade, allow_code=code(tmp_path))
    assert made(tmp_path) == ["any_size"] * 2


def test_sizes_share_a_module_its_weights_file_and_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="a torch module is loaded")
    from committee.models.engines.torch_module import TorchModel
    from committee.models.sources import python

    lines = LINE.replace("any_size", "module").replace("costs.macs = [4, 16, 36]", "")
    path = written(tmp_path, lines + 'weights = "w.pth"')
    torch.save(_imported(str(tmp_path / "models.py")).module().state_dict(), tmp_path / "w.pth")
    reads, read = [], python.read_weights
    monkeypatch.setattr(python, "read_weights", lambda *a: reads.append(a) or read(*a))
    loaded = load_models(read_pool_file(path).models, code(tmp_path))
    assert made(tmp_path) == ["module"] * 2  # one of them ours, above
    assert len(reads) == 1
    models = [model for model, _ in loaded]
    assert all(isinstance(model, TorchModel) for model in models)
    assert len({id(model.module) for model in models}) == 1  # type: ignore[attr-defined]
    # Counted at each size: 9 x 6 products a pixel, and the classifier.
    assert [model.macs for model in models] == [54 * side**2 + 18 for side in (2, 4, 6)]
    assert len({spec.fingerprint for _, spec in loaded}) == 1
    module = as_module(
        replace(
            cm.Cascade.of(["net@2", "net@6"], [0.7]),
            models={spec.name: spec for _, spec in loaded},
        ),
        allow_code=code(tmp_path),
    )
    assert sum(each.numel() for each in module.parameters()) == models[0].parameters


def test_sizes_share_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import committee.models.sources.onnx as source

    opened, session = [], source.Session
    monkeypatch.setattr(source, "Session", lambda *a: opened.append(a) or session(*a))
    cascade = at_sizes(tmp_path, [20, 28])
    found = Runner(cascade, threads=1).decide(some_images(100))
    assert len(opened) == 1
    # And each size answers as it does alone.
    for stage, name in enumerate(cascade.names):
        alone = replace(cm.Cascade.of([name]), models=cascade.models)
        expected = Runner(alone, threads=1).decide(some_images(100))
        if stage == 0:
            here = found.stage == 0
            assert (found.predicted[here] == expected.predicted[here]).all()
    assert 0 < found.stage.sum() < 100


def test_a_graph_of_one_size_is_refused_at_others(tmp_path: Path) -> None:
    lines = f'[[model]]\nname = "n"\nsource = "onnx:{FOLDER}/nano.onnx"\nresolutions = [14, 28]\n'
    pool = read_pool_file(written(tmp_path, lines))
    with pytest.raises(CommitteeError, match=r"'n@14': the graph takes .* dynamic height") as told:
        predict(pool, dataset(4), tmp_path / "store")
    assert "\n" not in str(told.value)
    # Whichever comes first.
    with pytest.raises(CommitteeError, match="'n@14': the graph takes"):
        load_models(reversed(pool.models))


TIMM = '[[model]]\nname = "n"\nsource = "timm:{}"\nweights = "random"\nresolutions = [{}]\n'


@pytest.mark.parametrize(
    ("name", "sizes", "share"), [("test_resnet", (64, 96), True), ("test_vit", (160, 192), False)]
)
def test_positions_of_transformers_are_a_copy(
    tmp_path: Path, name: str, sizes: tuple[int, int], share: bool
) -> None:
    pytest.importorskip("timm", reason="the extra timm is not installed")
    (tmp_path / "pool.toml").write_text(TIMM.format(name, ", ".join(map(str, sizes))))
    pool = read_pool_file(tmp_path / "pool.toml")
    (one, _), (two, _) = load_models(pool.models)
    assert (one.module is two.module) == share  # type: ignore[attr-defined]
    for model, side in ((one, sizes[0]), (two, sizes[1])):
        assert model(np.zeros((1, 3, side, side), np.float32)).shape == (1, 1000)


def test_timm_states_a_crop_of_its_own_for_its_test_size(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    name = "resnet50.a1_in1k"
    (tmp_path / "pool.toml").write_text(TIMM.format(name, "224, 256, 288"))
    config = timm.get_pretrained_cfg(name)
    assert (config.crop_pct, config.test_crop_pct) == (0.95, 1.0)
    assert config.test_input_size == (3, 288, 288)
    crops = [spec.preprocessing.crop for spec in read_pool_file(tmp_path / "pool.toml").models]
    # timm rounds the resized side down.
    assert crops == [224 / math.floor(224 / 0.95), 256 / math.floor(256 / 0.95), 1.0]


def test_convnext_crops_or_squashes_by_the_size_that_is_asked_for() -> None:
    known = {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3,
    }  # fmt: skip
    recipes = {side: _recipe_of("here", known, (side, side)) for side in (224, 320, 384)}
    assert [recipes[side]["resize"] for side in recipes] == ["crop", "crop", "squash"]
    assert [recipes[side]["crop"] for side in recipes] == [224 / 256, 320 / 365, 1.0]
    assert _recipe_of("here", known, None) == recipes[224]


# Search.


def random_pool(seed: int, samples: int = 14) -> cm.Pool:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, samples)
    names = ("a@1", "a@2", "a@3", "b@2", "b@1", "alone")
    outputs = {
        name: random.normal(size=(samples, 3)) + gain * np.eye(3)[labels]
        for gain, name in enumerate(names)
    }
    costs = dict(zip(names, random.integers(1, 20, len(names)).tolist(), strict=True))
    return cm.Pool.from_arrays(
        labels, outputs, kind="logits", costs=costs,
        same_weights=[["a@1", "a@2", "a@3"], ["b@1", "b@2"]],
    )  # fmt: skip


SELF = [
    *[(name,) for name in ("a@1", "a@2", "a@3", "b@1", "b@2", "alone")],
    *[("a@1", "a@2"), ("a@1", "a@3"), ("a@2", "a@3"), ("b@1", "b@2"), ("a@1", "a@2", "a@3")],
]  # fmt: skip


def tried(oracle: Oracle, most: int) -> list[Tried]:
    """Every self-cascade by the oracle, which knows nothing of how search lists them."""
    return [
        each
        for each in oracle.every(most)
        if tuple(name for models, _ in each.stages for name in models) in SELF
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("most", [2, 3])
def test_the_front_is_that_of_the_sequences_of_one_set_of_weights(seed: int, most: int) -> None:
    pool = random_pool(seed)
    found = cm.search(pool, most, grid=4, self_cascades=True)
    every = tried(Oracle(pool, "mean_logits", "max_prob", 4), most)
    count = len(pool)
    figures = {(round(c.evaluation.average_cost * count), c.evaluation.correct) for c in found}
    assert figures == front(every)
    assert found.exact
    assert found.settings.self_cascades
    assert found.settings.sequences == sum(len(names) <= most for names in SELF)
    for each in found:
        alone = each.cascade.kind == "model"
        assert alone or each.cascade.names in SELF
        assert pool.is_self_cascade(each.cascade) == (each.cascade.kind == "cascade")


def test_targets_bounds_and_judging_are_those_of_search() -> None:
    pool, test = random_pool(0, 60), random_pool(1, 60).rows(slice(None), "test")
    found = cm.search(pool, self_cascades=True, worst_case=25, test=test)
    assert found.at_least(found[-1].evaluation.accuracy).cascade == found[-1].cascade
    assert all(c.evaluation.worst_case_cost <= 25 and c.test is not None for c in found)


def test_what_is_no_self_cascade() -> None:
    pool = random_pool(0)
    told = {
        names: pool.is_self_cascade(cm.Cascade.of(names, [0.5] * (len(names) - 1)))
        for size in (1, 2, 3)
        for names in itertools.permutations(pool.names, size)
    }
    assert {names for names, own in told.items() if own} == {n for n in SELF if len(n) > 1}
    assert not pool.is_self_cascade(cm.Cascade.ensemble(["a@1", "a@2"]))
    assert pool.is_self_cascade(cm.Cascade.of([["a@1", "a@2"], "a@3"], [0.5]))


def test_a_pool_of_some_models_keeps_their_sets() -> None:
    pool = random_pool(0)
    assert pool.only(["a@3", "b@1", "a@1"]).layout.same_weights == (("a@1", "a@3"),)
    assert pool.rows(slice(3), "x").layout.same_weights == pool.layout.same_weights


def test_sets_that_cannot_be_are_refused() -> None:
    pool = random_pool(0)
    with pytest.raises(UnknownNameError, match="same_weights: no model 'gone'"):
        replace(pool, layout=Layout((("a@1", "gone"),)))
    with pytest.raises(MisalignedError, match="'a@1' stands twice"):
        replace(pool, layout=Layout((("a@1", "a@2"), ("a@1", "b@2"))))
    with pytest.raises(CascadeError, match=r"no two models .* resolutions = \[224, 288\]"):
        cm.search(replace(pool, layout=Layout()), self_cascades=True)
    with pytest.raises(CascadeError, match="leave stages out"):
        cm.search(pool, self_cascades=True, stages=["a@1", "a@2"])


def test_tables_say_which_cascades_are_self_cascades() -> None:
    pool = random_pool(3, 200)
    rows = Report(cm.search(pool, 2, self_cascades=True)).members
    kinds = {row.kind for row in rows}
    assert "self-cascade" in kinds
    assert front_csv(rows).count(",self-cascade,") == sum(r.kind == "self-cascade" for r in rows)
    assert all(row.kind != "self-cascade" for row in Report(cm.search(pool, 1)).rows)


def test_the_commands_search_for_self_cascades(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(
        read_pool_file(written(tmp_path)), dataset(200), tmp_path / "store",
        allow_code=code(tmp_path),
    )  # fmt: skip
    store = str(tmp_path / "store")
    assert main(["search", store, "--self-cascades", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["settings"]["self_cascades"] is True
    assert told["settings"]["sequences"] == 7
    page = str(tmp_path / "report.html")
    assert main(["report", store, "--self-cascades", "--out", page]) == 0
    assert "--self-cascades" in Path(page).read_text(encoding="utf-8")
    assert main(["search", store, "--self-cascades", "--match", "net@6"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r"Of [\d,]+ self-cascades \d+ (is|are) on the front", shown)
    for option in (["--method", "greedy"], ["--method", "guided"], ["--cascade-of", "net@2,net@4"]):
        assert main(["search", store, "--self-cascades", *option]) == 2
        assert "--self-cascades goes with" in capsys.readouterr().err


# Running and exports.


def test_what_runs_decides_as_stored(tmp_path: Path) -> None:
    data = dataset(300)
    pool = read_pool_file(written(tmp_path))
    stored = cm.Pool.load(predict(pool, data, tmp_path / "store", allow_code=code(tmp_path)))
    scores = max_prob(stored.outputs["net@2"].values)
    cascade = replace(
        cm.Cascade.of(["net@2", "net@4", "net@6"], [float(np.quantile(scores, 0.6)), 0.9]),
        models=stored.specs, classes=CLASSES,
    )  # fmt: skip
    runner = Runner(cascade, allow_code=code(tmp_path))
    decisions = runner.decide(images(300))
    assert min(np.bincount(decisions.stage, minlength=3)) > 5
    assert agreement(runner, stored, decisions).complete
    online = [runner(image) for image in images(300)]
    assert [one.stage for one in online] == decisions.stage.tolist()
    assert {one.cost for one in online} == {4, 20, 56}


def resizable(folder: Path, name: str = "tiny") -> Path:
    """A network of the embedded pool that takes images of any size."""
    model = onnx.load(FOLDER / f"{name}.onnx")
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    del model.graph.value_info[:]
    onnx.save(model, folder / f"{name}-any.onnx")
    return folder / f"{name}-any.onnx"


def at_sizes(
    folder: Path,
    sizes: list[int],
    threshold: float = 0.85,
    *,
    others: tuple[str, ...] = (),
    **rule: Any,
) -> cm.Cascade:
    """``tiny`` at sizes, models of the embedded pool between them."""
    path = resizable(folder)
    own = next(spec for spec in pool_file().models if spec.name == "tiny")
    models = {
        f"t@{side}": replace(
            own,
            name=f"t@{side}",
            source=f"onnx:{path}",
            preprocessing=replace(own.preprocessing, size=(side, side)),
        )
        for side in sizes
    }
    names = [name for pair in itertools.zip_longest(models, others) for name in pair if name]
    thresholds = [threshold] * (len(names) - 1)
    cascade = cm.Cascade.of(names, thresholds, **rule)
    if others:
        models |= embedded(cm.Cascade.of(list(others), [0.5] * (len(others) - 1))).models  # type: ignore[arg-type]
    return replace(cascade, models=models, classes=pool_file().classes)


def test_a_bundle_has_the_weights_once(tmp_path: Path) -> None:
    cascade = at_sizes(tmp_path, [20, 24, 28])
    bundle = write_bundle(cascade, tmp_path / "bundle")
    assert len(list(bundle.rglob("*.onnx"))) == 1
    images = some_images(200)
    assert flips(Runner(bundle).decide(images), Runner(cascade).decide(images)) == 0


def weights_in(graph: onnx.GraphProto) -> int:
    """Bytes of all weights of a graph and of its branches."""
    inner = [
        attribute.g
        for node in graph.node
        for attribute in node.attribute
        if attribute.HasField("g")
    ]
    own = sum(len(onnx.numpy_helper.to_array(t).tobytes()) for t in graph.initializer)
    return own + sum(map(weights_in, inner))


TEMPERATURE, PLATT = Calibration.of_temperature(1.7), Calibration("platt", (0.4, 0.9), (-3.0,))
RULES: dict[str, dict[str, Any]] = {
    "mean_logits": {},
    "mean_probabilities": {"combine": "mean_probabilities"},
    "last": {"combine": "last"},
    "gaps": {"confidence": "prob_gap", "threshold": 0.8},
    "calibrated": {"calibrations": {"t@20": TEMPERATURE, "t@28": PLATT, "nano": TEMPERATURE}},
    "another between": {"others": ("nano",)},
    "others between": {"others": ("nano", "micro")},
    "never": {"threshold": np.inf},
    "always": {"threshold": -np.inf},
}


@pytest.mark.parametrize("form", ["one", "any"])
@pytest.mark.parametrize("rule", RULES)
def test_a_graph_has_the_weights_once_and_decides_as_the_runner(
    tmp_path: Path, rule: str, form: Any
) -> None:
    cascade = at_sizes(tmp_path, [20, 24, 28], **RULES[rule])
    path = write_graph(cascade, tmp_path / "c.onnx", form=form, resize_inside=False)
    files = {spec.text for spec in cascade.models.values()}
    limit = sum(weights_in(onnx.load(file).graph) for file in files)
    assert weights_in(onnx.load(path).graph) < limit + 4_000
    images = some_images(60)
    found, expected = Runner(path).decide(images), Runner(cascade).decide(images)
    assert flips(found, expected) == 0
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-4, atol=1e-5)


def test_export_says_when_a_graph_resizes_inside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cascade = at_sizes(tmp_path, [14, 20])
    file = str(cascade.save(tmp_path / "cascade.json"))
    inside, apart = str(tmp_path / "inside.onnx"), str(tmp_path / "apart.onnx")
    assert main(["export", file, "--out", inside]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--no-resize-inside gives the same decisions" in text
    assert main(["export", file, "--out", apart, "--no-resize-inside"]) == 0
    assert "resize" not in capsys.readouterr().out
    assert main(["export", file, "--out", str(tmp_path / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resizes_inside"] is False
    # 28 pixels to 20 and then to 14 are another image than 28 to 14.
    images = some_images(500)
    expected = Runner(file).decide(images)
    assert flips(Runner(apart).decide(images), expected) == 0
    assert flips(Runner(inside).decide(images), expected) > 0


def test_stages_of_several_sizes_and_no_images(tmp_path: Path) -> None:
    plain = at_sizes(tmp_path, [20, 24, 28])
    cascade = replace(plain, stages=cm.Cascade.of([["t@20", "t@24"], "t@28"], [0.9]).stages)
    path = write_graph(cascade, tmp_path / "c.onnx", resize_inside=False)
    images = some_images(150)
    assert flips(Runner(path).decide(images), Runner(cascade).decide(images)) == 0
    assert len(Runner(path).decide(images[:0]).stage) == 0


def test_export_onnx_writes_one_graph_for_all_sizes(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    pytest.importorskip("torch", reason="a torch module is exported")
    lines = LINE.replace("any_size", "module").replace("costs.macs = [4, 16, 36]", "")
    pool = read_pool_file(written(tmp_path, lines))
    graphs = read_pool_file(export_pool(pool, tmp_path / "graphs", code(tmp_path)))
    assert [path.name for path in (tmp_path / "graphs").glob("*.onnx")] == ["net.onnx"]
    assert [model.name for model in graphs.models] == ["net@2", "net@4", "net@6"]
    assert len({model.weights_key for model in graphs.models}) == 1
    stores = [
        cm.Pool.load(predict(each, dataset(30), tmp_path / name, allow_code=code(tmp_path)))
        for name, each in (("torch", pool), ("onnx", graphs))
    ]
    assert stores[1].layout.same_weights == (("net@2", "net@4", "net@6"),)
    for name in stores[0].names:
        one, two = (store.outputs[name].values for store in stores)
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    assert stores[0].costs.values("macs") == stores[1].costs.values("macs")
