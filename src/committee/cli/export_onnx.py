"""``committee export-onnx``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from committee.cli import options as opt
from committee.cli.output import print_json, progress_bar, say
from committee.errors import require
from committee.export.pool import export_pool
from committee.models.pool_file import read_pool_file
from committee.text import counted


def export_onnx(
    pool: opt.PoolPath,
    out: Annotated[Path, typer.Option(help="Folder for the graphs and their pool file.")],
    only: opt.Only = None,
    allow_code: opt.AllowCode = None,
    as_json: opt.AsJson = False,
) -> None:
    """Convert torch models to ONNX files and check them against the originals.

    Example: committee export-onnx pool.toml --out exported
    """
    require("An export to ONNX", "export")
    models = read_pool_file(pool)
    if only:
        models = models.only(only)
    with progress_bar("export", "models", not as_json) as progress:
        written = export_pool(models, out, allow_code or (), progress)
    if as_json:
        print_json({"pool": str(written), "models": [model.name for model in models.models]})
        return
    say(f"{counted(len(models.models), 'graph')} are in {out}")
    say(f"Next: committee predict {written} --data DATA --split SPLIT")
