"""Several nodes of Ray on one machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

KILLS = pytest.mark.skipif(
    "RAY_FAULTS" not in os.environ,
    reason="a job that loses its driver, or a cluster a node, takes long: make test-ray",
)


@contextmanager
def nodes(count: int, cpus: int = 1, **settings: int) -> Iterator[Any]:
    """A cluster of so many nodes, none joined by this process, with settings of Ray's own."""
    # Workers would let all other tests go before them, and wait for minutes.
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"})
    from ray.cluster_utils import Cluster

    node = {"num_cpus": cpus, "object_store_memory": 2**27, "include_dashboard": False}
    head = {**node, "_system_config": settings} if settings else node
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(count - 1):
            cluster.add_node(**node)
        yield cluster
    finally:
        cluster.shutdown()
