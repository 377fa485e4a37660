"""What is served, in this process: records, async functions, and a server that still loads."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from committee import Cascade, Runner
from committee.errors import ModelError
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.serve.app import make_app
from committee.serve.calls import USUAL
from committee.serve.samples import SampleReader
from committee.serve.served import Serving, version_of
from committee.serve.settings import Settings
from committee.serve.stages import stages_of
from record_world import POOL, write_pool
from serve_world import chain_file
from small_world import code_of, decisions_pool

INFER = "/v2/models/cascade/infer"
TEXTS = ["a good film", "a great film", "awful", "the film", "bad bad"]
Ask = Callable[[httpx.AsyncClient, Serving], Awaitable[Any]]


def opened(folder: Path, pool: str = POOL, code: str = "") -> Runner:
    path = write_pool(folder, pool)
    if code:
        (folder / "models.py").write_text(code)
    known = [load_model(spec, code_of(path))[1] for spec in read_pool_file(path).models]
    models = {spec.name: spec for spec in known}
    cascade = replace(Cascade.of(["small", "large"], [0.7]), models=models, classes=("no", "yes"))
    return Runner(cascade, allow_code=code_of(path))


def asked(load: Callable[[], Runner], ask: Ask, loaded: bool = True, **settings: Any) -> Any:
    """What a function of a client and of what is served returns."""

    async def run() -> Any:
        serving = Serving(load, Settings(**settings))
        if loaded:
            await serving.swap()
        transport = httpx.ASGITransport(make_app(serving))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await ask(client, serving)
        await serving.stop()
        return answer

    return asyncio.run(run())


def column(texts: list[str]) -> dict[str, Any]:
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    return {"inputs": [tensor]}


def outputs(answer: httpx.Response) -> dict[str, Any]:
    return {each["name"]: each["data"] for each in answer.json()["outputs"]}


def test_records_are_tensors_or_json(tmp_path: Path) -> None:
    runner = opened(tmp_path)
    made = [runner(text) for text in TEXTS]

    async def ask(client: httpx.AsyncClient, serving: Serving) -> None:
        about = (await client.get("/v2/models/cascade")).json()
        assert about["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        answer = outputs(await client.post(INFER, json=column(TEXTS)))
        assert answer["class"] == [each.class_index for each in made]
        assert answer["stage"] == [each.stage for each in made]
        assert answer["cost"] == [each.cost for each in made]
        one = (await client.post("/classify", json={"text": TEXTS[0]})).json()
        assert one[0]["label"] == made[0].class_name
        several = await client.post("/classify", json=[{"text": text} for text in TEXTS])
        assert [each[0]["label"] for each in several.json()] == [d.class_name for d in made]
        wrong = await client.post("/classify", json={"txt": "a"})
        assert (wrong.status_code, "text" in wrong.json()["error"]) == (422, True)

    asked(lambda: runner, ask)
    assert {each.stage for each in made} == {0, 1}


ASYNC = """
import asyncio

async def _answer(text):
    await asyncio.sleep(0)
    if "fails" in text:
        raise ConnectionError("no answer")
    return [0.0, 3.0 if "good" in text else 0.1]

def small():
    return _answer

def large():
    return _answer
"""


def test_async_functions_are_models_too_and_calls_fail_alone(tmp_path: Path) -> None:
    runner = opened(tmp_path, code=ASYNC)
    texts = ["good", "it fails", "film", "good it fails"]

    async def ask(client: httpx.AsyncClient, serving: Serving) -> Any:
        return outputs(await client.post(INFER, json=column(texts)))

    made = asked(lambda: runner, ask)
    assert made["class"] == [1, -1, 1, -1]
    assert made["stage"] == [0, -1, 1, -1]
    assert "ConnectionError: no answer" in made["error"][1]


@pytest.mark.parametrize("combine", ["last", "vote"])
def test_a_decision_without_an_answer_has_no_confidence_in_json(
    tmp_path: Path, combine: str
) -> None:
    pool, code = decisions_pool(
        tmp_path, "return np.zeros(len(batch), int), [-np.inf] * len(batch)"
    )
    models = {spec.name: spec for spec in pool.models}
    cascade = replace(Cascade.of(["one", "two"], [0.7], combine=combine), models=models)

    async def ask(client: httpx.AsyncClient, _: Serving) -> list[Any]:
        image = {"name": "images", "datatype": "UINT8", "shape": [1, 1, 1], "data": [0]}
        file = io.BytesIO()
        Image.new("L", (4, 4)).save(file, "PNG")
        answers = [
            await client.post("/classify", content=file.getvalue()),
            await client.post(INFER, json={"inputs": [image], "outputs": [{"name": "confidence"}]}),
        ]
        return [each.json() for each in answers]

    (label,), infer = asked(lambda: Runner(cascade, allow_code=code), ask)
    assert label == {"label": "0", "score": None, "stage": 1, "confidence": None, "cost": 11.0}
    assert infer["outputs"][0]["data"] == [None]


def test_numbers_of_one_request_are_no_other_type_because_of_another(tmp_path: Path) -> None:
    """A model that leaves the type open may halve whole numbers otherwise than others."""
    code = """
import numpy as np
def small():
    return lambda x: np.stack([0 * x[:, 0], x[:, 0] // 2 if x.dtype.kind == "i" else x[:, 0]], 1)
def large():
    return small()
"""
    runner = opened(tmp_path, POOL.replace('input = "text"', 'input = "x"'), code)
    whole, others = np.array([[1], [7]]), np.array([[1.5]])
    want = runner.decide([{"x": row} for row in whole])
    stages = stages_of(runner)
    for some in (others, whole):
        stages.add([{"x": row} for row in some], USUAL, 0.0)
    while any(waiting := [stages.waiting(stage) for stage in range(2)]):
        batch = stages.take(int(np.argmax(waiting)), 9)
        for exits in stages.give(batch, stages.run(batch), 0.0):
            made = exits.decisions
            assert made is not None
            for number, score in zip(exits.numbers.tolist(), made.score, strict=True):
                if number:
                    assert (exits.stage, score) == (want.stage[number - 1], want.score[number - 1])


def test_a_server_that_loads_lives_and_is_not_ready(tmp_path: Path) -> None:
    runner, gate = opened(tmp_path), threading.Event()

    def load() -> Runner:
        gate.wait(60)
        return runner

    async def ask(client: httpx.AsyncClient, serving: Serving) -> None:
        loading = asyncio.create_task(serving.swap())
        assert (await client.get("/v2/health/live")).status_code == 200
        for path in ("/v2/health/ready", "/v2/models/cascade/ready", "/v2/models/cascade"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "being loaded" in answer.json()["error"]
        gate.set()
        await loading
        assert (await client.get("/v2/health/ready")).status_code == 200

    asked(load, ask, loaded=False)


def test_a_cascade_that_cannot_be_loaded_leaves_the_one_before(tmp_path: Path) -> None:
    found: list[Any] = [opened(tmp_path)]

    def load() -> Runner:
        if isinstance(found[-1], Exception):
            raise found[-1]
        return found[-1]

    async def ask(client: httpx.AsyncClient, serving: Serving) -> None:
        before = serving.current
        found.append(ModelError("broken"))
        with pytest.raises(ModelError):
            await serving.swap()
        assert serving.current is before
        assert (await client.post(INFER, json=column(TEXTS))).status_code == 200

    asked(load, ask)


def test_bodies_under_way_have_a_limit_together(tmp_path: Path) -> None:
    async def ask(client: httpx.AsyncClient, serving: Serving) -> None:
        body = column(TEXTS * 10)
        full = await client.post(INFER, json=body)
        assert (full.status_code, "too many bodies" in full.json()["error"]) == (503, True)
        assert serving.body_bytes == 0
        assert (await client.post(INFER, json=column(TEXTS[:1]))).status_code == 200
        assert serving.body_bytes == 0

    asked(lambda: opened(tmp_path), ask, max_bodies=300)


def test_decoders_are_loaded_before_the_first_image(tmp_path: Path) -> None:
    code = (
        "import sys; from committee import Runner; from committee.serve.served import Serving;"
        "from committee.serve.settings import Settings;"
        f"Serving(lambda: Runner({str(chain_file(tmp_path))!r}), Settings())._loaded();"
        "assert {'PIL.JpegImagePlugin', 'PIL.PngImagePlugin'} <= sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_version_changes_with_the_rule_and_with_the_models(tmp_path: Path) -> None:
    cascade = opened(tmp_path).cascade
    changed = {n: replace(spec, fingerprint="other") for n, spec in cascade.models.items()}
    shorter = replace(cascade, stages=cascade.stages[1:])
    versions = {*map(version_of, (cascade, shorter, replace(cascade, models=changed)))}
    assert len(versions) == 3
    assert all(each.isalnum() for each in versions)


def test_a_deadline_counts_from_the_arrival(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens = threading.Event()

    def slow(self: Any, records: Any) -> Any:
        opens.wait(60)

    def late(self: Any, tensors: Any) -> Any:
        time.sleep(0.03)
        return read(self, tensors)

    read = SampleReader.tensors
    monkeypatch.setattr(SampleReader, "records", slow)
    monkeypatch.setattr(SampleReader, "tensors", late)
    headers = {"X-Request-Timeout-Ms": "20"}

    async def ask(client: httpx.AsyncClient, serving: Serving) -> None:
        # Read in a thread, and in the event loop.
        thread = await client.post("/classify", json={"text": "a" * 2**17}, headers=headers)
        opens.set()
        loop = await client.post(INFER, json=column(TEXTS), headers=headers)
        assert serving.current is not None
        assert serving.current.requests == 0
        for answer in (thread, loop):
            assert answer.status_code == 504
            assert answer.json()["error"].startswith("no decision within 0.02 s; wait longer")

    asked(lambda: opened(tmp_path), ask)
