"""TorchModel: a torch module on the processor, wherever it came from."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from committee.errors import ModelError
from committee.models.spec import ModelSpec
from committee.predictions import Array
from committee.profile.macs import torch_macs

if TYPE_CHECKING:
    import torch


class TorchModel:
    """A torch module on the processor, in float32, eager, channels last.

    Args:
        spec: What it is.
        module: Maps inputs (N, channels, height, width) to outputs (N, C).
        origin: What besides the weights tells this model from another.
        threads: How many torch may use, in the whole process; 0 leaves the choice to it.

    Raises:
        ModelError: If it does not run on one sample of the spec's size.
    """

    def __init__(
        self, spec: ModelSpec, module: torch.nn.Module, origin: str, threads: int = 0
    ) -> None:
        import torch

        self._torch = torch
        if threads:
            torch.set_num_threads(threads)
        self._module = module.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parameters = sum(each.numel() for each in module.parameters())
        self.macs = self._counted(spec)
        self.fingerprint = module_fingerprint(module, origin)

    def __call__(self, batch: Array) -> Array:
        """See :class:`committee.models.base.Model`."""
        torch = self._torch
        with torch.inference_mode():
            inputs = torch.from_numpy(batch).contiguous(memory_format=torch.channels_last)
            outputs: Array = self._module(inputs).float().numpy()
        return outputs

    def _counted(self, spec: ModelSpec) -> int | None:
        """Multiply-adds of one sample; None if the module runs, but cannot be counted."""
        recipe = spec.preprocessing
        height, width = recipe.size
        shape = (1, recipe.channels, height, width)
        try:
            return torch_macs(self._module, shape)
        except Exception:
            try:
                self(np.zeros(shape, np.float32))
            except Exception as error:
                reason = str(error).strip().split("\n")[0]
                raise ModelError(
                    f"model {spec.name!r}: does not take inputs of {recipe.channels} x {height} x "
                    f"{width} ({type(error).__name__}: {reason}). Give it the resolution and "
                    "channels that it was made for"
                ) from error
            return None


def module_fingerprint(module: torch.nn.Module, origin: str) -> str:
    """Sixteen hexadecimal digits of a module's weights and of where it came from."""
    digest = hashlib.sha256(origin.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.detach().cpu().float().numpy()).tobytes())
    return digest.hexdigest()[:16]
