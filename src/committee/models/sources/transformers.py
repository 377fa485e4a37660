"""``transformers:NAME-OR-FOLDER``: classifiers and segmentation models, from a hub or a folder.

Classifiers are of images or, in a pool of records, of texts, whose tokenizer comes from there too.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError, PoolFileError, needing
from committee.models.base import Model
from committee.models.engines.torch_module import module_fingerprint
from committee.models.sources.by_name import ByName, unloaded
from committee.models.sources.torchvision import import_torchvision
from committee.paths import expanded
from committee.spec.model import ModelSpec
from committee.spec.record import Record
from committee.text import first_line, listed

# Texts of one forward pass; all are padded to the longest of them.
_AT_ONCE = 32

# Tokenizers that know no limit say a number beyond this.
_NO_LIMIT = 10**6

if TYPE_CHECKING:
    import torch

# PIL's numbers of the ways to interpolate, as image processors write them.
_INTERPOLATION = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
# The class of transformers that loads a model, and what people call such a model.
_CLASSIFIER = ("AutoModelForImageClassification", "image classifier")
_SEGMENTER = ("AutoModelForSemanticSegmentation", "image segmentation model")
_TEXT_CLASSIFIER = ("AutoModelForSequenceClassification", "text classifier")
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
# What must lie in a folder.
_NEEDS_OF_IMAGES = (
    "An image classifier needs config.json, preprocessor_config.json and model.safetensors"
)
_NEEDS_OF_TEXTS = "A text classifier needs config.json, model.safetensors and its tokenizer's files"
_NEEDS = {
    _SEGMENTER[1]: _NEEDS_OF_IMAGES.replace("image classifier", _SEGMENTER[1]),
    **dict.fromkeys((_TEXT_CLASSIFIER[1], "tokenizer"), _NEEDS_OF_TEXTS),
}
# Code from a hub or a folder is never run, and no prompt offers to run it.
_NO_CODE = {"trust_remote_code": False}


class _TextModel:
    """A text classifier with its tokenizer; longer texts are cut at what the model can see."""

    keeps_input = True
    macs: int | None = None
    macs_unknown = (
        "they depend on the length of a text; give costs in the pool file, or measure them with "
        "committee profile POOL.toml --data DATA --store STORE"
    )

    def __init__(
        self, spec: ModelSpec, module: torch.nn.Module, tokenizer: Any, threads: int = 0
    ) -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        self._torch, self._module, self._tokenizer = torch, module.eval(), tokenizer
        self._columns = list(spec.columns)
        self.most = _most_tokens(spec, module, tokenizer)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.parameters = sum(each.numel() for each in module.parameters())
        words = hashlib.sha256(str(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()
        self.fingerprint = module_fingerprint(module, f"{words} {self.most} {spec.columns}")
        self.engine = f"torch {torch.__version__}"

    @property
    def states(self) -> str:
        """What people should know of its inputs."""
        return f"sees the first {self.most:,} tokens of a text; longer ones are cut"

    def __call__(self, batch: Sequence[str]) -> Array:
        """Return the logits (N, C) of N texts."""
        for text in batch:
            if not isinstance(text, str):
                raise ModelError(f"takes texts, not {type(text).__name__}")
        parts = [batch[start : start + _AT_ONCE] for start in range(0, len(batch), _AT_ONCE)]
        logits = np.concatenate([self._logits(list(part)) for part in parts])
        return logits[:, self._columns] if self._columns else logits

    def _logits(self, texts: list[str]) -> Array:
        tokens = self._tokenizer(
            texts, truncation=True, max_length=self.most, padding=True, return_tensors="pt"
        )
        with self._torch.inference_mode():
            made: Array = self._module(**tokens).logits.float().numpy()
        return made


class TransformersSource(ByName):
    """Classifiers of images and texts, and segmentation models; code from a hub is never run."""

    form = "transformers:NAME-OR-FOLDER"

    def located(self, text: str, folder: Path) -> str:
        """Return the path of a folder that holds ``config.json``; all else is a name on the hub."""
        super().located(text, folder)
        local = expanded(text, folder)
        if local.is_dir() and not (local / "config.json").is_file():
            raise ValueError(f"there is no {local / 'config.json'}")
        if text[0] in "./~" and not local.is_dir():
            raise ValueError(f"there is no folder {local}")
        return str(local) if local.is_dir() else text

    def published(self, text: str, size: tuple[int, int] | None) -> Mapping[str, Any]:
        """Return what ``preprocessor_config.json`` states."""
        where = f"transformers:{text}"
        mixin = _transformers(where).ImageProcessingMixin
        config, _ = _loaded(where, mixin.get_image_processor_dict, text)
        return _recipe_of(where, config, size)

    def record(self, text: str, columns: Any, dtype: Any) -> Record:
        """Return the column of the text."""
        record = Record.of(columns)
        if len(record.fields) > 1 or record.fields[0].row:
            raise PoolFileError('a text classifier takes one column, as in input = "text"')
        return record

    def load(self, spec: ModelSpec, threads: int, allow_code: Collection[str]) -> Model:
        """See :class:`committee.models.base.Source`."""
        if not spec.does.records:
            return super().load(spec, threads, allow_code)
        where = f"model {spec.name!r}"
        if spec.engine == "onnxruntime":
            raise ModelError(f"{where}: texts are not exported; leave engine out")
        load = partial(_transformers(where).AutoTokenizer.from_pretrained, **_NO_CODE)
        tokenizer = _loaded(where, load, spec.text, "tokenizer")
        return _TextModel(spec, self.module(spec), tokenizer, threads)

    def labels(self, text: str) -> tuple[str, ...]:
        """Return the names of the outputs, by ``id2label``; none if it has none."""
        where = f"transformers:{text}"
        config, _ = _loaded(where, _transformers(where).PretrainedConfig.get_config_dict, text)
        return _labels_of(where, config.get("id2label") or {})

    def pretrained(self, spec: ModelSpec) -> torch.nn.Module:
        """Return the module with the weights of its folder or hub; pickles are not read."""
        where = f"model {spec.name!r}"
        auto, what = _auto(spec)
        load = partial(auto.from_pretrained, use_safetensors=True, **_NO_CODE)
        module: torch.nn.Module = _loaded(where, load, spec.text, what)
        return module

    def built(self, spec: ModelSpec, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
        """See :class:`ByName`; the configuration says how many classes there are."""
        where = f"model {spec.name!r}"
        auto, what = _auto(spec)
        load = partial(_transformers(where).AutoConfig.from_pretrained, **_NO_CODE)
        config = _loaded(where, load, spec.text, what)
        try:
            module: torch.nn.Module = auto.from_config(config, **_NO_CODE)
        except Exception as error:
            raise ModelError(
                f"{where}: the configuration of transformers:{spec.text} makes no {what} "
                f"({first_line(error)}). Name another, or correct its config.json"
            ) from error
        return module

    def finished(self, spec: ModelSpec, module: torch.nn.Module) -> torch.nn.Module:
        """Leave the model its logits alone, for inputs of any size if it can interpolate."""
        return module if spec.does.records else _logits_of(module)


def _most_tokens(spec: ModelSpec, module: Any, tokenizer: Any) -> int:
    """Return how many tokens of a text a model can see, by its tokenizer or its positions."""
    own = getattr(module.config, "max_position_embeddings", None) or _NO_LIMIT
    # RoBERTa and its kin begin to count positions after the number of their padding.
    if "roberta" in type(module).__name__.lower():
        own -= module.config.pad_token_id + 1
    most = min(int(tokenizer.model_max_length), int(own))
    if most >= _NO_LIMIT:
        raise ModelError(
            f"model {spec.name!r}: neither its tokenizer nor its configuration says how long a "
            "text may be. Write model_max_length into tokenizer_config.json"
        )
    return most


def _labels_of(where: str, id2label: Any) -> tuple[str, ...]:
    """Return the names of classes in the order of their ids; none if they are only numbered."""
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


def _recipe_of(
    where: str, config: Mapping[str, Any], size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Return the preprocessing fields that an image processor's configuration states.

    ``size`` is what the user wants; None for the stated one.
    """
    kind = str(config.get("image_processor_type", config.get("feature_extractor_type", "")))
    resample = config.get("resample") or 0
    problem = next((reason for wrong, reason in _problems(config, kind, resample) if wrong), "")
    if problem:
        raise PoolFileError(
            f"{where}: its image processor {problem}. Copy its folder, write a "
            "preprocessor_config.json that says the same in plain terms, and name the folder"
        )
    return {
        **_geometry(config, kind, size),
        **_scale(config),
        "interpolation": _INTERPOLATION[resample],
        "order": "bgr" if config.get("do_flip_channel_order") else "rgb",
        **({} if size is None else {"size": size}),
    }


def _problems(config: Mapping[str, Any], kind: str, resample: int) -> list[tuple[object, str]]:
    """Return conditions under which a configuration cannot be followed, each with its reason."""
    wanted = ["resample"] if config.get("do_resize", True) else []
    wanted += ["image_mean", "image_std"] if config.get("do_normalize") else []
    missing = [key for key in wanted if config.get(key) is None]
    size, cut = config.get("size"), config.get("crop_size")
    sides = size if isinstance(size, Mapping) else {}
    bounds = sorted(key for key in set(sides) - _SIDES if sides[key] is not None)
    # What is null or false does nothing.
    keys = sorted(key for key in set(config) - _FOLLOWED - _HARMLESS if config[key])
    others = listed([f"{key}: {config[key]}" for key in keys])
    centre, share = config.get("do_center_crop"), config.get("crop_pct")
    return [
        (missing, f"states no {', '.join(missing)}"),
        (resample not in _INTERPOLATION, f"resamples by method {resample}"),
        (kind.startswith(_OTHERS), f"is a {kind}, which resizes in a way of its own"),
        ("AutoImageProcessor" in (config.get("auto_map") or {}), "is code, which is not run"),
        (keys, f"says {others}, which is not done here"),
        (bounds, f"resizes by {', '.join(bounds)}, which is not done here"),
        (
            share and not kind.startswith("ConvNext"),
            f"says crop_pct: {share}, which only ConvNext's is known to mean",
        ),
        (
            centre and not config.get("do_resize", True),
            "cuts the centre out of images that it does not resize",
        ),
        (centre and _sides(cut) is None, f"says do_center_crop, with crop_size: {cut}"),
    ]


def _geometry(
    config: Mapping[str, Any], kind: str, wanted: tuple[int, int] | None
) -> dict[str, Any]:
    """Return size, crop and resize; no size if inputs have none in common."""
    size, cut = config.get("size"), _sides(config.get("crop_size"))
    if not config.get("do_resize", True):
        return {}  # images keep the size that they have
    both = _sides(size)
    # The shorter side, where a mapping or a single number means that.
    edge = size.get("shortest_edge") if isinstance(size, Mapping) else size
    if kind.startswith("ConvNext") and edge is not None:
        edge = edge if wanted is None else min(wanted)
        if edge >= 384:  # where its own code begins to squash
            return {"size": (edge, edge), "crop": 1.0, "resize": "squash"}
        crop = edge / int(edge / config.get("crop_pct", 224 / 256))
        return {"size": (edge, edge), "crop": crop, "resize": "crop"}
    if config.get("do_center_crop") and cut is not None:
        if edge is not None:
            return {"size": cut, "crop": cut[0] / edge}
        return {"size": cut, "crop": cut[0] / both[0], "resize": "squash"} if both else {}
    return {"size": both, "resize": "squash"} if both else {}


def _sides(size: Any) -> tuple[int, int] | None:
    """Return height and width, from any form that configurations have had over the years."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    if isinstance(size, Mapping) and size.get("height") and size.get("width"):
        return int(size["height"]), int(size["width"])
    return None


def _scale(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return mean and deviation of values in [0, 1]: rescaling and normalising as one step."""
    normalises = config.get("do_normalize", "image_mean" in config)
    mean = _three(config["image_mean"]) if normalises else [0.0, 0.0, 0.0]
    std = _three(config["image_std"]) if normalises else [1.0, 1.0, 1.0]
    factor = 255 * (config.get("rescale_factor") or 1 / 255)
    factor = factor if config.get("do_rescale", True) else 255.0
    offset = 1.0 if config.get("rescale_offset") else 0.0
    # ((x factor - offset) - mean) / std, once more divided by std where a processor does so.
    again = std if config.get("include_top") else [1.0] * len(std)
    return {
        "mean": tuple((offset + m) / factor for m in mean),
        "std": tuple(s * t / factor for s, t in zip(std, again, strict=True)),
    }


def _three(values: Any) -> list[float]:
    """Return one number a channel; a single number serves all."""
    return [float(values)] * 3 if isinstance(values, int | float) else [float(v) for v in values]


def _transformers(what: str) -> ModuleType:
    with needing(what, "transformers", "transformers"):
        import torch  # noqa: F401  # transformers imports without it, and fails later
        import transformers
    if find_spec("torchvision"):
        import_torchvision(what)  # transformers imports it too; here a mismatch gets a line
    module: ModuleType = transformers
    return module


def _auto(spec: ModelSpec) -> tuple[Any, str]:
    name, what = _SEGMENTER if spec.does.dense else _CLASSIFIER
    if spec.does.records:
        name, what = _TEXT_CLASSIFIER
    return getattr(_transformers(f"model {spec.name!r}"), name), what


def _loaded(where: str, load: Callable[..., Any], name: str, what: str = "image classifier") -> Any:
    """Load a part of a model from a folder, the cache, or the hub."""
    from huggingface_hub import try_to_load_from_cache

    local = Path(name).is_dir()
    cached = local or isinstance(try_to_load_from_cache(name, "config.json"), str)
    try:
        return load(name, local_files_only=cached)
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{where}: {name} is made by code of its own, which is never run. Read that code, "
                "and if you trust it write a python: source that makes the model"
            ) from None
        if not cached:
            raise unloaded(where, f"{what} {name}", error, "HF_HOME") from error
        raise ModelError(
            f"{where}: cannot be loaded ({first_line(error)}). {_NEEDS.get(what, _NEEDS_OF_IMAGES)}"
        ) from error


def _logits_of(classifier: Any) -> torch.nn.Module:
    """Return a module from inputs to logits, which interpolates positions if it can."""
    import torch

    side = getattr(classifier.config, "image_size", None)
    own = tuple(side) if isinstance(side, list | tuple) else (side, side)
    interpolates = "interpolate_pos_encoding" in inspect.signature(classifier.forward).parameters

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = classifier

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            other = interpolates and tuple(batch.shape[2:]) != own
            options = {"interpolate_pos_encoding": True} if other else {}
            logits: torch.Tensor = self.classifier(batch, **options).logits
            return logits

    return Logits()
