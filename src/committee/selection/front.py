"""The front: the committees that no other beats in both accuracy and cost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from committee.arrays import Array
from committee.errors import CascadeError, CostError, Infeasible, MissingExtraError
from committee.pool.comparison import identity_of, sum_identity_of
from committee.pool.costs import worst_cost
from committee.pool.evaluate import Evaluation, evaluate, with_expected
from committee.pool.metrics import TOP_1, Metric
from committee.pool.pool import Pool
from committee.reading import plain
from committee.rule.cascade import Cascade
from committee.rule.origin import Origin, RecordedTarget
from committee.selection.tables import Evaluated, committee_rows, committees_table, plotted
from committee.style import Axes
from committee.text import counted, human_cost, percent, printable


class SearchedRule(NamedTuple):
    """A rule that was searched."""

    combine: str
    confidence: str
    calibrated: bool = True


# What tab completion offers.
_SHOWN = (
    *("alone", "at_least", "at_most", "by_rule", "committees", "exact", "inexact", "matching"),
    *("most_accurate_single", "next_cheaper", "plot", "pool", "settings", "to_frame", "to_json"),
    "warnings",
)


@dataclass(frozen=True)
class Committee:
    """A committee with its evaluations; searches return it, studies and reports show it.

    Args:
        cascade: The committee.
        val: Its evaluation on the validation split, on which it was chosen.
        test: Its evaluation on the test split, or None without one.
        name: The name of a single model; empty for every other committee.
    """

    cascade: Cascade
    val: Evaluation
    test: Evaluation | None = None
    name: str = ""

    def __repr__(self) -> str:
        return f"<Committee: {printable(described_text(self))} on {self.val.split!r}>"

    def _repr_html_(self) -> str:
        return committees_table("", [self._evaluated]).html()

    @property
    def _evaluated(self) -> Evaluated:
        """The cascade with its evaluations."""
        return self.cascade, self.val, self.test

    @property
    def evaluation(self) -> Evaluation:
        """The evaluation on the validation split."""
        return self.val

    @property
    def reported(self) -> Evaluation:
        """The evaluation to report: on the test split; without one, on the validation split."""
        return self.val if self.test is None else self.test


@dataclass(frozen=True)
class Settings:
    """The settings of a search.

    Args:
        max_models: Most stages of a committee, each one model unless the search named its stages.
        confidence: Name of the confidence function; of several rules that of the default one.
        combine: Name of the combination; likewise.
        grid: Percentiles tried for each threshold, beside "always" and "never".
        unit: Unit of the cost.
        worst_case: Bounds on the worst-case cost, by unit.
        average_case: Bounds on the average-case cost, by unit.
        families: True if trainings of one architecture were interchangeable.
        metric: What samples scored.
        sequences: How many ordered sequences were covered.
        cascades: How many cascades were covered; each vector of thresholds counts as one.
        self_cascades: True if only single models and self-cascades were covered.
        seconds: The time of each part of the search.
        rules: The rules, if the search was over several.
    """

    max_models: int
    confidence: str
    combine: str
    grid: int
    unit: str
    worst_case: Mapping[str, float]
    average_case: Mapping[str, float]
    families: bool
    metric: Metric
    sequences: int
    cascades: int
    self_cascades: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    rules: tuple[SearchedRule, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return every setting, the metric by its name."""
        return {**vars(self), "metric": self.metric.name}


@dataclass(frozen=True, eq=False)
class Front:
    """The best committees of a pool, cheapest first; accuracy rises with cost.

    Args:
        committees: Members of the front.
        settings: The settings of the search.
        pool: The pool on the validation split.
        inexact: Why the search did not cover every cascade of the settings; empty if it did.
        notes: Returns ``warnings``; they take as long as a small search, and few fronts are shown.
        by_rule: The front of each of several rules, the default first; each cascade has its own
            rule.
    """

    committees: tuple[Committee, ...]
    settings: Settings
    pool: Pool
    inexact: str = ""
    notes: Callable[[], tuple[str, ...]] = tuple
    by_rule: tuple[Front, ...] = ()

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know before trusting the choice, one line each."""
        return self.notes()

    @property
    def exact(self) -> bool:
        """True if the search covered every cascade that the settings allow."""
        return not self.inexact

    def __len__(self) -> int:
        return len(self.committees)

    def __repr__(self) -> str:
        ends = (
            dict.fromkeys((described_text(self[0]), described_text(self[-1]))) if len(self) else ()
        )
        text = printable(" to ".join(ends))
        return f"<Front: {counted(len(self), 'committee')} on {self.pool.samples!r}; {text}>"

    def _repr_html_(self) -> str:
        title = f"Front of {counted(len(self), 'committee')}, chosen on {self.pool.samples!r}"
        title = title.replace("<", "").replace(">", "")
        return committees_table(title, self._evaluated, " ".join(self.warnings)).html()

    def __dir__(self) -> list[str]:
        return sorted(_SHOWN)

    @property
    def _evaluated(self) -> list[Evaluated]:
        return [each._evaluated for each in self]

    def to_frame(self) -> Any:
        """Return the committees as a data frame of pandas or polars, whichever is in use.

        Raises:
            MissingExtraError: If neither is installed.
        """
        return _frame_of(committee_rows(self._evaluated))

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the front and the single models on the validation split; returns the axes.

        Args:
            axes: Axes of matplotlib to draw on; a new figure without.

        Raises:
            MissingExtraError: If matplotlib is not installed.
        """
        own = self.settings
        singles = {
            name: evaluate(self.alone(name), self.pool, own.unit, own.metric)
            for name in self.pool.singles(own.combine)
        }
        return plotted(self._evaluated, singles, axes)

    def __iter__(self) -> Iterator[Committee]:
        return iter(self.committees)

    def __getitem__(self, index: int) -> Committee:
        return self.committees[index]

    def alone(self, model: str) -> Cascade:
        """Return one model of the pool by itself, under the rule of the front's committees.

        Args:
            model: One name of :meth:`Pool.singles`, or of a model.

        Raises:
            UnknownNameError: If the model is not in the pool.
        """
        own = self.settings
        models = self.pool.single(model, own.combine)
        return Cascade.of([models], (), own.confidence, own.combine, self.pool.calibrations)

    @cached_property
    def most_accurate_single(self) -> str:
        """The most accurate single model on the validation split, the cheapest of equals."""
        own = self.settings

        def rank(name: str) -> tuple[float, float, str]:
            own_evaluation = evaluate(self.alone(name), self.pool, own.unit, own.metric)
            return -own_evaluation.accuracy, own_evaluation.average_cost, name

        return min(self.pool.singles(own.combine), key=rank)

    def matching(self, model: str, within: float = 0.0) -> Committee:
        """Return the cheapest committee on average that is as accurate as a model of the pool.

        The result may be the model itself, also where the search used only earlier trainings of
        its family alone.

        Args:
            model: One name of :meth:`Pool.singles`, or of a model.
            within: How much less accurate than the model it may be, a share of 1.

        Raises:
            UnknownNameError: If the model is not in the pool.
            CascadeError: If ``within`` is no share of 1.
            Infeasible: If no committee reaches it.
        """
        check_within(within)
        alone = self.alone(model)
        goal = evaluate(alone, self.pool, self.settings.unit, self.settings.metric)
        less = f" less {100 * within:.4g} points" if within else ""
        text = f"{model}'s accuracy {percent(goal.accuracy)}{less}"
        chosen = self._cheapest(goal.accuracy - within, text, self._later_training(alone, goal))
        return with_target(chosen, RecordedTarget(model, alone.names, within), alone)

    def next_cheaper(self, committee: Committee) -> Committee | None:
        """Return the most accurate member that costs less on average; None if there is none."""
        cost = committee.evaluation.average_cost
        cheaper = [each for each in self if each.evaluation.average_cost < cost]
        return cheaper[-1] if cheaper else None

    def at_least(self, accuracy: float) -> Committee:
        """Return the cheapest committee on average with at least this accuracy, a share of 1.

        Raises:
            Infeasible: If no committee reaches it; the most accurate is named.
        """
        hint = (
            " (a share of 1: 0.95, not 95)"
            if accuracy > 1 and self.settings.metric.is_share
            else ""
        )
        return self._cheapest(accuracy, f"accuracy {percent(accuracy)}{hint}")

    def at_most(self, cost: float, text: str = "") -> Committee:
        """Return the most accurate committee for at most this average-case cost.

        Args:
            cost: The largest average cost, in the unit of the search.
            text: The cost as errors print it; by default the number with its unit.

        Raises:
            Infeasible: If every committee costs more; the cheapest is named.
            CostError: If the cost is NaN.
        """
        if np.isnan(cost):
            raise CostError("at_most: cost is NaN; give a number in the unit of the search")
        within = [c for c in self.committees if c.evaluation.average_cost <= cost]
        if not within:
            near = self.committees[0]
            raise Infeasible(
                f"no committee costs at most {text or human_cost(cost, self.settings.unit)} on "
                f"{self.pool.samples.split!r}. Nearest: {described_text(near)}"
            )
        return self._with_expected(within[-1])

    def _cheapest(self, accuracy: float, goal: str, another: Committee | None = None) -> Committee:
        # The tolerance lets a printed accuracy match the committee that it was printed for.
        reaching = [c for c in self.committees if c.evaluation.accuracy >= accuracy - 1e-9][:1]
        reaching += [another] if another else []
        if reaching:
            return self._with_expected(min(reaching, key=lambda c: c.evaluation.average_cost))
        raise Infeasible(
            f"no committee reaches {goal} on {self.pool.samples.split!r}"
            f"{self._bounded()}. Nearest: {described_text(self.committees[-1])}"
        )

    def _with_expected(self, chosen: Committee) -> Committee:
        metric = self.settings.metric
        return replace(chosen, cascade=with_expected(chosen.cascade, self.pool, metric))

    def _later_training(self, alone: Cascade, evaluation: Evaluation) -> Committee | None:
        """Return a model by itself if only an earlier training of its family was searched alone."""
        names, pool, settings = alone.names, self.pool, self.settings
        family = pool.families.get(names[0]) if len(names) == 1 and settings.families else None
        if family is None or next(n for n in pool.names if pool.families.get(n) == family) in names:
            return None
        if any(pool.prices(u)[names[0]] > most for u, most in settings.average_case.items()):
            return None
        worst = {u: worst_cost([pool.sample_costs(u)[names[0]]]) for u in settings.worst_case}
        if any(worst[u] > most for u, most in settings.worst_case.items()):
            return None
        return committee_of(alone, evaluation, pool)

    def _bounded(self) -> str:
        worst, average = self.settings.worst_case, self.settings.average_case
        bounds = [f"a worst case of {human_cost(bound, unit)}" for unit, bound in worst.items()]
        bounds += [f"an average of {human_cost(bound, unit)}" for unit, bound in average.items()]
        return f" within {' and '.join(bounds)}" if bounds else ""

    def to_json(self) -> dict[str, Any]:
        """Return the settings and every member, with its figures on both splits."""
        return {
            "exact": self.exact,
            "inexact": self.inexact,
            "warnings": list(self.warnings),
            "settings": self.settings.to_json(),
            "committees": [
                {
                    "cascade": c.cascade.to_json(),
                    "evaluation": c.evaluation.to_json(),
                    "test": c.test and c.test.to_json(),
                }
                for c in self.committees
            ],
        }


def _frame_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as a data frame of pandas or polars: of the one in use, else of either."""
    for library in sorted(("pandas", "polars"), key=lambda each: each not in sys.modules):
        with suppress(ImportError):
            return import_module(library).DataFrame(rows)
    raise MissingExtraError("to_frame needs pandas or polars. Install one with: pip install pandas")


def described_text(committee: Committee) -> str:
    """Return a committee as text, with its accuracy and cost on the validation split."""
    evaluation = committee.evaluation
    what = "accuracy" if evaluation.measure == TOP_1.name else evaluation.measure
    accuracy = evaluation.accuracy
    reached = percent(accuracy) if evaluation.is_share else f"{accuracy:.4g}"
    return (
        f"{committee.cascade} with {what} {reached} "
        f"at {human_cost(evaluation.average_cost, evaluation.unit)}"
    )


def check_within(within: float, where: str = "within") -> None:
    """Raise CascadeError if a margin of accuracy is below 0, or 1 or more."""
    if not 0 <= within < 1:
        raise CascadeError(
            f"{where} {within:g}: it is a share, from 0 to below 1; half a point is 0.005"
        )


def with_target(
    committee: Committee, target: RecordedTarget, reference: Cascade | None = None
) -> Committee:
    """Return the committee with the target that it was chosen for recorded in its origin.

    Where the reference is calibrated and the committee lacks some of its models, their calibrations
    are recorded too, so that others compare with the same reference.
    """
    known = {} if reference is None else reference.calibrations
    own = {n: plain(c) for n, c in known.items() if n not in committee.cascade.calibrations}
    origin = replace(committee.cascade.origin, target=replace(target, calibrations=own))
    return replace(committee, cascade=replace(committee.cascade, origin=origin))


def join_fronts(pool: Pool, fronts: Sequence[Front]) -> Front:
    """Return the joint front of the fronts of each tiling of a pool's samples."""
    seconds: dict[str, float] = {}
    for front in fronts:
        for part, time in front.settings.seconds.items():
            seconds[part] = seconds.get(part, 0.0) + time
    return Front(
        front_of([each for front in fronts for each in front]),
        replace(
            fronts[0].settings,
            sequences=sum(front.settings.sequences for front in fronts),
            cascades=sum(front.settings.cascades for front in fronts),
            seconds=seconds,
        ),
        pool,
        notes=partial(_notes_of_all, fronts),
    )


def _notes_of_all(fronts: Sequence[Front]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for front in fronts for note in front.warnings))


def undominated(cost: Array, value: Array) -> Array:
    """Return the indices of the points that no other beats, by rising cost.

    Cost and value have shape (P,); a higher value is better. Values that differ by rounding alone
    are equal. Among points equal in both, the first is returned.

    >>> undominated(np.array([2.0, 1.0, 3.0]), np.array([5, 5, 6]))
    array([1, 2])
    """
    ranks = _ranks(value)
    order = np.lexsort((np.arange(len(cost)), -ranks, cost))
    best = np.maximum.accumulate(ranks[order])
    improves = np.ones(len(order), bool)
    improves[1:] = best[1:] > best[:-1]
    indices: Array = order[improves]
    return indices


def _ranks(value: Array) -> Array:
    """Return the rank of each value, shape (P,); those that differ by rounding alone share one."""
    order = np.argsort(value)
    gaps = np.diff(value[order])
    ranks = np.zeros(len(value), np.int64)
    ranks[order[1:]] = np.cumsum(gaps > _ROUNDING * np.abs(value).max(initial=0))
    return ranks


# Sums of a metric over the same samples differ by less of the largest one.
_ROUNDING = 1e-12


def preference(cascade: Cascade, worst_case_cost: float) -> tuple[Any, ...]:
    """Return a sort key for committees equal in accuracy and average cost; the least is kept.

    It compares worst-case cost, then the number of models, of stages, names and thresholds.
    """
    return (
        worst_case_cost,
        len(cascade.names),
        len(cascade.stages),
        cascade.names,
        cascade.thresholds,
    )


def front_of(committees: Sequence[Committee]) -> tuple[Committee, ...]:
    """Return the committees that no other beats in accuracy and average-case cost, cheapest first.

    :func:`preference` decides among committees equal in both.
    """
    ranked = sorted(committees, key=lambda c: preference(c.cascade, c.evaluation.worst_case_cost))
    cost = np.array([c.evaluation.average_cost for c in ranked])
    accuracy = np.array([c.evaluation.accuracy for c in ranked])
    return tuple(ranked[i] for i in undominated(cost, accuracy))


def committee_of(cascade: Cascade, evaluation: Evaluation, pool: Pool) -> Committee:
    """Return a committee whose cascade records its models, classes and origin, for its file."""
    described = replace(
        cascade,
        classes=pool.samples.classes,
        models={name: pool.specs[name] for name in cascade.names if name in pool.specs},
        origin=Origin(
            split=pool.samples.split,
            samples_fingerprint=identity_of(pool, cascade.names),
            samples_sum=sum_identity_of(pool),
            labels_fingerprint=pool.samples.labels_fingerprint,
            unit=evaluation.unit,
            promised=evaluation.promised,
        ),
    )
    return Committee(described, evaluation)
