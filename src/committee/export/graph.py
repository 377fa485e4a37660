"""One ONNX file that is the whole cascade: later stages stand inside ``If`` nodes.

A plain ONNX runtime that runs it exits early by itself. The graph takes pictures as bytes,
(samples, height, width, channels), resized and cut to a model's size; it normalises them. Its
outputs are the running combination at the exit, ``logits`` or ``probabilities`` (samples, classes),
and ``class``, ``confidence`` and ``stage`` of exit, (samples,) each.

Two forms. ``one`` takes one picture. ``any`` takes any number of them: after each stage the
undecided ones alone are gathered, go on, and are put back in their places.

The exit rule here is a translation of :func:`committee.flow.exits`; the tests hold it to that.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from committee.cascade import ALWAYS, NEVER, Cascade
from committee.errors import ExportError, MissingExtraError, ModelError
from committee.export.judging import Judging
from committee.export.loop import Loop, Turn
from committee.export.nodes import Nodes
from committee.export.sources import onnx_path, onnx_specs
from committee.models import ModelSpec, Preprocessing
from committee.predictions import Kind

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

Form = Literal["one", "any"]
PRECISIONS = {"float64": np.float64, "float32": np.float32}
# What a file says about itself; see committee.run.graph for who reads it.
CASCADE_KEY, INPUTS_KEY, FORM_KEY = "committee.cascade", "committee.inputs", "committee.form"
# The first that can shrink a picture as Pillow does, with antialiasing.
_LEAST_OPSET = 18
# protobuf ends at 2 GiB; larger tensors go into a file beside the model.
_LARGEST_FILE = 2_000_000_000
# Tensors in that file begin where a page of memory may begin.
_PAGE = 4096


def write_graph(
    cascade: Cascade,
    path: str | Path,
    *,
    form: Form = "any",
    precision: Literal["float64", "float32"] = "float64",
    resize_inside: bool | None = None,
    onnx: Mapping[str, str | Path] | None = None,
    largest_file: int = _LARGEST_FILE,
) -> Path:
    """Write a cascade as one ONNX file.

    Args:
        cascade: Its models are ONNX files that give logits or probabilities.
        path: Where to; a file there is replaced.
        form: ``one`` for one picture a run, ``any`` for any number.
        precision: What is combined and scored in; ``float64`` decides as the runner does,
            ``float32`` is for runtimes that know nothing wider.
        resize_inside: Take pictures of the largest size only and resize them in the graph for the
            smaller models. Otherwise there is one input for each size. By default only a
            self-cascade, one file at several sizes, is resized inside.
        onnx: ONNX files that take the place of a model's source, by the model's name.
        largest_file: Bytes of weights above which they go to a file ``PATH.data`` beside it.

    Returns:
        The path.

    Raises:
        ExportError: If a model is no ONNX file, or models cannot stand in one graph.
        ModelError: If a model's file is missing, altered or unreadable.
        MissingExtraError: If the onnx package is not installed.
    """
    try:
        import onnx as package
    except ImportError:
        raise MissingExtraError.of("Exporting", "onnx", "onnx") from None
    if form not in ("one", "any") or precision not in PRECISIONS:
        raise ExportError(
            f"export: form {form!r} must be 'one' or 'any', precision {precision!r} one of "
            f"{', '.join(PRECISIONS)}"
        )
    path = Path(path)
    specs = {spec.name: spec for spec in onnx_specs(cascade, onnx)}
    plan = _plan(cascade, specs, form, precision, resize_inside)
    path.parent.mkdir(parents=True, exist_ok=True)
    graphs = [model.graph for model in plan.models.values()]
    weights = sum(len(tensor.raw_data) for graph in graphs for tensor in graph.initializer)
    # Whole or not at all: written beside, then moved, what it refers to first.
    with tempfile.TemporaryDirectory(dir=path.parent, suffix=".tmp") as folder:
        data = Path(folder) / f"{path.name}.data"
        if weights > largest_file:
            _move_out(graphs, data)
        package.save_model(_model(plan), Path(folder) / path.name)
        for made in (data, Path(folder) / path.name):
            if made.exists():
                shutil.move(made, path.with_name(made.name))
    return path


def _move_out(graphs: list[GraphProto], data: Path) -> None:
    """Move the larger tensors into a file, before branches are built, which protobuf limits too."""
    from onnx import TensorProto
    from onnx.external_data_helper import set_external_data

    with data.open("wb") as file:
        for graph in graphs:
            for tensor in graph.initializer:
                if len(tensor.raw_data) < _PAGE:
                    continue
                file.write(bytes(-file.tell() % _PAGE))
                set_external_data(tensor, data.name, file.tell(), len(tensor.raw_data))
                file.write(tensor.raw_data)
                tensor.ClearField("raw_data")
                tensor.data_location = TensorProto.EXTERNAL


@dataclass(frozen=True)
class _Plan:
    """What is to be written, with every model read."""

    cascade: Cascade
    specs: Mapping[str, ModelSpec]
    models: Mapping[str, ModelProto]
    inputs: Mapping[Preprocessing, str]
    judging: Judging
    kind: Kind
    form: Form
    dtype: Any
    classes: int

    def graph(self, name: str) -> GraphProto:
        """The graph of a model."""
        return self.models[self.specs[name].source].graph

    def input_of(self, spec: ModelSpec) -> Preprocessing:
        """What the input that feeds a model is resized to."""
        own = _fit(spec.preprocessing)
        return own if own in self.inputs else next(iter(self.inputs))


def _plan(
    cascade: Cascade,
    specs: Mapping[str, ModelSpec],
    form: Form,
    precision: str,
    resize_inside: bool | None,
) -> _Plan:
    models = _unified({spec.source: _read(spec) for spec in specs.values()})
    kinds = {name: spec.kind for name, spec in specs.items()}
    for name, spec in specs.items():
        _check_input(name, models[spec.source].graph, form)
    fits = list(dict.fromkeys(_fit(spec.preprocessing) for spec in specs.values()))
    if resize_inside is None:
        resize_inside = len(models) == 1
    if resize_inside:
        fits = [_largest(fits)]
    names = [
        "picture" if len(fits) == 1 else f"picture_{fit.size[0]}x{fit.size[1]}" for fit in fits
    ]
    if len(set(names)) < len(names):
        names = [f"{name}_{number}" for number, name in enumerate(names)]
    classes = len(cascade.classes) or _classes(models[specs[cascade.names[0]].source].graph)
    dtype = PRECISIONS[precision]
    return _Plan(
        cascade=cascade,
        specs=specs,
        models=models,
        inputs=dict(zip(fits, names, strict=True)),
        judging=Judging(
            cascade.combine, cascade.confidence, kinds, cascade.calibrations, classes, dtype
        ),
        kind=_kind(cascade, kinds),
        form=form,
        dtype=dtype,
        classes=classes,
    )


def _fit(recipe: Preprocessing) -> Preprocessing:
    """A recipe without what the graph does itself: models of other means share an input."""
    none, one = (0.0,) * recipe.channels, (1.0,) * recipe.channels
    return replace(recipe, mean=none, std=one, order="rgb")


def _largest(fits: list[Preprocessing]) -> Preprocessing:
    """The largest size, if the others show the same part of the picture."""
    largest = max(fits, key=lambda fit: fit.size)
    for fit in fits:
        same = replace(fit, size=largest.size) == largest
        if not same or fit.size[0] * largest.size[1] != fit.size[1] * largest.size[0]:
            raise ExportError(
                f"export: {fit.size} and {largest.size} differ in proportions, crop, resize, exif, "
                "channels or interpolation, so that the one cannot be resized from the other. Give "
                "the graph an input for each size: resize_inside=False (--no-resize-inside)"
            )
    if largest.interpolation == "lanczos" and len(fits) > 1:
        raise ExportError(
            "export: ONNX has no lanczos, so that a graph cannot resize with it. Give it an input "
            "for each size: resize_inside=False (--no-resize-inside)"
        )
    return largest


def _kind(cascade: Cascade, kinds: Mapping[str, Kind]) -> Kind:
    if cascade.combine == "mean_logits" and set(kinds.values()) != {"logits"}:
        raise ExportError(
            "export: mean_logits needs logits of every model. Use combine='mean_probabilities'"
        )
    if cascade.combine == "last" and len(set(kinds.values())) > 1:
        raise ExportError(
            "export: models give logits and probabilities, and 'last' would answer with either. "
            "Use combine='mean_probabilities', or write a bundle"
        )
    return (
        "probabilities" if cascade.combine == "mean_probabilities" else next(iter(kinds.values()))
    )


def _read(spec: ModelSpec) -> ModelProto:
    import onnx
    from onnx import inliner

    path = onnx_path(spec)
    try:
        model = onnx.load(path)
        # Functions of several models could share a name; inlined they cannot.
        return inliner.inline_local_functions(model) if model.functions else model
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"model {spec.name!r}: {path} is no ONNX model ({reason})") from None


def _unified(models: dict[str, ModelProto]) -> dict[str, ModelProto]:
    """The models at one version of the operators, the newest of theirs."""
    from onnx import version_converter

    target = max(_LEAST_OPSET, *(_opsets(model).get("", 1) for model in models.values()))
    unified = {}
    for source, model in models.items():
        if _opsets(model).get("", 1) < target:
            try:
                model = version_converter.convert_version(model, target)  # noqa: PLW2901
            except Exception as error:
                reason = str(error).strip().split("\n")[0]
                raise ExportError(
                    f"export: {source} cannot be lifted to opset {target} ({reason}). "
                    f"Export the model again with opset {target}"
                ) from None
        unified[source] = model
    return unified


def _opsets(model: ModelProto) -> dict[str, int]:
    return {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}


def _check_input(name: str, graph: GraphProto, form: Form) -> None:
    from onnx import TensorProto

    weights = {tensor.name for tensor in graph.initializer}
    inputs = [each for each in graph.input if each.name not in weights]
    if len(inputs) != 1:
        told = ", ".join(each.name for each in inputs)
        raise ModelError(f"model {name!r}: has inputs {told}, needs just one")
    kind = inputs[0].type.tensor_type
    if kind.elem_type != TensorProto.FLOAT:
        raise ExportError(f"export: model {name!r} takes no float32 pictures")
    if form == "any" and kind.shape.dim and kind.shape.dim[0].HasField("dim_value"):
        raise ExportError(
            f"export: model {name!r} takes {kind.shape.dim[0].dim_value} picture(s) at a time. "
            "Export it with a dynamic batch, or choose form='one' (--form one)"
        )


def _classes(graph: GraphProto) -> int:
    dims = graph.output[0].type.tensor_type.shape.dim
    if len(dims) != 2 or not dims[1].dim_value:
        raise ExportError(
            "export: neither the cascade nor its first model says how many classes there are. "
            "Name them in the pool file"
        )
    return int(dims[1].dim_value)


def _model(plan: _Plan) -> ModelProto:
    from onnx import TensorProto, helper

    nodes = Nodes("stage 0/")
    samples: int | str = 1 if plan.form == "one" else "samples"
    pictures = _Pictures(plan.inputs, {})
    if len(plan.models) < len(plan.specs):
        # One file at several sizes: it stands in the graph once.
        results = _loop(plan, pictures).write(nodes, next(iter(plan.inputs.values())))
    else:
        results = _stage(plan, nodes, 0, pictures, {})
    names = _output_names(plan)
    for result, name in zip(results, names, strict=True):
        nodes.nodes.append(helper.make_node("Identity", [result], [name], name=f"output {name}"))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.UINT8, [samples, *fit.size, fit.channels])
        for fit, name in plan.inputs.items()
    ]
    outputs = _infos(plan, names, [samples])
    opsets: dict[str, int] = {}
    for model in plan.models.values():
        for domain, version in _opsets(model).items():
            if opsets.setdefault(domain, version) != version:
                raise ExportError(
                    f"export: models need {domain} in versions {opsets[domain]} and {version}. "
                    "Export them again with the same"
                )
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = helper.make_model(
        nodes.graph(str(plan.cascade), inputs, outputs),
        opset_imports=imports,
        producer_name="committee",
        ir_version=max(
            helper.find_min_ir_version_for(imports, ignore_unknown=True),
            *(each.ir_version for each in plan.models.values()),
        ),
    )
    helper.set_model_props(model, _metadata(plan))
    return model


def _metadata(plan: _Plan) -> dict[str, str]:
    # Paths of the machine that exported are nobody's business.
    models = {
        name: replace(spec, source=f"inside:{name}").to_json() for name, spec in plan.specs.items()
    }
    inputs = [{"name": name, "preprocessing": fit.to_json()} for fit, name in plan.inputs.items()]
    return {
        CASCADE_KEY: json.dumps(replace(plan.cascade, models=models).to_json()),
        INPUTS_KEY: json.dumps(inputs),
        FORM_KEY: plan.form,
    }


def _output_names(plan: _Plan) -> list[str]:
    return [plan.kind, "class", "confidence", "stage"]


def _infos(plan: _Plan, names: list[str], shape: list[int | str] | None) -> list[Any]:
    from onnx import TensorProto, helper

    floating = helper.np_dtype_to_tensor_dtype(np.dtype(plan.dtype))
    types = (floating, TensorProto.INT64, floating, TensorProto.INT64)
    wide = None if shape is None else [*shape, plan.classes]
    shapes = (wide, shape, shape, shape)
    return [
        helper.make_tensor_value_info(name, kind, dims)
        for name, kind, dims in zip(names, types, shapes, strict=True)
    ]


@dataclass(frozen=True)
class _Pictures:
    """The pictures of the samples at hand.

    Args:
        bytes: Tensors (n, height, width, channels), by what they are resized to.
        ready: Inputs of models (n, channels, height, width) that were made of them.
    """

    bytes: Mapping[Preprocessing, str]
    ready: dict[Preprocessing, str]

    def prepared(self, nodes: Nodes, plan: _Plan, spec: ModelSpec) -> str:
        """The input of a model, made once."""
        recipe = spec.preprocessing
        if recipe not in self.ready:
            fit = plan.input_of(spec)
            values = nodes.add("Transpose", self.bytes[fit], perm=[0, 3, 1, 2])
            values = nodes.add("Cast", values, to=1)
            if recipe.size != fit.size:
                values = shrunk(nodes, values, fit, recipe)
            if recipe.order == "bgr" and recipe.channels > 1:
                values = nodes.add("Gather", values, nodes.ints(2, 1, 0), axis=1)
            scale, shift = recipe.scale_and_shift()
            values = nodes.add("Mul", values, nodes.constant(scale[:, None, None], np.float32))
            values = nodes.add("Add", values, nodes.constant(shift[:, None, None], np.float32))
            self.ready[recipe] = values
        return self.ready[recipe]

    def gathered(self, nodes: Nodes, plan: _Plan, rows: str, stage: int) -> _Pictures:
        """The pictures of some rows, of those sizes that are needed from a stage on."""
        later = [name for each in plan.cascade.stages[stage:] for name in each.models]
        needed = {plan.input_of(plan.specs[name]) for name in later}
        return _Pictures(
            {fit: nodes.add("Gather", name, rows) for fit, name in self.bytes.items()
             if fit in needed},
            {},
        )  # fmt: skip


def _loop(plan: _Plan, pictures: _Pictures) -> Loop:
    """The cascade as turns of its models, until all pictures have left."""
    turns: list[Turn] = []
    for number, stage in enumerate(plan.cascade.stages):
        for name in stage.models:
            last = name == stage.models[-1]
            threshold = stage.threshold if last else NEVER
            prepare = partial(_prepared_of, plan, pictures, plan.specs[name])
            turns.append(Turn(name, plan.graph(name), prepare, number, threshold))
        if stage.threshold == ALWAYS:
            break
    newest_only = plan.cascade.combine == "last"
    return Loop(turns, plan.judging, newest_only, plan.classes, plan.dtype)


def _prepared_of(plan: _Plan, pictures: _Pictures, spec: ModelSpec, nodes: Nodes, rows: str) -> str:
    """The input of a model, of some rows of the pictures."""
    fit = plan.input_of(spec)
    some = _Pictures({fit: nodes.add("Gather", pictures.bytes[fit], rows)}, {})
    return some.prepared(nodes, plan, spec)


def shrunk(nodes: Nodes, values: str, fit: Preprocessing, recipe: Preprocessing) -> str:
    """Pictures (n, channels, height, width) in a smaller size, as Pillow does it.

    Pillow resizes rows, rounds to bytes, resizes columns, and rounds again. It computes with whole
    numbers and the graph in float32, so that a byte may differ by one here and there.
    """
    height, width = recipe.size
    if recipe.interpolation == "nearest":
        for axis, (old, new) in ((2, (fit.size[0], height)), (3, (fit.size[1], width))):
            # Pillow walks in steps of old / new, rounding as it goes; ties depend on that.
            steps = np.full(new, old / new)
            steps[0] /= 2
            taken = np.minimum(np.add.accumulate(steps).astype(np.int64), old - 1).tolist()
            values = nodes.add("Gather", values, nodes.ints(*taken), axis=axis)
        return values
    options: dict[str, Any] = {"antialias": 1, "exclude_outside": 1, "mode": "linear"}
    if recipe.interpolation == "bicubic":
        options |= {"mode": "cubic", "cubic_coeff_a": -0.5}
    for size in ((fit.size[0], width), (height, width)):
        samples = nodes.add("Shape", values, start=0, end=1)
        shape = nodes.add("Concat", samples, nodes.ints(fit.channels, *size), axis=0)
        values = nodes.add("Resize", values, "", "", shape, **options)
        # Half a byte goes up in Pillow; Round would send it to the even neighbour.
        values = nodes.add("Floor", nodes.add("Add", values, nodes.constant(0.5, np.float32)))
        low, high = nodes.constant(0, np.float32), nodes.constant(255, np.float32)
        values = nodes.add("Clip", values, low, high)
    return values


def _stage(
    plan: _Plan, nodes: Nodes, index: int, pictures: _Pictures, ran: Mapping[str, str]
) -> list[str]:
    """A stage and all after it.

    Args:
        plan: The cascade.
        nodes: Where to write them.
        index: Of the stage, from 0.
        pictures: Of the n samples that reach it.
        ran: Outputs (n, C) of the models that ran, oldest first.

    Returns:
        Tensors of combination (n, C), class, confidence and stage of exit, (n,) each.
    """
    stage = plan.cascade.stages[index]
    ran = dict(ran)
    for name in stage.models:
        source = pictures.prepared(nodes, plan, plan.specs[name])
        made = nodes.embed(plan.graph(name), f"{name}/", source)
        outputs = nodes.add("Cast", made, to=_onnx_type(plan.dtype))
        ran[name] = plan.judging.calibrated(nodes, name, outputs)
    if stage.threshold == NEVER:
        return _stage(plan, nodes, index + 1, pictures, ran)
    values, predicted, score = plan.judging.judged(nodes, ran)
    own = [values, predicted, score, _filled(nodes, predicted, index)]
    if stage.threshold == ALWAYS:
        return own
    # A sample leaves when its score reaches the threshold. One whose score is NaN leaves too, so
    # that the NaN is seen in what comes out.
    going = nodes.add("Less", score, nodes.constant(stage.threshold, plan.dtype))
    # All that `last` looks at is the newest output.
    kept = {} if plan.cascade.combine == "last" else ran
    if plan.form == "one":
        return _one_goes_on(plan, nodes, index, pictures, kept, own, going)
    return _some_go_on(plan, nodes, index, pictures, kept, own, going)


def _one_goes_on(
    plan: _Plan,
    nodes: Nodes,
    index: int,
    pictures: _Pictures,
    ran: Mapping[str, str],
    own: list[str],
    going: str,
) -> list[str]:
    inner = Nodes(f"stage {index + 1}/")
    # What is prepared in a branch cannot be seen outside of it.
    inside = _Pictures(pictures.bytes, dict(pictures.ready))
    results = _stage(plan, inner, index + 1, inside, ran)
    condition = nodes.add("Squeeze", going, nodes.ints(0))
    return _if(plan, nodes, index, condition, inner, results, own)


def _some_go_on(
    plan: _Plan,
    nodes: Nodes,
    index: int,
    pictures: _Pictures,
    ran: Mapping[str, str],
    own: list[str],
    going: str,
) -> list[str]:
    places = nodes.add("NonZero", going)
    condition = nodes.add("Greater", nodes.add("Size", places), nodes.constant(0, np.int64))
    inner = Nodes(f"stage {index + 1}/")
    rows = inner.add("Squeeze", places, inner.ints(0))
    survivors = {name: inner.add("Gather", outputs, rows) for name, outputs in ran.items()}
    inside = pictures.gathered(inner, plan, rows, index + 1)
    deeper = _stage(plan, inner, index + 1, inside, survivors)
    scatter = inner.add("Transpose", places, perm=[1, 0])
    results = [
        inner.add("ScatterND", mine, scatter, theirs)
        for mine, theirs in zip(own, deeper, strict=True)
    ]
    return _if(plan, nodes, index, condition, inner, results, own)


def _if(
    plan: _Plan,
    nodes: Nodes,
    index: int,
    condition: str,
    inner: Nodes,
    results: list[str],
    own: list[str],
) -> list[str]:
    other = Nodes(f"stage {index} exit/")
    # A branch must answer with tensors of its own.
    passed = [other.add("Identity", each) for each in own]
    return nodes.several(
        "If",
        condition,
        outputs=4,
        then_branch=inner.graph(f"stage {index + 1}", [], _infos(plan, results, None)),
        else_branch=other.graph(f"stage {index} exit", [], _infos(plan, passed, None)),
    )


def _filled(nodes: Nodes, like: str, value: int) -> str:
    """A tensor of a tensor's shape, filled with an integer."""
    from onnx import numpy_helper

    number = numpy_helper.from_array(np.array([value], np.int64))
    return nodes.add("ConstantOfShape", nodes.add("Shape", like), value=number)


def _onnx_type(dtype: Any) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
