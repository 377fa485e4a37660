"""Batches of samples on their way through the stages, in the forms that are still needed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Executor, Future

import numpy as np

from committee.arrays import Array
from committee.models.inputs import ModelInputs, RawSamples, fitted, inputs_of
from committee.spec.preprocessing import Preprocessing


class SampleBatch:
    """N images or clips, prepared once for each preprocessing that a stage needs.

    Args:
        count: N.
        images: N images that a preprocessing can be applied to, by preprocessing.
        inputs: What is prepared already, by preprocessing; see
            :func:`committee.models.inputs.inputs_of`.
    """

    def __init__(
        self,
        count: int,
        images: Mapping[Preprocessing, RawSamples],
        inputs: Mapping[Preprocessing, ModelInputs] | None = None,
    ) -> None:
        self._count = count
        self._images = images
        self._inputs = dict(inputs or {})
        self._begun: dict[Preprocessing, Future[ModelInputs]] = {}

    def __len__(self) -> int:
        return self._count

    def begin(self, recipe: Preprocessing, executor: Executor) -> None:
        """Prepare in another thread what will be needed soon."""
        if recipe not in self._inputs and recipe not in self._begun:
            self._begun[recipe] = executor.submit(inputs_of, self._images[recipe], recipe)

    def inputs(self, recipe: Preprocessing) -> ModelInputs:
        """Return what a model runs on: for images (N, channels, height, width), float32."""
        if recipe not in self._inputs:
            begun = self._begun.pop(recipe, None)
            self._inputs[recipe] = (
                inputs_of(self._images[recipe], recipe) if begun is None else begun.result()
            )
        return self._inputs[recipe]

    def fitted(self, recipe: Preprocessing) -> Array:
        """Return the bytes (N, height, width, channels) of all images, resized and cut."""
        return fitted(self._images[recipe], recipe)

    def only(self, rows: Array, recipes: Collection[Preprocessing]) -> SampleBatch:
        """Return some of the images, for some preprocessings, without the rest.

        Args:
            rows: Indices of the images, rising, shape (n,).
            recipes: Preprocessings that are still needed.
        """
        inputs = {recipe: self._inputs[recipe] for recipe in recipes if recipe in self._inputs}
        images = {
            recipe: self._images[recipe]
            for recipe in recipes
            if recipe in self._images and recipe not in inputs
        }
        if len(rows) == self._count:
            return SampleBatch(self._count, images, inputs)
        return SampleBatch(
            len(rows),
            {recipe: _taken(some, rows) for recipe, some in images.items()},
            {recipe: values[rows] for recipe, values in inputs.items()},
        )


def _taken(images: RawSamples, rows: Array) -> RawSamples:
    if isinstance(images, np.ndarray):
        return images[rows]
    return [images[row] for row in rows]
