"""Cascades of functions, plain and async: the decisions of stored predictions, on any object."""

import asyncio
import pickle

import numpy as np
import pytest

import committee as cm
from committee.errors import CommitteeError
from committee.pool.pool import Pool
from committee.run.decision import Decision
from committee.run.functions import _Answer
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
        assert all(isinstance(each, _Answer) for each in found)
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
        ((2.7, 0.5), "decisions", "'2.7' is no class"),
        ((np.nan, 0.5), "decisions", "'nan' is no class"),
        ((None, 0.5), "decisions", "'None' is no class"),
        ([[0.2, 0.8], [0.9, 0.1]], "probabilities", r"one sample, one number a class, not .*2, 2"),
        (None, "probabilities", "one number a class"),
        (([0.2, 0.8], 5.0), "probabilities", "same length"),
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
    with pytest.raises(CommitteeError, match="'large' must be a function, not NoneType"):
        cm.Runner(pool.described(cascade), models={"small": models["small"], "large": None})
    with pytest.raises(CommitteeError, match="names to functions, not list"):
        cm.Runner(pool.described(cascade), models=[len])


def test_a_class_that_nobody_named_is_not_made_up():
    run = runner(lambda record: ("yes", 0.1), lambda record: (None, None), kind="decisions")
    with pytest.raises(CommitteeError, match="no class was decided: 'large' gave no answer"):
        run("x")
    run = runner(lambda record: (None, None), lambda record: ("yes", None), kind="decisions")
    assert (run("x").class_name, run("x").confidence) == ("yes", -np.inf)


def test_models_of_different_classes_are_refused_where_the_cascade_names_none():
    outputs = {name: np.full((4, 3), 1 / 3) for name in ("small", "large")}
    pool = Pool.from_arrays([0, 1, 2, 0], outputs, kind="probabilities")
    cascade = pool.described(cm.Cascade.of(["small", "large"], [0.9]))
    run = cm.Runner(cascade, models={"small": lambda x: [0.5, 0.5], "large": lambda x: [0, 0, 1]})
    with pytest.raises(CommitteeError, match=r"classes: 'small' gives 2, 'large' gives 3$"):
        run("x")
    run = cm.Runner(cascade, models={"small": lambda x: [np.nan, 0.5, 0.5], "large": len})
    with pytest.raises(CommitteeError, match=r"^model 'small': NaN or infinite outputs$"):
        run("x")


def test_a_cascade_set_by_hand_knows_costs_and_classes_of_the_pool_that_described_it():
    outputs = {name: np.full((4, 3), 1 / 3) for name in ("small", "large")}
    costs = {"small": 1, "large": 9}
    pool = Pool.from_arrays(
        [0, 1, 2, 0], outputs, kind="probabilities", costs=costs, unit="cents",
        classes=("no", "maybe", "yes"),
    )  # fmt: skip
    models = {"small": lambda x: [0.4, 0.4, 0.2], "large": lambda x: [0, 0, 1]}
    run = cm.Runner(pool.described(cm.Cascade.of(["small", "large"], [0.9])), models=models)
    assert (run.unit, run("x").cost, run("x").class_name) == ("cents", 10, "yes")


@pytest.mark.parametrize("is_async", [False, True])
def test_stop_iteration_of_a_function_ends_nothing_but_its_call(is_async):
    """A generator would take it for its end, a thread would never answer, map would stop."""
    run = runner(lambda record: next(iter([])))
    with pytest.raises(CommitteeError, match="'small': raised StopIteration"):
        asyncio.run(run.async_call("x")) if is_async else list(map(run, "xy"))


def test_an_awaitable_of_a_plain_function_is_awaited_or_refused():
    async def call(record):
        return "a", 0.9

    run = runner(lambda record: call(f"of {record}"))
    assert asyncio.run(run.async_call("x")).answer == "a"
    with pytest.raises(CommitteeError, match="'small': its function returns something to await"):
        run("x")


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_where_one_model_of_a_stage_fails_the_others_are_not_waited_for_nor_left(how):
    pool, _, _ = world("outcomes")
    cascade = pool.described(cm.Cascade.of([["small", "large"]], combine="last"))
    ended = []

    async def fails(record):
        await asyncio.sleep(0 if how == "fails" else 60)
        raise TimeoutError("no reply")

    async def slow(record):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(record)

    async def main():
        run = cm.Runner(cascade, models={"small": fails, "large": slow})
        await asyncio.wait_for(run.async_call("x"), 30 if how == "fails" else 0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert ended == ["x"]


def test_a_runner_of_functions_can_be_sent_to_another_process():
    pool, _, _ = world("outcomes")
    cascade = pool.described(cm.Cascade.of(["small", "large"], [0.7], combine="last"))
    run = cm.Runner(cascade, models={"small": divmod7, "large": divmod7})
    assert pickle.loads(pickle.dumps(run))(44) == run(44)


def divmod7(record):
    return divmod(record, 7)
