"""Plan one ONNX file: read and check every model before any node is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from committee.errors import ExportError, ModelError
from committee.export.canonical import canonical, export_form
from committee.export.record_inputs import RecordForm
from committee.models.graph import Port
from committee.rule.calibration import made_kinds
from committee.rule.cascade import Cascade
from committee.rule.outputs import Kind
from committee.rule.scores import AGREEMENTS
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing
from committee.spec.recipe import Recipe
from committee.spec.record import Field, Record

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

Form = Literal["one", "any"]
PRECISIONS = {"float64": np.float64, "float32": np.float32}
# The first opset that shrinks an image as Pillow does, with antialiasing.
_LEAST_OPSET = 18


@dataclass(frozen=True)
class Plan:
    """Everything needed to write a file.

    ``models`` has graphs by file and form, ``files`` the key of each model there, and ``inputs``
    the name of each input of the graph, by how its images are resized or by the column of its
    records, whose ``ports`` say what they take.
    """

    cascade: Cascade
    specs: Mapping[str, ModelSpec]
    models: Mapping[str, ModelProto]
    files: Mapping[str, str]
    inputs: Mapping[Recipe, str]
    ports: Mapping[Record, Port]
    kind: Kind
    form: Form
    dtype: Any
    classes: int

    def graph(self, name: str) -> GraphProto:
        """Return the graph of a model."""
        return self.models[self.files[name]].graph

    def input_of(self, name: str) -> Preprocessing:
        """Return how the images of the input that feeds a model are resized."""
        own = _fit(self.specs[name].image)
        if own in self.inputs:
            return own
        return next(each for each in self.inputs if isinstance(each, Preprocessing))

    def inputs_of(self, name: str) -> Sequence[Recipe]:
        """Return the inputs that feed a model: one of images, or several of records."""
        spec = self.specs[name]
        return _recipes_of(spec) if spec.does.records else [self.input_of(name)]

    def shared(self, name: str) -> str:
        """Return the function that several models of one file call; empty for a single model."""
        return self._functions.get(self.files[name], "")

    @cached_property
    def functions(self) -> dict[str, GraphProto]:
        """Return the graphs that several models share, by the name of the function."""
        return {name: self.models[file].graph for file, name in self._functions.items()}

    @cached_property
    def _functions(self) -> dict[str, str]:
        several = [file for file, count in Counter(self.files.values()).items() if count > 1]
        return {file: f"network_{number}" for number, file in enumerate(several)}

    @cached_property
    def opsets(self) -> dict[str, int]:
        """Return the versions of the operators, by domain."""
        versions: dict[str, int] = {}
        for model in self.models.values():
            for domain, version in _opsets(model).items():
                if versions.setdefault(domain, version) != version:
                    raise ExportError(
                        f"export: models need {domain} in versions {versions[domain]} and "
                        f"{version}. Export them again with the same"
                    )
        return versions


def _recipes_of(spec: ModelSpec) -> list[Record]:
    """Return what feeds each input of a model, in the order of its graph; models may share it."""
    unnamed = [Field("", f.columns, f.row, f.dtype) for f in spec.record.fields]
    return [Record((field,)) for field in unnamed]


def planned(
    cascade: Cascade,
    specs: Mapping[str, ModelSpec],
    form: Form,
    precision: str,
    resize_inside: bool | None,
) -> Plan:
    """Read all models; for arguments see :func:`committee.export.graph.write_graph`."""
    forms = {name: export_form(spec, several=form == "any") for name, spec in specs.items()}
    inputs, ports = _inputs(specs, forms, resize_inside)
    unified = _unified({spec.source: _read(spec) for spec in specs.values()})
    files = {name: f"{specs[name].source} {forms[name]}" for name in specs}
    models = {
        files[name]: canonical(unified[spec.source], forms[name]) for name, spec in specs.items()
    }
    kinds = {name: spec.kind for name, spec in specs.items()}
    classes = _classes(cascade, {name: models[files[name]].graph for name in specs})
    dtype = PRECISIONS[precision]
    return Plan(
        cascade=cascade,
        specs=specs,
        models=models,
        files=files,
        inputs=inputs,
        ports=ports,
        kind=_kind(cascade, kinds),
        form=form,
        dtype=dtype,
        classes=classes,
    )


def resizes_inside(specs: Mapping[str, ModelSpec], resize_inside: bool | None) -> bool:
    """Return True if the graph resizes the largest images for the smaller models."""
    if any(spec.does.records for spec in specs.values()):
        return False
    if len({_fit(spec.image) for spec in specs.values()}) == 1:
        return False
    if resize_inside is None:
        return len({spec.source for spec in specs.values()}) == 1
    return resize_inside


def _inputs(
    specs: Mapping[str, ModelSpec], forms: Mapping[str, Any], resize_inside: bool | None
) -> tuple[Mapping[Recipe, str], Mapping[Record, Port]]:
    records = {name: form for name, form in forms.items() if isinstance(form, RecordForm)}
    if records:
        names, ports = _inputs_of_graph(specs, records)
        return dict(names.items()), ports
    return dict(_image_inputs(specs, resize_inside).items()), {}


def _inputs_of_graph(
    specs: Mapping[str, ModelSpec], forms: Mapping[str, RecordForm]
) -> tuple[dict[Record, str], dict[Record, Port]]:
    """Return the inputs of one graph for all models: their names, and what they take."""
    ports: dict[Record, Port] = {}
    for name, spec in specs.items():
        for recipe, port in zip(_recipes_of(spec), forms[name].inputs, strict=True):
            known = ports.setdefault(recipe, port)
            if _ranks(known) != _ranks(port):
                raise ExportError(
                    f"export: models take {port} and {known} of the same column, which one input "
                    "cannot feed. Export the models with the same shape"
                )
    names = [_name(recipe) for recipe in ports]
    if len(set(names)) < len(names):
        names = [f"{name}_{number}" for number, name in enumerate(names)]
    return dict(zip(ports, names, strict=True)), ports


def _ranks(port: Port) -> tuple[int, ...]:
    return () if port.shape is None else (len(port.shape),)


def _name(recipe: Record) -> str:
    (field,) = recipe.fields
    return "row" if field.row else next(iter(field.columns), "record")


def _image_inputs(
    specs: Mapping[str, ModelSpec], resize_inside: bool | None
) -> dict[Preprocessing, str]:
    fits = list(dict.fromkeys(_fit(spec.image) for spec in specs.values()))
    if resizes_inside(specs, resize_inside):
        fits = [_largest(fits)]
    names = ["image"]
    if len(fits) > 1:
        names = [f"image_{fit.size[0]}x{fit.size[1]}" for fit in fits]
    if len(set(names)) < len(names):
        names = [f"{name}_{number}" for number, name in enumerate(names)]
    return dict(zip(fits, names, strict=True))


def _fit(recipe: Preprocessing) -> Preprocessing:
    """Return a recipe without the steps inside the graph, so that models share an input."""
    none, one = (0.0,) * recipe.channels, (1.0,) * recipe.channels
    return replace(recipe, mean=none, std=one, order="rgb")


def _largest(fits: list[Preprocessing]) -> Preprocessing:
    """Return the recipe of the largest size, if the others show the same part of the image."""
    largest = max(fits, key=lambda fit: fit.size)
    for fit in fits:
        same = replace(fit, size=largest.size) == largest
        if not same or fit.size[0] * largest.size[1] != fit.size[1] * largest.size[0]:
            raise ExportError(
                f"export: {fit.size} and {largest.size} differ in proportions, crop, resize, exif, "
                "channels or interpolation, so one cannot be resized from the other. Give "
                "the graph an input for each size: resize_inside=False (--no-resize-inside)"
            )
    if largest.interpolation == "lanczos" and len(fits) > 1:
        raise ExportError(
            "export: ONNX has no lanczos, so a graph cannot resize with it. Give it an input "
            "for each size: resize_inside=False (--no-resize-inside)"
        )
    return largest


def _kind(cascade: Cascade, raw: Mapping[str, Kind]) -> Kind:
    kinds = made_kinds(raw, cascade.calibrations)
    if set(kinds.values()) == {"decisions"}:
        if cascade.combine != "last" or cascade.confidence in AGREEMENTS:
            raise ExportError(
                "export: a graph neither votes on nor compares models calibrated per class. Use "
                "combine='last' with a confidence of its own, or write a bundle"
            )
        # The graph still gives the outputs of the model that decides.
        kinds = dict(raw)
    if cascade.combine == "mean_logits" and set(kinds.values()) != {"logits"}:
        raise ExportError(
            "export: mean_logits needs logits of every model. Use combine='mean_probabilities'"
        )
    if cascade.combine == "last" and len(set(kinds.values())) > 1:
        raise ExportError(
            "export: models give logits and probabilities, so 'last' would give either. "
            "Use combine='mean_probabilities', or write a bundle"
        )
    if cascade.combine in ("mean_probabilities", "vote"):
        return "probabilities"
    return next(iter(kinds.values()))


def _read(spec: ModelSpec) -> ModelProto:
    import onnx.inliner

    path = Path(spec.text)
    try:
        model = onnx.load(path)
        # Functions of several models may have the same name; inlining avoids that.
        return onnx.inliner.inline_local_functions(model) if model.functions else model
    except Exception as error:
        raise ModelError(
            f"model {spec.name!r}: {path} is no ONNX model ({_first_line(error)})"
        ) from None


def _unified(models: dict[str, ModelProto]) -> dict[str, ModelProto]:
    """Return the models at one version of the operators, the newest of theirs."""
    from onnx import version_converter

    target = max(_LEAST_OPSET, *(_opsets(model).get("", 1) for model in models.values()))
    unified = {}
    for source, model in models.items():
        if _opsets(model).get("", 1) < target:
            try:
                model = version_converter.convert_version(model, target)  # noqa: PLW2901
            except Exception as error:
                raise ExportError(
                    f"export: {source} cannot become opset {target} ({_first_line(error)}). "
                    f"Export the model again with opset {target}"
                ) from None
        unified[source] = model
    return unified


def _opsets(model: ModelProto) -> dict[str, int]:
    return {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _classes(cascade: Cascade, graphs: Mapping[str, GraphProto]) -> int:
    """Return the number of classes, which the cascade and all models must share."""
    declared = {}
    for name, graph in graphs.items():
        dims = graph.output[0].type.tensor_type.shape.dim
        if len(dims) == 2 and dims[1].dim_value:
            declared[name] = int(dims[1].dim_value)
    if not declared and not cascade.classes:
        raise ExportError(
            "export: neither the cascade nor a model defines the number of classes. "
            "Name them in the pool file"
        )
    classes = len(cascade.classes) or next(iter(declared.values()))
    for name, own in declared.items():
        if own != classes:
            raise ExportError(
                f"export: model {name!r} has {own} classes where {classes} are expected. "
                "Check that it and the names of the classes belong to the same task"
            )
    return classes
