"""Multiply-adds of a torch module, counted without computing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def torch_macs(module: torch.nn.Module, shape: tuple[int, ...]) -> int:
    """Return the multiply-adds of matrix products, convolutions and attention.

    Torch's own counter counts them on torch's meta device, where fused attention is seen too.
    Additions of biases, normalisation and activations are not counted, as in the literature.
    ``shape`` is the input's, with the batch of 1; the module is left as it is.
    """
    import torch
    from torch.func import functional_call
    from torch.nn.functional import batch_norm
    from torch.overrides import TorchFunctionMode
    from torch.utils.flop_counter import FlopCounterMode

    class QuickNorms(TorchFunctionMode):
        """Answers for batch norm, whose kernel on the meta device takes milliseconds."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if func is batch_norm and not kwargs.get("training") and args[1] is not None:
                given, mean = args[:2]
                if given.ndim > 1 and given.shape[1:2] == mean.shape:
                    return torch.empty_like(given)
            return func(*args, **kwargs)

    named = (*module.named_parameters(), *module.named_buffers())
    on_meta = {name: value.detach().to("meta") for name, value in named}
    # While training, batch norm refuses a map of one pixel.
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.inference_mode(), QuickNorms(), FlopCounterMode(display=False) as counter:
            functional_call(module, on_meta, torch.zeros(shape, device="meta"))
    finally:
        for part in training:
            part.training = True
    # torch counts a multiplication and an addition as two.
    return int(counter.get_total_flops()) // 2
