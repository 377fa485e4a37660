"""Searches over several rules: the joint front, which rule won, and certificates by any rule."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brute_force
import committee as cm
from brute_force import Oracle
from committee import errors
from committee.calibration.fitting import fit_calibrations
from committee.cli import main
from committee.report.rules import choices_by_rule
from committee.report.text import unusual_rule
from committee.rule.scores import score
from committee.selection.fixed_models import threshold_front
from committee.selection.rules import _rules_of
from committee.selection.targets import Target
from strategies import RULES, pools, random_pool
from test_every_kind import write_store

WORLDS = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "worlds.py"))


@settings(max_examples=15)
@given(st.data())
def test_auto_is_the_front_of_all_rules(data):
    kind = data.draw(st.sampled_from(["logits", "probabilities", "decisions"]))
    pool = data.draw(pools(kind))
    rules = _rules_of(pool, "auto", "auto")
    assert {(kind, *rule[:2]) for rule in rules} == {rule for rule in RULES if rule[0] == kind}
    front = cm.search(pool, combine="auto", confidence="auto", grid=2, threads=1)
    tried = [
        each
        for combine, confidence, _ in rules
        for each in Oracle(pool, combine, confidence, 2).every(len(pool.names))
    ]
    samples = len(pool)
    figures = {(c.evaluation.average_cost, c.evaluation.correct) for c in front}
    assert figures == {(cost / samples, right) for cost, right in brute_force.front(tried)}
    for each in front:
        assert cm.evaluate(each.cascade, pool) == each.evaluation
        assert (each.cascade.combine, each.cascade.confidence, True) in rules


@pytest.fixture(scope="module")
def halves() -> tuple[cm.Pool, cm.Pool]:
    pool = random_pool(seed=3, models=4, samples=1200)
    return pool.rows(slice(0, 600), "val"), pool.rows(slice(600, None), "test")


def test_one_part_may_be_auto(halves):
    front = cm.search(halves[0], combine="auto", grid=10, test=halves[1])
    assert front.exact
    assert {rule.confidence for rule in front.settings.rules} == {"max_prob"}
    assert [each.settings.combine for each in front.by_rule] == [
        "mean_logits", "mean_probabilities", "last", "vote",
    ]  # fmt: skip
    choice = front.matching("d")
    for part in front.by_rule:
        assert choice.evaluation.average_cost <= part.matching("d").evaluation.average_cost
    assert front.settings.sequences == sum(part.settings.sequences for part in front.by_rule)


def test_the_rule_that_won_is_compared_with_the_default_on_the_test_split(halves):
    front = cm.search(halves[0], combine="auto", confidence="auto", grid=10, test=halves[1])
    found = choices_by_rule(front, Target(match="d"), halves[1])
    assert len(found.choices) == 24
    assert sum(each.members for each in found.choices) == len(front)
    best = front.matching("d")
    assert found.won == f"{best.cascade.combine} by {best.cascade.confidence}"
    own = cm.evaluate(best.cascade, halves[1]).accuracy
    usual = found.choices[0].committee.test.accuracy
    assert found.versus.difference.value == pytest.approx(own - usual)
    assert found.versus.split == "test"
    assert f"{found.won} has the cheapest committee that matches d on val" in found.line
    target = Target(min_accuracy=0.1, match="d", within=0.5)
    line = choices_by_rule(front, target, halves[1]).line
    assert "that is within 50 points of d and has 10.00 % or more on val" in line
    assert "most accurate committee for that cost on val" in (
        choices_by_rule(front, Target(max_cost=1e9), halves[1]).line
    )
    assert choices_by_rule(front.by_rule[0], Target(match="d")) is None


@pytest.mark.parametrize(
    ("kind", "method"),
    [("logits", "temperature"), ("decisions", "per-class"), ("decisions", "experts")],
)
def test_auto_covers_the_rules_without_calibrations(kind, method):
    pool = random_pool(seed=3, models=4, samples=900)
    if kind == "decisions":
        outputs = {
            n: (each.predicted(), score(each, "max_prob")) for n, each in pool.outputs.items()
        }
        labels, costs = pool.samples.labels, pool.prices("macs")
        pool = cm.Pool.from_arrays(labels, outputs, kind=kind, costs=costs)
    halves = pool.rows(slice(0, 600), "val"), pool.rows(slice(600, None), "test")
    own = halves[0].with_calibrations(
        fit_calibrations(halves[1].rows(slice(0, 300), "cal"), method)
    )
    front = cm.search(own, combine="auto", confidence="auto", grid=5)
    plain = cm.search(own.with_calibrations({}), combine="auto", confidence="auto", grid=5)
    for each in (*front.by_rule[0], *plain):
        assert any(
            one.evaluation.average_cost <= each.evaluation.average_cost
            and one.evaluation.accuracy >= each.evaluation.accuracy
            for one in front
        )
    assert {rule.calibrated for rule in front.settings.rules} == {True, False}
    for each in front:
        assert cm.evaluate(each.cascade, own) == each.evaluation
    found = choices_by_rule(front, Target(match="d"))
    assert sum(each.members for each in found.choices) == len(front)
    assert sum("uncalibrated" in each.name for each in found.choices) == len(plain.settings.rules)


def test_auto_covers_guided_searches(halves):
    front = cm.guided(halves[0], 3, keep=3, combine="auto", grid=5)
    assert front.inexact.startswith("guided")
    assert len(front.by_rule) == 4


def test_progress_names_the_rule(halves):
    parts = []
    cm.search(halves[0], 2, combine="auto", grid=5, progress=lambda *each: parts.append(each))
    names = dict.fromkeys(part for part, _, _ in parts)
    ends = [name for name in names if "sequences" in name]
    assert ends == [f"rule {number} of 4: sequences" for number in (1, 2, 3, 4)]


def test_the_command_says_which_rule_won(tmp_path, capsys):
    write_store(tmp_path, "logits", splits=("val", "test"), samples=300)
    words = ["search", str(tmp_path / "store"), "--combine", "auto", "--match", "c"]
    assert main([*words, "--confidence", "auto", "--front"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "What each rule chooses" in text
    assert "Of 24 rules" in text
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["rules"]["choices"]) == len(found["settings"]["rules"]) == 4
    assert main(["search", str(tmp_path / "store"), "--combine", "auto", "--method", "greedy"]) == 2
    assert "name one rule here" in capsys.readouterr().err
    assert (
        main(["study", str(tmp_path / "store"), "--combine", "auto", "--out", str(tmp_path)]) == 2
    )
    assert "study: auto is for" in capsys.readouterr().err


def test_only_a_rule_that_matters_is_named():
    pool = random_pool(seed=0, models=3, samples=50)

    def rule(stages, thresholds=(), **options):
        return unusual_rule(pool.described(cm.Cascade.of(stages, thresholds, **options)))

    assert rule(["a"], combine="vote", confidence="agreement") == ""
    assert rule(["a", "b"], [0.5]) == ""
    assert rule(["a", "b"], [0.5], combine="last") == "combined by last"
    assert rule([["a", "b"]], combine="vote", confidence="agreement") == "combined by vote"
    both = rule(["a", "b"], [0.5], combine="last", confidence="prob_gap")
    assert both == "combined by last, scored by prob_gap"


def test_one_rule_is_named_where_one_is_needed(halves):
    for call in (cm.as_cascade, threshold_front):
        with pytest.raises(errors.CascadeError, match="auto is for"):
            call(["a", "b"], halves[0], combine="auto")


@pytest.mark.parametrize(
    ("combine", "confidence"),
    [("last", "agreement"), ("last", "ranked_agreement"), ("vote", "ranked_agreement")],
)
def test_certificates_by_agreement_keep_their_promise(combine, confidence):
    world = WORLDS["imagenet"]().only(
        ["mobilenetv3_large_100", "mixnet_m", "efficientnet_b1", "efficientnet_b3a"]
    )
    rows = np.random.default_rng(0).permutation(len(world))
    pool = world.rows(rows[:4000], "val")
    own = cm.certify(
        pool, match="efficientnet_b3a", within=0.02, unit="macs", combine=combine,
        confidence=confidence,
    )  # fmt: skip
    assert (own.cascade.combine, own.cascade.confidence) == (combine, confidence)
    accuracy = cm.evaluate(own.cascade, world, "macs").accuracy
    alone = cm.evaluate(cm.Cascade.of(["efficientnet_b3a"]), world, "macs").accuracy
    assert accuracy - alone >= -0.02
    assert own.cascade.is_certified
