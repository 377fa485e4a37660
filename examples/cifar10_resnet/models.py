"""ResNet-20, 32, 44 and 56 for CIFAR-10, in the layout of He et al. 2015 (section 4.2).

Three groups of basic blocks at 16, 32 and 64 channels; shortcuts have no weights (option A: every
second pixel, new channels zero). The environment variable CIFAR10_DATA names the folder that holds
the weights ``resnet{20,32,44,56}-*.th`` of github.com/akamaster/pytorch_resnet_cifar10.
"""

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

WEIGHTS = {
    20: "resnet20-12fca82f.th",
    32: "resnet32-d509ac18.th",
    44: "resnet44-014dd654.th",
    56: "resnet56-4bfd9763.th",
}
WIDTHS = (16, 32, 64)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut without weights."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = _convolution(outputs, outputs), nn.BatchNorm2d(outputs)
        self.stride, self.new_channels = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.new_channels:
            half = self.new_channels // 2
            x = pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return torch.relu(residual + x)


class ResNet(nn.Module):
    """Images (N, 3, 32, 32), normalised, to logits (N, 10); depth is 6 n + 2."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1, self.bn1 = _convolution(3, WIDTHS[0]), nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = self._group(WIDTHS[0], WIDTHS[0], blocks, stride=1)
        self.layer2 = self._group(WIDTHS[0], WIDTHS[1], blocks, stride=2)
        self.layer3 = self._group(WIDTHS[1], WIDTHS[2], blocks, stride=2)
        self.linear = nn.Linear(WIDTHS[2], 10)

    @staticmethod
    def _group(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        rest = (Block(outputs, outputs, 1) for _ in range(blocks - 1))
        return nn.Sequential(Block(inputs, outputs, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def _pretrained(depth: int) -> ResNet:
    folder = os.environ.get("CIFAR10_DATA")
    if not folder:
        raise RuntimeError("set CIFAR10_DATA to the folder that holds the weights resnet*.th")
    file = Path(folder) / WEIGHTS[depth]
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}: CIFAR10_DATA must name the folder that holds it")
    weights = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    network = ResNet(depth)
    network.load_state_dict({key.removeprefix("module."): w for key, w in weights.items()})
    return network.eval()


def resnet20() -> ResNet:
    return _pretrained(20)


def resnet32() -> ResNet:
    return _pretrained(32)


def resnet44() -> ResNet:
    return _pretrained(44)


def resnet56() -> ResNet:
    return _pretrained(56)
