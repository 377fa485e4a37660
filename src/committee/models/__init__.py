"""Where models come from: ONNX files and the user's own Python code."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from committee.cost import Cost
from committee.errors import ModelError
from committee.models.base import Model, outputs_of
from committee.models.preprocessing import (
    Picture,
    Pictures,
    Preprocessing,
    as_image,
    fitted,
    prepared,
)
from committee.models.spec import ModelSpec, PoolFile, check_name, read_pool_file, specs_of

__all__ = [
    "Model",
    "ModelSpec",
    "Picture",
    "Pictures",
    "PoolFile",
    "Preprocessing",
    "as_image",
    "check_name",
    "fitted",
    "load_model",
    "outputs_of",
    "prepared",
    "read_pool_file",
    "specs_of",
]


def load_model(
    spec: ModelSpec, allow_code: Collection[str] = (), threads: int = 0
) -> tuple[Model, ModelSpec]:
    """Load a model.

    Args:
        spec: What to load.
        allow_code: Python files and modules that may be run, as the user named them.
        threads: How many threads the model may use; 0 leaves the choice to its engine.

    Returns:
        The model, and its spec with fingerprint and what costs can be counted.

    Raises:
        ModelError: If it cannot be loaded, or is not the one that the spec's fingerprint names.
        UntrustedCodeError: If it needs code that is not allowed.
    """
    model: Model
    if spec.source.startswith("onnx:"):
        from committee.models.onnx import OnnxModel

        model = OnnxModel(spec, threads)
    elif spec.source.startswith("python:"):
        from committee.models.python import check_trusted, load_python

        check_trusted(spec, allow_code)
        model = load_python(spec)
    else:
        raise ModelError(f"model {spec.name!r}: unknown source {spec.source!r}")
    if spec.fingerprint not in ("", model.fingerprint):
        raise ModelError(
            f"model {spec.name!r}: {spec.source} has changed since: fingerprint was "
            f"{spec.fingerprint}, is {model.fingerprint}. Restore it, or predict and search again"
        )
    known = replace(spec, fingerprint=model.fingerprint)
    if model.macs is not None:
        height, width = spec.preprocessing.size
        known = known.with_cost(
            Cost(model.macs, "macs", "counted", f"one sample of {height} x {width}")
        )
    return model, known
