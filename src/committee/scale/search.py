"""Search, evaluation and certificates on Ray: each shard of a pool is a task.

Tasks return counts, which add up in the driver; see :mod:`committee.pool.sharded`. Ray runs a task
again if its worker or node dies.
"""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from committee.errors import ClusterError
from committee.pool.sharded import Runs
from committee.scale.cluster import Cluster

Made = TypeVar("Made")
# Tasks that wait for each processor, so that results wait in memory for few of them.
_AHEAD = 4


def over_shards(cluster: Cluster) -> Runs[Any]:
    """Return what maps a function over the places of shards, each a task of one processor."""
    waiting = max(1, int(_AHEAD * cluster.cpus))

    def run(function: Callable[[Any], Made], places: Sequence[Any]) -> Iterator[Made]:
        import ray

        shared = ray.put(function)
        task: Any = ray.remote(num_cpus=1)(_on_worker)
        pending: deque[Any] = deque()
        for place in places:
            pending.append(task.remote(shared, place))
            if len(pending) >= waiting:
                yield ray.get(pending.popleft())
        while pending:
            yield ray.get(pending.popleft())

    return run


def _on_worker(function: Callable[[Any], Made], place: Any) -> Made:
    folder = Path(place if isinstance(place, str) else place[0])
    if not folder.exists():
        raise ClusterError(
            f"{folder}: not there on {platform.node()}. Every node must find the store under this "
            "path, as on a shared disk"
        )
    return function(place)
