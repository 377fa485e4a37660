"""Stages as ONNX nodes: each stands in an ``If`` node of the one before it.

The exit rule here is a translation of :func:`committee.rule.flow.exits`; the tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from committee.export.image_nodes import InGraph
from committee.export.nodes import Nodes
from committee.export.plan import Plan
from committee.rule.cascade import ALWAYS, NEVER


def written(plan: Plan, nodes: Nodes) -> list[str]:
    """Write all stages.

    Returns:
        Tensors of combination (n, C), class, confidence and stage of exit, (n,) each.
    """
    return _stage(plan, nodes, 0, InGraph(plan.inputs, {}), {})


def infos(plan: Plan, names: list[str], shape: list[int | str] | None) -> list[Any]:
    """What a graph says of the four tensors that :func:`written` returns.

    Args:
        plan: What is written.
        names: Of the tensors.
        shape: Of all but the first, which has one axis more; None if it is left open.
    """
    from onnx import TensorProto, helper

    floating = _onnx_type(plan.dtype)
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
        images: Of the n samples that reached the stage before.
        ran: Outputs (n, C) of the models that ran, oldest first.
        own: What that stage would answer: combination, class, confidence and stage.
        going: Which samples go on, (n,) truth values.
    """

    images: InGraph
    ran: Mapping[str, str]
    own: list[str]
    going: str


def _stage(
    plan: Plan, nodes: Nodes, index: int, images: InGraph, ran: Mapping[str, str]
) -> list[str]:
    """A stage and all after it, for the n samples that reach it."""
    stage = plan.cascade.stages[index]
    ran = dict(ran)
    for name in stage.models:
        made = _outputs(plan, nodes, name, images.prepared(nodes, plan, name))
        ran[name] = plan.judging.calibrated(nodes, name, made)
    if stage.threshold == NEVER:
        return _stage(plan, nodes, index + 1, images, ran)
    values, predicted, score = plan.judging.judged(nodes, ran)
    own = [values, predicted, score, _filled(nodes, predicted, index)]
    if stage.threshold == ALWAYS:
        return own
    # A sample leaves when its score reaches the threshold. One whose score is NaN leaves too, so
    # that the NaN is seen in what comes out.
    going = nodes.add("Less", score, nodes.constant(stage.threshold, plan.dtype))
    # All that `last` looks at is the newest output.
    kept = {} if plan.cascade.combine == "last" else ran
    go_on = _one_goes_on if plan.form == "one" else _some_go_on
    return go_on(plan, nodes, index, _Undecided(images, kept, own, going))


def _outputs(plan: Plan, nodes: Nodes, name: str, source: str) -> str:
    function = plan.shared(name)
    if function:
        made = nodes.call(function, f"{name}/", source)
    else:
        made = nodes.embed(plan.graph(name), f"{name}/", source)
    return nodes.add("Cast", made, to=_onnx_type(plan.dtype))


def _one_goes_on(plan: Plan, nodes: Nodes, index: int, before: _Undecided) -> list[str]:
    inner = Nodes(f"stage {index + 1}/")
    # What is prepared in a branch cannot be seen outside of it.
    inside = InGraph(before.images.bytes, dict(before.images.ready))
    results = _stage(plan, inner, index + 1, inside, before.ran)
    condition = nodes.add("Squeeze", before.going, nodes.ints(0))
    return _if(plan, nodes, index, condition, inner, results, before.own)


def _some_go_on(plan: Plan, nodes: Nodes, index: int, before: _Undecided) -> list[str]:
    places = nodes.add("NonZero", before.going)
    condition = nodes.add("Greater", nodes.add("Size", places), nodes.constant(0, np.int64))
    inner = Nodes(f"stage {index + 1}/")
    rows = inner.add("Squeeze", places, inner.ints(0))
    survivors = {name: inner.add("Gather", made, rows) for name, made in before.ran.items()}
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
    """The results of the inner nodes if the condition holds, else a stage's own."""
    other = Nodes(f"stage {index} exit/")
    # A branch must answer with tensors of its own.
    passed = [other.add("Identity", each) for each in own]
    return nodes.several(
        "If",
        condition,
        outputs=4,
        then_branch=inner.graph(f"stage {index + 1}", [], infos(plan, results, None)),
        else_branch=other.graph(f"stage {index} exit", [], infos(plan, passed, None)),
    )


def _filled(nodes: Nodes, like: str, value: int) -> str:
    """A tensor of a tensor's shape, filled with an integer."""
    from onnx import numpy_helper

    number = numpy_helper.from_array(np.array([value], np.int64))
    return nodes.add("ConstantOfShape", nodes.add("Shape", like), value=number)


def _onnx_type(dtype: Any) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
