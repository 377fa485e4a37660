"""Stages as ONNX nodes: each stands in an ``If`` node of the one before it.

What a stage computes is traced from the rule itself, over :mod:`.onnx_namespace`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from committee.export.nodes import Nodes, onnx_type
from committee.export.onnx_namespace import Onnx, Tensor
from committee.export.plan import Plan
from committee.rule.agreement import combine_and_score
from committee.rule.calibration import calibrated
from committee.rule.cascade import ALWAYS, NEVER
from committee.rule.flow import exits
from committee.rule.outputs import Outputs
from committee.rule.scores import AGREEMENTS
from committee.spec.preprocessing import Preprocessing
from committee.spec.recipe import Recipe

_ONNX = cast(Any, Onnx())


@dataclass(frozen=True)
class _InGraph:
    """The samples that reached a branch.

    Args:
        bytes: Tensors of images (n, height, width, channels), by what they are resized to, or of
            records (n, ...), by what they are made of.
        ready: Inputs of models (n, channels, height, width) that were made of images.
    """

    bytes: Mapping[Recipe, str]
    ready: dict[Preprocessing, str]

    def prepared(self, nodes: Nodes, plan: Plan, name: str) -> list[str]:
        """Return the inputs of a model."""
        if plan.specs[name].does.records:
            return [self.bytes[each] for each in plan.inputs_of(name)]
        return [self._image(nodes, plan, name)]

    def _image(self, nodes: Nodes, plan: Plan, name: str) -> str:
        """Return the images that a model takes, which are made once."""
        recipe = plan.specs[name].image
        if recipe not in self.ready:
            fit = plan.input_of(name)
            values = nodes.add("Transpose", self.bytes[fit], perm=[0, 3, 1, 2])
            values = nodes.add("Cast", values, to=1)
            if recipe.size != fit.size:
                values = _shrunk(nodes, values, fit, recipe)
            if recipe.order == "bgr" and recipe.channels > 1:
                values = nodes.add("Gather", values, nodes.ints(2, 1, 0), axis=1)
            scale, shift = recipe.scale_and_shift
            values = nodes.add("Mul", values, nodes.constant(scale[:, None, None], np.float32))
            values = nodes.add("Add", values, nodes.constant(shift[:, None, None], np.float32))
            self.ready[recipe] = values
        return self.ready[recipe]

    def gathered(self, nodes: Nodes, plan: Plan, rows: str, stage: int) -> _InGraph:
        """Return the inputs of some rows that are needed from a stage on."""
        later = [name for each in plan.cascade.stages[stage:] for name in each.models]
        needed = {each for name in later for each in plan.inputs_of(name)}
        kept = {fit: each for fit, each in self.bytes.items() if fit in needed}
        return _InGraph({fit: nodes.add("Gather", each, rows) for fit, each in kept.items()}, {})


def _shrunk(nodes: Nodes, values: str, fit: Preprocessing, recipe: Preprocessing) -> str:
    """Resize images (n, channels, height, width) as Pillow does.

    Pillow resizes rows, rounds to bytes, resizes columns, and rounds again. It computes with whole
    numbers and the graph in float32, so that some bytes differ by one.
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


def write_stages(plan: Plan, nodes: Nodes) -> list[str]:
    """Write all stages.

    Returns:
        Tensors of combination (n, C), class, confidence and stage of exit, (n,) each.
    """
    return _stage(plan, nodes, 0, _InGraph(plan.inputs, {}), {})


def value_infos(plan: Plan, names: list[str], shape: list[int | str] | None) -> list[Any]:
    """Return what a graph declares of the four tensors that :func:`write_stages` returns."""
    from onnx import TensorProto, helper

    floating = onnx_type(plan.dtype)
    types = (floating, TensorProto.INT64, floating, TensorProto.INT64)
    wide = None if shape is None else [*shape, plan.classes]
    shapes = (wide, shape, shape, shape)
    return [
        helper.make_tensor_value_info(name, kind, dims)
        for name, kind, dims in zip(names, types, shapes, strict=True)
    ]


@dataclass(frozen=True)
class _Undecided:
    """What a later stage may need.

    Args:
        images: Images of the n samples that reached the stage before.
        ran: Outputs (n, C) of the models that ran, oldest first.
        own: What that stage would answer: combination, class, confidence and stage.
        going: Which samples go on, (n,) truth values.
    """

    images: _InGraph
    ran: Mapping[str, Outputs]
    own: list[str]
    going: str

    def ran_in(self, inner: Nodes, rows: str = "") -> dict[str, Outputs]:
        """Return the outputs in a branch, gathered if rows are given."""

        def taken(tensor: Any) -> Any:
            name = inner.add("Gather", tensor.name, rows) if rows else tensor.name
            return replace(tensor, nodes=inner, name=name)

        return {name: Outputs(each.kind, taken(each.values)) for name, each in self.ran.items()}


def _stage(
    plan: Plan, nodes: Nodes, index: int, images: _InGraph, ran: Mapping[str, Outputs]
) -> list[str]:
    """Write a stage and all after it, for the n samples that reach it."""
    cascade = plan.cascade
    stage = cascade.stages[index]
    own = {
        name: _outputs(plan, nodes, name, images.prepared(nodes, plan, name))
        for name in stage.models
    }
    ran = {**ran, **calibrated(own, cascade.calibrations, _ONNX)}
    if stage.threshold == NEVER:
        return _stage(plan, nodes, index + 1, images, ran)
    combination, score = combine_and_score(ran, cascade.combination, cascade.confidence, _ONNX)
    # Decisions are classes alone: what stands beside them is what the newest model gave.
    decided = combination.kind == "decisions"
    shown = own[stage.models[-1]].values if decided else combination.values
    tensors: Any = shown, combination.predicted(), score
    answer = [each.name for each in tensors]
    answer.append(_filled(nodes, answer[1], index))
    if stage.threshold == ALWAYS:
        return answer
    going: Any = ~exits(score, stage.threshold)
    # All that `last` looks at is the newest output, unless its score is of all that ran.
    alone = cascade.combine == "last" and cascade.confidence not in AGREEMENTS
    needed = {} if alone else ran
    go_on = _one_goes_on if plan.form == "one" else _some_go_on
    return go_on(plan, nodes, index, _Undecided(images, needed, answer, going.name))


def _outputs(plan: Plan, nodes: Nodes, name: str, sources: Sequence[str]) -> Outputs:
    function = plan.shared(name)
    if function:
        made = nodes.call(function, f"{name}/", *sources)
    else:
        made = nodes.embed(plan.graph(name), f"{name}/", *sources)
    made = nodes.add("Cast", made, to=onnx_type(plan.dtype))
    values = Tensor(nodes, made, plan.dtype, plan.classes)
    return Outputs(plan.specs[name].kind, cast(Any, values))


def _one_goes_on(plan: Plan, nodes: Nodes, index: int, before: _Undecided) -> list[str]:
    inner = Nodes(f"stage {index + 1}/")
    # What is prepared in a branch cannot be seen outside of it.
    inside = _InGraph(before.images.bytes, dict(before.images.ready))
    results = _stage(plan, inner, index + 1, inside, before.ran_in(inner))
    condition = nodes.add("Squeeze", before.going, nodes.ints(0))
    return _if(plan, nodes, index, condition, inner, results, before.own)


def _some_go_on(plan: Plan, nodes: Nodes, index: int, before: _Undecided) -> list[str]:
    places = nodes.add("NonZero", before.going)
    condition = nodes.add("Greater", nodes.add("Size", places), nodes.constant(0, np.int64))
    inner = Nodes(f"stage {index + 1}/")
    rows = inner.add("Squeeze", places, inner.ints(0))
    survivors = before.ran_in(inner, rows)
    inside = before.images.gathered(inner, plan, rows, index + 1)
    deeper = _stage(plan, inner, index + 1, inside, survivors)
    scatter = inner.add("Transpose", places, perm=[1, 0])
    results = [
        inner.add("ScatterND", mine, scatter, theirs)
        for mine, theirs in zip(before.own, deeper, strict=True)
    ]
    return _if(plan, nodes, index, condition, inner, results, before.own)


def _if(
    plan: Plan,
    nodes: Nodes,
    index: int,
    condition: str,
    inner: Nodes,
    results: list[str],
    own: list[str],
) -> list[str]:
    """Write an If node: the results of the inner nodes if the condition holds, else its own."""
    other = Nodes(f"stage {index} exit/")
    # A branch must answer with tensors of its own.
    passed = [other.add("Identity", each) for each in own]
    return nodes.several(
        "If",
        condition,
        outputs=4,
        then_branch=inner.graph(f"stage {index + 1}", [], value_infos(plan, results, None)),
        else_branch=other.graph(f"stage {index} exit", [], value_infos(plan, passed, None)),
    )


def _filled(nodes: Nodes, like: str, value: int) -> str:
    """Write a tensor of a tensor's shape, filled with an integer."""
    from onnx import numpy_helper

    number = numpy_helper.from_array(np.array([value], np.int64))
    return nodes.add("ConstantOfShape", nodes.add("Shape", like), value=number)
