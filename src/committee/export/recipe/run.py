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

import hashlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from committee.errors import CommitteeError
from committee.models.images import fit, of_8_bit
from committee.rule.class_calibration import calibration_of
from committee.rule.flow import Answers, Request, decide, drive
from committee.rule.outputs import Outputs, checked_outputs

INFINITE = {"always": -math.inf, "never": math.inf}


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

        decided = drive(decide(self.rule, 1), answer)
        predicted = decided.predicted.item()
        return {
            "class_index": predicted,
            "class_name": self.classes[predicted] if self.classes else str(predicted),
            "confidence": decided.score.item(),
            "stage": decided.stage.item(),
        }

    def _outputs(self, name: str, image: Image.Image) -> Outputs:
        session, model = self.sessions[name], self.models[name]
        batch = prepared(image, model["preprocessing"])
        values = session.run(None, {session.get_inputs()[0].name: batch})[0]
        return checked_outputs(f"model {name!r}", model["kind"], values)


def opened(folder: Path) -> tuple[dict[str, Any], Any, dict[str, Any], list[str]]:
    """Return models, rule, sessions and class names of a folder whose checksums are right."""
    vouched = _check_sums(folder)
    data = json.loads((folder / "cascade.json").read_text(encoding="utf-8"))
    sessions = {}
    for name, model in data["models"].items():
        path = model["source"].removeprefix("onnx:")
        if path not in vouched:
            raise ValueError(f"{path} has no line in SHA256SUMS")
        sessions[name] = _open_session(folder / path)
    rule = SimpleNamespace(
        stages=[
            SimpleNamespace(
                models=tuple(stage["models"]),
                threshold=INFINITE.get(stage["threshold"], stage["threshold"]),
            )
            for stage in data["stages"]
        ],
        confidence=data["confidence"],
        combine=data["combine"],
        calibrations={name: calibration_of(each) for name, each in data["calibrations"].items()},
    )
    return data["models"], rule, sessions, data["classes"]


def _check_sums(folder: Path) -> set[str]:
    """Compare every file with its checksum; return the names of the files."""
    names = set()
    for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        # Links are followed first.
        if ".." in Path(name).parts or not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{name} in SHA256SUMS leaves the folder")
        if not path.is_file():
            raise ValueError(f"{name} is missing")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise ValueError(f"{name} was altered")
        names.add(name)
    return names


def _open_session(path: Path) -> Any:
    """Return an onnxruntime session on the processor."""
    options = onnxruntime.SessionOptions()
    # Threads of one model that wait and spin would slow down the model that runs next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


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
    if set(paths) & {"-h", "--help"}:
        sys.stdout.write(usage)
        return 0
    try:
        cascade = Cascade(Path(__file__).parent)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"run.py: {error}\n")
        return 2
    if not paths:
        sys.stderr.write(usage)
        return 2
    return write_rows(paths, lambda image, _: cascade(image))


def write_rows(paths: list[str], decide_on: Callable[[Image.Image, str], dict[str, Any]]) -> int:
    """Write a row for each image, or why there is none; return the exit status."""
    failed = 0
    for path in paths:
        try:
            with Image.open(path) as image:
                row = decide_on(image, path)
        except (OSError, ValueError, CommitteeError, Image.DecompressionBombError) as error:
            row, failed = {"error": str(error)}, 1
        sys.stdout.write(json.dumps({"id": path, **row}, ensure_ascii=False) + "\n")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
