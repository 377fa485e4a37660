"""What ``predict``, ``search``, ``evaluate`` and ``run`` do where the task is segmentation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.cli.common import (
    amount,
    amounts,
    next_step,
    print_json,
    progress_bar,
    say,
    search_progress,
)
from committee.errors import CascadeError
from committee.task import SEMANTIC_SEGMENTATION

if TYPE_CHECKING:
    from committee.cascade import Cascade
    from committee.evaluate import Evaluation
    from committee.models import PoolFile
    from committee.search import Committee, Front


def refuse(**given: bool) -> None:
    """Refuse options that segmentation does not know.

    Args:
        given: By the option's name, whether it was given.

    Raises:
        CascadeError: If one was.
    """
    named = [f"--{name.replace('_', '-')}" for name, is_given in given.items() if is_given]
    if named:
        raise CascadeError(
            f"{', '.join(named)}: not for semantic segmentation; see docs/segmentation.md for what "
            "is"
        )


def predict(
    models: PoolFile,
    data: str,
    split: str,
    out: str,
    rows: str | None,
    batch_size: int | None,
    allow_code: Sequence[str],
    as_json: bool,
) -> None:
    """Score and count the cells of every picture."""
    from committee.data.segmentation import open_segmentation
    from committee.dense import predict_cells, read_settings

    settings = read_settings(models)
    dataset = open_segmentation(data, split, models.classes, settings.ignore, rows)
    notes: list[str] = []
    with progress_bar("predict", "pictures", not as_json) as progress:
        folder = predict_cells(
            models,
            dataset,
            out,
            batch_size=batch_size or SEMANTIC_SEGMENTATION.batch_size,
            allow_code=allow_code,
            progress=progress,
            note=notes.append,
        )
    names = [model.name for model in models.models]
    grids = [grid.name for grid in settings.grids]
    if as_json:
        told = {"split": str(folder), "models": names, "cells": grids}
        print_json({**told, "samples": len(dataset.samples), "notes": notes})
        return
    for note in notes:
        say(note)
    say(
        f"{len(names)} models x {len(dataset.samples)} pictures x cells of {', '.join(grids)} are "
        f"in {folder}"
    )
    say(next_step(out, split))


def _folders(store: str, split: str, test: str | None) -> tuple[Path, Path | None]:
    """The split that chooses and the one that judges, if there is one."""
    path = Path(store)
    chosen = path / split if (path / "cells.json").is_file() else path
    if test:
        return chosen, Path(test)
    usual = chosen.parent / "test"
    return chosen, usual if usual.is_dir() and usual != chosen else None


def search(
    store: str,
    split: str,
    test: str | None,
    grids: Sequence[str] | None,
    targets: dict[str, Any],
    worst_case: Sequence[str] | None,
    average_case: Sequence[str] | None,
    max_models: int | None,
    grid: int,
    unit: str | None,
    threads: int | None,
    out: str | None,
    list_front: bool,
    as_json: bool,
) -> None:
    """Search the cells of every size; choose one committee by a target."""
    from committee.dense import load_cells, search_grids

    folder, judge = _folders(store, split, test)
    with search_progress(not as_json) as progress:
        front = search_grids(
            folder,
            judge,
            grids,
            max_models,
            unit=unit,
            grid=grid,
            worst_case=amounts("--worst-case", worst_case, unit or "macs"),
            average_case=amounts("--average-case", average_case, None),
            threads=threads,
            progress=progress,
        )
    chosen = _chosen(front, **targets)
    if chosen is not None and out:
        chosen.cascade.save(out)
    if as_json:
        told = chosen and {
            "cascade": chosen.cascade.to_json(),
            "evaluation": chosen.evaluation.to_json(),
            "test": chosen.test and chosen.test.to_json(),
        }
        print_json({**front.to_json(), "chosen": told})
        return
    settings = front.settings
    say(
        f"{settings.cascades:,} cascades of {settings.sequences:,} sequences of models, all "
        f"covered in {sum(settings.seconds.values()):.2f} s.\n{len(front)} are on the front."
    )
    pools = [load_cells(each, front_grid(front)) for each in (folder, judge) if each is not None]
    shown = [
        (name, [_alone(name, pool, settings.unit) for pool in pools])
        for name in pools[0].names
        if name not in pools[0].whole_of
    ]
    members = list(front) if list_front else [front[-1]]
    for each in [*members, *([chosen] if chosen else [])]:
        both = [each.evaluation, *([each.test] if each.test else [])]
        pair = (("chosen: " if each is chosen else "") + str(each.cascade), both)
        if pair not in shown:
            shown.append(pair)
    _print(shown)
    for warning in front.warnings:
        say(f"Mind: {warning}.")
    if judge is None:
        say("Judged on the split that chose: expect less on new data. Name another with --test.")
    if chosen and out:
        say(f"Chosen: {chosen.cascade}, written to {out}")
        say(f"Next: committee run {out} --data PATH --out results.csv --show-cells")


def front_grid(front: Front) -> str:
    """Name of a grid whose pool has the models that see whole pictures."""
    from committee.dense.store import name_of

    return name_of(front.pool.specs)


def _alone(name: str, pool: Any, unit: str) -> Evaluation:
    from committee.cascade import Cascade
    from committee.evaluate import evaluate as judge

    return judge(Cascade.of([name]), pool, unit, SEMANTIC_SEGMENTATION.utility)


def _chosen(
    front: Front, match: str | None, min_accuracy: float | None, max_cost: str | None
) -> Committee | None:
    if match is not None:
        return front.matching(match)
    if min_accuracy is not None:
        return front.at_least(min_accuracy)
    return front.at_most(amount("--max-cost", max_cost)) if max_cost is not None else None


def _print(shown: Sequence[tuple[str, Sequence[Evaluation]]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from committee.report.tables import exits, human_cost, interval, percent

    table = Table()
    table.add_column("committee", overflow="fold")
    for each in shown[0][1]:
        table.add_column(
            f"{each.measure} on {each.split}\n95 %, {each.samples} pictures", justify="right"
        )
    table.add_column("average cost\nworst case", justify="right")
    table.add_column("exits of cells", justify="right", overflow="fold")
    for name, judged in shown:
        last = judged[-1]
        table.add_row(
            name,
            *(f"{percent(each.accuracy)}\n{interval(each)}" for each in judged),
            f"{human_cost(last.average_cost, last.unit)}\n"
            f"{human_cost(last.worst_case_cost, last.unit)}",
            exits(last),
        )
    Console().print(table)


def evaluate(cascade: Cascade, store: str, split: str, unit: str | None, as_json: bool) -> None:
    """Judge a cascade on stored counts, beside each of its models alone on whole pictures."""
    from committee.dense import load_cells
    from committee.dense.store import name_of
    from committee.evaluate import evaluate as judge

    path = Path(store)
    folder = path / split if (path / "cells.json").is_file() else path
    pool = load_cells(folder, name_of(cascade.models) if cascade.models else "full")
    utility = SEMANTIC_SEGMENTATION.utility
    unit = unit or pool.costs.unit(cascade.origin.get("unit"))
    evaluation = judge(cascade, pool, unit, utility)
    bases = [pool.whole_of.get(name, name) for name in cascade.names]
    alone = {name: _alone(name, pool, unit) for name in bases}
    same = cascade.origin.get("samples_fingerprint") == pool.samples.fingerprint
    if as_json:
        models = {name: each.to_json() for name, each in alone.items()}
        print_json({**evaluation.to_json(), "models": models, "chosen_on_these_samples": same})
        return
    _print([(name, [each]) for name, each in {**alone, str(cascade): evaluation}.items()])
    if same:
        say("These pictures chose the cascade: expect less on new data. Judge on another split.")


def run(
    cascade: str,
    data: str,
    out: Path,
    rows: str | None,
    batch_size: int | None,
    show_cells: bool,
    allow_code: Sequence[str],
    as_json: bool,
) -> None:
    """Segment pictures: a picture of classes each, and a row each."""
    from committee.data.segmentation import open_segmentation
    from committee.dense import Segmenter, segment_into
    from committee.report.tables import human_cost, shares

    segmenter = Segmenter(cascade, allow_code=allow_code)
    dataset = open_segmentation(data, "run", segmenter.cascade.classes, rows=rows, labels=False)
    started = time.perf_counter()
    with progress_bar("run", "pictures", not as_json) as progress:
        size = batch_size or SEMANTIC_SEGMENTATION.batch_size
        done = list(segment_into(segmenter, dataset, out, size, show_cells, progress))
    seconds = time.perf_counter() - started
    stages = range(1, len(segmenter.cascade.stages) + 1)
    ratios = [float(np.mean([row[f"exit_{k}"] for row in done])) for k in stages]
    costs = [row["cost"] for row in done if row["cost"] is not None]
    summary = {
        "samples": len(done),
        "seconds": seconds,
        "exit_ratios": ratios,
        "average_cost": float(np.mean(costs)) if costs else None,
        "unit": segmenter.unit,
        "out": str(out),
    }
    if as_json:
        print_json(summary)
        return
    say(f"{len(done)} pictures in {seconds:.1f} s")
    say(f"Exits of cells by stage: {shares(ratios)} of {segmenter.cascade}")
    if costs:
        say(f"Average cost: {human_cost(float(np.mean(costs)), segmenter.unit)}")
    say(f"Written: {out}, {out.stem}_classes/" + (f", {out.stem}_cells/" if show_cells else ""))


def is_segmentation(path: str) -> bool:
    """Whether a path is a cascade file whose models segment."""
    from committee.cascade import Cascade

    if Path(path).suffix != ".json":
        return False
    tasks = {spec.get("task") for spec in Cascade.load(path).models.values()}
    return SEMANTIC_SEGMENTATION.name in tasks
