"""Running a cascade of functions: calls of services and language models, or any code.

The functions answer and :mod:`committee.rule.flow` decides, as on stored predictions. A later
model is called only for samples that reach its stage.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, TypeAlias

import numpy as np

from committee.errors import CascadeError, ModelError, UnknownNameError
from committee.rule.cascade import Cascade
from committee.rule.flow import Answers, Decisions, Request, decide, drive, drive_async
from committee.rule.outputs import WITH_CONFIDENCE, Kind, Outputs, checked_outputs
from committee.run.decision import Answer, Decision, class_name
from committee.run.open import CascadeLike, open_cascade

# From a sample to a model's reply, or to something to await for it.
Function: TypeAlias = Callable[[Any], Any | Awaitable[Any]]


@dataclass(frozen=True, eq=False)
class _Reply:
    """A model's reply to one sample; ``cost`` is None if it did not say one."""

    outputs: Outputs
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

    Raises:
        CascadeError: If the cascade cannot be read, or does not know the kind of its models.
        UnknownNameError: If a model has no function; others may be there.

    Attributes:
        cascade: The rule.
        unit: Unit of the costs; empty if it is unknown.
    """

    def __init__(self, cascade: CascadeLike, models: Mapping[str, Function]) -> None:
        self.cascade = open_cascade(cascade).cascade
        for name in self.cascade.names:
            if name not in models:
                raise UnknownNameError.of("Runner: models", "function of", name, models)
        self._models = dict(models)
        self._kinds = _kinds_of(self.cascade)
        self.unit = self.cascade.origin.unit
        self._means = {
            name: cost.value
            for name, model in self.cascade.models.items()
            for cost in model.costs
            if cost.unit == self.unit
        }

    def __repr__(self) -> str:
        """Return the cascade."""
        return f"<FunctionRunner: {self.cascade}>"

    def __call__(self, sample: Any) -> Answer | Decision:
        """Return the answer to one sample.

        Raises:
            CascadeError: If a model is async and an event loop runs: await :meth:`async_call`.
            ModelError: If a model's reply has another form.
        """
        if any(map(_is_async, self._models.values())):
            return _run(self.async_call(sample))
        replies: dict[str, _Reply] = {}

        def ask(request: Request) -> Answers:
            for name in request.models:
                replies[name] = self._reply(name, self._models[name](sample))
            return {name: replies[name].outputs for name in request.models}

        return self._explained(drive(decide(self.cascade, 1), ask), replies)

    async def async_call(self, sample: Any) -> Answer | Decision:
        """Return the answer to one sample; plain functions run in threads.

        The models of one stage are called at once. If the call is cancelled, no later model is
        called.
        """
        replies: dict[str, _Reply] = {}

        async def ask(request: Request) -> Answers:
            given = await asyncio.gather(*(self._asked(name, sample) for name in request.models))
            for name, each in zip(request.models, given, strict=True):
                replies[name] = self._reply(name, each)
            return {name: replies[name].outputs for name in request.models}

        return self._explained(await drive_async(decide(self.cascade, 1), ask), replies)

    async def _asked(self, name: str, sample: Any) -> Any:
        function = self._models[name]
        if _is_async(function):
            return await function(sample)
        return await asyncio.to_thread(function, sample)

    def _reply(self, name: str, given: Any) -> _Reply:
        kind = self._kinds[name]
        if kind not in WITH_CONFIDENCE:
            outputs = checked_outputs(f"model {name!r}", kind, np.atleast_2d(given))
            self._check_classes(name, outputs.values.shape[1])
            return _Reply(outputs, None)
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            raise ModelError(
                f"model {name!r}: must return (answer, confidence) or (answer, confidence, cost), "
                f"not {type(given).__name__}"
            )
        answer, confidence, *cost = given
        scores = [-math.inf if confidence is None else confidence]
        if kind == "decisions":
            own = checked_outputs(f"model {name!r}", kind, [self._class(name, answer)], scores)
        else:
            checked = checked_outputs(f"model {name!r}", kind, [0.0], scores)
            # The value of a free-form answer is unknown here; the answer itself takes its place.
            answers = np.empty(1, object)
            answers[0] = answer
            own = Outputs("outcomes", answers, checked.confidence)
        return _Reply(own, _checked_cost(name, cost[0]) if cost else None)

    def _class(self, name: str, answer: Any) -> int:
        """Return the index of a class that a model names, or of which it gives the index."""
        classes = self.cascade.classes
        if isinstance(answer, str) and answer in classes:
            return classes.index(answer)
        if isinstance(answer, str):
            raise UnknownNameError.of(f"model {name!r}", "class", answer, classes)
        index = int(answer)
        if index < 0:
            raise ModelError(f"model {name!r}: class {index} is no index 0, 1, …")
        self._check_classes(name, len(classes) if index < len(classes) else index + 1)
        return index

    def _check_classes(self, name: str, given: int) -> None:
        known = len(self.cascade.classes)
        if known and given != known:
            raise ModelError(
                f"model {name!r}: gives {given} classes, but the cascade names {known}"
            )

    def _explained(self, decisions: Decisions, replies: Mapping[str, _Reply]) -> Answer | Decision:
        stage, score = decisions.stage.item(0), float(decisions.score[0])
        costs = [
            self._means.get(name) if reply.cost is None else reply.cost
            for name, reply in replies.items()
        ]
        known = [cost for cost in costs if cost is not None]
        cost = math.fsum(known) if len(known) == len(costs) else None
        answer = decisions.predicted[0]
        if "outcomes" in self._kinds.values():
            return Answer(answer, self.cascade.stages[stage].models[-1], score, stage, cost)
        index = int(answer)
        return Decision(index, class_name(self.cascade.classes, index), score, stage, cost)


def _kinds_of(cascade: Cascade) -> dict[str, Kind]:
    unknown = [name for name in cascade.names if name not in cascade.models]
    if unknown:
        raise CascadeError(
            f"{cascade}: does not say what {', '.join(unknown)} gives. Describe it with the pool "
            "that it was chosen on: pool.described(cascade)"
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


def _is_async(function: Function) -> bool:
    return iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__)


def _run(call: Coroutine[Any, Any, Answer | Decision]) -> Answer | Decision:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(call)
    call.close()
    raise CascadeError(
        "Runner: models are async and an event loop runs already; write: await run.async_call(x)"
    )
