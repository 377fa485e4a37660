"""``transformers:NAME-OR-FOLDER``: classifiers and segmentation models, from a hub or a folder."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from committee.errors import MissingExtraError, ModelError, PoolFileError
from committee.models.base import RANDOM, Model
from committee.models.engines.exported import model_of
from committee.models.engines.weights import drawn, fill, read_weights
from committee.models.sources.by_name import ByName
from committee.models.sources.hub import check_reachable
from committee.models.sources.torchvision import import_torchvision
from committee.paths import expanded
from committee.spec.model import ModelSpec
from committee.spec.task import IMAGE_CLASSIFICATION, SEMANTIC_SEGMENTATION
from committee.text import listed

if TYPE_CHECKING:
    import torch

# PIL's numbers of the ways to interpolate, as image processors write them.
_INTERPOLATION = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
# What transformers calls what does each task, and what people call it.
_AUTO = {
    IMAGE_CLASSIFICATION.name: "AutoModelForImageClassification",
    SEMANTIC_SEGMENTATION.name: "AutoModelForSemanticSegmentation",
}
_WHAT = {
    IMAGE_CLASSIFICATION.name: "image classifier",
    SEMANTIC_SEGMENTATION.name: "image segmentation model",
}
# Image processors whose numbers mean something else.
_OTHERS = ("Levit", "PoolFormer", "Perceiver")
# Keys of an image processor that are followed.
_FOLLOWED = frozenset((
    "size", "crop_size", "crop_pct", "resample", "do_resize", "do_center_crop", "do_rescale",
    "rescale_factor", "rescale_offset", "do_normalize", "image_mean", "image_std", "include_top",
    "do_flip_channel_order", "image_processor_type", "feature_extractor_type",
))  # fmt: skip
# Keys that change nothing of an image in RGB, or that say how labels or results are made.
_HARMLESS = frozenset((
    "do_convert_rgb", "default_to_square", "processor_class", "_processor_class", "device",
    "transformers_version", "return_tensors", "disable_grouping", "do_reduce_labels", "auto_map",
    "reduce_labels", "num_labels", "pad_size", "patch_size", "image_seq_length",
    "_valid_processor_keys", "input_data_format",
))  # fmt: skip
# Sides that an image is resized to.
_SIDES = frozenset({"shortest_edge", "height", "width"})
# The names that transformers gives to classes that have none.
_UNNAMED = re.compile(r"LABEL_\d+")
# Nothing that a hub or a folder carries is run, and nobody is asked whether it may.
_NO_CODE = {"trust_remote_code": False}


class TransformersSource(ByName):
    """Image classifiers and segmentation models; code that a hub carries is never run."""

    form = "transformers:NAME-OR-FOLDER"

    def located(self, text: str, folder: Path) -> str:
        """A folder is one that holds ``config.json``; all else is a name on the hub."""
        super().located(text, folder)
        local = expanded(text, folder)
        if local.is_dir() and not (local / "config.json").is_file():
            raise ValueError(f"there is no {local / 'config.json'}")
        if text[0] in "./~" and not local.is_dir():
            raise ValueError(f"there is no folder {local}")
        return str(local) if local.is_dir() else text

    def published(self, text: str, size: tuple[int, int] | None) -> Mapping[str, Any]:
        """What ``preprocessor_config.json`` states."""
        where = f"transformers:{text}"
        _transformers(where)
        from transformers.image_processing_base import ImageProcessingMixin

        ask = partial(ImageProcessingMixin.get_image_processor_dict, text)
        known, _ = _asked(where, ask, text)
        return recipe_of(where, known, size)

    def labels(self, text: str) -> tuple[str, ...]:
        """Names of the classes in the order of the outputs, by ``id2label``; none if it has none.

        Raises:
            PoolFileError: If it does not name each output once.
        """
        where = f"transformers:{text}"
        _transformers(where)
        from transformers import PretrainedConfig

        known, _ = _asked(where, partial(PretrainedConfig.get_config_dict, text), text)
        return labels_of(where, known.get("id2label") or {})

    def load(self, spec: ModelSpec, threads: int, allow_code: Collection[str]) -> Model:
        """See :class:`committee.models.base.Source`."""
        return model_of(spec, _module(spec), Path(spec.text).name, threads)


def labels_of(where: str, id2label: Any) -> tuple[str, ...]:
    """Names of classes in the order of their ids; none if they are only numbered.

    Raises:
        PoolFileError: If the ids are not 0, 1, 2, ….
    """
    try:
        names = {int(number): str(name) for number, name in dict(id2label).items()}
    except (TypeError, ValueError):
        names = {-1: ""}
    if sorted(names) != list(range(len(names))):
        raise PoolFileError(
            f"{where}: id2label of its config.json must name the outputs 0, 1, 2, …, each once. "
            "Copy its folder, correct it, and name the folder"
        )
    ordered = tuple(names[number] for number in range(len(names)))
    return () if all(map(_UNNAMED.fullmatch, ordered)) else ordered


def recipe_of(
    where: str, known: Mapping[str, Any], size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Preprocessing fields of what an image processor's configuration says.

    Args:
        where: Whose it is, for errors.
        known: What ``preprocessor_config.json`` holds.
        size: Height and width that the user wants; None for the stated ones.

    Raises:
        PoolFileError: If it says what this version cannot do.
    """
    wanted = ["resample"] if known.get("do_resize", True) else []
    wanted += ["image_mean", "image_std"] if known.get("do_normalize") else []
    missing = [key for key in wanted if known.get(key) is None]
    kind = str(known.get("image_processor_type", known.get("feature_extractor_type", "")))
    resample = known.get("resample") or 0
    reason = _strange(known, kind, missing)
    if reason:
        raise PoolFileError(
            f"{where}: its image processor {reason}. Copy its folder, write a "
            "preprocessor_config.json that says the same in plain terms, and name the folder"
        )
    recipe: dict[str, Any] = {
        **_geometry(known, kind, size),
        **_scale(known),
        "interpolation": _INTERPOLATION[resample],
        "order": "bgr" if known.get("do_flip_channel_order") else "rgb",
    }
    if size is not None:
        recipe["size"] = size
    return recipe


def _strange(known: Mapping[str, Any], kind: str, missing: Sequence[str]) -> str:
    """Why a configuration cannot be followed; empty if it can."""
    size, resample, cuts = known.get("size"), known.get("resample") or 0, known.get("crop_size")
    sides = size if isinstance(size, Mapping) else {}
    bounds = sorted(key for key in set(sides) - _SIDES if sides[key] is not None)
    # What is null or false does nothing.
    keys = sorted(key for key in set(known) - _FOLLOWED - _HARMLESS if known[key])
    others = listed([f"{key}: {known[key]}" for key in keys])
    centre, resizes = known.get("do_center_crop"), known.get("do_resize", True)
    reasons = (
        (missing, f"states no {', '.join(missing)}"),
        (resample not in _INTERPOLATION, f"resamples by method {resample}"),
        (kind.startswith(_OTHERS), f"is a {kind}, which resizes in a way of its own"),
        ("AutoImageProcessor" in (known.get("auto_map") or {}), "is code, which is not run"),
        (keys, f"says {others}, which is not done here"),
        (bounds, f"resizes by {', '.join(bounds)}, which is not done here"),
        (
            known.get("crop_pct") and not kind.startswith("ConvNext"),
            f"says crop_pct: {known.get('crop_pct')}, which only ConvNext's is known to mean",
        ),
        (centre and not resizes, "cuts the centre out of images that it does not resize"),
        (centre and _sides(cuts) is None, f"says do_center_crop, with crop_size: {cuts}"),
    )
    return next((reason for wrong, reason in reasons if wrong), "")


def _geometry(
    known: Mapping[str, Any], kind: str, wanted: tuple[int, int] | None
) -> dict[str, Any]:
    """Size, crop and resize; no size if inputs have none in common."""
    size, cut = known.get("size"), _sides(known.get("crop_size"))
    if not known.get("do_resize", True):
        return {}  # of whatever size images have
    both = _sides(size)
    # The shorter side, where a mapping or a single number means that.
    edge = size.get("shortest_edge") if isinstance(size, Mapping) else size
    if kind.startswith("ConvNext") and edge is not None:
        edge = edge if wanted is None else min(wanted)
        if edge >= 384:  # where its own code begins to squash
            return {"size": (edge, edge), "crop": 1.0, "resize": "squash"}
        crop = edge / int(edge / known.get("crop_pct", 224 / 256))
        return {"size": (edge, edge), "crop": crop, "resize": "crop"}
    if known.get("do_center_crop") and cut is not None:
        if edge is not None:
            return {"size": cut, "crop": cut[0] / edge}
        return {"size": cut, "crop": cut[0] / both[0], "resize": "squash"} if both else {}
    return {"size": both, "resize": "squash"} if both else {}


def _sides(size: Any) -> tuple[int, int] | None:
    """Height and width, of the forms that configurations have had over the years."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    if isinstance(size, Mapping) and size.get("height") and size.get("width"):
        return int(size["height"]), int(size["width"])
    return None


def _scale(known: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and deviation of values in [0, 1]: rescaling and normalising as one step."""
    normalises = known.get("do_normalize", "image_mean" in known)
    mean = _each(known["image_mean"]) if normalises else [0.0, 0.0, 0.0]
    std = _each(known["image_std"]) if normalises else [1.0, 1.0, 1.0]
    factor = 255 * (known.get("rescale_factor") or 1 / 255)
    factor = factor if known.get("do_rescale", True) else 255.0
    offset = 1.0 if known.get("rescale_offset") else 0.0
    # ((x factor - offset) - mean) / std, once more divided by std where a processor does so.
    again = std if known.get("include_top") else [1.0] * len(std)
    return {
        "mean": tuple((offset + m) / factor for m in mean),
        "std": tuple(s * t / factor for s, t in zip(std, again, strict=True)),
    }


def _each(values: Any) -> list[float]:
    """One number a channel; one for all may stand alone."""
    return [float(values)] * 3 if isinstance(values, int | float) else [float(v) for v in values]


def _transformers(what: str) -> ModuleType:
    try:
        import torch  # noqa: F401  # transformers imports without it, and fails later
        import transformers
    except ImportError:
        raise MissingExtraError.of(what, "transformers", "transformers") from None
    if find_spec("torchvision"):
        import_torchvision(what)  # transformers imports it too; here a mismatch gets a line
    module: ModuleType = transformers
    return module


def _asked(where: str, ask: Callable[..., Any], name: str, what: str = "image classifier") -> Any:
    """Ask transformers for something of a model: of a folder, the cache, or the hub."""
    from huggingface_hub import constants, try_to_load_from_cache

    local = Path(name).is_dir() or isinstance(try_to_load_from_cache(name, "config.json"), str)
    if not local:
        check_reachable(where, constants.ENDPOINT, "HF_HOME")
    try:
        return ask(local_files_only=local)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{where}: {name} is made by code of its own, which is never run. Read that code, "
                "and if you trust it write a python: source that makes the model"
            ) from None
        raise ModelError(
            f"{where}: cannot be loaded ({type(error).__name__}: {reason}). Is it the name of an "
            f"{what} on the hub, or a folder with config.json, preprocessor_config.json and "
            "model.safetensors?"
        ) from error


def _module(spec: ModelSpec) -> torch.nn.Module:
    where, name = f"model {spec.name!r}", spec.text
    what = _WHAT[spec.task]
    auto = getattr(_transformers(where), _AUTO[spec.task])
    if not spec.weights:
        # Weights in the form of pickles are not read.
        ask = partial(auto.from_pretrained, name, use_safetensors=True, **_NO_CODE)
        return _logits_of(_asked(where, ask, name, what), spec)
    config = _asked(where, partial(_config, name), name, what)
    try:
        with drawn(spec.seed):
            made = auto.from_config(config, **_NO_CODE)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{where}: the configuration of transformers:{name} makes no {what} "
            f"({type(error).__name__}: {reason}). Name another, or correct its config.json"
        ) from error
    if spec.weights != RANDOM:
        fill(where, spec.weights, made, read_weights(where, Path(spec.weights)))
    return _logits_of(made, spec)


def _config(name: str, **how: bool) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(name, **how, **_NO_CODE)


def _logits_of(classifier: Any, spec: ModelSpec) -> torch.nn.Module:
    """A module from inputs of any size to logits, if the classifier can be asked for that."""
    import torch

    side = getattr(classifier.config, "image_size", None)
    own = side if isinstance(side, list | tuple) else (side, side)
    interpolates = "interpolate_pos_encoding" in inspect.signature(classifier.forward).parameters

    class Logits(torch.nn.Module):
        """What transformers returns beside the logits is left out."""

        def __init__(self) -> None:
            super().__init__()
            self.classifier = classifier

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            other = interpolates and tuple(batch.shape[2:]) != tuple(own)
            options = {"interpolate_pos_encoding": True} if other else {}
            logits: torch.Tensor = self.classifier(batch, **options).logits
            return logits

    return Logits()
