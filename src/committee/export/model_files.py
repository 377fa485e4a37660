"""The ONNX files of a cascade's models, checked to be those that were chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from committee.errors import ExportError, ModelError, UnknownNameError
from committee.export.graph_classes import graph_classes
from committee.models.graph import graph_fingerprint
from committee.models.load import specs_of
from committee.paths import MOVED
from committee.rule.cascade import Cascade
from committee.rule.scores import AGREEMENTS, BUILT_IN, CONFIDENCES, is_portable
from committee.spec.model import ModelSpec
from committee.text import listed


def onnx_specs(
    cascade: Cascade, onnx: Mapping[str, str | Path] | None = None, *, folder: bool = False
) -> list[ModelSpec]:
    """Return the specs of a cascade's models, each an ONNX file that exists."""
    segments = segmenting(cascade)
    if segments and not folder:
        raise ExportError(
            "export: the cascade segments, which only a folder can hold. Write --out FOLDER, or "
            "run the cascade file itself: committee run"
        )
    known = BUILT_IN if folder else filter(is_portable, CONFIDENCES)
    usable = [*known, *AGREEMENTS]
    if cascade.confidence not in usable and not segments:
        remedy = "" if folder else "; give it a third parameter xp, and compute with that"
        raise ExportError(
            f"export: confidence {cascade.confidence!r} is your own function, which no export "
            f"carries{remedy}. There are: {', '.join(usable)}"
        )
    files = dict(onnx or {})
    for name in files:
        if name not in cascade.names:
            raise UnknownNameError.of("export", "model", name, cascade.names)
    specs = specs_of(cascade).values()
    refuse_clips(specs)
    checked = [_checked(spec, files.get(spec.name)) for spec in specs]
    for spec in checked:
        if spec.name in files:
            _check_order(spec, cascade.classes)
    return checked


def segmenting(cascade: Cascade) -> bool:
    """Return True if the models of a cascade segment, so that tiles exit it."""
    specs = [model for model in cascade.models.values() if isinstance(model, ModelSpec)]
    return any(spec.does.dense for spec in specs)


def refuse_clips(specs: Iterable[ModelSpec]) -> None:
    """Refuse models of clips: exports have no frames to choose and no views to average."""
    for spec in specs:
        if spec.preprocessing.views is not None:
            raise ExportError(
                f"model {spec.name!r}: takes clips, and exports run on images. Run the cascade "
                "file itself: committee run, or committee.Runner"
            )


def _checked(spec: ModelSpec, given: str | Path | None) -> ModelSpec:
    where = f"model {spec.name!r}"
    if given is not None:
        source = f"onnx:{Path(given).resolve()}"
        # What is said of weights and engine is said of the source that is replaced.
        spec = replace(spec, source=source, fingerprint="", weights="", seed=0, engine="")
        spec = replace(spec, columns=())
    if not spec.source.startswith("onnx:"):
        raise ExportError(
            f"{where}: {spec.source} is no ONNX file. Export it first, {_exporter(spec)}, and name "
            f"the file: --onnx {spec.name}=FILE.onnx"
        )
    if spec.kind == "decisions":
        raise ExportError(f"{where}: gives decisions; an export needs logits or probabilities")
    path = Path(spec.text)
    if not path.is_file():
        raise ModelError(f"{where}: no file {path}. {MOVED}")
    fingerprint = graph_fingerprint(path)
    if spec.fingerprint not in ("", fingerprint):
        raise ModelError(
            f"{where}: {path} has changed since: fingerprint was {spec.fingerprint}, is "
            f"{fingerprint}. Restore it, or predict and search again"
        )
    return replace(spec, fingerprint=fingerprint)


def _check_order(spec: ModelSpec, classes: Sequence[str]) -> None:
    """Refuse a file that takes the place of a source if its outputs are of classes out of order."""
    own = graph_classes(Path(spec.text))
    if own != tuple(classes) and sorted(own) == sorted(classes):
        columns = [own.index(each) for each in classes]
        raise ExportError(
            f"model {spec.name!r}: {spec.text} gives the classes in the order {listed(own)}, and "
            f"the cascade in the order {listed(classes)}. Bring its outputs into that order: a "
            f"Gather node behind them takes the columns {listed(columns)}"
        )


def _exporter(spec: ModelSpec) -> str:
    """Return what makes an ONNX file of a model, by its source."""
    if not spec.source.startswith("sklearn:"):
        return "with committee export-onnx or torch.onnx.export"
    order = ", and its outputs brought into the order of the cascade's classes"
    return (
        'with skl2onnx.to_onnx(estimator, rows, options={"zipmap": False})'
        f"{order if spec.columns else ''}"
    )
