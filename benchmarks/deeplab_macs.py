"""Multiply-adds of DeepLabv3 at the size of Cityscapes: torchvision's, and the paper's layout.

    python benchmarks/deeplab_macs.py

The paper (table 7) prints 348 and 507 G. Its footnote names the official DeepLab code, whose layout
is built here, on the meta device, for counting alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from committee.models.sources.torchvision import import_torchvision
from committee.profile.macs import torch_macs

CLASSES = 19
UNITS = {"ResNet-50": (3, 4, 6, 3), "ResNet-101": (3, 4, 23, 3)}
WIDTHS = (64, 128, 256, 512)


class Unit(nn.Module):
    """A bottleneck; its stride, if it has one, stands in the 3 x 3 convolution."""

    def __init__(self, inside: int, width: int, stride: int, rate: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, width, 1),
            nn.Conv2d(width, width, 3, stride, rate, rate),
            nn.Conv2d(width, 4 * width, 1),
        )
        projects = inside != 4 * width
        self.short = (
            nn.Conv2d(inside, 4 * width, 1, stride) if projects else nn.MaxPool2d(1, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.short(x)


def _convolution(inside: int, rate: int) -> nn.Module:
    """A separable 3 x 3 convolution to 256 channels."""
    return nn.Sequential(
        nn.Conv2d(inside, inside, 3, 1, rate, rate, groups=inside), nn.Conv2d(inside, 256, 1)
    )


class Official(nn.Module):
    """DeepLabv3+ with ``resnet_v1_beta`` at output stride 16, as in the official code."""

    def __init__(self, units: tuple[int, ...], decoder: bool = True) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 3, 2, 1),
            nn.Conv2d(64, 64, 3, 1, 1),
            nn.Conv2d(64, 128, 3, 1, 1),
            nn.MaxPool2d(3, 2, 1),
        )
        channels, self.blocks = 128, nn.ModuleList()
        for number, (count, width) in enumerate(zip(units, WIDTHS, strict=True)):
            block = []
            for unit in range(count):
                # The third block keeps its resolution; the fourth has rate 2 in its place.
                stride = 2 if unit == count - 1 and number < 2 else 1
                block.append(Unit(channels, width, stride, 2 if number == 3 else 1))
                channels = 4 * width
            self.blocks.append(nn.Sequential(*block))
        self.pyramid = nn.ModuleList(
            [nn.Conv2d(2048, 256, 1), *(_convolution(2048, rate) for rate in (6, 12, 18))]
        )
        self.image, self.project = nn.Conv2d(2048, 256, 1), nn.Conv2d(1280, 256, 1)
        self.fine = nn.Conv2d(256, 48, 1) if decoder else None
        self.decoder = nn.Sequential(_convolution(304, 1), _convolution(256, 1))
        self.logits = nn.Conv2d(256, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        first = self.blocks[0]
        for unit in list(first)[:-1]:
            x = unit(x)
        fine, x = x, first[-1](x)
        for block in list(self.blocks)[1:]:
            x = block(x)
        mean = self.image(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        x = self.project(torch.cat([*(layer(x) for layer in self.pyramid), mean], 1))
        if self.fine is not None:
            x = functional.interpolate(x, size=fine.shape[2:])
            x = self.decoder(torch.cat([x, self.fine(fine)], 1))
        return self.logits(x)


def counted() -> dict[str, dict[str, float]]:
    """Billions of multiply-adds, by layout and backbone."""
    import_torchvision("this page")
    from torchvision.models import segmentation

    found: dict[str, dict[str, float]] = {}
    for name, units in UNITS.items():
        make = getattr(segmentation, f"deeplabv3_{name.replace('-', '').lower()}")
        with torch.device("meta"):
            theirs = make(weights=None, weights_backbone=None, num_classes=CLASSES)
            official, plain = Official(units), Official(units, decoder=False)
        for layout, module, size in (
            ("torchvision, output stride 8, 1024 x 2048", theirs, (1024, 2048)),
            ("official, no decoder, 1025 x 2049", plain, (1025, 2049)),
            ("official, 1024 x 2048", official, (1024, 2048)),
            ("official, 1025 x 2049", official, (1025, 2049)),
        ):
            found.setdefault(layout, {})[name] = torch_macs(module, (1, 3, *size)) / 1e9
    return found


def main() -> None:
    """Print a table."""
    print("| layout | ResNet-50, G | ResNet-101, G |\n|---|---|---|\n| paper | 348 | 507 |")
    for layout, both in counted().items():
        print(f"| {layout} | {both['ResNet-50']:,.1f} | {both['ResNet-101']:,.1f} |")


if __name__ == "__main__":
    main()
