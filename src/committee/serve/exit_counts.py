"""Where samples exited since a cascade was loaded, for the page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from committee.serve.observers import Exit, Observer


class ExitCounts(Observer):
    """Counts the samples that exited at each stage, and those that failed."""

    def __init__(self, stages: int) -> None:
        self._since = time.time()
        self._exits, self._failed = [0] * stages, 0

    def exited(self, exits: Sequence[Exit]) -> None:
        """See :class:`Observer`."""
        for each in exits:
            if each.failed:
                self._failed += 1
            else:
                self._exits[each.stage] += 1

    def shown(self, pending: int) -> dict[str, Any]:
        """Return the counts as JSON, with how many samples wait; ``since`` is in milliseconds."""
        counts = {"exits": self._exits, "failed": self._failed, "pending": pending}
        return {"since": round(1000 * self._since), **counts}
