"""Columns of committees, which the tables of the analyses share."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from committee.pool.evaluate import Evaluation
from committee.pool.intervals import Estimate
from committee.pool.table import Column, Table
from committee.report.text import exits, named
from committee.selection.front import Committee
from committee.study.base import Entry
from committee.study.context import Pick, Study


def accuracy_of(evaluation: Evaluation) -> Estimate:
    """Return the accuracy of an evaluation with its 95 % interval.

    >>> accuracy_of(Evaluation("test", 50, 0.9, 1.0, 1.0, "macs", (1.0,))).value
    0.9
    """
    return Estimate(evaluation.accuracy, *evaluation.interval, evaluation.samples)


def speedup(reference: Committee, committee: Committee) -> float | None:
    """Return how much cheaper a committee is on average; None if it costs nothing."""
    average = committee.reported.average_cost
    return reference.reported.average_cost / average if average else None


def speedups(pairs: Sequence[tuple[Committee, Committee]]) -> list[float]:
    """Return the speedups of those committees that cost something, over their references."""
    return [ratio for pair in pairs if (ratio := speedup(*pair)) is not None]


def models(name: str, pick: Pick) -> Column:
    """Return a column of the models of committees."""
    return Column(name, lambda each: named(each.cascade)).of(pick)


def accuracies(name: str, pick: Pick) -> Column:
    """Return a column of accuracies on the test split, with their intervals."""
    return Column(name, lambda each: accuracy_of(each.reported), "share").of(pick)


def costs(name: str, pick: Pick, unit: str) -> Column:
    """Return a column of average costs on the test split."""
    return Column(name, lambda each: each.reported.average_cost, "cost", unit).of(pick)


def worst_costs(name: str, pick: Pick, unit: str) -> Column:
    """Return a column of worst-case costs."""
    return Column(name, lambda each: each.reported.worst_case_cost, "cost", unit).of(pick)


def ratios(name: str, pick: Pick, over: Pick) -> Column:
    """Return a column of speedups over the committees that ``over`` picks."""

    def ratio(item: Any) -> float | None:
        committee, reference = pick(item), over(item)
        return None if committee is None or reference is None else speedup(reference, committee)

    return Column(name, ratio, "ratio")


def exit_texts(name: str, pick: Pick) -> Column:
    """Return a column of the shares that exit at each stage; empty for a single stage."""

    def text(each: Committee) -> str | None:
        return exits(each.reported) if len(each.cascade.stages) > 1 else None

    return Column(name, text).of(pick)


def beside_table(
    study: Study,
    title: str,
    kinds: str,
    entries: Sequence[Entry],
    note: str,
    *more: Column,
    name: str = "",
) -> Table:
    """Return a table of committees beside single models; ``more`` columns stand at its end."""
    single, committee = map(attrgetter, ("single", "committee"))
    columns = (
        models("model", single),
        Column(kinds, lambda entry: entry.kind),
        models("committee", committee),
        accuracies("accuracy", committee),
        study.gains("accuracy over the model's", committee, single, itself=False),
        costs("average cost", committee, study.settings.unit),
        *(more or (ratios("speedup", committee, single),)),
    )
    return Table(title, columns, entries, note, name)
