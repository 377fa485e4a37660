"""The machine that measures: its processor, and how much memory it has left."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from committee.selection.options import processors


def conditions(threads: int, batch_size: int) -> str:
    """Return in one text what measured costs of a pool must share to be comparable.

    Args:
        threads: How many a model may use; 0 stands for as many as there are processors.
        batch_size: Samples a call.
    """
    used = threads or processors()
    return f"{processor()}, {used} {'thread' if used == 1 else 'threads'}, batch {batch_size}"


def processor() -> str:
    """Return the name of the processor."""
    return _system_value("/proc/cpuinfo", "model name") or (
        platform.processor() or platform.machine()
    )


def available_bytes() -> float:
    """Return how much memory is free; infinity where the system does not say."""
    kibibytes = _system_value("/proc/meminfo", "MemAvailable").partition(" ")[0]
    return float(kibibytes) * 1024 if kibibytes else float("inf")


def _system_value(path: str, key: str) -> str:
    """Return the first value of that key in a file of Linux's; empty if there is none."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def peak_bytes() -> int:
    """Return the most memory that this process has held so far; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
