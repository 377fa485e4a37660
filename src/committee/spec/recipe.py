"""Recipe: how a sample becomes what a model takes, whatever a sample is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from committee.spec.views import Views


class Recipe(ABC):
    """Base of what a model's spec says of its input; recipes are frozen and equal by value."""

    views: Views | None

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch; empty if it is not fixed."""

    @property
    @abstractmethod
    def inputs(self) -> int:
        """How many inputs a model sees of one sample."""

    @property
    @abstractmethod
    def lazy(self) -> bool:
        """True if inputs are made when the model runs, not ahead of it."""

    @property
    @abstractmethod
    def sample(self) -> str:
        """One sample as the model sees it, for people."""

    @property
    def words(self) -> str:
        """Everything that it says, in one line, for people."""
        return ", ".join(f"{key} {value}" for key, value in self.to_json().items())

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the object that a store and a cascade file hold."""
