"""The machine that measures: what it is, and how much memory it has left."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path


def conditions(threads: int, batch_size: int) -> str:
    """What measured costs of a pool must share to be comparable, as one text.

    Args:
        threads: How many a model may use; 0 stands for as many as there are processors.
        batch_size: Samples a call.
    """
    used = threads or processors()
    return f"{processor()}, {used} {'thread' if used == 1 else 'threads'}, batch {batch_size}"


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's name, as the system tells it."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def available_bytes() -> float:
    """Memory that can still be had; infinite where the system does not tell."""
    path = Path("/proc/meminfo")
    if path.is_file():
        for line in path.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable"):
                return float(line.split()[1]) * 1024
    return float("inf")


def peak_bytes() -> int:
    """The most memory that this process has held so far; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
