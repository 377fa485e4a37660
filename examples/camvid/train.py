"""Train one of the three networks on CamVid's `train` set, on one CPU core; can be interrupted.

    python train.py small --data CAMVID --out /tmp/camvid

Every step draws its images, crops and flips from its own seed, so a run that was interrupted and
started again ends with the weights of one that was not.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from networks import CLASSES, network
from PIL import Image
from torch.nn import functional

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IGNORED = 11
BATCH = 8
# Sizes of crops (height, width): whole images and parts, for a cascade will show it parts.
CROPS = ((240, 240), (160, 160), (240, 240), (360, 480))
SAVE_EVERY = 50


def read(data: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (n, 3, H, W) and labels (n, H, W), bytes."""
    files = sorted((data / split / "images").iterdir())
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    labels = [np.asarray(Image.open(data / split / "labels" / f"{f.stem}.png")) for f in files]
    return torch.tensor(np.stack(images)).permute(0, 3, 1, 2), torch.tensor(np.stack(labels))


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Bytes to what the networks take."""
    mean = torch.tensor(MEAN)[:, None, None]
    return (images.float() / 255 - mean) / torch.tensor(DEVIATION)[:, None, None]


def batch(
    images: torch.Tensor, labels: torch.Tensor, seed: int, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch of one step: random images, scales, crops, flips and brightness."""
    random = np.random.default_rng([seed, step])
    height, width = CROPS[random.integers(len(CROPS))]
    xs, ys = [], []
    for index in random.choice(len(images), BATCH, replace=False):
        scale = max(random.uniform(0.75, 1.6), height / 360, width / 480)
        high, wide = round(height / scale), round(width / scale)
        top, left = random.integers(361 - high), random.integers(481 - wide)
        image = images[index, :, top : top + high, left : left + wide].float()
        label = labels[index, top : top + high, left : left + wide].float()
        size = (height, width)
        image = functional.interpolate(image[None], size=size, mode="bilinear")[0]
        label = functional.interpolate(label[None, None], size=size, mode="nearest")[0, 0]
        if random.random() < 0.5:
            image, label = image.flip(2), label.flip(1)
        xs.append((image * random.uniform(0.7, 1.3)).clamp(0, 255))
        ys.append(label.long())
    return normalised(torch.stack(xs)), torch.stack(ys)


def class_weights(labels: torch.Tensor) -> torch.Tensor:
    """Rare classes weigh more, by the root of how rare they are; the mean over pixels is 1."""
    share = torch.bincount(labels.flatten().long(), minlength=CLASSES + 1)[:CLASSES].double()
    share = share / share.sum()
    weights = share.rsqrt()
    return (weights / (weights * share).sum()).float()


def main() -> None:
    """Train, saving as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=3e-3)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    state_file = given.out / f"{given.name}.state"
    torch.manual_seed(given.seed)
    torch.set_num_threads(1)
    model = network(given.name).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(model.parameters(), given.rate, weight_decay=1e-2)
    plan = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, given.rate, total_steps=given.steps, pct_start=0.15
    )
    step, seconds = 0, 0.0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        plan.load_state_dict(state["plan"])
        step, seconds = state["step"], state["seconds"]
    images, labels = read(given.data, "train")
    weights = class_weights(labels)
    began, total = time.process_time(), 0.0
    while step < given.steps:
        x, y = batch(images, labels, given.seed, step)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x.contiguous(memory_format=torch.channels_last)).float()
        # At the networks' own resolution: the pixel in the middle of each of theirs.
        y = y[:, 2::4, 2::4]
        loss = functional.cross_entropy(logits, y, weights, ignore_index=IGNORED)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        plan.step()
        step += 1
        total += loss.item()
        if step % SAVE_EVERY == 0 or step == given.steps:
            used = seconds + time.process_time() - began
            print(
                f"{given.name} step {step} loss {total / SAVE_EVERY:.3f} core-seconds {used:.0f}",
                flush=True,
            )
            total = 0.0
            state = {
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "plan": plan.state_dict(),
                "step": step,
                "seconds": used,
            }
            torch.save(state, state_file.with_suffix(".part"))
            state_file.with_suffix(".part").replace(state_file)
    torch.save(model.state_dict(), given.out / f"{given.name}.pt")


if __name__ == "__main__":
    main()
