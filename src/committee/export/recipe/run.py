"""Run this folder's cascade on images, with numpy, onnxruntime and Pillow alone.

    python run.py image.jpg other.png

prints one line of JSON an image. From Python:

    from run import Cascade
    cascade = Cascade("this folder")
    cascade(PIL.Image.open("image.jpg"))

The folder ``committee`` holds the library's own files of the rule and of images, so that decisions
are the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from opening import (  # type: ignore[import-not-found]  # lies beside this file in a bundle
    opened,
    row_of,
    run_as_program,
)
from PIL import Image

from committee.errors import CommitteeError
from committee.models.images import fit, of_8_bit
from committee.rule.flow import Answers, Request, decide, drive
from committee.rule.outputs import Outputs, checked_outputs


class Cascade:
    """The cascade of a folder, ready to decide on images one by one."""

    def __init__(self, folder: str | Path) -> None:
        self.models, self.rule, self.sessions, self.classes = opened(Path(folder))

    def __call__(self, image: Image.Image) -> dict[str, Any]:
        """Run stage after stage until the cascade is sure enough.

        Returns:
            ``class_index``, ``class_name``, ``confidence`` and ``stage`` of exit, from 0.
        """
        image = of_8_bit(image)

        def answer(request: Request) -> Answers:
            return {name: self._outputs(name, image) for name in request.models}

        row: dict[str, Any] = row_of(drive(decide(self.rule, 1), answer), self.classes)
        return row

    def _outputs(self, name: str, image: Image.Image) -> Outputs:
        session, model = self.sessions[name], self.models[name]
        batch = prepared(image, model["preprocessing"])
        values = session.run(None, {session.get_inputs()[0].name: batch})[0]
        return checked_outputs(f"model {name!r}", model["kind"], values)


def prepared(image: Image.Image, recipe: dict[str, Any]) -> Any:
    """Return the input (1, channels, height, width), float32, of an image of 8 bit."""
    fields: Any = SimpleNamespace(**recipe)
    values = fit(image, fields).transpose(2, 0, 1)
    if recipe["order"] == "bgr":
        values = values[::-1]
    std = np.array(recipe["std"], np.float32)
    scale_by = np.float32(1) / (np.float32(255) * std)
    shift = -np.array(recipe["mean"], np.float32) / std
    return (values.astype(np.float32) * scale_by[:, None, None] + shift[:, None, None])[None]


def main(paths: list[str]) -> int:
    """Decide on images; one that cannot be read gives an error, and the others go on."""
    usage = "usage: python run.py IMAGE...   prints one line of JSON an image\n"
    return int(
        run_as_program(
            paths, usage, Cascade, lambda cascade: rows_of(paths, lambda image, _: cascade(image))
        )
    )


def rows_of(
    paths: list[str], decide_on: Callable[[Image.Image, str], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each image, or why there is none."""
    for path in paths:
        try:
            with Image.open(path) as image:
                row = decide_on(image, path)
        except (OSError, ValueError, CommitteeError, Image.DecompressionBombError) as error:
            row = {"error": str(error)}
        yield {"id": path, **row}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
