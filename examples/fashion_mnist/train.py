"""Train the embedded pool from seeds and export it to ONNX.

    python examples/fashion_mnist/train.py --data DIR --out DIR [--only NAME ...]

DIR holds the ``*-ubyte.gz`` files of Fashion-MNIST; Debian's dataset-fashion-mnist puts them
in /usr/share/datasets/fashion-mnist. Needs torch, onnx and onnxscript.
Of the 60,000 training images the last 5,000 are held out and never trained on; the log states the
accuracy there. The 10,000 official test images are not opened by this script.
"""

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np
import torch
from network import SIZES, Network
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

HELD_OUT = 5_000
MEAN, STD = 0.2860, 0.3530
BATCH = 128
EPOCHS = 16
SEED = 2022


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped idx file of bytes: images (N, 28, 28) or labels (N,)."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def normalise(images: np.ndarray) -> Tensor:
    """Bytes (N, 28, 28) to the float input (N, 1, 28, 28) of the networks."""
    return (torch.tensor(images).float().div_(255) - MEAN).div_(STD).unsqueeze(1)


def mirror(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the batch."""
    mirrored = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], x.flip(3), x)


def distort(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to 2 pixels and blank one square of it."""
    n = len(x)
    dy, dx = torch.randint(0, 5, (2, n, 1), generator=generator)
    rows, columns = torch.arange(28) + dy, torch.arange(28) + dx
    padded = nn.functional.pad(x, (2, 2, 2, 2), value=-MEAN / STD)
    x = padded[torch.arange(n)[:, None, None], 0, rows[:, :, None], columns[:, None, :]]
    top, left = torch.randint(-4, 28, (2, n, 1), generator=generator)
    steps = torch.arange(28)
    in_rows = (steps >= top) & (steps < top + 8)
    in_columns = (steps >= left) & (steps < left + 8)
    return x.masked_fill(in_rows[:, :, None] & in_columns[:, None, :], 0).unsqueeze(1)


@torch.no_grad()
def accuracy(network: nn.Module, x: Tensor, y: Tensor) -> float:
    network.eval()
    hits = sum(
        int((network(x[i : i + 500]).argmax(1) == y[i : i + 500]).sum())
        for i in range(0, len(x), 500)
    )
    return hits / len(x)


def train(name: str, data: tuple[Tensor, ...]) -> tuple[Network, dict]:
    """Train one network; the same seed, data and build of torch give the same weights."""
    x, y, x_held, y_held = data
    torch.manual_seed(SEED + list(SIZES).index(name))
    generator = torch.Generator().manual_seed(SEED + list(SIZES).index(name))
    network = Network(SIZES[name]).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    steps = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.2, epochs=EPOCHS, steps_per_epoch=steps, pct_start=0.2
    )
    loss_function = nn.CrossEntropyLoss()
    start = time.perf_counter()
    for epoch in range(EPOCHS):
        network.train()
        order = torch.randperm(len(x), generator=generator)
        total = 0.0
        for step in range(steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            batch = mirror(x[rows], generator)
            if SIZES[name].distorted:
                batch = distort(batch, generator)
            logits = network(batch.contiguous(memory_format=torch.channels_last))
            loss = loss_function(logits, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        held = accuracy(network, x_held, y_held)
        print(
            f"{name} epoch {epoch + 1}/{EPOCHS} loss {total / steps:.4f} held-out {held:.4f} "
            f"{time.perf_counter() - start:.0f} s",
            flush=True,
        )
    return network, {
        "held_out_accuracy": held,
        "epochs": EPOCHS,
        "seconds": round(time.perf_counter() - start),
    }


def multiply_adds(network: Network) -> int:
    """Multiply-adds of one image, counted on the meta device."""
    with FlopCounterMode(display=False) as counter:
        network.to("meta")(torch.zeros(1, 1, 28, 28, device="meta"))
    return counter.get_total_flops() // 2


def export(network: Network, path: Path) -> None:
    network.eval().to(memory_format=torch.contiguous_format)
    torch.onnx.export(
        network,
        (torch.zeros(2, 1, 28, 28),),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
        external_data=False,
        verbose=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    x = normalise(read_idx(arguments.data / "train-images-idx3-ubyte.gz"))
    y = torch.tensor(read_idx(arguments.data / "train-labels-idx1-ubyte.gz")).long()
    data = x[:-HELD_OUT], y[:-HELD_OUT], x[-HELD_OUT:], y[-HELD_OUT:]
    for name in arguments.only:
        network, log = train(name, data)
        export(network, arguments.out / f"{name}.onnx")
        log["parameters"] = sum(p.numel() for p in network.parameters())
        log["macs"] = multiply_adds(network)
        log["seed"] = SEED + list(SIZES).index(name)
        log["torch"] = torch.__version__
        (arguments.out / f"{name}.json").write_text(json.dumps(log, indent=1) + "\n")


if __name__ == "__main__":
    main()
