"""Study: two splits of one pool, and the searches that several analyses share, each run once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from committee.arrays import Array
from committee.errors import Infeasible
from committee.pool.evaluate import (
    Evaluation,
    check_test_pool,
    counts_of,
    measure_of,
    shared_warnings,
)
from committee.pool.metrics import TOP_1
from committee.pool.pool import Pool
from committee.report.rows import choice_of, summary
from committee.report.text import named
from committee.rule.cascade import Cascade
from committee.rule.combinations import DEFAULT_COMBINE
from committee.selection.evaluate_many import correct_on, evaluate_all
from committee.selection.exhaustive import ensembles, over_divisions, search
from committee.selection.fixed_models import threshold_front
from committee.selection.front import Committee, Front, front_of
from committee.selection.notes import notes_of
from committee.selection.options import most_models
from committee.selection.paired import Estimate
from committee.selection.sequences import every_sequence
from committee.study.estimates import paired_difference, paired_figures

# Committees grow to four models, as in the paper, unless that makes more sequences than this.
_MOST_MODELS = 4
_MOST_SEQUENCES = 20_000

Kept = TypeVar("Kept")
Target = TypeVar("Target")


@dataclass(frozen=True)
class Settings:
    """What the searches of a study have in common.

    Args:
        unit: Unit of the cost.
        max_models: Most models of a committee.
        confidence: Name of the confidence function.
        combine: Name of the combination.
        grid: Percentiles tried for each threshold.
    """

    unit: str
    max_models: int
    confidence: str
    combine: str
    grid: int


@dataclass(frozen=True)
class Reference:
    """A model outside the pool, of which no predictions are known.

    Args:
        name: What it is called.
        accuracy: Share of 1, on samples like those that judge.
        cost: What one sample costs, in the study's unit.
    """

    name: str
    accuracy: float
    cost: float


@dataclass(frozen=True)
class Training:
    """What each model took to train.

    Args:
        unit: Unit of the times, such as ``core seconds``.
        times: By name of the model.
        weights: Of models that are one set of weights, what stands for all of them.
    """

    unit: str
    times: Mapping[str, float]
    weights: Mapping[str, str] = field(default_factory=dict)

    def of(self, models: Iterable[str]) -> float:
        """What the weights of some models took, each set once."""
        return sum({self.weights.get(name, name): self.times[name] for name in models}.values())


@dataclass(frozen=True)
class Judged:
    """A committee with its figures on both splits.

    Args:
        cascade: The committee.
        val: What it scores and costs on the split that chose it.
        test: The same on the split that judges: what is reported.
        name: Of a single model, its name; else empty.
    """

    cascade: Cascade
    val: Evaluation
    test: Evaluation
    name: str = ""

    @classmethod
    def of(cls, committee: Committee) -> Judged:
        """From a search that was given a judging split."""
        if committee.test is None:
            raise TypeError("a study judges every committee that it reports")
        return cls(committee.cascade, committee.evaluation, committee.test)

    @property
    def told(self) -> str:
        """Its models, for people: ``a + b`` is an ensemble, ``a -> b`` a cascade."""
        return named(self.cascade)


@dataclass(frozen=True)
class Judge:
    """The split that judges; as text, its name and how many samples it has.

    Args:
        split: Its name.
        count: How many samples.
        samples: Several of them, in a word.
        units: Several of what leaves a cascade, in a word.
        measure: What committees are judged by.
    """

    split: str
    count: int
    samples: str
    units: str
    measure: str

    def __str__(self) -> str:
        return f"{self.split} ({self.count:,} {self.samples})"


@dataclass(frozen=True)
class Pair:
    """A single model, and the best committees at its cost and at its accuracy.

    Every committee was chosen on the choosing split.

    Args:
        single: The model alone.
        same_cost: The most accurate committee that costs no more; None if there is none.
        same_accuracy: The cheapest committee that is as accurate; None if there is none.
    """

    single: Judged
    same_cost: Judged | None
    same_accuracy: Judged | None


@dataclass(frozen=True, eq=False)
class Study:
    """A pool on two splits, and what is asked of it. Made by :func:`study_of`.

    Args:
        val: The split that chooses models and thresholds.
        test: The split that judges; nothing is chosen on it.
        settings: What searches have in common.
        references: Models outside the pool.
        training: What each model took to train, or None.
        kept: What was computed already, by what was asked.
    """

    val: Pool
    test: Pool
    settings: Settings
    references: tuple[Reference, ...] = ()
    training: Training | None = None
    kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Any, compute: Callable[[], Kept]) -> Kept:
        """What was computed for this key before, else what is computed now."""
        if key not in self.kept:
            self.kept[key] = compute()
        found: Kept = self.kept[key]
        return found

    @cached_property
    def architectures(self) -> dict[str, tuple[str, ...]]:
        """Trainings of each architecture, by rising cost; a model without family stands alone.

        A training is named as in :meth:`committee.Pool.singles`.
        """
        found: dict[str, tuple[str, ...]] = {}
        prices = self.val.costs.values(self.settings.unit)
        singles = self.val.singles(self.settings.combine)
        costs = {name: sum(prices[n] for n in models) for name, models in singles.items()}
        for name, models in singles.items():
            family = name if name in self.val.blocks else self.val.families.get(models[0], name)
            found[family] = (*found.get(family, ()), name)
        return dict(sorted(found.items(), key=lambda each: (costs[each[1][0]], each[0])))

    @property
    def names(self) -> tuple[str, ...]:
        """The first training of each architecture, by rising cost: what stands for it."""
        return tuple(trainings[0] for trainings in self.architectures.values())

    @cached_property
    def singles(self) -> tuple[Judged, ...]:
        """The models of :attr:`names`, each alone, by rising cost."""
        return self.singles_in(self.settings.unit)

    def singles_in(self, unit: str) -> tuple[Judged, ...]:
        """As :attr:`singles`, their costs in some other unit."""
        judged = self.judged([self.alone(name) for name in self.names], unit)
        return tuple(replace(e, name=n) for e, n in zip(judged, self.names, strict=True))

    def single(self, name: str) -> Judged:
        """One model of :attr:`names` alone."""
        return self.singles[self.names.index(name)]

    @cached_property
    def ensembles(self) -> tuple[Judged, ...]:
        """The ensembles that no other ensemble beats on the choosing split, cheapest first.

        Trainings of an architecture are taken in turn. None, if nothing averages outputs.
        """
        own = self.settings
        every = ensembles(self.val, own.max_models, own.combine, own.unit)
        best = front_of(every) if every else ()
        return self.judged([each.cascade for each in best])

    @property
    def front(self) -> tuple[Judged, ...]:
        """The committees that no other beats on the choosing split, cheapest first."""
        return tuple(map(Judged.of, self.search()))

    def search(
        self,
        max_models: int | None = None,
        *,
        models: Sequence[str] | None = None,
        unit: str | None = None,
        confidence: str | None = None,
        worst_case: float | None = None,
        division: str | None = None,
    ) -> Front:
        """A front, its members judged; each is searched once, however often it is asked for.

        Args:
            max_models: Most models of a committee; as in the settings, if left out.
            models: Names of the models to search over; all if left out.
            unit: Unit of the cost; that of the settings if left out.
            confidence: Name of the confidence function; that of the settings if left out.
            worst_case: Bound on the sum over all stages, in ``unit``.
            division: The only way to divide the samples; every way if left out.

        Raises:
            Infeasible: If no committee keeps to the bound.
            CascadeError: If ``max_models`` is more than there are.
        """
        own = self.settings
        val = self.val if models is None else self.val.only(models)
        most = min(own.max_models, val.most_models) if max_models is None else max_models
        options: dict[str, Any] = {
            "unit": unit or own.unit,
            "confidence": confidence or own.confidence,
            "worst_case": worst_case,
        }
        if division is not None:
            val = next(each for each in val.divisions if each.division == division)

        def one(of: Pool, judge: Pool | None) -> Front:
            return self.once(
                ("search", tuple(of.names), most, *options.values()),
                lambda: search(of, most, combine=own.combine, grid=own.grid, test=judge, **options),
            )

        asked = ("divisions", tuple(val.names), division, most, *options.values())
        return self.once(asked, lambda: over_divisions(val, self.test, one))

    def threshold_front(self, stages: Sequence[str | Sequence[str]]) -> Front:
        """The front over all thresholds of one cascade, its members judged."""
        own = self.settings
        return threshold_front(
            stages,
            self.val,
            confidence=own.confidence,
            combine=own.combine,
            grid=own.grid,
            unit=own.unit,
            test=self.test,
        )

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Each model of :attr:`names` with the best committees at its cost and its accuracy."""
        return self.pairs_in(self.settings.unit)

    def pairs_in(self, unit: str) -> tuple[Pair, ...]:
        """As :attr:`pairs`, chosen by costs in some other unit."""

        def pair(single: Judged) -> Pair:
            front = self.search(unit=unit)
            return Pair(
                single,
                feasible(front.at_most, single.val.average_cost),
                feasible(front.at_least, single.val.accuracy),
            )

        def compute() -> tuple[Pair, ...]:
            return tuple(map(pair, self.singles_in(unit)))

        return self.once(("pairs", unit), compute)

    def cascade(
        self, stages: Sequence[str | Sequence[str]], thresholds: Sequence[float] = ()
    ) -> Cascade:
        """A cascade that decides as the settings say."""
        own = self.settings
        return self.val.described(
            Cascade.of(stages, thresholds, own.confidence, own.combine, self.val.calibrations)
        )

    def apart(self, ensemble: Cascade) -> list[tuple[str, ...]]:
        """The trained models of an ensemble, each with all of it that is there."""
        found: dict[str, list[str]] = {}
        for name in ensemble.names:
            whole = self.val.weights_of(name) if self.val.blocks else name
            found.setdefault(whole, []).append(name)
        return [tuple(names) for names in found.values()]

    def alone(self, name: str) -> Cascade:
        """One name of :meth:`committee.Pool.singles`, or one model, by itself."""
        return self.cascade([self.val.single(name, self.settings.combine)])

    def judged(self, cascades: Sequence[Cascade], unit: str | None = None) -> tuple[Judged, ...]:
        """Cascades with their evaluations on both splits, in the order given."""
        unit = unit or self.settings.unit
        vals = evaluate_all(cascades, self.val, unit)
        tests = evaluate_all(cascades, self.test, unit)
        return tuple(map(Judged, cascades, vals, tests))

    def right(self, cascade: Cascade) -> Array:
        """Whether a cascade is right on each sample of the judging split, shape (N,)."""
        return self.once(("right", *_rule(cascade)), lambda: correct_on(cascade, self.test))

    def gain(self, cascade: Cascade, over: Cascade) -> Estimate:
        """How much more accurate one cascade is than another on the judging split, paired.

        Of a cascade over itself that is nothing, for certain.
        """
        if _rule(cascade) == _rule(over):
            return Estimate(0.0, 0.0, 0.0, self.test.samples.wholes)
        return self.mean_gain([cascade], [over])

    def mean_gain(self, some: Sequence[Cascade], over: Sequence[Cascade]) -> Estimate:
        """How much more accurate cascades are in the mean than others, paired."""
        figure = self.test.task.metric.figure
        if figure is not None:
            counts, others = ([self._counts(c) for c in each] for each in (some, over))
            return paired_figures(counts, others, figure)
        right, other = (np.mean([self.right(c) for c in each], axis=0) for each in (some, over))
        return paired_difference(right, other)

    def _counts(self, cascade: Cascade) -> Array:
        """What each sample of the judging split counts towards the task's figure, shape (N, K)."""
        metric = self.test.task.metric
        return self.once(("counts", *_rule(cascade)), lambda: counts_of(cascade, self.test, metric))

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What to note on the front, and on the committee that matches its most accurate model."""
        front = self.search()
        row = choice_of(summary(front, self.test))
        own = notes_of(front, None if row is None else row.versus)
        return tuple(dict.fromkeys((*own, *shared_warnings(self.val, self.test))))

    @property
    def told(self) -> str:
        """What is studied: how many models, in which parts, and what accuracy is."""
        models = len(self.val.singles(self.settings.combine))
        kinds = len(self.architectures)
        told = [f"{models} model{'s' * (models > 1)}, {kinds} architecture{'s' * (kinds > 1)}"]
        if self.val.blocks:
            blocks = sum(map(len, self.val.blocks.values()))
            told.append(f"their views in {blocks} blocks, of which each counts as a model below")
        if self.val.division:
            sizes = ", ".join(each.division for each in self.val.divisions)
            told.append(f"{self.judge.samples} divided in {self.judge.units} of {sizes}")
        if self.judge.measure != TOP_1.name:
            told.append(f"accuracy is {self.judge.measure}")
        return "; ".join(told)

    @property
    def provenance(self) -> str:
        """Which split chose, and which judged."""
        val = self.val.samples
        chose = f"{val.split} ({val.wholes:,} {self.val.task.samples})"
        return f"chosen on {chose}, judged on {self.judge}"

    @property
    def judge(self) -> Judge:
        """Which split judged, in few words."""
        task, samples = self.val.task, self.test.samples
        measure = measure_of(self.test, task.metric)
        return Judge(samples.split, samples.wholes, task.samples, task.units, measure)


def _rule(cascade: Cascade) -> tuple[object, ...]:
    """What a cascade decides by; what else it holds is told, such as the names of classes."""
    calibrations = tuple(sorted(cascade.calibrations.items()))
    return cascade.stages, cascade.confidence, cascade.combine, calibrations


def feasible(choose: Callable[[Target], Committee], target: Target) -> Judged | None:
    """What a target picks from a judged front, or None if nothing meets it.

    Args:
        choose: ``at_most``, ``at_least`` or ``matching`` of the front.
        target: What it is called with.
    """
    try:
        return Judged.of(choose(target))
    except Infeasible:
        return None


def study_of(
    val: Pool,
    test: Pool,
    *,
    unit: str | None = None,
    max_models: int | None = None,
    confidence: str = "max_prob",
    combine: str | None = None,
    grid: int = 100,
    references: Sequence[Reference] = (),
    training: Training | None = None,
) -> Study:
    """Ask for a study of a pool; nothing is searched before an analysis needs it.

    Args:
        val: The pool on the split that chooses models and thresholds.
        test: The pool on the split that judges.
        unit: Unit of the cost; see :meth:`committee.spec.cost.CostTable.unit` for the default.
        max_models: Most models of a committee; 4 if left out, fewer in a small pool, or in one of
            so many models that the search would take minutes.
        confidence: Name of the confidence function.
        combine: Name of the combination; by default the mean of what the models give.
        grid: Percentiles tried for each threshold.
        references: Models outside the pool.
        training: What each model took to train.

    Raises:
        MisalignedError: If ``test`` holds the samples that chose, other classes, or no labels.
        UnknownNameError: If ``test`` lacks a model, or there is no such confidence function.
        CostError: If a model has no cost in the unit.
        CascadeError: If there is no such combination, or ``max_models`` is out of range.
        ShapeError: If ``grid`` is out of range.
    """
    unit = val.costs.unit(unit)
    check_test_pool(val, test, unit=unit)
    most = most_models(
        _usual_most(val) if max_models is None else max_models, val.most_models, "pool"
    )
    confidence = val.confidence_or(confidence)
    # A search of single models takes no time, and refuses now what every analysis would refuse.
    search(val, 1, confidence=confidence, combine=combine, grid=grid, unit=unit)
    own = Settings(unit, most, confidence, combine or DEFAULT_COMBINE[val.kind], grid)
    return Study(val, test.divided_like(val).only(val.names), own, tuple(references), training)


def _usual_most(pool: Pool) -> int:
    """Most models of a committee for which a search takes seconds."""
    for most in range(min(_MOST_MODELS, pool.most_models), 1, -1):
        sequences = itertools.chain.from_iterable(
            every_sequence(each, most, each.families, None) for each in pool.divisions
        )
        if len(list(itertools.islice(sequences, _MOST_SEQUENCES + 1))) <= _MOST_SEQUENCES:
            return most
    return min(2, pool.most_models)
