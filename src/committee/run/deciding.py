"""Deciding stage by stage: on samples that wait at one, from whichever requests they came."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from committee.arrays import Array
from committee.rule.agreement import combine_and_score
from committee.rule.calibration import Calibration, made_kinds
from committee.rule.combinations import usual_combine
from committee.rule.flow import Answers, Decisions, Rule, Scoring, decide


class _Step(NamedTuple):
    models: tuple[str, ...]
    threshold: float


@dataclass(frozen=True)
class _Late:
    """A rule by which nobody exits before a stage; see :class:`committee.rule.flow.Rule`."""

    stages: tuple[_Step, ...]
    confidence: str
    combine: str | None
    calibrations: Mapping[str, Calibration]

    @classmethod
    def of(cls, rule: Rule, stage: int) -> _Late:
        """Return the rule for samples that wait at a stage: they have not exited earlier."""
        steps = [
            _Step(each.models, math.inf if number < stage else each.threshold)
            for number, each in enumerate(rule.stages)
        ]
        return cls(tuple(steps), rule.confidence, rule.combine, rule.calibrations)


class Decider:
    """Decides on samples that wait at a stage, with what earlier models answered to them.

    Args:
        rule: The cascade.
        keep_values: Return the combinations at the exits too.
    """

    def __init__(self, rule: Rule, keep_values: bool = False) -> None:
        self._rules = [_Late.of(rule, stage) for stage in range(len(rule.stages))]
        self._keep_values = keep_values
        # Where no combination is named, those that ran before the first scores imply it.
        ran = accumulate(each.models for each in rule.stages)
        scored = zip(ran, rule.stages, strict=True)
        self._first = next(models for models, each in scored if each.threshold != math.inf)

    def __call__(
        self, stage: int, outputs: Answers, count: int, scoring: Scoring = combine_and_score
    ) -> tuple[Decisions | None, Array]:
        """Return the decisions on samples, and the rows of those that go on, whose mean nothing.

        Args:
            stage: Where they wait, from 0.
            outputs: By model, a row a sample: of the models of this stage and of all before.
            count: How many samples there are.
            scoring: See :func:`committee.rule.flow.decide`.
        """
        if not count:
            return None, np.empty(0, np.int64)
        rule = self._rules[stage]
        if rule.combine is None and outputs.keys() >= {*self._first}:
            kinds = made_kinds({n: outputs[n].kind for n in self._first}, rule.calibrations)
            rule = replace(rule, combine=usual_combine({*kinds.values()}))
        flow = decide(rule, count, keep_values=self._keep_values, scoring=scoring)
        request = next(flow)
        try:
            while request.stage <= stage:
                request = flow.send({name: outputs[name] for name in request.models})
        except StopIteration as end:
            decisions: Decisions = end.value
            return decisions, np.empty(0, np.int64)
        flow.close()
        return request.made, request.rows
