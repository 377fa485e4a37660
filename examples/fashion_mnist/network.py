"""The six convolutional networks of the embedded pool: one residual layout, six sizes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Size:
    """How large one network is.

    Args:
        stem_stride: Stride of the first convolution; 2 quarters the cost of everything after it.
        widths: Channels of each group. Every group after the first halves the image.
        blocks: Residual blocks of each group.
        distorted: Whether training shifts images and blanks parts of them; networks too small to
            overfit only lose by it.
    """

    stem_stride: int
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    distorted: bool = True


SIZES = {
    "nano": Size(2, (8, 16), (0, 1), distorted=False),
    "micro": Size(2, (8, 24), (1, 1), distorted=False),
    "tiny": Size(2, (12, 40), (1, 2)),
    "small": Size(1, (8, 24, 48), (0, 1, 1)),
    "medium": Size(1, (16, 32, 64), (1, 1, 1)),
    "large": Size(1, (16, 32, 64), (2, 3, 3)),
}


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)
    )


class Residual(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, channels unchanged."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width, 1)
        self.second = _convolution(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Network(nn.Module):
    """Grey images (N, 1, 28, 28), normalised, to logits (N, 10)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, stride = 1, size.stem_stride
        for width, blocks in zip(size.widths, size.blocks, strict=True):
            layers += [_convolution(channels, width, stride), nn.ReLU()]
            layers += [Residual(width) for _ in range(blocks)]
            channels, stride = width, 2
        self.features = nn.Sequential(*layers)
        self.classify = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x).mean((2, 3)))
