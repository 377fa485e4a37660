"""What sources have in common whose models are torch modules that a library builds by name."""

from __future__ import annotations

from pathlib import Path

from committee.models.base import RANDOM
from committee.models.spec import ENGINES


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
