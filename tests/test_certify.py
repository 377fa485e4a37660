"""Certificates keep their word: on new draws, in files, and against what would break them."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

import committee as cm
from committee.certificates import procedure
from committee.certificates.certificate import _verdict_of
from committee.certificates.certify import certify
from committee.pool.comparison import identity_of
from committee.rule.calibration import Calibration

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import worlds

# The function of this name hides the module.
certify_module = importlib.import_module("committee.certificates.certify")
REFERENCE = "efficientnet_b3a"


@pytest.fixture(scope="module")
def world() -> cm.Pool:
    return worlds.imagenet()


def drawn(world: cm.Pool, rows: np.ndarray) -> cm.Pool:
    """The samples of some rows, which may repeat, as a pool."""
    outputs = {n: (o.values[rows], o.confidence[rows]) for n, o in world.outputs.items()}
    labels = world.samples.labels[rows]
    costs = world.prices("macs")
    return cm.Pool.from_arrays(labels, outputs, kind="decisions", costs=costs)


@pytest.fixture(scope="module")
def halves(world) -> tuple[cm.Pool, cm.Pool]:
    rows = np.random.default_rng(0).permutation(len(world))
    return world.rows(rows[:5000], "val"), world.rows(rows[5000:25000], "test")


@pytest.fixture(scope="module")
def promise(halves) -> cm.Certified:
    return certify(halves[0], match=REFERENCE, within=0.01, level=0.9)


def truly(world: cm.Pool, cascade: cm.Cascade) -> float:
    """The true difference from the reference, on the whole population."""
    reference = cm.Cascade.of([REFERENCE], combine="last")
    return cm.evaluate(cascade, world).accuracy - cm.evaluate(reference, world).accuracy


def test_promises_are_broken_no_more_often_than_the_level_allows(world):
    rng = np.random.default_rng(1)
    draws, within, saved, missed = 12, 0.005, [], 0
    for _ in range(draws):
        pool = drawn(world, rng.integers(len(world), size=2500))
        own = certify(pool, match=REFERENCE, within=within, level=0.9)
        missed += truly(world, own.cascade) < -within - 1e-12
        saved.append(own.certificate.record.reference_cost / own.evaluation.average_cost)
    assert missed <= binom.ppf(0.999, draws, 0.1)
    # It must do something: the bar to beat was 1.41 on average.
    assert np.mean(saved) > 1.45


def test_the_naive_choice_breaks_such_a_promise(world):
    # The same check fails for a procedure that tests on the samples that chose.
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(12):
        front = cm.search(drawn(world, rng.integers(len(world), size=2500)), 2)
        missed += truly(world, front.matching(REFERENCE, 0.005).cascade) < -0.005 - 1e-12
    assert missed > binom.ppf(0.999, 12, 0.1)


def test_a_certificate_travels_in_the_file(promise, halves, tmp_path):
    loaded = cm.Cascade.load(promise.cascade.save(tmp_path / "cascade.json"))
    assert loaded.certificate == promise.cascade.certificate
    certificate = cm.Certificate.of(loaded)
    assert certificate.text == promise.certificate.text
    assert certificate.lower_bound == -0.01
    assert certificate.level == 0.9
    assert certificate.holds_on(halves[1]).outcome == "kept"


def test_an_edited_threshold_voids_the_certificate(promise, tmp_path):
    path = promise.cascade.save(tmp_path / "cascade.json")
    data = json.loads(path.read_text())
    data["stages"][0]["threshold"] -= 0.01
    path.write_text(json.dumps(data))
    with pytest.raises(cm.CommitteeError, match="void"):
        cm.Certificate.of(cm.Cascade.load(path))


def test_a_promise_is_not_checked_on_the_samples_that_made_it(promise, halves):
    with pytest.raises(cm.CommitteeError, match="rests on these samples"):
        promise.certificate.holds_on(halves[0])


def test_new_samples_show_what_is_broken_and_what_is_open(promise, halves):
    record = replace(promise.certificate.record, margin=0.0, promise="within")
    bad = replace(promise.certificate.cascade, stages=(cm.Stage(("resnet34",)),))
    assert cm.Certificate(bad, record).holds_on(halves[1]).outcome == "broken"
    few = halves[1].rows(slice(0, 20), "few")
    outcome = promise.certificate.holds_on(few)
    assert outcome.outcome == "open"
    assert outcome.low < -0.01 < outcome.high


def test_ranked_agreement_is_tried_unless_a_confidence_is_named(halves):
    asked = {"match": REFERENCE, "within": 0.01, "level": 0.9, "threads": 1}
    one, every = (certify(halves[0], **asked, confidence=name) for name in ("max_prob", None))
    assert one.cascade.confidence == "max_prob"
    considered = (each.certificate.record.considered for each in (one, every))
    assert next(considered) < next(considered)
    assert every.cascade.confidence in ("max_prob", "ranked_agreement")


def test_the_same_seed_gives_the_same_certificate(promise, halves):
    again = certify(halves[0], match=REFERENCE, within=0.01, level=0.9, threads=1)
    assert again.cascade.to_json() == promise.cascade.to_json()


def test_agreement_needs_no_label(world, halves):
    samples = replace(halves[0].samples, labels=None)
    own = certify(replace(halves[0], samples=samples), agree_with=REFERENCE, within=0.02)
    assert own.certificate.lower_bound == 0.98
    assert truly(world, own.cascade) > -0.02
    assert own.certificate.holds_on(halves[1]).outcome == "kept"


def test_an_accuracy_with_a_cost(world, halves):
    own = certify(halves[0], min_accuracy=0.78, max_cost=1e9)
    evaluation = cm.evaluate(own.cascade, world, "macs")
    assert evaluation.accuracy >= 0.78
    assert own.evaluation.average_cost < own.certificate.record.cost_bound <= 1e9


def test_the_reference_is_kept_where_nothing_passes(halves):
    own = certify(halves[0].rows(slice(0, 100), "few"), match=REFERENCE)
    assert own.cascade.names == (REFERENCE,)
    assert own.certificate.is_reference
    assert own.certificate.lower_bound == 0


def test_a_given_cascade_gets_the_bound_that_all_samples_show(promise, halves):
    own = certify(halves[1], match=REFERENCE, within=0.01, cascade=promise.cascade)
    assert own.certificate.record.choosing == 0
    assert -0.01 < own.certificate.lower_bound < own.certificate.record.estimate
    with pytest.raises(cm.CommitteeError, match="chose the cascade"):
        certify(halves[0], match=REFERENCE, within=0.01, cascade=promise.cascade)
    with pytest.raises(cm.Infeasible, match="bound reached"):
        certify(halves[1], match=REFERENCE, cascade=promise.cascade)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "give one of"),
        ({"match": REFERENCE, "min_accuracy": 0.5}, "give one of"),
        ({"match": REFERENCE, "within": -0.1}, "it is a share, from 0"),
        ({"match": REFERENCE, "level": 1.0}, "between 0.5 and 0.999999, for"),
        ({"match": "efficientnet_b3"}, "Did you mean 'efficientnet_b3a'"),
        ({"min_accuracy": 95}, "between 0 and 1"),
        ({"min_accuracy": 0.99}, "Nearest at any cost: "),
        ({"min_accuracy": 0.8, "max_cost": 1e6}, "cannot|can be certified"),
        ({"match": REFERENCE, "metric": cm.weighted(np.ones(1000))}, "1 or 0"),
        ({"match": REFERENCE, "max_models": 4}, "max_models"),
        ({"match": REFERENCE, "labels": {}}, "go with cascade"),
        ({"match": REFERENCE, "level": 0.4}, "between 0.5 and"),
        ({"match": REFERENCE, "seed": -1}, "seed -1 must be 0 or more"),
        (
            {"match": REFERENCE, "max_cost": float("inf")},
            "must be a number above 0, not inf",
        ),
        (
            {"match": REFERENCE, "cost_limit": float("nan")},
            "must be a number above 0, not nan",
        ),
        ({"agree_with": REFERENCE, "metric": cm.top_k(5)}, "agreement is of answers"),
        ({"match": REFERENCE, "within": 0.01, "max_cost": 1e6}, "Nearest: .* costs .* here"),
    ],
)
def test_bad_input_gets_one_line(halves, options, text):
    some = halves[0].only(["resnet34", "efficientnet_b1", REFERENCE]).rows(slice(1000), "val")
    with pytest.raises(cm.CommitteeError, match=text) as error:
        certify(some, **options)
    assert "\n" not in str(error.value)


def test_few_samples_are_refused(halves):
    with pytest.raises(cm.CommitteeError, match="40 or more"):
        certify(halves[0].rows(slice(0, 20), "few"), match=REFERENCE)


def test_what_is_tested_does_not_depend_on_what_the_testing_samples_cost(halves, monkeypatch):
    pool, seen = halves[0], []
    reference = cm.Cascade.of(["resnet34", REFERENCE], [0.8], combine="last")
    original = procedure.tested_paths

    def recorded(rules, *others):
        seen.append((rules[0].choosing.pool, others[4]))
        return original(rules, *others)

    monkeypatch.setattr(certify_module, "tested_paths", recorded)
    certify(pool, match=reference, within=0.05, max_models=2)
    (choosing, most), unit = seen[0], "macs"
    assert most == cm.evaluate(reference, choosing, unit).average_cost
    assert most != cm.evaluate(reference, pool, unit).average_cost


def test_a_cost_holds_only_if_all_later_steps_keep_it(halves, monkeypatch):
    # The accuracy of the same samples chose the step, so one bound at that step is not valid.
    chosen = certify(halves[0], match=REFERENCE, within=0.01, max_cost=1.5e9).certificate.record
    assert chosen.cost_bound == chosen.max_cost
    own, answers = certify_module._affordable, []
    bounds = itertools.chain([1e12], itertools.repeat(0.0))
    monkeypatch.setattr(certify_module, "_cost_bound", lambda *_: next(bounds))
    monkeypatch.setattr(
        certify_module, "_affordable", lambda *given: answers.append(own(*given)) or answers[-1]
    )
    certify(halves[0], match=REFERENCE, within=0.01, max_cost=1.5e9)
    # The end of the first path is too dear, so all of it is.
    assert answers[0] is False


def test_the_seed_orders_the_samples_that_bound_a_cost(promise, halves):
    options = {"match": REFERENCE, "within": 0.02, "cascade": promise.cascade, "max_cost": 3e9}
    one, two, again = (
        certify(halves[1], seed=seed, **options).certificate.record for seed in (0, 1, 1)
    )
    assert (one.seed, two.seed) == (0, 1)
    assert one.cost_bound != two.cost_bound == again.cost_bound


def test_a_reference_that_these_samples_calibrated_is_refused(halves):
    pool = halves[1]
    scaled = replace(Calibration.of_temperature(1.5), samples=identity_of(pool, [REFERENCE]))
    calibrations = {REFERENCE: scaled}
    reference = cm.Cascade.of([REFERENCE], combine="last", calibrations=calibrations)
    given = cm.Cascade.of(["resnet34", REFERENCE], [0.9], combine="last")
    for cascade in (None, given):
        with pytest.raises(cm.CommitteeError, match="fitted"):
            certify(pool, match=reference, within=0.02, cascade=cascade)


def test_new_samples_are_asked_for_the_promised_cost_too(halves):
    rule = {"confidence": "max_prob", "level": 0.9}
    own = certify(halves[0], match=REFERENCE, within=0.01, max_cost=1.3e9, **rule)
    kept = own.certificate.holds_on(halves[1])
    assert kept.outcome == "kept"
    assert kept.cost.low < kept.cost.average < kept.cost.high < 1.3e9
    # Samples of which the first model is unsure cost more; their accuracy is not to blame.
    name = own.cascade.stages[0].models[0]
    sure = halves[1].outputs[name].confidence
    unsure = np.flatnonzero(sure < own.cascade.stages[0].threshold)
    rows = np.sort(np.concatenate([unsure, np.arange(len(sure))[sure > np.median(sure)][:200]]))
    broken = own.certificate.holds_on(halves[1].rows(rows, "hard"))
    assert broken.outcome == "broken"
    assert broken.cost.low > 1.3e9
    assert json.loads(json.dumps(broken.to_json()))["cost"]["most"] == 1.3e9


@pytest.mark.parametrize("counts", [(4982, 0, 5000), (100, 120, 5000), (100, 135, 5000)])
def test_as_many_samples_more_as_are_named_would_decide(promise, counts):
    wins, losses, samples = counts
    kind = {"promise": "within", "margin": 0.005} if losses else {"promise": "agreement"}
    record = replace(promise.certificate.record, **({"margin": 0.005} | kind))
    found = _verdict_of(record, wins, losses, samples)
    if found.outcome == "open":
        times = 1 + found.more / samples
        more = _verdict_of(record, round(wins * times), round(losses * times), samples + found.more)
        assert more.outcome != "open"
        less = 1 + found.more / samples / 2
        some = round(wins * less), round(losses * less), round(samples * less)
        assert _verdict_of(record, *some).outcome == "open"


def test_an_accuracy_that_can_be_certified_is(world):
    rows = np.random.default_rng(0).permutation(len(worlds.cifar10()))[:5000]
    pool = worlds.cifar10().rows(rows, "val")
    own = certify(pool, min_accuracy=0.93)
    assert len(own.cascade.stages) > 1
