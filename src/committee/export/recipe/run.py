"""Run this folder's cascade on images, with numpy, onnxruntime and Pillow alone.

    python run.py image.jpg other.png

prints one line of JSON an image. From Python:

    from run import Cascade
    cascade = Cascade("this folder")
    cascade(PIL.Image.open("image.jpg"))

The decision is the one that the library ``committee`` takes, number for number.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

SUREST = float(np.finfo(np.float32).max)
MODES = {1: "L", 3: "RGB"}


class Cascade:
    """The cascade of a folder, ready to decide on images one by one.

    Args:
        folder: Where ``cascade.json`` and ``SHA256SUMS`` are.

    Raises:
        ValueError: If a file is missing or altered; it is named.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        vouched = check_sums(folder)
        self.rule = json.loads((folder / "cascade.json").read_text(encoding="utf-8"))
        self.sessions = {}
        for name, model in self.rule["models"].items():
            path = model["source"].removeprefix("onnx:")
            if path not in vouched:
                raise ValueError(f"{path} has no line in SHA256SUMS")
            self.sessions[name] = open_session(folder / path)

    def __call__(self, image: Image.Image) -> dict[str, Any]:
        """Run stage after stage until the cascade is sure enough.

        Returns:
            ``class_index``, ``class_name``, ``confidence`` and ``stage`` of exit, from 0.
        """
        image = of_bytes(image)
        outputs: dict[str, Any] = {}
        index = -1
        # The last stage's threshold is minus infinity: there is always an exit.
        while True:
            index += 1
            stage = self.rule["stages"][index]
            for name in stage["models"]:
                outputs[name] = self._outputs(name, image)
            kind, values = self._combined(outputs)
            score = SCORES[self.rule["confidence"]](values, kind)
            # The exit rule: leave when the score reaches the threshold.
            if score >= as_number(stage["threshold"]):
                return self._told(values, score, index)

    def _told(self, values: Any, score: float, stage: int) -> dict[str, Any]:
        predicted = int(np.argmax(values))
        names = self.rule["classes"]
        return {
            "class_index": predicted,
            "class_name": names[predicted] if names else str(predicted),
            "confidence": float(score),
            "stage": stage,
        }

    def _outputs(self, name: str, image: Image.Image) -> Any:
        session = self.sessions[name]
        batch = prepared(image, self.rule["models"][name]["preprocessing"])
        values = session.run(None, {session.get_inputs()[0].name: batch})[0][0]
        # Minus infinity is a class that is masked; the largest is NaN if any is.
        if not np.isfinite(values.max()):
            raise ValueError(f"model {name!r}: NaN or infinite outputs")
        values = values.astype(np.float64)
        calibration = self.rule["calibrations"].get(name)
        if calibration is None:
            return values
        return calibrated(values, self.rule["models"][name]["kind"], calibration)

    def _combined(self, outputs: dict[str, Any]) -> tuple[str, Any]:
        kinds = {name: self.rule["models"][name]["kind"] for name in outputs}
        if self.rule["combine"] == "last":
            newest = list(outputs)[-1]
            return kinds[newest], outputs[newest]
        # Summed in the order of the names, so that every program computes the same bits.
        names = sorted(outputs)
        if self.rule["combine"] == "mean_logits":
            return "logits", sum(outputs[name] for name in names) / len(names)
        each = [softmax(outputs[name], kinds[name]) for name in names]
        return "probabilities", sum(each) / len(names)


def check_sums(folder: Path) -> set[str]:
    """Compare every file with its checksum; the names of the files."""
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


def open_session(path: Path) -> Any:
    """An onnxruntime session on the processor."""
    options = onnxruntime.SessionOptions()
    # Threads of one model that wait and spin would slow down the model that runs next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def of_bytes(image: Image.Image) -> Image.Image:
    """An image of 8 bit."""
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has 32 bit of no known range; save it as 8 bit")
    if image.mode in ("LAB", "La"):
        raise ValueError(f"mode {image.mode} is not converted to grey or RGB; save it as RGB")
    if not image.mode.startswith("I;16"):
        return image
    made = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "exif" in image.info:
        made.info["exif"] = image.info["exif"]
    return made


def coloured(image: Image.Image, channels: int) -> Image.Image:
    """An image in grey or RGB; transparency is left out."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(MODES[channels])


def prepared(image: Image.Image, recipe: dict[str, Any]) -> Any:
    """The input (1, channels, height, width), float32, of an image of 8 bit."""
    height, width = recipe["size"]
    image = ImageOps.exif_transpose(image) if recipe["exif"] else image
    image = coloured(image, recipe["channels"])
    if image.size != (width, height):
        full_width, full_height = covering(image, recipe)
        # Whole pixels of the resized image are cut off; the box is what is left of the image.
        left, top = round((full_width - width) / 2), round((full_height - height) / 2)
        across, down = image.width / full_width, image.height / full_height
        image = image.resize(
            (width, height),
            Image.Resampling[recipe["interpolation"].upper()],
            box=(left * across, top * down, (left + width) * across, (top + height) * down),
        )
    values = np.asarray(image).reshape(height, width, recipe["channels"]).transpose(2, 0, 1)
    if recipe["order"] == "bgr":
        values = values[::-1]
    std = np.array(recipe["std"], np.float32)
    scale_by = np.float32(1) / (np.float32(255) * std)
    shift = -np.array(recipe["mean"], np.float32) / std
    return (values.astype(np.float32) * scale_by[:, None, None] + shift[:, None, None])[None]


def covering(image: Image.Image, recipe: dict[str, Any]) -> tuple[int, int]:
    """Width and height to which the whole image is resized before the centre is cut out."""
    target_height, target_width = (round(side / recipe["crop"]) for side in recipe["size"])
    if recipe["resize"] == "squash":
        return target_width, target_height
    # The longer side is rounded down.
    if target_width * image.height >= target_height * image.width:
        return target_width, max(target_height, target_width * image.height // image.width)
    return max(target_width, target_height * image.width // image.height), target_height


def calibrated(values: Any, kind: str, calibration: dict[str, Any]) -> Any:
    """Outputs of one model, brought to the scale of its own errors."""
    made = applied(values, kind, calibration)
    before, after = values.argmax(), made.argmax()
    # Who led before stays ahead where rounding let another overtake.
    if before != after:
        made[before] = np.nextafter(made[after], np.inf)
    return made


def applied(values: Any, kind: str, calibration: dict[str, Any]) -> Any:
    """A temperature, or a rising function of the logarithms of the probabilities."""
    if calibration["method"] == "temperature":
        if kind == "logits":
            return values * calibration["slopes"][0]
        powers = values ** calibration["slopes"][0]
        return powers * (values.sum() / powers.sum())
    if kind == "logits":
        below = values - values.max()
        return rising(below - np.log(np.exp(below).sum()), calibration)
    with np.errstate(divide="ignore"):
        return softmax(rising(np.log(values), calibration), "logits")


def rising(values: Any, calibration: dict[str, Any]) -> Any:
    """A function made of straight pieces: what each contributes, summed from the left."""
    knots, slopes = calibration["knots"], calibration["slopes"]
    if not knots:
        return values * slopes[0] + calibration["offset"]
    mapped = (np.minimum(values, knots[0]) - knots[0]) * slopes[0] + calibration["offset"]
    for slope, low, high in zip(slopes[1:], knots, [*knots[1:], math.inf], strict=True):
        mapped = mapped + (np.clip(values, low, high) - low) * slope
    return mapped


def softmax(values: Any, kind: str) -> Any:
    """Probabilities of logits; probabilities pass."""
    if kind == "probabilities":
        return values
    exponentials = np.exp(values - values.max())
    return exponentials / exponentials.sum()


def max_prob(values: Any, kind: str) -> float:
    """Probability of the most likely class."""
    return float(softmax(values, kind).max())


def logit_gap(values: Any, kind: str) -> float:
    """Difference of the two largest logits; of probabilities, of their logarithms."""
    first, second = two_largest(values)
    if kind == "probabilities":
        first, second = math.log(first), math.log(second) if second > 0 else -math.inf
    return min(first - second, SUREST)


def prob_gap(values: Any, kind: str) -> float:
    """Difference of the two largest probabilities."""
    first, second = two_largest(softmax(values, kind))
    return first - max(second, 0.0)


def neg_entropy(values: Any, kind: str) -> float:
    """Negative entropy, in nats."""
    probabilities = softmax(values, kind)
    return float((probabilities * np.log(np.where(probabilities > 0, probabilities, 1))).sum())


def two_largest(values: Any) -> tuple[float, float]:
    """The two largest values; minus infinity where there is no second."""
    ordered = np.sort(values)
    return float(ordered[-1]), float(ordered[-2]) if len(ordered) > 1 else -math.inf


def as_number(threshold: float | str) -> float:
    """A threshold; ``always`` and ``never`` are minus and plus infinity."""
    return {"always": -math.inf, "never": math.inf}.get(str(threshold)) or float(threshold)


SCORES = {
    "max_prob": max_prob,
    "logit_gap": logit_gap,
    "prob_gap": prob_gap,
    "neg_entropy": neg_entropy,
}


def main(paths: list[str]) -> int:
    """Decide on images; one that cannot be read is told of, and the others go on."""
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
    failed = 0
    for path in paths:
        try:
            with Image.open(path) as image:
                told = cascade(image)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            told, failed = {"error": str(error)}, 1
        sys.stdout.write(json.dumps({"id": path, **told}, ensure_ascii=False) + "\n")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
