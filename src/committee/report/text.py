"""Text: how figures, committees and promises are written for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

from committee.pool.evaluate import Evaluation
from committee.pool.intervals import Estimate
from committee.pool.metrics import TOP_1
from committee.rule.cascade import Cascade
from committee.rule.combinations import usual_combine
from committee.rule.scores import is_portable
from committee.selection.paired import Comparison
from committee.selection.targets import Promise
from committee.spec.model import KnownModel, ModelSpec
from committee.spec.task import Task
from committee.text import cost_number, human_cost, points, saving, shares, times


def interval(evaluation: Evaluation) -> str:
    """Return the 95 % interval of the accuracy, in percent.

    >>> interval(Evaluation("val", 100, 0.9, 1.0, 1.0, "macs", (1.0,)))
    '82.6–94.5 %'
    """
    low, high = evaluation.interval
    return f"{100 * low:.1f}–{100 * high:.1f} %"


def difference(estimate: Estimate) -> str:
    """Return a difference of accuracies with its 95 % interval, in percentage points.

    >>> difference(Estimate(-0.0115, -0.022, -0.001, 1999))
    '−1.15 points (−2.20 to −0.10)'
    """
    ends = f"{points(estimate.low)} to {points(estimate.high)}"
    return f"{points(estimate.value)} points ({ends})"


def decimals_of(low: float, high: float) -> int:
    """Return how many decimals of a percentage a 95 % interval supports, from 0 to 2.

    Half its width is shown by two digits if they are 35 or less, else by one, as the Particle Data
    Group rounds: 92.2 ± 0.8, 93.4 ± 0.3.

    >>> decimals_of(0.914, 0.929), decimals_of(0.931, 0.937), decimals_of(0.71, 0.82)
    (1, 2, 0)
    """
    half = 50 * (high - low)
    if not 0 < half < math.inf:
        return 2
    return min(max(1 - math.floor(math.log10(half / 0.355)), 0), 2)


def figure_text(evaluation: Evaluation) -> tuple[str, str]:
    """Return an accuracy in percent and its 95 % interval, without the sign of percent.

    >>> figure_text(Evaluation("val", 5000, 0.922, 1.0, 1.0, "macs", (1.0,)))
    ('92.2', '91.4–92.9')
    """
    low, high = evaluation.interval
    if not evaluation.is_share:
        return f"{evaluation.accuracy:.4g}", f"{low:.4g} to {high:.4g}"
    decimals = decimals_of(low, high)
    value, *ends = (f"{100 * each:.{decimals}f}" for each in (evaluation.accuracy, low, high))
    return value, "–".join(ends)


def gap_text(estimate: Estimate) -> str:
    """Return a difference of accuracies in points, as its 95 % interval supports.

    >>> gap_text(Estimate(-0.0144, -0.0199, -0.0089, 5000))
    '−1.4 points (−2.0 to −0.9)'
    """
    decimals = decimals_of(estimate.low, estimate.high)

    def points(value: float) -> str:
        return f"{100 * value + 0.0:+.{decimals}f}".replace("-", "−")

    ends = f"{points(estimate.low)} to {points(estimate.high)}"
    return f"{points(estimate.value)} points ({ends})"


def gain_range(gains: Sequence[Estimate]) -> str:
    """Return the smallest and the largest of one or more differences, in percentage points.

    >>> gain_range([Estimate(0.005, 0, 0.01, 9), Estimate(-0.01, -0.02, 0, 9)])
    '−1.00 to +0.50'
    """
    return _span([gain.value for gain in gains], points)


def ratio_range(ratios: Sequence[float]) -> str:
    """Return the smallest and the largest ratio, and the median of more than two; a dash for none.

    >>> ratio_range([2.0, 1.5, 4.0])
    '1.50× to 4.00×, 2.00× in the median'
    """
    if not ratios:
        return "–"
    span = _span(ratios, times)
    return f"{span}, {times(median(ratios))} in the median" if len(ratios) > 2 else span


def _span(values: Sequence[float], write: Callable[[float], str]) -> str:
    low, high = write(min(values)), write(max(values))
    return low if low == high else f"{low} to {high}"


def versus(comparison: Comparison) -> str:
    """Return how a committee compares with its reference, and what became of its promise.

    >>> less = Estimate(-0.0115, -0.022, -0.001, 1999)
    >>> versus(Comparison("a", "b", less, 2.87, "test", "samples", within=0.0))
    'vs b: −1.15 points (−2.20 to −0.10), 2.87× cheaper; promise missed'
    """
    if comparison.same:
        return f"is {comparison.reference} itself"
    gain, cost = difference(comparison.difference), saving(comparison.saving)
    text = f"vs {comparison.reference}: {gain}, {cost}"
    if comparison.chose or comparison.promise is None:
        return text
    outcome = {"within chance": "open"}.get(comparison.promise, comparison.promise)
    return f"{text}; promise {outcome}"


def promised(promise: Promise) -> str:
    """Return an accuracy or a cost that the user asked for, with what became of it.

    >>> promised(Promise("accuracy", 0.9, 0.785, 0.751, 0.816, "test"))
    'asked: accuracy of 90 % or more; 78.5 % (75.1–81.6) on test: missed'
    """
    if promise.what == "accuracy":
        goal = f"accuracy of {100 * promise.goal:.6g} % or more"
        decimals = decimals_of(promise.low, promise.high)
        value, low, high = (
            f"{100 * each:.{decimals}f}" for each in (promise.value, promise.low, promise.high)
        )
        text = f"{value} % ({low}–{high})"
    else:
        goal = f"average cost of {human_cost(promise.goal, promise.unit)} or less"
        value, low, high = (
            cost_number(each, promise.unit) for each in (promise.value, promise.low, promise.high)
        )
        text = f"{value} ({low} to {high})"
    open_ = "open, for these samples are too few to tell"
    outcome = promise.outcome if promise.outcome in ("kept", "missed") else open_
    return f"asked: {goal}; {text} on {promise.split}: {outcome}"


def exits(evaluation: Evaluation) -> str:
    """Return the share of samples that exit at each stage, in percent.

    >>> exits(Evaluation("val", 100, 0.9, 1.0, 1.0, "macs", (0.75, 0.25)))
    '75/25 %'
    """
    return shares(evaluation.exit_ratios)


def exit_heading(task: Task) -> str:
    """Return the heading of a column of exit ratios."""
    return "Exit" if task.unit == task.sample else f"{task.units.capitalize()} that exit"


def measure_text(measure: str) -> str:
    """Return what an axis calls a metric."""
    return "Top-1 accuracy" if measure == TOP_1.name else measure


def heading_of(measure: str) -> str:
    """Return the heading of a column of figures by a metric.

    >>> heading_of("top-1"), heading_of("agreement with big"), heading_of("mIoU")
    ('Accuracy', 'Agreement with big', 'mIoU')
    """
    if measure == TOP_1.name:
        return "Accuracy"
    return measure if measure[1:2].isupper() else measure[:1].upper() + measure[1:]


def named(cascade: Cascade) -> str:
    """Return the models of a committee, with room to break lines.

    >>> named(Cascade.of([["a", "b"], "c"], [0.5]))
    'a + b -> c'
    """
    return " -> ".join(stages_named(cascade))


def at_thresholds(cascade: Cascade) -> str:
    """Return the thresholds of a cascade, to four digits; empty for one stage.

    >>> at_thresholds(Cascade.of(["a", "b", "c"], [0.81234, 2])), at_thresholds(Cascade.of(["a"]))
    (' at 0.8123, 2', '')
    """
    shown = ", ".join(f"{threshold:.4g}" for threshold in cascade.thresholds)
    return f" at {shown}" if shown else ""


def rough_thresholds(cascade: Cascade) -> str:
    """Return the thresholds of a cascade, to two digits; those below 1 to two of what is missing.

    >>> rough_thresholds(Cascade.of(["a", "b", "c"], [0.81234, 0.999789]))
    '0.81, 0.99979'
    """

    def rough(value: float) -> str:
        if 0.9 < value < 1:
            return f"{value:.{1 - math.floor(math.log10(1 - value))}f}"
        return f"{value:.2g}"

    return ", ".join(map(rough, cascade.thresholds))


def unusual_rule(cascade: Cascade) -> str:
    """Return what differs from the default in a committee's rule; empty if nothing that matters."""
    kinds = {model.kind for model in cascade.models.values()}
    several, staged = len(cascade.names) > 1, len(cascade.stages) > 1
    parts = []
    if several and kinds and cascade.combine not in (None, usual_combine(kinds)):
        parts.append(f"combined by {cascade.combine}")
    if staged and cascade.confidence != "max_prob" and is_portable(cascade.confidence):
        parts.append(f"scored by {cascade.confidence}")
    return ", ".join(parts)


def stages_named(cascade: Cascade) -> list[str]:
    """Return the models of each stage; blocks of views of one model stand together.

    A cascade knows which models are blocks if it says how its models are loaded.
    """
    return [" + ".join(_together(cascade.models, list(stage.models))) for stage in cascade.stages]


def _together(specs: Mapping[str, KnownModel], models: list[str]) -> Iterator[str]:
    blocks = dict.fromkeys(models, 1)
    groups: dict[str, list[str]] = {}
    for name in models:
        spec, whole = specs.get(name), name
        if isinstance(spec, ModelSpec) and spec.preprocessing.views is not None and spec.whole:
            blocks[name], whole = spec.preprocessing.views.blocks, spec.whole
        groups.setdefault(whole, []).append(name)
    for whole, names in groups.items():
        total = blocks[names[0]]
        if len(names) == 1:
            yield names[0]
        elif len(names) == total:
            yield f"{whole} (all {total} blocks of views)"
        else:
            yield f"{whole} ({len(names)} of {total} blocks of views)"
