"""One sample at a time: models run one after the other until the cascade is sure.

The commonest rule, the largest probability of the mean of logits, has a short way: one call of the
compiled part and two of NumPy in place of the flow, 4 µs a stage in place of 28, which shows
beside a small network. Everything else goes through :mod:`committee.rule.flow`, as do outputs that
cannot be used; tests hold both ways to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from committee.compiled import native
from committee.rule.cascade import Cascade
from committee.rule.flow import Answers, Request, decide, drive, exits
from committee.rule.outputs import Outputs

# From a model's name to its answer to the sample, not yet checked.
Run = Callable[[str], Any]
# From a model's name and answer to outputs.
Check = Callable[[str, Any], Outputs]


class One:
    """Decides on one sample."""

    def __init__(self, cascade: Cascade, logits: bool) -> None:
        self._cascade = cascade
        rule = cascade.combine or "mean_logits", cascade.confidence
        common = rule == ("mean_logits", "max_prob") and logits and not cascade.calibrations
        self._short = common and native is not None
        self._classes = len(cascade.classes)

    def __call__(self, run: Run, check: Check) -> tuple[int, float, int]:
        """Return the predicted class, its score at the exit, and the stage of exit, from 0."""
        answers: dict[str, Any] = {}
        decided = self._decide_shortly(run, answers) if self._short else None
        if decided is not None:
            return decided

        def answer(request: Request) -> Answers:
            return {
                name: check(name, answers[name] if name in answers else run(name))
                for name in request.models
            }

        decisions = drive(decide(self._cascade, 1), answer)
        return decisions.predicted.item(), decisions.score.item(), decisions.stage.item()

    def _decide_shortly(self, run: Run, answers: dict[str, Any]) -> tuple[int, float, int] | None:
        """Decide, keeping the answers; None if one is not the usual row of finite numbers."""
        for index, stage in enumerate(self._cascade.stages):
            for name in stage.models:
                answers[name] = answer = run(name)
                if type(answer) is not np.ndarray or answer.ndim != 2 or answer.shape[1] < 2:
                    return None
            # In the order of the names, as everywhere: the sum has the same bits.
            rows = [answer] if len(answers) == 1 else [answers[name] for name in sorted(answers)]
            below = np.empty((1, self._classes or answer.shape[1]))
            try:
                predicted = native.lead(rows, below)
            except TypeError:
                return None  # no numbers; the check of outputs says what they are
            if predicted is None:
                return None
            # The largest exponential is exp(0) = 1: this is its probability, to the last bit.
            score = 1 / np.add.reduce(np.exp(below), 1).item()
            if exits(score, stage.threshold):
                return predicted, score, index
        return None
