"""Where models come from: ONNX files, the user's own code, timm, torchvision, transformers."""

from __future__ import annotations

from committee.models.base import (
    Model,
    Source,
    answer_of,
    checked_answer,
    outputs_of,
    usable_outputs_of,
)
from committee.models.clip import (
    VIEWS_AT_ONCE,
    ArrayClip,
    Clip,
    Framing,
    KeptClip,
    joined_inputs,
    needed,
)
from committee.models.load import check_installed, check_unloaded, load_model, load_models, resized
from committee.models.pool_file import PoolFile, read_pool_file
from committee.models.preprocessing import (
    ModelInputs,
    Picture,
    Pictures,
    Preprocessing,
    as_image,
    fitted,
    inputs_of,
    prepared,
)
from committee.models.sources import source_of
from committee.models.spec import (
    ModelSpec,
    check_name,
    same_weights,
    specs_of,
    task_of,
    view_blocks,
)
from committee.models.views import Views

__all__ = [
    "ArrayClip",
    "Clip",
    "Framing",
    "KeptClip",
    "Model",
    "ModelInputs",
    "ModelSpec",
    "Picture",
    "Pictures",
    "PoolFile",
    "Preprocessing",
    "Source",
    "VIEWS_AT_ONCE",
    "Views",
    "answer_of",
    "as_image",
    "check_name",
    "check_installed",
    "check_unloaded",
    "checked_answer",
    "fitted",
    "inputs_of",
    "joined_inputs",
    "load_model",
    "load_models",
    "needed",
    "outputs_of",
    "prepared",
    "read_pool_file",
    "resized",
    "same_weights",
    "source_of",
    "specs_of",
    "task_of",
    "usable_outputs_of",
    "view_blocks",
]
