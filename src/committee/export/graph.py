"""One ONNX file that is the whole cascade: later stages stand inside ``If`` nodes.

A plain ONNX runtime that runs it exits early by itself. The graph takes images as bytes,
(samples, height, width, channels), resized and cut to a model's size; it normalises them. Of
records it takes what its models take, (samples, ...). Its
outputs are the running combination at the exit, ``logits`` or ``probabilities`` (samples, classes),
and ``class``, ``confidence`` and ``stage`` of exit, (samples,) each.

Two forms. ``one`` takes one image. ``any`` takes any number of them: after each stage the
undecided ones alone are gathered, go on, and are put back in their places.

:mod:`.plan` reads and checks the models, :mod:`.stages` writes the nodes, and here they become a
file.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from committee.arrays import Array
from committee.errors import CommitteeError, ExportError, ModelError, NotFiniteError, needing
from committee.export.model_files import onnx_specs
from committee.export.nodes import FUNCTIONS, Nodes, function_of
from committee.export.plan import PRECISIONS, Form, Plan, planned, resizes_inside
from committee.export.stages import value_infos, write_stages
from committee.files import naming
from committee.models.base import outputs_of
from committee.models.graph import Port, onnxruntime_session
from committee.models.inputs import RawSamples, inputs_of
from committee.models.load import load_models
from committee.models.record_graph import blank_of, fed_graph
from committee.rule.cascade import Cascade
from committee.rule.flow import Answers, Decisions, Request, decide, drive
from committee.spec.preprocessing import Preprocessing
from committee.spec.recipe import Recipe
from committee.spec.record import Record
from committee.store.chunks import exclusive

if TYPE_CHECKING:
    from onnx import ModelProto

# What a file says about itself; see committee.run.onnx_cascade for who reads it.
CASCADE_KEY, INPUTS_KEY, FORM_KEY = "committee.cascade", "committee.inputs", "committee.form"
# The source of a model that is inside such a file.
INSIDE = "inside:"
# protobuf ends at 2 GiB; larger tensors go into a file beside the model.
_LARGEST_FILE = 2_000_000_000
# Tensors in that file begin where a page of memory may begin.
_PAGE = 4096
# Images that the cascade and its graph decide on before the file is put in its place.
_CHECKED = 3


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
        cascade: A cascade of ONNX files that give logits or probabilities.
        path: Where to write; neither it nor ``PATH.data`` may exist.
        form: ``one`` for one image a run, ``any`` for any number.
        precision: Type of combination and score; ``float64`` decides as the runner does,
            ``float32`` is for runtimes that know nothing wider.
        resize_inside: Take images of the largest size only and resize them in the graph for the
            smaller models: an image that was larger is resized twice, and decisions may differ
            from the cascade's. Otherwise there is one input for each size. By default only a
            self-cascade, one file at several sizes, is resized inside.
        onnx: ONNX files that take the place of a model's source, by the model's name.
        largest_file: Bytes of weights above which they go to a file ``PATH.data`` beside it.

    Returns:
        The path.

    Raises:
        ExportError: If a model is no ONNX file, models cannot stand in one graph, the graph would
            not load or decide otherwise than the models, or the file is there already.
        ModelError: If a model's file is missing, altered or unreadable.
        MissingExtraError: If the onnx package is not installed.
        DataError: If another process writes it.
        OSError: If it cannot be written; it names the path itself.
    """
    with needing("Exporting", "onnx", "onnx"):
        import onnx as package
    if form not in ("one", "any"):
        raise ExportError(
            f"export: form {form!r} is unknown; write 'any', for any number of images a run, or "
            "'one', for one"
        )
    if precision not in PRECISIONS:
        raise ExportError(
            f"export: precision {precision!r} is unknown; a graph combines and scores in "
            f"{' or '.join(PRECISIONS)}. Its models stay in float32"
        )
    path = Path(path)
    _check_absent(path)
    specs = {spec.name: spec for spec in onnx_specs(cascade, onnx)}
    plan = planned(cascade, specs, form, precision, resize_inside)
    tensors = (each for model in plan.models.values() for each in model.graph.initializer)
    weights = sum(len(tensor.raw_data) for tensor in tensors)
    with naming(path), exclusive(path, make_parents=True):
        _check_absent(path)  # another process may have written it meanwhile
        # Whole or not at all: both are written beside, then moved, the weights first.
        with tempfile.TemporaryDirectory(dir=path.parent, suffix=".tmp") as folder:
            whole, data = Path(folder) / path.name, Path(folder) / f"{path.name}.data"
            if weights > largest_file:
                _move_out(plan, data)
            package.save_model(_model(plan), whole)
            exact = not resizes_inside(specs, resize_inside)
            rows = 1 if form == "one" else _CHECKED
            _check_graph(whole, plan, rows, exact=exact)
            for made in (data, whole):
                if made.exists():
                    shutil.move(made, path.with_name(made.name))
    return path


def _check_absent(path: Path) -> None:
    for there in (path, path.with_name(f"{path.name}.data")):
        if there.exists():
            raise ExportError(f"{there}: is there already; name another file, or remove it")


def _move_out(plan: Plan, data: Path) -> None:
    """Move the larger tensors into a file, before branches are built, which protobuf limits too."""
    from onnx import TensorProto, external_data_helper

    with data.open("wb") as file:
        for model in plan.models.values():
            for tensor in model.graph.initializer:
                if len(tensor.raw_data) < _PAGE:
                    continue
                file.write(bytes(-file.tell() % _PAGE))
                external_data_helper.set_external_data(
                    tensor, data.name, file.tell(), len(tensor.raw_data)
                )
                file.write(tensor.raw_data)
                tensor.ClearField("raw_data")
                tensor.data_location = TensorProto.EXTERNAL


def _model(plan: Plan) -> ModelProto:
    from onnx import helper

    nodes = Nodes("stage 0/")
    samples: int | str = 1 if plan.form == "one" else "samples"
    results, names = write_stages(plan, nodes), [plan.kind, "class", "confidence", "stage"]
    for result, name in zip(results, names, strict=True):
        nodes.nodes.append(helper.make_node("Identity", [result], [name], name=f"output {name}"))
    inputs = [_input(plan, recipe, name, samples) for recipe, name in plan.inputs.items()]
    imports = [helper.make_opsetid(domain, version) for domain, version in plan.opsets.items()]
    functions = [function_of(graph, name, imports) for name, graph in plan.functions.items()]
    own = [helper.make_opsetid(FUNCTIONS, 1)] if functions else []
    model = helper.make_model(
        nodes.graph(str(plan.cascade), inputs, value_infos(plan, names, [samples])),
        opset_imports=[*imports, *own],
        functions=functions,
        producer_name="committee",
        ir_version=max(
            helper.find_min_ir_version_for(imports, ignore_unknown=True),
            *(each.ir_version for each in plan.models.values()),
        ),
    )
    helper.set_model_props(model, _metadata(plan))
    return model


def _input(plan: Plan, recipe: Recipe, name: str, samples: int | str) -> Any:
    """Return what the graph declares of one of its inputs: images as bytes, or records."""
    from onnx import TensorProto, helper

    if isinstance(recipe, Preprocessing):
        sides = [samples, *recipe.size, recipe.channels]
        return helper.make_tensor_value_info(name, TensorProto.UINT8, sides)
    port = plan.ports[cast(Record, recipe)]
    shape = None if port.shape is None else [samples, *port.shape[1:]]
    return helper.make_tensor_value_info(name, port.number, shape)


def _metadata(plan: Plan) -> dict[str, str]:
    # Paths of the machine that exported stay there.
    models = {name: replace(spec, source=INSIDE + name) for name, spec in plan.specs.items()}
    inputs = [{"name": name, "preprocessing": fit.to_json()} for fit, name in plan.inputs.items()]
    return {
        CASCADE_KEY: json.dumps(replace(plan.cascade, models=models).to_json()),
        INPUTS_KEY: json.dumps(inputs),
        FORM_KEY: plan.form,
    }


# Largest difference of scores, as a share of the score.
_TOLERANCE = 1e-2


def _check_graph(path: Path, plan: Plan, rows: int, *, exact: bool = True) -> None:
    """Load a cascade written as one ONNX file, and compare it with its models on a batch.

    Scores must agree if ``exact``: if the models see the same images in both.
    """
    try:
        session = onnxruntime_session("export", path, 0)
    except ModelError as error:
        raise ExportError(f"{error}: onnxruntime does not load the new graph") from None
    reference = _reference(plan, rows)
    if reference is None:
        return
    samples, expected = reference
    try:
        feed = fed_graph(lambda _: samples, {n: each for each, n in plan.inputs.items()}, session)
        _, _, score, stage = session.run(None, feed)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ExportError(f"export: the new graph fails ({reason})") from None
    same = stage == expected.stage
    apart = np.abs(score - expected.score)[same] > _TOLERANCE * (1 + np.abs(expected.score[same]))
    if exact and apart.any():
        raise ExportError(
            "export: the new graph decides otherwise than the models: its score is "
            f"{score[same][apart][0]:.4g} where theirs is {expected.score[same][apart][0]:.4g}. "
            "Write a bundle instead: --out FOLDER"
        )


def _reference(plan: Plan, rows: int) -> tuple[RawSamples, Decisions] | None:
    """Return samples and the models' decisions on them; None if a model gives NaN."""
    specs = plan.specs
    models = dict(zip(specs, load_models(specs.values()), strict=True))
    failed: CommitteeError | None = None
    # A model may fail on noise, but not on everything.
    for samples in _some_samples(plan, rows):

        def answer(request: Request, samples: RawSamples = samples) -> Answers:
            rows = request.rows
            taken = samples[rows] if isinstance(samples, np.ndarray) else [samples[r] for r in rows]
            return {
                name: outputs_of(*models[name], inputs_of(taken, specs[name].preprocessing))
                for name in request.models
            }

        try:
            return samples, drive(decide(plan.cascade, rows), answer)
        except NotFiniteError:
            return None
        except CommitteeError as error:
            failed = error
    raise failed or ModelError("export: no model runs")


def _some_samples(plan: Plan, rows: int) -> Iterator[RawSamples]:
    """Yield samples to try a graph on: noise, then zeros."""
    if plan.ports:
        yield from (_some_records(plan.ports, rows, seed) for seed in (0, None))
        return
    fit = next(each for each in plan.inputs if isinstance(each, Preprocessing))
    shape = (rows, *fit.size, fit.channels)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    yield from (noise, np.zeros_like(noise))


def _some_records(ports: Mapping[Record, Port], rows: int, seed: int | None) -> list[Any]:
    """Return records to try a graph on: noise by a seed, or zeros without one."""
    rng = None if seed is None else np.random.default_rng(seed)
    values = {recipe: _some(port, rows, rng) for recipe, port in ports.items()}
    return [_record(values, row) for row in range(rows)]


def _some(port: Port, rows: int, rng: np.random.Generator | None) -> Array:
    blank = np.repeat(blank_of(port), rows, axis=0)
    if rng is None or blank.dtype == object:
        return blank
    noise = rng.standard_normal(blank.shape)
    return noise.astype(blank.dtype) if blank.dtype.kind == "f" else (noise > 0).astype(blank.dtype)


def _record(values: Mapping[Record, Array], row: int) -> Any:
    record: dict[str, Any] = {}
    for recipe, array in values.items():
        (field,) = recipe.fields
        if not field.columns:
            return array[row]
        cells = array[row].ravel() if field.row else [array[row]]
        record |= dict(zip(field.columns, cells, strict=False))
    return record
