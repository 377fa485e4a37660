"""torch modules as models, run by torch in eager mode on the processor."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError
from committee.models.base import one_output
from committee.profile.macs import torch_macs
from committee.spec.model import ModelSpec
from committee.text import first_line

if TYPE_CHECKING:
    import torch


class TorchModel:
    """A torch module that maps inputs (N, channels, height, width) to outputs (N, C).

    ``origin`` tells this model from another of the same weights; ``threads`` are those of the whole
    process, and 0 leaves them as they are; with ``any_size`` the module takes inputs of other sizes
    with its weights unchanged.
    """

    keeps_input = True

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
        self._answers_a_tensor, self._pid = True, os.getpid()
        if threads:
            torch.set_num_threads(threads)
        self.module = module.eval()
        # Views of clips have one axis more; for them the usual order of memory is no slower.
        self._channels_last = len(spec.preprocessing.shape) == 3
        if self._channels_last:
            self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parameters = sum(each.numel() for each in module.parameters())
        self.macs, self.macs_unknown = self._count(spec)
        chosen = f" {spec.output} {spec.columns}" if spec.output or spec.columns else ""
        self.fingerprint = module_fingerprint(module, f"{origin}{chosen}")
        if spec.columns or not self._answers_a_tensor:
            self.module = _one_output_of(module, spec)
        self.engine = f"torch {torch.__version__}"

    def at(self, spec: ModelSpec) -> TorchModel | None:
        """See :class:`committee.models.load._Resizable`: the same module."""
        if not self._any_size:
            return None
        other = copy.copy(self)
        other.macs, other.macs_unknown = other._count(spec)
        return other

    def __call__(self, batch: Array) -> Array:
        """See :class:`committee.models.base.Model`."""
        torch = self._torch
        if os.getpid() != self._pid:
            # After a fork: the threads of torch stayed in the other process.
            torch.set_num_threads(1)
            self._pid = os.getpid()
        with torch.inference_mode():
            given = inputs = torch.from_numpy(batch)
            if self._channels_last:
                inputs = given.contiguous(memory_format=torch.channels_last)
            if inputs is given:
                inputs = given.clone()  # the module may change its input in place
            outputs: Array = self.module(inputs).float().numpy()
        return outputs

    def _count(self, spec: ModelSpec) -> tuple[int | None, str]:
        """Return the multiply-adds of one input; or None and why they cannot be counted."""
        shape = (1, *spec.preprocessing.shape)
        try:
            with self._watched():
                return torch_macs(self.module, shape), ""
        except (Exception, SystemExit) as error:
            why = f"{first_line(error)}; give costs.macs in the pool file"
        try:
            with self._watched(), self._torch.inference_mode():
                self.module(self._torch.zeros(shape))
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"model {spec.name!r}: does not take inputs of "
                f"{' x '.join(map(str, shape[1:]))} ({first_line(error)}). Give it "
                "the resolution and channels that it was made for"
            ) from error
        return None, why

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Note whether the module answers with a tensor."""

        def note(_module: Any, _inputs: Any, answer: Any) -> None:
            self._answers_a_tensor = isinstance(answer, self._torch.Tensor)

        hook = self.module.register_forward_hook(note)
        try:
            yield
        finally:
            hook.remove()


def _one_output_of(module: torch.nn.Module, spec: ModelSpec) -> torch.nn.Module:
    """Return a module that answers with one tensor, in the order of the pool's classes."""
    import torch

    class OneOutput(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module
            self.columns = list(spec.columns)

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = one_output(self.module(batch), spec.output)
            return answer[:, self.columns] if self.columns else answer

    return OneOutput().eval()


def module_fingerprint(module: torch.nn.Module, origin: str) -> str:
    """Return sixteen hexadecimal digits of a module's weights and of where it came from."""
    digest = hashlib.sha256(origin.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.detach().cpu().float().numpy()).tobytes())
    return digest.hexdigest()[:16]
