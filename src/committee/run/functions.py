"""Running a cascade of functions: calls of services and language models, or any code.

The functions answer and :mod:`committee.rule.flow` decides, as on stored predictions. A later
model is called only for samples that reach its stage.
"""

from __future__ import annotations

import asyncio
import math
import operator
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from inspect import isawaitable, iscoroutine, iscoroutinefunction
from typing import Any, TypeAlias

import numpy as np

from committee.errors import CascadeError, ModelError, UnknownNameError
from committee.rule.cascade import Cascade
from committee.rule.combinations import models_that_decide
from committee.rule.flow import Answers, Decisions, Request, decide, drive, drive_async
from committee.rule.outputs import WITH_CONFIDENCE, Kind, Outputs, as_array, checked_outputs
from committee.run.decision import Decision, class_name, unit_of
from committee.run.open import CascadeLike, open_cascade
from committee.text import listed

# From a sample to a model's reply, or to something to await for it.
Function: TypeAlias = Callable[[Any], Any | Awaitable[Any]]


@dataclass(frozen=True, eq=False)
class _Reply:
    """A model's reply to one sample.

    ``cost`` is None if it did not say one; ``nameless`` if it decided nothing and named no class.
    """

    outputs: Outputs
    cost: float | None = None
    nameless: bool = False


@dataclass(frozen=True)
class _Answer:
    """The answer of a cascade of free-form models to one sample.

    Args:
        answer: What the model answered.
        model: Name of the model.
        confidence: Its confidence; -inf if the last model gave no answer.
        stage: Stage of exit, from 0.
        cost: Cost of the models that ran, in the runner's unit; None if costs are unknown.
    """

    answer: Any
    model: str
    confidence: float
    stage: int
    cost: float | None


class FunctionRunner:
    """Runs a cascade whose models are functions, with the decisions of stored predictions.

    ``committee.Runner(cascade, models=...)`` returns one.

    Args:
        cascade: A cascade file, a bundle or a cascade that knows what its models give.
        models: The function of each model, plain or async. It takes a sample, any object. For
            outcomes and decisions it returns (answer, confidence) or (answer, confidence, cost);
            the answer of a decision is a class. For logits and probabilities it returns one number
            a class. A confidence of None says that there is no answer: the next model is asked.
            The class beside it is taken if no model answers.
    """

    def __init__(self, cascade: CascadeLike, models: Mapping[str, Function]) -> None:
        self.cascade = open_cascade(cascade).cascade
        if not isinstance(models, Mapping):
            raise ModelError(f"Runner: models map names to functions, not {type(models).__name__}")
        for name in self.cascade.names:
            if name not in models:
                raise UnknownNameError.of("Runner: models", "function of", name, models)
            if not callable(models[name]):
                kind = type(models[name]).__name__
                raise ModelError(f"Runner: models: {name!r} must be a function, not {kind}")
        self._models = dict(models)
        self._kinds = _kinds_of(self.cascade)
        self._combine = self.cascade.of_kinds(set(self._kinds.values())).combination
        self.unit = self.cascade.origin.unit or unit_of(self.cascade, self.cascade.models)
        self._means = {
            name: cost.value
            for name, model in self.cascade.models.items()
            for cost in model.costs
            if cost.unit == self.unit
        }

    def __repr__(self) -> str:
        """Return the cascade."""
        return f"<FunctionRunner: {self.cascade}>"

    def __call__(self, sample: Any) -> _Answer | Decision:
        """Return the answer to one sample."""
        if any(_is_async(self._models[name]) for name in self.cascade.names):
            return _run(self.async_call(sample))
        replies: dict[str, _Reply] = {}

        def ask(request: Request) -> Answers:
            return self._answers([(n, self._called(n, sample)) for n in request.models], replies)

        return self._explained(drive(decide(self.cascade, 1), ask), replies)

    async def async_call(self, sample: Any) -> _Answer | Decision:
        """Return the answer to one sample; plain functions run in threads.

        The models of one stage are called at once. If one of them fails or the call is cancelled,
        the others are cancelled, and no later model is called.
        """
        replies: dict[str, _Reply] = {}

        async def ask(request: Request) -> Answers:
            given = await _all(self._asked(name, sample) for name in request.models)
            return self._answers(zip(request.models, given, strict=True), replies)

        return self._explained(await drive_async(decide(self.cascade, 1), ask), replies)

    async def _asked(self, name: str, sample: Any) -> Any:
        function = self._models[name]
        if _is_async(function):
            return await function(sample)
        given = await asyncio.to_thread(self._called, name, sample)
        return await given if isawaitable(given) else given

    def _called(self, name: str, sample: Any) -> Any:
        try:
            return self._models[name](sample)
        except StopIteration as error:
            # Nothing can hand it on: a thread never answers, map ends as if there were no more.
            raise ModelError(
                f"model {name!r}: raised StopIteration, as next() does of nothing; give next() a "
                "default"
            ) from error

    def _answers(self, given: Iterable[tuple[str, Any]], replies: dict[str, _Reply]) -> Answers:
        """Check what models replied, and add it to the replies so far."""
        new = {name: self._reply(name, each) for name, each in given}
        replies.update(new)
        rows = {n: r.outputs for n, r in replies.items() if r.outputs.kind not in WITH_CONFIDENCE}
        if len({outputs.values.shape[1] for outputs in rows.values()}) > 1:
            text = ", ".join(f"{n!r} gives {each.values.shape[1]}" for n, each in rows.items())
            raise ModelError(f"Runner: models must give the same number of classes: {text}")
        return {name: reply.outputs for name, reply in new.items()}

    def _reply(self, name: str, given: Any) -> _Reply:
        kind = self._kinds[name]
        if isawaitable(given):
            if iscoroutine(given):
                given.close()
            raise CascadeError(
                f"model {name!r}: its function returns something to await. Define it by async def, "
                "or write: await run.async_call(x)"
            )
        if kind not in WITH_CONFIDENCE:
            return _Reply(self._row(name, kind, given))
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            raise ModelError(
                f"model {name!r}: must return (answer, confidence) or (answer, confidence, cost), "
                f"not {type(given).__name__}"
            )
        answer, confidence, *cost = given
        scores = [-math.inf if confidence is None else confidence]
        nameless = kind == "decisions" and answer is None and confidence is None
        if kind == "decisions":
            index = 0 if nameless else self._class(name, answer)
            own = checked_outputs(f"model {name!r}", kind, [index], scores)
        else:
            checked = checked_outputs(f"model {name!r}", kind, [0.0], scores)
            # The value of a free-form answer is unknown here; the answer itself takes its place.
            answers = np.empty(1, object)
            answers[0] = answer
            own = Outputs("outcomes", answers, checked.confidence)
        return _Reply(own, _checked_cost(name, cost[0]) if cost else None, nameless)

    def _row(self, name: str, kind: Kind, given: Any) -> Outputs:
        """Return one number a class as the outputs of one sample."""
        values = as_array(f"model {name!r}", given)
        values = values[None] if values.ndim == 1 else values
        if len(values.shape) != 2 or len(values) != 1:
            raise ModelError(
                f"model {name!r}: must return {kind} of one sample, one number a class, not "
                f"an array {values.shape}"
            )
        outputs = checked_outputs(f"model {name!r}", kind, values)
        self._check_classes(name, outputs.values.shape[1])
        return outputs

    def _class(self, name: str, answer: Any) -> int:
        """Return the index of a class that a model names, or of which it gives the index."""
        classes = self.cascade.classes
        if isinstance(answer, str) and answer in classes:
            return classes.index(answer)
        if isinstance(answer, str):
            raise UnknownNameError.of(f"model {name!r}", "class", answer, classes)
        try:
            index = operator.index(answer)
        except TypeError:
            index = -1
        if index < 0:
            raise ModelError(
                f"model {name!r}: {str(answer)[:40]!r} is no class; return its index 0, 1, … or "
                "its name"
            )
        self._check_classes(name, len(classes) if index < len(classes) else index + 1)
        return index

    def _check_classes(self, name: str, given: int) -> None:
        known = len(self.cascade.classes)
        if known and given != known:
            raise ModelError(
                f"model {name!r}: gives {given} classes, but the cascade names {known}"
            )

    def _explained(self, decisions: Decisions, replies: Mapping[str, _Reply]) -> _Answer | Decision:
        stage, score = decisions.stage.item(0), float(decisions.score[0])
        names = models_that_decide([*replies], self._combine, "max_prob")
        deciding = [replies[name] for name in names]
        if not any(map(_is_answer, deciding)) and any(reply.nameless for reply in deciding):
            raise ModelError(
                f"{self.cascade}: no class was decided: {listed(names)} gave no answer. Return a "
                "class to fall back on beside the confidence None"
            )
        costs = [
            self._means.get(name) if reply.cost is None else reply.cost
            for name, reply in replies.items()
        ]
        known = [cost for cost in costs if cost is not None]
        cost = math.fsum(known) if len(known) == len(costs) else None
        answer = decisions.predicted[0]
        if "outcomes" in self._kinds.values():
            return _Answer(answer, self.cascade.stages[stage].models[-1], score, stage, cost)
        index = int(answer)
        return Decision(index, class_name(self.cascade.classes, index), score, stage, cost)


def _kinds_of(cascade: Cascade) -> dict[str, Kind]:
    unknown = [name for name in cascade.names if name not in cascade.models]
    if unknown:
        raise CascadeError(
            f"{cascade}: the kind of outputs of {listed(unknown)} is not known. Take it from a "
            "pool of these models: pool.described(cascade)"
        )
    return {name: cascade.models[name].kind for name in cascade.names}


def _checked_cost(name: str, cost: Any) -> float | None:
    """Return the cost that a model says, a number from 0; None if it says None."""
    if cost is None:
        return None
    try:
        number = float(cost)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise ModelError(f"model {name!r}: costs {cost!r}; a cost is a number from 0")
    return number


def _is_answer(reply: _Reply) -> bool:
    own = reply.outputs.confidence
    return own is None or bool(own[0] > -math.inf)


async def _all(calls: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Await calls at once; if one fails, cancel the others and wait until they have ended."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_async(function: Function) -> bool:
    return iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__)


def _run(call: Coroutine[Any, Any, _Answer | Decision]) -> _Answer | Decision:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(call)
    call.close()
    raise CascadeError(
        "Runner: models are async and an event loop runs already; write: await run.async_call(x)"
    )
