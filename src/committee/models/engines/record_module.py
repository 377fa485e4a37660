"""torch modules of records, run by torch in eager mode on the processor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError
from committee.models.base import one_output
from committee.models.engines.torch_module import module_fingerprint
from committee.spec.model import ModelSpec

if TYPE_CHECKING:
    import torch


class RecordModule:
    """A torch module that takes N records: a tensor (N, ...), or several by name.

    Args:
        spec: The model; every input of it has a dtype, or gives arrays.
        module: The module.
        origin: Tells this model from another of the same weights.
        threads: Threads of the whole process; 0 leaves them as they are.
    """

    keeps_input = False
    macs: int | None = None
    macs_unknown = "nothing says what shape records have; give costs.macs in the pool file"

    def __init__(
        self, spec: ModelSpec, module: torch.nn.Module, origin: str, threads: int = 0
    ) -> None:
        import torch

        if spec.engine == "onnxruntime":
            raise ModelError(
                f"model {spec.name!r}: modules of records are not exported; leave engine out"
            )
        if threads:
            torch.set_num_threads(threads)
        self._torch, self._module, self._output = torch, module.eval(), spec.output
        self.parameters = sum(each.numel() for each in module.parameters())
        self.fingerprint = module_fingerprint(module, f"{origin} {spec.output}".strip())
        self.engine = f"torch {torch.__version__}"

    def __call__(self, batch: Any) -> Any:
        """See :class:`committee.models.base.Model`."""
        with self._torch.inference_mode():
            if isinstance(batch, Mapping):
                answer = self._module(**{name: self._tensor(part) for name, part in batch.items()})
            else:
                answer = self._module(self._tensor(batch))
            return one_output(answer, self._output)

    def _tensor(self, values: Array | list[Any]) -> Any:
        """Return an array as a tensor; lists, as of texts, go to the module as they are."""
        return self._torch.from_numpy(values) if isinstance(values, np.ndarray) else values
