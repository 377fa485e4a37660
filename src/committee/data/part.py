"""Some of the samples of a data set, by ``START:STOP:STEP``."""

from __future__ import annotations

import numpy as np

from committee.data.base import Dataset
from committee.errors import DataError
from committee.models.preprocessing import Pictures
from committee.predictions import Array
from committee.samples import Samples


class PartDataset:
    """A data set seen through a choice of its rows.

    Args:
        whole: The data set.
        rows: Which of its samples, shape (n,).
    """

    def __init__(self, whole: Dataset, rows: Array) -> None:
        self._whole = whole
        self._rows = rows
        of = whole.samples
        labels = None if of.labels is None else of.labels[rows]
        self.samples = Samples(tuple(of.ids[i] for i in rows), labels, of.classes, of.split)

    def read(self, rows: Array) -> Pictures:
        """See :class:`committee.data.base.Dataset`."""
        return self._whole.read(self._rows[rows])


def part(dataset: Dataset, rows: str) -> Dataset:
    """The samples that ``START:STOP:STEP`` names, each number optional, as in Python.

    Raises:
        DataError: If it is not of that form or names no sample.
    """
    try:
        numbers = [int(number) if number else None for number in rows.split(":")]
        chosen = np.arange(len(dataset.samples))[slice(*numbers)]
    except (ValueError, TypeError):
        raise DataError(f"rows {rows!r} must be START:STOP or START:STOP:STEP") from None
    if ":" not in rows or not len(chosen):
        raise DataError(
            f"rows {rows!r} name no sample of {len(dataset.samples)}; write START:STOP:STEP"
        )
    return PartDataset(dataset, chosen)
