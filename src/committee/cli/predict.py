"""``committee predict``."""

from __future__ import annotations

from typing import Annotated

import typer

from committee.cli import segmentation as tiles
from committee.cli.common import (
    AllowCode,
    AsJson,
    Data,
    Fraction,
    Only,
    Rows,
    Seed,
    SkipBroken,
    counted,
    next_step,
    print_json,
    progress_bar,
    refuse,
    say,
    say_wrapped,
)
from committee.data.open import open_data
from committee.models.pool_file import read_pool_file
from committee.pool.labels import LabelMode, told_of_labels
from committee.predict import predict as compute
from committee.spec.task import SEMANTIC_SEGMENTATION
from committee.store.reconcile import rest, taken
from committee.store.split import read_split


def predict(
    pool: Annotated[str, typer.Argument(metavar="POOL.toml", help="The models.")],
    data: Data,
    split: Annotated[str, typer.Option(help="Name of the split that these samples are.")],
    out: Annotated[str, typer.Option(help="Folder of the store.")] = "predictions",
    rows: Rows = None,
    fraction: Fraction = None,
    seed: Seed = None,
    skip_broken: SkipBroken = False,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Read no labels; committee relabel adds them.")
    ] = False,
    only: Only = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Samples a forward pass; it divides 256. 32 images or 4 clips."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Stored numbers: float32 or float16.")] = "float32",
    allow_code: AllowCode = None,
    as_json: AsJson = False,
) -> None:
    """Compute the outputs of every model on every sample, resumably.

    --fraction 0.5 takes half of every class, and with --split test the other half. If the store
    has splits that were taken so, --split test without --fraction takes what they left.

    Example: committee predict pool.toml --data images/val --split val
    """
    refuse("--fraction", seed=seed is not None and fraction is None)
    models = read_pool_file(pool)
    if only:
        models = models.only(only)
    if models.task is SEMANTIC_SEGMENTATION:
        tiles.refuse(
            fraction=fraction is not None,
            skip_broken=skip_broken,
            unlabelled=unlabelled,
            dtype=dtype != "float32",
        )
        tiles.predict(models, data, split, out, rows, batch_size, allow_code or (), as_json)
        return
    labels: LabelMode = "none" if unlabelled else "must fit"
    dataset = open_data(data, split, models.classes, rows, models=models.models, labels=labels)
    if fraction is not None:
        dataset = taken(dataset, out, fraction, seed or 0)
    elif rows is None:
        dataset = rest(dataset, out)
    notes = [note for note in (*dataset.samples.notes, told_of_labels(dataset.samples)) if note]
    shown: list[str] = []

    def say_notes() -> None:
        for note in notes[len(shown) :]:
            if not as_json:
                say_wrapped(f"Note: {note}")
            shown.append(note)

    with progress_bar("predict", "outputs", not as_json) as update:

        def progress(done: int, total: int) -> None:
            # What is noted before the work is said before it, but not beside an error of the call.
            say_notes()
            if update is not None:
                update(done, total)

        folder = compute(
            models,
            dataset,
            out,
            batch_size=batch_size,
            dtype=dtype,
            skip_broken=skip_broken,
            allow_code=allow_code or (),
            progress=progress,
            note=notes.append,
        )
    names = [model.name for model in models.models]
    samples = read_split(folder, dataset.samples.classes).samples
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
    say_notes()
    rule = f" ({samples.rule})" if samples.rule else ""
    many = f"{counted(len(names), 'model')} x {counted(len(samples), 'sample')}"
    say(f"{many} are in {folder}{rule}")
    say(next_step(out, split))
