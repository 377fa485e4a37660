"""What models answer on batches of samples, each sample read once for all of them.

:func:`committee.predict.predict` checks and writes it, wherever it is computed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from committee.arrays import Array
from committee.data.base import Dataset, map_ahead
from committee.models.base import Model
from committee.models.failures import Answered, Skipping, answered
from committee.models.inputs import ModelInputs, inputs_of, prepared
from committee.rule.outputs import Outputs
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing
from committee.spec.recipe import Recipe

Loaded: TypeAlias = tuple[Model, ModelSpec]
Inputs: TypeAlias = Mapping[Recipe, ModelInputs]

# Threads that read and prepare images while the models run. On two cores two suffice; more cores
# need more threads to keep up, and each thread costs the memory of a batch.
THREADS = max(2, min(4, (os.cpu_count() or 2) // 2))


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples that go through some of the models together.

    ``due`` are the numbers of the models that lack outputs for them; ``last`` says that the batch
    completes the chunk.
    """

    chunk: int
    rows: Array
    due: tuple[int, ...]
    last: bool


@dataclass(frozen=True, eq=False)
class Work:
    """Models that are to answer on samples.

    Args:
        loaded: The models, with their specs.
        dataset: The samples, in the order of the store.
        skip_broken: True to go on where a model fails on some samples.
        stored: One row of each model's outputs, as far as it was run before.
    """

    loaded: Sequence[Loaded]
    dataset: Dataset
    skip_broken: bool
    stored: Sequence[Outputs | None]


# Each batch with what the models that are due answer to it, in their order.
Computed: TypeAlias = Iterator[tuple[Batch, Iterator[Answered]]]
# Takes the batches of chunks; may yield the chunks in another order, but their batches together.
Compute: TypeAlias = Callable[[Work, Iterable[Batch]], Computed]


class Computing:
    """Runs models on batches, while threads read later batches; it may be called several times."""

    def __init__(self, work: Work) -> None:
        self._recipes = [spec.preprocessing for _, spec in work.loaded]
        self._read = _Reader(work.dataset, self._recipes)
        classes = len(work.dataset.samples.classes)
        self._askers = [
            Skipping(*pair, classes, row) if work.skip_broken else partial(answered, *pair)
            for pair, row in zip(work.loaded, work.stored, strict=True)
        ]

    def __call__(self, batches: Iterable[Batch]) -> Computed:
        """Yield each batch with the answers of the models, which run as they are asked for.

        Raises:
            BrokenSamplesError: If a batch cannot be read.
            CommitteeError: If a model gives no outputs that can be used.
        """
        for batch, inputs in map_ahead(self._read, batches, THREADS, THREADS + 1):
            yield batch, self._answers(batch, inputs)

    def _answers(self, batch: Batch, inputs: Inputs) -> Iterator[Answered]:
        for i in batch.due:
            yield self._askers[i](inputs[self._recipes[i]], int(batch.rows[0]))


def compute_here(work: Work, batches: Iterable[Batch]) -> Computed:
    """Run the models in this process."""
    return Computing(work)(batches)


class _Reader:
    """Reads a batch once and prepares it for every model that needs it; called by threads."""

    def __init__(self, dataset: Dataset, recipes: Sequence[Recipe]) -> None:
        self._dataset = dataset
        self._recipes = recipes

    def __call__(self, batch: Batch) -> Inputs:
        due = [self._recipes[i] for i in batch.due]
        images = [recipe for recipe in due if isinstance(recipe, Preprocessing)]
        if any(recipe.lazy for recipe in due):
            # Records are small, and frames arrive resized; a model makes its views when it runs.
            samples = self._dataset.read(batch.rows)
            return {recipe: inputs_of(samples, recipe) for recipe in due}
        return dict(self._prepared(batch.rows, images).items())

    def _prepared(
        self, rows: Array, recipes: Sequence[Preprocessing]
    ) -> dict[Preprocessing, Array]:
        first, step = 0, 1
        inputs = {recipe: np.empty((len(rows), *recipe.shape), np.float32) for recipe in recipes}
        # Photographs are read one by one: decoded, one may be a hundred times its inputs.
        while first < len(rows):
            images = self._dataset.read(rows[first : first + step])
            for recipe, values in inputs.items():
                prepared(images, recipe, values[first : first + len(images)])
            first += len(images)
            if isinstance(images, np.ndarray):
                # Arrays are small: read the rest at once.
                step = len(rows)
            # Free the memory before the next image is decoded.
            del images
        return inputs
