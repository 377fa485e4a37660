"""Small 3D networks for clips of moving objects."""

from __future__ import annotations

import torch
from torch import nn

CLASSES = 20


def block(inputs: int, outputs: int, stride: tuple[int, int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(),
    )


class Network(nn.Module):
    """From views (N, 1, T, H, W) to logits (N, 20).

    Args:
        width: Channels of the first block.
        depth: Blocks that follow each change of size.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(1, width, (3, 5, 5), (2, 2, 2), padding=(1, 2, 2), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
        )
        parts: list[nn.Module] = []
        for inputs, outputs, stride in (
            (width, 2 * width, (1, 2, 2)),
            (2 * width, 4 * width, (2, 2, 2)),
        ):
            parts.append(block(inputs, outputs, stride))
            parts.extend(block(outputs, outputs, (1, 1, 1)) for _ in range(depth))
        self.parts = nn.Sequential(*parts)
        # Where in time and place a thing is seen is what tells the way: no pooling over all.
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool3d((2, 2, 2)), nn.Flatten(), nn.Linear(32 * width, CLASSES)
        )

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        return self.head(self.parts(self.stem(views)))


def small() -> Network:
    return Network(6, 0)


def middle() -> Network:
    return Network(8, 1)


def large() -> Network:
    return Network(16, 1)
