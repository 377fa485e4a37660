"""Held: samples on their way through the stages, in the forms that are still asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Executor, Future
from typing import cast

import numpy as np

from committee.models.clip import ModelInputs, inputs_of
from committee.models.inputs import Pictures, fitted
from committee.rule.outputs import Array
from committee.spec.preprocessing import Preprocessing


class Held:
    """N pictures or clips, prepared once for each preprocessing that a stage asks for.

    Args:
        count: N.
        pictures: By preprocessing, N pictures that it can be applied to.
        inputs: By preprocessing, what is prepared already; see :func:`committee.models.inputs_of`.
    """

    def __init__(
        self,
        count: int,
        pictures: Mapping[Preprocessing, Pictures],
        inputs: Mapping[Preprocessing, ModelInputs] | None = None,
    ) -> None:
        self._count = count
        self._pictures = pictures
        self._inputs = dict(inputs or {})
        self._begun: dict[Preprocessing, Future[ModelInputs]] = {}

    def __len__(self) -> int:
        return self._count

    def begin(self, recipe: Preprocessing, executor: Executor) -> None:
        """Prepare in another thread what will soon be asked for."""
        if recipe not in self._inputs and recipe not in self._begun:
            self._begun[recipe] = executor.submit(inputs_of, self._pictures[recipe], recipe)

    def inputs(self, recipe: Preprocessing) -> ModelInputs:
        """What a model runs on: of pictures (N, channels, height, width), float32."""
        if recipe not in self._inputs:
            begun = self._begun.pop(recipe, None)
            self._inputs[recipe] = (
                inputs_of(self._pictures[recipe], recipe) if begun is None else begun.result()
            )
        return self._inputs[recipe]

    def fitted(self, recipe: Preprocessing) -> Array:
        """Bytes (N, height, width, channels) of all pictures, resized and cut."""
        return fitted(self._pictures[recipe], recipe)

    def only(self, rows: Array, recipes: Collection[Preprocessing]) -> Held:
        """Some of the pictures, for some preprocessings; what else there was is let go.

        Args:
            rows: Which, rising, shape (n,).
            recipes: What will still be asked for.
        """
        inputs = {recipe: self._inputs[recipe] for recipe in recipes if recipe in self._inputs}
        pictures = {
            recipe: self._pictures[recipe]
            for recipe in recipes
            if recipe in self._pictures and recipe not in inputs
        }
        if len(rows) == self._count:
            return Held(self._count, pictures, inputs)
        return Held(
            len(rows),
            {recipe: _taken(some, rows) for recipe, some in pictures.items()},
            {recipe: values[rows] for recipe, values in inputs.items()},
        )


def _taken(pictures: Pictures, rows: Array) -> Pictures:
    if isinstance(pictures, np.ndarray):
        return pictures[rows]
    return cast("Pictures", [pictures[row] for row in rows])
