"""One sample at a time: models run one after the other until the cascade is sure.

After a model has run the processor's caches hold nothing of what decides, and every step shows. So
the rule that most cascades have, the largest probability of the mean of logits, is stated here once
more in the fewest steps: one call of the compiled part and two of NumPy. All else, and outputs
that cannot be used, go through :mod:`committee.rule.flow`; tests hold both to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from committee.compiled import native
from committee.rule.cascade import Cascade
from committee.rule.flow import Answers, Request, decide, drive, exits
from committee.rule.outputs import Outputs

# From a model's name to what it answers to the sample, not yet checked.
Run = Callable[[str], Any]
# Outputs of a model, by name, of what it answered.
Check = Callable[[str, Any], Outputs]


class One:
    """Decides on one sample.

    Args:
        cascade: The rule.
        logits: Whether all its models are declared to give logits.
    """

    def __init__(self, cascade: Cascade, logits: bool) -> None:
        self._cascade = cascade
        self._stages = [(stage.models, stage.threshold) for stage in cascade.stages]
        # Of logits, that is what a combination that is not named means.
        means = cascade.combine in (None, "mean_logits")
        common = means and cascade.confidence == "max_prob"
        self._quick = common and logits and not cascade.calibrations and native is not None
        self._shape = 1, len(cascade.classes)

    def __call__(self, run: Run, check: Check) -> tuple[int, float, int]:
        """Predicted class, score of the combination at the exit, and stage of exit, from 0.

        Args:
            run: Runs a model on the sample.
            check: Makes outputs of its answer.

        Raises:
            CommitteeError: As ``run`` and ``check`` do.
        """
        answers: dict[str, Any] = {}
        if self._quick:
            found = self._quickly(run, answers)
            if found is not None:
                return found

        def answer(request: Request) -> Answers:
            return {
                name: check(name, answers[name] if name in answers else run(name))
                for name in request.models
            }

        decisions = drive(decide(self._cascade, 1), answer)
        return decisions.predicted.item(), decisions.score.item(), decisions.stage.item()

    def _quickly(self, run: Run, answers: dict[str, Any]) -> tuple[int, float, int] | None:
        """The decision; None if an answer is not as it mostly is. Fills in the answers."""
        for index, (models, threshold) in enumerate(self._stages):
            for name in models:
                answers[name] = answer = run(name)
                if type(answer) is not np.ndarray or answer.ndim != 2 or answer.shape[1] < 2:
                    return None
            # In the order of the names, as everywhere: the sum has the same bits.
            rows = [answer] if len(answers) == 1 else [answers[name] for name in sorted(answers)]
            below = np.empty(self._shape if self._shape[1] else answer.shape)
            try:
                predicted = native.lead(rows, below)
            except TypeError:
                return None  # no numbers; the check of outputs says what they are
            if predicted is None:
                return None
            # The largest exponential is exp(0) = 1: this is its probability, to the last bit.
            certainty = 1 / np.add.reduce(np.exp(below), 1).item()
            if exits(certainty, threshold):
                return predicted, certainty, index
        return None
