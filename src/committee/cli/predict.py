"""``committee predict``."""

from __future__ import annotations

from typing import Annotated

import typer

from committee.cli.common import (
    AllowCode,
    AsJson,
    Data,
    Only,
    Rows,
    next_step,
    print_json,
    progress_bar,
    say,
)


def predict(
    pool: Annotated[str, typer.Argument(metavar="POOL.toml", help="The models.")],
    data: Data,
    split: Annotated[str, typer.Option(help="Name of the split that these samples are.")],
    out: Annotated[str, typer.Option(help="Folder of the store.")] = "predictions",
    rows: Rows = None,
    only: Only = None,
    batch_size: Annotated[int, typer.Option(help="Samples a forward pass; it divides 256.")] = 32,
    allow_code: AllowCode = None,
    as_json: AsJson = False,
) -> None:
    """Compute the outputs of every model on every sample; stop and repeat at will."""
    from committee.data import open_data
    from committee.models import read_pool_file
    from committee.predict import predict as compute

    models = read_pool_file(pool)
    if only:
        models = models.only(only)
    dataset = open_data(data, split, models.classes, rows)
    with progress_bar("predict", "outputs", not as_json) as progress:
        folder = compute(
            models,
            dataset,
            out,
            batch_size=batch_size,
            allow_code=allow_code or (),
            progress=progress,
        )
    names = [model.name for model in models.models]
    if as_json:
        print_json({"split": str(folder), "models": names, "samples": len(dataset.samples)})
        return
    say(f"{len(names)} models x {len(dataset.samples)} samples are in {folder}")
    say(next_step(out, split))
