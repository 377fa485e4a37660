"""Which queue a free worker serves next, and how long what waits will take."""

from __future__ import annotations

from collections.abc import Sequence

from committee.serve.settings import Settings


def chosen(waiting: Sequence[int], waited: Sequence[float], settings: Settings) -> int:
    """Return the queue whose batch is to run next.

    A full batch comes first, of the latest stage, so that samples that are nearly decided leave;
    then one that waits too long; then the fullest, so that the others fill.

    Args:
        waiting: How many samples wait in each queue, at least one in all.
        waited: Seconds that the first of each queue has waited.
        settings: Sizes and delays.
    """
    queues = [queue for queue, count in enumerate(waiting) if count]
    full = [queue for queue in queues if waiting[queue] >= settings.batch_of(queue)]
    if full:
        return full[-1]
    over = {queue: waited[queue] - settings.delay_of(queue) for queue in queues}
    latest = max(queues, key=over.__getitem__)
    if over[latest] >= 0:
        return latest
    return max(queues, key=lambda queue: waiting[queue] / settings.batch_of(queue))


class Pace:
    """How long a sample takes, all its stages together, by the latest batches."""

    def __init__(self) -> None:
        self._seconds = self._samples = 0.0

    def add(self, seconds: float, samples: int) -> None:
        """Count a batch, and the samples that left after it."""
        self._seconds = 0.9 * self._seconds + seconds
        self._samples = 0.9 * self._samples + samples

    def seconds(self, samples: int) -> float:
        """Return how long so many samples will take."""
        return samples * self._seconds / max(self._samples, 1.0)
