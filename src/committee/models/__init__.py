"""Where models come from: ONNX files, the user's own code, timm, torchvision, transformers."""

from __future__ import annotations

from committee.models.base import Model, Source, outputs_of, usable_outputs_of
from committee.models.load import check_unloaded, load_model, load_models, resized
from committee.models.pool_file import PoolFile, read_pool_file
from committee.models.preprocessing import (
    Picture,
    Pictures,
    Preprocessing,
    as_image,
    fitted,
    prepared,
)
from committee.models.sources import source_of
from committee.models.spec import ModelSpec, check_name, same_weights, specs_of

__all__ = [
    "Model",
    "ModelSpec",
    "Picture",
    "Pictures",
    "PoolFile",
    "Preprocessing",
    "Source",
    "as_image",
    "check_name",
    "check_unloaded",
    "fitted",
    "load_model",
    "load_models",
    "outputs_of",
    "prepared",
    "read_pool_file",
    "resized",
    "same_weights",
    "source_of",
    "specs_of",
    "usable_outputs_of",
]
