"""``committee predict`` and ``committee run`` for segmentation models."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from committee.cli.output import Notes, cost_text, print_json, progress_bar, say, say_next
from committee.cli.stores import next_step
from committee.data.segmentation import open_segmentation
from committee.models.pool_file import PoolFile
from committee.run.open import CascadeLike
from committee.run.promise import Promise
from committee.segment.predict import predict_tiles
from committee.segment.run import Segmenter, check_table, segment_into
from committee.segment.settings import read_settings
from committee.segment.store import left_out
from committee.spec.task import SEMANTIC_SEGMENTATION
from committee.text import counted, shares


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
    dataset = open_segmentation(
        data, split, models.classes, settings.ignore, rows, exif=settings.exif
    )
    notes = Notes(as_json, dataset.samples.notes)
    notes.show()
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
    tiles = [grid.name for grid in settings.grids]
    if as_json:
        print_json(
            {
                "split": str(folder),
                "models": names,
                "tiles": tiles,
                "samples": len(dataset.samples),
                "ignored": missing.pixels,
                "classes_without_labels": list(missing.classes),
                "notes": notes,
            }
        )
        return
    notes.show()
    images = f"{counted(len(names), 'model')} x {counted(len(dataset.samples), 'image')}"
    say(f"{images} x tiles of {', '.join(tiles)} are in {folder}")
    say_next(next_step(out, split))


def run(
    cascade: CascadeLike,
    data: str,
    out: Path,
    rows: str | None,
    batch_size: int | None,
    show_tiles: bool,
    allow_code: Sequence[str],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Segment images: write an image of classes and a row of results for each."""
    check_table(out)
    segmenter = Segmenter(cascade, allow_code=allow_code)
    classes, exif = segmenter.cascade.classes, segmenter.exif
    dataset = open_segmentation(data, "run", classes, rows=rows, labels=False, exif=exif)
    notes = Notes(as_json, dataset.samples.notes)
    size = batch_size or SEMANTIC_SEGMENTATION.batch_size
    started = time.perf_counter()
    with progress_bar("run", "images", not as_json) as progress:
        results = list(
            segment_into(
                segmenter,
                dataset,
                out,
                size,
                show_tiles,
                progress,
                overwrite=overwrite,
                note=notes.append,
            )
        )
    seconds = time.perf_counter() - started
    stages = range(len(segmenter.cascade.stages))
    ratios = [float(np.mean([row[f"exit_{k}"] for row in results])) for k in stages]
    costs = [row["cost"] for row in results if row["cost"] is not None]
    average = float(np.mean(costs)) if costs else None
    promise = Promise.of(segmenter.cascade)
    if as_json:
        print_json(
            {
                "samples": len(results),
                "seconds": seconds,
                "exit_ratios": ratios,
                "promised_exit_ratios": promise and list(promise.ratios),
                "average_cost": average,
                "unit": segmenter.unit,
                "out": str(out),
                "notes": notes,
            }
        )
        return
    notes.show()
    say(f"{counted(len(results), 'image')} in {seconds:.1f} s")
    expected = f" (expected {shares(promise.ratios)})" if promise else ""
    say(f"Exits of tiles by stage: {shares(ratios)}{expected} of {segmenter.cascade}")
    say(cost_text(average, segmenter.unit, segmenter.specs))
    say(f"Written: {out}, {out.stem}_classes/" + (f", {out.stem}_tiles/" if show_tiles else ""))
