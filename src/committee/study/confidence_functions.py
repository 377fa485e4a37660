"""Confidence functions compared: Wang et al. (2022), section 4.1 and appendix D.1.

Figure 3 of the paper: accuracy among the k % surest samples of a model, with the upper bound, which
puts every sample that is right before every one that is wrong. Table 12: one cascade under each
function at equal cost. The paper finds that all do about as well, the entropy slightly worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from committee.arrays import Array
from committee.errors import Unsupported
from committee.pool.prefixes import prefixes_of
from committee.pool.table import Column, Table
from committee.report.text import named
from committee.rule.outputs import WITH_CONFIDENCE
from committee.rule.scores import CONFIDENCES
from committee.selection.front import Committee
from committee.study import columns
from committee.study.base import POINTS, Analysis, Finding
from committee.study.context import Study
from committee.study.threshold_sweep import pairs_on_front
from committee.style import BLACK, SERIES, Figure, empty_figure, legend, plain
from committee.text import percent

UPPER_BOUND = "upper bound"
# Percentages of the surest samples in the table; the figure has every whole one.
_IN_TABLE = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
_DRAWN = tuple(range(1, 101))


@dataclass(frozen=True, eq=False)
class _Surest:
    """Accuracy among some percentages of surest samples, by confidence function and upper bound."""

    model: str
    percent: tuple[int, ...]
    accuracy: Mapping[str, Array]


def _analyse(study: Study) -> Finding:
    """Rank samples by each confidence function, and set one cascade by each at equal cost."""
    if study.val.combined_kind in WITH_CONFIDENCE:
        own = f"{study.val.combined_kind} bring their own confidence"
        raise Unsupported(f"{own}; there is nothing to compare")
    if study.one_score:
        raise Unsupported(
            f"only one score is kept of {study.test.task.units}, {study.settings.confidence}; "
            "there is nothing to compare it with"
        )
    first = _surest_of(study, study.names[0])
    tables = [_surest_table(study, first), _mean_table(study)]
    sentences = [_surest_sentence(first)]
    try:
        pair = pairs_on_front(study)[-1]
    except Unsupported as error:
        sentences.append(f"No cascade under each function: {error}.")
    else:
        cascades = at_equal_cost(study, pair)
        tables.append(_equal_cost_table(study, cascades))
        sentences.append(_equal_cost_sentence(study, cascades))
    return Finding(tuple(tables), tuple(sentences), data=first)


def _surest_of(study: Study, model: str, percent: Sequence[int] = _DRAWN) -> _Surest:
    """Return the accuracy among the surest samples of a model, on the test split.

    Samples of equal score are taken in the order of the split.
    """
    own, rows = study.settings, np.arange(len(study.test))
    names = tuple(sorted(study.val.single(model, own.combine)))
    values, weigh = study.values(study.alone(model)), own.metric.weights
    weights = np.ones(len(rows)) if weigh is None else weigh(np.asarray(study.test.samples.labels))
    pool = study.test.with_calibrations(study.val.calibrations)
    shares = {
        name: _accuracy_of_surest(
            values, weights, prefixes_of(pool, name, own.combine).scores(names, rows), percent
        )
        for name in CONFIDENCES
    }
    shares[UPPER_BOUND] = _accuracy_of_surest(values, weights, values > 0, percent)
    return _Surest(model, tuple(percent), shares)


def _accuracy_of_surest(
    values: Array, weights: Array, scores: Array, percent: Sequence[int]
) -> Array:
    """Return the accuracy among the k % of samples of highest score.

    Args:
        values: What each sample scores, shape (N,).
        weights: The most that it can score, shape (N,).
        scores: Shape (N,).
        percent: The k, P of them, 1 to 100; rounded up to whole samples.

    Returns:
        Shares of 1, shape (P,).

    >>> values, scores = np.array([1, 0, 1, 1]), np.array([0.9, 0.1, 0.8, 0.2])
    >>> _accuracy_of_surest(values, np.ones(4), scores, [50, 75, 100])
    array([1.  , 1.  , 0.75])
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    sums, most = np.cumsum(values[order]), np.cumsum(weights[order])
    last = -(-np.asarray(percent) * len(values) // 100) - 1
    reached: Array = sums[last]
    return reached / np.where(most[last] > 0, most[last], 1.0)


def at_equal_cost(study: Study, pair: Sequence[str]) -> dict[str, Committee]:
    """Return a cascade of two models under each confidence function, at one average cost.

    The cost is that of the cascade that matches the ensemble under the study's own confidence
    function; each other function gets the threshold whose cost on the validation split is nearest.
    """
    usual = study.sweep(pair)
    goal = next(each for each in usual if each.val.accuracy >= usual[-1].val.accuracy)

    def nearest(name: str) -> Committee:
        if name == study.settings.confidence:
            return goal
        return min(
            study.sweep(pair, name),
            key=lambda each: abs(each.val.average_cost - goal.val.average_cost),
        )

    return {name: nearest(name) for name in CONFIDENCES}


def _surest_table(study: Study, data: _Surest) -> Table:
    def share(name: str) -> Column:
        return Column(name, lambda k: float(data.accuracy[name][data.percent.index(k)]), "share")

    return Table(
        f"Accuracy of {data.model} among its surest samples on {study.test_text}",
        (Column("surest %", int, "count"), *map(share, data.accuracy)),
        _IN_TABLE,
        "The upper bound takes every sample that is right before every one that is wrong.",
        name="surest",
    )


def _mean_table(study: Study) -> Table:
    def mean(name: str) -> Column:
        return Column(name, lambda surest: float(surest.accuracy[name].mean()), "share")

    return Table(
        "The same for every model, mean over 1 % to 100 %",
        (Column("model", lambda surest: surest.model), *map(mean, (*CONFIDENCES, UPPER_BOUND))),
        [_surest_of(study, model) for model in study.names],
        "A model whose surest samples are right more often knows better when it may be wrong.",
        name="means",
    )


def _equal_cost_table(study: Study, cascades: Mapping[str, Committee]) -> Table:
    own = study.settings
    pick = itemgetter(1)

    def thresholds(item: tuple[str, Committee]) -> str:
        return ", ".join(f"{t:.6g}" for t in item[1].cascade.thresholds) or "never"

    return Table(
        "One cascade under each function, at equal average cost",
        (
            Column("confidence", itemgetter(0)),
            columns.models("cascade", pick),
            Column("threshold", thresholds),
            columns.costs("average cost", pick, own.unit),
            columns.accuracies("accuracy", pick),
            study.gains(f"gain over {own.confidence}", pick, lambda _: cascades[own.confidence]),
        ),
        list(cascades.items()),
        f"Costs were made equal on {study.val_name}; the figures are of {study.test_text}.",
        name="equal_cost",
    )


def _surest_sentence(data: _Surest) -> str:
    half = data.percent.index(50)
    shares = {n: float(each[half]) for n, each in data.accuracy.items() if n != UPPER_BOUND}
    best, worst = max(shares, key=lambda n: shares[n]), min(shares, key=lambda n: shares[n])
    text = f"{percent(shares[worst])} ({worst}) to {percent(shares[best])} ({best})"
    if shares[best] == shares[worst]:
        text = f"{percent(shares[best])} under every function"
    return f"Accuracy on the surer half of {data.model}'s samples is {text}."


def _equal_cost_sentence(study: Study, cascades: Mapping[str, Committee]) -> str:
    own = study.settings.confidence
    usual = cascades[own].cascade
    gains = {n: study.gain(each.cascade, usual) for n, each in cascades.items() if n != own}
    text = ", ".join(f"{name} {POINTS.text(gain)}" for name, gain in gains.items())
    return f"{named(usual)} at equal cost, in points over {own}: {text}."


def _draw(study: Study, data: _Surest) -> Figure:
    """Draw the accuracy among the surest samples, after figure 3 of the paper."""
    axes = empty_figure().add_subplot()
    bound = 100 * data.accuracy[UPPER_BOUND]
    axes.plot(data.percent, bound, color=BLACK, linewidth=1, label="Upper bound")
    for number, (look, name) in enumerate(zip(SERIES, CONFIDENCES, strict=False)):
        # Curves nearly coincide, so that each has its markers somewhere else.
        axes.plot(
            data.percent, 100 * data.accuracy[name], color=look.color, linestyle=look.line,
            linewidth=1.2, marker=look.marker, markersize=look.size - 1,
            markevery=(4 + 4 * number, 20), label=name,
        )  # fmt: skip
    axes.set_xlabel("Surest samples taken (%)")
    axes.set_ylabel(f"Accuracy among them on {study.test_text} (%)", parse_math=False)
    plain(axes, f"Confidence functions on {data.model}")
    legend(axes, "lower left")
    figure: Figure = axes.figure  # type: ignore[assignment]
    return figure


ANALYSIS = Analysis(
    "confidence_functions",
    "Confidence functions",
    "section 4.1 and appendix D.1, figure 3, table 12",
    _analyse,
    _draw,
)
