"""``torchvision:NAME`` and ``torchvision:NAME:WEIGHTS``: models of images, of clips, of pixels.

Those of clips are torchvision's ``video`` models, those of pixels its segmentation models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

from committee.errors import ModelError, UnknownNameError, needing
from committee.models.sources.by_name import ByName, unloaded
from committee.spec.model import ModelSpec
from committee.text import first_line

if TYPE_CHECKING:
    import torch

# What torchvision calls the last layers of its classifiers.
_HEAD = re.compile(r"(fc|classifier|head|heads)(\.head|\.\d+)?\.weight")
# How its video models were tested, which its documentation says beside the weights.
_TESTED = re.compile(r"`(frame_rate|clips_per_video|clip_len)=([\d.]+)`")
# Weights of DenseNets were published with names that torch does not allow any more.
_DENSE = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)")
# Vision transformers, of images and of clips: their positions are weights of one size.
_FIXED = ("vit_", "mvit_")


class TorchvisionSource(ByName):
    """Classifiers of images and clips, and segmentation models."""

    form = "torchvision:NAME"

    def published(self, text: str, size: tuple[int, int] | None) -> Mapping[str, Any]:
        """Return what torchvision states beside the weights; segmentation models have no size."""
        name, weights = _chosen(text)
        recipe = weights.transforms()
        shared = {"mean": tuple(recipe.mean), "std": tuple(recipe.std)}
        if name in _segmentation():
            return shared
        cropped, resized = recipe.crop_size[0], recipe.resize_size[0]
        shared |= {"interpolation": recipe.interpolation.value}
        views = _views(weights, recipe.resize_size)
        if views is None:
            return {"size": (cropped, cropped), "crop": cropped / resized, **shared}
        crop = 1.0 if "resized" in views else cropped / resized
        return {"size": tuple(recipe.crop_size), "crop": crop, **shared, "views": views}

    def classes(self, text: str) -> Sequence[str]:
        """Return the names beside the weights of classifiers; none if two classes share a name."""
        name, weights = _chosen(text)
        names = list(weights.meta.get("categories", ()))
        return names if name not in _segmentation() and len(set(names)) == len(names) else ()

    def takes_any_size(self, spec: ModelSpec) -> bool:
        """Return False for transformers."""
        return not spec.text.startswith(_FIXED)

    def pretrained(self, spec: ModelSpec) -> torch.nn.Module:
        """Return the module with torchvision's weights, from torch's cache or from its hub."""
        _, weights = _chosen(spec.text)
        try:
            state: Mapping[str, torch.Tensor] = weights.get_state_dict(
                progress=False, check_hash=True, weights_only=True
            )
        except Exception as error:
            raise unloaded(f"model {spec.name!r}", weights.url, error, "TORCH_HOME") from error
        if any(map(_DENSE.fullmatch, state)):
            state = {_DENSE.sub(r"\1\2", name): value for name, value in state.items()}
        return self.filled(spec, state, weights.url)

    def built(self, spec: ModelSpec, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
        """See :class:`ByName`."""
        name, _ = _chosen(spec.text)
        options: dict[str, Any] = {}
        if name.startswith("vit_"):
            options["image_size"] = max(spec.image.size)
        if heads := [name for name in state if _HEAD.fullmatch(name)]:
            # The last layer of the head, as its layers are numbered.
            last = max(heads, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
            options["num_classes"] = len(state[last])
        if name in ("googlenet", "inception_v3"):
            # As torchvision makes them for the weights that it publishes.
            options |= {"aux_logits": True, "init_weights": False, "transform_input": True}
        if name in _segmentation():
            # Else the backbone's weights would be fetched; a second head is only for training.
            aux = any("aux_classifier." in name for name in state)
            options |= {"weights_backbone": None, "aux_loss": aux}
        try:
            module: torch.nn.Module = _models(spec.text).get_model(name, weights=None, **options)
        except Exception as error:
            raise ModelError(
                f"model {spec.name!r}: torchvision:{name} does not take {spec.image.size} "
                f"({first_line(error)}). Leave resolution and @R out, or take another"
            ) from error
        return module

    def fitted(
        self, spec: ModelSpec, module: torch.nn.Module, state: Mapping[str, torch.Tensor]
    ) -> Mapping[str, torch.Tensor]:
        """Interpolate the positions of vision transformers to the spec's size."""
        if not spec.text.startswith("vit_"):
            return state
        size, patch = max(spec.image.size), module.patch_size
        resized: Mapping[str, torch.Tensor] = _models(
            spec.text
        ).vision_transformer.interpolate_embeddings(size, patch, state)
        return resized

    def finished(self, spec: ModelSpec, module: torch.nn.Module) -> torch.nn.Module:
        """Leave a segmentation model its logits alone."""
        return _logits_of(module) if _chosen(spec.text)[0] in _segmentation() else module


def import_torchvision(what: str) -> ModuleType:
    """Import torchvision, or say in a line why that cannot be."""
    try:
        with needing(what, "torchvision", "torchvision"):
            import torch
            import torchvision
    except (RuntimeError, AttributeError) as error:
        raise ModelError(
            f"{what}: torchvision {version('torchvision')} does not match torch "
            f"{torch.__version__} ({first_line(error)}). Install the two from one index, as in: "
            "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu"
        ) from None
    module: ModuleType = torchvision
    return module


def _chosen(text: str) -> tuple[str, Any]:
    """Return the name of a model and its weights; torchvision's default if none are named."""
    name, _, wanted = text.partition(":")
    models = _models(text)
    # Detection has a module of its own too.
    classifiers = [
        each for room in (models, models.video) for each in models.list_models(module=room)
    ]
    known = [*classifiers, *_segmentation()]
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


def _models(text: str) -> Any:
    return import_torchvision(f"torchvision:{text}").models


def _segmentation() -> list[str]:
    """Return the names of the segmentation models."""
    models = _models("")
    return list(models.list_models(module=models.segmentation))


def _views(weights: Any, resize_size: Sequence[int]) -> dict[str, Any] | None:
    """Return the views that a video model was tested with; None for a model of images."""
    if not type(weights).__module__.startswith("torchvision.models.video"):
        return None
    tested = dict(_TESTED.findall(str(weights.meta.get("_docs", ""))))
    views: dict[str, Any] = {"spatial": 1, "antialias": False}
    for field, name in (("frames", "clip_len"), ("temporal", "clips_per_video")):
        if name in tested:
            views[field] = int(tested[name])
    if "frame_rate" in tested:
        views["rate"] = float(tested["frame_rate"])
    # Two sides are the size of whole frames, whatever their proportions; one is the shorter side.
    return {**views, "resized": list(resize_size)} if len(resize_size) == 2 else views


def _logits_of(module: torch.nn.Module) -> torch.nn.Module:
    """Return a module that answers with a segmentation model's logits alone."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(batch)["out"]
            return logits

    return Logits()
