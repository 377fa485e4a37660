"""Models that fail on some samples of a batch: what they answered, and why the others failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from committee.errors import CommitteeError, ModelError
from committee.models.base import (
    Model,
    SomeFailedError,
    answer_of,
    checked_answer,
    usable_answer,
)
from committee.models.inputs import ModelInputs
from committee.rule.outputs import Outputs, joined
from committee.spec.model import ModelSpec

# A model that fails on so many samples in a row does not answer at all.
MOST_IN_A_ROW = 16
_NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Answered:
    """The outputs of a model on a batch.

    Args:
        outputs: One row a sample; where the model failed it means nothing.
        failed: Why it failed, by row.
        error: What ends the work, after the outputs are stored; None to go on.
    """

    outputs: Outputs
    failed: Mapping[int, str] = field(default_factory=dict)
    error: ModelError | None = None


def answered(model: Model, spec: ModelSpec, inputs: ModelInputs, first: int) -> Answered:
    """Run a model on a batch; a call that fails ends the work, but the others are kept.

    Raises:
        CommitteeError: As :func:`committee.models.base.outputs_of`, if no outputs can be used.
    """
    try:
        return Answered(checked_answer(spec, answer_of(model, spec, inputs), len(inputs), first))
    except SomeFailedError as error:
        told = ModelError(
            f"{error}. What was answered is kept: run again to go on, or with --skip-broken to "
            "leave such samples out"
        )
        if error.answer is None:
            raise told from None
        outputs = checked_answer(spec, error.answer, len(inputs), first)
        return Answered(outputs, error.reasons, told)


class Skipping:
    """Runs one model batch by batch and goes on where it fails on some samples.

    If it fails on a whole batch, or does not answer with one row a sample, the samples of the batch
    are tried one by one. It is given up after sixteen failures in a row.

    Args:
        model: The model.
        spec: Its spec.
        row: One row of its outputs, if it was run before.

    Attributes:
        alone: Why the samples of a batch were tried one by one; empty if none were.
    """

    def __init__(self, model: Model, spec: ModelSpec, row: Outputs | None = None) -> None:
        self._model, self._spec, self._row = model, spec, row
        self._in_a_row = 0
        self.alone = ""

    def __call__(self, inputs: ModelInputs, first: int) -> Answered:
        """Run the model on a batch; ``first`` is the number of its first sample.

        Raises:
            CommitteeError: If it has not answered a sample yet.
        """
        try:
            own = self._usable(inputs)
        except SomeFailedError as error:  # each call was one of its own
            reasons = self._named(error.reasons)
            own = self._joined([reasons[row] for row in range(len(inputs))], error)
        except CommitteeError as error:
            found: list[Outputs | str] = [str(error)]
            if len(inputs) > 1:
                self.alone, found = str(error), self._one_by_one(inputs)
            own = self._joined(found, error)
        return self._counted(own)

    def _usable(self, inputs: ModelInputs) -> Answered:
        try:
            answer, failed = answer_of(self._model, self._spec, inputs), {}
        except SomeFailedError as error:
            if error.answer is None:
                raise
            answer, failed = error.answer, self._named(error.reasons)
        outputs, wrong = usable_answer(self._spec, answer, len(inputs))
        shape = outputs.values.shape[1:]
        # Of many samples this is no failure of single ones, and nothing to go on from.
        if len(inputs) == 1 and self._row is not None and shape != self._row.values.shape[1:]:
            others = self._row.values.shape[1:]
            raise ModelError(
                f"model {self._spec.name!r}: answers with outputs {shape}, not {others}"
            )
        return Answered(outputs, {**wrong, **failed})

    def _named(self, reasons: Mapping[int, str]) -> dict[int, str]:
        return {row: f"model {self._spec.name!r}: {reason}" for row, reason in reasons.items()}

    def _one_by_one(self, inputs: ModelInputs) -> list[Outputs | str]:
        """Return the outputs on each sample alone, or why there are none."""
        found: list[Outputs | str] = []
        in_a_row = self._in_a_row
        for row in range(len(inputs)):
            if in_a_row >= MOST_IN_A_ROW:
                found.append(_NOT_TRIED)
                continue
            try:
                own = self._usable(inputs[row : row + 1])
                found.append(own.failed.get(0, own.outputs))
                self._row = self._row or own.outputs
            except CommitteeError as error:
                found.append(str(error))
            in_a_row = in_a_row + 1 if isinstance(found[-1], str) else 0
        return found

    def _joined(self, found: list[Outputs | str], error: CommitteeError) -> Answered:
        """Return outputs and reasons as one batch; any row stands where there is a reason."""
        row = next((each for each in found if isinstance(each, Outputs)), self._row)
        if row is None:
            raise error
        outputs = joined([each if isinstance(each, Outputs) else row for each in found])
        return Answered(outputs, {i: e for i, e in enumerate(found) if isinstance(e, str)})

    def _counted(self, own: Answered) -> Answered:
        """Return the same, with an error after too many failures in a row."""
        good = [row for row in range(len(own.outputs)) if row not in own.failed]
        if good:
            self._row = own.outputs.rows(slice(good[0], good[0] + 1))
            self._in_a_row = 0
        self._in_a_row += len(own.outputs) - 1 - (good[-1] if good else -1)
        if self._in_a_row < MOST_IN_A_ROW:
            return own
        reason = [each for each in own.failed.values() if each != _NOT_TRIED][-1]
        where = f"model {self._spec.name!r}: "
        return replace(
            own,
            error=ModelError(
                f"{where}failed on {self._in_a_row:,} samples in a row, at last: "
                f"{reason.removeprefix(where)}. What was computed is kept; run again to go on"
            ),
        )
