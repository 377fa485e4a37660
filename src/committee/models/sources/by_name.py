"""What sources have in common whose models are torch modules that a library builds by name."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from committee.errors import UnknownNameError
from committee.models.base import RANDOM
from committee.spec.model import ENGINES


class ByName:
    """Names, weights and engines of such a source; see :class:`committee.models.base.Source`.

    A source adds its form, what is published of a model, and how one is loaded.
    """

    weights = frozenset({"file", RANDOM})
    engines = ENGINES

    def located(self, text: str, folder: Path) -> str:
        """A name is taken as it is; only its absence is refused.

        Raises:
            ValueError: If there is none.
        """
        if not text:
            raise ValueError
        return text


# How timm and torchvision register what builds a model, and the function that follows.
_REGISTER, _FUNCTION = "@register_model", re.compile(r"^def (\w+)\(", re.MULTILINE)


def check_registered(package: str, name: str) -> None:
    """Refuse a name that a library does not register, though it cannot be imported.

    Args:
        package: The library; its files are read, and nothing in them is run.
        name: Of a model.

    Raises:
        UnknownNameError: If the library's files register other names.
    """
    library = find_spec(package)
    if library is None or library.origin is None:
        return
    files = Path(library.origin).with_name("models").rglob("*.py")
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in files)
    parts = (part for text in texts for part in text.split(_REGISTER)[1:])
    known = {found.group(1) for part in parts if (found := _FUNCTION.search(part))}
    if known and name not in known:
        raise UnknownNameError.of(package, "model", name, known)
