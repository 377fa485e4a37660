"""Pools of tiles: what search and evaluation see of a segmentation store."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from committee.arrays import Array
from committee.errors import CascadeError, MisalignedError, UnknownNameError
from committee.pool.costs import SampleCost, costs_of_stages
from committee.pool.intervals import Estimate
from committee.pool.metrics import Metric
from committee.pool.pool import Pool
from committee.pool.prefixes import Key, PrefixSource, prefixes_of
from committee.rule.cascade import Cascade
from committee.segment.metric import (
    MEAN_IOU,
    bootstrap,
    bootstrap_interval,
    mean_iou,
    paired_estimate,
)
from committee.selection.engine import Point, Sweep, sweep_thresholds
from committee.selection.numpy_sweep import Step, Surface, surfaces
from committee.selection.sweep import (
    choices_of,
    dominated,
    pareto_envelope,
    reach_of,
    within_limits,
)


@dataclass(frozen=True, eq=False)
class Table:
    """Scores and counts of N tiles after each of P sets of models, all that a cascade needs.

    The exit of a tile depends on its score, and mIoU on counts of pixels.

    Args:
        keys: Row of each set of models, their names sorted, in the arrays below.
        scores: Confidence, shape (P, N), float64.
        both: Pixels labelled and predicted as each class, shape (P, N, C), uint32.
        predicted: Pixels predicted as each class, shape (P, N, C), uint32.
        labelled: Pixels labelled as each class, shape (N, C), uint32.
        combine: Name of the combination of outputs.
        confidence: Name of the confidence function.
    """

    keys: Mapping[Key, int]
    scores: Array
    both: Array
    predicted: Array
    labelled: Array
    combine: str
    confidence: str

    def scores_of(self, models: Key, rows: Array) -> Array:
        """Return the scores of some tiles after ``models``, sorted by name, shape (n,)."""
        scores: Array = self.scores[self._row(models)][rows]
        return scores

    def counts_of(self, models: Key, rows: Array) -> Array:
        """Return the counts of some tiles, shape (n, 3 C), int64; see :meth:`scores_of`."""
        row = self._row(models)
        counts = [self.both[row][rows], self.predicted[row][rows], self.labelled[rows]]
        return np.concatenate(counts, axis=1).astype(np.int64)

    def _row(self, models: Key) -> int:
        if models not in self.keys:
            known = map("+".join, self.keys)
            raise UnknownNameError.of("tiles", "counts of", "+".join(models), known)
        return self.keys[models]


@dataclass(frozen=True, eq=False, repr=False)
class TilePool(Pool):
    """A pool whose rows are the tiles of images.

    Logits of pixels are too large to store, so its ``outputs`` have no classes.
    """

    table: Table = field(kw_only=True)

    def _check_classes(self) -> None:
        pass

    @property
    def metric(self) -> Metric:
        """See :class:`Pool`."""
        return MEAN_IOU

    @property
    def keeps_outputs(self) -> bool:
        """See :class:`Pool`."""
        return False

    @property
    def notes(self) -> tuple[str, ...]:
        """See :class:`Pool`; :func:`.store.load_images` notes copies of images."""
        return self.samples.notes

    @property
    def most_models(self) -> int:
        """See :class:`Pool`."""
        return min(super().most_models, max(map(len, self.table.keys)))

    def confidence_or(self, confidence: str) -> str:
        """Return the confidence of the stored scores, whatever ``confidence`` is."""
        return self.table.confidence

    def bound(self, cascade: Cascade) -> Cascade:
        """See :class:`Pool`."""
        combine = cascade.combine or self.table.combine
        return super().bound(replace(cascade, combine=combine))


@dataclass(frozen=True, eq=False)
class _TilePrefixes(PrefixSource):
    """Prefixes of models by the stored scores and counts of tiles.

    The values of a row are the counts of a tile; those of a sample are the counts of an image.
    """

    additive: ClassVar[bool] = False

    pool: TilePool

    def scores(self, key: Key, rows: Array) -> Array:
        """See :class:`PrefixSource`."""
        return self.pool.table.scores_of(key, rows)

    def values(self, key: Key, rows: Array) -> Array:
        """See :class:`PrefixSource`."""
        return self.pool.table.counts_of(key, rows)

    def scored(self, key: Key, rows: Array) -> tuple[Array, Array]:
        """See :class:`PrefixSource`."""
        return self.scores(key, rows), self.values(key, rows)

    def per_sample(self, values: Array) -> Array:
        """See :class:`PrefixSource`."""
        samples = self.pool.samples
        sums: Array = values.reshape(samples.wholes, samples.parts, -1).sum(axis=1)
        return sums

    def figure(self, values: Array) -> float:
        """See :class:`PrefixSource`."""
        return float(mean_iou(values.sum(axis=0)))

    def estimate(self, values: Array) -> Estimate:
        """See :class:`PrefixSource`; the interval is a bootstrap over images."""
        figure = self.figure(values)
        if math.isnan(figure):
            raise MisalignedError(
                f"split {self.pool.samples.split!r}: mIoU needs labels, and no pixel has one"
            )
        return Estimate(figure, *bootstrap_interval(values), len(values))

    def difference(self, values: Sequence[Array], others: Sequence[Array]) -> Estimate:
        """See :class:`PrefixSource`."""
        return paired_estimate(values, others)

    def within_chance(self, low: Array, high: Array) -> tuple[float, float] | None:
        """See :class:`PrefixSource`; the bootstrap's spread is widened like a t-interval.

        References:
            Hesterberg (2015), What teachers should know about the bootstrap, The American
            Statistician 69, section 5.3, for the widening.
        """
        from scipy.special import stdtrit

        count = len(low)
        if count < 2:
            return None
        lower, higher = bootstrap([low, high])
        widening = float(stdtrit(count - 1, 1 - 0.05 / 2)) * math.sqrt(count / (count - 1))
        spread = widening * float(np.nanstd(higher - lower))
        difference = self.figure(high) - self.figure(low)
        return (difference, spread) if difference < spread else None


@prefixes_of.register
def _tile_prefixes(
    pool: TilePool,
    confidence: str = "max_prob",
    combine: str | None = None,
    metric: Metric | None = None,
) -> _TilePrefixes:
    table = pool.table
    combine = combine or table.combine
    if combine not in ("last", table.combine):
        raise CascadeError(
            f"{combine}: the scores of these tiles were combined by {table.combine}. Use combine="
            f"{table.combine!r} or 'last', or predict again"
        )
    if metric not in (None, MEAN_IOU):
        raise CascadeError(
            f"metric {metric.name!r}: a store of tiles has counts for mIoU only; omit metric"
        )
    return _TilePrefixes(pool, table.confidence, combine, MEAN_IOU)


@sweep_thresholds.register
def _sweep_tiles(source: _TilePrefixes, task: Sweep) -> tuple[list[Point], int]:
    """Sweep the thresholds of tiles, whose figure is not a mean over rows.

    Running sums of each count give the sums of all threshold vectors of a sequence at once, as
    :mod:`committee.selection.numpy_sweep` does for a single value, and mIoU turns sums into
    figures. So the front is exact.
    """
    candidates: list[tuple[Point, float]] = []
    front_cost, front_figure, cascades = np.empty(0), np.empty(0), 0
    for number, (sequence, prefixes) in enumerate(zip(task.sequences, task.keys, strict=True)):
        stage_costs = [costs_of_stages(sequence, each) for each in task.costs]
        rows = np.array([task.table.rows[key] for key in prefixes])
        cascades += int(np.prod([float(task.table.widths[row]) + 1 for row in rows[:-1]]))
        steps = task.table.steps(rows)
        for surface, figures, within in _surfaces(source, task, prefixes, stage_costs):
            cost = surface.cost.ravel()
            index = np.flatnonzero(within & np.isfinite(figures))
            index = index[~dominated(cost[index], figures[index], front_cost, front_figure)]
            own = pareto_envelope(cost[index], figures[index])
            index = index[~dominated(cost[index], figures[index], *own)]
            choices = choices_of(surface, index)
            for i, choice, runs in zip(index, choices, reach_of(steps, choices), strict=True):
                candidates.append(((sequence, choice, runs, float(figures[i])), float(cost[i])))
            front_cost, front_figure = pareto_envelope(
                np.concatenate([front_cost, cost[index]]),
                np.concatenate([front_figure, figures[index]]),
            )
        task.report(number + 1)
    points = [point for point, _ in candidates]
    total, figure = np.array([t for _, t in candidates]), np.array([p[3] for p in points])
    keep = np.flatnonzero(~dominated(total, figure, front_cost, front_figure))
    return [points[i] for i in keep], cascades


def _surfaces(
    source: _TilePrefixes,
    task: Sweep,
    prefixes: Sequence[Key],
    costs: Sequence[Sequence[SampleCost]],
) -> Iterator[tuple[Surface, Array, Array]]:
    """Yield the surfaces of one sequence, their figures, and which points keep the limits."""
    table, every = task.table, np.arange(len(source))
    rows = np.array([table.rows[key] for key in prefixes])
    counts = [source.values(key, every) for key in prefixes]

    def steps(channel: int) -> list[Step]:
        own = zip(table.steps(rows), counts, strict=True)
        return [replace(step, values=each[:, channel]) for step, each in own]

    channels = [surfaces(steps(channel), costs[0]) for channel in range(counts[0].shape[1])]
    bounded = [surfaces(steps(0), each) for each in costs[1:]]
    for parts in zip(*channels, *bounded, strict=True):
        own, others = parts[: len(channels)], parts[len(channels) :]
        figures = mean_iou(np.stack([part.value.ravel() for part in own], axis=-1))
        yield own[0], figures, within_limits(others, task.limits, len(figures))
