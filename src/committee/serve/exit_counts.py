"""Where samples exited since a cascade was loaded, for the page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from committee.run.decision import Decision
from committee.serve.observers import Observer


class ExitCounts(Observer):
    """Counts the samples that exited at each stage, and those that failed."""

    def __init__(self, stages: int) -> None:
        self._since = time.time()
        self._exits, self._failed = [0] * stages, 0

    def exited(self, made: Sequence[Decision], failed: Sequence[int]) -> None:
        """See :class:`Observer`."""
        for each in made:
            self._exits[each.stage] += 1
        self._failed += len(failed)

    def shown(self, pending: int) -> dict[str, Any]:
        """Return the counts as JSON, with how many samples wait; ``since`` is in milliseconds."""
        counts = {"exits": self._exits, "failed": self._failed, "pending": pending}
        return {"since": round(1000 * self._since), **counts}
