"""Multiply-adds of a torch module, counted without computing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    from torch.utils.flop_counter import FlopCounterMode

    named = (*module.named_parameters(), *module.named_buffers())
    on_meta = {name: value.detach().to("meta") for name, value in named}
    # While training, batch norm refuses a map of one pixel.
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            functional_call(module, on_meta, torch.zeros(shape, device="meta"))
    finally:
        for part in training:
            part.training = True
    # torch counts a multiplication and an addition as two.
    return int(counter.get_total_flops()) // 2
