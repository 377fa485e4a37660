"""A cascade as a classifier of scikit-learn: fitted estimators, of which later ones run if needed.

The estimators answer and :mod:`committee.rule.flow` decides, as on stored predictions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.certificates.certificate import Certificate
from committee.certificates.certify import certify
from committee.errors import (
    CascadeError,
    CostError,
    MisalignedError,
    ModelError,
    UnknownNameError,
    needing,
)
from committee.pool.evaluate import stored_decisions
from committee.pool.metrics import BALANCED, TOP_1, Metric
from committee.pool.pool import Pool
from committee.profile.measure import FEWEST, conditions, in_turns
from committee.rule.flow import Answers, Decisions, Request, decide, drive
from committee.rule.outputs import Outputs, as_array, checked_outputs
from committee.selection.exhaustive import search
from committee.selection.front import Front, SearchedRule, check_within
from committee.selection.rules import search_rules
from committee.spec.cost import Cost
from committee.text import counted, listed

with needing("CommitteeClassifier", "scikit-learn", "sklearn"):
    from sklearn.base import ClassifierMixin, MetaEstimatorMixin, clone
    from sklearn.model_selection import check_cv, cross_val_predict
    from sklearn.utils import Bunch, _safe_indexing, get_tags, indexable
    from sklearn.utils.metaestimators import _BaseComposition
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _num_samples, check_is_fitted, column_or_1d

# What fits nothing: the estimators are fitted already.
_PREFIT = "prefit"
# What scikit-learn calls an estimator that is left out.
_DROP = "drop"
_UNIT = "cost"
# Rows of the calls that are timed, calls at most, and seconds after which there are no more.
_TIMED_ROWS, _TIMED_CALLS, _TIMED_SECONDS = 1000, 50, 0.5


@dataclass(frozen=True, eq=False)
class _Member:
    """A fitted estimator; ``order`` are its columns in the order of the classes, if it differs."""

    name: str
    estimator: Any
    order: Array | None = None

    def outputs(self, rows: Any) -> Outputs:
        """Return its probabilities for some rows, in the order of the classes."""
        values = as_array(self._where, self.estimator.predict_proba(rows))
        if values.ndim == 2 and self.order is not None:
            values = values[:, self.order]
        return checked_outputs(self._where, "probabilities", values)

    @property
    def _where(self) -> str:
        return f"estimator {self.name!r}"


class _Kept(list[Any]):
    """Fitted estimators, which scikit-learn would clone without what they learnt."""

    def __sklearn_clone__(self) -> _Kept:
        return self


class CommitteeClassifier(MetaEstimatorMixin, ClassifierMixin, _BaseComposition):
    """The cheapest cascade of classifiers that is as accurate as one of them.

    ``fit`` chooses the cascade on rows that no estimator was fitted on. Later estimators are then
    called only for rows on which the earlier ones are not sure.

    Args:
        estimators: Pairs of a name and an estimator with ``predict_proba``. One that is ``"drop"``
            is left out.
        costs: What one row costs in each estimator: by name, or in the order of the estimators. A
            :class:`~committee.Cost` has a unit too. If left out, the time of ``predict_proba`` is
            measured; it differs from run to run, and the choice may.
        match: Name of the estimator to be as accurate as; by default the one that costs most.
        within: How much less accurate it may be, a share of 1.
        level: The chance that this holds on new rows: the cascade is certified. None for no
            certificate.
        scoring: What it is to be as good in: ``"accuracy"``, ``"balanced_accuracy"``, in which each
            class counts alike, or a :class:`~committee.Metric`. A certificate needs one that counts
            rows.
        cv: ``"prefit"`` if the estimators are fitted. Else ``fit`` fits them on all rows and
            chooses on predictions out of folds: a number of folds or a splitter, as scikit-learn
            takes it. Such rows certify nothing.

    Attributes:
        classes_: The classes, sorted.
        estimators_: The fitted estimators, in their order.
        named_estimators_: The same by name.
        cascade_: The cascade; its ``save`` writes a file.
        certificate_: What is certain on new rows; None without a level.
        front_: All committees that no other beats, with the predictions that chose them.
        costs_: What one row costs in each estimator, with unit and conditions, by name.
        stages_: The stage at which each row of ``fit`` exits, from 0, shape (n_samples,).
        n_evaluations_: For how many rows of ``fit`` the cascade needs each estimator, by name.
        n_features_in_: Number of features, if the estimators know it.
        feature_names_in_: Names of the features, if the estimators know them.
    """

    def __init__(
        self,
        estimators: Sequence[tuple[str, Any]],
        *,
        costs: Mapping[str, float | Cost] | Sequence[float | Cost] | None = None,
        match: str | None = None,
        within: float = 0.005,
        level: float | None = None,
        scoring: str | Metric = "accuracy",
        cv: Any = _PREFIT,
    ) -> None:
        self.estimators = estimators
        self.costs = costs
        self.match = match
        self.within = within
        self.level = level
        self.scoring = scoring
        self.cv = cv

    def fit(self, X: Any, y: Any) -> CommitteeClassifier:
        """Choose the cascade on held-out rows.

        Args:
            X: Rows as the estimators take them: an array, a table, a sparse matrix, or a list.
            y: The class of each row.

        Raises:
            CascadeError: If parameters contradict each other.
            MisalignedError: If estimators know other classes than each other or ``y``.
            ModelError: If an estimator is not fitted or has no ``predict_proba``.
            CostError, UnknownNameError: If an estimator has no cost, or a name is unknown.
        """
        named = self._named()
        self._check_parameters(named)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        X, y = indexable(X, y)
        if self._is_prefit:
            members = _members(named)
            outputs = {name: own.outputs(X).values for name, own in members.items()}
        else:
            outputs = self._out_of_folds(named, X, y)
            fitted = {name: clone(each).fit(X, y) for name, each in named.items()}
            members = _members(fitted)
            _check_sorted(members)
        classes = _classes_of(next(iter(named)), next(iter(members.values())).estimator)[0]
        costs = self._given_costs(named) or _measured(members, X)
        pool = Pool.from_arrays(
            _indices(y, classes), outputs, kind="probabilities", costs=costs, unit=_UNIT,
            classes=[str(name) for name in classes.tolist()],
        )  # fmt: skip
        self._choose(pool, _metric(self.scoring))
        self.classes_ = classes
        self._keep(members)
        return self

    def predict(self, X: Any) -> Array:
        """Return the class of each row, shape (n_samples,)."""
        predicted = self._decide(X).predicted
        named: Array = self.classes_[predicted]
        return named

    def predict_proba(self, X: Any) -> Array:
        """Return what the estimators that ran for a row give together, (n_samples, n_classes)."""
        values = self._decide(X).values
        assert values is not None
        return values

    def decision_path(self, X: Any) -> Array:
        """Return which estimators run for each row, (n_samples, n_estimators), True or False."""
        return self._ran(self._decide(X).stage)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, with ``deep`` the estimators by name too.

        Parameters of the estimators are among them unless these are fitted already.
        """
        params: dict[str, Any] = self._get_params("estimators", deep=deep)
        if self._is_prefit:
            return {name: value for name, value in params.items() if "__" not in name}
        return params

    def set_params(self, **params: Any) -> CommitteeClassifier:
        """Set parameters; an estimator is set or dropped by its name.

        Raises:
            CascadeError: If one is a parameter of an estimator that is fitted already.
        """
        inner = next((name for name in params if "__" in name), None)
        if inner is not None and isinstance(params.get("cv", self.cv), str):
            name = inner.partition("__")[0]
            raise CascadeError(
                f"CommitteeClassifier: {inner}: {name!r} is fitted, so this would change nothing. "
                "Set cv=5 to fit the estimators here"
            )
        self._set_params("estimators", **params)
        return self

    @property
    def named_estimators(self) -> Any:
        """The estimators as they were given, by name."""
        return Bunch(**dict(self.estimators))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "cascade_")

    def __sklearn_clone__(self) -> Any:
        if not self._is_prefit:
            return super().__sklearn_clone__()
        own = copy(self)
        own.estimators = _Kept(self.estimators)
        cloned = super(CommitteeClassifier, own).__sklearn_clone__()
        cloned.estimators = self.estimators
        return cloned

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        try:
            own = [get_tags(each) for each in self._named().values()]
        except Exception:  # what is no estimator of scikit-learn says nothing of itself
            return tags
        tags.input_tags.sparse = all(each.input_tags.sparse for each in own)
        tags.input_tags.allow_nan = all(each.input_tags.allow_nan for each in own)
        return tags

    @property
    def _is_prefit(self) -> bool:
        return isinstance(self.cv, str) and self.cv == _PREFIT

    def _named(self) -> dict[str, Any]:
        """Return the estimators that are not dropped, by name."""
        try:
            pairs = [(name, estimator) for name, estimator in self.estimators]
        except (TypeError, ValueError):
            pairs = []
        if not pairs or not all(isinstance(name, str) for name, _ in pairs):
            raise CascadeError(
                "CommitteeClassifier: estimators must be a list of names and estimators: "
                '[("small", small), ("large", large)]'
            )
        self._validate_names([name for name, _ in pairs])
        named = {n: e for n, e in pairs if not (isinstance(e, str) and e == _DROP)}
        if not named:
            raise CascadeError("CommitteeClassifier: every estimator is dropped; leave one in")
        return named

    def _check_parameters(self, named: Mapping[str, Any]) -> None:
        check_within(self.within, "CommitteeClassifier: within")
        if self.match is not None and self.match not in named:
            raise UnknownNameError.of("CommitteeClassifier: match", "estimator", self.match, named)
        if self.level is not None and not self._is_prefit:
            raise CascadeError(
                "CommitteeClassifier: level: rows on which the estimators are fitted certify "
                'nothing. Fit the estimators on other rows, and take cv="prefit"'
            )
        for name, estimator in named.items():
            if isinstance(estimator, type):
                raise ModelError(f"estimator {name!r}: is a class; give {estimator.__name__}()")
            if not hasattr(estimator, "predict_proba"):
                raise ModelError(
                    f"estimator {name!r}: {type(estimator).__name__} has no predict_proba. To a "
                    "classifier, sklearn.calibration.CalibratedClassifierCV adds one"
                )

    def _out_of_folds(self, named: Mapping[str, Any], X: Any, y: Any) -> dict[str, Array]:
        """Return the probabilities of each row by estimators that were fitted without it."""
        folds = check_cv(self.cv, y, classifier=True)
        return {
            name: cross_val_predict(clone(each), X, y, cv=folds, method="predict_proba")
            for name, each in named.items()
        }

    def _given_costs(self, named: Mapping[str, Any]) -> dict[str, float | Cost] | None:
        """Return the costs that the user gave, by name; None if none were given."""
        if self.costs is None:
            return None
        count = len(self.costs) if hasattr(self.costs, "__len__") else 1
        if hasattr(self.costs, "keys"):  # a Series of pandas has them too
            given = dict(self.costs)
            every = [name for name, _ in self.estimators]
            for name in given:
                if name not in every:
                    where = "CommitteeClassifier: costs"
                    raise UnknownNameError.of(where, "estimator", name, every)
        elif count == len(self.estimators):
            names = (name for name, _ in self.estimators)
            given = dict(zip(names, self.costs, strict=True))
        else:
            raise CostError(
                f"CommitteeClassifier: costs: {counted(count, 'cost')} for "
                f"{counted(len(self.estimators), 'estimator')}; give one each"
            )
        lacking = [name for name in named if name not in given]
        if lacking:
            raise CostError(f"CommitteeClassifier: costs: none for {listed(lacking)}; give all")
        units = {own.unit if isinstance(own, Cost) else _UNIT for own in given.values()}
        if len(units) > 1:
            raise CostError(
                f"CommitteeClassifier: costs: in {listed(sorted(units))}; take one unit"
            )
        return {name: given[name] for name in named}

    def _choose(self, pool: Pool, metric: Metric) -> None:
        """Choose the cascade, and keep what the choice rests on."""
        costs = pool.costs.values(pool.costs.unit())
        match = self.match or max(costs, key=lambda name: costs[name])
        self.front_ = _front(pool, metric)
        self.certificate_: Certificate | None = None
        if self.level is None:
            self.cascade_ = self.front_.matching(match, self.within).cascade
        else:
            promise = certify(
                pool, match=match, within=self.within, level=self.level, metric=metric
            )
            self.cascade_, self.certificate_ = promise.cascade, promise.certificate
        self.costs_ = {n: own[pool.costs.unit()] for n, own in pool.costs.costs.items()}
        self.stages_ = stored_decisions(self.cascade_, pool).stage

    def _keep(self, members: dict[str, _Member]) -> None:
        """Keep the fitted estimators and what they know of the features."""
        self._members = members
        self.named_estimators_ = Bunch(**{name: own.estimator for name, own in members.items()})
        self.estimators_ = list(self.named_estimators_.values())
        for known in ("n_features_in_", "feature_names_in_"):
            for estimator in self.estimators_:
                if hasattr(estimator, known):
                    setattr(self, known, getattr(estimator, known))
                    break
        needed = self._ran(self.stages_).sum(axis=0).tolist()
        self.n_evaluations_ = dict(zip(members, needed, strict=True))

    def _ran(self, stages: Array) -> Array:
        """Return which estimators run for rows that exit at some stages, (N, n_estimators)."""
        first = {n: k for k, stage in enumerate(self.cascade_.stages) for n in stage.models}
        never = len(self.cascade_.stages)
        ran: Array = stages[:, None] >= [first.get(name, never) for name in self._members]
        return ran

    def _decide(self, X: Any) -> Decisions:
        check_is_fitted(self)
        (X,) = indexable(X)
        count = _num_samples(X)

        def answer(request: Request) -> Answers:
            rows = X if len(request.rows) == count else _safe_indexing(X, request.rows)
            return {name: self._members[name].outputs(rows) for name in request.models}

        return drive(decide(self.cascade_, count, keep_values=True), answer)


def _members(fitted: Mapping[str, Any]) -> dict[str, _Member]:
    """Return fitted estimators with the order of their columns, by name."""
    members: dict[str, _Member] = {}
    first: tuple[str, Array] | None = None
    for name, estimator in fitted.items():
        classes, order = _classes_of(name, estimator)
        first = first or (name, classes)
        if not np.array_equal(classes, first[1]):
            one, two = first[1].tolist(), classes.tolist()
            raise MisalignedError(
                f"estimator {name!r} knows {len(two)} classes, {first[0]!r} {len(one)}; "
                f"{listed([each for each in [*one, *two] if (each in one) != (each in two)])} "
                "are known to one only. Fit both on the same classes"
            )
        sorted_already = (np.diff(order) > 0).all()
        members[name] = _Member(name, estimator, None if sorted_already else order)
    return members


def _check_sorted(members: Mapping[str, _Member]) -> None:
    """Refuse classes that are not sorted: scikit-learn does not say how each fold had them."""
    for name, own in members.items():
        if own.order is not None:
            raise MisalignedError(
                f"estimator {name!r}: its classes_ are not sorted, so predictions out of folds "
                'have no known order. Fit it on other rows, and take cv="prefit"'
            )


def _classes_of(name: str, estimator: Any) -> tuple[Array, Array]:
    """Return the sorted classes of an estimator, and the place of each among its own."""
    known = getattr(estimator, "classes_", None)
    if known is None:
        raise ModelError(
            f"estimator {name!r}: {type(estimator).__name__} has no classes_: it is not fitted, or "
            "not scikit-learn's. Fit it on other rows than these, or take cv=5 to fit it here"
        )
    if isinstance(known, list):
        raise ModelError(
            f"estimator {name!r}: predicts several labels of a row; a committee decides on one"
        )
    classes, order = np.unique(known, return_index=True)
    return classes, order


def _indices(y: Array, classes: Array) -> Array:
    """Return the index of each label among the sorted classes."""
    known = np.isin(y, classes)
    if not known.all():
        raise MisalignedError(
            f"CommitteeClassifier: y holds {listed(np.unique(y[~known]).tolist())}; the estimators "
            f"know {listed(classes.tolist())}. Give labels as the estimators were fitted on them"
        )
    return np.searchsorted(classes, y)


def _metric(scoring: str | Metric) -> Metric:
    """Return what each row scores if it is answered correctly."""
    if isinstance(scoring, Metric):
        return scoring
    known = {"accuracy": TOP_1, "balanced_accuracy": BALANCED}
    if scoring not in known:
        raise UnknownNameError.of("CommitteeClassifier: scoring", "score", str(scoring), known)
    return known[scoring]


def _front(pool: Pool, metric: Metric) -> Front:
    """Return the front under the rules that certificates try: the mean, and the last estimator."""
    rules = [SearchedRule(combine, "max_prob") for combine in ("mean_probabilities", "last")]

    def search_one(own: Pool, combine: str, _: str) -> Front:
        return search(own, combine=combine, metric=metric)

    return search_rules(pool, rules, search_one)


def _measured(members: Mapping[str, _Member], X: Any) -> dict[str, Cost]:
    """Return the time of ``predict_proba`` for one row of many, estimators taking turns."""
    count = min(_num_samples(X), _TIMED_ROWS)
    rows = _safe_indexing(X, np.arange(count))
    calls: list[Callable[[Any], Any]] = [own.estimator.predict_proba for own in members.values()]
    taken: list[list[float]] = []
    end = time.perf_counter() + _TIMED_SECONDS
    for turn in in_turns(calls, [rows] * _TIMED_CALLS):
        taken.append([ms for _, ms in turn])
        if len(taken) >= FEWEST and time.perf_counter() > end:
            break
    each = np.median(taken, axis=0) / count
    where, detail = conditions(0, count), f"median of {len(taken)} calls of predict_proba"
    return {
        name: Cost(ms, "ms_per_sample", "measured", where, detail)
        for name, ms in zip(members, each.tolist(), strict=True)
    }
