"""Vote and agreement: closed forms, laws, published figures, and every driver."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import committee as cm
from brute_force import voted
from committee import errors
from committee.export.graph import write_graph
from committee.pool.evaluate import stored_decisions
from committee.rule.agreement import combine_and_score
from committee.rule.combinations import combined
from committee.rule.outputs import Outputs
from export_world import flips, from_tables
from strategies import COMBINES, pools, random_pool
from test_export_rules import WAYS, tables_of

ROOT = Path(__file__).parents[1]
CLASSES = st.integers(0, 3)
SURE = st.floats(-5, 5)


def decided(*answers: tuple[int, float]) -> dict[str, Outputs]:
    """Decisions of models a, b, … for one sample."""
    return {
        name: Outputs("decisions", np.array([predicted]), np.array([confidence]))
        for name, (predicted, confidence) in zip("abcdefgh", answers, strict=False)
    }


def one_hot(*classes: int) -> dict[str, Outputs]:
    """Probabilities of models a, b, … that name a class for one sample."""
    return {
        name: Outputs("probabilities", np.eye(4)[[own]])
        for name, own in zip("abcdefgh", classes, strict=False)
    }


def scored(outputs: dict[str, Outputs], combine: str, confidence: str) -> float:
    return float(combine_and_score(outputs, combine, confidence)[1][0])


@given(st.lists(CLASSES, min_size=1, max_size=8))
def test_vote_is_that_of_plain_python(classes):
    for outputs in (decided(*((own, 0.5) for own in classes)), one_hot(*classes)):
        assert combined(outputs, "vote").predicted().tolist() == [voted(classes)]


@given(CLASSES, CLASSES)
def test_a_vote_of_one_or_of_two_is_the_newest(first, second):
    assert combined(one_hot(first), "vote").predicted() == [first]
    assert combined(one_hot(first, second), "vote").predicted() == [second]


def test_ties_go_to_the_newest_or_to_the_lowest():
    for outputs in (one_hot, lambda *classes: decided(*((own, 0.5) for own in classes))):
        assert combined(outputs(1, 1, 2, 2), "vote").predicted() == [2]
        assert combined(outputs(2, 2, 1, 1, 3), "vote").predicted() == [1]


def test_a_decision_without_an_answer_is_no_vote():
    none = -np.inf
    outputs = decided((1, none), (1, none), (2, 0.5))
    assert combined(outputs, "vote").predicted() == [2]
    assert scored(outputs, "vote", "max_prob") == 0.5
    assert scored(outputs, "vote", "agreement") == scored(outputs, "last", "agreement") == 1 / 3
    outputs = decided((1, 0.5), (2, none))
    assert combined(outputs, "vote").predicted() == [1]
    assert scored(outputs, "vote", "agreement") == 1 / 2
    for confidence in ("agreement", "ranked_agreement", "max_prob"):
        assert scored(outputs, "last", confidence) == none
        assert scored(decided((1, none), (1, none)), "vote", confidence) == none


def test_outcomes_name_no_class():
    own = {n: ([1, 0], [0.5, 0.9]) for n in "ab"}
    pool = cm.Pool.from_arrays(None, own, kind="outcomes", costs={"a": 1, "b": 2})
    with pytest.raises(errors.CascadeError, match="gives outcomes, not logits or probabilities or"):
        cm.search(pool, combine="vote")
    with pytest.raises(errors.CascadeError, match="outcomes bring their own confidence; leave it"):
        cm.search(pool, confidence="agreement")


@given(st.lists(st.tuples(CLASSES, SURE), min_size=1, max_size=6), st.data())
def test_agreement_is_a_share_of_models_whatever_their_order(answers, data):
    newest = answers[-1]
    others = data.draw(st.permutations(answers[:-1]))
    share = scored(decided(*answers), "last", "agreement")
    assert share == sum(own == newest[0] for own, _ in answers) / len(answers)
    assert scored(decided(*others, newest), "last", "agreement") == share
    share = scored(decided(*answers), "vote", "agreement")
    assert 1 / len(answers) <= share <= 1
    assert scored(decided(*data.draw(st.permutations(answers))), "vote", "agreement") == share


@given(st.lists(st.tuples(CLASSES, SURE), min_size=1, max_size=6))
def test_ranked_agreement_ranks_by_agreement_first(answers):
    for combine in ("last", "vote"):
        share = scored(decided(*answers), combine, "agreement") * len(answers)
        ranked = scored(decided(*answers), combine, "ranked_agreement") * (len(answers) + 1)
        assert share < ranked < share + 1


@given(SURE, SURE)
def test_one_model_ranks_as_its_confidence(low, high):
    low, high = sorted([low, high])
    scores = [scored(decided((0, own)), "last", "ranked_agreement") for own in (low, high)]
    assert scores[0] <= scores[1]
    assert scored(decided((0, low)), "last", "agreement") == 1


def test_a_mean_may_name_what_no_model_names():
    outputs = {"a": [[0.6, 0.4, 0.0]], "b": [[0.0, 0.4, 0.6]]}
    own = {name: Outputs("probabilities", np.array(rows)) for name, rows in outputs.items()}
    assert scored(own, "mean_probabilities", "agreement") == 0
    assert 0 < scored(own, "mean_probabilities", "ranked_agreement") < 1 / 3


def test_a_vote_is_as_sure_as_those_who_name_it():
    outputs = decided((1, 0.9), (2, 0.1), (1, 0.5))
    assert scored(outputs, "vote", "max_prob") == pytest.approx(0.7)


@settings(max_examples=30)
@given(st.data())
def test_votes_need_decisions_alone(data):
    """Logits and the decisions made of them are the same pool to a vote."""
    pool = data.draw(pools(data.draw(st.sampled_from(["logits", "probabilities"]))))
    decisions = {
        name: (each.predicted(), combine_and_score({name: each}, "last", "max_prob")[1])
        for name, each in pool.outputs.items()
    }
    costs = pool.costs.values("macs")
    other = cm.Pool.from_arrays(pool.samples.labels, decisions, kind="decisions", costs=costs)
    for confidence in ("max_prob", "agreement", "ranked_agreement"):
        fronts = [
            cm.search(each, combine="vote", confidence=confidence, grid=3, threads=1)
            for each in (pool, other)
        ]
        cascades = [[member.cascade.rule_json() for member in front] for front in fronts]
        assert cascades[0] == cascades[1]


IMAGENET = runpy.run_path(str(ROOT / "benchmarks" / "worlds.py"))["imagenet"]
THREE = ["mobilenetv3_large_100", "mixnet_m", "efficientnet_b1"]


@pytest.mark.parametrize(("combine", "accuracy"), [("last", 0.81914), ("vote", 0.81502)])
def test_three_models_of_imagenet_exit_when_they_agree(combine, accuracy):
    pool = IMAGENET()
    cascade = cm.Cascade.of([THREE, "efficientnet_b3a"], [1.0], "agreement", combine)
    own = cm.evaluate(cascade, pool, "macs")
    assert own.accuracy == pytest.approx(accuracy, abs=5e-6)
    assert own.average_cost == pytest.approx(1.767e9, abs=5e5)
    assert own.exit_ratios[0] == pytest.approx(0.76764, abs=5e-6)


def test_search_of_decisions_finds_ensembles_that_exit_when_they_agree():
    pool = IMAGENET().only([*THREE, "efficientnet_b3a"]).rows(slice(0, None, 25), "val")
    front = cm.search(pool, 4, unit="macs", combine="last", confidence="agreement")
    stages = [len(c.stages[0].models) for c in (each.cascade for each in front) if c.thresholds]
    assert stages
    assert min(stages) >= 2
    named = cm.search(pool, unit="macs", stages=[THREE, "efficientnet_b3a"], combine="last",
                      confidence="agreement")  # fmt: skip
    cascade = named[-1].cascade if len(named[-1].cascade.stages) == 2 else named[-2].cascade
    assert set(cascade.stages[0].models) == set(THREE)
    best = front.at_least(named.at_least(0.5).evaluation.accuracy)
    assert best.evaluation.average_cost <= named.at_least(0.5).evaluation.average_cost


def test_agreement_of_single_models_says_what_it_needs():
    pool = random_pool(seed=0, models=3, samples=200)
    front = cm.search(pool, 2, confidence="agreement")
    assert all(len(each.cascade.stages) == 1 for each in front)
    assert any("agreement lets no sample exit after a first model" in w for w in front.warnings)
    assert not any("agrees with itself" in w for w in cm.search(pool, 3, combine="last",
                   confidence="agreement").warnings)  # fmt: skip


@pytest.mark.parametrize("kind", ["logits", "decisions"])
def test_a_vote_of_models_is_a_reference(kind):
    pool = random_pool(seed=0, models=3, samples=300)
    if kind == "decisions":
        own = {n: (o.predicted(), o.values.max(axis=1)) for n, o in pool.outputs.items()}
        pool = cm.Pool.from_arrays(pool.samples.labels, own, kind=kind,
                                   costs=pool.costs.values("macs"))  # fmt: skip
    names = ["a", "b", "c"]
    whole = stored_decisions(cm.Cascade.ensemble(names, None, "vote"), pool).predicted
    assert pool.labelled_by(names, "vote").samples.labels.tolist() == whole.tolist()
    ensemble = cm.as_ensemble(names, pool, combine="vote")
    assert ensemble.val.accuracy == (whole == pool.samples.labels).mean()


def test_decisions_of_several_models_are_joined_by_vote_alone():
    pool = cm.Pool.from_arrays([0, 1], {n: ([0, 1], [0.5, 0.9]) for n in "ab"}, kind="decisions",
                               costs={"a": 1, "b": 2})  # fmt: skip
    with pytest.raises(errors.CascadeError, match="combine them by vote, or name one model"):
        cm.as_ensemble(["a", "b"], pool)
    with pytest.raises(errors.CascadeError, match="leave it out, or take agreement or ranked"):
        cm.search(pool, confidence="prob_gap")
    with pytest.raises(errors.CascadeError, match="is taken"):
        cm.register_confidence("agreement", lambda outputs, kind: outputs[:, 0])


@pytest.mark.parametrize(
    ("way", "combine"),
    # Each way and each combination with half of the others.
    [
        (way, combine)
        for i, way in enumerate(WAYS)
        for j, combine in enumerate(COMBINES["logits"])
        if (i + j) % 2 == 0
    ],
)
def test_every_export_exits_when_models_agree(way: str, combine: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="exporting needs onnx")
    cascade = cm.Cascade.of([["a", "c+d"], "b.1"], [0.9], "agreement", combine)
    cascade, images = from_tables(cascade, tables_of("lll"), tmp_path)
    promised = cm.Runner(cascade).decide(images)
    assert min(np.bincount(promised.stage, minlength=2)) >= 10
    found = WAYS[way](cascade, images, tmp_path)
    run = cm.Runner(cascade)
    alone = [run(image) for image in images[:20]]
    assert [each.class_index for each in alone] == promised.predicted[:20].tolist()
    assert [each.confidence for each in alone] == promised.score[:20].tolist()
    assert flips(found, promised) == 0
    np.testing.assert_allclose(found.score, promised.score, rtol=1e-6)


NAN_RULES = [("vote", "max_prob"), ("vote", "agreement"), ("last", "ranked_agreement")]


@pytest.mark.parametrize(("combine", "confidence"), NAN_RULES)
def test_a_graph_does_not_vote_on_nan(combine: str, confidence: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="exporting needs onnx")
    tables = tables_of("lll")
    for name in ("a", "c+d"):
        broken = tables[name][1].copy()
        broken[3] = np.nan
        tables[name] = ("logits", broken)
    cascade = cm.Cascade.of([["a", "c+d"], "b.1"], [0.2], confidence, combine)
    cascade, images = from_tables(cascade, tables, tmp_path)
    graph = cm.Runner(write_graph(cascade, tmp_path / "graph.onnx"), threads=1)
    with pytest.raises(errors.NotFiniteError):
        graph.decide(images)


@pytest.mark.parametrize(("combine", "confidence"), NAN_RULES)
def test_a_module_does_not_vote_on_nan(combine: str, confidence: str) -> None:
    torch: Any = pytest.importorskip("torch", reason="the module is for torch")
    from committee.export.torch_module import as_module

    class Fixed(torch.nn.Module):
        def forward(self, inputs: Any) -> Any:
            return inputs

    cascade = cm.Cascade.of(["a", "b"], [0.0], confidence, combine)
    module = as_module(cascade, {"a": Fixed(), "b": Fixed()})
    assert module(torch.tensor([[0.0, 1.0]])).predicted.tolist() == [1]
    with pytest.raises(errors.NotFiniteError, match="NaN or infinite outputs"):
        module(torch.tensor([[0.0, 1.0], [np.nan, 1.0]]))
