"""Combination: the outputs of all models that ran so far, as one output.

Sums are taken in the order of the models' names, whatever order they ran in, so that the same set
of models gives the same bits everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from committee.arrays import Array
from committee.errors import CascadeError, UnknownNameError
from committee.rule.namespace import NUMPY, Namespace
from committee.rule.outputs import WITH_CONFIDENCE, Outputs
from committee.rule.scores import softmax


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
    """Return the newest model's own outputs; the only way for decisions and outcomes.

    Arguments as of :func:`mean_logits`.
    """
    newest = outputs[list(outputs)[-1]]
    if newest.kind in WITH_CONFIDENCE:
        return newest
    return Outputs(newest.kind, xp.floats(newest.values))


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
}
# Combinations that see a set of models, not the order in which they ran.
ORDER_FREE = frozenset({"mean_logits", "mean_probabilities"})
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
