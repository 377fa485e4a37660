"""A cascade as a torch module: the runner's decisions, on tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from committee import Cascade, Runner, Stage
from committee.arrays import Array
from committee.errors import (
    CommitteeError,
    ExportError,
    ModelError,
    NotFiniteError,
    UntrustedCodeError,
)
from committee.models.inputs import prepared
from committee.rule.calibration import Calibration
from committee.rule.flow import Answers, Decisions, Request, decide, drive
from committee.rule.outputs import Outputs
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing

torch = pytest.importorskip("torch", reason="the module is for torch")
from torch import nn  # noqa: E402  # after the line that skips

from committee.export.torch_module import as_module  # noqa: E402

CLASSES, PIXELS = 10, 48


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, CLASSES), nn.Dropout(0.5))


MODULES = {name: network(seed) for seed, name in enumerate(("b.1", "a", "c+d"))}
NAMES = list(MODULES)


def batch(count: int, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 3, 4, 4))).float()


def expected(cascade: Cascade, inputs: Any) -> Decisions:
    """What the one rule decides on the same models' outputs."""

    def answer(request: Request) -> Answers:
        with torch.no_grad():
            return {
                name: Outputs("logits", MODULES[name].eval()(inputs[request.rows]).numpy())
                for name in request.models
            }

    return drive(decide(cascade, len(inputs)), answer)


def halving(
    confidence: str, combine: str, calibrations: Mapping[str, Calibration] | None = None
) -> Cascade:
    """A cascade in which half of those that reach a stage would leave there."""
    inputs, bounds = batch(500), []
    for count in (1, 2):
        alone = Cascade.ensemble(NAMES[:count], confidence, combine, calibrations)
        bounds.append(float(np.median(expected(alone, inputs).score)))
    return Cascade.of(NAMES, bounds, confidence, combine, calibrations)


SOFTER = Calibration.of_temperature(1.7)
PLATT = Calibration("platt", (0.5, 1.5, 0.8), (-3.0, -1.5))


CASCADES = {
    f"{confidence} of {combine}": halving(confidence, combine)
    for combine in ("mean_logits", "mean_probabilities", "last")
    for confidence in ("max_prob", "logit_gap", "prob_gap", "neg_entropy")
} | {
    "several in a stage": Cascade.of([["c+d", "a"], "b.1"], [0.22]),
    "never": Cascade.of(NAMES, [np.inf, 0.22]),
    "always": Cascade.of(NAMES, [0.25, -np.inf]),
    "ensemble": Cascade.ensemble(NAMES),
    "temperatures of mean_logits": halving("max_prob", "mean_logits", dict.fromkeys(NAMES, SOFTER)),
    "platt of mean_logits": halving("max_prob", "mean_logits", {"b.1": PLATT}),
    "platt of mean_probabilities": halving("prob_gap", "mean_probabilities", {"a": PLATT}),
    "platt of last": halving("logit_gap", "last", {"b.1": PLATT, "c+d": SOFTER}),
}


@pytest.mark.parametrize("kind", CASCADES)
@pytest.mark.parametrize("count", [0, 1, 500])
def test_decides_as_the_one_rule(kind: str, count: int) -> None:
    cascade, inputs = CASCADES[kind], batch(count)
    answer = as_module(cascade, MODULES)(inputs)
    promised = expected(cascade, inputs)
    np.testing.assert_array_equal(answer.predicted.numpy(), promised.predicted)
    np.testing.assert_array_equal(answer.stage.numpy(), promised.stage)
    np.testing.assert_allclose(answer.confidence.numpy(), promised.score, rtol=1e-5, atol=1e-6)
    assert answer.outputs.shape == (count, CLASSES)
    np.testing.assert_array_equal(answer.outputs.numpy().argmax(1), promised.predicted)
    assert answer.confidence.dtype == torch.float64
    if count == 500 and " of " in kind:
        assert min(np.bincount(promised.stage, minlength=3)) >= 25


class Counting(nn.Module):
    """Tells how many samples it was given."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.seen = inner, []  # type: ignore[var-annotated]

    def forward(self, inputs: Any) -> Any:
        self.seen.append(len(inputs))
        return self.inner(inputs)


def test_only_the_undecided_go_on() -> None:
    counting = {name: Counting(module) for name, module in MODULES.items()}
    cascade = CASCADES["max_prob of mean_logits"]
    stages = as_module(cascade, counting)(batch(300)).stage
    seen = [counting[name].seen for name in NAMES]
    assert seen == [[300], [int((stages >= 1).sum())], [int((stages == 2).sum())]]
    sure = as_module(Cascade.of(NAMES, [0.0, 0.0]), counting)
    sure(batch(5))
    assert [len(each.seen) for each in counting.values()] == [2, 1, 1]


def test_the_host_waits_once_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever brings a value to the host makes it wait: nonzero, bool, int, item, a mask."""
    from torch.utils._python_dispatch import TorchDispatchMode

    waits: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):  # type: ignore[no-untyped-def]
            name = function.overloadpacket.__name__
            masks = name == "index" and any(
                each is not None and each.dtype == torch.bool for each in arguments[1]
            )
            if name in ("nonzero", "_local_scalar_dense", "masked_select") or masks:
                waits.append(name)
            return function(*arguments, **(options or {}))

    module = as_module(CASCADES["max_prob of mean_logits"], MODULES)
    with Watch():
        stages = module(batch(300)).stage
    assert int(stages.max()) == 2
    assert len(waits) == 3
    waits.clear()
    early = as_module(Cascade.of(NAMES, [0.0, 0.0]), MODULES)
    with Watch():
        early(batch(300))
    assert len(waits) == 1


def test_stays_in_evaluation_and_has_no_gradients() -> None:
    module = as_module(CASCADES["max_prob of last"], MODULES)
    before = module(batch(50))
    wrapper = nn.Sequential(module).train()
    assert not any(each.training for each in module.modules())
    after = wrapper(batch(50).requires_grad_())
    assert not after.outputs.requires_grad
    assert torch.equal(before.outputs, after.outputs)


def test_moves_and_saves_with_its_models(tmp_path: Path) -> None:
    cascade = CASCADES["max_prob of mean_logits"]
    module = as_module(cascade, {name: network(seed) for seed, name in enumerate(NAMES)})
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    other = as_module(cascade, {name: network(seed + 7) for seed, name in enumerate(NAMES)})
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(module(batch(9)).outputs, other(batch(9)).outputs)
    assert {each.device.type for each in module.to("meta").parameters()} == {"meta"}


def test_nan_is_refused_and_the_sample_named() -> None:
    inputs = batch(20)
    inputs[7] = torch.nan
    for kind in ("max_prob of mean_logits", "max_prob of last", "ensemble"):
        with pytest.raises(NotFiniteError, match="first at sample 7 of 20"):
            as_module(CASCADES[kind], MODULES)(inputs)


def infinite(name: str) -> nn.Module:
    class Infinite(nn.Module):
        def forward(self, inputs: Any) -> Any:
            return torch.full((len(inputs), CLASSES), torch.inf if name == "a" else 1.0)

    return Infinite()


def test_infinity_is_refused_even_where_a_gap_would_hide_it() -> None:
    cascade = Cascade.of(["a", "b"], [0.5], "logit_gap", "last")
    with pytest.raises(NotFiniteError):
        as_module(cascade, {"a": infinite("a"), "b": infinite("b")})(batch(3))


CODE = """
import torch
from torch import nn

def make(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Linear(32, 10))

def one():
    return make(1)

def two():
    return make(2)

def function():
    return lambda batch: batch.reshape(len(batch), -1)[:, :10]
"""


def written(
    folder: Path, names: tuple[str, ...] = ("one", "two"), sides: Any = (12, 12)
) -> Cascade:
    (folder / "code.py").write_text(CODE)
    models = {
        name: ModelSpec(
            name,
            f"python:{folder / 'code.py'}:{name}",
            Preprocessing((side, side), channels=1, mean=(0.5,), std=(0.1,)),
        )
        for name, side in zip(names, sides, strict=True)
    }
    return replace(Cascade.of(list(names), [0.17] * (len(names) - 1)), models=models)


@pytest.mark.parametrize("sides", [(12, 12), (8, 12)])
def test_models_from_files_decide_as_the_runner(tmp_path: Path, sides: Any) -> None:
    cascade = written(tmp_path, sides=sides)
    code = [str(tmp_path / "code.py")]
    images: Array = np.random.default_rng(0).integers(0, 256, (200, 12, 12), np.uint8)
    first = Cascade.of(["one"])
    scores = Runner(replace(first, models=cascade.models), allow_code=code).decide(images).score
    bound = Stage(("one",), float(np.median(scores)))
    cascade = replace(cascade, stages=(bound, *cascade.stages[1:]))
    promised = Runner(cascade, allow_code=code).decide(images, 200)
    assert 0 < promised.stage.sum() < 200
    module = as_module(cascade, allow_code=code)
    inputs = [torch.from_numpy(prepared(images, each)) for each in module.preprocessings]
    assert len(inputs) == len(set(sides))
    answer = module(*inputs)
    np.testing.assert_array_equal(answer.predicted.numpy(), promised.predicted)
    np.testing.assert_array_equal(answer.stage.numpy(), promised.stage)
    with pytest.raises(ModelError, match=f"needs {len(inputs)} tensors"):
        as_module(cascade, allow_code=code)(*inputs, inputs[0])


def pool_of(folder: Path, sources: list[str]) -> Cascade:
    """Random networks, small enough for a test, as stages of a cascade."""
    from committee.models.pool_file import read_pool_file

    entries = [
        f'[[model]]\nname = "m{seed}"\nsource = "{source}"\nweights = "random"\nseed = {seed}\n'
        for seed, source in enumerate(sources)
    ]
    (folder / "pool.toml").write_text("\n".join(entries))
    specs = {spec.name: spec for spec in read_pool_file(folder / "pool.toml").models}
    cascade = Cascade.of(list(specs), [0.5] * (len(specs) - 1))
    return replace(cascade, models=specs)


def vit(folder: Path) -> None:
    """A small transformer of transformers, as a folder."""
    transformers = pytest.importorskip("transformers", reason="the extra is not installed")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=48, patch_size=8, num_labels=12,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(folder / "vit")
    processor = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "do_rescale": True,
        "do_normalize": True, "resample": 2, "size": {"height": 48, "width": 48},
        "rescale_factor": 1 / 255, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7],
    }  # fmt: skip
    (folder / "vit" / "preprocessor_config.json").write_text(json.dumps(processor))


@pytest.mark.parametrize(
    "sources",
    [
        ["timm:test_resnet@64", "timm:test_efficientnet@64"],
        ["timm:test_resnet@48", "timm:test_resnet@64"],
        ["torchvision:shufflenet_v2_x0_5@64", "torchvision:mobilenet_v3_small@64"],
        ["transformers:vit@48", "transformers:vit@48"],
    ],
)
def test_modules_of_every_source_decide_as_the_runner(tmp_path: Path, sources: list[str]) -> None:
    scheme = sources[0].partition(":")[0]
    pytest.importorskip(scheme, reason=f"the extra {scheme} is not installed")
    if scheme == "transformers":
        vit(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8)
    images[::2] //= 4  # dark ones, so that scores differ
    cascade = pool_of(tmp_path, sources)
    first = replace(Cascade.of(["m0"]), models=cascade.models)
    scores = np.sort(Runner(first).decide(images).score)
    bound = Stage(("m0",), float(scores[19:21].mean()))
    cascade = replace(cascade, stages=(bound, *cascade.stages[1:]))
    promised = Runner(cascade).decide(images, 40)
    assert promised.stage.sum() == 20
    module = as_module(cascade)
    answer = module(*(torch.from_numpy(prepared(images, each)) for each in module.preprocessings))
    np.testing.assert_array_equal(answer.predicted.numpy(), promised.predicted)
    np.testing.assert_array_equal(answer.stage.numpy(), promised.stage)
    np.testing.assert_allclose(answer.confidence.numpy(), promised.score, rtol=1e-4)


def test_refusals_are_one_line(tmp_path: Path) -> None:
    files, code = written(tmp_path), [str(tmp_path / "code.py")]
    graph = {**files.models, "one": replace(files.models["one"], source="onnx:/no/such.onnx")}
    engine = {**files.models, "one": replace(files.models["one"], engine="onnxruntime")}
    probable = {**files.models, "one": replace(files.models["one"], kind="probabilities")}
    cases: tuple[tuple[Cascade, Any, Any, type[CommitteeError], str], ...] = (
        (files, None, (), UntrustedCodeError, "--allow-code"),
        (Cascade.of(NAMES[:2], [0.5]), None, (), ExportError, "does not say how to load b.1, a;"),
        (replace(files, models=graph), None, code, ExportError, "is no torch module"),
        (replace(files, models=engine), None, code, ExportError, "was chosen on onnxruntime"),
        (replace(files, models=probable), None, code, ExportError, "mean_logits cannot use"),
        (written(tmp_path, ("function",), (12,)), None, code, ExportError, "is no torch module"),
        (Cascade.of(["a"]), MODULES, (), CommitteeError, "no model"),
        (replace(Cascade.of(["a"]), confidence="own"), {"a": MODULES["a"]}, (), ExportError, "own"),
    )
    for cascade, modules, allowed, kind, told in cases:
        with pytest.raises(kind, match=told) as caught:
            as_module(cascade, modules, allow_code=allowed)
        assert "\n" not in str(caught.value)
