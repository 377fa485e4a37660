"""Self-cascades: which models share their weights, and what two resolutions of one bring."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from committee import Pool, errors
from committee.pool.layout import Layout
from committee.report.text import named
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing
from committee.study.context import study_of
from committee.study.self_cascades import ANALYSIS
from pool_changes import with_specs


def spec(weights, size):
    recipe = Preprocessing((size, size))
    return ModelSpec(f"{weights}@{size}", f"onnx:/{weights}.onnx", recipe, entry=weights)


def pool_of(rows, signals, seed=0):
    """A pool of models ``weights@size``, each with a signal of its own; costs are pixels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, rows)
    truth = np.eye(4)[labels]
    hard = random.normal(0, 1, truth.shape)
    names = {f"{weights}@{size}": (weights, size) for weights, size in signals}
    outputs = {
        name: signals[at] * truth + 0.8 * hard + 0.6 * random.normal(0, 1, truth.shape)
        for name, at in names.items()
    }
    costs = {name: size * size * (1 + ord(w) - ord("a")) for name, (w, size) in names.items()}
    specs = {name: spec(*at) for name, at in names.items()}
    pool = Pool.from_arrays(labels, outputs, kind="logits", costs=costs)
    specs = {n: replace(each, costs=pool.specs[n].costs) for n, each in specs.items()}
    return replace(with_specs(pool, specs), layout=Layout.of(specs))


# Higher resolutions gain for "a"; "b" has one resolution only.
SIGNALS = {("a", 20): 1.8, ("a", 30): 2.2, ("a", 40): 2.4, ("b", 30): 2.1}


def study_at(signals, seed=0, rows=800, **options):
    pool = pool_of(2 * rows, signals, seed)
    return study_of(
        pool.rows(slice(0, rows), "val"), pool.rows(slice(rows, None), "test"), **options
    )


@pytest.fixture(scope="module")
def study():
    return study_at(SIGNALS)


@pytest.fixture(scope="module")
def finding(study):
    return ANALYSIS.analyse(study)


def test_the_same_weights_at_two_sizes_are_found_lowest_first(finding):
    groups = finding.data.groups
    assert {w: [m.cascade.names[0] for m in models] for w, models in groups.items()} == {
        "a": ["a@20", "a@30", "a@40"]
    }


def test_names_alone_say_nothing():
    # The paper's MobileNetV2 1.0@160 and 1.0@192 are two trainings.
    pool = replace(pool_of(10, SIGNALS), layout=Layout())
    val, test = pool.rows(slice(0, 5), "val"), pool.rows(slice(5, None), "test")
    with pytest.raises(errors.Unsupported, match="no weights are there at two resolutions"):
        ANALYSIS.analyse(study_of(val, test))


@given(st.integers(0, 1000))
@settings(max_examples=10)
def test_every_pair_is_tried_and_its_cascade_is_as_accurate_as_the_better(seed):
    study = study_at(SIGNALS, seed, rows=60, grid=10)
    pairs = ANALYSIS.analyse(study).data.pairs
    assert [(named(p.low.cascade), named(p.high.cascade)) for p in pairs] == [
        ("a@20", "a@30"), ("a@20", "a@40"), ("a@30", "a@40"),
    ]  # fmt: skip
    for pair in pairs:
        most = max(pair.low.val.accuracy, pair.high.val.accuracy)
        assert pair.better.val.accuracy == most
        reached = max(each.val.accuracy for each in pair.thresholds)
        assert (pair.cascade is None) == (reached < most)
        if pair.cascade is not None:
            assert pair.cascade.val.accuracy >= most
            cheaper = [t for t in pair.thresholds if t.val.accuracy >= most]
            assert pair.cascade.val.average_cost == min(t.val.average_cost for t in cheaper)


def test_a_single_model_is_matched_by_the_cheapest_self_cascade_of_other_weights(study, finding):
    table = finding.tables[1]
    assert [row[0] for row in table.rows] == ["b@30"]
    cascade = table.rows[0][3]
    assert cascade.startswith("a@")
    assert " -> a@" in cascade
    single = study.evaluated([study.cascade(["b@30"])])[0]
    enough = [
        each.val.average_cost
        for pair in finding.data.pairs
        for each in pair.thresholds
        if len(each.cascade.stages) > 1 and each.val.accuracy >= single.val.accuracy
    ]
    names = [column.name for column in table.columns]
    cells = dict(zip(names, table.rows[0], strict=True))
    (found,) = [
        t for p in finding.data.pairs for t in p.thresholds if t.val.average_cost == min(enough)
    ]
    assert cells["average cost"] == found.test.average_cost
    assert cells["speedup"] == single.test.average_cost / found.test.average_cost


def test_a_gain_of_the_higher_resolution_is_said(study, finding):
    told = finding.sentences
    assert told[0].startswith("Among 3 pairs of resolutions, the higher is clearly more")
    assert told[1].startswith("a is the most accurate on val at a@40, its highest resolution.")
    assert not any("does not gain" in each for each in told)
    # Of the cheapest self-cascade that is as accurate, the figures are those of the judging split.
    pairs = [pair for pair in finding.data.pairs if named(pair.better.cascade) == "a@40"]
    found = [pair.cascade for pair in pairs if pair.cascade is not None]
    cheapest = min(found, key=lambda each: each.val.average_cost)
    (best,) = study.evaluated([study.cascade(["a@40"])])
    times = best.test.average_cost / cheapest.test.average_cost
    lost = 100 * (cheapest.test.accuracy - best.test.accuracy)
    assert f"{named(cheapest.cascade)} is as accurate there for less: on test" in told[1]
    assert f"it is {times:.2f}× cheaper" in told[1]
    assert f"at {lost:+.2f} (".replace("-", "−") in told[1]


def test_that_a_higher_resolution_does_not_gain_is_said():
    worse = {("a", 20): 2.4, ("a", 30): 2.0, ("a", 40): 1.6}
    found = ANALYSIS.analyse(study_at(worse))
    told = found.sentences
    assert "in 0 and clearly less accurate in 3" in told[0]
    assert told[1].startswith("a is the most accurate on val at a@20. It does not gain above that:")
    assert "Over lower ones" not in told[1]
    assert "clearly a loss in 2 of 2. No self-cascade of it is as accurate there" in told[1]
    assert told[2].startswith("A higher resolution does not gain here")
    assert len(found.tables) == 1
    assert told[-1] == "No single model of other weights is matched by a self-cascade."


def test_a_gain_up_to_the_middle_resolution_is_said_for_each_set_of_weights():
    # As of networks that were trained at the middle one: below it they lose, and above it too.
    there = {("a", 20): 1.6, ("a", 30): 2.4, ("a", 40): 1.6}
    more = {("b", 20): 1.4, ("b", 30): 1.9, ("b", 40): 2.4}
    told = ANALYSIS.analyse(study_at(there | more)).sentences
    assert not any(each.startswith("A higher resolution does not gain here") for each in told)
    assert told[1].startswith("a is the most accurate on val at a@30. Over lower ones it gains")
    assert "on test, clearly in 1 of 1. It does not gain above that:" in told[1]
    assert "clearly a loss in 1 of 1" in told[1]
    assert told[2].startswith("b is the most accurate on val at b@40, its highest resolution. Over")
    assert "on test, clearly in 2 of 2" in told[2]


def test_the_figure_shows_weights_cascades_and_other_models(study, finding):
    (axes,) = ANALYSIS.draw(study, finding.data).axes
    labels = axes.get_legend_handles_labels()[1]
    assert sorted(labels) == [
        "Self-cascades", "Single models, with 95 % interval", "a at 3 resolutions",
    ]  # fmt: skip
