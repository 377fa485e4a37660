"""What each analysis finds, held against brute force and against laws that no pool breaks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from committee import Cascade, Cost, Pool, errors, evaluate, search
from committee.calibration.fitting import fit_calibrations
from committee.pool.intervals import Estimate
from committee.report.plane import _range_of_interest
from committee.report.text import named
from committee.rule.scores import CONFIDENCES
from committee.study import best_cascades as best
from committee.study import confidence_functions as confidence
from committee.study import ensembles_as_cascades as converted
from committee.study import ensembles_vs_singles as ensembles
from committee.study import exit_ratios as exits
from committee.study import measured_costs as measured
from committee.study import number_of_models as numbers
from committee.study import outside_references as outside
from committee.study.context import Reference, study_of
from pool_changes import with_costs, with_families
from study_pools import family_pools, family_study


@pytest.fixture(scope="module")
def study():
    return family_study()


def records(table):
    """Rows as dictionaries."""
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def table_of(finding, name=""):
    (found,) = [table for table in finding.tables if table.name == name]
    return records(found)


def single_model_study():
    return study_of(*(pool.only(["b0-0"]) for pool in family_pools()))


def drawn(analysis, study):
    return analysis.ANALYSIS.draw(study, analysis.ANALYSIS.analyse(study).data)


def labels_of(figure):
    return [axes.get_legend_handles_labels()[1] for axes in figure.axes]


# Ensembles against single models


def every_ensemble(study):
    """All ensembles of one training of an architecture, then two, by brute force."""
    for size in range(2, study.settings.max_models + 1):
        for names in itertools.combinations(study.val.names, size):
            if all(n.endswith("-0") or n.replace("-1", "-0") in names for n in names):
                yield Cascade.ensemble(names)


def test_the_matching_ensemble_is_the_cheapest_of_all(study):
    every = [(each, evaluate(each, study.val)) for each in every_ensemble(study)]
    for row, single in zip(
        table_of(ensembles.ANALYSIS.analyse(study), "matching"), study.singles, strict=True
    ):
        enough = [
            (e.average_cost, -e.accuracy) for _, e in every if e.accuracy >= single.val.accuracy
        ]
        if not enough:
            assert row["ensemble"] is None
            continue
        cascade = Cascade.ensemble(row["ensemble"].split(" + "))
        found = evaluate(cascade, study.val)
        assert (found.average_cost, -found.accuracy) == min(enough)
        judged = evaluate(cascade, study.test)
        assert row["ensemble: accuracy"] == Estimate(judged.accuracy, *judged.interval, 600)
        assert row["gain"].value == pytest.approx(judged.accuracy - single.test.accuracy)
        assert row["speedup"] == pytest.approx(single.test.average_cost / judged.average_cost)


@pytest.mark.parametrize("analyse", [ensembles.ANALYSIS.analyse, converted.ANALYSIS.analyse])
def test_pools_that_make_no_ensemble_are_not_supported(analyse):
    with pytest.raises(errors.Unsupported, match="there is one model only"):
        analyse(single_model_study())
    with pytest.raises(errors.Unsupported, match="of logits, last averages nothing"):
        analyse(family_study(combine="last"))


# Ensembles as cascades


def test_a_cascade_is_as_accurate_as_its_ensemble_and_no_dearer_where_it_was_chosen(study):
    for ensemble, cascade in converted.ANALYSIS.analyse(study).data:
        assert set(cascade.cascade.names) <= set(ensemble.cascade.names)
        assert cascade.val.accuracy >= ensemble.val.accuracy
        assert cascade.val.average_cost <= ensemble.val.average_cost
        assert cascade.test.average_cost <= ensemble.test.average_cost


def test_conversions_are_told_from_the_split_that_judges(study):
    finding = converted.ANALYSIS.analyse(study)
    rows = table_of(finding)
    for row, (ensemble, cascade) in zip(rows, finding.data, strict=True):
        assert row["cascade: average cost"] == cascade.test.average_cost
        assert row["gain"].value == pytest.approx(cascade.test.accuracy - ensemble.test.accuracy)
    cheaper = sum(row["speedup"] > 1 for row in rows)
    assert finding.sentences[0].startswith(f"{cheaper} of {len(rows)} ensembles cost less")


# Confidence functions


@given(st.data(), arrays.arrays(bool, st.integers(1, 30)))
def test_the_share_right_is_that_of_the_surest(data, right):
    scores = data.draw(arrays.arrays(float, len(right), elements=st.integers(0, 4)))
    percent = data.draw(st.lists(st.integers(1, 100), min_size=1))
    ranked = sorted(range(len(right)), key=lambda i: (-scores[i], i))
    found = confidence._accuracy_of_surest(right, np.ones(len(right)), scores, percent)
    for k, share in zip(percent, found, strict=True):
        taken = ranked[: -(-k * len(right) // 100)]
        assert share == pytest.approx(np.mean(right[taken]))


def test_no_function_beats_the_upper_bound_and_all_end_at_the_model_s_accuracy(study):
    data = confidence._surest_of(study, "b1-0")
    bound = data.accuracy[confidence.UPPER_BOUND]
    accuracy = study.single("b1-0").test.accuracy
    assert set(data.accuracy) == {*CONFIDENCES, confidence.UPPER_BOUND}
    assert bound == pytest.approx(np.minimum(1, accuracy / (np.arange(1, 101) / 100)))
    for shares in data.accuracy.values():
        assert (shares <= bound + 1e-12).all()
        assert shares[-1] == pytest.approx(accuracy)


def test_a_calibrated_model_is_ranked_by_its_calibrated_scores():
    val, test = family_pools()
    calibrations = fit_calibrations(val, "platt")
    plain = confidence._surest_of(study_of(val, test), "b0-0")
    known = study_of(val.with_calibrations(calibrations), test)
    one = calibrations["b0-0"].apply(test.outputs["b0-0"])
    scores = CONFIDENCES["logit_gap"](one.values, one.kind)
    right = one.predicted() == test.samples.labels
    expected = confidence._accuracy_of_surest(right, np.ones(len(right)), scores, range(1, 101))
    assert confidence._surest_of(known, "b0-0").accuracy["logit_gap"] == pytest.approx(expected)
    assert not np.allclose(plain.accuracy["logit_gap"], expected)


def test_functions_are_compared_at_equal_cost_on_the_split_that_chose(study):
    found = confidence.at_equal_cost(study, ("b0-0", "b2-0"))
    usual = found["max_prob"].val.average_cost
    step = 4e6 / 100 + 1e4  # one percentile of the second model's cost, and a sample
    for name, each in found.items():
        assert each.cascade.confidence == name
        assert abs(each.val.average_cost - usual) <= step
    finding = confidence.ANALYSIS.analyse(study)
    for row in table_of(finding, "equal_cost"):
        assert row["gain over max_prob"].samples == 600
    assert len(table_of(finding, "means")) == 3


def test_decisions_bring_their_own_confidence():
    val, test = (
        Pool.from_arrays(
            [0, 1, 1, 0],
            {"a": ([0, 1, 0, int(split == "val")], [0.9, 0.8, 0.7, 0.6])},
            kind="decisions",
            costs={"a": 1.0},
            split=split,
            ids=[f"{split}{i}" for i in range(4)],
        )
        for split in ("val", "test")
    )
    with pytest.raises(errors.Unsupported, match="decisions bring their own confidence"):
        confidence.ANALYSIS.analyse(study_of(val, test))


def test_one_model_is_ranked_though_it_makes_no_cascade():
    finding = confidence.ANALYSIS.analyse(single_model_study())
    assert [table.name for table in finding.tables] == ["surest", "means"]
    assert "no cascade of two models" in finding.sentences[-1]


# The best committees at equal cost and at equal accuracy


def test_tables_tell_what_the_front_gives(study):
    front = search(study.val, 4)
    finding = best.ANALYSIS.analyse(study)
    for name, choose in (
        ("same_cost", lambda single: front.at_most(single.val.average_cost)),
        ("same_accuracy", lambda single: front.matching(single.cascade.names[0])),
    ):
        for row, single in zip(table_of(finding, name), study.singles, strict=True):
            cascade = choose(single).cascade
            judged = evaluate(cascade, study.test)
            assert row["committee: accuracy"].value == judged.accuracy
            assert row["average cost"] == judged.average_cost
            assert row["worst-case cost"] == judged.worst_case_cost
            assert row["speedup"] == pytest.approx(single.test.average_cost / judged.average_cost)


# Measured costs


def priced(pools, unit, costs):
    """Pools with costs in one unit more."""
    for pool in pools:
        table = {
            name: [*own.values(), Cost(costs[name], unit, "measured", "one core")]
            for name, own in pool.costs.costs.items()
        }
        yield with_costs(pool, table)


def test_a_unit_in_proportion_gives_the_same_committees_and_speedups():
    pools = family_pools()
    macs = pools[0].costs.values("macs")
    study = study_of(*priced(pools, "latency_ms", {n: m / 2**20 for n, m in macs.items()}))
    finding = measured.ANALYSIS.analyse(study)
    rows = table_of(finding, "priced-latency_ms")
    assert rows
    for row in rows:
        assert row["speedup in latency_ms"] == pytest.approx(row["speedup in macs"])
        assert row["model: samples a second"] == pytest.approx(1000 / row["cost"])
    for own, there in zip(study.pairs, study.pairs_in("latency_ms"), strict=True):
        assert own.same_cost.cascade == there.same_cost.cascade
        assert own.same_accuracy.cascade == there.same_accuracy.cascade
        assert there.single.test.unit == "latency_ms"
    assert len(measured.ANALYSIS.draw(study, finding.data).axes) == 1


def test_a_unit_in_which_all_cost_the_same_saves_nothing():
    pools = family_pools()
    study = study_of(*priced(pools, "calls", dict.fromkeys(pools[0].names, 1.0)))
    finding = measured.ANALYSIS.analyse(study)
    for row in table_of(finding, "priced-calls"):
        assert row["speedup in calls"] <= 1
        assert "model: samples a second" not in row


def test_costs_measured_under_different_conditions_are_not_compared():
    pools = []
    for pool in family_pools():
        table = {
            name: [*own.values(), Cost(1.0, "latency_ms", "measured", f"machine of {name}")]
            for name, own in pool.costs.costs.items()
        }
        pools.append(with_families(with_costs(pool, table), {}))
    with pytest.raises(errors.Unsupported, match="measured under different conditions"):
        measured.ANALYSIS.analyse(study_of(*pools))


def test_a_pool_with_one_unit_has_no_other(study):
    with pytest.raises(errors.Unsupported, match="a cost in macs, and in no other unit"):
        measured.ANALYSIS.analyse(study)


# Models from outside


def test_a_single_model_as_outside_model_gets_its_own_pair(study):
    given_ = tuple(
        Reference(named(single.cascade), single.val.accuracy, single.val.average_cost)
        for single in study.singles
    )
    asked = family_study(references=given_)
    for row, pair in zip(table_of(outside.ANALYSIS.analyse(asked)), asked.pairs, strict=True):
        assert row["at its cost"] == named(pair.same_cost.cascade)
        assert row["at its accuracy"] == named(pair.same_accuracy.cascade)
        expected = pair.same_cost.test.accuracy - pair.single.val.accuracy
        assert row["gain"].value == pytest.approx(expected)
        assert row["gain"].high - row["gain"].low == pytest.approx(
            np.ptp(pair.same_cost.test.interval)
        )


def test_outside_models_beyond_the_pool_have_no_committee():
    asked = family_study(references=(Reference("best", 1.0, 1e12), Reference("cheap", 0.1, 1.0)))
    finding = outside.ANALYSIS.analyse(asked)
    cheap, dear = table_of(finding)
    assert (cheap["outside model"], cheap["at its cost"], cheap["gain"]) == ("cheap", None, None)
    assert (dear["outside model"], dear["at its accuracy"]) == ("best", None)
    assert finding.sentences == (
        "0 of 2 outside models are less accurate than the committee that costs no more.",
    )


def test_without_outside_models_there_is_nothing_to_compare(study):
    with pytest.raises(errors.Unsupported, match="--reference"):
        outside.ANALYSIS.analyse(study)


# The number of models


def test_more_models_are_never_worse_where_they_were_chosen(study):
    data = numbers.ANALYSIS.analyse(study).data
    assert list(data) == [2, 3, 4]
    targets = numbers._target_costs(study)
    assert targets == sorted(targets)
    assert targets[0] == study.singles[0].val.average_cost
    for number, found in data.items():
        for target, each in zip(targets, found, strict=True):
            assert each.val.average_cost <= target
            assert len(each.cascade.names) <= number
    for fewer, more in itertools.pairwise(data.values()):
        assert all(m.val.accuracy >= f.val.accuracy for f, m in zip(fewer, more, strict=True))


def test_a_free_model_does_not_break_the_targets():
    val, test = family_pools(sizes=2)
    free = [
        Pool.from_arrays(
            pool.samples.labels,
            {name: pool.outputs[name].values for name in pool.names},
            kind="logits",
            costs={name: float(i) for i, name in enumerate(pool.names)},
            split=pool.samples.split,
            ids=pool.samples.ids,
        )
        for pool in (val, test)
    ]
    study = study_of(*free)
    assert numbers._target_costs(study)[0] == 0
    assert drawn(numbers, study) is not None


def test_two_models_are_too_few_for_a_comparison():
    with pytest.raises(errors.Unsupported, match="committees of up to 2 models"):
        numbers.ANALYSIS.analyse(family_study(max_models=2))


# Exits


def test_exit_ratios_sum_to_one_and_give_the_average_cost(study):
    finding = exits.ANALYSIS.analyse(study)
    for row, (_, cascade) in zip(table_of(finding), finding.data, strict=True):
        ratios = [v for name, v in row.items() if name.startswith("exit_") and v is not None]
        costs = [sum(study.val.costs.values("macs")[n] for n in stage)
                 for stage in cascade.cascade.models_of_stages]  # fmt: skip
        assert sum(ratios) == pytest.approx(1)
        reaching = 1 - np.cumsum([0, *ratios[:-1]])
        assert row["average cost"] == pytest.approx(float(np.dot(costs, reaching)))


def test_a_pool_whose_models_match_themselves_has_no_exits():
    with pytest.raises(errors.Unsupported, match="no single model's accuracy is matched"):
        exits.ANALYSIS.analyse(single_model_study())


# Figures


@given(
    arrays.arrays(float, st.integers(1, 9), elements=st.floats(0, 100)),
    arrays.arrays(float, st.integers(0, 9), elements=st.floats(0, 100)),
)
@settings(max_examples=50)
def test_the_best_and_the_median_are_always_in_the_range_of_interest(singles, others):
    bottom, top = _range_of_interest(singles, others)
    assert bottom < np.median(singles) < top
    assert top > max(*singles, *others, 0)
    assert _range_of_interest(singles, others, whole=True)[0] < singles.min()


BEST_SINGLES = "Best single models for their cost"


def test_figures_name_what_they_draw(study):
    assert labels_of(drawn(ensembles, study)) == [
        ["Single models, with 95 % interval", BEST_SINGLES, "Pareto-optimal ensembles"]
    ]
    assert labels_of(drawn(best, study)) == [
        ["Single models, with 95 % interval", BEST_SINGLES, "At equal cost", "At equal accuracy"]
    ]
    assert labels_of(drawn(confidence, study)) == [["Upper bound", *CONFIDENCES]]
    stages = len(exits.ANALYSIS.analyse(study).tables[0].columns) - 5
    assert labels_of(drawn(exits, study)) == [[f"Stage {number}" for number in range(stages)]]


# What figures show


@pytest.fixture(scope="module")
def weak():
    """The cheapest model guesses and the next is poor, so that a range fitted to most is narrow."""
    pools = []
    for pool in family_pools(sizes=5, trainings=1):
        outputs = {name: pool.model(name).values.copy() for name in pool.names}
        for name, (signal, noise) in {"b0-0": (0, 1), "b1-0": (1, 2)}.items():
            random = np.random.default_rng(1).normal(0, noise, outputs[name].shape)
            outputs[name] = (signal * outputs[name] + random).astype(np.float32)
        costs, labels = pool.costs.values("macs"), pool.samples.labels
        made = Pool.from_arrays(labels, outputs, kind="logits", costs=costs)
        pools.append(made.rows(slice(None), pool.samples.split))
    return study_of(*pools)


def outside_of(axes):
    """Value of each marker below the limits, by the label of its series."""
    low, high = axes.get_ylim()
    for line in axes.get_lines():
        for _, value in line.get_xydata():
            assert value <= high
            if value < low and not line.get_label().startswith("_") and line.get_marker() != "None":
                yield line.get_label(), value


@pytest.mark.parametrize("analysis", [ensembles, converted, numbers, best])
def test_no_committee_is_lost_below_the_axes(weak, analysis):
    axes = drawn(analysis, weak).axes[0]
    models = [100 * each.test.accuracy for each in weak.singles]
    told = [text.get_text() for text in axes.texts]
    lost = set(outside_of(axes))
    assert min(models) < axes.get_ylim()[0]
    for label, value in lost:
        assert any(text.startswith("▼") and f"{value:.1f} %" in text for text in told), label
    # What lies there is a single model, drawn as such or as the committee of it alone.
    assert {value for _, value in lost} <= {*models}
    # A mark each, also where a committee and the model are one.
    assert sum(text.startswith("▼") for text in told) == len(lost)


def test_intervals_are_drawn_of_models_in_view_alone(weak):
    axes = drawn(best, weak).axes[0]
    low, high = axes.get_ylim()
    (bars,) = [each for each in axes.collections if each.get_segments()]
    shown = [each.test for each in weak.singles if 100 * each.test.accuracy >= low]
    assert len(bars.get_segments()) == len(shown) < len(weak.singles)
    for segment, test in zip(bars.get_segments(), shown, strict=True):
        assert segment[:, 1] == pytest.approx(100 * np.array(test.interval))
        assert segment[1, 1] < high


@pytest.mark.parametrize("analysis", [ensembles, converted, numbers, best])
def test_no_legend_covers_a_point(study, analysis):
    figure = drawn(analysis, study)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    legend, whole = axes.get_legend().get_window_extent(), figure.bbox
    assert legend.y0 >= axes.get_window_extent().y1
    assert whole.x0 <= legend.x0 < legend.x1 <= whole.x1
    assert legend.y1 <= whole.y1
    assert axes.get_xlabel().endswith(", log scale")
