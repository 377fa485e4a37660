"""Confidence functions compared: Wang et al. (2022), section 4.1 and appendix D.1.

Figure 3 of the paper: accuracy among the k % surest samples of a model, with the upper bound, which
puts every sample that is right before every one that is wrong. Table 12: one cascade under each
function at equal cost. The paper finds that all do about as well, the entropy slightly worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from committee.arrays import Array
from committee.errors import Unsupported
from committee.report.style import BLACK, SERIES, empty_figure, legend, plain
from committee.rule.scores import CONFIDENCES
from committee.selection.fixed_models import threshold_sweep
from committee.selection.prefixes import Rule
from committee.study.base import About, Analysis, Cell, Column, Finding, Table
from committee.study.context import Judge, Judged, Study
from committee.study.estimates import accuracy_of
from committee.study.text import told_gain
from committee.study.threshold_sweep import pairs_on_front
from committee.text import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About(
    "confidence_functions",
    "Confidence functions",
    "section 4.1 and appendix D.1, figure 3, table 12",
)
UPPER_BOUND = "upper bound"
# Percentages of the surest samples in the table; the figure has every whole one.
_TOLD = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
_DRAWN = tuple(range(1, 101))


@dataclass(frozen=True, eq=False)
class Surest:
    """Accuracy among the surest samples of one model.

    Args:
        model: Its name.
        judge: Which split judged.
        percent: How many percent of the samples were taken, P of them.
        accuracy: By confidence function, and for the upper bound, shape (P,), shares of 1.
    """

    model: str
    judge: Judge
    percent: tuple[int, ...]
    accuracy: Mapping[str, Array]


def analyse(study: Study) -> Finding[Surest]:
    """Rank samples by each confidence function, and set one cascade by each at equal cost.

    Raises:
        Unsupported: If the outputs are decisions, which bring one confidence of their own, or
            counts, which were scored by one when they were kept.
    """
    if study.val.kind == "decisions":
        raise Unsupported("decisions bring their own confidence; there is nothing to compare")
    if study.val.kind == "counts":
        raise Unsupported(
            f"of {study.judge.units} one score is kept, {study.settings.confidence}; there is "
            "nothing to compare it with"
        )
    first = surest_of(study, study.names[0])
    tables = [_surest_table(first), _mean_table(study)]
    told = [_told_surest(first)]
    try:
        pair = pairs_on_front(study)[-1]
    except Unsupported as error:
        told.append(f"No cascade under each function: {error}.")
    else:
        found = at_equal_cost(study, pair)
        tables.append(_equal_cost_table(study, found))
        told.append(_told_equal_cost(study, found))
    return Finding(ABOUT, tuple(tables), tuple(told), first)


def surest_of(study: Study, model: str, percent: Sequence[int] = _DRAWN) -> Surest:
    """Accuracy among the surest samples of a model, on the judging split.

    Samples of one score are taken in the order of the split.
    """
    own, rows = study.settings, np.arange(len(study.test))
    models = tuple(sorted(study.val.single(model, own.combine)))
    right = study.right(study.alone(model))
    judge = study.test.with_calibrations(study.val.calibrations)
    found = {
        name: share_right(right, Rule(judge, name, own.combine).scores(models, rows)[1], percent)
        for name in CONFIDENCES
    }
    found[UPPER_BOUND] = share_right(right, right.astype(float), percent)
    return Surest(model, study.judge, tuple(percent), found)


def share_right(right: Array, scores: Array, percent: Sequence[int]) -> Array:
    """Accuracy among the k % of samples of highest score.

    Args:
        right: Whether each sample is predicted right, shape (N,).
        scores: Shape (N,).
        percent: The k, P of them, 1 to 100; rounded up to whole samples.

    Returns:
        Shares of 1, shape (P,).

    >>> share_right(np.array([1, 0, 1, 1]), np.array([0.9, 0.1, 0.8, 0.2]), [50, 75, 100])
    array([1.  , 1.  , 0.75])
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    sums = np.cumsum(np.asarray(right, np.int64)[order])
    counts = -(-np.asarray(percent) * len(right) // 100)
    shares: Array = sums[counts - 1] / counts
    return shares


def at_equal_cost(study: Study, pair: Sequence[str]) -> dict[str, Judged]:
    """A cascade of two models under each confidence function, at one average cost.

    The cost is that of the cascade that the study's own confidence function takes to be as accurate
    as the ensemble; each other function gets the threshold whose cost on the choosing split is
    nearest.
    """
    own = study.settings

    def swept(name: str) -> tuple[Judged, ...]:
        found = threshold_sweep(
            pair,
            study.val,
            confidence=name,
            combine=own.combine,
            grid=own.grid,
            unit=own.unit,
        )
        return study.judged([each.cascade for each in found])

    usual = swept(own.confidence)
    goal = next(each for each in usual if each.val.correct >= usual[-1].val.correct)
    found = {own.confidence: goal}
    for name in CONFIDENCES:
        if name != own.confidence:
            found[name] = min(
                swept(name), key=lambda each: abs(each.val.average_cost - goal.val.average_cost)
            )
    return {name: found[name] for name in CONFIDENCES}


def _surest_table(data: Surest) -> Table:
    names = list(data.accuracy)
    rows = tuple(
        (k, *(float(data.accuracy[name][data.percent.index(k)]) for name in names)) for k in _TOLD
    )
    columns = (Column("surest %", "count"), *(Column(name, "share") for name in names))
    return Table(
        f"Accuracy of {data.model} among its surest samples on {data.judge}",
        columns,
        rows,
        "The upper bound takes every sample that is right before every one that is wrong.",
        name="surest",
    )


def _mean_table(study: Study) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for model in study.names:
        found = surest_of(study, model)
        means = {name: float(each.mean()) for name, each in found.accuracy.items()}
        rows.append((model, *means.values()))
    return Table(
        "The same for every model, mean over 1 % to 100 %",
        (Column("model"), *(Column(name, "share") for name in (*CONFIDENCES, UPPER_BOUND))),
        tuple(rows),
        "A model whose surest samples are right more often knows better when it may be wrong.",
        name="means",
    )


def _equal_cost_table(study: Study, found: Mapping[str, Judged]) -> Table:
    usual = found[study.settings.confidence]
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            each.told,
            ", ".join(f"{t:.6g}" for t in each.cascade.thresholds) or "never",
            each.test.average_cost,
            accuracy_of(each.test),
            study.gain(each.cascade, usual.cascade),
        )
        for name, each in found.items()
    ]
    return Table(
        "One cascade under each function, at equal average cost",
        (
            Column("confidence"),
            Column("cascade"),
            Column("threshold"),
            Column("average cost", "cost", study.settings.unit),
            Column("accuracy", "share"),
            Column(f"gain over {study.settings.confidence}", "points"),
        ),
        tuple(rows),
        f"Costs were made equal on {study.val.samples.split}; the figures are of {study.judge}.",
        name="equal_cost",
    )


def _told_surest(data: Surest) -> str:
    half = data.percent.index(50)
    shares = {name: float(each[half]) for name, each in data.accuracy.items()}
    del shares[UPPER_BOUND]
    best, worst = max(shares, key=lambda n: shares[n]), min(shares, key=lambda n: shares[n])
    told = (
        f"{percent(shares[best])} under every function"
        if shares[best] == shares[worst]
        else f"{percent(shares[worst])} ({worst}) to {percent(shares[best])} ({best})"
    )
    return f"Of the surer half of {data.model}'s samples {told} are right."


def _told_equal_cost(study: Study, found: Mapping[str, Judged]) -> str:
    own = study.settings.confidence
    gains = {
        name: study.gain(each.cascade, found[own].cascade)
        for name, each in found.items()
        if name != own
    }
    told = ", ".join(f"{name} {told_gain(gain)}" for name, gain in gains.items())
    return f"{found[own].told} at equal cost, in points over {own}: {told}."


def draw(data: Surest) -> Figure:
    """Accuracy among the surest samples, after figure 3 of the paper.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure = empty_figure()
    axes = figure.add_subplot()
    bound = 100 * data.accuracy[UPPER_BOUND]
    axes.plot(data.percent, bound, color=BLACK, linewidth=1, label="Upper bound")
    functions = {name: each for name, each in data.accuracy.items() if name != UPPER_BOUND}
    for number, (look, (name, shares)) in enumerate(zip(SERIES, functions.items(), strict=False)):
        # Curves nearly coincide, so that each has its markers somewhere else.
        axes.plot(
            data.percent, 100 * shares, color=look.color, linestyle=look.line, linewidth=1.2,
            marker=look.marker, markersize=look.size - 1, markevery=(4 + 4 * number, 20),
            label=name,
        )  # fmt: skip
    axes.set_xlabel("Surest samples taken (%)")
    axes.set_ylabel(f"Accuracy among them on {data.judge} (%)", parse_math=False)
    plain(axes, f"Confidence functions on {data.model}")
    legend(axes, "lower left")
    return figure


ANALYSIS = Analysis(ABOUT, analyse, draw)
