"""Models: what a pool file may say, what is loaded from it, and what an image becomes."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from committee.embedded import FOLDER, embedded_images, pool_file
from committee.errors import (
    CommitteeError,
    DataError,
    ModelError,
    PoolFileError,
    UntrustedCodeError,
)
from committee.models.base import answer_of, file_fingerprint, outputs_of
from committee.models.engines.weights import read_weights
from committee.models.graph import ports_of, tensor_files
from committee.models.inputs import as_image, prepared
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.models.sources.python import _FunctionModel
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing
from committee.spec.task import IMAGE_CLASSIFICATION
from small_world import RECIPE, SIZE, images, read_pool

MODEL = """
[[model]]
name = "a"
source = "onnx:a.onnx"
resolution = 28
"""


def pool_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pool.toml"
    path.write_text(text)
    return path


def test_a_pool_file_is_read_without_running_anything(tmp_path: Path) -> None:
    text = """
    task = "image-classification"
    classes = ["x", "y"]
    preprocessing = {crop = 0.875, interpolation = "bilinear"}
    [[model]]
    name = "a"
    source = "onnx:sub/a.onnx"
    resolution = [20, 30]
    family = "f"
    costs = {macs = 5, dollars = 0.1}
    [[model]]
    name = "b"
    source = "python:m.py:make"
    resolution = 8
    kind = "decisions"
    preprocessing.crop = 1.0
    [[model]]
    name = "c"
    source = "python:package.module:make"
    resolution = 8
    """
    pool = read_pool_file(pool_of(tmp_path, text))
    a, b, c = pool.models
    assert (pool.task, pool.classes) == (IMAGE_CLASSIFICATION, ("x", "y"))
    assert a.source == f"onnx:{tmp_path / 'sub' / 'a.onnx'}"
    assert b.source == f"python:{tmp_path / 'm.py'}:make"
    assert c.source == "python:package.module:make"
    assert (a.preprocessing.size, b.preprocessing.size) == ((20, 30), (8, 8))
    assert (a.preprocessing.crop, b.preprocessing.crop) == (0.875, 1.0)
    assert {each.preprocessing.interpolation for each in (a, b, c)} == {"bilinear"}
    assert (a.kind, b.kind, a.family, b.family) == ("logits", "decisions", "f", "")
    assert {(cost.unit, cost.value) for cost in a.costs} == {("macs", 5), ("dollars", 0.1)}
    assert a.costs[0].conditions == "one sample of 20 x 30"


def test_classes_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("tench\ngrey whale\n")
    pool = read_pool_file(pool_of(tmp_path, f'classes = "classes.txt"\n{MODEL}'))
    assert pool.classes == ("tench", "grey whale")


BAD = {
    "": "there is no model",
    "model = 3": "model must be a list, not 3",
    "model = ['a']": r"model\[0\] must be an object",
    "[[model": "no valid TOML",
    f"modle = 1\n{MODEL}": "no field 'modle'. Did you mean 'model'",
    MODEL.replace("source", "sauce"): "no field 'sauce'. Did you mean 'source'",
    MODEL + MODEL: "'a' stands twice",
    MODEL.replace('name = "a"', ""): "lacks name",
    MODEL.replace('"a"', "3"): "name must be text, not 3",
    MODEL.replace('"a"', '"../a"'): "model name '../a' must be letters",
    MODEL.replace('"a"', '"samples"'): "and not 'samples'",
    MODEL.replace("onnx:a.onnx", "a.onnx"): "'a.onnx' must be one of onnx:PATH, python:FILE.*timm",
    MODEL.replace("onnx:a.onnx", "tim:resnet"): "'tim:resnet' must be one of onnx:PATH, python:FI",
    MODEL.replace("onnx:a.onnx", "onnx:"): "'a': source 'onnx:' must be onnx:PATH",
    MODEL.replace("onnx:a.onnx", "python:m.py"): "'a': .* must be python:FILE-OR-MODULE:FACTORY",
    MODEL.replace("a.onnx", "a.onnx@32"): r"source says \(32, 32\), resolution \(28, 28\)",
    MODEL.replace("28", '"28"'): "resolution is wrong; write resolution = 224",
    MODEL.replace("28", "true"): "resolution is wrong",
    MODEL.replace("28", "[28]"): "resolution is wrong",
    MODEL.replace("resolution = 28", ""): "resolution is missing; write resolution = 224",
    MODEL + "weights = 'w.pth'": "onnx:PATH takes no weights = 'w.pth'; leave weights out",
    MODEL + "weights = 3": "weights must be text, not 3",
    MODEL + "seed = 3": "seed must be a whole number beside weights = 'random'",
    MODEL + "family = 3": "family must be text, not 3",
    MODEL.replace("28", "0"): "resolution is wrong",
    MODEL.replace("28", "[28, 'a']"): "resolution is wrong",
    MODEL + "costs.macs = -5": "'a'.* -5 macs must be finite and not negative",
    MODEL + "costs.macs = 'much'": "cost macs must be a number, not 'much'",
    MODEL + "costs.macs = inf": "inf is beyond all numbers",
    MODEL + "costs = 5": "costs must be an object, not 5",
    MODEL + "kind = 'logit'": "'a'.* no kind of outputs 'logit'. Did you mean 'logits'",
    MODEL + "preprocessing.crops = 1": "'a'.* no field 'crops'. Did you mean 'crop'",
    MODEL + "preprocessing.crop = 0": r"crop 0.0 must be in \(0, 1\]",
    MODEL + "preprocessing.crop = 'a'": "crop must be a number, not 'a'",
    MODEL + "preprocessing.channels = 4": "channels must be 1 or 3, not 4",
    MODEL + "preprocessing.mean = [0.5]": "mean needs 3 values, not 1",
    MODEL + "preprocessing.mean = ['a', 'b', 'c']": r"mean\[0\] must be a number, not 'a'",
    MODEL + "preprocessing.std = [1, 1, 0]": "must be positive",
    MODEL
    + "preprocessing.interpolation = 'cubic'": "no interpolation 'cubic'. Did you mean 'bicub",
    MODEL + "preprocessing.resize = 'squish'": "no resize 'squish'. Did you mean 'squash'",
    MODEL + "preprocessing.order = 'gbr'": "no order 'gbr'. Did you mean 'rgb'",
    f"classes = 'nowhere.txt'\n{MODEL}": "nowhere.txt: cannot be read",
}


@pytest.mark.parametrize("text", BAD)
def test_a_pool_file_that_cannot_be_is_refused_in_a_line(tmp_path: Path, text: str) -> None:
    path = pool_of(tmp_path, text)
    with pytest.raises(PoolFileError, match=BAD[text]) as told:
        read_pool_file(path)
    assert "\n" not in str(told.value)
    assert str(path) in str(told.value)


@pytest.mark.parametrize("data", [None, b"\xff\xfe"])
def test_a_pool_file_that_cannot_be_read_is_told(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "pool.toml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(PoolFileError, match=r"pool.toml: (cannot be read|no valid TOML)"):
        read_pool_file(path)


def test_only_some_models() -> None:
    assert [m.name for m in pool_file().only(["tiny", "nano"]).models] == ["nano", "tiny"]
    with pytest.raises(CommitteeError, match=r"no model 'tinny'. Did you mean 'tiny'"):
        pool_file().only(["tinny"])


def test_a_spec_survives_json() -> None:
    for spec in pool_file().models:
        assert ModelSpec.from_json(spec.name, spec.to_json(), "here") == spec


@pytest.mark.parametrize("key", ["source", "preprocessing", "costs", "kind", "fingerprint"])
def test_a_spec_with_a_field_missing_names_it(key: str) -> None:
    data = pool_file().models[0].to_json()
    del data[key]
    with pytest.raises(PoolFileError, match=f"here: model 'nano': {key} is missing"):
        ModelSpec.from_json("nano", data, "here")


@pytest.fixture
def nano() -> ModelSpec:
    return pool_file().models[0]


def test_an_onnx_model_answers_and_has_a_fingerprint(nano: ModelSpec) -> None:
    model, known = load_model(nano, threads=1)
    batch = prepared(embedded_images("val").read(np.arange(5)), nano.preprocessing)
    assert outputs_of(model, known, batch).values.shape == (5, 10)
    assert len(known.fingerprint) == 16
    assert load_model(known)[1] == known


def with_source(spec: ModelSpec, source: str, **changed: Any) -> ModelSpec:
    return ModelSpec(**{**vars(spec), "source": source, **changed})


def test_onnx_files_that_are_none_are_told(tmp_path: Path, nano: ModelSpec) -> None:
    with pytest.raises(ModelError, match=r"'nano': no file .*gone.onnx"):
        load_model(with_source(nano, f"onnx:{tmp_path / 'gone.onnx'}"))
    (tmp_path / "bad.onnx").write_bytes(b"garbage")
    with pytest.raises(ModelError, match=r"'nano': .*bad.onnx is no ONNX model") as told:
        load_model(with_source(nano, f"onnx:{tmp_path / 'bad.onnx'}"))
    assert "\n" not in str(told.value)
    with pytest.raises(ModelError, match="'nano': source 'tim:resnet' must be one of"):
        load_model(with_source(nano, "tim:resnet"))


@pytest.mark.parametrize("name", ["weights.bin", "w" * 150 + "é.bin"])
def test_tensors_beside_a_graph_are_part_of_its_fingerprint(tmp_path: Path, name: str) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    path = tmp_path / "tiny.onnx"
    onnx.save_model(
        onnx.load(FOLDER / "tiny.onnx"), path, save_as_external_data=True, location=name,
        size_threshold=1024,
    )  # fmt: skip
    assert tensor_files(path) == [name]
    assert tensor_files(FOLDER / "tiny.onnx") == []
    spec = replace(pool_file().only(["tiny"]).models[0], source=f"onnx:{path}", fingerprint="")
    _, known = load_model(spec)
    weights = path.with_name(name)
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="has changed since"):
        load_model(known)


def test_a_changed_file_is_refused_by_its_fingerprint(tmp_path: Path, nano: ModelSpec) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes((FOLDER / "nano.onnx").read_bytes())
    _, known = load_model(with_source(nano, f"onnx:{path}"))
    path.write_bytes((FOLDER / "micro.onnx").read_bytes())
    with pytest.raises(ModelError, match=f"fingerprint was {known.fingerprint}, is "):
        load_model(known)


def test_a_failure_is_told_with_what_the_graph_declares(nano: ModelSpec) -> None:
    model, spec = load_model(nano)
    with pytest.raises(
        ModelError,
        match=r"'nano': failed on input \(2, 3, 9, 9\).*takes 'image' float32 \(batch, 1, 28, 28\)",
    ) as told:
        outputs_of(model, spec, np.zeros((2, 3, 9, 9), np.float32))
    assert "\n" not in str(told.value)


def test_a_graph_of_fixed_sides_takes_no_others_and_one_of_dynamic_sides_does(
    nano: ModelSpec, tmp_path: Path
) -> None:
    other = replace(nano, preprocessing=replace(nano.preprocessing, size=(32, 32)))
    with pytest.raises(
        ModelError,
        match=r"takes 'image' float32 \(batch, 1, 28, 28\), not .*32\).*resolution = \[28, 28\]",
    ):
        load_model(other)
    onnx = pytest.importorskip("onnx", reason="the graph of this test is altered with onnx")
    graph = onnx.load(FOLDER / "nano.onnx")
    for axis, name in ((2, "H"), (3, "W")):
        graph.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(graph, tmp_path / "dynamic.onnx")
    text = MODEL.replace("a.onnx", "dynamic.onnx@32").replace("resolution = 28", "")
    text += "preprocessing = {channels = 1, mean = [0.5], std = [0.5]}"
    model, spec = load_model(read_pool_file(pool_of(tmp_path, text)).models[0])
    assert outputs_of(model, spec, np.zeros((2, 1, 32, 32), np.float32)).values.shape == (2, 10)


MARKING = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
def make():
    return lambda batch: batch.mean(axis=(2, 3))
def broken():
    raise ValueError("first line\\nsecond")
def nothing():
    return 3
"""


@pytest.fixture
def marking(tmp_path: Path) -> ModelSpec:
    (tmp_path / "m.py").write_text(MARKING)
    text = MODEL.replace("onnx:a.onnx", "python:m.py:make").replace("28", "4")
    return read_pool_file(pool_of(tmp_path, text)).models[0]


def test_code_runs_only_if_it_was_named(tmp_path: Path, marking: ModelSpec) -> None:
    for allowed in ((), ("other.py", "m"), (str(tmp_path),)):
        with pytest.raises(UntrustedCodeError, match=r"--allow-code .*m.py") as told:
            load_model(marking, allowed)
        assert "\n" not in str(told.value)
    assert not (tmp_path / "ran").exists()
    model, known = load_model(marking, [str(tmp_path / "m.py")])
    assert (tmp_path / "ran").exists()
    assert (
        outputs_of(model, known, np.ones((2, 3, 4, 4), np.float32)).values.tolist() == [[1] * 3] * 2
    )


def test_code_may_be_named_from_where_one_stands(
    tmp_path: Path, marking: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_model(marking, ["m.py"])[1].fingerprint


@pytest.mark.parametrize(
    ("factory", "line"),
    [
        ("broken", r"broken\(\) failed \(ValueError: first line\)"),
        ("nothing", r"nothing\(\) returned a int, not a model"),
        ("absent", "has no 'absent'"),
    ],
)
def test_a_factory_that_fails_is_told(
    tmp_path: Path, marking: ModelSpec, factory: str, line: str
) -> None:
    code = str(tmp_path / "m.py")
    with pytest.raises(ModelError, match=line) as told:
        load_model(with_source(marking, f"python:{code}:{factory}"), [code])
    assert "\n" not in str(told.value)


def test_code_that_is_not_there_is_told(tmp_path: Path, marking: ModelSpec) -> None:
    code = str(tmp_path / "gone.py")
    with pytest.raises(ModelError, match=r"no file .*gone.py"):
        load_model(with_source(marking, f"python:{code}:make"), [code])
    with pytest.raises(ModelError, match="No module named 'gone_away'"):
        load_model(with_source(marking, "python:gone_away:make"), ["gone_away"])


def test_changed_code_is_refused_by_its_fingerprint(tmp_path: Path) -> None:
    pool, code = read_pool(tmp_path)
    _, known = load_model(pool.models[0], code)
    Path(code[0]).write_text(Path(code[0]).read_text() + "# changed\n")
    with pytest.raises(ModelError, match="has changed since"):
        load_model(known, code)


TORCH = """
import torch
def make():
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(1, 4, 3, bias=False), torch.nn.Flatten(), torch.nn.Linear(16, 3)
    return torch.nn.Sequential(*layers, torch.nn.Dropout(0.5))
"""


def test_a_torch_module_is_counted_and_runs_as_in_evaluation(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the model of this test is a torch module")

    code = tmp_path / "m.py"
    code.write_text(TORCH)
    spec = ModelSpec("net", f"python:{code}:make", RECIPE)
    model, known = load_model(spec, [str(code)])
    # 4 filters of 3 x 3 at 2 x 2 places, then 16 x 3.
    assert [(cost.unit, cost.value) for cost in known.costs] == [("macs", 4 * 9 * 4 + 16 * 3)]
    batch = prepared(images(6), RECIPE)
    values = outputs_of(model, known, batch).values
    assert values.tobytes() == outputs_of(model, known, batch).values.tobytes()
    torch.manual_seed(0)
    namespace: dict[str, Any] = {}
    exec(TORCH, namespace)
    with torch.inference_mode():
        expected = namespace["make"]().eval()(torch.from_numpy(batch)).numpy()
    # Channels last adds in another order.
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


ANSWERS = """
import torch
class Base(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(1, 3)
    def forward(self, batch):
        batch.mul_(0.5)  # in place: what it was given is not its own
        return self.layer(batch.mean((2, 3)))
class Pair(Base):
    def forward(self, batch):
        scores = Base.forward(self, batch)
        return -scores, scores
class Named(Base):
    def forward(self, batch):
        return {"logits": Base.forward(self, batch), "hidden": batch}
def base(): return Base()
def pair(): return Pair()
def named(): return Named()
def gradient():
    layer = Base()
    return lambda batch: layer(torch.from_numpy(batch))
def half():
    layer = Base()
    return lambda batch: layer(torch.from_numpy(batch)).bfloat16()
"""


@pytest.mark.parametrize(
    ("factory", "output"),
    [("base", ""), ("pair", "1"), ("named", ""), ("gradient", ""), ("half", "")],
)
def test_what_torch_answers_is_read_and_inputs_stay_as_they_are(
    tmp_path: Path, factory: str, output: str
) -> None:
    torch = pytest.importorskip("torch", reason="the models of this test are torch modules")
    code = tmp_path / "m.py"
    code.write_text(ANSWERS)
    model, spec = load_model(
        ModelSpec("net", f"python:{code}:{factory}", RECIPE, output=output), [str(code)]
    )
    batch = prepared(images(6), RECIPE)
    before = batch.copy()
    values = outputs_of(model, spec, batch).values
    assert batch.tobytes() == before.tobytes()
    namespace: dict[str, Any] = {}
    exec(ANSWERS, namespace)
    with torch.no_grad():
        expected = namespace["base"]()(torch.from_numpy(before)).numpy()
    rough = 1e-2 if factory == "half" else 1e-6
    np.testing.assert_allclose(values, expected, rtol=rough, atol=rough)


def test_a_pair_of_a_module_is_not_taken_without_a_name(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the model of this test is a torch module")
    code = tmp_path / "m.py"
    code.write_text(ANSWERS)
    model, spec = load_model(ModelSpec("net", f"python:{code}:pair", RECIPE), [str(code)])
    with pytest.raises(ModelError, match=r"^model 'net': answers with 2 outputs: .*output = \"0\""):
        outputs_of(model, spec, prepared(images(6), RECIPE))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("factory", ["base", "gradient"])
def test_a_torch_model_answers_in_a_process_that_was_forked_off(
    tmp_path: Path, factory: str
) -> None:
    torch = pytest.importorskip("torch", reason="the models of this test are torch modules")
    code = tmp_path / "m.py"
    code.write_text(ANSWERS)
    spec = ModelSpec("net", f"python:{code}:{factory}", RECIPE)
    threads = torch.get_num_threads()
    try:
        model, spec = load_model(spec, [str(code)], threads=2)
        torch.set_num_threads(2)
        batch = prepared(images(6), RECIPE)
        # Large enough for torch to share it among threads, which stay in this process.
        (torch.ones(2**22) * 2).sum()
        expected = outputs_of(model, spec, batch).values
        child = os.fork()
        if not child:
            signal.alarm(20)
            same = np.allclose(outputs_of(model, spec, batch).values, expected)
            large = (torch.ones(2**22) * 2).sum().item() == 2**23
            os._exit(0 if same and large else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        torch.set_num_threads(threads)


RECIPES = [
    Preprocessing((24, 24)),
    Preprocessing((20, 32), crop=0.875, interpolation="bilinear"),
    Preprocessing((24, 24), crop=0.8, channels=1, mean=(0.4,), std=(0.2,)),
    Preprocessing((24, 24), crop=0.8, resize="squash", order="bgr"),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_survives_json(recipe: Preprocessing) -> None:
    assert Preprocessing.from_json(recipe.to_json()) == recipe


def smooth(height: int, width: int) -> np.ndarray:
    """An image without sharp edges, bytes (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + y / 13), np.cos(x / 11 - y / 17), np.sin((x + y) / 23)]
    return np.rint(127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def by_the_book(image: np.ndarray, recipe: Preprocessing) -> np.ndarray:
    """Resize the shorter side with PIL, cut out the centre, normalise: as papers write it."""
    image = Image.fromarray(image).convert("L" if recipe.channels == 1 else "RGB")
    height, width = recipe.size
    assert height == width
    target, shorter = round(height / recipe.crop), min(image.size)
    full = [target * side // shorter for side in image.size]
    resized = image.resize(
        (target, target) if recipe.resize == "squash" else (full[0], full[1]),
        Image.Resampling[recipe.interpolation.upper()],
    )
    left, top = round((resized.width - width) / 2), round((resized.height - height) / 2)
    cut = np.asarray(resized.crop((left, top, left + width, top + height)), np.float64) / 255
    cut = cut[..., None] if cut.ndim == 2 else cut
    cut = cut[..., ::-1] if recipe.order == "bgr" else cut
    normal = (cut - np.array(recipe.mean)) / np.array(recipe.std)
    return normal.transpose(2, 0, 1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("crop", [1.0, 0.875])
@pytest.mark.parametrize("resize", ["crop", "squash"])
@pytest.mark.parametrize("shape", [(96, 96), (120, 90), (64, 150), (20, 20)])
def test_preparing_is_resizing_and_cutting(
    shape: tuple[int, int], resize: str, crop: float, interpolation: str
) -> None:
    recipe = Preprocessing((28, 28), 3, crop, interpolation, (0, 0, 0), (1, 1, 1), resize)
    ours = prepared([smooth(*shape)], recipe)[0]
    # One call of Pillow instead of two: bytes may differ by the rounding between its passes.
    np.testing.assert_allclose(ours, by_the_book(smooth(*shape), recipe), rtol=0, atol=1.01 / 255)


def test_channels_come_in_the_order_of_the_recipe() -> None:
    recipe = Preprocessing((30, 20), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25), order="bgr")
    image = smooth(30, 20)
    exact = (image[..., ::-1] / 255 - np.array(recipe.mean)) / np.array(recipe.std)
    ours = prepared(image[None], recipe)[0]
    np.testing.assert_allclose(ours, exact.transpose(2, 0, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("given", [1, 3])
def test_no_resize_changes_nothing(channels: int, given: int) -> None:
    mean, std = (0.4, 0.5, 0.6)[:channels], (0.2, 0.3, 0.25)[:channels]
    recipe = Preprocessing((30, 20), channels, 0.8, "bicubic", mean, std)
    image = smooth(30, 20)[..., :given]
    converted = as_image(image).convert("L" if channels == 1 else "RGB")
    exact = np.asarray(converted, np.float64).reshape(30, 20, channels) / 255
    expected = ((exact - mean) / std).transpose(2, 0, 1)
    # float32 has 24 bits; values are below 4.
    np.testing.assert_allclose(prepared([image], recipe)[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [SIZE, 3, 9])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("colours", [(), (1,), (3,)])
def test_an_array_is_prepared_as_its_images_are(
    size: int, channels: int, colours: tuple[int, ...]
) -> None:
    recipe = Preprocessing((size, size), channels, mean=(0.3,) * channels, std=(0.7,) * channels)
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (5, SIZE, SIZE, *colours), np.uint8)
    together = prepared(array, recipe)
    assert (together.dtype, together.flags.c_contiguous) == (np.float32, True)
    assert together.tobytes() == prepared(list(array), recipe).tobytes()
    assert together.tobytes() == prepared([as_image(each) for each in array], recipe).tobytes()
    one_by_one = [prepared(array[i : i + 1], recipe) for i in range(5)]
    assert together.tobytes() == np.concatenate(one_by_one).tobytes()


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 4, 4)), np.zeros((2, 4, 4, 4), np.uint8), np.zeros((2, 4, 4, 2), np.uint8)],
)
def test_arrays_that_are_no_images_are_refused(array: np.ndarray) -> None:
    with pytest.raises(DataError, match="an image must be bytes of shape"):
        prepared(array, RECIPE)


def test_a_image_without_pixels_is_refused_in_one_line() -> None:
    with pytest.raises(DataError, match=r"^an image must be bytes .*, not uint8 \(0, 5\)$"):
        prepared(
            [np.zeros((0, 5), np.uint8)],
            Preprocessing(size=(4, 4), channels=1, mean=(0.0,), std=(1.0,)),
        )


@pytest.mark.parametrize("name", ["model.onnx", "weights.pt", "weights.safetensors"])
def test_no_pipe_is_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ModelError, match="is a pipe"):
        load_model(ModelSpec("one", f"onnx:{tmp_path / name}", RECIPE))
    with pytest.raises(ModelError, match="is a pipe"):
        read_weights("model", tmp_path / name)
    with pytest.raises(ModelError, match="is a pipe"):
        file_fingerprint(tmp_path / name)
    with pytest.raises(OSError, match="no file"):
        ports_of(tmp_path / name)


def test_code_that_would_end_the_process_is_a_failed_model(tmp_path: Path) -> None:
    pool, code = read_pool(tmp_path)
    text = (tmp_path / "models.py").read_text()
    (tmp_path / "models.py").write_text(text + "\n\ndef two():\n    raise SystemExit(0)\n")
    with pytest.raises(ModelError, match="SystemExit"):
        load_model(pool.models[1], code)

    def end(_: Any) -> Any:
        raise SystemExit

    with pytest.raises(ModelError, match=r"'one': failed .*SystemExit"):
        answer_of(_FunctionModel(end, ""), pool.models[0], np.zeros((2, 1, 4, 4), np.float32))
