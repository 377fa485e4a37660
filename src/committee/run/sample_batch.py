"""Samples that are prepared once for all models that take the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor, Future

import numpy as np

from committee.arrays import Array
from committee.models.inputs import ModelInputs, RawSamples, ViewedClips, inputs_of
from committee.models.records import RecordBatch
from committee.spec.recipe import Recipe


class SampleBatch:
    """N samples, prepared once for each preprocessing that a stage needs.

    Args:
        count: N.
        images: N images that a preprocessing can be applied to, by preprocessing.
        inputs: What is prepared already, by preprocessing; see
            :func:`committee.models.inputs.inputs_of`.
    """

    def __init__(
        self,
        count: int,
        images: Mapping[Recipe, RawSamples],
        inputs: Mapping[Recipe, ModelInputs] | None = None,
    ) -> None:
        self._count = count
        self._images = images
        self._inputs = dict(inputs or {})
        self._begun: dict[Recipe, Future[ModelInputs]] = {}

    def __len__(self) -> int:
        return self._count

    def begin(self, recipe: Recipe, executor: Executor) -> None:
        """Prepare in another thread what will be needed soon."""
        if recipe not in self._inputs and recipe not in self._begun:
            self._begun[recipe] = executor.submit(inputs_of, self._images[recipe], recipe)

    def inputs(self, recipe: Recipe) -> ModelInputs:
        """Return what a model runs on: for images (N, channels, height, width), float32."""
        if recipe not in self._inputs:
            begun = self._begun.pop(recipe, None)
            self._inputs[recipe] = (
                inputs_of(self._images[recipe], recipe) if begun is None else begun.result()
            )
        return self._inputs[recipe]

    def raw(self, recipe: Recipe) -> RawSamples:
        """Return samples that a recipe can be applied to, as the data set gave them."""
        return self._images[recipe]

    def only(self, rows: Array, recipes: Collection[Recipe]) -> SampleBatch:
        """Return some of the images, for some preprocessings, without the rest."""
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


def joined_inputs(pieces: Sequence[ModelInputs]) -> ModelInputs:
    """Return inputs of one model, one after the other."""
    if len(pieces) == 1:
        return pieces[0]
    clips = [piece for piece in pieces if isinstance(piece, ViewedClips)]
    if clips:
        return clips[0].joined(clips[1:])
    records = [piece for piece in pieces if isinstance(piece, RecordBatch)]
    if records:
        return records[0].joined(records[1:])
    return np.concatenate([piece for piece in pieces if isinstance(piece, np.ndarray)])
