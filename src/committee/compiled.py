"""The compiled part; None where there was no compiler when the library was installed.

Everything works without it, to the same bit and more slowly.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

native: Any
try:
    # The extension, not the face of the package, which imports this file.
    native = import_module("committee._native")
except ImportError:
    native = None
# What people should know where there is none; empty where it is there. The figures are ratios of
# processor time of benchmarks/search_small.py with and without --plain: 1.8 to 7.7 for three models
# on pools of several sizes, 44 for four.
PLAIN = (
    ""
    if native is not None
    else "without its compiled part, because nothing could be compiled when it was installed: "
    "search gives the same and takes 2 to 8 times as long for up to three models, and about 40 "
    "times as long for four"
)
