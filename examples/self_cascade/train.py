"""Train one network for several input sizes, from a seed, and export it to ONNX.

    python train.py --data DIR --out DIR

DIR holds the ``*-ubyte.gz`` files of Fashion-MNIST. Needs torch, onnx and onnxscript. Every step of
training takes one of :data:`SIDES` by chance, so that one set of weights serves all of them. Of the
60,000 training images the last 5,000 are held out; the 10,000 test images are not opened here.
"""

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from committee.models.inputs import fitted
from committee.spec.preprocessing import Preprocessing

SIDES = (14, 20, 28)
HELD_OUT = 5_000
MEAN, STD = 0.2860, 0.3530
BATCH, EPOCHS, SEED = 128, 12, 2022
# Channels of each group and residual blocks in it; every group after the first halves the image.
WIDTHS, BLOCKS = (8, 24, 48), (0, 1, 1)


def convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)
    )


class Residual(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, channels unchanged."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = convolution(width, width, 1), convolution(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Network(nn.Module):
    """Grey images (N, 1, side, side) of any side, normalised, to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, stride = 1, 1
        for width, count in zip(WIDTHS, BLOCKS, strict=True):
            layers += [convolution(channels, width, stride), nn.ReLU()]
            layers += [Residual(width) for _ in range(count)]
            channels, stride = width, 2
        self.features = nn.Sequential(*layers)
        self.classify = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        # The mean over all places is what makes the size of the image free.
        return self.classify(self.features(x).mean((2, 3)))


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped idx file of bytes: images (N, 28, 28) or labels (N,)."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def at_side(images: np.ndarray, side: int) -> Tensor:
    """Bytes (N, 28, 28) as inputs (N, 1, side, side), resized as committee does when it runs."""
    recipe = Preprocessing((side, side), channels=1, mean=(MEAN,), std=(STD,))
    resized = torch.tensor(fitted(images, recipe)[..., 0])
    return (resized.float().div_(255) - MEAN).div_(STD).unsqueeze(1)


def distort(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, shift each by up to a 14th and blank a square of each."""
    n, side = len(x), x.shape[-1]
    mirrored = torch.rand(n, generator=generator) < 0.5
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    most, square, steps = side // 14, round(side * 8 / 28), torch.arange(side)
    dy, dx = torch.randint(0, 2 * most + 1, (2, n, 1), generator=generator)
    padded = nn.functional.pad(x, (most,) * 4, value=-MEAN / STD)
    rows, columns = (steps + dy)[:, :, None], (steps + dx)[:, None, :]
    x = padded[torch.arange(n)[:, None, None], 0, rows, columns]
    top, left = torch.randint(-square // 2, side, (2, n, 1), generator=generator)
    in_rows = (steps >= top) & (steps < top + square)
    in_columns = (steps >= left) & (steps < left + square)
    return x.masked_fill(in_rows[:, :, None] & in_columns[:, None, :], 0).unsqueeze(1)


@torch.no_grad()
def accuracy(network: nn.Module, x: Tensor, y: Tensor) -> float:
    network.eval()
    parts = zip(x.split(500), y.split(500), strict=True)
    return sum(int((network(a).argmax(1) == b).sum()) for a, b in parts) / len(x)


def train(x: dict[int, Tensor], y: Tensor) -> tuple[Network, dict]:
    """Train the network; the same seed, data and build of torch give the same weights."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    network = Network().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    count = len(y) - HELD_OUT
    steps = count // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.2, epochs=EPOCHS, steps_per_epoch=steps, pct_start=0.2
    )
    held: dict[int, float] = {}
    start = time.perf_counter()
    for epoch in range(EPOCHS):
        network.train()
        order = torch.randperm(count, generator=generator)
        for step in range(steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            side = SIDES[int(torch.randint(len(SIDES), (), generator=generator))]
            batch = distort(x[side][rows], generator)
            logits = network(batch.contiguous(memory_format=torch.channels_last))
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, y[rows]).backward()
            optimizer.step()
            schedule.step()
        held = {side: accuracy(network, x[side][count:], y[count:]) for side in SIDES}
        summary = ", ".join(f"{side}: {value:.4f}" for side, value in held.items())
        print(f"epoch {epoch + 1} {summary} {time.perf_counter() - start:.0f} s", flush=True)
    return network, {"held_out_accuracy": held, "epochs": EPOCHS}


def export(network: Network, path: Path) -> None:
    """Write the graph with free height and width."""
    network.eval().to(memory_format=torch.contiguous_format)
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=4)}
    torch.onnx.export(
        network,
        (torch.zeros(2, 1, 28, 20),),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes={"x": free | {3: torch.export.Dim("width", min=4)}},
        external_data=False,
        verbose=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    images = read_idx(arguments.data / "train-images-idx3-ubyte.gz")
    y = torch.tensor(read_idx(arguments.data / "train-labels-idx1-ubyte.gz")).long()
    x = {side: at_side(images, side) for side in SIDES}
    network, log = train(x, y)
    export(network, arguments.out / "small.onnx")
    (arguments.out / "small.json").write_text(json.dumps(log, indent=2) + "\n")


if __name__ == "__main__":
    main()
