"""Train a network on the clips of make_clips.py; goes on where it was stopped.

    python train.py CLIPS NAME [--epochs E]      writes NAME.safetensors beside this file

It learns from CLIPS/train alone: single views, that is 8 frames, every second one, of a part of the
clip chosen by chance. One thread is used; the figures of README.md took 3 to 20 minutes a network.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import av
import network
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from make_clips import CLASSES, FRAMES, HEIGHT, WIDTH
from safetensors.torch import save_file

HERE = Path(__file__).parent
VIEW, STRIDE, SIDE, BATCH = 8, 2, 32, 64
MEAN, STD = 0.3, 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("name", choices=("small", "middle", "large"))
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    frames, labels = training_set(args.clips)
    model = getattr(network, args.name)()
    steps = len(frames) // BATCH
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 3e-3, total_steps=steps * args.epochs, pct_start=0.15
    )
    state = args.clips / f"{args.name}.state"
    begun = 0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        begun = saved["epoch"]
    for epoch in range(begun, args.epochs):
        started, numbers = time.perf_counter(), np.random.default_rng(epoch)
        lost = right = 0.0
        model.train()
        order = numbers.permutation(len(frames))[: steps * BATCH].reshape(steps, BATCH)
        for rows in order:
            outputs = model(views(frames, rows, numbers))
            wanted = torch.from_numpy(labels[rows])
            loss = torch.nn.functional.cross_entropy(outputs, wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            lost += loss.item() / steps
            right += (outputs.argmax(1) == wanted).float().mean().item() / steps
        print(
            f"{args.name} epoch {epoch}: loss {lost:.3f}, right {right:.3f} of single views, "
            f"{time.perf_counter() - started:.0f} s",
            flush=True,
        )
        whole = {
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "epoch": epoch + 1,
        }
        torch.save(whole, state)
    kept = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(kept, HERE / f"{args.name}.safetensors")


def training_set(clips: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames (N, FRAMES, HEIGHT, WIDTH) and labels (N,), decoded once and kept beside the clips."""
    files = sorted((clips / "train").glob("*/*.mp4"))
    labels = np.array([CLASSES.index(file.parent.name) for file in files])
    kept = clips / "train.npy"
    if not kept.exists():
        frames = np.empty((len(files), FRAMES, HEIGHT, WIDTH), np.uint8)
        for row, file in enumerate(files):
            with av.open(str(file)) as opened:
                opened.streams.video[0].thread_count = 1
                grey = VideoReformatter()
                for i, frame in enumerate(opened.decode(video=0)):
                    frames[row, i] = grey.reformat(frame, format="gray").to_ndarray()
        np.save(kept, frames)
    return np.load(kept, mmap_mode="r"), labels


def views(frames: np.ndarray, rows: np.ndarray, numbers: np.random.Generator) -> torch.Tensor:
    """One view of each clip, chosen by chance: (N, 1, VIEW, SIDE, SIDE)."""
    made = np.empty((len(rows), 1, VIEW, SIDE, SIDE), np.float32)
    for i, row in enumerate(rows):
        first = numbers.integers(FRAMES - (VIEW - 1) * STRIDE)
        left = numbers.integers(WIDTH - SIDE + 1)
        made[i, 0] = frames[row, first::STRIDE, :, left : left + SIDE][:VIEW]
    return torch.from_numpy((made / 255 - MEAN) / STD)


if __name__ == "__main__":
    main()
