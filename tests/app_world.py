"""Servers of cascades for tests: at a port of this machine, or called in the process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

import record_world
import small_world
from committee import Cascade, Runner
from committee.models.pool_file import read_pool_file
from committee.serve.app import make_app
from committee.serve.grpc import grpc_server
from committee.serve.observing import observers_of
from committee.serve.served import Serving
from committee.serve.settings import Observing, Settings


def images_runner(folder: Path, classes: tuple[str, ...] = small_world.CLASSES) -> Runner:
    """Two functions of grey images of 4 x 4 pixels."""
    pool, code = small_world.read_pool(_inside(folder, "images"))
    models = {spec.name: spec for spec in pool.models}
    cascade = Cascade.of(small_world.NAMES, [0.9])
    return Runner(replace(cascade, models=models, classes=classes), allow_code=code)


def records_runner(folder: Path) -> Runner:
    """Two functions of a text, the column ``text``."""
    path = record_world.write_pool(_inside(folder, "records"))
    models = {spec.name: spec for spec in read_pool_file(path).models}
    cascade = Cascade.of(("small", "large"), [0.7])
    whole = replace(cascade, models=models, classes=record_world.CLASSES)
    return Runner(whole, allow_code=[str(path.with_name("models.py"))])


def _inside(folder: Path, name: str) -> Path:
    (folder / name).mkdir(exist_ok=True)
    return folder / name


@contextmanager
def served(
    load: Callable[[], Runner], observing: Observing | None = None, **settings: Any
) -> Iterator[str]:
    """Serve a cascade in a thread; yields the address."""
    bound = socket.create_server(("127.0.0.1", 0))
    ready = threading.Event()
    servers: list[uvicorn.Server] = []

    async def run() -> None:
        serving, routes = Serving(load, Settings(**settings)), []
        if observing is not None:
            serving.observers, routes = observers_of(observing, serving, lambda _: None)
        async with AsyncExitStack() as stack:
            try:
                await serving.swap()
                if serving.settings.grpc_port is not None:
                    await stack.enter_async_context(grpc_server(serving))
                config = uvicorn.Config(
                    make_app(serving, routes), lifespan="off", log_config=None, ws="none"
                )
                servers.append(uvicorn.Server(config))
            finally:
                ready.set()
            await servers[0].serve(sockets=[bound])
        await serving.stop()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(60)
        assert servers, "the cascade was not loaded"
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        for each in servers:
            each.should_exit = True
        thread.join()
        bound.close()


class Answer:
    """What an application answered."""

    def __init__(self, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


async def ask(
    app: Any,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    method: str = "POST",
    query: str = "",
) -> Answer:
    """Call an application without a network; the body comes in two parts."""
    half = len(body) // 2
    parts = [(body[:half], True), (body[half:], False)]
    gone = asyncio.Event()  # a client that waits for its answer

    async def receive() -> dict[str, Any]:
        if not parts:
            await gone.wait()
            return {"type": "http.disconnect"}
        part, more = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": more}

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    raw = [(n.lower().encode(), v.encode("latin-1")) for n, v in (headers or {}).items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": raw,
        "client": ("test", 1),
        "server": ("test", 80),
    }
    await app(scope, receive, send)
    return Answer(
        sent[0]["status"], dict(sent[0]["headers"]), b"".join(m.get("body", b"") for m in sent[1:])
    )


def asked(
    load: Callable[[], Runner], work: Callable[[Any], Any], observers: Any = (), **settings: Any
) -> Any:
    """What a function of :func:`ask`, bound to an application, returns."""

    async def run() -> Any:
        serving = Serving(load, Settings(**settings), observers)
        await serving.swap()
        try:
            return await work(partial(ask, make_app(serving)))
        finally:
            await serving.stop()

    return asyncio.run(run())
