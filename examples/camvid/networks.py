"""Three fully convolutional networks for street scenes, alike but for width and depth.

A stem of stride 8, residual blocks with rising dilation, the mean over the whole input as context,
and a decoder that takes in the features of stride 4. Logits come out at a quarter of the input;
who uses them upsamples. Any input size goes.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

CLASSES = 11

# Width of the first layer, and the dilations of the residual blocks.
LAYOUTS = {
    "small": (8, (1, 2, 4)),
    "medium": (12, (1, 2, 4, 8)),
    "large": (20, (1, 2, 4, 8, 1)),
}


def _layer(
    inside: int, outside: int, size: int = 3, stride: int = 1, dilation: int = 1
) -> nn.Module:
    padding = dilation * (size // 2)
    return nn.Sequential(
        nn.Conv2d(inside, outside, size, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    )


class Block(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.first = _layer(width, width, dilation=dilation)
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, width, h, w), in and out."""
        return functional.relu(x + self.second(self.first(x)))


class Network(nn.Module):
    """Images (n, 3, H, W), normalised, to logits (n, 11, H / 4, W / 4)."""

    def __init__(self, width: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.stride2 = _layer(3, width, stride=2)
        self.stride4 = _layer(width, 2 * width, stride=2)
        deep = 4 * width
        self.stride8 = _layer(2 * width, deep, stride=2)
        self.blocks = nn.Sequential(*(Block(deep, dilation) for dilation in dilations))
        self.context = nn.Conv2d(deep, deep, 1)
        self.down = _layer(deep, 2 * width, size=1)
        self.decoder = _layer(2 * width, 2 * width)
        self.classes = nn.Conv2d(2 * width, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of each pixel of a grid a quarter as fine as the input."""
        quarter = self.stride4(self.stride2(x))
        deep = self.blocks(self.stride8(quarter))
        deep = functional.relu(deep + self.context(deep.mean((2, 3), keepdim=True)))
        up = functional.interpolate(
            self.down(deep), size=quarter.shape[2:], mode="bilinear", align_corners=False
        )
        logits: Tensor = self.classes(self.decoder(up + quarter))
        return logits


def network(name: str) -> Network:
    """One of the three, with fresh weights."""
    return Network(*LAYOUTS[name])
