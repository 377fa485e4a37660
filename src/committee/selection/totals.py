"""Threshold vectors of sequences where a figure is no mean over samples, as mIoU is not.

Each sample scores K counts; running sums of each count give the sums of all threshold vectors of a
sequence at once, as :mod:`committee.selection.numpy_sweep` does for a single value, and the metric
turns sums into figures. So the front is exact here too, and needs
nothing but counts and scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from committee.arrays import Array
from committee.pool.evaluate import costs_of_stages
from committee.selection.numpy_sweep import Step, Surface, surfaces
from committee.selection.prefixes import Key, PrefixTable, Rule, StageSequence
from committee.selection.sweep import CLEARLY, dominated, pareto_envelope, reach_of

Found = tuple[StageSequence, Array, Array, float]


def counted_sweep(
    rule: Rule,
    table: PrefixTable,
    sequences: Sequence[StageSequence],
    keys: Sequence[Sequence[Key]],
    costs: Sequence[dict[str, float]],
    limits: Array,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Found], int]:
    """Go through all threshold vectors of all sequences.

    Args:
        rule: By what is decided and judged; its metric has a figure.
        table: Statistics of the prefixes.
        sequences: The sequences.
        keys: The prefix after each stage of each.
        costs: Cost of each model for one sample: in the unit that matters, then in E units whose
            average is bounded.
        limits: Most that the total over samples may be in each bounded unit, shape (E,).
        progress: Called with (sequences done, sequences in all).

    Returns:
        Of each vector that no other beats its sequence, the number of the candidate threshold of
        each stage but the last, how many samples run each stage, and the figure; and how many
        cascades were covered.
    """
    found: list[tuple[StageSequence, Array, Array, float, float]] = []
    known_cost, known_figure, cascades = np.empty(0), np.empty(0), 0
    for number, (sequence, prefixes) in enumerate(zip(sequences, keys, strict=True)):
        stage_costs = [costs_of_stages(sequence, each) for each in costs]
        widths = [int(table.widths[table.rows[key]]) for key in prefixes]
        cascades += int(np.prod([width + 1.0 for width in widths[:-1]]))
        for surface, figures, within in _surfaces(rule, table, prefixes, stage_costs, limits):
            cost = surface.cost.ravel()
            index = np.flatnonzero(within & np.isfinite(figures))
            index = index[~dominated(cost[index], figures[index], known_cost, known_figure)]
            own = pareto_envelope(cost[index], figures[index])
            index = index[~dominated(cost[index], figures[index], *own)]
            choices = _choices(surface, index)
            steps = [Step(np.empty(0), table.passed[table.rows[key]], 0) for key in prefixes]
            reach = reach_of(steps, choices)
            found += [
                (sequence, choice, runs, float(figure), float(total))
                for choice, runs, figure, total in zip(
                    choices, reach, figures[index], cost[index], strict=True
                )
            ]
            known_cost, known_figure = pareto_envelope(
                np.concatenate([known_cost, cost[index]]),
                np.concatenate([known_figure, figures[index]]),
            )
        if progress is not None:
            progress(number + 1, len(sequences))
    return [
        (sequence, choice, runs, figure)
        for sequence, choice, runs, figure, total in found
        if not dominated(np.array([total]), np.array([figure]), known_cost, known_figure)[0]
    ], cascades


def _surfaces(
    rule: Rule,
    table: PrefixTable,
    prefixes: Sequence[Key],
    costs: Sequence[Sequence[float]],
    limits: Array,
) -> Iterator[tuple[Surface, Array, Array]]:
    """Surfaces of one sequence, the figures on each, and which points keep to the limits."""
    figure = rule.metric.figure
    assert figure is not None
    every = np.arange(len(rule.pool))
    rows = [table.rows[key] for key in prefixes]
    counts = [rule.values(key, every) for key in prefixes]

    def steps(channel: int) -> list[Step]:
        return [
            Step(own[:, channel], table.passed[row], int(table.widths[row]))
            for own, row in zip(counts, rows, strict=True)
        ]

    channels = [surfaces(steps(channel), costs[0]) for channel in range(counts[0].shape[1])]
    bounded = [surfaces(steps(0), each) for each in costs[1:]]
    for parts in zip(*channels, *bounded, strict=True):
        own, others = parts[: len(channels)], parts[len(channels) :]
        figures = figure(np.stack([part.value.ravel() for part in own], axis=-1))
        within = np.ones(len(figures), bool)
        for other, limit in zip(others, limits, strict=True):
            # A hair of slack; the limit itself is checked on the exact figure.
            within &= other.cost.ravel() * CLEARLY <= limit
        yield own[0], figures, within


def _choices(surface: Surface, index: Array) -> Array:
    """Numbers of the candidate thresholds of some points of a surface, shape (P, K - 1)."""
    outer = np.broadcast_to(np.array(surface.outer, np.int64), (len(index), len(surface.outer)))
    # A single stage has no threshold, and NumPy refuses to unravel into no axes.
    axes = np.unravel_index(index, surface.cost.shape) if surface.cost.ndim else ()
    return np.concatenate([outer, *(axis[:, None] for axis in axes)], axis=1)
