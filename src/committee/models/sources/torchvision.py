"""``torchvision:NAME`` and ``torchvision:NAME:WEIGHTS``: torchvision's classifiers.

Of images, of clips: those of its ``video`` module, and of pixels: its segmentation models.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from committee.errors import MissingExtraError, ModelError, UnknownNameError
from committee.models.base import RANDOM, Model
from committee.models.engines.exported import model_of
from committee.models.engines.weights import drawn, fill, read_weights
from committee.models.sources.by_name import ByName, check_registered
from committee.models.sources.hub import check_reachable
from committee.spec.model import ModelSpec

if TYPE_CHECKING:
    import torch

# What torchvision calls the last layers of its classifiers.
_HEAD = re.compile(r"(fc|classifier|head|heads)(\.head|\.\d+)?\.weight")

# How its video models were tested, which is told in words beside the weights.
_TESTED = re.compile(r"`(frame_rate|clips_per_video|clip_len)=([\d.]+)`")

# DenseNets are published with names of before a dot had a meaning in them.
_DENSE = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)")


class TorchvisionSource(ByName):
    """Classifiers and segmentation models, with torchvision's weights or with others."""

    form = "torchvision:NAME"

    def published(self, text: str, size: tuple[int, int] | None) -> Mapping[str, Any]:
        """What torchvision states beside the weights; the crop's share is kept at other sizes.

        Segmentation models take images as they are: no size is stated.
        """
        name, weights = _chosen(text)
        recipe = weights.transforms()
        if name in _segmentation():
            return {"mean": tuple(recipe.mean), "std": tuple(recipe.std)}
        cropped, resized = recipe.crop_size[0], recipe.resize_size[0]
        shared = {
            "interpolation": recipe.interpolation.value,
            "mean": tuple(recipe.mean),
            "std": tuple(recipe.std),
        }
        views = _views(weights, recipe.resize_size)
        if views is None:
            return {"size": (cropped, cropped), "crop": cropped / resized, **shared}
        crop = 1.0 if "resized" in views else cropped / resized
        return {"size": tuple(recipe.crop_size), "crop": crop, **shared, "views": views}

    def classes(self, text: str) -> Sequence[str]:
        """What torchvision states beside the weights of classifiers, if no two are called alike."""
        name, weights = _chosen(text)
        names = list(weights.meta.get("categories", ()))
        return names if name not in _segmentation() and len(set(names)) == len(names) else ()

    def load(self, spec: ModelSpec, threads: int, allow_code: Collection[str]) -> Model:
        """See :class:`committee.models.base.Source`."""
        name, _ = _chosen(spec.text)
        # Positions of vision transformers, of images and of clips, are weights.
        free = not _takes_image_size(name) and not name.startswith("mvit_")
        return model_of(spec, module_of(spec), spec.text, threads, any_size=free)


def import_torchvision(what: str) -> ModuleType:
    """Import torchvision, or say in a line why that cannot be.

    Args:
        what: What needs it, for the error.

    Raises:
        MissingExtraError: If it is not installed.
        ModelError: If it was built for another torch.
    """
    try:
        import torch
        import torchvision
    except ImportError:
        raise MissingExtraError.of(what, "torchvision", "torchvision") from None
    except (RuntimeError, AttributeError) as error:
        raise ModelError(
            f"{what}: torchvision {_build()} does not match torch {torch.__version__} "
            f"({str(error).splitlines()[0]}). Install the two from one index, as in: pip install "
            "torch torchvision --index-url https://download.pytorch.org/whl/cpu"
        ) from None
    module: ModuleType = torchvision
    return module


def _build() -> str:
    """Version and build of a torchvision that cannot be imported: its metadata omit the build."""
    found = find_spec("torchvision")
    if found is None or found.origin is None:
        return version("torchvision")
    text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    told = re.search(r"__version__ = ['\"](.+)['\"]", text)
    return told.group(1) if told else version("torchvision")


def _chosen(text: str) -> tuple[str, Any]:
    """Name and weights; those that torchvision takes by default if none are named."""
    name, _, wanted = text.partition(":")
    try:
        import_torchvision(f"torchvision:{text}")
    except ModelError:
        check_registered("torchvision", name)  # a wrong name is said first
        raise
    from torchvision import models

    # Detection has a module of its own too.
    known = [
        *models.list_models(module=models),
        *models.list_models(module=models.video),
        *_segmentation(),
    ]
    if name not in known:
        raise UnknownNameError.of(
            "torchvision", "classifier of images, clips or pixels", name, known
        )
    weights = models.get_model_weights(name)
    if not wanted:
        return name, weights.DEFAULT
    names = [each.name for each in weights]
    if wanted not in names:
        raise UnknownNameError.of(f"torchvision:{name}", "weights", wanted, names)
    return name, weights[wanted]


def _views(weights: Any, resize_size: Sequence[int]) -> dict[str, Any] | None:
    """The views that a video model was tested with; None for a model of images."""
    from torchvision import models

    if not type(weights).__module__.startswith(models.video.__name__):
        return None
    told = dict(_TESTED.findall(str(weights.meta.get("_docs", ""))))
    views: dict[str, Any] = {"spatial": 1, "antialias": False}
    for field, name in (("frames", "clip_len"), ("temporal", "clips_per_video")):
        if name in told:
            views[field] = int(told[name])
    if "frame_rate" in told:
        views["rate"] = float(told["frame_rate"])
    # Two sides are brought about whatever the proportions; one is the shorter.
    return {**views, "resized": list(resize_size)} if len(resize_size) == 2 else views


def _segmentation() -> list[str]:
    """Names of the segmentation models."""
    from torchvision import models

    return list(models.list_models(module=models.segmentation))


def module_of(spec: ModelSpec) -> torch.nn.Module:
    """Build the module of a spec, with its weights.

    Random weights on torch's meta device cost neither time nor memory; that is enough to count.

    Raises:
        ModelError, UnknownNameError: If it cannot be built.
    """
    where = f"model {spec.name!r}"
    name, weights = _chosen(spec.text)
    if spec.weights == RANDOM:
        with drawn(spec.seed):
            return _built(name, weights, spec, {})
    file = spec.weights
    state = read_weights(where, Path(file)) if file else _from_hub(where, weights)
    module = _built(name, weights, spec, state)
    if name in _segmentation():
        state = {f"model.{key}": value for key, value in state.items()}
    return fill(where, file or weights.url, module, _resized(name, spec, module, state))


def _built(
    name: str, weights: Any, spec: ModelSpec, state: Mapping[str, torch.Tensor]
) -> torch.nn.Module:
    """A module of the spec's size, with as many classes as its weights have."""
    from torchvision import models

    options: dict[str, Any] = {}
    if _takes_image_size(name):
        options["image_size"] = max(spec.preprocessing.size)
    if (classes := _classes_of(state)) is not None:
        options["num_classes"] = classes
    if name in ("googlenet", "inception_v3"):
        # As torchvision makes them for the weights that it publishes.
        options |= {"aux_logits": True, "init_weights": False, "transform_input": True}
    segments = name in _segmentation()
    if segments:
        # Else the backbone's weights would be fetched; a second head is only for training.
        options |= {"weights_backbone": None, "aux_loss": _has_aux(state)}
    try:
        module: torch.nn.Module = models.get_model(name, weights=None, **options)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"model {spec.name!r}: torchvision:{name} does not take {spec.preprocessing.size} "
            f"({type(error).__name__}: {reason}). Leave resolution and @R out, or take another"
        ) from error
    return _logits_of(module) if segments else module


def _has_aux(state: Mapping[str, torch.Tensor]) -> bool:
    return any("aux_classifier." in name for name in state)


def _logits_of(module: torch.nn.Module) -> torch.nn.Module:
    """A segmentation model that answers with its logits at the resolution of the input alone."""
    import torch

    class Logits(torch.nn.Module):
        """What torchvision returns beside the logits is left out."""

        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(batch)["out"]
            return logits

    return Logits()


def _classes_of(state: Mapping[str, torch.Tensor]) -> int | None:
    """How many classes some weights have: rows of the last weight of the head, as it is named."""
    heads = [name for name in state if _HEAD.fullmatch(name)]
    if not heads:
        return None
    last = max(heads, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    return len(state[last])


def _takes_image_size(name: str) -> bool:
    """Whether a model is made for one size: vision transformers, whose positions are weights."""
    return name.startswith("vit_")


def _resized(
    name: str, spec: ModelSpec, module: torch.nn.Module, state: Mapping[str, torch.Tensor]
) -> Mapping[str, torch.Tensor]:
    """The weights with positions for the spec's size."""
    if not _takes_image_size(name):
        return state
    from torchvision.models.vision_transformer import interpolate_embeddings

    size, patch = max(spec.preprocessing.size), module.patch_size
    resized: Mapping[str, torch.Tensor] = interpolate_embeddings(size, patch, state)
    return resized


def _from_hub(where: str, weights: Any) -> Mapping[str, torch.Tensor]:
    """The published weights, from torch's cache or from where torchvision keeps them."""
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not (folder / Path(weights.url).name).is_file():
        check_reachable(where, weights.url, "TORCH_HOME")
    try:
        state: Mapping[str, torch.Tensor] = weights.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{where}: {weights.url} cannot be loaded ({type(error).__name__}: {reason}). "
            'Give the weights as a file, weights = "FILE" in the pool file'
        ) from error
    old = {name: found for name in state if (found := _DENSE.fullmatch(name))}
    if not old:
        return state
    return {
        old[name].expand(r"\1\2") if name in old else name: value for name, value in state.items()
    }
