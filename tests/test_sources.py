"""Sources of models: each keeps the contract and answers as its library does when called itself."""

from __future__ import annotations

import builtins
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import committee as cm
from committee.data.arrays import ArrayDataset
from committee.embedded import pool_file
from committee.errors import CommitteeError, MissingExtraError, ModelError, PoolFileError
from committee.models.base import Source, outputs_of
from committee.models.inputs import prepared
from committee.models.load import load_model, source_of
from committee.models.pool_file import read_pool_file
from committee.models.sources.torchvision import import_torchvision
from committee.models.sources.transformers import _labels_of, _recipe_of
from committee.pool.samples import Samples
from committee.predict import predict
from committee.rule.scores import max_prob
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing
from committee.testing import check_source
from small_world import read_pool

torch = pytest.importorskip("torch", reason="these sources are torch modules")
timm = pytest.importorskip("timm", reason="the extra timm is not installed")
torchvision = pytest.importorskip("torchvision", reason="the extra torchvision is not installed")
transformers = pytest.importorskip("transformers", reason="the extra transformers is not installed")


def one_model(folder: Path, lines: str) -> ModelSpec:
    path = folder / "pool.toml"
    path.write_text(f'[[model]]\nname = "a"\n{lines}\n')
    return read_pool_file(path).models[0]


def randomly(folder: Path, source: str, seed: int = 0) -> ModelSpec:
    return one_model(folder, f'source = "{source}"\nweights = "random"\nseed = {seed}')


def photograph(height: int = 90, width: int = 120) -> Image.Image:
    """An image with smooth and sharp parts."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 9 + y / 13), np.cos(x / 11), np.sin((x + y) / 23)], axis=-1)
    values = 127.5 + 120 * waves
    values[20:40, 30:60] = (250, 5, 120)
    return Image.fromarray(np.rint(values).astype(np.uint8))


def levels_apart(recipe: Preprocessing, expected: Any) -> tuple[float, float]:
    """How far the input is from the library's own: at most, and on average, in levels of 255."""
    std = np.array(recipe.std)[:, None, None]
    apart = np.abs(prepared([photograph()], recipe)[0] - np.asarray(expected)) * std * 255
    return float(apart.max()), float(apart.mean())


def vit_config(**changed: Any) -> Any:
    options: dict[str, Any] = {
        "image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 64, "num_labels": 7,
    }  # fmt: skip
    return transformers.ViTConfig(**{**options, **changed})


VIT_PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True, "do_rescale": True, "do_normalize": True, "resample": 2,
    "size": {"height": 32, "width": 32}, "rescale_factor": 1 / 255,
    "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7],
}  # fmt: skip


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers saves it: a small vision transformer with weights from a seed."""
    folder = tmp_path_factory.mktemp("transformers") / "vit"
    torch.manual_seed(1)
    transformers.ViTForImageClassification(vit_config()).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(VIT_PROCESSOR))
    return folder


RANDOM = ["timm:test_resnet@64", "timm:test_vit@96", "torchvision:squeezenet1_1@64"]


@pytest.mark.parametrize("source", RANDOM)
def test_a_source_keeps_the_contract(tmp_path: Path, source: str) -> None:
    check_source(randomly(tmp_path, source))


def test_transformers_keeps_the_contract(vit: Path) -> None:
    check_source(randomly(vit.parent, "transformers:vit"))
    check_source(one_model(vit.parent, 'source = "transformers:vit@48"'))


def test_onnx_and_python_keep_the_contract(tmp_path: Path) -> None:
    check_source(pool_file().models[0])
    pool, code = read_pool(tmp_path)
    check_source(pool.models[0], code)


class Broken(Source):
    """A source that breaks the contract in one way."""

    form = "broken:NAME"
    code = ""

    def located(self, text: str, folder: Path) -> str:
        if not text and self.code != "located":
            raise ValueError
        return text

    def published(self, text: str, size: tuple[int, int] | None) -> Mapping[str, Any]:
        return {"crops": 1} if self.code == "published" else {}

    def load(self, spec: ModelSpec, threads: int, allow_code: Any) -> Any:
        return BrokenModel(self.code)


class BrokenModel:
    macs = parameters = None
    fingerprint = "0123456789abcdef"

    def __init__(self, code: str) -> None:
        self.code, self.calls = code, 0
        if code == "fingerprint":
            self.fingerprint = "01"

    def __call__(self, batch: Any) -> Any:
        self.calls += 1
        values = batch.mean(axis=(2, 3))
        if self.code == "pure":
            values += self.calls
        if self.code == "batch":
            values += batch.mean()
        if self.code == "inputs":
            batch += 1
        return values


class Plugin(Broken):
    pass


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A package that adds the scheme ``broken``."""
    info = folder / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[committee.sources]\nbroken = {value}\n")
    monkeypatch.syspath_prepend(folder)


def test_a_plugin_that_cannot_be_imported_gets_a_line_and_disturbs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "no_such_module:Source")
    with pytest.raises(PoolFileError, match=r"no_such_module:Source, which adds it, cannot be lo"):
        one_model(tmp_path, 'source = "broken:x@8"')
    with pytest.raises(PoolFileError, match=r"must be one of onnx:PATH, .*, broken:NAME"):
        one_model(tmp_path, 'source = "brocken:x@8"')
    assert one_model(tmp_path, 'source = "onnx:x.onnx@8"').preprocessing.size == (8, 8)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("", None),
        ("located", "refuses an empty text"),
        ("published", "fields of Preprocessing only"),
        ("fingerprint", "sixteen"),
        ("pure", "the same input gives the same outputs"),
        ("batch", "do not depend on their batch"),
        ("inputs", "inputs are left as they are"),
    ],
)
def test_a_plugin_is_found_and_a_broken_one_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, told: str | None
) -> None:
    install(tmp_path, monkeypatch, "test_sources:Plugin")
    monkeypatch.setattr(sys.modules["test_sources"].Plugin, "code", code)
    spec = ModelSpec("a", "broken:x", Preprocessing((8, 8)))
    if told is None:
        assert one_model(tmp_path, 'source = "broken:x@8"') == spec
        check_source(spec)
        return
    with pytest.raises(AssertionError, match=told):
        check_source(spec)


# Each library's own preprocessing of an image, to the rounding of a resize in one call.


@pytest.mark.parametrize(
    "name", ["test_resnet", "efficientnet_b3", "tf_efficientnet_b7", "vit_base_patch16_384"]
)
def test_timm_feeds_as_timm_does(tmp_path: Path, name: str) -> None:
    recipe = randomly(tmp_path, f"timm:{name}").preprocessing
    config = timm.get_pretrained_cfg(name).to_dict()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(config))
    largest, mean = levels_apart(recipe, transform(photograph()))
    assert largest < 2.01
    assert mean < 0.05


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b1", "vit_b_16:IMAGENET1K_SWAG_E2E_V1"])
def test_torchvision_feeds_as_torchvision_does(tmp_path: Path, name: str) -> None:
    recipe = randomly(tmp_path, f"torchvision:{name}").preprocessing
    model, _, weights = name.partition(":")
    enum = torchvision.models.get_model_weights(model)
    transform = (enum[weights] if weights else enum.DEFAULT).transforms()
    largest, mean = levels_apart(recipe, transform(photograph()))
    assert largest < 2.01
    assert mean < 0.05


MEAN = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7]}
PROCESSORS = {
    "ViTImageProcessor": {"size": {"height": 32, "width": 32}, "resample": 2},
    "MobileNetV2ImageProcessor": {
        "size": {"shortest_edge": 40}, "do_center_crop": True, "resample": 2,
        "crop_size": {"height": 32, "width": 32},
    },
    "EfficientNetImageProcessor": {
        "size": {"height": 40, "width": 40}, "do_center_crop": True, "resample": 0,
        "crop_size": {"height": 32, "width": 32}, "include_top": True, "rescale_offset": False,
    },
    "ConvNextImageProcessor": {"size": {"shortest_edge": 32}, "crop_pct": 0.8, "resample": 3},
    "BitImageProcessor": {
        "size": {"shortest_edge": 40}, "do_center_crop": True, "resample": 3,
        "crop_size": {"height": 32, "width": 32},
    },
    "MobileViTImageProcessor": {
        "size": {"shortest_edge": 40}, "do_center_crop": True, "resample": 2,
        "crop_size": {"height": 32, "width": 32}, "do_flip_channel_order": True,
        "do_normalize": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", PROCESSORS)
def test_transformers_feeds_as_transformers_does(kind: str) -> None:
    known = {**PROCESSORS[kind], **MEAN}
    # Before transformers 5 the one that works on Pillow's images had no ending.
    processor = getattr(transformers, kind + "Pil", getattr(transformers, kind))(**known)
    expected = processor(photograph(), return_tensors="np")["pixel_values"][0]
    recipe = Preprocessing.from_json(_recipe_of("here", {"image_processor_type": kind, **known}))
    assert recipe.size == (32, 32)
    largest, mean = levels_apart(recipe, expected)
    assert largest < 2.01
    assert mean < 0.05


def test_a_processor_that_cannot_be_followed_is_told() -> None:
    wrong = {
        "resamples by method 5": {**VIT_PROCESSOR, "resample": 5},
        "states no image_mean": {**VIT_PROCESSOR, "image_mean": None},
        "is a LevitImageProcessor": {
            **VIT_PROCESSOR,
            "image_processor_type": "LevitImageProcessor",
        },
    }
    for line, known in wrong.items():
        given = {key: value for key, value in known.items() if value is not None}
        with pytest.raises(PoolFileError, match=f"here: its image processor {line}"):
            _recipe_of("here", given)


WRONG_KEYS = {
    "do_pad": True,
    "size_divisor": 32,
    "do_thumbnail": True,
    "apply_ocr": True,
    "crop_pct": 0.9,
    "size": {"shortest_edge": 32, "longest_edge": 64},
    "auto_map": {"AutoImageProcessor": "own.Processor"},
    "data_format": "channels_last",
}


@pytest.mark.parametrize("key", WRONG_KEYS)
def test_a_key_that_is_not_followed_is_refused_by_name(key: str) -> None:
    word = {"size": "longest_edge", "auto_map": "is code, which is not run"}.get(key, key)
    with pytest.raises(PoolFileError, match=f"here: its image processor .*{word}") as told:
        _recipe_of("here", {**VIT_PROCESSOR, key: WRONG_KEYS[key]})
    assert "\n" not in str(told.value)
    # What is null or false asks for nothing.
    nothing = None if key in ("crop_pct", "auto_map", "size_divisor") else False
    if key != "size":
        assert _recipe_of("here", {**VIT_PROCESSOR, key: nothing}) == _recipe_of(
            "here", VIT_PROCESSOR
        )


def test_one_number_serves_all_channels_and_sizes_may_be_lists() -> None:
    plain = {**VIT_PROCESSOR, "image_mean": 0.5, "image_std": 0.25, "size": [32, 48]}
    recipe = Preprocessing.from_json(_recipe_of("here", plain))
    assert (recipe.mean, recipe.std, recipe.size) == ((0.5,) * 3, (0.25,) * 3, (32, 48))
    grey = Preprocessing.from_json({"size": [4, 4], "channels": 1})
    assert (len(grey.mean), len(grey.std)) == (1, 1)
    one = Preprocessing.from_json({"size": [4, 4], "mean": 0.5, "std": 0.5})
    assert (one.mean, one.std) == ((0.5,) * 3, (0.5,) * 3)


def labelled(folder: Path, name: str, labels: list[str]) -> np.ndarray:
    """What a classifier answers that is now in a folder, its classes in an order of its own."""
    torch.manual_seed(len(labels[0]))
    config = vit_config(num_labels=len(labels), id2label=dict(enumerate(labels)))
    model = transformers.ViTForImageClassification(config)
    model.save_pretrained(folder / name)
    (folder / name / "preprocessor_config.json").write_text(json.dumps(VIT_PROCESSOR))
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(inputs(32))).logits.numpy()
    return np.asarray(logits)


def test_outputs_come_in_the_order_of_the_classes(tmp_path: Path) -> None:
    own = labelled(tmp_path, "m", ["blue", "red", "green"])
    path, batch = tmp_path / "pool.toml", inputs(32)
    entry = '[[model]]\nname = "m"\nsource = "transformers:m"\n'
    for classes, order in ((["red", "green", "blue"], [1, 2, 0]), (["blue", "red", "green"], None)):
        path.write_text(f"classes = {json.dumps(classes)}\n{entry}")
        [spec] = read_pool_file(path).models
        close(answers(spec, batch), own[:, order] if order else own)
        assert ModelSpec.from_json("m", spec.to_json(), "here") == spec
    # The file names none: they are the model's.
    path.write_text(entry)
    assert read_pool_file(path).classes == ("blue", "red", "green")
    path.write_text(f'classes = ["red", "green", "Blue"]\n{entry}')
    with pytest.raises(PoolFileError, match=r"(?s)'m'.*'blue'.*id2label = false"):
        read_pool_file(path)
    path.write_text(f'classes = ["red", "green", "Blue"]\n{entry}id2label = false\n')
    assert read_pool_file(path).models[0].columns == ()


def test_an_export_keeps_the_order_of_the_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript", reason="torch exports with onnxscript")
    monkeypatch.setenv("COMMITTEE_CACHE", str(tmp_path / "cache"))
    own = labelled(tmp_path, "m", ["blue", "red", "green"])
    path, batch = tmp_path / "pool.toml", inputs(32)
    path.write_text(
        'classes = ["red", "green", "blue"]\n[[model]]\nname = "m"\n'
        'source = "transformers:m"\nengine = "onnxruntime"\n'
    )
    values = answers(read_pool_file(path).models[0], batch)
    np.testing.assert_allclose(values, own[:, [1, 2, 0]], rtol=0, atol=1e-4)


def test_ids_that_are_only_numbered_name_no_classes() -> None:
    assert _labels_of("here", {"0": "LABEL_0", "1": "LABEL_1"}) == ()
    assert _labels_of("here", {1: "b", 0: "a"}) == ("a", "b")
    for wrong in ({"0": "a", "2": "b"}, {"x": "a"}, ["a"], 3):
        with pytest.raises(PoolFileError, match="here: id2label"):
            _labels_of("here", wrong)


def test_code_that_a_folder_carries_never_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    auto = {"AutoConfig": "own.Own", "AutoModelForImageClassification": "own.Own"}
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": auto}))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (folder / "preprocessor_config.json").write_text(json.dumps(VIT_PROCESSOR))
    # Whoever is asked says yes.
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    for weights in ("", 'weights = "random"'):
        spec = one_model(tmp_path, f'source = "transformers:hub"\n{weights}')
        with pytest.raises(ModelError, match=r"'a': .* made by code of its own, which is never"):
            load_model(spec)
    assert not (tmp_path / "ran").exists()


def test_numbers_of_old_configurations_mean_what_they_meant() -> None:
    plain = {"do_normalize": False, "resample": 2}
    squashed = _recipe_of("here", {"size": 224, **plain})
    assert (squashed["size"], squashed["resize"]) == ((224, 224), "squash")
    cut = _recipe_of("here", {"size": 256, "crop_size": 224, "do_center_crop": True, **plain})
    assert (cut["size"], cut["crop"], "resize" in cut) == ((224, 224), 224 / 256, False)
    next_ = _recipe_of(
        "here", {"size": 384, "image_processor_type": "ConvNextImageProcessor", **plain}
    )
    assert (next_["size"], next_["resize"]) == ((384, 384), "squash")


def test_the_pool_file_overrides_what_is_published(tmp_path: Path) -> None:
    lines = 'source = "timm:test_resnet"\nweights = "random"\npreprocessing.crop = 1.0'
    changed = one_model(tmp_path, lines).preprocessing
    plain = randomly(tmp_path, "timm:test_resnet").preprocessing
    assert (plain.size, changed.size, changed.crop) == ((160, 160), (160, 160), 1.0)
    assert plain.crop != 1.0
    assert changed.mean == plain.mean


def test_resolution_may_follow_the_source(tmp_path: Path) -> None:
    at = randomly(tmp_path, "timm:test_resnet@64x96")
    assert (at.source, at.preprocessing.size) == ("timm:test_resnet", (64, 96))
    wide, known = load_model(at)
    assert outputs_of(wide, known, np.zeros((1, 3, 64, 96), np.float32)).values.shape == (1, 1000)


# Outputs are those of the library, called by hand.


def answers(spec: ModelSpec, batch: np.ndarray) -> np.ndarray:
    model, known = load_model(spec)
    return outputs_of(model, known, batch).values


def inputs(size: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, size, size)).astype(np.float32)


def by_hand(module: Any, batch: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        values: np.ndarray = module.eval()(torch.from_numpy(batch)).numpy()
    return values


def save(path: Path, state: Mapping[str, Any]) -> Path:
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(dict(state), path)
    else:
        torch.save(dict(state), path)
    return path


def with_weights(folder: Path, source: str, weights: Path) -> ModelSpec:
    return one_model(folder, f'source = "{source}"\nweights = "{weights.name}"')


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    # Channels last adds in another order.
    scale = max(1.0, float(np.abs(theirs).max()))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * scale)


def test_timm_answers_as_timm_does(tmp_path: Path) -> None:
    torch.manual_seed(5)
    module = timm.create_model("test_resnet", num_classes=7)
    path = save(tmp_path / "w.safetensors", module.state_dict())
    ours = answers(with_weights(tmp_path, "timm:test_resnet@64", path), inputs(64))
    assert ours.shape == (2, 7)
    close(ours, by_hand(module, inputs(64)))


def test_a_transformer_of_timm_has_its_positions_interpolated_as_timm_does(tmp_path: Path) -> None:
    torch.manual_seed(5)
    state = timm.create_model("test_vit").state_dict()
    path = save(tmp_path / "w.pth", {"state_dict": {f"module.{k}": v for k, v in state.items()}})
    other = timm.create_model(
        "test_vit", pretrained=True, img_size=96, pretrained_cfg_overlay={"state_dict": state}
    )
    ours = answers(with_weights(tmp_path, "timm:test_vit@96", path), inputs(96))
    close(ours, by_hand(other, inputs(96)))


def test_torchvision_answers_as_torchvision_does(tmp_path: Path) -> None:
    torch.manual_seed(5)
    module = torchvision.models.mobilenet_v3_small(num_classes=7)
    path = save(tmp_path / "w.pth", module.state_dict())
    ours = answers(with_weights(tmp_path, "torchvision:mobilenet_v3_small@64", path), inputs(64))
    close(ours, by_hand(module, inputs(64)))


def test_transformers_answers_as_transformers_does(vit: Path) -> None:
    module = transformers.ViTForImageClassification.from_pretrained(vit).eval()
    for size in (32, 48):
        with torch.inference_mode():
            options = {} if size == 32 else {"interpolate_pos_encoding": True}
            theirs = module(torch.from_numpy(inputs(size)), **options).logits.numpy()
        ours = answers(one_model(vit.parent, f'source = "transformers:vit@{size}"'), inputs(size))
        close(ours, theirs)


def test_weights_from_a_seed_are_the_librarys_and_leave_the_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    module = timm.create_model("test_resnet")
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    close(answers(randomly(tmp_path, "timm:test_resnet@64", 3), inputs(64)),
          by_hand(module, inputs(64)))  # fmt: skip
    assert torch.equal(torch.rand(3), expected)


def test_the_fingerprint_covers_weights_and_source(tmp_path: Path) -> None:
    prints = {
        load_model(randomly(tmp_path, source, seed))[1].fingerprint
        for source, seed in [
            ("timm:test_resnet@64", 0),
            ("timm:test_resnet@64", 1),
            ("timm:test_efficientnet@64", 0),
            ("torchvision:squeezenet1_1@64", 0),
        ]
    }
    assert len(prints) == 4


SELF_CASCADE = """
[[model]]
name = "at64"
source = "timm:test_resnet@64"
weights = "random"
[[model]]
name = "at96"
source = "timm:test_resnet@96"
weights = "random"
family = "test_resnet"
"""


def test_one_set_of_weights_at_two_sizes_is_a_self_cascade_that_runs(tmp_path: Path) -> None:
    (tmp_path / "pool.toml").write_text(SELF_CASCADE)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 50, 70, 3), np.uint8)
    data = ArrayDataset(images, Samples.of(rng.integers(0, 1000, 40), split="val"))
    pool = cm.Pool.load(predict(read_pool_file(tmp_path / "pool.toml"), data, tmp_path / "store"))
    assert pool.specs["at64"].fingerprint == pool.specs["at96"].fingerprint
    assert pool.specs["at96"].family == "test_resnet"
    macs = pool.costs.values("macs")
    assert 1.5 < macs["at96"] / macs["at64"] < 3
    scores = max_prob(pool.model("at64").values)
    plain = cm.Cascade.of(["at64", "at96"], [float(np.median(scores))])
    models = {name: pool.specs[name] for name in pool.names}
    cm.Cascade(plain.stages, models=models).save(tmp_path / "cascade.json")
    decisions = cm.Runner(tmp_path / "cascade.json").decide(images)
    promised = cm.evaluate(plain, pool)
    assert 0 < promised.exit_ratios[0] < 1
    ratios = [float((decisions.stage == stage).mean()) for stage in (0, 1)]
    # Survivors run in other batches than stored: one on the threshold may move.
    np.testing.assert_allclose(ratios, promised.exit_ratios, atol=1 / 40)


# What is wrong gets one line.


def refused(folder: Path, lines: str) -> str:
    with pytest.raises(CommitteeError) as told:
        load_model(one_model(folder, lines))
    assert "\n" not in str(told.value)
    return str(told.value)


WRONG = {
    "timm:resnet5000": "no model 'resnet5000'. Did you mean",
    "timm:resnet50.a1_in2k": "timm:resnet50: no weights 'a1_in2k'. Did you mean 'a1_in1k'",
    "torchvision:resnet500": "no classifier of images, clips or pixels 'resnet500'. Did you mean",
    "torchvision:fasterrcnn_resnet50_fpn": "no classifier of images",
    "torchvision:resnet50:V9": "torchvision:resnet50: no weights 'V9'. ",
    "transformers:./nowhere": "must be transformers:NAME-OR-FOLDER (there is no folder",
    "timm:": "must be timm:NAME",
    "timm:test_vit@97": "does not take inputs of 3 x 97 x 97",
    "timm:mixer_s32_224@96": "@R out",
    "torchvision:vit_b_32@97": "not take",
}


@pytest.mark.parametrize("source", WRONG)
def test_wrong_names_and_sizes_get_a_line(tmp_path: Path, source: str) -> None:
    weights = "" if "nowhere" in source else 'weights = "random"'
    assert WRONG[source] in refused(tmp_path, f'source = "{source}"\n{weights}')


def test_a_configuration_that_makes_no_classifier_gets_a_line(tmp_path: Path) -> None:
    transformers.BertConfig().save_pretrained(tmp_path / "bert")
    processor = tmp_path / "bert" / "preprocessor_config.json"
    processor.write_text(json.dumps(VIT_PROCESSOR))
    told = refused(tmp_path, 'source = "transformers:bert"\nweights = "random"')
    assert "makes no image classifier (ValueError: Unrecognized configuration class" in told
    processor.write_text("[")
    assert "cannot be loaded" in refused(tmp_path, 'source = "transformers:bert"')


def test_old_files_without_counters_of_batches_fit(tmp_path: Path) -> None:
    module = torchvision.models.mnasnet0_5(num_classes=7)
    state = module.state_dict()
    for name in [name for name in state if name.endswith("num_batches_tracked")]:
        del state[name]
    torch.save(state, tmp_path / "w.pth")
    ours = answers(
        with_weights(tmp_path, "torchvision:mnasnet0_5@64", tmp_path / "w.pth"), inputs(64)
    )
    close(ours, by_hand(module, inputs(64)))
    # Without the versions that torch keeps beside them, this network takes no weights at all.
    save(tmp_path / "w.safetensors", state)
    lines = 'source = "torchvision:mnasnet0_5@64"\nweights = "w.safetensors"'
    assert "do not fit the model" in refused(tmp_path, lines)


@pytest.mark.parametrize("name", ["regnet_y_400mf", "swin_t", "densenet121", "googlenet"])
def test_weights_of_other_classes_fit_torchvision(tmp_path: Path, name: str) -> None:
    options = {"init_weights": False, "aux_logits": True} if name == "googlenet" else {}
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, num_classes=7, **options)
    path = save(tmp_path / "w.safetensors", module.state_dict())
    ours = answers(with_weights(tmp_path, f"torchvision:{name}@64", path), inputs(64))
    if name == "googlenet":
        module.transform_input = True  # as torchvision makes it for published weights
    close(ours, by_hand(module, inputs(64)))


def test_a_name_that_its_library_has_lost_is_told_with_the_model(tmp_path: Path) -> None:
    spec = replace(randomly(tmp_path, "timm:test_resnet@64"), source="timm:test_resnett")
    with pytest.raises(ModelError, match=r"'a': timm: no model 'test_resnett'. Did you mean"):
        load_model(spec)


class Dangerous:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


def test_weights_that_do_not_fit_or_would_run_code_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = timm.create_model("test_resnet").state_dict()
    first = next(iter(state))
    save(tmp_path / "less.safetensors", {k: v for k, v in state.items() if k != first})
    save(tmp_path / "shape.pth", {**state, first: torch.zeros(1)})
    torch.save({"w": Dangerous()}, tmp_path / "code.pth")
    torch.save({"w": 3}, tmp_path / "number.pth")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    wrong = {
        "less.safetensors": f"do not fit the model: 1 missing, first '{first}'",
        "shape.pth": f"1 of another shape, first '{first}'",
        "code.pth": "cannot be read as weights (UnpicklingError",
        "number.pth": "cannot be read as weights (TypeError: no mapping of names to tensors)",
        "junk.safetensors": "cannot be read as weights",
        "gone.pth": "no file of weights",
    }
    for file, line in wrong.items():
        told = refused(tmp_path, f'source = "timm:test_resnet@64"\nweights = "{file}"')
        assert line in told
        assert "'a'" in told
    assert not (tmp_path / "ran").exists()


def test_weights_fill_a_module_of_the_users_code(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("import torch\ndef make():\n    return torch.nn.Sequential("
                                   "torch.nn.Flatten(), torch.nn.Linear(12, 2))\n")  # fmt: skip
    weights = {"1.weight": torch.ones(2, 12), "1.bias": torch.tensor([1.0, 2.0])}
    save(tmp_path / "w.safetensors", weights)
    lines = 'source = "python:m.py:make@2"\nweights = "w.safetensors"'
    model, known = load_model(one_model(tmp_path, lines), [str(tmp_path / "m.py")])
    values = outputs_of(model, known, np.ones((1, 3, 2, 2), np.float32)).values
    assert values.tolist() == [[13.0, 14.0]]


# Hubs.


OFFLINE = """
import shutil, sys
sys.path.insert(0, {tests!r})
import conftest
from committee.models.load import load_model; from committee.models.pool_file import read_pool_file
for name in sys.argv[1:]:
    if name == "fill the caches":
        shutil.copytree("filled", ".", dirs_exist_ok=True)
        continue
    open("pool.toml", "w").write('[[model]]\\nname = "a"\\nsource = "' + name + '"\\n')
    try:
        print(load_model(read_pool_file("pool.toml").models[0])[1].fingerprint)
    except Exception as error:
        print(type(error).__name__, error)
"""


def in_a_process_of_its_own(folder: Path, *sources: str, **environment: str) -> list[str]:
    """One line a source: its fingerprint, or the error."""
    # Libraries read once where their caches are.
    code = OFFLINE.format(tests=str(Path(__file__).parent))
    known = {"PATH": "", "PYTHONPATH": ":".join(sys.path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *sources],
        cwd=folder, env={**known, **environment}, capture_output=True, text=True, check=True,
        timeout=120,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_without_hub_and_cache_there_is_a_line_and_with_a_cache_there_is_the_model(
    tmp_path: Path, vit: Path
) -> None:
    caches = {"HF_HOME": str(tmp_path / "hf"), "TORCH_HOME": str(tmp_path / "torch")}
    home, torch_home = tmp_path / "filled" / "hf", tmp_path / "filled" / "torch"
    names = ["timm:test_resnet", "transformers:someone/vit", "torchvision:densenet121"]
    # The hub of torchvision cannot be named otherwise; where there is a network it would answer.
    without = [*names[:2], "timm:mobilenetv2_075"]
    torch.manual_seed(0)
    folder = home / "hub" / "models--timm--test_resnet.r160_in1k"
    save_cached(folder, {"model.safetensors": timm.create_model("test_resnet").state_dict()})
    whole = {path.name: path.read_bytes() for path in vit.iterdir()}
    save_cached(home / "hub" / "models--someone--vit", whole)
    checkpoints = torch_home / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    url = torchvision.models.DenseNet121_Weights.DEFAULT.url
    torch.manual_seed(0)
    state = torchvision.models.densenet121().state_dict()
    # As they are published: norm.1 for norm1.
    old = {re.sub(r"(denselayer\d+\.[a-z]+)([12]\.)", r"\1.\2", k): v for k, v in state.items()}
    assert set(old) != set(state)
    save(checkpoints / Path(url).name, old)
    words = (*without, "fill the caches", *names)
    lines = in_a_process_of_its_own(tmp_path, *words, **caches)
    for line in lines[:3]:
        assert "'a'" in line
        assert 'weights = "FILE.safetensors"' in line
    local = load_model(one_model(vit.parent, 'source = "transformers:vit"'))[1].fingerprint
    drawn = [
        load_model(randomly(tmp_path, source))[1].fingerprint for source in (names[0], names[2])
    ]
    assert lines[3:] == [drawn[0], local, drawn[1]]


def save_cached(folder: Path, files: Mapping[str, Any]) -> None:
    """Files as huggingface_hub keeps what it loaded."""
    snapshot = folder / "snapshots" / "0123456789"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123456789")
    for name, content in files.items():
        if isinstance(content, bytes):
            (snapshot / name).write_bytes(content)
        else:
            save(snapshot / name, content)


def test_a_torchvision_of_another_build_gets_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    own = builtins.__import__

    def broken(name: str, *rest: Any) -> Any:
        if name == "torchvision":
            raise RuntimeError("operator nms does not exist")
        return own(name, *rest)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(ModelError) as caught:
        import_torchvision("timm:x")
    assert f"does not match torch {torch.__version__}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_library_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timm", "torchvision", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError, match=rf'pip install .*"{name}>='):
            source_of(f"{name}:x").published("x", None)
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("sources", "count"),
    [
        (["timm:resnet18.a1_in1k", "torchvision:resnet18"], 1000),
        (["torchvision:r3d_18"], 400),
        (["timm:convnext_tiny.in12k"], 0),
        (["torchvision:fcn_resnet50"], 0),
    ],
)
def test_published_weights_know_their_classes(
    tmp_path: Path, sources: list[str], count: int
) -> None:
    task = "video" if count == 400 else "image"
    task = "semantic-segmentation" if "fcn" in sources[0] else f"{task}-classification"
    size = "resolution = 224\n" if task == "semantic-segmentation" else ""
    lines = [f'[[model]]\nname = "{i}"\nsource = "{s}"\n{size}' for i, s in enumerate(sources)]
    path = tmp_path / "pool.toml"
    path.write_text(f'task = "{task}"\n' + "".join(lines))
    assert len(read_pool_file(path).classes) == count
    # Other weights may be of other classes; and what the file names counts.
    path.write_text(f'task = "{task}"\n' + "".join(f'{each}weights = "random"\n' for each in lines))
    assert read_pool_file(path).classes == ()
    path.write_text(f'classes = ["a", "b"]\ntask = "{task}"\n' + "".join(lines))
    assert read_pool_file(path).classes == ("a", "b")
