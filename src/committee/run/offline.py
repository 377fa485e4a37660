"""Offline: a cascade over a whole data set, window by window, in the order of the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from committee.data import Dataset, read_ahead
from committee.flow import Decisions
from committee.predictions import Array
from committee.run.runner import WINDOW, Runner


def run_offline(
    runner: Runner,
    dataset: Dataset,
    batch_size: int = 32,
    skipped: Callable[[Sequence[tuple[str, str]]], None] | None = None,
) -> Iterator[tuple[Array, Decisions]]:
    """Decide on all samples of a data set.

    A window of :data:`~committee.run.runner.WINDOW` batches is held in memory while the next are
    read; within it each stage runs on full batches of those that the stage before passed on.

    Args:
        runner: The cascade.
        dataset: The samples.
        batch_size: Samples a forward pass.
        skipped: If given, pictures that cannot be read are left out, and this is called with id and
            reason of each; else they are an error.

    Yields:
        Rows of the data set, shape (n,), and their decisions, in order.

    Raises:
        BrokenSamplesError: If samples of a window cannot be read and are not to be left out.
    """
    count, step = len(dataset.samples), batch_size * WINDOW
    windows = (np.arange(start, min(start + step, count)) for start in range(0, count, step))
    for rows, pictures in read_ahead(dataset, windows, 1, skipped):
        yield rows, runner.decide(pictures, batch_size)
