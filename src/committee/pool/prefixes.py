"""Prefixes: the models that have run when a row may exit, and what search knows of each.

A row is what exits as one: a sample, or a tile of it. Search, evaluation, study and report ask a
:class:`PrefixSource` and nothing else: a score and a value for each row after a prefix, and what
the values of all samples amount to. A pool of a kind of its own registers its source with
:func:`prefixes_of`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, singledispatch
from typing import ClassVar

import numpy as np

from committee.arrays import Array
from committee.pool.intervals import (
    Estimate,
    chance_of,
    counted_estimate,
    mean_interval,
    paired_difference,
    weighted_mean,
)
from committee.pool.metrics import TOP_1, Exits, Metric, check_metric
from committee.pool.pool import Made, Pool
from committee.rule.agreement import combine_and_score
from committee.rule.cascade import Cascade
from committee.rule.combinations import DEFAULT_COMBINE, combined, models_that_decide
from committee.rule.outputs import Outputs
from committee.rule.scores import AGREEMENTS, score

Stage = tuple[str, ...]
StageSequence = tuple[Stage, ...]
Key = tuple[str, ...]

# Rows of a prefix that are computed at once.
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class PrefixSource(ABC):
    """Scores and values of the rows of a pool after each prefix, by one rule.

    Args:
        pool: The models and their samples.
        confidence: Name of the confidence function.
        combine: Name of the combination.
        metric: What a sample scores when it exits.
    """

    # True if the figure is the mean over rows of single numbers.
    additive: ClassVar[bool] = True
    # False if the rows are in shards, which are opened one after another, and only sums are known.
    by_row: ClassVar[bool] = True

    pool: Pool
    confidence: str
    combine: str
    metric: Metric

    def __len__(self) -> int:
        return len(self.pool)

    @property
    def weights(self) -> Array | None:
        """What each sample scores if its class is predicted correctly; None if that is no rule."""
        return None

    @property
    def by_top_1(self) -> bool:
        """True if the value of a sample is that of top-1, or a weight of its own times that."""
        return self.metric == TOP_1 or self.weights is not None

    @property
    def counted(self) -> bool:
        """True if the figure is the share of samples that score 1; the others score 0."""
        return self.additive and self.metric.counted

    @property
    def shards(self) -> int:
        """How many shards the rows are in."""
        return 1

    def each(self, function: Callable[[PrefixSource], Made]) -> Iterator[Made]:
        """Yield what a function makes of the prefixes of each shard; these are of one."""
        yield function(self)

    def key(self, models: Sequence[str]) -> Key:
        """Return the prefix of these models, oldest first: those on which it depends."""
        return models_that_decide(models, self.combine, self.confidence)

    def keys(self, sequence: Sequence[Stage]) -> list[Key]:
        """Return the prefix after each stage of a sequence; of the last only values count."""
        models = [name for stage in sequence for name in stage]
        ends = np.cumsum([len(stage) for stage in sequence])
        keys = [self.key(models[:end]) for end in ends]
        return [*keys[:-1], models_that_decide(models, self.combine, "max_prob")]

    def cascade(
        self, stages: Sequence[str | Sequence[str]], thresholds: Sequence[float]
    ) -> Cascade:
        """Return a cascade that decides by this rule."""
        known = self.pool.calibrations
        return Cascade.of(stages, thresholds, self.confidence, self.combine, known)

    @abstractmethod
    def scores(self, key: Key, rows: Array) -> Array:
        """Return the score of some rows after a prefix, shape (n,)."""

    @abstractmethod
    def values(self, key: Key, rows: Array) -> Array:
        """Return the value of some rows that exit after a prefix, shape (n, ...)."""

    @abstractmethod
    def scored(self, key: Key, rows: Array) -> tuple[Array, Array]:
        """Return scores and values together."""

    def per_sample(self, values: Array) -> Array:
        """Return the values of samples from those of all rows."""
        return values

    @abstractmethod
    def figure(self, values: Array) -> float:
        """Return what the values of all samples amount to: the accuracy."""

    @abstractmethod
    def estimate(self, values: Array) -> Estimate:
        """Return the figure of the values of all samples with its interval."""

    @abstractmethod
    def difference(self, values: Sequence[Array], others: Sequence[Array]) -> Estimate:
        """Return how much higher the mean figure of some committees is than that of others.

        Args:
            values: For each committee the values of all samples.
            others: The same for the others.
        """

    @abstractmethod
    def within_chance(self, low: Array, high: Array) -> tuple[float, float] | None:
        """Return the difference of two figures and its spread if chance alone may explain it.

        Args:
            low: Values of all samples, of the lower figure.
            high: Those of the higher.
        """


@dataclass(frozen=True, eq=False)
class StoredPrefixes(PrefixSource):
    """Prefixes of models whose outputs are stored: they are combined, scored and compared."""

    def outputs(self, key: Key, rows: Array | slice) -> dict[str, Outputs]:
        """Return the outputs of the models of a prefix for some samples, calibrated.

        Where each model's class and confidence decide everything, these are its decisions.
        """
        if self._votes is not None:
            return {name: self._vote(name).rows(rows) for name in key}
        return self._calibrated(key, rows)

    def _calibrated(self, key: Key, rows: Array | slice) -> dict[str, Outputs]:
        return {name: self.pool.models[name].calibrated(rows) for name in key}

    def scores(self, key: Key, rows: Array) -> Array:
        """See :class:`PrefixSource`; this is the definition that every driver uses."""
        parts = [scores for _, scores, _ in self._combined(key, rows)]
        return np.concatenate(parts) if parts else np.empty(0)

    def values(self, key: Key, rows: Array) -> Array:
        """See :class:`PrefixSource`."""
        parts = [
            self._value(key, combined(outputs, self.combine), some)
            for outputs, some in self._in_blocks(key, rows)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def scored(self, key: Key, rows: Array) -> tuple[Array, Array]:
        """See :class:`PrefixSource`."""
        parts = [
            (scores, self._value(key, combination, some))
            for combination, scores, some in self._combined(key, rows)
        ]
        if not parts:
            return np.empty(0), np.empty(0)
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _combined(self, key: Key, rows: Array) -> Iterator[tuple[Outputs, Array, Array]]:
        for outputs, some in self._in_blocks(key, rows):
            yield *combine_and_score(outputs, self.combine, self.confidence), some

    def _in_blocks(self, key: Key, rows: Array) -> Iterator[tuple[dict[str, Outputs], Array]]:
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            yield self.outputs(key, some), some

    def _value(self, key: Key, combination: Outputs, rows: Array) -> Array:
        labels = self.pool.samples.labels
        own = None if labels is None else labels[rows]
        models = tuple(sorted(models_that_decide(key, self.combine, "max_prob")))
        return self.metric.of(Exits(models, combination, own, rows, len(self.pool), labels))

    @cached_property
    def _votes(self) -> dict[str, Outputs] | None:
        """The models' decisions as far as they are known; None where more than these decides."""
        voted = self.combine == "vote" or (self.combine == "last" and self.confidence in AGREEMENTS)
        return {} if voted and self.metric == TOP_1 else None

    def _vote(self, name: str) -> Outputs:
        """Return the decision of a model on every sample, computed once."""
        assert self._votes is not None
        if name not in self._votes:
            base = "max_prob" if self.confidence in AGREEMENTS else self.confidence
            classes, confidence = np.empty(len(self), np.int64), np.empty(len(self))
            for start in range(0, len(self), _ROWS):
                some = slice(start, start + _ROWS)
                own = self._calibrated((name,), some)[name]
                classes[some], confidence[some] = own.predicted(), score(own, base)
            self._votes[name] = Outputs("decisions", classes, confidence)
        return self._votes[name]

    def figure(self, values: Array) -> float:
        """See :class:`PrefixSource`."""
        if self.weights is not None:
            return self.estimate(values).value
        return float(np.mean(values, dtype=np.float64))

    @cached_property
    def weights(self) -> Array | None:
        """See :class:`PrefixSource`."""
        labels = self.pool.samples.labels
        return None if self.metric.weights is None else self.metric.weights(np.asarray(labels))

    def estimate(self, values: Array) -> Estimate:
        """See :class:`PrefixSource`."""
        if self.weights is not None:
            return weighted_mean(values, self.weights)
        if not self.metric.counted:
            known = mean_interval(values)
            return known if len(values) > 1 else replace(known, low=known.value, high=known.value)
        return counted_estimate(int(values.sum(dtype=np.int64)), len(values))

    def difference(self, values: Sequence[Array], others: Sequence[Array]) -> Estimate:
        """See :class:`PrefixSource`."""
        own, other = (
            np.asarray(np.mean(each, axis=0, dtype=np.float64)) for each in (values, others)
        )
        if self.weights is not None:
            return weighted_mean(own - other, self.weights, least=-1.0)
        return paired_difference(own, other) if self.metric.counted else mean_interval(own - other)

    def within_chance(self, low: Array, high: Array) -> tuple[float, float] | None:
        """See :class:`PrefixSource`; at a level of 5 % by McNemar's test."""
        gained, lost = int((high > low).sum()), int((low > high).sum())
        return chance_of(gained, lost, len(low)) if self.metric.counted else None


@singledispatch
def prefixes_of(
    pool: Pool,
    confidence: str = "max_prob",
    combine: str | None = None,
    metric: Metric | None = None,
) -> PrefixSource:
    """Return the prefixes of a pool's models, by default by what its models and samples imply."""
    check_metric(metric)
    return StoredPrefixes(
        pool,
        pool.confidence_or(confidence),
        combine or DEFAULT_COMBINE[pool.combined_kind],
        metric or pool.metric,
    )
