"""A server whose models fail, wait and hang: who is answered, and how."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from uvicorn.server import ServerState

from committee import Cascade, Runner
from committee.embedded import embedded_images
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.serve.edge import Edge
from committee.serve.process import _protocol, _reload
from committee.serve.served import Serving
from committee.serve.settings import Settings
from serve_world import RunningServer, chain_file, serving, until
from small_world import CLASSES, code_of, images, write_pool

# A model that fails, or waits for a file, where the first pixel of an image says so.
CODE = """
import os
import time
from pathlib import Path
import numpy as np

HERE = Path(__file__).parent

def _model():
    while (HERE / "closed").exists():
        (HERE / "loading").write_text(str(os.getpid()))
        time.sleep(0.002)
    def run(batch):
        said = np.rint(batch.reshape(len(batch), -1)[:, 0] * 127.5 + 127.5)
        if (said == 9).any():
            (HERE / "began").touch()
            while not (HERE / "gate").exists():
                time.sleep(0.002)
        if (said == 1).any():
            raise ValueError("not this one")
        answer = np.tile(np.float32([1, 2, 3]), (len(batch), 1))
        answer[said == 2] = np.nan
        return answer
    return run

one = two = _model
"""
RAISES, GIVES_NAN, WAITS = 1, 2, 9
INFER = "/v2/models/cascade/infer"


class World:
    """A server of such a model, and what it is asked."""

    def __init__(self, folder: Path) -> None:
        path = write_pool(folder)
        (folder / "models.py").write_text(CODE)
        code = code_of(path)
        known = [load_model(spec, code)[1] for spec in read_pool_file(path).models]
        cascade = replace(Cascade.of(["one"]), models={s.name: s for s in known}, classes=CLASSES)
        self.folder, self.file = folder, cascade.save(folder / "cascade.json")
        self.options = ["--allow-code", *code]
        self.executor = ThreadPoolExecutor(8)

    @contextmanager
    def serving(self, *options: str) -> Iterator[RunningServer]:
        with serving(self.file, *self.options, *options) as self.running:
            yield self.running

    def ask(self, *what: int, **headers: str) -> httpx.Response:
        some = images(len(what))
        some[:, 0, 0] = what
        tensor = {"name": "images", "shape": [*some.shape], "datatype": "UINT8"}
        body = {"inputs": [{**tensor, "data": some.ravel().tolist()}]}
        address = f"{self.running.address}{INFER}"
        return httpx.post(address, json=body, headers=headers, timeout=60)

    def ask_again(self, *what: int) -> httpx.Response:
        """Ask until there is a place."""
        while (answer := self.ask(*what)).status_code == 503:
            pass
        return answer

    def asked(self, *what: int, **headers: str) -> Future[httpx.Response]:
        return self.executor.submit(self.ask, *what, **headers)

    def held(self) -> Future[httpx.Response]:
        """A request whose batch waits at the gate."""
        (self.folder / "began").unlink(missing_ok=True)
        request = self.asked(WAITS)
        until((self.folder / "began").exists)
        return request

    def open(self) -> None:
        (self.folder / "gate").touch()

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.running.address}{path}", timeout=60)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.open()
    made.executor.shutdown()


def outputs(answer: httpx.Response) -> dict[str, Any]:
    return {each["name"]: each["data"] for each in answer.json()["outputs"]}


def test_a_sample_fails_and_no_other(world: World) -> None:
    with world.serving():
        alone = world.ask(RAISES)
        assert alone.status_code == 422
        assert "model 'one': failed on input" in alone.json()["error"]
        assert "NaN or infinite outputs" in world.ask(GIVES_NAN).json()["error"]
        made = outputs(world.ask(0, RAISES, 0, GIVES_NAN))
        assert made["class"] == [2, -1, 2, -1]
        assert [bool(reason) for reason in made["error"]] == [False, True, False, True]
        assert world.get("/v2/health/ready").status_code == 200


def test_a_full_queue_and_a_missed_deadline(world: World) -> None:
    with world.serving("--queue", "3"):
        held = world.held()
        late = world.asked(0, **{"X-Request-Timeout-Ms": "20"})
        assert late.result().status_code == 504
        waiting = world.executor.submit(world.ask_again, 0, 0)
        answers: list[httpx.Response] = []

        def is_full() -> bool:
            answers.append(world.ask(0, **{"X-Request-Timeout-Ms": "1"}))
            return answers[-1].status_code == 503

        until(is_full)
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert (
            "the queue is full: 3 of its 3 places are taken, and 1 more"
            in answers[-1].json()["error"]
        )
        assert world.ask(0, 0, 0, 0).status_code == 413
        world.open()
        assert held.result().status_code == waiting.result().status_code == 200


def test_a_client_that_goes_away_frees_its_place(world: World) -> None:
    with world.serving("--queue", "2") as running:
        held = world.held()
        host, _, port = running.host.partition(":")
        body = (
            b'{"inputs":[{"name":"images","shape":[1,4,4],"datatype":"UINT8","data":['
            + b",".join([b"0"] * 16)
            + b"]}]}"
        )
        head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection((host, int(port)), 60) as link:
            link.sendall(head.encode() + body)
            until(lambda: world.ask(0, **{"X-Request-Timeout-Ms": "1"}).status_code == 503)
        until(lambda: world.ask(0, **{"X-Request-Timeout-Ms": "1"}).status_code == 504)
        world.open()
        assert held.result().status_code == 200
        until(lambda: 499 in {each["status"] for each in running.requests})


def test_a_model_that_hangs_makes_the_server_not_ready(world: World) -> None:
    with world.serving("--hang", "0.2"):
        held = world.held()
        assert held.result().status_code == 503
        assert "model one hangs" in held.result().json()["error"]
        for path in ("/v2/health/ready", "/v2/models/cascade/ready"):
            assert world.get(path).status_code == 503
        assert world.get("/v2/health/live").status_code == 200
        assert world.ask(0).status_code == 503
        world.open()
        until(lambda: world.get("/v2/health/ready").status_code == 200)
        assert world.ask(0).status_code == 200


def test_what_is_under_way_is_answered_before_the_end(world: World) -> None:
    with world.serving() as running:
        held = world.held()
        running.signal()
        until(lambda: world.get("/v2/health/ready").status_code == 503)
        refused = world.ask(0)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        world.open()
        assert held.result().status_code == 200
        assert running.ended() == 0


def test_what_does_not_end_is_refused_at_the_end(world: World) -> None:
    with world.serving("--drain", "0.2", "--slow", "1") as running:
        held = world.held()
        running.signal()
        assert held.result().status_code == 503
        assert "the server stops" in held.result().json()["error"]
        assert running.ended() == 0


def test_what_is_cut_off_while_it_is_read_is_refused_at_the_end() -> None:
    sent: list[Any] = []
    own = {"settings": Settings(), "stopping": True, "not_ready": "the server stops"}
    stopping: Any = SimpleNamespace(**own, observers=[], tracing=None, body_bytes=0)

    async def read(*_: Any) -> None:
        raise asyncio.CancelledError

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/classify", "headers": []}
    asyncio.run(Edge(read, stopping, None, {})(scope, read, send))
    assert sent[0]["status"] == 503
    assert json.loads(sent[1]["body"]) == {"error": "the server stops"}


def test_the_second_signal_refuses_what_is_under_way(world: World) -> None:
    with world.serving("--drain", "1000") as running:
        held = world.held()
        running.signal(signal.SIGINT)
        until(lambda: world.get("/v2/health/ready").status_code == 503)
        running.signal(signal.SIGINT)
        assert held.result().status_code == 503
        assert running.ended() == 0


@pytest.mark.parametrize("by_signal", [True, False])
def test_what_comes_while_the_cascade_is_loaded_counts_afterwards(
    world: World, by_signal: bool
) -> None:
    def come() -> None:
        until((world.folder / "loading").exists)
        until((world.folder / "loading").read_text)
        if by_signal:
            os.kill(int((world.folder / "loading").read_text()), signal.SIGHUP)
        else:
            world.file.write_bytes(world.file.read_bytes())
        (world.folder / "closed").unlink()

    (world.folder / "closed").touch()
    done = world.executor.submit(come)
    with world.serving(*([] if by_signal else ["--reload"])) as running:
        done.result()
        until(lambda: "serving one, version" in running.notes)
        assert world.ask(0).status_code == 200


def test_sigterm_ends_a_server_that_loads(world: World) -> None:
    (world.folder / "closed").touch()
    words = ["serve", str(world.file), "--port", "0", *world.options]
    with subprocess.Popen(
        [sys.executable, "-m", "committee", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            until((world.folder / "loading").exists)
            process.send_signal(signal.SIGTERM)
            assert process.communicate(timeout=60) == (b"", b"")
            assert process.returncode == 0
        finally:
            process.kill()


def test_sigterm_ends_a_server_that_swaps_in_another_cascade(world: World) -> None:
    with world.serving() as running:
        (world.folder / "closed").touch()
        running.signal(signal.SIGHUP)
        until((world.folder / "loading").exists)
        held = world.held()
        running.signal()
        until(lambda: world.get("/v2/health/ready").status_code == 503)
        world.open()
        assert held.result().status_code == 200
        assert running.ended() == 0
        assert "Traceback" not in running.notes


def test_headers_that_wait_behind_another_request_have_a_limit(world: World) -> None:
    with world.serving() as running:
        host, _, port = running.host.partition(":")
        some = images(1)
        some[:, 0, 0] = WAITS
        tensor = {"name": "images", "shape": [*some.shape], "datatype": "UINT8"}
        body = json.dumps({"inputs": [{**tensor, "data": some.ravel().tolist()}]})
        head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        began = time.monotonic()
        with socket.create_connection((host, int(port)), 60) as link:
            link.sendall((head + body).encode())
            until((world.folder / "began").exists)
            with pytest.raises(ConnectionError):
                link.sendall(b"x" * 2**27)
        assert time.monotonic() - began < 15
        until(lambda: 499 in {each["status"] for each in running.requests})
        world.open()
        assert world.ask(0).status_code == 200


def test_connections_have_a_limit() -> None:
    made = _protocol(Settings(max_connections=1))
    config = uvicorn.Config(lambda *_: None, log_config=None, ws="none")

    async def run() -> bytes:
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: made(config, state, {}), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        async with server:
            _, first = await asyncio.open_connection("127.0.0.1", port)
            reader, second = await asyncio.open_connection("127.0.0.1", port)
            answer = await reader.read()
            first.close()
            second.close()
            return answer

    answer = asyncio.run(run())
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1" in answer
    assert b"too many connections are open; ask again" in answer


def test_many_swaps_lose_no_request_and_keep_no_cascade(tmp_path: Path) -> None:
    path, swaps = chain_file(tmp_path), 5
    image = embedded_images("test").read(np.arange(4))
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    notes: list[str] = []

    def load() -> Runner:
        runner = Runner(path, threads=1)
        alive.add(runner)
        return runner

    async def ask(serving: Serving) -> list[Any]:
        made = []
        while len(notes) < swaps:
            with serving.use() as served:
                made += await served.decide(image)
        return made

    async def work() -> list[Any]:
        serving = Serving(load, Settings())
        await serving.swap()
        asking = [asyncio.create_task(ask(serving)) for _ in range(3)]
        for _ in range(swaps):
            await _reload(serving, notes.append)
        answers = [each for some in await asyncio.gather(*asking) for each in some]
        while len(alive) > 1:
            await asyncio.sleep(0.01)
        await serving.stop()
        return answers

    before = gc.get_threshold()
    try:
        answers = asyncio.run(asyncio.wait_for(work(), 120))
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
    assert all(note.startswith("serving nano -> tiny -> small, version") for note in notes)
    runner = load()
    wanted = [runner(each).class_index for each in image]
    assert [each.decision.class_index for each in answers] == wanted * (len(answers) // 4)


def test_whatever_a_new_cascade_raises_is_noted() -> None:
    async def swap() -> None:
        raise RuntimeError("the engine\nis not well")

    notes: list[str] = []
    asyncio.run(_reload(SimpleNamespace(swap=swap), notes.append))
    assert notes == ["the new cascade is refused, the one before goes on: RuntimeError: the engine"]
