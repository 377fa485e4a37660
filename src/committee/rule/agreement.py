"""Scores of combinations: confidence functions, the voters' confidence, and agreement.

``agreement``
    The share of the models that ran that name the answer of the combination: of ``vote`` and
    ``last`` 1/m to 1 for m models, 1 for one; a mean may name a class that no model names.
``ranked_agreement``
    The same, where a surer answer ranks higher among equal shares: the confidence of the
    combination, brought into 0 to 1, counts as one more vote. One model ranks as its confidence.
``vote`` with any other confidence
    The mean of that confidence over the models that name the answer.

Decisions may lack an answer, with the confidence minus infinity: they agree with nothing, and a
combination that lacks one has the score minus infinity.

References:
    Kolawole et al. (2024), Agreement-Based Cascading for Efficient Inference, arXiv 2407.02348.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from operator import add

from committee.arrays import Array
from committee.rule.combinations import combined, if_answered, mean_of_voters, votes_for
from committee.rule.namespace import NUMPY, Namespace
from committee.rule.outputs import Outputs
from committee.rule.scores import AGREEMENTS, score


def combine_and_score(
    outputs: Mapping[str, Outputs], combine: str, confidence: str, xp: Namespace = NUMPY
) -> tuple[Outputs, Array]:
    """Combine the outputs of the models that ran, oldest first.

    Returns:
        The combination, and its scores (n,).
    """
    combination = combined(outputs, combine, xp)
    if combine != "vote" and confidence not in AGREEMENTS:
        return combination, score(combination, confidence, xp)
    if confidence not in AGREEMENTS:
        return combination, _own_confidence(outputs, combination, combine, confidence, xp)
    votes = reduce(add, votes_for(outputs, combination.predicted(), xp).values())
    scores = votes / len(outputs)
    if confidence == "ranked_agreement":
        own = _own_confidence(outputs, combination, combine, "max_prob", xp)
        own = if_answered(combination, own, 0.0, xp)
        size = xp.maximum(own, 0) - xp.minimum(own, 0)
        scores = (votes + (own / (size + 1) + 1) / 2) / (len(outputs) + 1)
    return combination, if_answered(combination, scores, -math.inf, xp)


def _own_confidence(
    outputs: Mapping[str, Outputs], combination: Outputs, combine: str, base: str, xp: Namespace
) -> Array:
    if combine == "vote" and combination.kind != "decisions":
        return mean_of_voters(outputs, combination.predicted(), base, xp)
    return score(combination, base, xp)
