"""The compiled part; None where there was no compiler when the library was installed.

Everything works without it, to the same bit and more slowly.
"""

from __future__ import annotations

from typing import Any

try:
    from committee import _native
except ImportError:
    _native = None  # type: ignore[assignment]

native: Any = _native
