"""Open the cascade of this folder, all files checked, and print a row for each sample."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime

from committee.rule.class_calibration import calibration_of

INFINITE = {"always": -math.inf, "never": math.inf}


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


def row_of(decided: Any, classes: list[str]) -> dict[str, Any]:
    """Return the decision on one sample as a row."""
    predicted = decided.predicted.item()
    return {
        "class_index": predicted,
        "class_name": classes[predicted] if classes else str(predicted),
        "confidence": decided.score.item(),
        "stage": decided.stage.item(),
    }


def run_as_program(
    words: list[str],
    usage: str,
    opening: Callable[[Path], Any],
    rows: Callable[[Any], Iterable[dict[str, Any]]],
) -> int:
    """Open the cascade of this folder and write its rows; return the exit status."""
    if set(words) & {"-h", "--help"}:
        sys.stdout.write(usage)
        return 0
    try:
        cascade = opening(Path(__file__).parent)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"run.py: {error}\n")
        return 2
    if not words:
        sys.stderr.write(usage)
        return 2
    return write_rows(rows(cascade))


def write_rows(rows: Iterable[dict[str, Any]]) -> int:
    """Write a line of JSON for each row; return 1 if one is an error."""
    failed = 0
    for row in rows:
        failed = 1 if "error" in row else failed
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
    return failed
