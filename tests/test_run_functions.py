"""Cascades of functions, plain and async: the decisions of stored predictions, on any object."""

import asyncio

import numpy as np
import pytest

import committee as cm
from committee.errors import CommitteeError
from committee.pool.pool import Pool
from committee.run.decision import Answer, Decision
from committee.selection.front import committee_of

SAMPLES = 200


def world(kind, seed=0):
    rng = np.random.default_rng(seed)
    outputs, costs = {}, {}
    for name, price in (("small", 1.0), ("large", 20.0)):
        if kind in ("outcomes", "decisions"):
            outputs[name] = rng.integers(0, 2, SAMPLES), rng.random(SAMPLES).round(2)
        else:
            outputs[name] = rng.dirichlet([1, 1], SAMPLES)
        costs[name] = price * rng.random(SAMPLES).round(3)
    labels = None if kind == "outcomes" else rng.integers(0, 2, SAMPLES)
    pool = Pool.from_arrays(
        labels, outputs, kind=kind, costs=costs, unit="dollars", classes=("no", "yes")
    )
    return pool, outputs, costs


def described(pool, combine):
    """A cascade as a search records it."""
    cascade = cm.Cascade.of(["small", "large"], [0.7], combine=combine)
    return committee_of(cascade, cm.evaluate(cascade, pool), pool).cascade


def functions(kind, outputs, costs, calls, is_async=False):
    """Functions that look a sample up, which is a record with the number of its row."""

    def of(name):
        def look(record):
            calls.append(name)
            row = record["row"]
            if kind not in ("outcomes", "decisions"):
                return outputs[name][row]
            value, sure = (column[row] for column in outputs[name])
            said = f"{name} says {value}" if kind == "outcomes" else ("no", "yes")[value]
            return said, sure, costs[name][row]

        async def look_async(record):
            await asyncio.sleep(0)
            return look(record)

        return look_async if is_async else look

    return {name: of(name) for name in outputs}


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("kind", ["outcomes", "decisions", "probabilities"])
def test_functions_decide_as_stored_predictions_do(kind, is_async, tmp_path):
    pool, outputs, costs = world(kind)
    combine = "last" if kind != "probabilities" else "mean_probabilities"
    cascade = described(pool, combine)
    path = cascade.save(tmp_path / "cascade.json")
    calls = []
    run = cm.Runner(path, models=functions(kind, outputs, costs, calls, is_async))
    found = [run({"row": row}) for row in range(SAMPLES)]
    evaluation = cm.evaluate(cascade, pool)
    stages = np.array([each.stage for each in found])
    assert tuple(np.bincount(stages) / SAMPLES) == evaluation.exit_ratios
    assert calls.count("small") == SAMPLES
    assert calls.count("large") == (stages == 1).sum()
    if kind == "outcomes":
        assert all(isinstance(each, Answer) for each in found)
        value = np.mean([each.answer.endswith("1") for each in found])
        assert {each.model for each in found} == {"small", "large"}
    else:
        assert all(isinstance(each, Decision) for each in found)
        assert all(each.class_name == ("no", "yes")[each.class_index] for each in found)
        classes = np.array([each.class_index for each in found])
        value = (classes == pool.samples.labels).mean()
    assert value == pytest.approx(evaluation.accuracy)
    if kind != "probabilities":
        spent = np.mean([each.cost for each in found])
        assert spent == pytest.approx(evaluation.average_cost)


def runner(small, large=lambda record: ("large", 1.0), kind="outcomes"):
    pool, _, _ = world(kind)
    cascade = described(pool, "mean_probabilities" if kind == "probabilities" else "last")
    return cm.Runner(cascade, models={"small": small, "large": large, "other": large})


def test_no_answer_asks_the_next_model():
    assert runner(lambda record: (None, None))("x").model == "large"
    last = runner(lambda record: ("?", 0.1), lambda record: (None, None, 3.0))("x")
    assert (last.answer, last.confidence, last.stage) == (None, -np.inf, 1)


def test_a_cost_that_a_function_does_not_say_is_the_mean_of_the_model():
    costs = world("outcomes")[2]
    found = runner(lambda record: ("a", 0.9))("x")
    assert found.cost == pytest.approx(costs["small"].mean())
    assert runner(lambda record: ("a", 0.1), lambda r: ("b", 0, 5.0))("x").cost == pytest.approx(
        costs["small"].mean() + 5
    )


def test_many_samples_are_under_way_at_once():
    under_way, most = 0, 0

    async def slow(record):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return record, 0.9

    async def every():
        run = runner(slow, slow)
        return await asyncio.gather(*(run.async_call(i) for i in range(10)))

    found = asyncio.run(every())
    assert [each.answer for each in found] == list(range(10))
    assert most == 10


def test_a_sync_call_in_a_running_loop_says_what_to_write():
    async def model(record):
        return "a", 0.9

    async def main():
        runner(model)("x")

    with pytest.raises(CommitteeError, match=r"await run\.async_call"):
        asyncio.run(main())


@pytest.mark.parametrize(
    ("reply", "kind", "word"),
    [
        ("text", "outcomes", r"must return \(answer, confidence\)"),
        (("a", "sure"), "outcomes", "confidence must be real numbers"),
        (("a", np.nan), "outcomes", "NaN"),
        (("a", 0.5, -1), "outcomes", "costs -1"),
        (("a", 0.5, "free"), "outcomes", "costs 'free'"),
        (("maybe", 0.5), "decisions", "maybe"),
        ((7, 0.5), "decisions", "gives 8 classes"),
        ([0.2, 0.3, 0.5], "probabilities", "gives 3 classes"),
        ([0.2, 0.3], "probabilities", "no probability distribution"),
    ],
)
def test_a_reply_of_another_form_names_the_model(reply, kind, word):
    with pytest.raises(CommitteeError, match=word) as found:
        runner(lambda record: reply, kind=kind)("x")
    assert "small" in str(found.value)
    assert "\n" not in str(found.value)


def test_what_a_runner_of_functions_lacks_is_named():
    pool, outputs, costs = world("outcomes")
    cascade = cm.Cascade.of(["small", "large"], [0.7], combine="last")
    models = functions("outcomes", outputs, costs, [])
    with pytest.raises(CommitteeError, match=r"pool\.described"):
        cm.Runner(cascade, models=models)
    with pytest.raises(CommitteeError, match="no function of 'large'"):
        cm.Runner(pool.described(cascade), models={"small": models["small"]})
    with pytest.raises(CommitteeError, match="lazy is for models"):
        cm.Runner(pool.described(cascade), models=models, lazy=True)
