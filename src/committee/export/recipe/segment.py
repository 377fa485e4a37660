"""Run this folder's cascade on images, tile by tile, with numpy, onnxruntime and Pillow alone.

    python run.py OUT image.jpg other.png

writes OUT/image.png, whose values are indices of classes, and prints one line of JSON an image.
From Python:

    from run import Cascade
    cascade = Cascade("this folder")
    cascade(PIL.Image.open("image.jpg"))

The folder ``committee`` holds the library's own files of the rule, so that decisions are the same.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from classify import (  # type: ignore[import-not-found]  # lies beside this file in a bundle
    coloured,
    of_bytes,
    opened,
    prepared,
)
from PIL import Image, ImageOps

from committee.rule.flow import Answers, Request, decide, drive
from committee.rule.outputs import Outputs

# Windows that go through a model together.
BATCH = 16


class Cascade:
    """The cascade of a folder, ready to decide on images one by one.

    Args:
        folder: Where ``cascade.json`` and ``SHA256SUMS`` are.

    Raises:
        ValueError: If a file is missing or altered; it is named.
    """

    def __init__(self, folder: str | Path) -> None:
        self.models, self.rule, self.sessions, _ = opened(Path(folder))
        whole = next(model for model in self.models.values() if "tile" not in model)
        tiles = (model["tile"] for model in self.models.values() if "tile" in model)
        seen = next(((tile["side"], tile["context"]) for tile in tiles), (0, 0))
        self.tiles = Tiles(whole["preprocessing"]["size"], *seen)
        self.exif = whole["preprocessing"]["exif"]

    def __call__(self, image: Image.Image) -> dict[str, Any]:
        """Run stage after stage on the tiles of which the cascade is not yet sure.

        Returns:
            ``classes`` of each pixel, shape (height, width); ``stages`` of exit of each tile, from
            0, and ``scores`` there, shape (tiles,).
        """
        height, width = self.tiles.image
        if self.exif:
            image = ImageOps.exif_transpose(image)
        if image.size != (width, height):
            own = f"{image.size[1]} x {image.size[0]}"
            raise ValueError(f"is {own} pixels, not {height} x {width}")
        image = coloured(of_bytes(image), 3)

        def answer(request: Request) -> Answers:
            return {
                name: Outputs("logits", self._outputs(name, image, request.rows))
                for name in request.models
            }

        decided = drive(decide(self.rule, len(self.tiles.corners)), answer)
        classes = self.tiles.pasted(decided.predicted)
        return {"classes": classes, "stages": decided.stage, "scores": decided.score}

    def _outputs(self, name: str, image: Image.Image, left: Any) -> Any:
        """Logits of the tiles that are left, shape (n, C, height, width) of a tile."""
        model = self.models[name]
        given = prepared(image, {**model["preprocessing"], "size": self.tiles.image})[0]
        if "tile" not in model:
            whole = self._logits(name, given[None])[0]
            return np.stack([self.tiles.cut(whole, tile) for tile in left])
        parts = []
        for start in range(0, len(left), BATCH):
            some = left[start : start + BATCH]
            windows = np.stack([self.tiles.window(given, tile) for tile in some])
            values = self._logits(name, windows)
            parts += [self.tiles.inner(v, tile) for v, tile in zip(values, some, strict=True)]
        return np.stack(parts)

    def _logits(self, name: str, batch: Any) -> Any:
        session = self.sessions[name]
        values = session.run(None, {session.get_inputs()[0].name: batch})[0]
        if not np.isfinite(values).all():
            raise ValueError(f"model {name!r}: NaN or infinite outputs")
        return bilinear(values.astype(np.float32), batch.shape[2:])


class Tiles:
    """How an image is divided: a side of 0 is one tile, the image.

    What does not fit at the edge is shifted inwards; where tiles overlap, the first has the pixels.
    """

    def __init__(self, image: list[int], tile: int, context: int) -> None:
        height, width = self.image = tuple(image)
        self.side = (tile, tile) if tile else self.image
        around = tile + 2 * context
        self.seen = (min(around, height), min(around, width)) if tile else self.image
        high, wide = self.side
        self.corners = [
            (min(row * high, height - high), min(column * wide, width - wide))
            for row in range(math.ceil(height / high))
            for column in range(math.ceil(width / wide))
        ]
        self.windows = [
            (
                min(max(top - context, 0), height - self.seen[0]),
                min(max(left - context, 0), width - self.seen[1]),
            )
            for top, left in self.corners
        ]

    def cut(self, values: Any, tile: int) -> Any:
        """The pixels of a tile."""
        (top, left), (high, wide) = self.corners[tile], self.side
        return values[..., top : top + high, left : left + wide]

    def window(self, values: Any, tile: int) -> Any:
        """What a model sees of a tile."""
        (top, left), (high, wide) = self.windows[tile], self.seen
        return values[..., top : top + high, left : left + wide]

    def inner(self, values: Any, tile: int) -> Any:
        """Of a window, what lies in the tile."""
        top, left = (a - b for a, b in zip(self.corners[tile], self.windows[tile], strict=True))
        high, wide = self.side
        return values[..., top : top + high, left : left + wide]

    def pasted(self, classes: Any) -> Any:
        """The map of an image from those of its tiles."""
        out = np.empty(self.image, classes.dtype)
        for tile in reversed(range(len(self.corners))):
            self.cut(out, tile)[...] = classes[tile]
        return out


def bilinear(values: Any, size: tuple[int, int]) -> Any:
    """Maps (…, h, w) at another size, pixels' centres half a pixel from the edge."""
    if values.shape[-2:] == tuple(size):
        return values
    above, below, down = places(values.shape[-2], size[0])
    left, right, across = places(values.shape[-1], size[1])
    tall = values[..., above, :]
    tall += (values[..., below, :] - tall) * down[:, None]
    wide = tall[..., left]
    wide += (tall[..., right] - wide) * across
    return wide


def places(length: int, wanted: int) -> tuple[Any, Any, Any]:
    """For each place the neighbours it lies between, and its share of the second."""
    at = np.clip((np.arange(wanted) + 0.5) * (length / wanted) - 0.5, 0, length - 1)
    low = at.astype(np.int64)
    return low, np.minimum(low + 1, length - 1), (at - low).astype(np.float32)


def main(words: list[str]) -> int:
    """Decide on images; one that cannot be read is told of, and the others go on."""
    if len(words) < 2:
        sys.stderr.write("run.py: say where to write, then which images\n")
        return 2
    try:
        cascade = Cascade(Path(__file__).parent)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"run.py: {error}\n")
        return 2
    out, failed = Path(words[0]), 0
    stems = [Path(path).stem for path in words[1:]]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        sys.stderr.write(f"run.py: {twice[0]}.png would be written twice; give names apart\n")
        return 2
    out.mkdir(parents=True, exist_ok=True)
    for path in words[1:]:
        try:
            with Image.open(path) as image:
                found = cascade(image)
            told = {"stages": found["stages"].tolist(), "scores": found["scores"].tolist()}
            wide = np.uint16 if found["classes"].max() > 255 else np.uint8
            classes = Image.fromarray(found["classes"].astype(wide))
            classes.save(out / Path(path).with_suffix(".png").name)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            told, failed = {"error": str(error)}, 1
        sys.stdout.write(json.dumps({"id": path, **told}, ensure_ascii=False) + "\n")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
