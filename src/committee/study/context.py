"""Study: the two splits of a pool, and the searches that several analyses share, each run once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from committee.arrays import Array
from committee.errors import Infeasible
from committee.pool.evaluate import check_test_pool, measure_of, shared_warnings
from committee.pool.intervals import Estimate
from committee.pool.metrics import TOP_1, Metric
from committee.pool.pool import Pool
from committee.pool.table import Column
from committee.report.rows import Report
from committee.rule.cascade import Cascade
from committee.rule.combinations import DEFAULT_COMBINE
from committee.selection.evaluate_many import evaluate_all, values_on
from committee.selection.exhaustive import ensembles, search, search_each_tiling
from committee.selection.fixed_models import threshold_front, threshold_sweep
from committee.selection.front import Committee, Front, front_of
from committee.selection.options import most_models
from committee.selection.paired import mean_difference
from committee.selection.rules import refuse_auto
from committee.selection.sequences import every_sequence
from committee.text import counted

# Committees grow to four models, as in the paper, unless that makes more sequences than this.
_MOST_MODELS = 4
_MOST_SEQUENCES = 20_000

Stages = Sequence[str | Sequence[str]]
Computed = TypeVar("Computed")
Target = TypeVar("Target")
# Takes an item of a table and returns its committee, or None without one.
Pick = Callable[[Any], Committee | None]


@dataclass(frozen=True)
class _Settings:
    """The settings that all searches of a study share; fields as in :func:`study_of`."""

    unit: str
    max_models: int
    confidence: str
    combine: str
    grid: int
    metric: Metric

    def to_json(self) -> dict[str, Any]:
        """Return every setting, the metric by its name."""
        return {**vars(self), "metric": self.metric.name}


@dataclass(frozen=True)
class Reference:
    """A model outside the pool, without predictions; its accuracy is a share of 1."""

    name: str
    accuracy: float
    cost: float


@dataclass(frozen=True)
class Training:
    """The training time of each model, in a unit, and the set of weights that it shares."""

    unit: str
    times: Mapping[str, float]
    weights: Mapping[str, str] = field(default_factory=dict)

    def of(self, models: Iterable[str]) -> float:
        """Return the training time of some models; each set of weights counts once."""
        return sum({self.weights.get(name, name): self.times[name] for name in models}.values())


@dataclass(frozen=True)
class Pair:
    """A single model and the best committees beside it, all chosen on the validation split."""

    single: Committee
    same_cost: Committee | None
    same_accuracy: Committee | None


@dataclass(frozen=True, eq=False)
class Study:
    """A pool on two splits, and the results that its analyses share; see :func:`study_of`."""

    val: Pool
    test: Pool
    settings: _Settings
    references: tuple[Reference, ...] = ()
    training: Training | None = None
    _cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, key: Any, compute: Callable[[], Computed]) -> Computed:
        """Return the cached result of this key, computing it the first time."""
        if key not in self._cache:
            self._cache[key] = compute()
        computed: Computed = self._cache[key]
        return computed

    @cached_property
    def architectures(self) -> dict[str, tuple[str, ...]]:
        """The trainings of each architecture, by rising cost; a model without family stands alone.

        A training is named as in :meth:`committee.Pool.singles`.
        """
        trainings: dict[str, tuple[str, ...]] = {}
        prices = self.val.costs.values(self.settings.unit)
        singles = self.val.singles(self.settings.combine)
        costs = {name: sum(prices[n] for n in models) for name, models in singles.items()}
        for name, models in singles.items():
            family = (
                name
                if name in self.val.layout.view_groups
                else self.val.families.get(models[0], name)
            )
            trainings[family] = (*trainings.get(family, ()), name)
        return dict(sorted(trainings.items(), key=lambda each: (costs[each[1][0]], each[0])))

    @property
    def names(self) -> tuple[str, ...]:
        """The first training of each architecture, which stands for it, by rising cost."""
        return tuple(trainings[0] for trainings in self.architectures.values())

    @cached_property
    def singles(self) -> tuple[Committee, ...]:
        """The models of :attr:`names`, each alone, by rising cost."""
        return self._singles_in(self.settings.unit)

    def _singles_in(self, unit: str) -> tuple[Committee, ...]:
        """Return :attr:`singles` with their costs in another unit."""
        single = self.evaluated([self.alone(name) for name in self.names], unit)
        return tuple(replace(e, name=n) for e, n in zip(single, self.names, strict=True))

    def single(self, name: str) -> Committee:
        """Return one model of :attr:`names` alone."""
        return self.singles[self.names.index(name)]

    @cached_property
    def ensembles(self) -> tuple[Committee, ...]:
        """The ensembles that no other ensemble beats on the validation split, cheapest first.

        Trainings of an architecture are taken in turn. Empty if the combination averages nothing.
        """
        own = self.settings
        every = ensembles(self.val, own.max_models, own.combine, own.unit, own.metric)
        best = front_of(every) if every else ()
        return self.evaluated([each.cascade for each in best])

    def search(
        self,
        max_models: int | None = None,
        *,
        models: Sequence[str] | None = None,
        unit: str | None = None,
        worst_case: float | None = None,
        tiling: str | None = None,
    ) -> Front:
        """Return a front with evaluations on both splits; each front is searched once.

        What is left out is as in the settings; ``tiling`` is the only tiling of the samples.
        """
        own = self.settings
        val = self.val if models is None else self.val.only(models)
        most = min(own.max_models, val.most_models) if max_models is None else max_models
        options: dict[str, Any] = {"unit": unit or own.unit, "worst_case": worst_case}
        if tiling is not None:
            val = next(each for each in val.divisions if each.layout.tiling == tiling)

        def one(pool: Pool, test: Pool | None) -> Front:
            rule: dict[str, Any] = {
                "confidence": own.confidence, "combine": own.combine, "grid": own.grid,
                "metric": own.metric,
            }  # fmt: skip
            return self.once(
                ("search", tuple(pool.names), most, *options.values()),
                lambda: search(pool, most, test=test, **rule, **options),
            )

        key = ("tilings", tuple(val.names), tiling, most, *options.values())
        return self.once(key, lambda: search_each_tiling(val, self.test, one))

    def threshold_front(self, stages: Stages) -> Front:
        """Return the front over all thresholds of one cascade, with evaluations on both splits."""
        return threshold_front(stages, self.val, **self.options(), test=self.test)

    def sweep(self, pair: Sequence[str], confidence: str = "") -> tuple[Committee, ...]:
        """Return a cascade of two models under every threshold, by rising threshold."""
        options = self.options() | ({"confidence": confidence} if confidence else {})
        return self.evaluated([c.cascade for c in threshold_sweep(pair, self.val, **options)])

    def options(self) -> dict[str, Any]:
        """Return the settings that searches over fixed models take."""
        return {name: value for name, value in vars(self.settings).items() if name != "max_models"}

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Each model of :attr:`names` with the best committees at its cost and its accuracy."""
        return self.pairs_in(self.settings.unit)

    def pairs_in(self, unit: str) -> tuple[Pair, ...]:
        """Return :attr:`pairs` for costs in another unit."""

        def pair(single: Committee) -> Pair:
            front = self.search(unit=unit)
            return Pair(
                single,
                feasible(front.at_most, single.val.average_cost),
                feasible(front.at_least, single.val.accuracy),
            )

        return self.once(("pairs", unit), lambda: tuple(map(pair, self._singles_in(unit))))

    @property
    def matched(self) -> list[tuple[Committee, Committee]]:
        """Each single model with the cheapest committee that is as accurate, where there is one."""
        return [(p.single, p.same_accuracy) for p in self.pairs if p.same_accuracy]

    def cascade(self, stages: Stages, thresholds: Sequence[float] = ()) -> Cascade:
        """Return a cascade with the rule of the settings."""
        own = self.settings
        return self.val.described(
            Cascade.of(stages, thresholds, own.confidence, own.combine, self.val.calibrations)
        )

    def by_weights(self, ensemble: Cascade) -> list[tuple[str, ...]]:
        """Return the models of an ensemble, grouped by shared weights."""
        groups: dict[str, list[str]] = {}
        for name in ensemble.names:
            weights = self.val.weights_of(name) if self.val.layout.view_groups else name
            groups.setdefault(weights, []).append(name)
        return [tuple(names) for names in groups.values()]

    def alone(self, name: str) -> Cascade:
        """Return a single model, by its name in :meth:`committee.Pool.singles` or the pool."""
        return self.cascade([self.val.single(name, self.settings.combine)])

    def evaluated(
        self, cascades: Sequence[Cascade], unit: str | None = None
    ) -> tuple[Committee, ...]:
        """Return cascades with their evaluations on both splits, in the same order."""
        unit = unit or self.settings.unit
        vals = evaluate_all(cascades, self.val, unit, self.settings.metric)
        tests = evaluate_all(cascades, self.test, unit, self.settings.metric)
        return tuple(map(Committee, cascades, vals, tests))

    def gain(self, cascade: Cascade, over: Cascade) -> Estimate:
        """Return how much more accurate a cascade is than another on the test split, paired.

        The gain of a cascade over itself is exactly 0.
        """
        if _rule(cascade) == _rule(over):
            return Estimate(0.0, 0.0, 0.0, self.test.samples.wholes)
        return self.mean_gain([cascade], [over])

    def gains(self, name: str, pick: Pick, over: Pick, itself: bool = True) -> Column:
        """Return a column of gains over ``over``; a gain over itself is empty if not ``itself``."""

        def gain(item: Any) -> Estimate | None:
            committee, reference = pick(item), over(item)
            if committee is None or reference is None:
                return None
            if not itself and committee.cascade.stages == reference.cascade.stages:
                return None
            return self.gain(committee.cascade, reference.cascade)

        return Column(name, gain, "points")

    def gains_of(self, pairs: Sequence[tuple[Committee, Committee]]) -> list[Estimate]:
        """Return how much more accurate the second of each pair is than the first."""
        return [self.gain(each.cascade, single.cascade) for single, each in pairs]

    def mean_gain(self, some: Sequence[Cascade], over: Sequence[Cascade]) -> Estimate:
        """Return how much more accurate cascades are on average than others, paired."""
        values, others = ([self.values(c) for c in each] for each in (some, over))
        return mean_difference(values, others, self.test, self.settings.metric)

    def values(self, cascade: Cascade) -> Array:
        """Return what a cascade scores on each sample of the test split."""
        metric = self.settings.metric
        return self.once(("values", *_rule(cascade)), lambda: values_on(cascade, self.test, metric))

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """The notes on the front, and on the committee that matches its most accurate model."""
        shared = shared_warnings(self.val, self.test)
        return tuple(dict.fromkeys((*self.report.notes, *shared)))

    @cached_property
    def report(self) -> Report:
        """The report of the front."""
        return Report(self.search(), self.test)

    @property
    def text(self) -> str:
        """The pool as text: its models, architectures, tiles or views, and metric."""
        models = len(self.val.singles(self.settings.combine))
        parts = [f"{counted(models, 'model')}, {counted(len(self.architectures), 'architecture')}"]
        if self.val.layout.view_groups:
            blocks = sum(map(len, self.val.layout.view_groups.values()))
            parts.append(f"their views in {blocks} blocks, each of which counts as a model below")
        if self.val.layout.tiling:
            sizes = ", ".join(each.layout.tiling for each in self.val.divisions)
            task = self.val.task
            parts.append(f"{task.samples} divided into {task.units} of {sizes}")
        if self.measure != TOP_1.name:
            parts.append(f"accuracy is {self.measure}")
        return "; ".join(parts)

    @property
    def provenance(self) -> str:
        """The splits as text: ``chosen on val (…), evaluated on test (…)``."""
        val = self.val.samples
        chosen_on = f"{val.split} ({val.wholes:,} {self.val.task.samples})"
        return f"chosen on {chosen_on}, evaluated on {self.test_text}"

    @property
    def test_text(self) -> str:
        """The name of the test split and its size, such as ``test (600 samples)``."""
        samples = self.test.samples
        return f"{samples.split} ({samples.wholes:,} {self.val.task.samples})"

    @property
    def val_name(self) -> str:
        """The name of the validation split."""
        return self.val.samples.split

    @property
    def one_score(self) -> bool:
        """True if the pool stores one score of each sample instead of outputs."""
        return not self.val.keeps_outputs

    @property
    def measure(self) -> str:
        """The name of the metric."""
        return measure_of(self.test, self.settings.metric)


def _rule(cascade: Cascade) -> tuple[object, ...]:
    """Return the rule of a cascade, without class names and origin."""
    calibrations = tuple(sorted(cascade.calibrations.items()))
    return cascade.stages, cascade.confidence, cascade.combine, calibrations


def feasible(choose: Callable[[Target], Committee], target: Target) -> Committee | None:
    """Return the choice of a method of a front, such as ``at_most``; None if it is infeasible."""
    try:
        return choose(target)
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
    metric: Metric | None = None,
    references: Sequence[Reference] = (),
    training: Training | None = None,
) -> Study:
    """Return a study of a pool; a search runs once an analysis needs it.

    Args:
        val: The pool on the validation split.
        test: The pool on the test split.
        unit: Unit of the cost; see :meth:`committee.spec.cost.CostTable.unit` for the default.
        max_models: Most models of a committee; by default 4, fewer in a small pool, or in one of
            so many models that the search would take minutes.
        confidence: Name of the confidence function.
        combine: Name of the combination; by default the mean of the outputs.
        grid: Percentiles tried for each threshold.
        metric: What a sample scores when it exits; by default that of the pool.
        references: Models outside the pool.
        training: The training times.

    Raises:
        MisalignedError: If ``test`` holds samples of ``val``, other classes, or no labels.
        UnknownNameError: If ``test`` lacks a model, or there is no such confidence function.
        CostError: If a model has no cost in the unit.
        CascadeError: If there is no such combination, or ``max_models`` is out of range.
        ShapeError: If ``grid`` is out of range.
    """
    refuse_auto("study", combine, confidence)
    unit = val.costs.unit(unit)
    metric = metric or val.metric
    check_test_pool(val, test, metric, unit)
    most = most_models(
        _usual_most(val) if max_models is None else max_models, val.most_models, "pool"
    )
    confidence = val.confidence_or(confidence)
    # This search of single models is fast, and raises now the errors of every analysis.
    search(val, 1, confidence=confidence, combine=combine, grid=grid, unit=unit, metric=metric)
    combine = combine or DEFAULT_COMBINE[val.combined_kind]
    own = _Settings(unit, most, confidence, combine, grid, metric)
    return Study(val, test.divided_like(val).only(val.names), own, tuple(references), training)


def _usual_most(pool: Pool) -> int:
    """Return the most models of a committee for which a search takes seconds."""
    for most in range(min(_MOST_MODELS, pool.most_models), 1, -1):
        sequences = itertools.chain.from_iterable(
            every_sequence(each, most, each.families, None) for each in pool.divisions
        )
        if len(list(itertools.islice(sequences, _MOST_SEQUENCES + 1))) <= _MOST_SEQUENCES:
            return most
    return min(2, pool.most_models)
