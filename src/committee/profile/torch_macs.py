"""Multiply-adds of one sample, counted without computing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def torch_macs(
    module: torch.nn.Module, shape: tuple[int, ...], dtype: torch.dtype | None = None
) -> int:
    """Count the multiply-adds of matrix products, convolutions and attention.

    Counted on torch's meta device, where fused attention is seen too. Additions of biases,
    normalisation and activations are not counted, as in the literature.

    Args:
        module: Any module that maps one tensor.
        shape: Shape of the input, the batch of 1 included.
        dtype: Its type; float32 if left out.
    """
    import torch
    from torch.func import functional_call
    from torch.utils.flop_counter import FlopCounterMode

    # The module stays as it is; only for this call its weights are stood for by shapes.
    named = (*module.named_parameters(), *module.named_buffers())
    on_meta = {name: value.detach().to("meta") for name, value in named}
    # While training, batch norm refuses a map of one pixel.
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            functional_call(module, on_meta, torch.zeros(shape, dtype=dtype, device="meta"))
    finally:
        for part in training:
            part.training = True
    # torch counts a multiplication and an addition as two.
    return int(counter.get_total_flops()) // 2
