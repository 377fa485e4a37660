"""Pools in the shape of the paper's: a family of architectures, each trained several times."""

from __future__ import annotations

import numpy as np

from committee import Pool
from committee.study.context import Study, study_of


def family_pools(
    sizes: int = 3, trainings: int = 2, samples: int = 600, classes: int = 5, seed: int = 0
) -> tuple[Pool, Pool]:
    """Two splits of ``sizes`` architectures; the dearer, the more often right.

    Models fail together on hard samples, and trainings of one architecture differ by noise of their
    own, so that ensembles gain something and not everything.
    """
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, 2 * samples)
    truth = np.eye(classes)[labels]
    hard = random.normal(0, 1, truth.shape)
    outputs, costs, families = {}, {}, {}
    for size in range(sizes):
        for training in range(trainings):
            name = f"b{size}-{training}"
            own = random.normal(0, 1, truth.shape)
            signal = 1.6 + 0.5 * size
            outputs[name] = (signal * truth + 0.8 * hard + 0.8 * own).astype(np.float32)
            costs[name] = 1e6 * 2**size
            families[name] = f"b{size}"
    pool = Pool.from_arrays(labels, outputs, kind="logits", costs=costs, families=families)
    return pool.rows(slice(0, samples), "val"), pool.rows(slice(samples, None), "test")


def family_study(**options: object) -> Study:
    """A study of :func:`family_pools`."""
    return study_of(*family_pools(), **options)  # type: ignore[arg-type]
