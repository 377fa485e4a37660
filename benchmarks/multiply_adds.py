"""Count the multiply-adds of the paper's image models, and write docs/multiply_adds.md.

    make multiply-adds

Everything is counted on torch's meta device: no weights, no compute, no network.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from committee.models.load import source_of
from committee.models.sources.timm import TimmSource
from committee.profile.macs import torch_macs
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing

PAGE = Path(__file__).parent.parent / "docs" / "multiply_adds.md"


@dataclass(frozen=True)
class Row:
    """A model of the paper, what names it here, and billions of multiply-adds in its table 13."""

    name: str
    text: str
    size: int
    paper: str = ""


ROWS = (
    Row("EfficientNet-B0", "tf_efficientnet_b0", 224),
    Row("EfficientNet-B1", "tf_efficientnet_b1", 240, "0.69"),
    Row("EfficientNet-B2", "tf_efficientnet_b2", 260, "1.0"),
    Row("EfficientNet-B3", "tf_efficientnet_b3", 300, "1.8"),
    Row("EfficientNet-B4", "tf_efficientnet_b4", 380, "4.4"),
    Row("EfficientNet-B5", "tf_efficientnet_b5", 456, "10.3"),
    Row("EfficientNet-B6", "tf_efficientnet_b6", 528, "19.1"),
    Row("EfficientNet-B7", "tf_efficientnet_b7", 600, "37"),
    Row("ResNet-50", "resnet50", 224),
    Row("ResNet-101", "resnet101", 224, "7.2"),
    Row("ResNet-152", "resnet152", 224, "10.9"),
    Row("ResNet-200", "resnet200", 224, "14.4"),
    Row("MobileNetV2 0.75@160", "mobilenetv2_075", 160),
    Row("MobileNetV2 1.0@160", "mobilenetv2_100", 160, "0.154"),
    Row("MobileNetV2 1.0@192", "mobilenetv2_100", 192, "0.22"),
    Row("MobileNetV2 1.0@224", "mobilenetv2_100", 224, "0.30"),
    Row("MobileNetV2 1.4@224", "mobilenetv2_140", 224, "0.58"),
    Row("ViT-B/16 224", "vit_base_patch16_224", 224),
    Row("ViT-B/16 384", "vit_base_patch16_384", 384),
    Row("ViT-L/16 224", "vit_large_patch16_224", 224),
    Row("ViT-L/16 384", "vit_large_patch16_384", 384),
)

HEAD = """# Multiply-adds of the paper's image models

Made by `make multiply-adds`; a test holds this page to what it counts. *Counted* is what
`committee` counts of the source, for one image; *paper* is table 13 of *Wisdom of Committees*
(ICLR 2022), which writes FLOPs and counts multiply-adds. Both are in billions. Where a field is
empty, the paper prints no figure.

| model | source | parameters, M | counted | paper | |
|---|---|---|---|---|---|
"""

NOTES = """
¹ The paper's ResNets halve the grid in the *last* unit of a block; those of timm and torchvision
in the first unit of the next, which then still reads the larger grid. With the strides of the very
same modules moved, the figures in this column are counted: the difference is the layout's alone.
What is counted of the model that you run is what it costs.

² 37.7 would round to 38. The paper writes whole billions here, and seems to have cut instead of
rounded.

What is counted: convolutions, matrix products and attention, one for a multiplication with its
addition. Biases, normalisation, activations and resizing are left out, as in the literature.
"""


def module(row: Row) -> nn.Module:
    """The model on the meta device, through the same code that loads it from a pool file."""
    side = (row.size, row.size)
    published = dict(source_of(f"timm:{row.text}").published(row.text, side))
    recipe = Preprocessing.from_json(published)
    with torch.device("meta"):
        spec = ModelSpec(row.name, f"timm:{row.text}", recipe, weights="random")
        return TimmSource().module(spec).eval()


def with_late_strides(network: nn.Module) -> nn.Module:
    """A ResNet with each block's stride moved from the first unit to the last of the block before.

    That is the layout of TensorFlow's ResNets, by which the paper was made.
    """
    blocks = [network.layer1, network.layer2, network.layer3, network.layer4]
    for block in blocks[1:]:
        block[0].conv2.stride = (1, 1)
        block[0].downsample[0].stride = (1, 1)
    for block in blocks[:-1]:
        block[-1].conv2.stride = (2, 2)
        block[-1].downsample = nn.MaxPool2d(1, 2)  # every second place of the shortcut
    return network


def line(row: Row) -> str:
    """One row of the table."""
    network, shape = module(row), (1, 3, row.size, row.size)
    counted = torch_macs(network, shape) / 1e9
    parameters = sum(each.numel() for each in network.parameters()) / 1e6
    note = ""
    if row.text.startswith("resnet"):
        late = torch_macs(with_late_strides(network), shape) / 1e9
        note = f"{late:.3f} with late strides ¹"
    elif row.paper and f"{counted:.{decimals(row.paper)}f}" == row.paper:
        note = "the same, rounded"
    elif row.paper:
        note = "²"
    source = f"`timm:{row.text}@{row.size}`"
    return f"| {row.name} | {source} | {parameters:.1f} | {counted:.3f} | {row.paper} | {note} |"


def decimals(number: str) -> int:
    """How many digits stand after the point."""
    return len(number.partition(".")[2])


def page() -> str:
    """The whole page."""
    return HEAD + "\n".join(line(row) for row in ROWS) + "\n" + NOTES


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
