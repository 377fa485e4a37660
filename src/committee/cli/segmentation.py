"""What ``predict`` and ``run`` do where the task is segmentation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from committee.cli.common import cost_line, counted, next_step, print_json, progress_bar, say
from committee.data.segmentation import open_segmentation
from committee.errors import CascadeError
from committee.export.model_files import segmenting
from committee.models.pool_file import PoolFile
from committee.report.text import shares
from committee.run.agreement import Promise
from committee.run.open import opened
from committee.segment.predict import predict_tiles
from committee.segment.run import Segmenter, check_table, segment_into
from committee.segment.settings import read_settings
from committee.segment.store import left_out
from committee.spec.task import SEMANTIC_SEGMENTATION


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
    """Score and count the tiles of every image."""
    settings = read_settings(models)
    exif = settings.exif
    dataset = open_segmentation(data, split, models.classes, settings.ignore, rows, exif=exif)
    notes = list(dataset.samples.notes)
    for note in notes:
        say(f"Note: {note}", as_json)
    at_once = len(notes)
    with progress_bar("predict", "images", not as_json) as progress:
        folder = predict_tiles(
            models,
            dataset,
            out,
            batch_size=batch_size or SEMANTIC_SEGMENTATION.batch_size,
            allow_code=allow_code,
            progress=progress,
            note=notes.append,
        )
    missing = left_out(folder)
    notes += missing.notes
    names = [model.name for model in models.models]
    grids = [grid.name for grid in settings.grids]
    if as_json:
        told = {"split": str(folder), "models": names, "tiles": grids}
        print_json(
            {
                **told,
                "samples": len(dataset.samples),
                "ignored": missing.pixels,
                "classes_without_labels": list(missing.classes),
                "notes": notes,
            }
        )
        return
    for note in notes[at_once:]:
        say(f"Note: {note}")
    say(
        f"{counted(len(names), 'model')} x {counted(len(dataset.samples), 'image')} x tiles of "
        f"{', '.join(grids)} are in {folder}"
    )
    say(next_step(out, split))


def run(
    cascade: str,
    data: str,
    out: Path,
    rows: str | None,
    batch_size: int | None,
    show_tiles: bool,
    allow_code: Sequence[str],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Segment images: an image of classes each, and a row each."""
    check_table(out)
    segmenter = Segmenter(cascade, allow_code=allow_code)
    classes, exif = segmenter.cascade.classes, segmenter.exif
    dataset = open_segmentation(data, "run", classes, rows=rows, labels=False, exif=exif)
    notes = list(dataset.samples.notes)
    started = time.perf_counter()
    with progress_bar("run", "images", not as_json) as progress:
        size = batch_size or SEMANTIC_SEGMENTATION.batch_size
        found = segment_into(
            segmenter,
            dataset,
            out,
            size,
            show_tiles,
            progress,
            overwrite=overwrite,
            note=notes.append,
        )
        done = list(found)
    seconds = time.perf_counter() - started
    stages = range(len(segmenter.cascade.stages))
    ratios = [float(np.mean([row[f"exit_{k}"] for row in done])) for k in stages]
    costs = [row["cost"] for row in done if row["cost"] is not None]
    average = float(np.mean(costs)) if costs else None
    promise = Promise.of(segmenter.cascade)
    summary = {
        "samples": len(done),
        "seconds": seconds,
        "exit_ratios": ratios,
        "promised_exit_ratios": promise and list(promise.ratios),
        "average_cost": average,
        "unit": segmenter.unit,
        "out": str(out),
    }
    if as_json:
        print_json({**summary, "notes": notes})
        return
    for note in notes:
        say(f"Note: {note}")
    say(f"{counted(len(done), 'image')} in {seconds:.1f} s")
    promised = f" (promised {shares(promise.ratios)})" if promise else ""
    say(f"Exits of tiles by stage: {shares(ratios)}{promised} of {segmenter.cascade}")
    say(cost_line(average, segmenter.unit, segmenter.specs))
    say(f"Written: {out}, {out.stem}_classes/" + (f", {out.stem}_tiles/" if show_tiles else ""))


def is_segmentation(path: str) -> bool:
    """Whether a path is a cascade file or a bundle whose models segment."""
    # One ONNX file holds no such cascade, and takes long to open.
    return Path(path).suffix.lower() != ".onnx" and segmenting(opened(path).cascade)
