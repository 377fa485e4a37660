"""Optional packages: those of an extra, those that are missing, and the line that installs them."""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_OWN = re.compile(r"committee\[([^\]]*)\]")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
# Modules that are not named like their distribution.
_MODULES = {"pillow": "PIL"}
_TORCH = (
    "; where there is no GPU, first: "
    "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu"
)


def requirements(*extras: str) -> list[str]:
    """Return the requirements of some extras, each with its oldest version.

    >>> requirements("onnx")
    ['onnx>=1.17', 'onnxruntime>=1.20']
    """
    found: dict[str, None] = {}
    for line in _declared():
        need, _, marker = (part.strip() for part in line.partition(";"))
        extra = _EXTRA.search(marker)
        if extra is None or extra[1] not in extras:
            continue
        own = _OWN.match(need)
        needs = requirements(*own[1].split(",")) if own else [need]
        found |= dict.fromkeys(needs)
    return sorted(found)


def missing(*extras: str) -> list[str]:
    """Return the requirements of some extras that are not installed."""
    return [each for each in requirements(*extras) if not _is_there(each)]


def install_line(*needs: str) -> str:
    """Return the command that installs packages.

    >>> install_line("pillow>=10.3")
    'pip install "pillow>=10.3"'
    """
    line = "pip install " + " ".join(f'"{need}"' for need in needs)
    return line + (_TORCH if any(_name(need).startswith("torch") for need in needs) else "")


@lru_cache(maxsize=1)
def _declared() -> list[str]:
    try:
        return requires("committee") or []
    except PackageNotFoundError:  # a copy of the sources that was never installed
        return []


def _name(need: str) -> str:
    found = _NAME.match(need)
    return found[0] if found else need


def _is_there(need: str) -> bool:
    module = _MODULES.get(_name(need), _name(need))
    if module in sys.modules:
        return sys.modules[module] is not None
    return find_spec(module) is not None
