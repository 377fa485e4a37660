"""A small world of segmentation: images, labels, and models that are a few lines of NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from committee.data.segmentation import open_segmentation
from committee.models.pool_file import read_pool_file
from committee.segment.predict import predict_tiles
from committee.segment.settings import read_settings

SIZE = (24, 36)
CLASSES = ("sky", "road", "tree")
IGNORED = 9

# Logits of each pixel from its colour, blurred by a number of pixels, and from the mean of all that
# the model sees; at half the resolution. ``noise`` makes a model worse.
MODELS = """
import numpy as np

MIX = np.array([[2.0, -1.0, -1.0], [-1.0, 2.0, -1.0], [-1.0, -1.0, 2.0]], np.float32)


def _model(blur, noise):
    def run(batch):
        total = np.zeros_like(batch)
        for dy in range(-blur, blur + 1):
            for dx in range(-blur, blur + 1):
                total += np.roll(batch, (dy, dx), (2, 3))
        mixed = np.einsum("kc,nchw->nkhw", MIX, total / (2 * blur + 1) ** 2)
        mixed += 0.2 * batch.mean((2, 3), keepdims=True)
        mixed += noise * np.sin(37 * batch[:, :1] + 11 * batch[:, 1:2])
        return np.ascontiguousarray(mixed[:, :, ::2, ::2])

    return run


def small():
    return _model(0, 1.5)


def medium():
    return _model(1, 0.8)


def large():
    return _model(1, 0.2)


def broken():
    return lambda batch: np.full((len(batch), 3, 4, 4), np.nan, np.float32)


def of_two():
    return lambda batch: np.zeros((len(batch), 2, 4, 4), np.float32)


def flat():
    return lambda batch: np.zeros((len(batch), 3), np.float32)
"""

MACS = {"small": 1e6, "medium": 3e6, "large": 9e6}


def write_world(
    root: Path, names: tuple[str, ...] = ("small", "large"), sizes: object = ("full", 12), count=6
) -> Path:
    """Write images, labels, models and a pool file; returns the pool file."""
    rng = np.random.default_rng(7)
    for split in ("val", "test"):
        for folder in ("images", "labels"):
            (root / split / folder).mkdir(parents=True)
        for i in range(count):
            truth = np.repeat(np.repeat(rng.integers(0, 3, (4, 6)), 6, 0), 6, 1)
            image = 90 + 60 * np.eye(3)[truth] + rng.normal(0, 45, (*SIZE, 3))
            truth[rng.random(SIZE) < 0.1] = IGNORED
            name = f"{split}{i}.png"
            values = image.clip(0, 255).astype(np.uint8)
            Image.fromarray(values).save(root / split / "images" / name)
            Image.fromarray(truth.astype(np.uint8)).save(root / split / "labels" / name)
    (root / "models.py").write_text(MODELS)
    listed = ", ".join(f'"{s}"' if isinstance(s, str) else str(s) for s in sizes)
    text = f"""task = "semantic-segmentation"
classes = {list(CLASSES)}

[preprocessing]
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]

[tiles]
sizes = [{listed}]
context = 4
counted_above = 0.6
ignore = {IGNORED}
"""
    for name in names:
        text += f'''
[[model]]
name = "{name}"
source = "python:models.py:{name}"
resolution = [24, 36]
costs.macs = {MACS.get(name, 1e6)}
'''
    path = root / "pool.toml"
    path.write_text(text)
    return path


def predicted(pool_file, store, **options):
    """Both splits of a small world in a store."""
    pool = read_pool_file(pool_file)
    settings = read_settings(pool)
    code = [str(pool_file.parent / "models.py")]
    for split in ("val", "test"):
        data = open_segmentation(
            pool_file.parent / split, split, pool.classes, settings.ignore, exif=settings.exif
        )
        predict_tiles(pool, data, store, allow_code=code, **options)
    return store
