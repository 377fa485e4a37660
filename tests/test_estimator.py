"""CommitteeClassifier: scikit-learn's own checks, and that it decides as stored predictions do."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")

import pandas as pd
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import estimator_checks_generator

import committee as cm
from committee import CommitteeClassifier
from committee.errors import CommitteeError, MissingExtraError
from committee.pool.evaluate import stored_decisions

# These call fit on data of their own, which no estimator that was fitted before can know.
_FIT = "a fitted estimator knows its own features and classes, not those of the check"
PREFIT = {
    "check_estimators_empty_data_messages": "no estimator that is fitted here refuses no rows",
    "check_classifiers_one_label": "an estimator that knows more classes takes rows of one",
    "check_fit_score_takes_y": _FIT,
    "check_estimators_overwrite_params": _FIT,
    "check_dont_overwrite_parameters": _FIT,
    "check_estimators_fit_returns_self": _FIT,
    "check_readonly_memmap_input": _FIT,
    "check_n_features_in_after_fitting": _FIT,
    "check_positive_only_tag_during_fit": _FIT,
    "check_estimators_dtypes": _FIT,
    "check_dtype_object": _FIT,
    "check_pipeline_consistency": _FIT,
    "check_estimators_nan_inf": _FIT,
    "check_estimator_sparse_tag": _FIT,
    "check_estimator_sparse_array": _FIT,
    "check_estimator_sparse_matrix": _FIT,
    "check_estimators_pickle": _FIT,
    "check_f_contiguous_array_estimator": _FIT,
    "check_classifier_data_not_an_array": _FIT,
    "check_classifiers_classes": _FIT,
    "check_classifiers_train": _FIT,
    "check_supervised_y_2d": _FIT,
    "check_methods_sample_order_invariance": _FIT,
    "check_methods_subset_invariance": _FIT,
    "check_fit2d_1sample": _FIT,
    "check_fit2d_1feature": _FIT,
    "check_dict_unchanged": _FIT,
    "check_fit_idempotent": _FIT,
    "check_fit_check_is_fitted": _FIT,
    "check_n_features_in": _FIT,
    "check_fit1d": _FIT,
    "check_fit2d_predict1d": _FIT,
}


def members() -> list[tuple[str, Any]]:
    return [("small", GaussianNB()), ("large", DecisionTreeClassifier(random_state=0))]


def checks() -> Iterator[Any]:
    for cv, cannot in ((3, {}), ("prefit", PREFIT)):
        own = CommitteeClassifier(members(), costs=[1, 10], cv=cv)
        for each in estimator_checks_generator(own, expected_failed_checks=cannot, mark="skip"):
            marks = getattr(each, "marks", ())
            estimator, check = each.values if marks else each
            name = f"{cv}-{getattr(check, 'func', check).__name__}"
            yield pytest.param(estimator, check, marks=marks, id=name)


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
@pytest.mark.filterwarnings("ignore")
def test_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


CLASSES = np.array(["cat", "dog", "emu"])
X, labels = make_classification(3000, 20, n_informative=10, n_classes=3, random_state=0)
Y = CLASSES[labels]
TRAIN, VAL, TEST = slice(0, 1000), slice(1000, 2000), slice(2000, None)
SMALL = GaussianNB().fit(X[TRAIN], Y[TRAIN])
LARGE = RandomForestClassifier(20, random_state=0).fit(X[TRAIN], Y[TRAIN])
COSTS = (1, 10)


def committee(small: Any = SMALL, large: Any = LARGE, **options: Any) -> CommitteeClassifier:
    return CommitteeClassifier([("small", small), ("large", large)], **{"costs": COSTS} | options)


@pytest.fixture(scope="module")
def fitted() -> CommitteeClassifier:
    own = committee(within=0.01).fit(X[VAL], Y[VAL])
    assert str(own.cascade_) == "small -> large"
    return own


class Asked:
    """A fitted estimator of any library that remembers the rows it was asked for."""

    def __init__(self, estimator: Any, order: Any = slice(None)) -> None:
        self.estimator, self.order = estimator, order
        self.classes_ = estimator.classes_[order]
        self.rows: list[Any] = []

    def predict_proba(self, rows: Any) -> Any:
        self.rows.append(rows)
        return self.estimator.predict_proba(rows)[:, self.order]


def test_it_decides_as_stored_predictions_do(fitted: CommitteeClassifier) -> None:
    outputs = {"small": SMALL.predict_proba(X[TEST]), "large": LARGE.predict_proba(X[TEST])}
    costs = dict(zip(outputs, COSTS, strict=True))
    pool = cm.Pool.from_arrays(
        labels[TEST], outputs, kind="probabilities", costs=costs, split="test"
    )
    stored = stored_decisions(fitted.cascade_, pool)
    assert (fitted.predict(X[TEST]) == CLASSES[stored.predicted]).all()
    ran = fitted.decision_path(X[TEST])
    assert (ran.sum(axis=1) == stored.stage + 1).all()
    evaluation = cm.evaluate(fitted.cascade_, pool)
    assert fitted.score(X[TEST], Y[TEST]) == evaluation.accuracy
    assert (ran @ COSTS).mean() == pytest.approx(evaluation.average_cost)


def test_it_decides_as_the_runner_of_functions_does(fitted: CommitteeClassifier) -> None:
    def function(estimator: Any) -> Any:
        return lambda row: estimator.predict_proba(row[None])[0]

    functions = {name: function(own) for name, own in fitted.named_estimators_.items()}
    run = cm.Runner(fitted.cascade_, models=functions)
    answers = [run(row) for row in X[2000:2100]]
    assert [each.class_name for each in answers] == fitted.predict(X[2000:2100]).tolist()
    ran = fitted.decision_path(X[2000:2100])
    assert [each.stage for each in answers] == (ran.sum(axis=1) - 1).tolist()


def test_later_estimators_see_only_rows_that_need_them() -> None:
    large = Asked(LARGE)
    own = committee(large=large, within=0.01).fit(X[VAL], Y[VAL])
    large.rows.clear()
    own.predict(X[TEST])
    needed = own.decision_path(X[TEST])[:, 1]
    assert 0 < needed.sum() < 1000
    np.testing.assert_array_equal(large.rows[0], X[TEST][needed])


def test_probabilities_are_those_of_the_answer(fitted: CommitteeClassifier) -> None:
    given = fitted.predict_proba(X[TEST])
    np.testing.assert_allclose(given.sum(axis=1), 1)
    assert (CLASSES[given.argmax(axis=1)] == fitted.predict(X[TEST])).all()
    first = fitted.decision_path(X[TEST]).sum(axis=1) == 1
    np.testing.assert_array_equal(given[first], SMALL.predict_proba(X[TEST])[first])


def test_what_fit_says(fitted: CommitteeClassifier) -> None:
    assert fitted.classes_.tolist() == CLASSES.tolist()
    assert fitted.estimators_ == [SMALL, LARGE]
    assert fitted.certificate_ is None
    assert fitted.costs_["large"] == cm.Cost(10, "cost")
    assert fitted.stages_.shape == (1000,)
    assert fitted.n_evaluations_ == {"small": 1000, "large": int((fitted.stages_ == 1).sum())}
    assert (fitted.decision_path(X[VAL]).sum(axis=0) == [*fitted.n_evaluations_.values()]).all()
    assert fitted.cascade_ == fitted.front_.matching("large", 0.01).cascade
    assert fitted.n_features_in_ == 20


def test_it_matches_the_dearest_estimator_unless_told() -> None:
    fronts = [
        committee(within=0, **options).fit(X[VAL], Y[VAL])
        for options in ({}, {"match": "large"}, {"match": "small"}, {"costs": (10, 1)})
    ]
    assert fronts[0].cascade_ == fronts[1].cascade_
    assert fronts[2].cascade_.names == ("small",)
    # The dearest is the least accurate; the cheaper one alone is better.
    assert fronts[3].cascade_.names == ("large",)


def test_classes_in_another_order_are_reordered(fitted: CommitteeClassifier) -> None:
    own = committee(large=Asked(LARGE, [2, 0, 1]), within=0.01).fit(X[VAL], Y[VAL])
    np.testing.assert_array_equal(own.predict_proba(X[TEST]), fitted.predict_proba(X[TEST]))


def test_a_certificate_is_that_of_certify() -> None:
    own = committee(within=0.03, level=0.9).fit(X[VAL], Y[VAL])
    pool = own.front_.pool
    promise = cm.certify(pool, match="large", within=0.03, level=0.9)
    assert own.cascade_ == promise.cascade
    assert own.certificate_.text == promise.certificate.text
    assert own.cascade_.is_certified
    assert own.cascade_.kind == "cascade"
    assert own.score(X[TEST], Y[TEST]) > LARGE.score(X[TEST], Y[TEST]) - 0.03


@pytest.mark.parametrize(
    "costs",
    [
        {"large": 10, "small": 1},
        np.array([1, 10]),
        pd.Series({"large": 10, "small": 1}),
        [cm.Cost(1, "dollars"), cm.Cost(10, "dollars")],
    ],
)
def test_costs_are_given_by_name_or_in_order(costs: Any) -> None:
    own = committee(costs=costs).fit(X[VAL], Y[VAL])
    assert [own.costs_[name].value for name in ("small", "large")] == [1, 10]


def test_costs_that_are_not_given_are_measured_and_say_how() -> None:
    own = committee(costs=None).fit(X[VAL], Y[VAL])
    assert 0 < own.costs_["small"].value < own.costs_["large"].value
    assert own.costs_["small"].unit == "ms_per_sample"
    assert own.costs_["small"].source == "measured"
    assert own.costs_["large"].conditions.endswith("batch 1000")


def test_a_clone_has_the_same_fitted_estimators_and_is_not_fitted() -> None:
    own = clone(clone(committee().fit(X[VAL], Y[VAL])))
    assert own.estimators[1][1] is LARGE
    with pytest.raises(NotFittedError):
        own.predict(X)
    assert own.fit(X[VAL], Y[VAL]).score(X[TEST], Y[TEST]) > 0.8
    assert clone(committee(cv=3)).estimators[1][1] is not LARGE


def test_a_pickle_decides_alike(fitted: CommitteeClassifier) -> None:
    copied = pickle.loads(pickle.dumps(fitted))  # written here
    np.testing.assert_array_equal(copied.predict_proba(X[TEST]), fitted.predict_proba(X[TEST]))


def test_it_sits_where_classifiers_do(fitted: CommitteeClassifier) -> None:
    assert cross_val_score(committee(), X[VAL], Y[VAL], cv=3).min() > 0.75
    found = GridSearchCV(committee(), {"within": [0.0, 0.3]}, cv=3).fit(X[VAL], Y[VAL])
    assert found.best_params_ == {"within": 0.0}
    scaled = make_pipeline(StandardScaler(), committee(cv=3)).fit(X[VAL], Y[VAL])
    assert scaled.score(X[TEST], Y[TEST]) > 0.75
    inner = GridSearchCV(committee(cv=2), {"large__max_depth": [1, None]}, cv=2)
    assert inner.fit(X[VAL], Y[VAL]).score(X[TEST], Y[TEST]) > 0.7
    assert CalibratedClassifierCV(FrozenEstimator(fitted)).fit(X[VAL], Y[VAL]).score(X, Y) > 0.75


def test_each_class_counts_alike_where_that_is_asked_for() -> None:
    own = committee(within=0.02, scoring="balanced_accuracy").fit(X[VAL], Y[VAL])
    expected = balanced_accuracy_score(Y[VAL], LARGE.predict(X[VAL]))
    front = own.front_
    assert front.settings.metric.name == "balanced accuracy"
    alone = cm.evaluate(front.alone("large"), front.pool, metric=front.settings.metric)
    assert alone.accuracy == pytest.approx(expected)
    chosen = cm.evaluate(own.cascade_, front.pool, metric=front.settings.metric)
    assert expected - 0.02 <= chosen.accuracy < expected
    top = committee(scoring=cm.top_k(2), level=0.9, within=0.05).fit(X[VAL], Y[VAL])
    assert "by top-2" in top.certificate_.text


def test_a_threshold_is_tuned_on_top_of_it() -> None:
    rare = labels == 1
    small, large = (clone(each).fit(X[TRAIN], rare[TRAIN]) for each in (SMALL, LARGE))
    own = committee(small, large, within=0.02).fit(X[VAL], rare[VAL])
    tuned = TunedThresholdClassifierCV(FrozenEstimator(own), cv="prefit", refit=False)
    tuned.fit(X[VAL], rare[VAL])
    assert tuned.predict(X[TEST]).sum() > own.predict(X[TEST]).sum()


def test_parameters_of_estimators_are_set_only_where_they_are_fitted() -> None:
    own = committee()
    assert own.set_params(**own.get_params()).get_params() == own.get_params()
    assert "large__n_estimators" not in own.get_params()
    with pytest.raises(CommitteeError, match=r"'large' is fitted, so this would change nothing"):
        own.set_params(large__n_estimators=3)
    own.set_params(cv=3, large__n_estimators=3)
    assert own.get_params()["large__n_estimators"] == 3
    own.set_params(large__n_estimators=20)
    assert own.named_estimators.large is LARGE


def test_an_estimator_is_dropped() -> None:
    own = committee().set_params(large="drop").fit(X[VAL], Y[VAL])
    assert own.cascade_.names == ("small",)
    assert own.costs_.keys() == own.named_estimators_.keys() == {"small"}


def test_folds_choose_and_all_rows_fit() -> None:
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    own = committee(cv=folds, within=0.02).fit(X[VAL], Y[VAL])
    assert own.estimators_[1] is not LARGE
    expected = clone(LARGE).fit(X[VAL], Y[VAL]).predict_proba(X[TEST])
    np.testing.assert_array_equal(own.estimators_[1].predict_proba(X[TEST]), expected)
    # Rows that an estimator was fitted on would be all right.
    assert own.front_.matching("large").evaluation.accuracy < 0.95


def rows_of(kind: str) -> Any:
    if kind == "table":
        return pd.DataFrame(X, columns=[f"f{i}" for i in range(20)], index=range(100, 3100))
    if kind == "list":
        return X.tolist()
    if kind == "coo":
        return sparse.coo_array(X)
    return [" ".join(f"w{i}" for i in np.flatnonzero(row > 0)) for row in X]


@pytest.mark.parametrize("kind", ["table", "list", "coo", "texts"])
def test_rows_of_every_form_that_the_estimators_take(kind: str) -> None:
    rows = rows_of(kind)
    if kind == "texts":
        ends: Any = (make_pipeline(CountVectorizer(), each) for each in (MultinomialNB(), LARGE))
    else:
        ends = (DecisionTreeClassifier(max_depth=5) if kind == "coo" else SMALL, LARGE)

    def some(part: slice) -> Any:
        return rows.tocsr()[part].tocoo() if kind == "coo" else rows[part]

    small, large = (clone(each).fit(some(TRAIN), Y[TRAIN]) for each in ends)
    own = committee(small, large, within=0.03).fit(some(VAL), Y[VAL])
    assert own.cascade_.kind == "cascade"
    assert own.score(some(TEST), Y[TEST]) > 0.6
    if kind == "table":
        assert own.feature_names_in_[0] == "f0"


OTHER = GaussianNB().fit(X[TRAIN][Y[TRAIN] != "emu"], Y[TRAIN][Y[TRAIN] != "emu"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"match": "lrge"}, "match: no estimator 'lrge'. Did you mean 'large'?"),
        ({"within": 5}, "within 5: it is a share, from 0"),
        ({"level": 95}, "level 95 must lie between 0.5 and 0.999999"),
        ({"level": 0.95, "cv": 3}, "rows on which the estimators are fitted certify nothing"),
        ({"scoring": "f1"}, "scoring: no score 'f1'"),
        ({"scoring": "balanced_accuracy", "level": 0.9}, "certificates need 1 or 0"),
        ({"level": "high"}, "level 'high' must lie between"),
        ({"costs": [1]}, "costs: 1 cost for 2 estimators; give one each"),
        ({"costs": 3}, "costs: 1 cost for 2 estimators; give one each"),
        ({"costs": {"small": 1}}, "costs: none for 'large'"),
        ({"costs": {"small": 1, "larg": 2}}, "costs: no estimator 'larg'. Did you mean 'large'?"),
        ({"costs": [cm.Cost(1, "dollars"), 2]}, "costs: in 'cost', 'dollars'; take one unit"),
        ({"costs": [1, -2]}, "must be finite and not negative"),
        ({"small": OTHER}, "'large' knows 3 classes, 'small' 2; 'emu' are known to one only"),
        ({"small": GaussianNB()}, "'small': GaussianNB has no classes_: it is not fitted"),
        ({"small": GaussianNB}, "'small': is a class; give GaussianNB()"),
        ({"small": LinearSVC()}, "LinearSVC has no predict_proba. To a classifier, sklearn.cal"),
        ({"small": RandomForestRegressor()}, "RandomForestRegressor has no predict_proba"),
        ({"estimators": [SMALL, LARGE]}, "must be a list of names and estimators: [("),
        ({"estimators": [("a", "drop")]}, "every estimator is dropped"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options: dict[str, Any], told: str) -> None:
    own = committee(**{k: v for k, v in options.items() if k != "estimators"})
    own.set_params(**{k: v for k, v in options.items() if k == "estimators"})
    with pytest.raises(CommitteeError) as error:
        own.fit(X[VAL], Y[VAL])
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_labels_that_the_estimators_do_not_know_are_refused() -> None:
    with pytest.raises(CommitteeError, match=r"y holds '0', '1', '2'; the estimators know 'cat'"):
        committee().fit(X[VAL], labels[VAL])


class Unsorted(DecisionTreeClassifier):
    """Its columns are in the order from the last class to the first."""

    def fit(self, x: Any, y: Any) -> Unsorted:
        super().fit(x, y)
        self.classes_ = self.classes_[::-1]
        return self

    def predict_proba(self, x: Any) -> Any:
        return super().predict_proba(x)[:, ::-1]


def test_folds_with_classes_in_another_order_are_refused() -> None:
    with pytest.raises(CommitteeError, match="'small': its classes_ are not sorted"):
        committee(small=Unsorted(max_depth=2), cv=3).fit(X[VAL], Y[VAL])


def test_several_labels_of_a_row_are_refused() -> None:
    several = RandomForestClassifier(2).fit(X[TRAIN], np.eye(3)[labels[TRAIN]])
    with pytest.raises(CommitteeError, match="predicts several labels of a row"):
        committee(large=several).fit(X[VAL], Y[VAL])


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "CommitteeClassifier" in dir(cm)
    monkeypatch.delitem(sys.modules, "committee.run.estimator")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(MissingExtraError, match='pip install "scikit-learn'):
        _ = cm.CommitteeClassifier
