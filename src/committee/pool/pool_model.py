"""PoolModel: one model of a pool, and what its outputs alone tell of the samples."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.pool.identity import output_copies
from committee.pool.samples import Samples, fingerprint
from committee.rule.calibration import Calibration
from committee.rule.outputs import WITH_CONFIDENCE, Kind, Outputs
from committee.spec.model import KnownModel

# Rows per block.
_ROWS = 4096
# Outputs of this many bytes, with more than this many decimals, do not coincide by chance.
_SINGLE, _DECIMALS = 4, 4
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
        return _output_digests(self.spec.name, self.outputs)

    @cached_property
    def fingerprint(self) -> str:
        """Changes when what the model answers to these samples does, whatever their order."""
        return fingerprint([np.sort(self.digests).astype("<u8").tobytes().hex()])


def _output_digests(name: str, outputs: Outputs) -> Array:
    """Return a digest of a model's outputs for each sample, shape (N,), uint64.

    Equal outputs have equal digests, in single or double precision, and digests of several models
    may be summed. ``name`` is the model's name, which makes the digests of models differ.
    """
    digests = np.zeros(len(outputs), np.uint64)
    seed = zlib.crc32(name.encode(errors="surrogateescape"))
    for start in range(0, len(outputs), _ROWS):
        rows = outputs.rows(slice(start, start + _ROWS))
        columns = [rows.values.reshape(len(rows), -1)]
        if rows.confidence is not None:
            columns.append(np.asarray(rows.confidence).reshape(len(rows), -1))
        if sum(each.shape[1] for each in columns) % 2:
            columns.append(np.zeros((len(rows), 1), np.float32))
        with np.errstate(over="ignore"):
            block = columns[0] if len(columns) == 1 else np.hstack(columns)
            pairs = np.ascontiguousarray(block, np.float32).view(np.uint64)
        # Odd weights lose no bit of a pair.
        weights = np.random.default_rng(seed).integers(1, 2**63, pairs.shape[1], np.uint64) | 1
        digests[start : start + _ROWS] = np.einsum("np,p->n", pairs, weights)
    return digests


def summed_digests(models: Iterable[PoolModel], samples: int) -> Array:
    """Return a number for what some models answer to each sample, shape (N,), uint64."""
    total: Array = np.zeros(samples, np.uint64)
    for model in models:
        total = total + model.digests
    return total


def copies_in(samples: Samples, models: Collection[PoolModel]) -> str:
    """Return a note on samples that are copies of others by the models' outputs; often empty.

    It is empty if contents are known, or there are very many samples.
    """
    precise_outputs = any(_may_be_precise(model.outputs) for model in models)
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
        precise |= _precise_rows(model.outputs)
    return output_copies(samples, digests, precise) if precise.any() else ""


def _may_be_precise(outputs: Outputs) -> bool:
    """Return True if outputs are numbers that tell samples apart."""
    single = outputs.values.dtype.itemsize >= _SINGLE
    return outputs.kind in ("logits", "probabilities") and single


def _precise_rows(outputs: Outputs) -> Array:
    """Return True for each row with unrounded outputs, which no other row is likely to have."""
    if not _may_be_precise(outputs):
        return np.zeros(len(outputs), bool)
    values = np.asarray(outputs.values)
    # A number that overflows in rounding is not a rounded one.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray((values != np.round(values, _DECIMALS)).sum(axis=1) > 1)
