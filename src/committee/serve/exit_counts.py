"""Where samples exited since a cascade was loaded, for the page."""

from __future__ import annotations

import time
from typing import Any

from committee.serve.observers import Observer


class ExitCounts(Observer):
    """Counts the samples that exited at each stage, and those that failed."""

    def __init__(self, stages: int) -> None:
        self._since = time.time()
        self._exits, self._failed = [0] * stages, 0

    def exited(self, stage: int, score: float, cost: float | None, failed: bool) -> None:
        """See :class:`Observer`."""
        if failed:
            self._failed += 1
        else:
            self._exits[stage] += 1

    def shown(self, pending: int) -> dict[str, Any]:
        """Return the counts as JSON, with how many samples wait; ``since`` is in milliseconds."""
        counts = {"exits": self._exits, "failed": self._failed, "pending": pending}
        return {"since": round(1000 * self._since), **counts}
