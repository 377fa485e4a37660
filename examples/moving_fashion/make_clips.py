"""Clips of Fashion-MNIST images that move: generated, with real motion of real images.

    python make_clips.py FASHION_MNIST OUT [--train N] [--val N] [--test N]

FASHION_MNIST holds the four idx files, OUT gets OUT/SPLIT/CLASS/NUMBER.mp4 and classes.txt. A class
is an object and the way it goes: ``bag-left``. An object stands somewhere, goes 6 to 12 pixels in
that direction during 10 to 20 of the 48 frames, and stands again; the camera shakes. Where it
stands and when it goes say nothing of where it goes, so a single frame cannot tell the class, nor
can a part of the clip in which nothing happens.

Train and val take their objects from the training images, no image twice; test from the others.
"""

from __future__ import annotations

import argparse
import gzip
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

# What each of the ten classes of Fashion-MNIST is called here.
KINDS = ("top", "trouser", "top", "dress", "top", "shoe", "top", "shoe", "bag", "shoe")
OBJECTS = ("top", "trouser", "dress", "shoe", "bag")
# Rows and columns that one step of each goes.
WAYS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
CLASSES = [f"{thing}-{way}" for thing in OBJECTS for way in WAYS]

FRAMES, RATE = 48, 12
HEIGHT, WIDTH, SIDE = 32, 48, 18
SHAKE = 0.5  # standard deviation of the camera's place, in pixels
GRAIN = 6.0  # of the noise, in levels of 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=16_000)
    parser.add_argument("--val", type=int, default=2_000)
    parser.add_argument("--test", type=int, default=2_000)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    learned, others = (read_images(args.source, name) for name in ("train", "t10k"))
    # What trains ends where what chooses begins.
    last = len(learned[0]) - args.val
    for seed, split, (images, labels), rows in (
        (0, "train", learned, np.arange(min(args.train, last))),
        (1, "val", learned, np.arange(last, last + args.val)),
        (2, "test", others, np.arange(args.test)),
    ):
        numbers = np.random.default_rng(seed)
        for row in rows.tolist():
            way = list(WAYS)[numbers.integers(len(WAYS))]
            frames = moving(images[row], way, numbers)
            folder = args.out / split / f"{KINDS[labels[row]]}-{way}"
            folder.mkdir(parents=True, exist_ok=True)
            if not (file := folder / f"{row:05d}.mp4").exists():
                write_clip(file, frames)


def read_images(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) and labels (N,) of two idx files."""
    with gzip.open(folder / f"{name}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(folder / f"{name}-labels-idx1-ubyte.gz") as file:
        return images, np.frombuffer(file.read(), np.uint8, offset=8)


def moving(image: np.ndarray, way: str, numbers: np.random.Generator) -> np.ndarray:
    """Frames (FRAMES, HEIGHT, WIDTH) of an image that goes a way."""
    reach, lasts = numbers.uniform(6, 12), int(numbers.integers(10, 21))
    begins = numbers.integers(2, FRAMES - lasts - 1)
    # From -1/2 to 1/2, so that before and after are alike for ways that are opposite.
    gone = np.clip((np.arange(FRAMES) - begins) / lasts, 0, 1) - 0.5
    # The middle of the path keeps the whole of it in the image, whatever the way.
    middle = [numbers.uniform(6, side - SIDE - 6) for side in (HEIGHT, WIDTH)]
    places = middle + reach * gone[:, None] * np.array(WAYS[way])
    places += numbers.normal(0, SHAKE, places.shape)
    small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    light, ground = numbers.uniform(0.7, 1.0), numbers.uniform(10, 60)
    frames = [shown(small, row, column) for row, column in places]
    lit = ground + light * np.stack(frames) * (255 - ground) / 255
    return np.clip(lit + numbers.normal(0, GRAIN, lit.shape), 0, 255).astype(np.uint8)


def shown(image: Image.Image, row: float, column: float) -> np.ndarray:
    """An image on a black ground, its corner at a place between pixels."""
    moved = image.transform(
        (WIDTH, HEIGHT),
        Image.Transform.AFFINE,
        (1, 0, -column, 0, 1, -row),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(moved, np.float64)


def write_clip(path: Path, frames: np.ndarray) -> None:
    """Write frames (T, H, W) as H.264."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.thread_count = 1
        stream.time_base = Fraction(1, RATE)
        for values in frames:
            frame = av.VideoFrame.from_ndarray(values, "gray")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


if __name__ == "__main__":
    main()
