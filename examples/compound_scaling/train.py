"""Train the family on Fashion-MNIST from seeds, and write what every model says of both splits.

    python examples/compound_scaling/train.py --data DIR --out DIR [--phi 0 1 ...] [--seed 0 1 ...]

DIR of --data holds the ``*-ubyte.gz`` files of Fashion-MNIST; Debian's dataset-fashion-mnist puts
them in /usr/share/datasets/fashion-mnist. Needs torch.

Of the 60,000 training images the last 10,000 are held out: they are the split ``val``, on which
committees are chosen. The 10,000 official test images are the split ``test``; a model sees them
once, when its training is over.

Start the command as often as there are cores: each process takes the next model that is neither
done nor taken. A process that was killed goes on at the last epoch that it finished. All
models of one seed come before those of the next, so that an interrupted run leaves whole families.
"""

import argparse
import gzip
import io
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from network import Network, scaled
from torch import Tensor, nn

from committee.files import write_bytes, write_text
from committee.profile.macs import torch_macs

HELD_OUT = 10_000
MEAN, STD = 0.2860, 0.3530
BATCH = 128
EPOCHS = 8
LEARNING_RATE = 0.2
WEIGHT_DECAY = 5e-4


def name_of(phi: float, seed: int) -> str:
    return f"phi{phi:g}-seed{seed}"


def torch_seed(phi: float, seed: int) -> int:
    """A seed of its own for each model; models of one seed share no order of the images."""
    return 10_000 * (seed + 1) + round(100 * phi)


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped idx file of bytes: images (N, 28, 28) or labels (N,)."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def read_images(path: Path, side: int) -> Tensor:
    """Images of a file as the input (N, 1, side, side) of a network, resized and normalised."""
    images = torch.tensor(read_idx(path)).unsqueeze(1)
    resized = [
        nn.functional.interpolate(
            part.float(), (side, side), mode="bilinear", antialias=True, align_corners=False
        )
        for part in images.split(10_000)
    ]
    return torch.cat(resized).div_(255).sub_(MEAN).div_(STD)


def blanked_share(phi: float) -> float:
    """Share of the training images that have a square blanked.

    Larger networks are regularised more, as in the family of EfficientNets, where dropout grows
    with phi; small ones cannot overfit and only lose by it.
    """
    return max(0.0, phi) / 14


def distort(x: Tensor, blanked: float, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, and blank a square of a quarter's side in a share of them."""
    count, side = len(x), x.shape[-1]
    mirrored = torch.rand(count, generator=generator) < 0.5
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    hole, steps = round(side / 4), torch.arange(side)
    top, left = torch.randint(1 - hole, side, (2, count, 1), generator=generator)
    in_rows = (steps >= top) & (steps < top + hole)
    in_columns = (steps >= left) & (steps < left + hole)
    in_image = torch.rand(count, 1, generator=generator) < blanked
    square = (in_rows & in_image)[:, :, None] & in_columns[:, None, :]
    return x.masked_fill(square[:, None], 0)


def bytes_of(state: dict[str, Any]) -> bytes:
    """What torch.load(weights_only=True) reads back."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


class Training:
    """One model on its way: all that a checkpoint must hold."""

    def __init__(self, phi: float, seed: int, steps: int) -> None:
        torch.manual_seed(torch_seed(phi, seed))
        self.generator = torch.Generator().manual_seed(torch_seed(phi, seed))
        self.blanked = blanked_share(phi)
        self.network = Network(scaled(phi)).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=LEARNING_RATE,
            momentum=0.9,
            weight_decay=WEIGHT_DECAY,
            nesterov=True,
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=LEARNING_RATE, total_steps=EPOCHS * steps, pct_start=0.2
        )
        self.loss = nn.CrossEntropyLoss()
        self.epochs: list[dict[str, float]] = []

    def epoch(self, x: Tensor, y: Tensor) -> None:
        """Train on all images once, in full batches, and note how it went and how long."""
        core, wall = time.process_time(), time.perf_counter()
        self.network.train()
        order = torch.randperm(len(x), generator=self.generator)
        total, hits, batches = 0.0, 0, order[: len(x) // BATCH * BATCH].split(BATCH)
        for rows in batches:
            batch = distort(x[rows], self.blanked, self.generator)
            logits = self.network(batch.contiguous(memory_format=torch.channels_last))
            loss = self.loss(logits, y[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            total += loss.item()
            hits += int((logits.argmax(1) == y[rows]).sum())
        self.epochs.append(
            {
                "epoch": len(self.epochs) + 1,
                "loss": round(total / len(batches), 5),
                "training_accuracy": round(hits / (len(batches) * BATCH), 5),
                "core_seconds": round(time.process_time() - core, 2),
                "wall_seconds": round(time.perf_counter() - wall, 2),
            }
        )

    def save(self, path: Path) -> None:
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "epochs": self.epochs,
        }
        write_bytes(path, bytes_of(state))

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        self.epochs = state["epochs"]


@torch.no_grad()
def outputs(network: nn.Module, x: Tensor) -> np.ndarray:
    """Logits (N, 10) in float16."""
    network.eval()
    parts = [network(part.contiguous(memory_format=torch.channels_last)) for part in x.split(500)]
    return torch.cat(parts).to(torch.float16).numpy()


def write_outputs(path: Path, values: np.ndarray) -> None:
    """Write an npz that ``committee import`` reads."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, outputs=values)
    write_bytes(path, buffer.getvalue())


def train(phi: float, seed: int, data: Path, out: Path) -> None:
    """Train one model to the end, and write its outputs, its weights and, last, its log."""
    name, size = name_of(phi, seed), scaled(phi)
    checkpoint = out / "state" / f"{name}.pt"
    x = read_images(data / "train-images-idx3-ubyte.gz", size.resolution)
    y = torch.tensor(read_idx(data / "train-labels-idx1-ubyte.gz")).long()
    x, y, x_val, y_val = x[:-HELD_OUT], y[:-HELD_OUT], x[-HELD_OUT:], y[-HELD_OUT:]
    training = Training(phi, seed, steps=len(x) // BATCH)
    if checkpoint.is_file():
        training.load(checkpoint)
    while len(training.epochs) < EPOCHS:
        training.epoch(x, y)
        training.save(checkpoint)
        print(f"{name} {training.epochs[-1]}", flush=True)
    val = outputs(training.network, x_val)
    x_test = read_images(data / "t10k-images-idx3-ubyte.gz", size.resolution)
    write_outputs(out / "val" / f"{name}.npz", val)
    write_outputs(out / "test" / f"{name}.npz", outputs(training.network, x_test))
    write_bytes(out / "weights" / f"{name}.pt", bytes_of(training.network.state_dict()))
    log = {
        "name": name,
        "family": f"phi{phi:g}",
        "phi": phi,
        "seed": seed,
        "torch_seed": torch_seed(phi, seed),
        "resolution": size.resolution,
        "widths": size.widths,
        "blocks": size.blocks,
        "macs": torch_macs(training.network, (1, *x.shape[1:])),
        "parameters": sum(p.numel() for p in training.network.parameters()),
        "training_core_seconds": round(sum(e["core_seconds"] for e in training.epochs), 1),
        "training_wall_seconds": round(sum(e["wall_seconds"] for e in training.epochs), 1),
        "val_accuracy": float((val.argmax(1) == y_val.numpy()).mean()),
        "torch": torch.__version__,
        "epochs": training.epochs,
    }
    write_text(out / "logs" / f"{name}.json", json.dumps(log, indent=1) + "\n")
    checkpoint.unlink()
    print(f"{name} done: {log['val_accuracy']:.4f} on val", flush=True)


def in_order(phis: Iterable[float], seeds: Iterable[int]) -> list[tuple[float, int]]:
    """Seed by seed; the longest training first, so that processes end at about the same time."""
    return [(phi, seed) for seed in seeds for phi in sorted(phis, reverse=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="holds the *-ubyte.gz files")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--phi", type=float, nargs="+", default=list(range(8)))
    parser.add_argument("--seed", type=int, nargs="+", default=list(range(4)))
    parser.add_argument("--threads", type=int, default=1, help="of this process")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    locks = arguments.out / "state"
    locks.mkdir(parents=True, exist_ok=True)
    for phi, seed in in_order(arguments.phi, arguments.seed):
        name = name_of(phi, seed)
        try:
            # The system frees the lock of a process that dies.
            with FileLock(locks / f"{name}.lock", timeout=0):
                if not (arguments.out / "logs" / f"{name}.json").is_file():
                    train(phi, seed, arguments.data, arguments.out)
        except Timeout:
            print(f"{name} is being trained by another process", flush=True)


if __name__ == "__main__":
    main()
