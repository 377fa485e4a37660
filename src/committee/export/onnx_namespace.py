"""An array namespace whose arrays are tensors of an ONNX graph: operations append its nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.export.nodes import Nodes, onnx_type
from committee.rule.namespace import Floats


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor, one row a sample; operators append a node and return its output.

    Args:
        nodes: Where nodes are appended.
        name: Its name.
        dtype: Floating-point type of the rule in this graph, a NumPy scalar type.
        classes: How many classes a matrix has.
    """

    nodes: Nodes
    name: str
    dtype: Any
    classes: int

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a matrix; how many rows there are shows when the graph runs."""
        return -1, self.classes

    def apply(self, operator: str, *others: Tensor | float, **attributes: Any) -> Tensor:
        """Append a node whose first input is this tensor; numbers become constants."""
        names = [self._name(other) for other in others]
        return replace(self, name=self.nodes.add(operator, self.name, *names, **attributes))

    def along_classes(self, operator: str, keepdims: bool) -> Tensor:
        """Append a reduction of each row."""
        axis = self.nodes.ints(1)
        return replace(self, name=self.nodes.add(operator, self.name, axis, keepdims=keepdims))

    def argmax(self, axis: int, keepdims: bool = False) -> Tensor:
        """Return the lowest index among the largest values."""
        return self.apply("ArgMax", axis=axis, keepdims=keepdims, select_last_index=0)

    def __add__(self, other: Tensor | float) -> Tensor:
        return self.apply("Add", other)

    def __sub__(self, other: Tensor | float) -> Tensor:
        return self.apply("Sub", other)

    def __mul__(self, other: Tensor | float) -> Tensor:
        return self.apply("Mul", other)

    def __truediv__(self, other: Tensor | float) -> Tensor:
        return self.apply("Div", other)

    def __rtruediv__(self, other: float) -> Tensor:
        return replace(self, name=self.nodes.add("Div", self._name(other), self.name))

    def __pow__(self, other: float) -> Tensor:
        return self.apply("Pow", other)

    def __gt__(self, other: Tensor | float) -> Tensor:
        return self.apply("Greater", other)

    def __eq__(self, other: object) -> Any:
        return self.apply("Equal", other)  # type: ignore[arg-type]

    __hash__ = object.__hash__  # a tensor is itself alone

    def __ge__(self, bound: float) -> Any:
        return _Reached(self, bound)

    def _name(self, value: Tensor | float) -> str:
        return value.name if isinstance(value, Tensor) else self.nodes.constant(value, self.dtype)


@dataclass(frozen=True)
class _Reached:
    """``scores >= bound``, of which the graph needs the opposite alone."""

    scores: Tensor
    bound: float

    def __invert__(self) -> Tensor:
        # A sample whose score is NaN exits, so that the NaN is seen in what comes out.
        return self.scores.apply("Less", self.bound)


class Onnx:
    """A :class:`~committee.rule.namespace.Namespace` of tensors; see there."""

    def floats(self, values: Tensor) -> Tensor:
        return values

    def exp(self, values: Tensor) -> Tensor:
        return values.apply("Exp")

    def log(self, values: Tensor) -> Tensor:
        return values.apply("Log")

    def minimum(self, values: Tensor, bound: float) -> Tensor:
        return values.apply("Min", bound)

    def maximum(self, values: Tensor, bound: float) -> Tensor:
        return values.apply("Max", bound)

    def where(self, condition: Tensor, values: Tensor | float, others: Tensor | float) -> Tensor:
        return condition.apply("Where", values, others)

    def sum(self, values: Tensor, keepdims: bool = False) -> Tensor:
        return values.along_classes("ReduceSum", keepdims)

    def max(self, values: Tensor, keepdims: bool = False) -> Tensor:
        return values.along_classes("ReduceMax", keepdims)

    def argmax(self, values: Tensor, keepdims: bool = False) -> Tensor:
        return values.argmax(1, keepdims)

    def two_largest(self, values: Tensor) -> tuple[Tensor, Tensor]:
        nodes = values.nodes
        top, _ = nodes.several("TopK", values.name, nodes.ints(2), outputs=2, axis=1)
        first, second = (
            nodes.add("Gather", top, nodes.constant(place, np.int64), axis=1) for place in (0, 1)
        )
        return replace(values, name=first), replace(values, name=second)

    def next_larger(self, values: Tensor) -> Tensor:
        """Add just over half of what the last bit of each number is worth.

        References:
            Rump et al. (2009), Computing Predecessor and Successor in Rounding to Nearest.
        """
        finfo = np.finfo(values.dtype)
        half = float(finfo.eps) / 2 * (1 + float(finfo.eps))
        step = (values.apply("Abs") * half).apply("Max", float(finfo.smallest_subnormal))
        return values + step

    def one_hot(self, index: Tensor, like: Tensor) -> Tensor:
        every = index.nodes.constant(np.arange(like.classes), np.int64)
        own = replace(index, name=index.nodes.add("Equal", index.name, every))
        return own.apply("Where", 1.0, 0.0)

    def take_along(self, values: Tensor, index: Tensor) -> Tensor:
        return values.apply("GatherElements", index, axis=1)

    def put_along(self, values: Tensor, index: Tensor, new: Tensor) -> Tensor:
        return values.apply("ScatterElements", index, new, axis=1)

    def straight_pieces(
        self, values: Tensor, knots: Floats, heights: Floats, slopes: Floats
    ) -> Tensor:
        # The sum of what each piece contributes: half the time of choosing a piece by Where.
        made = (values.apply("Min", knots[0]) - knots[0]) * slopes[0] + heights[0]
        for low, high, slope in zip(knots, (*knots[1:], None), slopes[1:], strict=True):
            part = values.apply("Max", low)
            made = made + ((part if high is None else part.apply("Min", high)) - low) * slope
        return made

    def column(self, values: Tensor) -> Tensor:
        return replace(
            values, name=values.nodes.add("Unsqueeze", values.name, values.nodes.ints(1))
        )

    def lookup(self, table: Array, *index: Tensor) -> Tensor:
        nodes = index[0].nodes
        places = [
            nodes.add("Min", each.name, nodes.constant(end - 1, np.int64))
            for each, end in zip(index, table.shape, strict=False)
        ]
        whole = table.dtype.kind == "i"
        values = nodes.constant(table, table.dtype if whole else index[0].dtype)
        if len(index) == 1:
            return replace(index[0], name=nodes.add("Gather", values, places[0]))
        columns = [nodes.add("Unsqueeze", each, nodes.ints(1)) for each in places]
        joined = nodes.add("Concat", *columns, axis=1)
        return replace(index[0], name=nodes.add("GatherND", values, joined))

    def reached(self, values: Tensor, knots: Floats) -> Tensor:
        if not knots:
            knots = (np.inf,)  # no score reaches it
        nodes = values.nodes
        each = self.column(values).name
        over = nodes.add("GreaterOrEqual", each, nodes.constant(knots, values.dtype))
        counted = nodes.add("Cast", over, to=onnx_type(np.int64))
        return replace(values, name=nodes.add("ReduceSum", counted, nodes.ints(1), keepdims=False))

    def by_rows(self, function: Callable[[Any], Any], values: Tensor) -> Any:
        return function(values)

    def checked_scores(self, scores: Tensor, confidence: str) -> Tensor:
        return scores  # whoever runs the graph checks the scores that come out
