"""Prefixes: the models that have run when a sample may exit, and what search knows of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.pool.metrics import TOP_1, Exits, Metric
from committee.pool.pool import Pool
from committee.rule.calibration import calibrated
from committee.rule.cascade import Cascade
from committee.rule.combinations import ORDER_FREE, combined
from committee.rule.flow import combine_and_score
from committee.rule.outputs import Outputs

Stage = tuple[str, ...]
StageSequence = tuple[Stage, ...]
Key = tuple[str, ...]

# Rows of a prefix that are computed at once.
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Rule:
    """By what committees of one search decide and are judged.

    Args:
        pool: Predictions of the models, and their calibrations.
        confidence: Name of the confidence function.
        combine: Name of the combination.
        metric: What a sample scores when it exits.
    """

    pool: Pool
    confidence: str
    combine: str
    metric: Metric = TOP_1

    def key(self, models: Sequence[str]) -> Key:
        """What the combination of these models, oldest first, depends on.

        A mean sees a set of models; ``last`` sees the newest only.
        """
        return tuple(sorted(models)) if self.combine in ORDER_FREE else (models[-1],)

    def keys(self, sequence: Sequence[Stage]) -> list[Key]:
        """The prefix after each stage of a sequence."""
        models = [name for stage in sequence for name in stage]
        ends = np.cumsum([len(stage) for stage in sequence])
        return [self.key(models[:end]) for end in ends]

    def outputs(self, key: Key, rows: Array | slice) -> dict[str, Outputs]:
        """Outputs of the models of a prefix for some samples, calibrated."""
        own = {name: self.pool.outputs[name].rows(rows) for name in key}
        return calibrated(own, self.pool.calibrations)

    def cascade(
        self, stages: Sequence[str | Sequence[str]], thresholds: Sequence[float]
    ) -> Cascade:
        """A cascade that decides by this rule."""
        known = self.pool.calibrations
        return Cascade.of(stages, thresholds, self.confidence, self.combine, known)

    def scores(self, key: Key, rows: Array) -> tuple[Array, Array]:
        """Predicted class and score of some samples, by the definition that every driver uses."""
        parts = [
            combine_and_score(self.outputs(key, part), self.combine, self.confidence)
            for part in _parts(rows)
        ]
        if not parts:
            return np.empty(0, np.int64), np.empty(0)
        return np.concatenate([c.predicted() for c, _ in parts]), np.concatenate(
            [s for _, s in parts]
        )

    def values(self, key: Key, rows: Array) -> Array:
        """What some samples score by exiting after this prefix."""
        labels = self.pool.samples.labels
        parts = [
            self.metric.of(
                Exits(
                    tuple(sorted(key)),
                    combined(self.outputs(key, part), self.combine),
                    None if labels is None else labels[part],
                    part,
                    len(self.pool),
                )
            )
            for part in _parts(rows)
        ]
        return np.concatenate(parts) if parts else np.empty(0)


def _parts(rows: Array) -> Iterable[Array]:
    return (rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS))


@dataclass(frozen=True, eq=False)
class PrefixTable:
    """Statistics of P prefixes on the N samples of a split.

    Args:
        rows: Row of each prefix in the arrays below.
        values: What each sample scores by exiting after the prefix, shape (P, N): int8 where that
            is 1 or 0, else int64 in units of a power of two, the same for all.
        passed: How many of the prefix's candidate thresholds a sample's score reaches, shape
            (P, N), uint16.
        widths: How many candidates each prefix has, and one for "never", shape (P,), int32.
        thresholds: From a prefix and the numbers of candidates, rising, to the thresholds.
    """

    rows: Mapping[Key, int]
    values: Array
    passed: Array
    widths: Array
    thresholds: Callable[[Key, Array], Array]
