"""Folders of stores of decisions, whose samples are those of one pool."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from committee import Pool
from committee.store.import_predictions import write_pool

COSTS = {"a": 1.0, "b": 3.0, "c": 9.0}


def decisions(samples: int, seed: int = 0, split: str = "val", **changed: object) -> Pool:
    """A pool of three models, of which dearer ones are more often right."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 5, samples)
    outputs = {}
    for place, name in enumerate(COSTS):
        confidence = random.random(samples).round(3)
        right = random.random(samples) < 0.4 + 0.1 * place + 0.4 * confidence
        outputs[name] = (np.where(right, labels, (labels + 1) % 5), confidence)
    options = {"costs": COSTS, "ids": [f"s{seed}-{row:05}" for row in range(samples)]}
    return Pool.from_arrays(
        labels, outputs, kind="decisions", split=split, **{**options, **changed}
    )


def write_shards(folder: Path, pool: Pool, cuts: list[int]) -> Path:
    """Write the rows of a pool into a folder of stores, cut where ``cuts`` say."""
    ends = [0, *cuts, len(pool)]
    for number, (start, stop) in enumerate(itertools.pairwise(ends)):
        write_pool(folder / f"{number:04}", pool.rows(slice(start, stop), pool.samples.split))
    return folder
