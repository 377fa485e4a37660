"""Online: many threads, an event loop, models that load late, a first call like the others."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from committee import Cascade, Runner
from committee.arrays import Array
from committee.embedded import FOLDER, embedded_images, pool_file
from committee.errors import CommitteeError, ModelError
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.run.decision import Decision
from export_world import embedded
from small_world import CLASSES, images, write_pool

CHAIN = Cascade.of(["nano", "tiny", "small"], [0.9, 0.9])
IMAGES: Array = embedded_images("test").read(np.arange(60))


def in_threads(runner: Runner, some: Array, threads: int = 8) -> list[Decision]:
    with ThreadPoolExecutor(threads) as executor:
        return list(executor.map(runner, some))


def test_threads_decide_on_graphs_as_one_does() -> None:
    runner = Runner(embedded(CHAIN), threads=1)
    alone = [runner(image) for image in IMAGES]
    assert {each.stage for each in alone} == {0, 1, 2}
    for _ in range(3):
        assert in_threads(runner, IMAGES) == alone


NETWORKS = """
import torch

def _made(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(16, 32), torch.nn.Tanh(), torch.nn.Linear(32, 3)
    )

def one():
    return _made(1)

def two():
    return _made(2)
"""


def test_threads_decide_on_modules_as_one_does(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    path = write_pool(tmp_path)
    (tmp_path / "models.py").write_text(NETWORKS)
    runner = opened(Cascade.of(["one", "two"], [0.45]), path)
    some = images(60)
    alone = [runner(image) for image in some]
    assert {each.stage for each in alone} == {0, 1}
    for _ in range(3):
        assert in_threads(runner, some) == alone


def opened(cascade: Cascade, pool: Path, **options: Any) -> Runner:
    """A runner of a cascade of the models of a pool file, whose code may run."""
    code = [str(pool.with_name("models.py"))]
    known = [load_model(spec, code)[1] for spec in read_pool_file(pool).models]
    models = {spec.name: spec for spec in known}
    return Runner(replace(cascade, models=models, classes=CLASSES), allow_code=code, **options)


# A model that waits until the gate is open, and one that never should run. Threads are noted.
GATED = """
import threading
import numpy as np

gate, began = threading.Event(), threading.Event()
ran = []

def _model(name):
    def run(batch):
        ran.append((name, threading.get_ident()))
        began.set()
        return np.array([[3.0, 2.0, 1.0]]) if gate.wait(30) else np.full((1, 3), np.nan)
    return run

def one():
    return _model("one")

def two():
    return _model("two")
"""


class Gated:
    """A runner whose models wait, and what it is to be asked."""

    def __init__(self, folder: Path) -> None:
        self.path = write_pool(folder)
        (folder / "models.py").write_text(GATED)
        self.runner = opened(Cascade.of(["one", "two"], [0.99]), self.path)
        self.image = images(1)[0]

    @property
    def module(self) -> ModuleType:
        return sys.modules[f"committee source {self.path.with_name('models.py')}"]

    async def begun(self) -> asyncio.Task[Decision]:
        task = asyncio.create_task(self.runner.async_call(self.image))
        while not self.module.began.is_set():
            await asyncio.sleep(0.001)
        return task


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[Gated]:
    world = Gated(tmp_path)
    yield world
    world.module.gate.set()


def test_a_loop_goes_on_while_a_runner_decides(gated: Gated) -> None:
    async def main() -> Decision:
        task = await gated.begun()
        # Only a loop that goes on comes here while the model waits.
        gated.module.gate.set()
        return await task

    decision = asyncio.run(main())
    assert decision == gated.runner(gated.image)
    assert (decision.class_name, decision.stage) == ("cat", 1)
    threads = [thread for _, thread in gated.module.ran[:2]]
    assert threads[0] == threads[1] != gated.module.ran[2][1]


def test_who_cancels_is_answered_at_once_and_no_further_model_runs(gated: Gated) -> None:
    async def main() -> None:
        task = await gated.begun()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
        assert not gated.module.gate.is_set()
        gated.module.gate.set()

    asyncio.run(main())  # waits for the loop's threads
    assert [name for name, _ in gated.module.ran] == ["one"]
    # The runner is as good as before.
    assert gated.runner(gated.image).stage == 1


def test_calls_that_hang_and_were_cancelled_hold_up_no_other_runner(gated: Gated) -> None:
    other = Runner(embedded(CHAIN), threads=1)

    async def main() -> Decision:
        hanging = [await gated.begun() for _ in range(64)]
        for task in hanging:
            task.cancel()
        decision = await asyncio.wait_for(other.async_call(IMAGES[0]), 20)
        assert not gated.module.gate.is_set()
        gated.module.gate.set()
        await asyncio.gather(*hanging, return_exceptions=True)
        return decision

    assert asyncio.run(main()) == other(IMAGES[0])


@pytest.mark.parametrize(
    "made", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))]
)
@pytest.mark.parametrize("form", ["models", "graph"])
def test_a_copy_of_a_runner_decides_alike(tmp_path: Path, made: Any, form: str) -> None:
    cascade = embedded(Cascade.of(["nano", "tiny"], [0.9]))
    if form == "graph":
        pytest.importorskip("onnx", reason="a graph is written with onnx")
        from committee.export.graph import write_graph

        runner = Runner(write_graph(cascade, tmp_path / "cascade.onnx"), threads=1)
    else:
        runner = Runner(cascade, threads=1, lazy=True)
    again = made(runner)
    assert again is not runner
    assert repr(again) == repr(runner)
    assert [again(image) for image in IMAGES[:9]] == [runner(p) for p in IMAGES[:9]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # that is what is tested
def test_a_process_that_was_forked_decides_alike() -> None:
    runner = Runner(embedded(CHAIN), threads=1, lazy=True)
    some = IMAGES[:9]
    alone = [Runner(embedded(CHAIN), threads=1)(image) for image in some]

    async def in_loop() -> list[Decision]:
        return list(await asyncio.gather(*map(runner.async_call, some)))

    # Threads of the parent wait for calls, and one is loading a model.
    asyncio.run(runner.async_call(some[0]))
    with runner._models._loading:
        child = os.fork()
    if child == 0:  # pragma: no cover
        right = asyncio.run(in_loop()) == alone == [runner(image) for image in some]
        os._exit(0 if right else 1)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child never answered")
    assert os.waitstatus_to_exitcode(status) == 0


def test_answers_that_are_no_numbers_are_told_wherever_they_come(tmp_path: Path) -> None:
    pool = write_pool(tmp_path)
    code = (tmp_path / "models.py").read_text()
    (tmp_path / "models.py").write_text(code.replace("@ matrix", "@ matrix * np.array(['x'])"))
    texts = write_pool(tmp_path / "texts") if (tmp_path / "texts").mkdir() is None else pool
    answer = "return np.full((len(batch), 3), None)"
    text = (tmp_path / "texts" / "models.py").read_text()
    made = text.replace("return batch.reshape(len(batch), -1) @ matrix", answer)
    (tmp_path / "texts" / "models.py").write_text(made)
    for path in (pool, texts):
        runner = opened(Cascade.of(["one"]), path)
        for call in (
            lambda r: r(images(1)[0]),
            lambda r: r.decide(images(3)),
            lambda r: r.warm(),
            lambda r: asyncio.run(r.async_call(images(1)[0])),
        ):
            with pytest.raises(ModelError, match=r"^model 'one': ") as told:
                call(runner)
            assert "\n" not in str(told.value)


def test_what_a_model_does_to_its_input_is_not_seen_by_the_next(tmp_path: Path) -> None:
    pool = write_pool(tmp_path)
    chain, some = Cascade.of(["one", "two"], [np.inf]), images(40)
    alone = opened(chain, pool)
    expected = [alone(image) for image in some]
    spoils = tmp_path / "spoils"
    spoils.mkdir()
    path = write_pool(spoils)
    code = (spoils / "models.py").read_text()
    answer = "return batch.reshape(len(batch), -1) @ matrix"
    changed = "made = batch.reshape(len(batch), -1) @ matrix; batch[...] = 9; return made"
    (spoils / "models.py").write_text(code.replace(answer, changed))
    runner = opened(chain, path)
    assert [runner(image) for image in some] == expected
    decided = runner.decide(some, 8)
    assert decided.predicted.tolist() == [each.class_index for each in expected]


def test_many_wait_for_one_loop(tmp_path: Path) -> None:
    runner = Runner(embedded(CHAIN), threads=1)

    async def main() -> list[Decision]:
        return list(await asyncio.gather(*map(runner.async_call, IMAGES)))

    assert asyncio.run(main()) == [runner(image) for image in IMAGES]


def test_what_fails_in_a_thread_is_told(tmp_path: Path) -> None:
    runner = Runner(embedded(Cascade.of(["nano"])), threads=1)
    with pytest.raises(CommitteeError, match="an image must be bytes of shape"):
        asyncio.run(runner.async_call(np.zeros((28, 28))))


def test_late_models_are_loaded_when_they_are_needed() -> None:
    eager = Runner(embedded(CHAIN), threads=1)
    lazy = Runner(embedded(CHAIN), threads=1, lazy=True)
    assert eager.loaded == ("nano", "tiny", "small")
    assert lazy.loaded == ("nano",)
    by_stage = {eager(image).stage: image for image in IMAGES}
    for stage, known in ((0, ("nano",)), (1, ("nano", "tiny")), (2, ("nano", "tiny", "small"))):
        assert lazy(by_stage[stage]) == eager(by_stage[stage])
        assert lazy.loaded == known


def test_threads_that_need_a_late_model_at_once_load_it_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from committee.run import loading

    made: list[str] = []

    def counting(spec: Any, *rest: Any) -> Any:
        made.append(spec.name)
        return load_model(spec, *rest)

    monkeypatch.setattr(loading, "load_model", counting)
    alone = [Runner(embedded(CHAIN), threads=1)(image) for image in IMAGES]
    made.clear()
    lazy = Runner(embedded(CHAIN), threads=1, lazy=True)
    assert in_threads(lazy, IMAGES) == alone
    assert sorted(made) == ["nano", "small", "tiny"]


def with_late_file(path: Path) -> Cascade:
    """The chain, its last model from a file, with the fingerprint of what is in the package."""
    cascade = embedded(CHAIN)
    small = next(spec for spec in pool_file().models if spec.name == "small")
    spec = replace(load_model(small)[1], source=f"onnx:{path}")
    return replace(cascade, models={**cascade.models, "small": spec})


def test_a_late_file_that_is_missing_or_altered_is_noticed_at_opening(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    cascade = with_late_file(path)
    with pytest.raises(ModelError, match=r"model 'small': no file .*small\.onnx\. Correct"):
        Runner(cascade, lazy=True)
    path.write_bytes((FOLDER / "nano.onnx").read_bytes())
    with pytest.raises(ModelError, match=r"model 'small': .* has changed since: fingerprint was"):
        Runner(cascade, lazy=True)
    path.write_bytes((FOLDER / "small.onnx").read_bytes())
    assert Runner(cascade, lazy=True).loaded == ("nano",)


def test_late_code_that_may_not_run_is_noticed_at_opening(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def make():\n    raise SystemExit\n")
    cascade = embedded(CHAIN)
    spec = replace(cascade.models["small"], source=f"python:{tmp_path / 'own.py'}:make")
    with pytest.raises(CommitteeError, match="--allow-code"):
        Runner(replace(cascade, models={**cascade.models, "small": spec}), lazy=True)


def test_a_late_file_that_goes_after_opening_is_told_when_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes((FOLDER / "small.onnx").read_bytes())
    lazy = Runner(with_late_file(path), threads=1, lazy=True)
    eager = Runner(embedded(CHAIN), threads=1)
    path.unlink()
    by_stage = {eager(image).stage: image for image in IMAGES}
    with pytest.raises(ModelError, match=r"model 'small': no file"):
        lazy(by_stage[2])
    assert lazy(by_stage[1]) == eager(by_stage[1])


def test_warm_loads_and_runs_all_models(tmp_path: Path) -> None:
    lazy = Runner(embedded(CHAIN), threads=1, lazy=True)
    lazy.warm()
    assert lazy.loaded == ("nano", "tiny", "small")
    pool = write_pool(tmp_path)
    runner = opened(Cascade.of(["one", "two"], [-np.inf]), pool)
    module = sys.modules[f"committee source {tmp_path / 'models.py'}"]
    module.batches.clear()
    runner.warm()
    # The second never runs on an image, for the first always exits; it is warm all the same.
    assert set(module.batches) == {"one", "two"}


def test_warm_does_not_mind_nan_of_a_blank_image(tmp_path: Path) -> None:
    pool = write_pool(tmp_path)
    code = (tmp_path / "models.py").read_text()
    (tmp_path / "models.py").write_text(
        code.replace("@ matrix", "@ matrix / (0 if (batch == batch[0, 0, 0, 0]).all() else 1)")
    )
    runner = opened(Cascade.of(["one", "two"], [0.9]), pool)
    with np.errstate(all="ignore"):
        runner.warm()
    assert runner(images(1)[0]).class_name in CLASSES
