"""``timm:NAME``: image classifiers of timm, by the name that ``timm.create_model`` takes."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from committee.errors import MissingExtraError, ModelError, PoolFileError, UnknownNameError
from committee.models.base import RANDOM, Model
from committee.models.engines.exported import model_of
from committee.models.engines.weights import drawn, fill, read_weights
from committee.models.sources.by_name import ByName, check_registered
from committee.models.sources.hub import check_reachable
from committee.models.sources.torchvision import import_torchvision
from committee.pool.imagenet import imagenet_classes
from committee.spec.model import ModelSpec

if TYPE_CHECKING:
    import torch


class TimmSource(ByName):
    """Image classifiers of timm, with the weights that it publishes or with others."""

    form = "timm:NAME"

    def published(self, text: str, size: tuple[int, int] | None) -> Mapping[str, Any]:
        """What timm states for evaluation at the input size of training, or at its test size."""
        config = _config(text)
        crop = config.crop_pct
        if size is not None and size == tuple((config.test_input_size or ())[1:]):
            # timm states a crop of its own for the larger size that it tests at.
            crop = config.test_crop_pct or crop
        size = size or tuple(config.input_size[1:])
        modes = {"center": "crop", "squash": "squash"}
        if config.crop_mode not in modes:
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
            "resize": modes[config.crop_mode],
        }

    def classes(self, text: str) -> Sequence[str]:
        """ImageNet's, if the weights were last trained on its 1,000 classes."""
        config = _config(text)
        tag = config.tag or ""
        last = re.split(r"_ft_", tag)[-1]
        own = config.num_classes == len(imagenet_classes()) and ("in1k" in last or not tag)
        return imagenet_classes() if own else ()

    def load(self, spec: ModelSpec, threads: int, allow_code: Collection[str]) -> Model:
        """See :class:`committee.models.base.Source`."""
        free = not _config(spec.text).fixed_input_size
        return model_of(spec, module_of(spec), spec.text, threads, any_size=free)


def _timm(what: str) -> ModuleType:
    import_torchvision(what)  # timm imports it; here its absence or mismatch gets a line
    try:
        import timm
    except ImportError:
        raise MissingExtraError.of(what, "timm", "timm") from None
    module: ModuleType = timm
    return module


def _config(text: str) -> Any:
    """What timm states of a model, and of its weights if a tag names them: ``NAME.TAG``."""
    name, _, tag = text.partition(".")
    try:
        timm = _timm(f"timm:{text}")
    except ModelError:
        check_registered("timm", name)  # a wrong name is said first
        raise
    if not timm.is_model(name):
        raise UnknownNameError.of("timm", "model", name, timm.list_models())
    known = {each.partition(".")[2] for each in timm.list_pretrained(f"{name}.*")}
    if tag and tag not in known:
        raise UnknownNameError.of(f"timm:{name}", "weights", tag, known)
    config = timm.get_pretrained_cfg(text)
    if config is None:
        raise PoolFileError(f"timm:{text}: timm states no preprocessing; it cannot be fed")
    return config


def module_of(spec: ModelSpec) -> torch.nn.Module:
    """Build the module of a spec, with its weights.

    Random weights on torch's meta device cost neither time nor memory; that is enough to count.

    Raises:
        ModelError, UnknownNameError: If it cannot be built.
    """
    where = f"model {spec.name!r}"
    timm, config = _timm(where), _config(spec.text)
    if spec.weights == RANDOM:
        with drawn(spec.seed):
            module = timm.create_model(spec.text, pretrained=False)
    elif spec.weights:
        state = read_weights(where, Path(spec.weights))
        module = timm.create_model(spec.text, pretrained=False, **_classes_of(config, state))
        fill(where, spec.weights, module, state)
    else:
        module = _from_hub(where, timm, spec.text, config)
    return _at_size(where, module, config, spec)


def _classes_of(config: Any, state: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """How many classes some weights have; nothing if they do not tell."""
    classifier = config.classifier if isinstance(config.classifier, str) else ""
    bias = state.get(f"{classifier}.bias")
    return {} if bias is None else {"num_classes": len(bias)}


def _at_size(where: str, module: torch.nn.Module, config: Any, spec: ModelSpec) -> torch.nn.Module:
    """The module at the spec's size; of transformers the positions are interpolated."""
    size = spec.preprocessing.size
    if not config.fixed_input_size or size == tuple(config.input_size[1:]):
        return module
    try:
        module.set_input_size(img_size=size)  # type: ignore[operator]
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{where}: timm:{spec.text} takes {config.input_size[1:]} only, not {size} "
            f"({type(error).__name__}: {reason}). Leave resolution and @R out"
        ) from error
    return module


def _from_hub(where: str, timm: ModuleType, name: str, config: Any) -> torch.nn.Module:
    """The model with its published weights, from a cache or from a hub."""
    if not config.has_weights:
        raise ModelError(
            f"{where}: timm publishes no weights of {name}; give some: weights = "
            '"FILE.safetensors" in the pool file'
        )
    overlay: dict[str, str] = {}
    if config.hf_hub_id:
        from huggingface_hub import constants, try_to_load_from_cache

        cached = try_to_load_from_cache(config.hf_hub_id, "model.safetensors")
        if isinstance(cached, str):
            overlay = {"file": cached}
        else:
            check_reachable(where, constants.ENDPOINT, "HF_HOME")
    else:
        import torch

        folder = Path(torch.hub.get_dir()) / "checkpoints"
        if not (folder / Path(config.url).name).is_file():
            check_reachable(where, config.url, "TORCH_HOME")
    try:
        module: torch.nn.Module = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay
        )
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{where}: the weights of timm:{name} cannot be loaded ({type(error).__name__}: "
            f'{reason}). Give them as a file, weights = "FILE.safetensors" in the pool file'
        ) from error
    return module
