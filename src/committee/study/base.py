"""Analyses and what they find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from committee.pool.table import Column
from committee.report.page import Section
from committee.selection.front import Committee
from committee.study.context import Study
from committee.style import Figure

# Writes a gain in a sentence: ``POINTS.text(gain)``.
POINTS = Column("", float, "points")


@dataclass(frozen=True)
class Finding(Section):
    """What an analysis finds in one pool; the study fills in the fields of :class:`Analysis`.

    Args:
        data: What its drawing needs beside the study; None if it draws nothing.
    """

    data: Any = None


@dataclass(frozen=True)
class Analysis:
    """One analysis of the paper, for any pool.

    Args:
        name: The name of its module, of its files, and for ``--only``.
        title: What it shows, for people.
        source: Section, figures and tables of Wang et al. (2022) that it repeats.
        analyse: Raises :class:`committee.errors.Unsupported` if the pool cannot support it.
        draw: Draws the data of the finding. Raises :class:`committee.errors.MissingExtraError` if
            matplotlib is not installed.
    """

    name: str
    title: str
    source: str
    analyse: Callable[[Study], Finding]
    draw: Callable[[Study, Any], Figure]


@dataclass(frozen=True)
class Entry:
    """A single model and a committee of some kind beside it; None if there is none of that kind."""

    single: Committee
    kind: str
    committee: Committee | None
