"""Laws that hold for every cascade on every pool."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from committee import Cascade, Pool, evaluate
from committee.pool.evaluate import stored_decisions
from committee.rule.cascade import ALWAYS, NEVER
from committee.rule.combinations import ORDER_FREE, combined
from committee.rule.flow import Decisions
from committee.rule.outputs import Outputs
from committee.rule.scores import score
from strategies import AGREEMENTS, COMBINES, CONFIDENCES, NAMES, pools

# Thresholds around the scores that small pools have, and both words.
THRESHOLDS = st.one_of(
    st.sampled_from([ALWAYS, NEVER, 0.0, 0.5, 1.0]), st.floats(-2, 4, allow_nan=False)
)


@st.composite
def cascades(draw: st.DrawFn, pool: Pool) -> Cascade:
    """Cascades of some of a pool's models, in any order, in stages of one or more."""
    names = draw(st.permutations(pool.names))
    names = names[: draw(st.integers(1, len(names)))]
    cuts = [i for i in range(1, len(names)) if draw(st.booleans())]
    bounds = zip([0, *cuts], [*cuts, len(names)], strict=True)
    stages = [names[i:j] for i, j in bounds]
    return Cascade.of(
        stages,
        [draw(THRESHOLDS) for _ in stages[1:]],
        draw(st.sampled_from([*CONFIDENCES, *AGREEMENTS])),
        draw(st.sampled_from(COMBINES[pool.kind])),
    )


@st.composite
def cases(draw: st.DrawFn, kind: str | None = None) -> tuple[Pool, Cascade]:
    pool = draw(pools(kind))
    return pool, draw(cascades(pool))


few = settings(max_examples=50)


def with_thresholds(cascade: Cascade, thresholds) -> Cascade:
    models = [stage.models for stage in cascade.stages]
    return Cascade.of(models, thresholds, cascade.confidence, cascade.combine)


def same(one: Decisions, other: Decisions) -> bool:
    """Whether two decisions are the same, bit for bit."""
    return (
        one.predicted.tobytes() == other.predicted.tobytes()
        and one.score.tobytes() == other.score.tobytes()
        and one.stage.tobytes() == other.stage.tobytes()
    )


@few
@given(cases(), st.sampled_from([ALWAYS, -1e6]))
def test_threshold_below_every_score_exits_all_at_the_first_stage(case, threshold):
    pool, cascade = case
    lowered = with_thresholds(cascade, [threshold] * len(cascade.thresholds))
    first = Cascade.of([cascade.stages[0].models], (), cascade.confidence, cascade.combine)
    assert same(stored_decisions(lowered, pool), stored_decisions(first, pool))
    assert evaluate(lowered, pool).exit_ratios[0] == 1


@few
@given(cases())
def test_thresholds_never_reached_make_an_ensemble(case):
    pool, cascade = case
    raised = stored_decisions(with_thresholds(cascade, [NEVER] * len(cascade.thresholds)), pool)
    ensemble = Cascade.ensemble(cascade.names, cascade.confidence, cascade.combine)
    whole = stored_decisions(ensemble, pool)
    assert raised.predicted.tobytes() == whole.predicted.tobytes()
    assert raised.score.tobytes() == whole.score.tobytes()
    assert set(raised.stage) == {len(cascade.stages) - 1}


@few
@given(cases())
def test_average_cost_is_between_first_stage_and_worst_case(case):
    pool, cascade = case
    evaluation = evaluate(cascade, pool)
    costs = pool.costs.values("macs")
    assert sum(costs[name] for name in cascade.stages[0].models) <= evaluation.average_cost
    assert evaluation.average_cost <= evaluation.worst_case_cost
    assert evaluation.worst_case_cost == sum(costs[name] for name in cascade.names)


@few
@given(cases())
def test_exit_ratios_sum_to_one(case):
    pool, cascade = case
    ratios = evaluate(cascade, pool).exit_ratios
    assert len(ratios) == len(cascade.stages)
    assert sum(ratios) == pytest.approx(1, abs=1e-12)


@few
@given(cases(), st.data())
def test_raising_a_threshold_lets_no_sample_leave_earlier(case, data):
    pool, cascade = case
    thresholds = list(cascade.thresholds)
    if thresholds:
        at = data.draw(st.integers(0, len(thresholds) - 1))
        thresholds[at] = max(thresholds[at], data.draw(THRESHOLDS))
    raised = with_thresholds(cascade, thresholds)
    assert (stored_decisions(raised, pool).stage >= stored_decisions(cascade, pool).stage).all()


@few
@given(cases(), st.randoms(use_true_random=False))
def test_permuting_samples_permutes_decisions(case, random):
    pool, cascade = case
    order = list(range(len(pool)))
    random.shuffle(order)
    straight = stored_decisions(cascade, pool)
    shuffled = stored_decisions(cascade, pool.rows(order, "shuffled"))
    permuted = Decisions(straight.predicted[order], straight.score[order], straight.stage[order])
    assert same(shuffled, permuted)


@few
@given(cases())
def test_a_sample_alone_is_decided_as_among_others(case):
    pool, cascade = case
    together = stored_decisions(cascade, pool)
    for i in range(len(pool)):
        alone = stored_decisions(cascade, pool.rows([i], "alone"))
        assert same(
            alone, Decisions(together.predicted[[i]], together.score[[i]], together.stage[[i]])
        )


@few
@given(st.permutations(range(4)), st.integers(0, 2**32 - 1), st.sampled_from(COMBINES["logits"]))
def test_permuting_classes_permutes_predictions_where_nothing_ties(order, seed, combine):
    random = np.random.default_rng(seed)
    logits = {name: random.normal(size=(9, 4)) for name in "ab"}
    # The two largest logits alone decide this score, so that no sum depends on the order.
    cascade = Cascade.of(["a", "b"], [1.0], "logit_gap", combine)
    straight = stored_decisions(cascade, pool_of(logits))
    permuted = stored_decisions(cascade, pool_of({n: z[:, order] for n, z in logits.items()}))
    assert (np.array(order)[permuted.predicted] == straight.predicted).all()
    assert (permuted.stage == straight.stage).all()


def pool_of(logits) -> Pool:
    return Pool.from_arrays(None, logits, kind="logits", costs=dict.fromkeys(logits, 1))


@few
@given(cases())
def test_simplifying_keeps_decisions_and_never_costs_more(case):
    pool, cascade = case
    simple = cascade.simplified()
    before, after = stored_decisions(cascade, pool), stored_decisions(simple, pool)
    assert before.predicted.tobytes() == after.predicted.tobytes()
    assert before.score.tobytes() == after.score.tobytes()
    costly, cheap = evaluate(cascade, pool), evaluate(simple, pool)
    assert cheap.average_cost <= costly.average_cost
    if cascade.combine != "last":
        assert cheap.average_cost == costly.average_cost


@few
@given(cases())
def test_simplifying_leaves_neither_word_nor_more_to_simplify(case):
    _, cascade = case
    simple = cascade.simplified()
    assert not {ALWAYS, NEVER} & set(simple.thresholds)
    assert simple.simplified() == simple


@pytest.mark.parametrize("combine", sorted(ORDER_FREE))
@given(st.permutations(NAMES), st.integers(0, 2**32 - 1))
def test_means_do_not_depend_on_the_order_of_models(combine, order, seed):
    random = np.random.default_rng(seed)
    # Magnitudes far apart, so that sums in another order would round otherwise.
    outputs = {
        name: Outputs("logits", random.normal(0, 10.0**i, (5, 7))) for i, name in enumerate(NAMES)
    }
    straight = combined(outputs, combine)
    shuffled = combined({name: outputs[name] for name in order}, combine)
    assert straight.values.tobytes() == shuffled.values.tobytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("classes", [1, 2, 3, 7, 10, 100, 1000])
@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_a_row_scores_alone_as_in_a_batch(confidence, classes, dtype):
    random = np.random.default_rng(classes)
    values = random.normal(0, 4, (70, classes)).astype(dtype)
    whole = score(Outputs("logits", values), confidence)
    for rows in gathers(random, len(values)):
        assert score(Outputs("logits", values[rows]), confidence).tobytes() == whole[rows].tobytes()
    for layout in (np.asfortranarray(values), np.repeat(values, 2, axis=1)[:, ::2]):
        assert score(Outputs("logits", layout), confidence).tobytes() == whole.tobytes()


def gathers(random, count: int) -> list:
    """Each row alone, and parts that are strided, reversed, scattered and of odd lengths."""
    alone = [slice(i, i + 1) for i in range(count)]
    scattered = [random.permutation(count)[:size] for size in (2, 3, 5, 17, 33, 64, 69)]
    return [*alone, *scattered, slice(None, None, 3), slice(None, None, -1), slice(5, 60, 7)]


@pytest.mark.parametrize("combine", sorted(ORDER_FREE))
@pytest.mark.parametrize("classes", [1, 3, 10, 1000])
def test_a_row_is_combined_alone_as_in_a_batch(combine, classes):
    random = np.random.default_rng(classes)
    outputs = {
        name: Outputs("logits", random.normal(0, 4, (40, classes)).astype(np.float32))
        for name in "abc"
    }
    whole = combined(outputs, combine).values
    for rows in gathers(random, 40)[:45]:
        part = {name: each.rows(rows) for name, each in outputs.items()}
        assert combined(part, combine).values.tobytes() == whole[rows].tobytes()
