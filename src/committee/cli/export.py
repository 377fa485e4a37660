"""``committee export``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from committee.cli import options as opt
from committee.cli.evaluate import findings_on
from committee.cli.options import refuse
from committee.cli.output import print_json, say, say_next, say_notes
from committee.cli.stores import with_models
from committee.errors import ExportError, require
from committee.export.bundle import write_bundle
from committee.export.graph import write_graph
from committee.export.model_files import onnx_specs, segmenting
from committee.export.plan import resizes_inside
from committee.export.triton import write_triton
from committee.pool.evaluate import Evaluation
from committee.rule.cascade import Cascade
from committee.text import human_bytes

# Matches endings of files, but not those of folders such as cascade.v2 or cascade-1.0.
_FILE = re.compile(r"\.(?!v\d)[A-Za-z]\w*")


def export(
    cascade: opt.CascadePath,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A new folder for a bundle, or FILE.onnx for a single graph.", show_default=False
        ),
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="In place of --out: a model repository of Triton Inference Server, which gets a "
            "folder named after CASCADE.",
            show_default=False,
        ),
    ] = None,
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
    test: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            help="Folder: evaluate on the test split of these predictions, or STORE/SPLIT, for "
            "its card.",
        ),
    ] = None,
    pool: opt.LoadedAs = None,
    as_json: opt.AsJson = False,
) -> None:
    """Export a cascade as a folder, one ONNX file or for Triton, to run elsewhere.

    Example: committee export c.json --out c.onnx
    """
    place = _place(cascade, out, triton)
    require("An export", "onnx")
    files = dict(_named(text) for text in onnx or ())
    loaded = with_models(cascade, pool)
    if loaded.graph is not None:
        raise ExportError(f"{cascade}: is exported already; name the cascade file or its bundle")
    chosen = loaded.cascade
    if triton is not None or place.suffix.lower() == ".onnx":
        refuse("a bundle, which has a card", test=test is not None)
    evaluations = {} if test is None else _evaluations(cascade, chosen, test)
    given = {"form": form, "precision": precision, "resize_inside": resize_inside}
    options = {name: value for name, value in given.items() if value is not None}
    written, graph = _write(chosen, place, triton, files, options, evaluations)
    size = sum(path.stat().st_size for path in written)
    resized = graph is not None and _resizes(chosen, files, resize_inside)
    if as_json:
        paths = [str(path) for path in written]
        print_json({"out": str(place), "files": paths, "bytes": size, "resizes_inside": resized})
        return
    say(f"Written: {place}, {human_bytes(size)}: {chosen}")
    if resized:
        say_notes(
            [
                "the graph resizes inside, so images of another size than its input are resized "
                "twice and decisions may differ; --no-resize-inside gives the same decisions, and "
                "verify --against counts the differences"
            ]
        )
    if segmenting(chosen):
        say(f"Next: python {place}/run.py OUT IMAGE")
    else:
        say_next(f"Next: committee verify {cascade} --data DATA --against {graph or place}")
    if triton is not None:
        say(f"Then: tritonserver --model-repository {triton}")


def _place(cascade: str, out: Path | None, triton: Path | None) -> Path:
    """Return where the export goes: a folder or an ONNX file."""
    if triton is not None and out is None:
        given = Path(cascade).resolve()
        return triton / (given.name if given.is_dir() else given.stem)
    if out is None or triton is not None:
        raise ExportError(
            "export: name one place, --out FOLDER or --out FILE.onnx, or --triton DIR for a "
            "repository of Triton"
        )
    if out.suffix.lower() != ".onnx" and _FILE.fullmatch(out.suffix.lower()):
        raise ExportError(
            f"--out {out}: an export is one ONNX file, FILE.onnx, or a folder, not a file "
            f"{out.suffix}"
        )
    return out


def _write(
    cascade: Cascade,
    place: Path,
    triton: Path | None,
    files: dict[str, str],
    options: dict[str, Any],  # checked by the functions below, for Python too
    evaluations: Mapping[str, Evaluation],
) -> tuple[list[Path], Path | None]:
    """Write an export; return its files, and its graph if it is a single one."""
    if triton is not None:
        write_triton(cascade, triton, place.name, onnx=files, **options)
        return _files(place), place / "1" / "model.onnx"
    if place.suffix.lower() == ".onnx":
        write_graph(cascade, place, onnx=files, **options)
        data = place.with_name(place.name + ".data")
        return [place, data] if data.exists() else [place], place
    if options:
        raise ExportError(
            f"export: --form, --precision and --resize-inside are for a graph; {place} is a "
            "folder. Write --out FILE.onnx"
        )
    return _files(write_bundle(cascade, place, onnx=files, evaluations=evaluations)), None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _evaluations(path: str, chosen: Cascade, store: str) -> dict[str, Evaluation]:
    """Return the evaluations for the card: of the cascade, its reference and each of its models."""
    findings, pool = findings_on(path, store)
    if findings.chose:
        raise ExportError(
            f"--test {store}: {pool.samples.split} chose the cascade and would flatter it; name "
            "another split, STORE/SPLIT"
        )
    return {str(chosen): findings.evaluation, **findings.models}


def _resizes(cascade: Cascade, files: dict[str, str], resize_inside: bool | None) -> bool:
    specs = {spec.name: spec for spec in onnx_specs(cascade, files)}
    return resizes_inside(specs, resize_inside)


def _named(text: str) -> tuple[str, str]:
    name, sign, path = text.partition("=")
    if not sign:
        raise ExportError(f"--onnx: {text!r} names no model; write NAME=FILE")
    return name, path
