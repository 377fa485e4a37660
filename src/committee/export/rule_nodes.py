"""Calibration, combination and confidence as ONNX nodes: the functions of the modules so named.

A translation, node for node, that the tests of the graph hold to the original.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from committee.export.nodes import Nodes
from committee.rule.calibration import Calibration
from committee.rule.outputs import Kind
from committee.rule.scores import SUREST


class Judging:
    """How one graph combines and scores.

    Args:
        combine: Name of the combination.
        confidence: Name of the confidence function, of those built in.
        kinds: Kind of outputs of each model, by name.
        calibrations: What is applied to a model's outputs before they are combined, by name.
        classes: How many there are.
        dtype: Floating-point type of all of it, a NumPy scalar type.
    """

    def __init__(
        self,
        combine: str,
        confidence: str,
        kinds: Mapping[str, Kind],
        calibrations: Mapping[str, Calibration],
        classes: int,
        dtype: Any,
    ) -> None:
        self._combine, self._confidence, self._kinds = combine, _SCORES[confidence], kinds
        self._calibrations, self._classes, self._dtype = calibrations, classes, dtype

    def calibrated(self, nodes: Nodes, name: str, outputs: str) -> str:
        """The outputs (n, C) of a model as its calibration has them; without one, as they are."""
        if name not in self._calibrations:
            return outputs
        made = self._applied(nodes, self._calibrations[name], outputs, self._kinds[name])
        return self._leading(nodes, outputs, made)

    def _applied(self, nodes: Nodes, calibration: Calibration, outputs: str, kind: Kind) -> str:
        if calibration.method == "temperature":
            slope = self.number(nodes, calibration.slopes[0])
            if kind == "logits":
                return nodes.add("Mul", outputs, slope)
            powers = nodes.add("Pow", outputs, slope)
            sums = (_sums(nodes, outputs), _sums(nodes, powers))
            return nodes.add("Mul", powers, nodes.add("Div", *sums))
        mapped = self._rising(nodes, calibration, self._logarithms(nodes, outputs, kind))
        return mapped if kind == "logits" else self.softmax(nodes, mapped, "logits")

    def _leading(self, nodes: Nodes, raw: str, made: str) -> str:
        """The class that led a hair ahead where rounding let another overtake.

        References:
            Rump et al. (2009), Computing Predecessor and Successor in Rounding to Nearest.
        """
        before, after = (nodes.add("ArgMax", each, axis=1, keepdims=1) for each in (raw, made))
        top = nodes.add("GatherElements", made, after, axis=1)
        # The next larger number: just over half of what the last bit of the number is worth, added.
        finfo = np.finfo(self._dtype)
        half = float(finfo.eps) / 2 * (1 + float(finfo.eps))
        hair = nodes.add("Mul", nodes.add("Abs", top), self.number(nodes, half))
        hair = nodes.add("Max", hair, self.number(nodes, finfo.smallest_subnormal))
        own = nodes.add("GatherElements", made, before, axis=1)
        kept = nodes.add(
            "Where", nodes.add("Equal", before, after), own, nodes.add("Add", top, hair)
        )
        return nodes.add("ScatterElements", made, before, kept, axis=1)

    def _logarithms(self, nodes: Nodes, outputs: str, kind: Kind) -> str:
        if kind == "probabilities":
            return nodes.add("Log", outputs)
        below = nodes.add("Sub", outputs, _largest(nodes, outputs))
        return nodes.add("Sub", below, nodes.add("Log", _sums(nodes, nodes.add("Exp", below))))

    def _rising(self, nodes: Nodes, calibration: Calibration, values: str) -> str:
        """What each straight piece contributes, summed from the left."""
        knots = [self.number(nodes, knot) for knot in calibration.knots]
        slopes = [self.number(nodes, slope) for slope in calibration.slopes]
        first = values
        if knots:
            first = nodes.add("Sub", nodes.add("Min", values, knots[0]), knots[0])
        first = nodes.add("Mul", first, slopes[0])
        mapped = nodes.add("Add", first, self.number(nodes, calibration.offset))
        for index, low in enumerate(knots):
            part = nodes.add("Max", values, low)
            if low != knots[-1]:
                part = nodes.add("Min", part, knots[index + 1])
            part = nodes.add("Mul", nodes.add("Sub", part, low), slopes[index + 1])
            mapped = nodes.add("Add", mapped, part)
        return mapped

    def judged(self, nodes: Nodes, ran: Mapping[str, str]) -> tuple[str, str, str]:
        """Combine the outputs (n, C) of the models that ran, oldest first.

        Returns:
            Names of the combination (n, C), its class (n,) and its score (n,).
        """
        values, kind = self._combined(nodes, ran)
        # The lowest index among the largest values.
        predicted = nodes.add("ArgMax", values, axis=1, keepdims=0, select_last_index=0)
        return values, predicted, self._confidence(self, nodes, values, kind)

    def _combined(self, nodes: Nodes, ran: Mapping[str, str]) -> tuple[str, Kind]:
        if self._combine == "last":
            newest = list(ran)[-1]
            return ran[newest], self._kinds[newest]
        names = sorted(ran)
        values = [ran[name] for name in names]
        kind: Kind = "logits"
        if self._combine == "mean_probabilities":
            values = [self.softmax(nodes, ran[name], self._kinds[name]) for name in names]
            kind = "probabilities"
        total = values[0]
        for other in values[1:]:
            total = nodes.add("Add", total, other)
        if len(values) > 1:
            total = nodes.add("Div", total, self.number(nodes, len(values)))
        return total, kind

    def number(self, nodes: Nodes, value: float) -> str:
        """A constant of the graph's type."""
        return nodes.constant(value, self._dtype)

    def softmax(self, nodes: Nodes, values: str, kind: Kind) -> str:
        """Probabilities (n, C)."""
        if kind == "probabilities":
            return values
        exponentials = nodes.add("Exp", nodes.add("Sub", values, _largest(nodes, values)))
        return nodes.add("Div", exponentials, _sums(nodes, exponentials))

    def two_largest(self, nodes: Nodes, values: str) -> tuple[str, str]:
        """The largest and the second largest, (n,) each; minus infinity if there is no second."""
        if self._classes == 1:
            first = nodes.add("Squeeze", values, nodes.ints(1))
            return first, self.number(nodes, -np.inf)
        top, _ = nodes.several("TopK", values, nodes.ints(2), outputs=2, axis=1)
        return (
            nodes.add("Gather", top, nodes.constant(0, np.int64), axis=1),
            nodes.add("Gather", top, nodes.constant(1, np.int64), axis=1),
        )


def _sums(nodes: Nodes, values: str) -> str:
    return nodes.add("ReduceSum", values, nodes.ints(1), keepdims=1)


def _largest(nodes: Nodes, values: str) -> str:
    return nodes.add("ReduceMax", values, nodes.ints(1), keepdims=1)


def _max_prob(judging: Judging, nodes: Nodes, values: str, kind: Kind) -> str:
    return nodes.add("ReduceMax", judging.softmax(nodes, values, kind), nodes.ints(1), keepdims=0)


def _logit_gap(judging: Judging, nodes: Nodes, values: str, kind: Kind) -> str:
    first, second = judging.two_largest(nodes, values)
    if kind == "probabilities":
        first = nodes.add("Log", first)
        second = nodes.add("Log", nodes.add("Max", second, judging.number(nodes, 0)))
    gap = nodes.add("Sub", first, second)
    return nodes.add("Min", gap, judging.number(nodes, SUREST))


def _prob_gap(judging: Judging, nodes: Nodes, values: str, kind: Kind) -> str:
    first, second = judging.two_largest(nodes, judging.softmax(nodes, values, kind))
    return nodes.add("Sub", first, nodes.add("Max", second, judging.number(nodes, 0)))


def _neg_entropy(judging: Judging, nodes: Nodes, values: str, kind: Kind) -> str:
    probabilities = judging.softmax(nodes, values, kind)
    possible = nodes.add("Greater", probabilities, judging.number(nodes, 0))
    safe = nodes.add("Where", possible, probabilities, judging.number(nodes, 1))
    terms = nodes.add("Mul", probabilities, nodes.add("Log", safe))
    return nodes.add("ReduceSum", terms, nodes.ints(1), keepdims=0)


_SCORES: dict[str, Callable[[Judging, Nodes, str, Kind], str]] = {
    "max_prob": _max_prob,
    "logit_gap": _logit_gap,
    "prob_gap": _prob_gap,
    "neg_entropy": _neg_entropy,
}
