"""Small clips whose frames say which they are, and models of clips that are numpy functions."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from committee.arrays import Array
from committee.spec.preprocessing import Preprocessing
from committee.spec.views import Views

CLASSES = ("fall", "rise")
SIZE = 8

# Both look at how the light changes within a view; ``blind`` hears little of it.
CODE = """
import numpy as np

seen = []

def _model(name, gain):
    def run(views):
        seen.append((name, len(views)))
        light = views.mean(axis=(1, 3, 4))
        change = light[:, -1] - light[:, 0]
        noise = np.sin(50 * light[:, 0]) * 0.1
        return np.stack([-(gain * change + noise), gain * change + noise], 1)
    return run

def blind():
    return _model("blind", 0.2)

def sighted():
    return _model("sighted", 3.0)
"""
POOL = """
task = "video-classification"
classes = ["fall", "rise"]
[views]
frames = 4
stride = 2
temporal = 4
spatial = 1
[preprocessing]
size = [8, 8]
channels = 1
mean = [0.5]
std = [0.5]
[[model]]
name = "blind"
source = "python:clip_models.py:blind"
view_blocks = 2
costs.macs = 4
[[model]]
name = "sighted"
source = "python:clip_models.py:sighted"
costs.macs = 40
"""


def recipe(size: int = SIZE, **fields: object) -> Preprocessing:
    """A preprocessing of grey views that leaves bytes between 0 and 1."""
    views = Views.from_json({"frames": 4, "temporal": 3, "spatial": 1, **fields})
    return Preprocessing((size, size), channels=1, mean=(0.0,), std=(1.0,), views=views)


def numbered(count: int, height: int = 16, width: int = 24) -> Array:
    """Frames (count, height, width, 3), each of one grey that tells its number, modulo 40."""
    levels = np.rint(20 + 5.4 * (np.arange(count) % 40)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3))


def number_of(level: float) -> int:
    """Which frame of :func:`numbered` has this level."""
    return round((level - 20) / 5.4)


def write_clip(
    path: Path,
    frames: Array,
    codec: str = "libx264",
    rate: int = 10,
    form: str = "yuv420p",
    stamps: Array | None = None,
    **options: str,
) -> Path:
    """Write frames (n, H, W, 3) with any codec; ``stamps`` are times in tenths, if uneven."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, options={"crf": "1", **options})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = form
        stream.codec_context.time_base = Fraction(1, rate)
        if form == "gray":
            stream.codec_context.color_range = 2  # its bytes use the whole range, and it says so
        for number, values in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(values), "rgb24")
            frame.pts = number if stamps is None else int(stamps[number])
            frame.time_base = Fraction(1, rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def write_world(folder: Path, clips: int = 24, seed: int = 0) -> Path:
    """A pool file, its code, and ``data/CLASS/NUMBER.mp4`` of clips that grow light or dark."""
    (folder / "clip_models.py").write_text(CODE)
    (folder / "pool.toml").write_text(POOL)
    numbers = np.random.default_rng(seed)
    for number in range(clips):
        label = number % 2
        change = numbers.uniform(-10, 60) * (1 if label else -1)
        light = 120 + change * np.linspace(-1, 1, 12)[:, None, None, None]
        light = light + numbers.normal(0, 10, (12, 1, 1, 1))
        frames = np.broadcast_to(light, (12, 16, 24, 3)).clip(0, 255).astype(np.uint8)
        write_clip(folder / "data" / CLASSES[label] / f"{number:02}.mp4", frames)
    return folder / "pool.toml"
