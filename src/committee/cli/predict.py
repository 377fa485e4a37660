"""``committee predict``."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

from committee.cli import options as opt
from committee.cli.options import refuse, refuse_for_segmentation
from committee.cli.output import Notes, print_json, progress_bar, say, say_next
from committee.cli.stores import next_step
from committee.cli.tasks import commands_of
from committee.data.base import Dataset
from committee.data.open import open_data
from committee.models.pool_file import PoolFile, read_pool_file
from committee.pool.labels import LabelMode
from committee.pool.samples import Samples
from committee.predict import predict as compute
from committee.store.reconcile import grown_share, without_stored_shares
from committee.store.split import read_split
from committee.text import counted


def predict(
    pool: opt.PoolPath,
    data: opt.Data,
    split: opt.SplitName,
    out: opt.NewStore = "predictions",
    rows: opt.Rows = None,
    fraction: opt.Fraction = None,
    seed: opt.Seed = None,
    skip_broken: opt.SkipBroken = False,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Read no labels; committee relabel adds them.")
    ] = False,
    only: opt.Only = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Samples per forward pass, a divisor of 256; default: 32 images, 4 clips or 256 "
            "records."
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Stored numbers: float32 or float16.")] = "float32",
    allow_code: opt.AllowCode = None,
    as_json: opt.AsJson = False,
) -> None:
    """Compute the outputs of every model on every sample; stop and resume at will.

    --fraction 0.5 takes half of every class, and with --split test the other half. If the store
    has such splits already, --split test without --fraction takes what remains.

    Example: committee predict pool.toml --data images/val --split val
    """
    refuse("--fraction", seed=seed is not None and fraction is None)
    models = read_pool_file(pool)
    if only:
        models = models.only(only)
    code = allow_code or ()
    own = commands_of(models.task)
    if own is not None:
        refuse_for_segmentation(
            fraction=fraction is not None,
            skip_broken=skip_broken,
            unlabelled=unlabelled,
            dtype=dtype != "float32",
        )
        own.predict(models, data, split, out, rows, batch_size, code, as_json)
        return
    dataset = _open(models, data, split, out, rows, fraction, seed or 0, unlabelled)
    notes = Notes(as_json, [*dataset.samples.notes, _labels_note(dataset.samples)])
    with progress_bar("predict", "outputs", not as_json) as update:

        def progress(done: int, total: int) -> None:
            # The call was not refused: show its notes before the first progress.
            notes.show()
            if update is not None:
                update(done, total)

        folder = compute(
            models,
            dataset,
            out,
            batch_size=batch_size,
            dtype=dtype,
            skip_broken=skip_broken,
            allow_code=code,
            progress=progress,
            note=notes.append,
        )
    notes.show()
    samples = read_split(folder, dataset.samples.classes).samples
    names = [model.name for model in models.models]
    if as_json:
        print_json(
            {
                "split": str(folder),
                "models": names,
                "samples": len(samples),
                "rule": samples.rule,
                "broken": [vars(each) for each in samples.broken],
                "notes": notes,
            }
        )
        return
    rule = f" ({samples.rule})" if samples.rule else ""
    outputs = f"{counted(len(names), 'model')} x {counted(len(samples), 'sample')}"
    say(f"{outputs} are in {folder}{rule}")
    say_next(next_step(out, split))


def _labels_note(samples: Samples) -> str:
    """Return a note if samples have no labels, or some classes have no samples; else empty."""
    if samples.labels is None:
        return "without labels: committee relabel adds them, search --agree-with needs none"
    if not samples.classes:
        return ""
    count, total = len(np.unique(samples.labels)), len(samples.classes)
    have = "has" if count == 1 else "have"
    return f"{count:,} of {total:,} classes {have} samples" if count < total else ""


def _open(
    models: PoolFile,
    data: str,
    split: str,
    store: str,
    rows: str | None,
    fraction: str | None,
    seed: int,
    unlabelled: bool,
) -> Dataset:
    """Return the dataset of the split."""
    labels: LabelMode = "none" if unlabelled else "must fit"
    dataset = open_data(data, split, models.classes, rows, models=models.models, labels=labels)
    if fraction is not None:
        return grown_share(dataset, store, fraction, seed)
    return dataset if rows is not None else without_stored_shares(dataset, store)
