"""A torch module as a model, on the engine that its spec asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from committee.models.base import Model
from committee.models.engines.torch_module import TORCH_ENGINES, TorchModel
from committee.models.torch_to_onnx import ExportedModel
from committee.spec.model import ModelSpec

if TYPE_CHECKING:
    import torch


def model_of(
    spec: ModelSpec,
    module: torch.nn.Module,
    origin: str,
    threads: int = 0,
    *,
    any_size: bool = True,
) -> Model:
    """A module as a model, on the engine that the spec asks for.

    Args:
        spec: What it is.
        module: Maps inputs (N, channels, height, width) to outputs (N, C).
        origin: What besides the weights tells this model from another.
        threads: How many the engine may use; 0 leaves the choice to it. torch's threads are those
            of the whole process.
        any_size: Whether the module takes inputs of other sizes too, its weights unchanged.

    Raises:
        ModelError: If it does not run on one sample of the spec's size, or cannot be exported.
        MissingExtraError: If the engine is not installed.
    """
    model = TorchModel(spec, module, origin, threads, any_size)
    if spec.engine in TORCH_ENGINES:
        return model
    return ExportedModel(spec, model, threads)
