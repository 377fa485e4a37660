"""Tasks with their own ``predict`` and ``run``."""

from __future__ import annotations

from types import ModuleType

from committee.cli import segmentation
from committee.spec.task import SEMANTIC_SEGMENTATION, Task

# Each module has the functions ``predict`` and ``run``.
_COMMANDS = {SEMANTIC_SEGMENTATION.name: segmentation}


def commands_of(task: Task) -> ModuleType | None:
    """Return the module with the commands of a task; None if it has none of its own."""
    return _COMMANDS.get(task.name)
