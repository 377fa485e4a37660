"""``timm:NAME``: image classifiers of timm, by the name that ``timm.create_model`` takes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from committee.errors import ModelError, PoolFileError, UnknownNameError, needing
from committee.models.sources.by_name import ByName, unloaded
from committee.models.sources.torchvision import import_torchvision
from committee.pool.imagenet import imagenet_classes
from committee.spec.model import ModelSpec
from committee.text import first_line

if TYPE_CHECKING:
    import torch

_RESIZES = {"center": "crop", "squash": "squash"}


class TimmSource(ByName):
    """Image classifiers of timm."""

    form = "timm:NAME"

    def published(self, text: str, size: tuple[int, int] | None) -> Mapping[str, Any]:
        """Return what timm states for evaluation, at its size of training or of testing."""
        config = _config(text)
        crop = config.crop_pct
        if size is not None and size == tuple((config.test_input_size or ())[1:]):
            # timm states a crop of its own for the larger size that it tests at.
            crop = config.test_crop_pct or crop
        size = size or tuple(config.input_size[1:])
        if config.crop_mode not in _RESIZES:
            raise PoolFileError(
                f"timm:{text}: crop mode {config.crop_mode!r} is not known. Write a python: source "
                "that makes the model, and its preprocessing in the pool file"
            )
        # timm rounds the resized side down.
        resized = math.floor(size[0] / crop)
        return {
            "size": size,
            "channels": config.input_size[0],
            "crop": size[0] / resized,
            "interpolation": config.interpolation,
            "mean": tuple(config.mean),
            "std": tuple(config.std),
            "resize": _RESIZES[config.crop_mode],
        }

    def classes(self, text: str) -> Sequence[str]:
        """Return ImageNet's if the weights were last trained on its 1,000 classes, else none."""
        config = _config(text)
        tag = config.tag or ""
        last = re.split(r"_ft_", tag)[-1]
        own = config.num_classes == len(imagenet_classes()) and ("in1k" in last or not tag)
        return imagenet_classes() if own else ()

    def takes_any_size(self, spec: ModelSpec) -> bool:
        """Return False for transformers, whose positions are weights."""
        return not _config(spec.text).fixed_input_size

    def built(self, spec: ModelSpec, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
        """See :class:`ByName`."""
        classifier = _config(spec.text).classifier
        bias = state.get(f"{classifier}.bias") if isinstance(classifier, str) else None
        classes = {} if bias is None else {"num_classes": len(bias)}
        module: torch.nn.Module = _timm(f"model {spec.name!r}").create_model(
            spec.text, pretrained=False, **classes
        )
        return module

    def pretrained(self, spec: ModelSpec) -> torch.nn.Module:
        """Return the module with timm's weights, from a cache or from a hub."""
        where, config = f"model {spec.name!r}", _config(spec.text)
        if not config.has_weights:
            raise ModelError(
                f"{where}: timm publishes no weights of {spec.text}; give some: weights = "
                '"FILE.safetensors" in the pool file'
            )
        overlay: dict[str, str] = {}
        if config.hf_hub_id:
            from huggingface_hub import try_to_load_from_cache

            cached = try_to_load_from_cache(config.hf_hub_id, "model.safetensors")
            overlay = {"file": cached} if isinstance(cached, str) else {}
        try:
            module: torch.nn.Module = _timm(where).create_model(
                spec.text, pretrained=True, pretrained_cfg_overlay=overlay
            )
        except Exception as error:
            cache = "HF_HOME" if config.hf_hub_id else "TORCH_HOME"
            raise unloaded(where, f"timm:{spec.text}", error, cache) from error
        return module

    def finished(self, spec: ModelSpec, module: torch.nn.Module) -> torch.nn.Module:
        """Interpolate the positions of transformers to the spec's size."""
        config, size = _config(spec.text), spec.image.size
        if config.fixed_input_size and size != tuple(config.input_size[1:]):
            try:
                module.set_input_size(img_size=size)  # type: ignore[operator]
            except Exception as error:
                raise ModelError(
                    f"model {spec.name!r}: timm:{spec.text} takes {config.input_size[1:]} only, "
                    f"not {size} ({first_line(error)}). Leave resolution and @R out"
                ) from error
        return module


def _timm(what: str) -> ModuleType:
    import_torchvision(what)  # timm imports it; here its absence or mismatch gets a line
    with needing(what, "timm", "timm"):
        import timm
    module: ModuleType = timm
    return module


def _config(text: str) -> Any:
    """Return what timm states of a model, and of its weights if a tag names them: ``NAME.TAG``."""
    name, _, tag = text.partition(".")
    timm = _timm(f"timm:{text}")
    if not timm.is_model(name):
        raise UnknownNameError.of("timm", "model", name, timm.list_models())
    tags = {each.partition(".")[2] for each in timm.list_pretrained(f"{name}.*")}
    if tag and tag not in tags:
        raise UnknownNameError.of(f"timm:{name}", "weights", tag, tags)
    config = timm.get_pretrained_cfg(text)
    if config is None:
        raise PoolFileError(f"timm:{text}: timm states no preprocessing; it cannot be fed")
    return config
