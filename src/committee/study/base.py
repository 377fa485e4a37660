"""Analyses and what they find, and the columns that their tables share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from committee.pool.evaluate import Evaluation
from committee.pool.intervals import Estimate
from committee.report.table import Column, Table
from committee.report.text import exits, named
from committee.selection.front import Committee
from committee.study.context import Pick, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Writes a gain in a sentence: ``POINTS.text(gain)``.
POINTS = Column("", float, "points")


@dataclass(frozen=True)
class About:
    """The name of an analysis and where it comes from.

    Args:
        name: The name of its module, of its files, and for ``--only``.
        title: What it shows, for people.
        source: Section, figures and tables of Wang et al. (2022) that it repeats.
    """

    name: str
    title: str
    source: str


@dataclass(frozen=True)
class Finding:
    """What an analysis finds in one pool.

    Args:
        tables: Its figures.
        sentences: What they say, in short sentences with numbers.
        data: What its drawing needs beside the study; None if it draws nothing.
        left_out: Why the pool cannot support the analysis; empty if it can. Then there is nothing
            else.
        about: Which analysis; the study fills it in.
    """

    tables: tuple[Table, ...] = ()
    sentences: tuple[str, ...] = ()
    data: Any = None
    left_out: str = ""
    about: About = About("", "", "")

    @property
    def name(self) -> str:
        """Name of the analysis."""
        return self.about.name


@dataclass(frozen=True)
class Analysis:
    """One analysis of the paper, for any pool.

    Args:
        about: Its name and source.
        analyse: Raises :class:`committee.errors.Unsupported` if the pool cannot support it.
        draw: Draws the data of the finding. Raises :class:`committee.errors.MissingExtraError` if
            matplotlib is not installed.
    """

    about: About
    analyse: Callable[[Study], Finding]
    draw: Callable[[Study, Any], Figure]


@dataclass(frozen=True)
class Entry:
    """One committee of a table that sets several beside a single model.

    Args:
        single: The model.
        kind: What the committee is among those of the model.
        committee: The committee; None if there is none of this kind.
    """

    single: Committee
    kind: str
    committee: Committee | None


def accuracy_of(evaluation: Evaluation) -> Estimate:
    """Return the accuracy of an evaluation with its 95 % interval.

    >>> accuracy_of(Evaluation("test", 50, 45, 1.0, 1.0, "macs", (1.0,))).value
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
