"""Fronts over cells of several sizes: each size is searched, and the best of all are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from committee.dense.store import grids_of, load_cells
from committee.search import Front, search
from committee.search.front import front_of
from committee.task import SEMANTIC_SEGMENTATION


def search_grids(
    split: str | Path,
    judge: str | Path | None = None,
    grids: Sequence[str] | None = None,
    max_models: int | None = None,
    **options: Any,
) -> Front:
    """Search the cells of every size, and keep the committees that no other of any size beats.

    Args:
        split: ``STORE/SPLIT`` that chooses.
        judge: ``STORE/SPLIT`` that judges; every committee found is evaluated there too.
        grids: Names of the grids; all that the store holds if left out.
        max_models: As of :func:`committee.search`.
        options: Others of :func:`committee.search`: ``grid``, ``worst_case``, ``unit``, ….

    Raises:
        StoreError, DamagedError: If a split cannot be read.
        UnknownNameError: If there is no such grid.
    """
    fronts = [
        search(
            load_cells(split, name),
            max_models,
            utility=SEMANTIC_SEGMENTATION.utility,
            test=None if judge is None else load_cells(judge, name),
            **options,
        )
        for name in grids or grids_of(split)
    ]
    first = fronts[0]
    seconds: dict[str, float] = {}
    for front in fronts:
        for part, spent in front.settings.seconds.items():
            seconds[part] = seconds.get(part, 0.0) + spent
    return replace(
        first,
        committees=front_of([each for front in fronts for each in front]),
        settings=replace(
            first.settings,
            sequences=sum(front.settings.sequences for front in fronts),
            cascades=sum(front.settings.cascades for front in fronts),
            seconds=seconds,
        ),
        warnings=tuple(dict.fromkeys(told for front in fronts for told in front.warnings)),
    )
