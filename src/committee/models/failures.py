"""Models that fail on some samples of a batch: what they answered, and why the others failed.

A sample that fails does so alone: a batch that raises is run again in halves, until the samples
that fail are known. ``predict``, runs and the server all do so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from committee.arrays import Array
from committee.errors import CommitteeError, ModelError
from committee.models.base import (
    Model,
    SomeFailedError,
    WrongClassesError,
    answer_of,
    checked_answer,
    usable_outputs_of,
)
from committee.models.inputs import ModelInputs
from committee.pool.plausibility import check_classes
from committee.rule.outputs import Outputs, joined
from committee.spec.model import ModelSpec
from committee.text import first_line

T = TypeVar("T")
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
        divided: Why the batch was run in parts; empty if it was not.
    """

    outputs: Outputs
    failed: Mapping[int, str] = field(default_factory=dict)
    error: ModelError | None = None
    divided: str = ""


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


class Streak:
    """Counts the samples in a row on which a model fails, so that one that is down is given up.

    Attributes:
        answered: Whether it answered to any sample.
    """

    def __init__(self) -> None:
        self._failures, self._last = 0, ""
        self.answered = False

    def adds(self, reason: str) -> bool:
        """Count a sample on which it failed, or if there is no reason one that it answered.

        Returns:
            Whether the model is to be given up.
        """
        self._failures = self._failures + 1 if reason else 0
        self._last, self.answered = reason, self.answered or not reason
        return self.over

    @property
    def over(self) -> bool:
        """Whether the model is to be given up."""
        return self._failures >= MOST_IN_A_ROW

    def error(self, where: str, kept: str) -> ModelError:
        """Return the error that gives a model up; ``kept`` says what is kept, and how to go on."""
        return ModelError(
            f"{where}: failed on {self._failures:,} samples in a row, at last: "
            f"{self._last.removeprefix(where).lstrip(': ').rstrip('.')}. {kept}"
        )


class Rows(Protocol):
    """What is known of samples, one row each: outputs, or decisions."""

    def rows(self, index: Array | slice) -> Self:
        """Return what is known of some samples."""


R = TypeVar("R", bound=Rows)


class Parts(NamedTuple, Generic[R]):
    """What a model answered to a batch, perhaps in parts.

    Args:
        answer: One row a sample, that of another where the model failed; None if it always did.
        failed: Why it failed, by row.
        error: Why the batch was run in parts; None if it was not.
    """

    answer: R | None
    failed: Mapping[int, str]
    error: Exception | None

    @property
    def divided(self) -> str:
        """Why the batch was run in parts, where its samples are no calls of their own."""
        whole = self.error is None or isinstance(self.error, SomeFailedError)
        return "" if whole else str(self.error)


def run_in_parts(
    count: int,
    run: Callable[[Array], tuple[R, Mapping[int, str]]],
    join: Callable[[Sequence[R]], R],
    streak: Streak | None = None,
) -> Parts[R]:
    """Run a model on a batch, or where that fails on its halves, down to the samples that fail.

    Args:
        count: Number of samples.
        run: Runs it on some of them, and returns its answer and by row why it failed.
        join: Joins answers.
        streak: The failures so far, to which these are added. Samples that follow after too many
            are not tried.

    Raises:
        WrongClassesError: If it has other classes than the cascade, and failures are counted.
        Exception: What it raised, after too many failures, if it has not answered a sample yet.
    """
    good: list[tuple[Array, R]] = []
    failed: dict[int, str] = {}
    errors: list[Exception] = []
    fatal = () if streak is None else (WrongClassesError,)
    done = 0
    for rows, made in _halved(np.arange(count), run, errors, fatal):
        done = int(rows[-1]) + 1
        reason = made if isinstance(made, str) else ""
        if isinstance(made, str):
            failed[int(rows[0])] = made
        else:
            good.append((rows, made[0]))
            failed.update((int(rows[row]), why) for row, why in made[1].items())
        if streak is not None and streak.adds(reason):
            if not streak.answered:
                raise errors[0]
            break
    failed.update(dict.fromkeys(range(done, count), _NOT_TRIED))
    answer = _spread(good, count, join) if good else None
    return Parts(answer, failed, errors[0] if errors else None)


def reason_of(error: BaseException) -> str:
    """Return why a sample failed, in one line."""
    return str(error) if isinstance(error, CommitteeError) else first_line(error)


def _halved(
    rows: Array,
    run: Callable[[Array], T],
    errors: list[Exception],
    fatal: tuple[type[Exception], ...],
) -> Iterator[tuple[Array, T | str]]:
    """Yield rows and their answer, or one row and why it fails; all rows, in their order.

    Errors are added to ``errors`` as they come; those of ``fatal`` end it.
    """
    try:
        answer = run(rows)
    except SomeFailedError as error:  # each call was one of its own
        errors.append(error)
        for place in range(len(rows)):
            yield rows[place : place + 1], error.reasons[place]
    except fatal:
        raise
    except Exception as error:
        errors.append(error)
        if len(rows) == 1:
            yield rows, reason_of(error)
            return
        for half in np.array_split(rows, 2):
            yield from _halved(half, run, errors, fatal)
    else:
        yield rows, answer


def _spread(parts: Sequence[tuple[Array, R]], count: int, join: Callable[[Sequence[R]], R]) -> R:
    """Return answers to some rows as one; other rows get that of the first, for nobody to see."""
    if len(parts[0][0]) == count:
        return parts[0][1]
    places = np.zeros(count, np.int64)
    ran = np.concatenate([rows for rows, _ in parts])
    places[ran] = np.arange(len(ran))
    return join([answer for _, answer in parts]).rows(places)


class Skipping:
    """Runs one model of predict batch by batch and goes on where it fails on some samples.

    If it fails on a whole batch, does not answer with one row a sample, or answers with other
    classes than before, the batch is run in halves. It is given up after sixteen failures in a row.

    Args:
        model: The model.
        spec: Its spec.
        classes: Number of classes, 0 if it is not known.
        row: One row of its outputs, if it was run before.
    """

    def __init__(
        self, model: Model, spec: ModelSpec, classes: int = 0, row: Outputs | None = None
    ) -> None:
        self._model, self._spec, self._classes, self._row = model, spec, classes, row
        self._streak = Streak()

    def __call__(self, inputs: ModelInputs, first: int) -> Answered:
        """Run the model on a batch; ``first`` is the number of its first sample.

        Raises:
            CommitteeError: If it has not answered a sample yet.
        """
        count = len(inputs)
        made = run_in_parts(count, lambda rows: self._usable(inputs[rows]), joined, self._streak)
        outputs = made.answer
        if outputs is None:
            if self._row is None and made.error is not None:
                raise made.error
            assert self._row is not None
            outputs = self._row.rows(np.zeros(count, np.int64))
        error = None
        if self._streak.over:
            kept = "What was computed is kept; run again to go on"
            error = self._streak.error(f"model {self._spec.name!r}", kept)
        return Answered(outputs, made.failed, error, made.divided)

    def _usable(self, inputs: ModelInputs) -> tuple[Outputs, Mapping[int, str]]:
        outputs, failed = usable_outputs_of(self._model, self._spec, inputs)
        if self._row is not None:
            check_width(self._spec, outputs, self._row.values.shape[1:])
        check_classes(f"model {self._spec.name!r}", outputs, self._classes)
        self._row = outputs.rows(slice(0, 1))
        return outputs, failed


def check_width(spec: ModelSpec, outputs: Outputs, known: tuple[int, ...]) -> None:
    """Raise a ModelError if a sample has outputs of another shape than it had before."""
    shape = outputs.values.shape[1:]
    if shape != known:
        raise ModelError(f"model {spec.name!r}: answers with outputs {shape}, not {known}")


def divided_text(model: str, why: str) -> str:
    """Return a note on a model whose batches were run in parts, with why the first was."""
    return f"{model}: a batch was run in parts, because: {why}"
