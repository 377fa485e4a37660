"""A torch module as a model, wherever it came from and whatever runs it."""

from __future__ import annotations

import copy
import hashlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.errors import ModelError
from committee.models.base import Model, run_print
from committee.models.spec import ModelSpec
from committee.predictions import Array
from committee.profile.macs import torch_macs

if TYPE_CHECKING:
    import torch

OWN = "torch"
TORCH_ENGINES = ("", OWN, "torch.compile")


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
    from committee.models.export import ExportedModel

    return ExportedModel(spec, model, threads)


class TorchModel:
    """A torch module on the processor, channels last, eager or compiled; see :func:`model_of`."""

    def __init__(
        self,
        spec: ModelSpec,
        module: torch.nn.Module,
        origin: str,
        threads: int = 0,
        any_size: bool = True,
    ) -> None:
        import torch

        self._torch, self._any_size = torch, any_size
        if threads:
            torch.set_num_threads(threads)
        # Kept as it is, for what is exported or compared with it.
        self.module = module.eval()
        # Views of clips have an axis more; for them the usual order is no slower.
        self._last = len(spec.preprocessing.shape) == 3
        if self._last:
            self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._run: Any = self.module
        self._dtype = torch.float32
        self.parameters = sum(each.numel() for each in module.parameters())
        self.macs = self._counted(spec)
        self.weights_print = module_fingerprint(module, origin)
        self.fingerprint = run_print(self.weights_print, spec, OWN)
        self.engine = f"{spec.engine or OWN} {torch.__version__}"
        if spec.engine not in TORCH_ENGINES:
            return
        if spec.precision == "bf16":
            self._run, self._dtype = module.to(torch.bfloat16), torch.bfloat16
        if spec.engine == "torch.compile":
            self._compile(spec)

    def at(self, spec: ModelSpec) -> TorchModel | None:
        """See :class:`committee.models.base.Resizable`: the same module."""
        if not self._any_size:
            return None
        other = copy.copy(self)
        other.macs = other._counted(spec)
        if spec.engine == "torch.compile":
            other._compile(spec)
        return other

    def __call__(self, batch: Array) -> Array:
        """See :class:`committee.models.base.Model`."""
        torch = self._torch
        with torch.inference_mode():
            inputs = torch.from_numpy(batch).to(self._dtype)
            if self._last:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            outputs: Array = self._run(inputs).float().numpy()
        return outputs

    def _compile(self, spec: ModelSpec) -> None:
        """Compile now, so that what goes wrong has the model's name and no later call waits."""
        shape = (1, *spec.preprocessing.shape)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its parts warn of each other
                self._run = self._torch.compile(self.module)
                self(np.zeros(shape, np.float32))
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise ModelError(
                f"model {spec.name!r}: torch.compile failed ({type(error).__name__}: {reason}). It "
                "needs a C++ compiler; without one leave engine out"
            ) from error

    def _counted(self, spec: ModelSpec) -> int | None:
        """Multiply-adds of one input; None if the module runs, but cannot be counted."""
        shape = (1, *spec.preprocessing.shape)
        try:
            return torch_macs(self.module, shape, self._dtype)
        except Exception:
            try:
                self(np.zeros(shape, np.float32))
            except Exception as error:
                reason = str(error).strip().split("\n")[0]
                raise ModelError(
                    f"model {spec.name!r}: does not take inputs of "
                    f"{' x '.join(map(str, shape[1:]))} ({type(error).__name__}: {reason}). Give "
                    "it the resolution and channels that it was made for"
                ) from error
            return None


def module_fingerprint(module: torch.nn.Module, origin: str) -> str:
    """Sixteen hexadecimal digits of a module's weights and of where it came from."""
    digest = hashlib.sha256(origin.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.detach().cpu().float().numpy()).tobytes())
    return digest.hexdigest()[:16]
