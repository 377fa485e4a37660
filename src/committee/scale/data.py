"""Ray Data: the tables that it computes, and its threads, which must end before Ray does.

A thread that only lets go of an object of Ray while Ray ends takes the whole process with it,
without a word; one that asks Ray for something afterwards begins another Ray. So whatever is still
computed is ended first, and its threads are waited for: after an error, after Ctrl-C, and where
nobody has asked for the last table.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

# How the names of its threads begin. One more, the prefetcher, sleeps for ever and does no harm.
_THREADS = ("StreamingExecutor-", "ray-data-", "iter_threaded")
# Seconds in which they end on a busy machine; on others it takes a tenth of one.
_PATIENCE = 30.0
# What is computed now.
_open: set[Any] = set()


def ray_data() -> Any:
    """Return Ray Data, which shows no progress of its own, and logs into Ray's files."""
    from ray import data

    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.ERROR)
    data.DataContext.get_current().enable_progress_bars = False
    return data


def tables_of(dataset: Any) -> Iterator[Any]:
    """Yield the blocks of a data set of Ray as Arrow tables, as they are computed."""
    tables = iter(dataset.iter_batches(batch_size=None, batch_format="pyarrow"))
    _open.add(tables)
    try:
        yield from tables
    finally:
        _open.discard(tables)


def end_data(before: Collection[threading.Thread]) -> None:
    """End what is still computed, and wait for the threads that are not among those ``before``."""
    while _open:
        with suppress(Exception):  # the cluster may be gone
            _open.pop().close()
    until = time.monotonic() + _PATIENCE
    for thread in threading.enumerate():
        if thread.name.startswith(_THREADS) and thread not in before:
            thread.join(max(until - time.monotonic(), 0))
    gc.collect()  # objects of Ray in circles
