"""A self-cascade in one ONNX file: a loop over its models, with one copy of each set of weights.

Branches of ``If`` nodes cannot share weights without a loss: onnxruntime optimises only weights
that stand in the branch itself. In the body of a loop a network stands once, whatever size it runs
at. A turn runs one model on the pictures that are left, judges where a stage ends, and puts those
that leave in their places.

The exit rule here is a translation of :func:`committee.flow.exits`; the tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.cascade import ALWAYS, NEVER
from committee.export.judging import Judging
from committee.export.nodes import Nodes

if TYPE_CHECKING:
    from onnx import GraphProto

# Writes the nodes of one case; returns its tensors.
Case = Callable[[Nodes], list[str]]


@dataclass(frozen=True)
class Turn:
    """One model's turn.

    Args:
        name: Of the model.
        graph: Its network; several turns may have the same.
        prepare: Writes the nodes that make its input of some rows, int64 (m,), of the pictures.
        stage: Number of the stage, from 0.
        threshold: At which pictures leave after this turn; :data:`~committee.cascade.NEVER` inside
            of a stage.
    """

    name: str
    graph: GraphProto
    prepare: Callable[[Nodes, str], str]
    stage: int
    threshold: float


@dataclass(frozen=True)
class Loop:
    """What the turns of one cascade share.

    Args:
        turns: In their order, until all pictures have left.
        judging: How outputs are combined and scored.
        newest_only: Whether a combination looks at the newest output only.
        classes: How many there are.
        dtype: Floating-point type of outputs and scores.
    """

    turns: Sequence[Turn]
    judging: Judging
    newest_only: bool
    classes: int
    dtype: Any

    def write(self, nodes: Nodes, pictures: str) -> list[str]:
        """Write the loop.

        Args:
            nodes: Where to.
            pictures: A tensor (n, …) of as many as there are pictures.

        Returns:
            Tensors of combination (n, C), class, confidence and stage of exit, (n,) each.
        """
        count = nodes.add("Shape", pictures, start=0, end=1)
        zero, one = nodes.constant(0, np.int64), nodes.constant(1, np.int64)
        rows = nodes.add("Range", zero, nodes.add("Squeeze", count), one)
        wide = nodes.add("Concat", count, nodes.ints(self.classes), axis=0)
        results = [_zeros(nodes, wide, self.dtype), *(_zeros(nodes, count, t) for t in self._flat)]
        kept = [_zeros(nodes, wide, self.dtype) for _ in self._kept]
        going = nodes.add("Greater", nodes.add("Size", rows), zero)
        turns = nodes.constant(len(self.turns), np.int64)
        body, carried = self._body()
        made = nodes.several(
            "Loop", turns, going, rows, *kept, *results, outputs=len(carried), body=body
        )
        return made[-4:]

    @property
    def _flat(self) -> tuple[Any, Any, Any]:
        """Types of class, confidence and stage."""
        return np.int64, self.dtype, np.int64

    @property
    def _kept(self) -> list[str]:
        """Models whose outputs later turns look at."""
        return [] if self.newest_only else [turn.name for turn in self.turns[:-1]]

    def _body(self) -> tuple[GraphProto, list[str]]:
        """One turn, and the names of what goes from turn to turn."""
        nodes = Nodes("turn/")
        turn, rows = "turn/number", "turn/rows"
        kept = [f"turn/output {number}" for number in range(len(self._kept))]
        results = [f"turn/{what}" for what in ("values", "class", "confidence", "stage")]
        (own,) = self._switch(
            nodes, turn, [_prepares(each, rows) for each in self.turns], [np.float32]
        )
        (made,) = self._network(nodes, turn, own)
        outputs = nodes.add("Cast", made, to=_type(self.dtype))
        types = [self.dtype, np.int64, self.dtype, np.bool_, *(self.dtype for _ in kept)]
        cases = [self._judges(number, outputs, kept) for number in range(len(self.turns))]
        values, predicted, score, leaving, *known = self._switch(nodes, turn, cases, types)
        gone, left = _places(nodes, leaving), _places(nodes, nodes.add("Not", leaving))
        stages = nodes.constant([each.stage for each in self.turns], np.int64)
        stage = nodes.add("Expand", nodes.add("Gather", stages, turn), nodes.add("Shape", score))
        at = nodes.add("Unsqueeze", nodes.add("Gather", rows, gone), nodes.ints(1))
        after = [
            nodes.add("ScatterND", before, at, nodes.add("Gather", new, gone))
            for before, new in zip(results, (values, predicted, score, stage), strict=True)
        ]
        remaining = nodes.add("Gather", rows, left)
        more = nodes.add("Greater", nodes.add("Size", remaining), nodes.constant(0, np.int64))
        going_on = [remaining, *(nodes.add("Gather", each, left) for each in known), *after]
        carried = [rows, *kept, *results]
        kinds = [np.int64, *(self.dtype for _ in kept), self.dtype, *self._flat]
        graph = nodes.graph(
            "turn",
            [
                _info(turn, np.int64, []),
                _info("turn/going", np.bool_, []),
                *map(_info, carried, kinds),
            ],
            [_info(more, np.bool_, []), *map(_info, going_on, kinds)],
        )
        return graph, carried

    def _network(self, nodes: Nodes, turn: str, source: str) -> list[str]:
        """The network of a turn; each stands here once."""
        graphs: list[GraphProto] = []
        numbers = []
        for each in self.turns:
            known = [number for number, graph in enumerate(graphs) if graph is each.graph]
            numbers.append(known[0] if known else len(graphs))
            if not known:
                graphs.append(each.graph)
        if len(graphs) == 1:
            return [nodes.embed(graphs[0], "network/", source)]
        which = nodes.add("Gather", nodes.constant(numbers, np.int64), turn)
        cases = [_embeds(graph, f"network {n}/", source) for n, graph in enumerate(graphs)]
        return self._switch(nodes, which, cases, [np.float32])

    def _judges(self, number: int, outputs: str, kept: Sequence[str]) -> Case:
        """Judge after a turn: values, class, confidence, who leaves, and all outputs until now."""
        turn = self.turns[number]
        before = {each.name: name for each, name in zip(self.turns[:number], kept, strict=False)}

        def case(nodes: Nodes) -> list[str]:
            own = self.judging.calibrated(nodes, turn.name, outputs)
            values, predicted, score = self.judging.judged(nodes, {**before, turn.name: own})
            if turn.threshold in (ALWAYS, NEVER):
                rows = nodes.add("Shape", score)
                leaving = _filled(nodes, rows, turn.threshold == ALWAYS, np.bool_)
            else:
                # One whose score is NaN leaves too, so that the NaN is seen in what comes out.
                bound = nodes.constant(turn.threshold, self.dtype)
                leaving = nodes.add("Not", nodes.add("Less", score, bound))
            known = [own if place == number else name for place, name in enumerate(kept)]
            return [values, predicted, score, leaving, *known]

        return case

    def _switch(
        self, nodes: Nodes, which: str, cases: Sequence[Case], types: Sequence[Any]
    ) -> list[str]:
        """The tensors of the case of a number; the others do not run."""
        if len(cases) == 1:
            return cases[0](nodes)
        branches = []
        first = nodes.add("Equal", which, nodes.constant(0, np.int64))
        next_ = nodes.add("Sub", which, nodes.constant(1, np.int64))
        scope = f"{first} of {len(cases)}"
        for name, some in (("case", cases[:1]), ("else", cases[1:])):
            inner = Nodes(f"{scope} {name}/")
            made = self._switch(inner, next_, some, types)
            # A branch must answer with tensors of its own.
            own = [inner.add("Identity", each) for each in made]
            branches.append(inner.graph(f"{scope} {name}", [], list(map(_info, own, types))))
        return nodes.several(
            "If", first, outputs=len(types), then_branch=branches[0], else_branch=branches[1]
        )


def _prepares(turn: Turn, rows: str) -> Case:
    return lambda nodes: [turn.prepare(nodes, rows)]


def _embeds(graph: GraphProto, prefix: str, source: str) -> Case:
    return lambda nodes: [nodes.embed(graph, prefix, source)]


def _places(nodes: Nodes, chosen: str) -> str:
    """Numbers (k,) of the rows that are true in a tensor (m,)."""
    return nodes.add("Squeeze", nodes.add("NonZero", chosen), nodes.ints(0))


def _zeros(nodes: Nodes, shape: str, dtype: Any) -> str:
    return _filled(nodes, shape, 0, dtype)


def _filled(nodes: Nodes, shape: str, value: float, dtype: Any) -> str:
    from onnx import numpy_helper

    number = numpy_helper.from_array(np.array([value], dtype))
    return nodes.add("ConstantOfShape", shape, value=number)


def _info(name: str, dtype: Any, shape: list[int] | None = None) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, _type(dtype), shape)


def _type(dtype: Any) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
