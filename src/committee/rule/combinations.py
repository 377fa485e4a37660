"""Combination: the outputs of all models that ran so far, as one output.

Sums are taken in the order of the models' names, whatever order they ran in, so that the same set
of models gives the same bits everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import reduce
from operator import add

from committee.arrays import Array
from committee.errors import CascadeError, UnknownNameError
from committee.rule.namespace import NUMPY, Namespace
from committee.rule.outputs import WITH_CONFIDENCE, Outputs
from committee.rule.scores import AGREEMENTS, score, softmax


def mean_logits(outputs: Mapping[str, Outputs], xp: Namespace = NUMPY) -> Outputs:
    """Return the mean of the logits (N, C) of all models (Wang et al. 2022, algorithm 1).

    Args:
        outputs: Outputs of each model that ran, by name, oldest first.
        xp: Namespace of their arrays.

    Raises:
        CascadeError: If a model gives no logits.
    """
    _require(outputs, "mean_logits", ("logits",))
    return Outputs("logits", _mean([outputs[name].values for name in sorted(outputs)], xp))


def mean_probabilities(outputs: Mapping[str, Outputs], xp: Namespace = NUMPY) -> Outputs:
    """Return the mean of the probabilities (N, C) of all models, of logits that of their softmax.

    Arguments as of :func:`mean_logits`.

    Raises:
        CascadeError: If a model gives only decisions.
    """
    _require(outputs, "mean_probabilities", ("logits", "probabilities"))
    models = [outputs[name] for name in sorted(outputs)]
    return Outputs("probabilities", _mean([softmax(m.values, m.kind, xp) for m in models], xp))


def last(outputs: Mapping[str, Outputs], xp: Namespace = NUMPY) -> Outputs:
    """Return the newest model's own outputs; the only way for outcomes.

    Arguments as of :func:`mean_logits`.
    """
    newest = outputs[list(outputs)[-1]]
    if newest.kind in WITH_CONFIDENCE:
        return newest
    return Outputs(newest.kind, xp.floats(newest.values))


def vote(outputs: Mapping[str, Outputs], xp: Namespace = NUMPY) -> Outputs:
    """Return the class that most models name; among equals the newest model's, or the lowest.

    The vote of one model, or of two, is the answer of the newest. A decision without an answer,
    whose confidence is minus infinity, is no vote.

    Arguments as of :func:`mean_logits`.

    Returns:
        Of decisions, the class and the mean confidence of the models that name it. Of others the
        share of votes of each class (N, C), in which the newest counts half a vote more.

    Raises:
        CascadeError: If a model names no class.
    """
    _require(outputs, "vote", ("logits", "probabilities", "decisions"))
    *_, newest = outputs
    weights = dict.fromkeys(sorted(outputs), 1.0) | {newest: 1.5}
    if any(model.kind == "decisions" for model in outputs.values()):
        return _vote_of_decisions(outputs, weights, xp)

    def voted(name: str) -> Array:
        values = xp.floats(outputs[name].values)
        own = xp.one_hot(xp.argmax(values, keepdims=True), values) * weights[name]
        votes: Array = own + xp.max(values, keepdims=True) * 0  # NaN stays NaN
        return votes

    total = _sum(map(voted, weights))
    return Outputs("probabilities", total / sum(weights.values()))


def _vote_of_decisions(
    outputs: Mapping[str, Outputs], weights: Mapping[str, float], xp: Namespace
) -> Outputs:
    classes = {name: model.predicted() for name, model in outputs.items()}

    def votes(answer: Array) -> Array:
        return _sum(v * weights[n] for n, v in votes_for(outputs, answer, xp).items())

    *others, newest = outputs
    answer, most = classes[newest], votes(classes[newest])
    for name in others:
        own = votes(classes[name])
        ahead = (own > most) | ((own == most) & (classes[name] < answer))
        answer, most = xp.where(ahead, classes[name], answer), xp.where(ahead, own, most)
    return Outputs("decisions", answer, mean_of_voters(outputs, answer, "max_prob", xp))


def votes_for(
    outputs: Mapping[str, Outputs], answer: Array, xp: Namespace = NUMPY
) -> dict[str, Array]:
    """Return 1 for each sample of which a model names a class, else 0, by the models' names.

    Args:
        outputs: Outputs of each model, by name; of those that are no numbers the vote is NaN.
        answer: The class of each sample, shape (N,).
        xp: Namespace of the arrays.
    """

    def named(model: Outputs) -> Array:
        own = xp.floats(xp.where(model.predicted() == answer, 1.0, 0.0))
        if model.confidence is not None:
            return if_answered(model, own, 0.0, xp)
        votes: Array = own + xp.max(xp.floats(model.values)) * 0
        return votes

    return {name: named(outputs[name]) for name in sorted(outputs)}


def mean_of_voters(
    outputs: Mapping[str, Outputs], answer: Array, confidence: str, xp: Namespace = NUMPY
) -> Array:
    """Return the mean confidence of the models that name a class; minus infinity if none does.

    Arguments as of :func:`votes_for`, and the name of the confidence function.
    """
    votes = votes_for(outputs, answer, xp)
    total = _sum(votes.values())
    voters = xp.maximum(total, 1)
    scores = {n: if_answered(m, score(m, confidence, xp), 0.0, xp) for n, m in outputs.items()}
    mean = _sum(scores[name] * (own / voters) for name, own in votes.items())
    if any(model.confidence is None for model in outputs.values()):
        return mean  # such a model always answers
    return xp.where(total > 0, mean, -math.inf)


def if_answered(model: Outputs, values: Array, other: float, xp: Namespace = NUMPY) -> Array:
    """Return values where a model gave an answer, and another number elsewhere."""
    if model.confidence is None:
        return values
    return xp.where(xp.floats(model.confidence) > -math.inf, values, other)


def _sum(values: Iterable[Array]) -> Array:
    total: Array = reduce(add, values)
    return total


def _mean(values: Sequence[Array], xp: Namespace) -> Array:
    total = xp.floats(values[0])
    if len(values) == 1:
        return total
    total = total + values[1]
    for other in values[2:]:
        total += other
    total /= len(values)
    return total


def _require(outputs: Mapping[str, Outputs], combine: str, kinds: tuple[str, ...]) -> None:
    for name, output in outputs.items():
        if output.kind not in kinds:
            raise CascadeError(
                f"{combine}: model {name!r} gives {output.kind}, not {' or '.join(kinds)}. "
                f"Use combine={DEFAULT_COMBINE[output.kind]!r}"
            )


Combine = Callable[[Mapping[str, Outputs], Namespace], Outputs]
COMBINES: dict[str, Combine] = {
    "mean_logits": mean_logits,
    "mean_probabilities": mean_probabilities,
    "last": last,
    "vote": vote,
}
# Combinations in which every model that ran has a say.
JOINT = frozenset({"mean_logits", "mean_probabilities", "vote"})
# Combinations that see a set of models, not the order in which they ran.
ORDER_FREE = frozenset({"mean_logits", "mean_probabilities"})
# The combinations of which each kind of outputs allows a choice.
COMBINES_OF = {
    "logits": ("mean_logits", "mean_probabilities", "last", "vote"),
    "probabilities": ("mean_probabilities", "last", "vote"),
    "decisions": ("last", "vote"),
    "outcomes": ("last",),
}
DEFAULT_COMBINE = {
    "logits": "mean_logits",
    "probabilities": "mean_probabilities",
    "decisions": "last",
    "outcomes": "last",
}


def usual_combine(kinds: Collection[str]) -> str:
    """Return the combination that models' kinds of outputs imply, where none is named.

    >>> usual_combine({"logits"}), usual_combine({"logits", "probabilities"})
    ('mean_logits', 'mean_probabilities')
    """
    if len(set(kinds)) == 1:
        return DEFAULT_COMBINE[next(iter(kinds))]
    return "mean_probabilities" if WITH_CONFIDENCE.isdisjoint(kinds) else "last"


def combined(outputs: Mapping[str, Outputs], combine: str, xp: Namespace = NUMPY) -> Outputs:
    """Combine the outputs of the models that ran, oldest first.

    Raises:
        UnknownNameError: If there is no combination of that name.
        CascadeError: If the outputs are of a kind that cannot be combined so.
    """
    if combine not in COMBINES:
        raise UnknownNameError.of("combine", "combination", combine, COMBINES)
    return COMBINES[combine](outputs, xp)


def models_that_decide(models: Sequence[str], combine: str, confidence: str) -> tuple[str, ...]:
    """Return those of the models that ran on which combination and score depend, newest last.

    Lists of models that decide alike give the same: a mean depends on the set of models, ``last``
    on the newest, a vote or ``agreement`` with the newest on both.

    >>> models_that_decide(["c", "b", "a"], "last", "agreement")
    ('b', 'c', 'a')
    """
    if combine in ORDER_FREE:
        return tuple(sorted(models))
    if combine == "last" and confidence not in AGREEMENTS:
        return (models[-1],)
    return (*sorted(models[:-1]), models[-1])
