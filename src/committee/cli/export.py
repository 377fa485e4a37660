"""``committee export``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from committee.cli import options as opt
from committee.cli.output import print_json, say, say_notes
from committee.cli.stores import with_models
from committee.errors import ExportError, require
from committee.export.bundle import write_bundle
from committee.export.graph import write_graph
from committee.export.model_files import onnx_specs, segmenting
from committee.export.plan import resizes_inside
from committee.rule.cascade import Cascade

# Matches endings of files, but not those of folders such as cascade.v2 or cascade-1.0.
_FILE = re.compile(r"\.(?!v\d)[A-Za-z]\w*")


def export(
    cascade: opt.CascadePath,
    out: Annotated[
        Path, typer.Option(help="A new folder for a bundle, or FILE.onnx for a single graph.")
    ],
    onnx: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="An ONNX file to use in place of a model's source. Repeatable.",
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(metavar="any|one", help="Graph: any number of images per run, or one."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="float64|float32", help="Graph: the type in which outputs are scored."
        ),
    ] = None,
    resize_inside: Annotated[
        bool | None,
        typer.Option(
            help="Graph: one input of the largest size, resized inside, or one input for each "
            "size, with the decisions of the cascade. Default: only a self-cascade resizes.",
            show_default=False,
        ),
    ] = None,
    pool: opt.LoadedAs = None,
    as_json: opt.AsJson = False,
) -> None:
    """Export a cascade as a folder or as one ONNX file that runs without committee.

    Example: committee export c.json --out c.onnx
    """
    if out.suffix.lower() != ".onnx" and _FILE.fullmatch(out.suffix.lower()):
        raise ExportError(
            f"--out {out}: an export is one ONNX file, FILE.onnx, or a folder, not a file "
            f"{out.suffix}"
        )
    require("An export", "onnx")
    files = dict(_named(text) for text in onnx or ())
    loaded = with_models(cascade, pool)
    if loaded.graph is not None:
        raise ExportError(f"{cascade}: is exported already; name the cascade file or its bundle")
    chosen = loaded.cascade
    written = _write(chosen, out, files, form, precision, resize_inside)
    size = sum(path.stat().st_size for path in written)
    resized = out.suffix.lower() == ".onnx" and _resizes(chosen, files, resize_inside)
    if as_json:
        paths = [str(path) for path in written]
        print_json({"out": str(out), "files": paths, "bytes": size, "resizes_inside": resized})
        return
    say(f"Written: {out}, {size / 1e6:.1f} MB: {chosen}")
    if resized:
        say_notes(
            [
                "the graph resizes inside, so images of another size than its input are resized "
                "twice and decisions may differ; --no-resize-inside gives the same decisions, and "
                "verify --against counts the differences"
            ]
        )
    if segmenting(chosen):
        say(f"Next: python {out}/run.py OUT IMAGE")
    else:
        say(f"Next: committee verify {cascade} --data DATA --against {out}")


def _write(
    cascade: Cascade,
    out: Path,
    files: dict[str, str],
    form: str | None,
    precision: str | None,
    resize_inside: bool | None,
) -> list[Path]:
    if out.suffix.lower() == ".onnx":
        path = write_graph(
            cascade,
            out,
            form=form or "any",  # type: ignore[arg-type]  # checked there, for Python too
            precision=precision or "float64",  # type: ignore[arg-type]  # likewise
            resize_inside=resize_inside,
            onnx=files,
        )
        data = path.with_name(path.name + ".data")
        return [path, data] if data.exists() else [path]
    if form or precision or resize_inside is not None:
        raise ExportError(
            f"export: --form, --precision and --resize-inside are for a graph; {out} is a folder. "
            "Write --out FILE.onnx"
        )
    folder = write_bundle(cascade, out, onnx=files)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _resizes(cascade: Cascade, files: dict[str, str], resize_inside: bool | None) -> bool:
    specs = {spec.name: spec for spec in onnx_specs(cascade, files)}
    return resizes_inside(specs, resize_inside)


def _named(text: str) -> tuple[str, str]:
    name, sign, path = text.partition("=")
    if not sign:
        raise ExportError(f"--onnx: {text!r} names no model; write NAME=FILE")
    return name, path
