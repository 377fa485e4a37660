"""Run this folder's cascade on images, tile by tile, with numpy, onnxruntime and Pillow alone.

    python run.py OUT image.jpg other.png

writes OUT/image.png, whose values are indices of classes, and prints one line of JSON an image.
From Python:

    from run import Cascade
    cascade = Cascade("this folder")
    cascade(PIL.Image.open("image.jpg"))

The folder ``committee`` holds the library's own files of the rule and of tiles, so that decisions
are the same.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from classify import prepared, rows_of  # type: ignore[import-not-found]  # lies beside this file
from opening import opened, write_rows  # type: ignore[import-not-found]  # likewise, in a bundle
from PIL import Image, ImageOps

from committee.arrays import Array
from committee.models.images import converted, of_8_bit
from committee.rule.flow import Answers, Request, decide, drive
from committee.rule.outputs import Outputs
from committee.segment.bilinear import bilinear
from committee.segment.tiling import Grid

# Windows a forward pass.
BATCH = 16


class Cascade:
    """The cascade of a folder, ready to decide on images one by one."""

    def __init__(self, folder: str | Path) -> None:
        self.models, self.rule, self.sessions, _ = opened(Path(folder))
        whole = next(model for model in self.models.values() if "tile" not in model)
        tiles = (model["tile"] for model in self.models.values() if "tile" in model)
        seen = next(((tile["side"], tile["context"]) for tile in tiles), (0, 0))
        self.grid = Grid(tuple(whole["preprocessing"]["size"]), *seen)
        self.exif = whole["preprocessing"]["exif"]

    def __call__(self, image: Image.Image) -> dict[str, Any]:
        """Run the stages on an image; a tile exits at the first stage that is confident enough.

        Returns:
            ``classes`` of each pixel, shape (height, width); ``stages`` of exit of each tile, from
            0, and ``scores`` there, shape (tiles,).
        """
        height, width = self.grid.image
        if self.exif:
            image = ImageOps.exif_transpose(image)
        if image.size != (width, height):
            own = f"{image.size[1]} x {image.size[0]}"
            raise ValueError(f"is {own} pixels, not {height} x {width}")
        image = converted(of_8_bit(image), 3)

        def answer(request: Request) -> Answers:
            return {
                name: Outputs("logits", self._outputs(name, image, request.rows))
                for name in request.models
            }

        decided = drive(decide(self.rule, len(self.grid)), answer)
        classes = self.grid.pasted(decided.predicted)
        return {"classes": classes, "stages": decided.stage, "scores": decided.score}

    def _outputs(self, name: str, image: Image.Image, tiles: Array) -> Array:
        """Return the logits of some tiles, shape (n, C, tile height, tile width)."""
        model = self.models[name]
        inputs = prepared(image, {**model["preprocessing"], "size": self.grid.image})[0]
        if "tile" not in model:
            whole = self._logits(name, inputs[None])[0]
            return self.grid.cut(whole)[tiles]
        batches = [tiles[start : start + BATCH] for start in range(0, len(tiles), BATCH)]
        return np.concatenate([
            self.grid.inner(self._logits(name, self.grid.windows(inputs, some)), some)
            for some in batches
        ])  # fmt: skip

    def _logits(self, name: str, batch: Array) -> Array:
        session = self.sessions[name]
        values = session.run(None, {session.get_inputs()[0].name: batch})[0]
        if not np.isfinite(values).all():
            raise ValueError(f"model {name!r}: NaN or infinite outputs")
        return bilinear(values.astype(np.float32), (batch.shape[2], batch.shape[3]))


def main(words: list[str]) -> int:
    """Decide on images; an unreadable image gives a row with an error and exit status 1."""
    if len(words) < 2:
        sys.stderr.write("run.py: say where to write, then which images\n")
        return 2
    try:
        cascade = Cascade(Path(__file__).parent)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"run.py: {error}\n")
        return 2
    out = Path(words[0])
    stems = [Path(path).stem for path in words[1:]]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        sys.stderr.write(f"run.py: {twice[0]}.png would be written twice; give names apart\n")
        return 2
    out.mkdir(parents=True, exist_ok=True)

    def decide_on(image: Image.Image, path: str) -> dict[str, Any]:
        made = cascade(image)
        wide = np.uint16 if made["classes"].max() > 255 else np.uint8
        classes = Image.fromarray(made["classes"].astype(wide))
        classes.save(out / Path(path).with_suffix(".png").name)
        return {"stages": made["stages"].tolist(), "scores": made["scores"].tolist()}

    return int(write_rows(rows_of(words[1:], decide_on)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
