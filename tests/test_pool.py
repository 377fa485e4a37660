"""Pools: what does not fit together is refused in one line that names the culprit."""

from __future__ import annotations

import numpy as np
import pytest

from committee import Cost, Pool, errors
from committee.pool.samples import Samples
from committee.spec.cost import CostTable

Z = [[2.0, 0.0], [0.0, 1.0]]
P = [[0.5, 0.5], [0.25, 0.75]]


def build(labels=(0, 1), outputs=None, kind="logits", **options) -> Pool:
    outputs = {"a": Z} if outputs is None else outputs
    return Pool.from_arrays(labels, outputs, kind=kind, **options)


BAD_POOLS = {
    "longer labels": ({"labels": [0, 1, 1]}, errors.MisalignedError, "3, 'a' has 2"),
    "labels of two dimensions": ({"labels": [[0, 1]]}, errors.ShapeError, r"labels .*\(1, 2\)"),
    "labels that are no indices": (
        {"labels": [0.5, 1]},
        errors.MisalignedError,
        "labels: .*'0.5' is no index",
    ),
    "negative labels": (
        {"labels": [0, -1]},
        errors.ShapeError,
        "1 of 2 samples have no label, rows '1'",
    ),
    "labels beyond classes": ({"labels": [0, 2]}, errors.MisalignedError, "labels go up to 2"),
    "labels beyond names": (
        {"labels": [0, 2], "classes": ["x", "y"]},
        errors.ShapeError,
        "sample '1' has label 2, but classes 0 to 1 are named",
    ),
    "more names than classes": (
        {"classes": ["x", "y", "z"]},
        errors.MisalignedError,
        "3 classes are named, but outputs have 2",
    ),
    "fewer ids": ({"ids": ["x"]}, errors.MisalignedError, "'val': 1 ids but 2 labels"),
    "an id twice": ({"ids": ["x", "x"]}, errors.MisalignedError, "id 'x' stands twice"),
    "a shorter model": (
        {"outputs": {"a": Z, "b": Z[:1]}},
        errors.MisalignedError,
        "'val' has 2, 'b' has 1",
    ),
    "a model of other classes": (
        {"outputs": {"a": Z, "b": [[1.0], [1.0]]}},
        errors.MisalignedError,
        "number of classes: 'a' has 2, 'b' has 1",
    ),
    "no model": ({"labels": None, "outputs": {}}, errors.MisalignedError, "no model"),
    "NaN": (
        {"outputs": {"a": Z, "b": [[0.0, 1.0], [np.nan, 0.0]]}},
        errors.NotFiniteError,
        "'b': NaN or infinite outputs, first at sample 1 ",
    ),
    "infinity": (
        {"outputs": {"a": [[np.inf, 0.0], [0.0, 0.0]]}},
        errors.NotFiniteError,
        "'a': NaN or infinite outputs, first at sample 0 ",
    ),
    "all classes masked": (
        {"outputs": {"a": [[0.0, -np.inf], [-np.inf, -np.inf]]}},
        errors.NotFiniteError,
        "first at sample 1 .*-inf may mask some classes",
    ),
    "one dimension": ({"outputs": {"a": [1.0, 2.0]}}, errors.ShapeError, r"'a': .* not \(2,\)"),
    "no classes": ({"outputs": {"a": np.ones((2, 0))}}, errors.ShapeError, r"'a': .*\(2, 0\)"),
    "ragged rows": ({"outputs": {"a": [[1.0], [1.0, 2.0]]}}, errors.ShapeError, "'a': rows must"),
    "text": ({"outputs": {"a": [["x"], ["y"]]}}, errors.ShapeError, "'a': .* real numbers"),
    "complex": ({"outputs": {"a": np.array(Z) * 1j}}, errors.ShapeError, "'a': .* real numbers"),
    "logits said to be probabilities": (
        {"outputs": {"a": Z}, "kind": "probabilities"},
        errors.ShapeError,
        r"'a': sample 0 is no probability distribution \(sum 2",
    ),
    "negative probabilities": (
        {"outputs": {"a": [[0.5, 0.5], [1.5, -0.5]]}, "kind": "probabilities"},
        errors.ShapeError,
        r"'a': sample 1 is no probability distribution \(sum 1, least -0.5\)",
    ),
    "unknown kind": ({"kind": "logit"}, errors.UnknownNameError, "Did you mean 'logits'"),
    "cost of an unknown model": (
        {"costs": {"b": 1}},
        errors.UnknownNameError,
        "costs: no model 'b'",
    ),
    "cost without a unit": ({"costs": {"a": 1}, "unit": ""}, errors.CostError, "has no unit"),
    "negative cost": ({"costs": {"a": -1}}, errors.CostError, "-1.0 macs must be finite"),
    "NaN cost": ({"costs": {"a": np.nan}}, errors.CostError, "nan macs must be finite"),
}


@pytest.mark.parametrize("name", BAD_POOLS)
def test_bad_input_names_the_culprit(name):
    options, error, culprit = BAD_POOLS[name]
    with pytest.raises(error, match=culprit) as caught:
        build(**options)
    assert "\n" not in str(caught.value)


BAD_DECISIONS = {
    "no pair": ([0, 1, 1], errors.MisalignedError, "'a': decisions are a pair"),
    "one array": (np.zeros((2, 2)), errors.MisalignedError, "'a': decisions are a pair"),
    "no confidence": (([0, 1], None), errors.ShapeError, "'a': decisions need a confidence"),
    "shorter confidence": (([0, 1], [0.5]), errors.ShapeError, r"'a': .* not \(2,\) and \(1,\)"),
    "outputs for classes": ((Z, [0.5, 0.5]), errors.ShapeError, r"'a': .* not \(2, 2\) and \(2,\)"),
    "classes that are no indices": (([0.0, 1.0], [0.5, 0.5]), errors.ShapeError, "'a': .*float64"),
    "negative classes": (([0, -1], [0.5, 0.5]), errors.ShapeError, "'a': .* indices 0, 1"),
    "textual confidence": (([0, 1], ["x", "y"]), errors.ShapeError, "'a': confidence must be real"),
    "NaN confidence": (([0, 1], [0.5, np.nan]), errors.NotFiniteError, "'a': .* sample 1 "),
    "ragged classes": (([[0], [0, 1]], [0.5, 0.5]), errors.ShapeError, "'a': rows must"),
}


@pytest.mark.parametrize("name", BAD_DECISIONS)
def test_bad_decisions_name_the_culprit(name):
    pair, error, culprit = BAD_DECISIONS[name]
    with pytest.raises(error, match=culprit) as caught:
        build(outputs={"a": pair}, kind="decisions")
    assert "\n" not in str(caught.value)


def test_late_bad_rows_are_counted_from_the_first():
    # Outputs are checked block by block; the row told is that of the whole.
    values = np.zeros((10_000, 2))
    values[9_000, 1] = np.nan
    with pytest.raises(errors.NotFiniteError, match="first at sample 9000 "):
        build(labels=None, outputs={"a": values})


def test_pool_has_what_was_given():
    pool = build(outputs={"b": Z, "a": Z}, costs={"a": 3, "b": 1}, unit="dollars", ids=["x", "y"])
    assert pool.names == ["b", "a"]
    assert pool.kind == "logits"
    assert pool.samples.ids == ("x", "y")
    assert pool.costs.values("dollars") == {"b": 1, "a": 3}
    assert pool.model("a").values.tolist() == Z


@pytest.mark.parametrize(
    ("kind", "values", "predicted"),
    [
        ("logits", Z, [0, 1]),
        # Of equal values the first.
        ("logits", [[1, 1], [0, 1]], [0, 1]),
        ("probabilities", P, [0, 1]),
        ("decisions", ([1, 0], [0.5, 0.5]), [1, 0]),
    ],
)
def test_predicted_class(kind, values, predicted):
    assert build(outputs={"a": values}, kind=kind).model("a").predicted().tolist() == predicted


def test_probabilities_of_low_precision_are_accepted():
    values = np.full((2, 1000), 1 / 1000, np.float16)
    assert build(outputs={"a": values}, kind="probabilities").kind == "probabilities"


def test_unlabelled_pools_count_their_samples():
    assert len(build(labels=None)) == 2


def test_unknown_model_gets_a_suggestion():
    with pytest.raises(errors.UnknownNameError, match=r"no model 'smal'\. Did you mean 'small'\?"):
        build(outputs={"small": Z, "large": Z}).model("smal")


def test_only_keeps_the_order_asked_for():
    pool = build(outputs={"a": Z, "b": Z, "c": Z}, costs={"a": 1, "b": 2, "c": 3})
    part = pool.only(["c", "a"])
    assert part.names == ["c", "a"]
    assert part.costs.values("macs") == {"c": 3, "a": 1}


@pytest.mark.parametrize(
    ("index", "ids"),
    [
        (slice(1, None), ("1", "2")),
        ([2, 0], ("2", "0")),
        (np.array([True, False, True]), ("0", "2")),
    ],
)
def test_rows_take_samples_and_outputs_alike(index, ids):
    pool = build(labels=[0, 1, 1], outputs={"a": [[0, 9], [1, 9], [2, 9]]})
    part = pool.rows(index, "part")
    assert part.samples.ids == ids
    assert part.samples.split == "part"
    assert part.samples.labels.tolist() == [[0, 1, 1][int(i)] for i in ids]
    assert part.model("a").values[:, 0].tolist() == [float(i) for i in ids]


def test_fingerprint_tells_samples_apart():
    prints = {
        Samples.of([0, 1]).fingerprint,
        Samples.of([1, 0]).fingerprint,
        Samples.of(None, count=2).fingerprint,
        Samples.of([0, 1], ["x", "y"]).fingerprint,
        Samples.of([0, 1], ["y", "x"]).fingerprint,
        # Neither glued nor cut names are taken for each other.
        Samples.of([0, 1], ["xy", ""]).fingerprint,
    }
    assert len(prints) == 6
    assert Samples.of([0, 1], split="test").fingerprint == Samples.of([0, 1]).fingerprint
    assert Samples.of([0]).classes_fingerprint != Samples.of([0], classes=["x"]).classes_fingerprint


def test_a_cost_brings_its_unit_and_conditions():
    own = Cost(2.5, "ms", "measured", "one core")
    pool = build(outputs={"a": Z, "b": Z}, costs={"a": own, "b": Cost(1, "ms")})
    assert pool.specs["a"].costs == (own,)
    assert pool.costs.unit() == "ms"


def table(**costs) -> CostTable:
    return CostTable.of({n: [Cost(1, unit) for unit in units] for n, units in costs.items()})


@pytest.mark.parametrize(
    ("costs", "unit"),
    [
        (table(a=["dollars"], b=["dollars"]), "dollars"),
        (table(a=["dollars", "macs"], b=["macs", "dollars"]), "macs"),
        (table(a=["dollars", "joules"], b=["joules"]), "joules"),
    ],
)
def test_unit_is_the_only_one_or_macs(costs, unit):
    assert costs.unit() == unit


@pytest.mark.parametrize(
    ("costs", "wanted", "culprit"),
    [
        (table(a=["macs"], b=[]), "macs", "no 'macs' for b"),
        (table(a=["macs"], b=["macs"]), "dollars", r"for a, b\. Units that all models have: macs"),
        (table(a=["x", "y"], b=["y", "x"]), None, "name a unit.*; there are: x, y"),
        (table(a=["x"], b=["y"]), None, "no unit in which every model has a cost .a: x; b: y."),
    ],
)
def test_missing_units_name_the_models(costs, wanted, culprit):
    with pytest.raises(errors.CostError, match=culprit):
        costs.unit(wanted)


def test_costs_of_different_units_never_add():
    assert (Cost(1, "macs") + Cost(2, "macs")).value == 3
    with pytest.raises(errors.CostError, match="macs and dollars never add"):
        Cost(1, "macs") + Cost(1, "dollars")


def test_a_pool_of_any_size_prints_in_one_line() -> None:
    pool = Pool.from_arrays(np.zeros(9999, int), {"a": np.zeros((9999, 2))}, kind="logits")
    told = "<Pool: 1 model (a), logits on <Samples: 9999 of 'val', labelled>>"
    assert repr(pool) == told
