"""Inputs of models, prepared from pictures once for all stages that take the same."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from committee.models import ModelInputs, Pictures, Preprocessing, inputs_of, prepared
from committee.predictions import Array


class Inputs:
    """Prepared pictures of one window.

    Args:
        pictures: N of them.
        kept: Preprocessings that a later stage will ask for again; their results are kept.
    """

    def __init__(self, pictures: Pictures, kept: Collection[Preprocessing]) -> None:
        self._pictures = pictures
        self._kept = kept
        self._known: dict[Preprocessing, tuple[Array, Array]] = {}

    def batch(self, rows: Array, preprocessing: Preprocessing) -> ModelInputs:
        """The inputs of some pictures (n, channels, height, width), or of some clips.

        Args:
            rows: Which, rising, shape (n,).
            preprocessing: The recipe.
        """
        if preprocessing.views is not None:
            # Its frames lie ready, resized; to keep every view besides would fill memory.
            return inputs_of(_taken(self._pictures, rows), preprocessing)
        if preprocessing not in self._kept:
            return inputs_of(_taken(self._pictures, rows), preprocessing)
        if preprocessing in self._known:
            values, ready = self._known[preprocessing]
            if ready[rows].all():
                return values[rows]
        made = prepared(_taken(self._pictures, rows), preprocessing)
        self._keep(rows, preprocessing, made)
        return made

    def _keep(self, rows: Array, preprocessing: Preprocessing, made: Array) -> None:
        count = len(self._pictures)
        if len(rows) == count:
            self._known[preprocessing] = made, np.ones(count, bool)
            return
        if preprocessing not in self._known:
            values = np.empty((count, *made.shape[1:]), made.dtype)
            self._known[preprocessing] = values, np.zeros(count, bool)
        values, ready = self._known[preprocessing]
        values[rows], ready[rows] = made, True


def _taken(pictures: Pictures, rows: Array) -> Pictures:
    if isinstance(pictures, np.ndarray):
        # All rows, as at the first stage of a single batch: no copy.
        return pictures if len(rows) == len(pictures) else pictures[rows]
    return [pictures[row] for row in rows]
