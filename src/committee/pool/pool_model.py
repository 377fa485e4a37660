"""PoolModel: one model of a pool, and what its outputs alone tell of the samples."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.pool.identity import may_be_precise, output_copies, output_digests, precise_rows
from committee.pool.samples import Samples, fingerprint
from committee.rule.calibration import Calibration
from committee.rule.outputs import WITH_CONFIDENCE, Kind, Outputs
from committee.spec.model import KnownModel

# Samples beyond which copies are not looked for.
_MOST_COMPARED = 100_000


@dataclass(frozen=True, eq=False)
class PoolModel:
    """One model of a pool.

    Args:
        spec: What is known of it, with its costs and its family.
        outputs: Its outputs as it gave them, one row a sample, in the order of the samples.
        calibration: What committees apply to its outputs before they are combined.
        sample_costs: What each sample cost, shape (N,), by unit, where that differs; the spec then
            has the mean.
        cross_fitted: Its calibrated outputs on samples that the calibration was fitted to, each by
            a fit without that sample; see :mod:`committee.calibration.cross_fitting`.
    """

    spec: KnownModel
    outputs: Outputs
    calibration: Calibration | None = None
    sample_costs: Mapping[str, Array] = field(default_factory=dict)
    cross_fitted: Outputs | None = None

    @property
    def kind(self) -> Kind:
        """Kind of its outputs once they are calibrated."""
        own = self.outputs.kind
        return own if self.calibration is None else self.calibration.made(own)

    @property
    def width(self) -> int | None:
        """How many classes its calibrated outputs have; None of decisions and outcomes."""
        if self.kind in WITH_CONFIDENCE:
            return None
        known = None if self.calibration is None else self.calibration.width
        return known or self.outputs.values.shape[1]

    def calibrated(self, rows: Array | slice) -> Outputs:
        """Return its calibrated outputs for some samples."""
        if self.cross_fitted is not None:
            return self.cross_fitted.rows(rows)
        own = self.outputs.rows(rows)
        return own if self.calibration is None else self.calibration.apply(own)

    def rows(self, index: Any) -> PoolModel:
        """Return the same on some of the samples; ``index`` as in NumPy."""
        costs = {unit: each[index] for unit, each in self.sample_costs.items()}
        apart = None if self.cross_fitted is None else self.cross_fitted.rows(index)
        outputs = self.outputs.rows(index)
        return replace(self, outputs=outputs, sample_costs=costs, cross_fitted=apart)

    def with_calibration(self, calibration: Calibration | None) -> PoolModel:
        """Return the model with another calibration, or itself if that is the one it has."""
        if calibration == self.calibration:
            return self
        return replace(self, calibration=calibration, cross_fitted=None)

    @cached_property
    def digests(self) -> Array:
        """A number for what the model answers to each sample, shape (N,), uint64."""
        return output_digests(self.spec.name, self.outputs)

    @cached_property
    def fingerprint(self) -> str:
        """Changes when what the model answers to these samples does, whatever their order."""
        return fingerprint([np.sort(self.digests).astype("<u8").tobytes().hex()])


def digests_of(models: Iterable[PoolModel], samples: int) -> Array:
    """Return a number for what some models answer to each sample, shape (N,), uint64."""
    total: Array = np.zeros(samples, np.uint64)
    for model in models:
        total = total + model.digests
    return total


def copies_in(samples: Samples, models: Collection[PoolModel]) -> str:
    """Return a note on samples that are copies of others by the models' outputs; often empty.

    It is empty if contents are known, or there are very many samples.
    """
    precise_outputs = any(may_be_precise(model.outputs) for model in models)
    if not precise_outputs or samples.content is not None or len(samples) > _MOST_COMPARED:
        return ""
    digests: Array = np.zeros(len(samples), np.uint64)
    for model in models:
        digests = digests + model.digests
        # Rows that differ in some models differ in all of them together.
        if len(np.unique(digests)) == len(digests):
            return ""
    precise = np.zeros(len(samples), bool)
    for model in models:
        precise |= precise_rows(model.outputs)
    return output_copies(samples, digests, precise) if precise.any() else ""
