"""The compiled part; None where there was no compiler when the library was installed.

Everything works without it, to the same bit and more slowly.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

try:
    from committee import _native
except ImportError:
    _native = None  # type: ignore[assignment]

native: Any = _native
# What people should know where there is none; empty where it is there.
PLAIN = (
    ""
    if _native is not None
    else "without its compiled part, for no compiler was there when it was installed: search gives "
    "the same and takes several times as long"
)


@cache
def warn_if_plain() -> None:
    """Say once, on standard error unless logging is set up otherwise, that searches are slow."""
    if PLAIN:
        logging.getLogger("committee").warning("Note: this is committee %s.", PLAIN)
