"""Tasks differ in one place: no code outside it compares one task with another."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import committee
from committee.spec import task
from committee.spec.task import (
    IMAGE_CLASSIFICATION,
    SEMANTIC_SEGMENTATION,
    TASKS,
    VIDEO_CLASSIFICATION,
)

ROOT = Path(committee.__file__).parent
# What may know that segmentation exists, and where tasks differ.
ROOMS = {"segment", "spec"}
CONSTANTS = {name for name in vars(task) if name.isupper()}


def questions(root: Path) -> list[str]:
    """Return every place that compares something with a task or with the name of one."""
    found = []
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0] in ROOMS:
            continue
        lines = [
            node.lineno
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Compare) and any(map(_is_task, ast.walk(node)))
        ]
        found += [f"{path.relative_to(root)}:{line}" for line in lines]
    return found


def _is_task(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return node.value in TASKS
    return (isinstance(node, ast.Name) and node.id in CONSTANTS) or (
        isinstance(node, ast.Attribute) and node.attr in CONSTANTS
    )


def test_nothing_asks_which_task_it_is():
    assert questions(ROOT) == []


@pytest.mark.parametrize(
    "code",
    [
        "if task is SEMANTIC_SEGMENTATION: pass",
        "x = 1 if spec.task == IMAGE_CLASSIFICATION.name else 2",
        "x = task.VIDEO_CLASSIFICATION != own",
        "x = spec.task in ('video-classification',)",
    ],
)
def test_a_question_is_noticed(tmp_path, code):
    (tmp_path / "run.py").write_text(code)
    (tmp_path / "segment").mkdir()
    (tmp_path / "segment" / "run.py").write_text(code)
    assert questions(tmp_path) == ["run.py:1"]


def test_what_differs_is_a_field():
    assert IMAGE_CLASSIFICATION.unit == IMAGE_CLASSIFICATION.sample == "image"
    assert (SEMANTIC_SEGMENTATION.unit, SEMANTIC_SEGMENTATION.dense) == ("tile", True)
    assert (VIDEO_CLASSIFICATION.samples, VIDEO_CLASSIFICATION.views) == ("clips", True)
