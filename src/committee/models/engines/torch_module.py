"""A torch module as a model, wherever it came from and whatever runs it."""

from __future__ import annotations

import copy
import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError
from committee.models.answers import one_output
from committee.models.base import run_print
from committee.profile.torch_macs import torch_macs
from committee.spec.model import ModelSpec

if TYPE_CHECKING:
    import torch

OWN = "torch"
TORCH_ENGINES = ("", OWN, "torch.compile")


class TorchModel:
    """A torch module on the processor, channels last, eager or compiled; see :func:`model_of`."""

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

        self._answers_a_tensor = True
        self._torch, self._any_size = torch, any_size
        if threads:
            torch.set_num_threads(threads)
        self._pid = os.getpid()
        # Kept as it is, for what is exported or compared with it.
        self.module = module.eval()
        # Views of clips have an axis more; for them the usual order is no slower.
        self._last = len(spec.preprocessing.shape) == 3
        if self._last:
            self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._run: Any = self.module
        self._dtype = torch.float32
        self.parameters = sum(each.numel() for each in module.parameters())
        self.macs, self.macs_unknown = self._counted(spec)
        self.weights_print = module_fingerprint(module, _origin(origin, spec))
        if spec.columns or not self._answers_a_tensor:
            self.module = self._run = one_output_of(module, spec)
        self.fingerprint = run_print(self.weights_print, spec, OWN)
        self.engine = f"{spec.engine or OWN} {torch.__version__}"
        if spec.engine not in TORCH_ENGINES:
            return
        if spec.precision == "bf16":
            self._run, self._dtype = self.module.to(torch.bfloat16), torch.bfloat16
        if spec.engine == "torch.compile":
            self._compile(spec)

    def at(self, spec: ModelSpec) -> TorchModel | None:
        """See :class:`committee.models.base.Resizable`: the same module."""
        if not self._any_size:
            return None
        other = copy.copy(self)
        other.macs, other.macs_unknown = other._counted(spec)
        if spec.engine == "torch.compile":
            other._compile(spec)
        return other

    def __call__(self, batch: Array) -> Array:
        """See :class:`committee.models.base.Model`."""
        torch = self._torch
        if os.getpid() != self._pid:
            self._forked()
        with torch.inference_mode():
            given = torch.from_numpy(batch)
            inputs = given.to(self._dtype)
            if self._last:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            if inputs is given:
                inputs = given.clone()  # what the module changes in place is its own
            outputs: Array = self._run(inputs).float().numpy()
        return outputs

    def _forked(self) -> None:
        """Go on in a process that was forked off: torch's threads stayed in the other.

        Raises:
            ModelError: If threads are compiled into the module; it would wait for them for ever.
        """
        if self._run is not self.module:
            raise ModelError(
                "was compiled in another process, whose threads a fork does not have. Load it "
                "after the fork, or leave engine out"
            )
        self._torch.set_num_threads(1)
        self._pid = os.getpid()

    def _compile(self, spec: ModelSpec) -> None:
        """Compile now, so that what goes wrong has the model's name and no later call waits."""
        shape = (1, *spec.preprocessing.shape)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its parts warn of each other
                self._run = self._torch.compile(self.module)
                self(np.zeros(shape, np.float32))
        except (Exception, SystemExit) as error:
            reason = _first_line(error)
            raise ModelError(
                f"model {spec.name!r}: torch.compile failed ({type(error).__name__}: {reason}). It "
                "needs a C++ compiler; without one leave engine out"
            ) from error

    def _counted(self, spec: ModelSpec) -> tuple[int | None, str]:
        """Multiply-adds of one input; None if the module runs, but cannot be counted, and why."""
        shape = (1, *spec.preprocessing.shape)
        try:
            with self._watched():
                return torch_macs(self.module, shape, self._dtype), ""
        except (Exception, SystemExit) as error:
            why = f"{type(error).__name__}: {_first_line(error)}; give costs.macs in the pool file"
        try:
            # What it answers is read when it is known.
            with self._watched(), self._torch.inference_mode():
                self.module(self._torch.zeros(shape, dtype=self._dtype))
        except (Exception, SystemExit) as error:
            reason = _first_line(error)
            raise ModelError(
                f"model {spec.name!r}: does not take inputs of "
                f"{' x '.join(map(str, shape[1:]))} ({type(error).__name__}: {reason}). Give it "
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


def one_output_of(module: torch.nn.Module, spec: ModelSpec) -> torch.nn.Module:
    """A module that answers with one tensor, in the order of the pool's classes.

    Args:
        module: It may answer with several, of which the spec names one.
        spec: What it is.

    Raises:
        ModelError: When it is called, if the answer does not show which output is meant.
    """
    import torch

    class OneOutput(torch.nn.Module):
        """What the module answers beside that output is left out."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module
            self.columns = list(spec.columns)

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = one_output(self.module(batch), spec.output)
            return answer[:, self.columns] if self.columns else answer

    return OneOutput().eval()


def _origin(origin: str, spec: ModelSpec) -> str:
    """What tells a model from others of its weights: which outputs it takes, and in which order."""
    chosen = f" {spec.output} {spec.columns}" if spec.output or spec.columns else ""
    return f"{origin}{chosen}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


def module_fingerprint(module: torch.nn.Module, origin: str) -> str:
    """Sixteen hexadecimal digits of a module's weights and of where it came from."""
    digest = hashlib.sha256(origin.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.detach().cpu().float().numpy()).tobytes())
    return digest.hexdigest()[:16]
