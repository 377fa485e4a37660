"""One family of small residual networks, scaled by phi as EfficientNets are.

Depth grows by 1.2^phi, width by 1.1^phi and resolution by 1.15^phi, so that multiply-adds grow by
about 1.92^phi (Tan & Le, 2019; Wang et al., 2022, appendix E.2). The blocks are plain residual ones
and not inverted ones, because two CPU cores train them several times faster.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

DEPTH, WIDTH, RESOLUTION = 1.2, 1.1, 1.15
# phi = 0: one block in each of three groups, on images of 12 x 12.
BASE_BLOCKS, BASE_WIDTHS, BASE_RESOLUTION = 3, (8, 16, 32), 12
CLASSES = 10


@dataclass(frozen=True)
class Size:
    """How large one network is.

    Args:
        resolution: Side of the images it reads, in pixels.
        widths: Channels of each group. Every group after the first halves the image.
        blocks: Residual blocks of each group.
    """

    resolution: int
    widths: tuple[int, ...]
    blocks: tuple[int, ...]


def scaled(phi: float) -> Size:
    """The base network scaled by phi; phi may be negative or broken.

    Blocks are rounded up, as in EfficientNet; channels and pixels to the nearest whole number. A
    group keeps at least one block; blocks that cannot be shared out evenly go to later groups,
    where they cost parameters but fewer activations.

    >>> scaled(0)
    Size(resolution=12, widths=(8, 16, 32), blocks=(1, 1, 1))
    >>> scaled(7)
    Size(resolution=32, widths=(16, 31, 62), blocks=(3, 4, 4))
    """
    groups = len(BASE_WIDTHS)
    total = max(groups, math.ceil(BASE_BLOCKS * DEPTH**phi))
    return Size(
        resolution=round(BASE_RESOLUTION * RESOLUTION**phi),
        widths=tuple(round(width * WIDTH**phi) for width in BASE_WIDTHS),
        blocks=tuple((total + group) // groups for group in range(groups)),
    )


def _convolution(inputs: int, outputs: int, side: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Residual(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, which is 1 x 1 where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, 3, stride)
        self.second = _convolution(outputs, outputs, 3, 1)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.second(torch.relu(self.first(x))))


class Network(nn.Module):
    """Grey images (N, 1, R, R), normalised, to logits (N, 10)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(1, size.widths[0], 3, 2), nn.ReLU()]
        widths = (size.widths[0], *size.widths)
        for group, (inputs, outputs) in enumerate(pairwise(widths)):
            layers.append(Residual(inputs, outputs, 2 if group else 1))
            layers += [Residual(outputs, outputs, 1) for _ in range(size.blocks[group] - 1)]
        self.features = nn.Sequential(*layers)
        self.classify = nn.Linear(widths[-1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x).mean((2, 3)))
