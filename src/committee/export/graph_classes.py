"""The classes that an ONNX graph names itself, as converters of estimators write them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from committee.errors import needing

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

# Operators that leave the order of the classes as it is.
_KEEP = {"Identity", "Cast", "Normalizer", "Softmax", "Exp", "Reshape", "Flatten", "ZipMap"}


def graph_classes(path: Path) -> tuple[str, ...]:
    """Return the classes of a graph's outputs in their order; empty if it does not name them.

    An operator of ``ai.onnx.ml`` that classifies holds their names, and so does the one that makes
    a name of the largest output. What stands behind them may have brought the outputs into another
    order, and then nothing is known.
    """
    with needing("Reading the classes of an ONNX file", "onnx", "onnx"):
        import onnx
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception:  # of protobuf; whoever loads the file says what is wrong with it
        return ()
    made = {name: node for node in model.graph.node for name in node.output}
    for output in model.graph.output:
        for name in _kept(output.name, made):
            classes = _of_classifier(name, made.get(name)) or _of_largest(name, model, made)
            if classes:
                return classes
    return ()


def _kept(name: str, made: dict[str, NodeProto]) -> list[str]:
    """Return the names of a tensor before operators that keep its order, the last first."""
    names = [name]
    while names[-1] in made and made[names[-1]].op_type in _KEEP:
        names.append(made[names[-1]].input[0])
    return names


def _of_classifier(name: str, node: NodeProto | None) -> tuple[str, ...]:
    """Return the classes of an operator whose second output has a column for each."""
    if node is None or len(node.output) < 2 or node.output[1] != name:
        return ()
    found = (_texts(each) for each in node.attribute if each.name.startswith("classlabels"))
    return next(filter(None, found), ())


def _texts(attribute: Any) -> tuple[str, ...]:
    if attribute.strings:
        return tuple(each.decode("utf-8", "replace") for each in attribute.strings)
    return tuple(map(str, attribute.ints))


def _of_largest(name: str, model: ModelProto, made: dict[str, NodeProto]) -> tuple[str, ...]:
    """Return the classes from which the largest output takes its own."""
    from onnx import numpy_helper

    constants = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "ArrayFeatureExtractor" or node.input[0] not in constants:
            continue
        largest = made.get(_kept(node.input[1], made)[-1])
        if largest is not None and largest.op_type == "ArgMax" and largest.input[0] == name:
            values = numpy_helper.to_array(constants[node.input[0]]).ravel().tolist()
            return tuple(v.decode() if isinstance(v, bytes) else str(v) for v in values)
    return ()
