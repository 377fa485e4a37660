"""The process that serves: its sockets, its signals, and connections that take too long."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import socket
from asyncio import TimerHandle
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from committee.errors import CascadeError
from committee.models.failures import reason_of
from committee.run.runner import Runner
from committee.serve.app import WHOLE, make_app, when_gone
from committee.serve.daemon import PREFIX, leave
from committee.serve.edge import Edge, Log, log_line
from committee.serve.grpc import grpc_server
from committee.serve.observers import run_noted
from committee.serve.observing import observers_of
from committee.serve.served import ServedCascade, Serving
from committee.serve.settings import Observing, Settings
from committee.serve.tracing import Tracing

# Takes the cascade, its address, and that of gRPC.
Ready = Callable[[ServedCascade, str, str], None]
# New objects, beyond those that were freed, after which garbage is collected: some megabytes.
_NEW_OBJECTS = 50_000
# Seconds within which threads of a cascade end that is served no more.
_SETTLED = 1.0
# Seconds between two looks at a file that may change.
_LOOK = 1.0


def run_server(
    load: Callable[[], Runner],
    settings: Settings,
    ready: Ready,
    note: Callable[[str], None],
    *,
    log: bool = True,
    watched: Path | None = None,
    tracing: Tracing | None = None,
    observing: Observing | None = None,
) -> None:
    """Serve a cascade until a signal stops the process.

    Args:
        load: Opens the cascade and loads its models.
        settings: Address, sizes, delays and limits.
        ready: Called once requests can be answered, with the cascade, the address, and that of
            gRPC, which is empty without it.
        note: Called with each message for the operator.
        log: Write a line of JSON to standard error for each request.
        watched: A file whose change loads the cascade anew; None for none.
        tracing: Writes spans; None for none.
        observing: What raises alarms, and which samples the reference decides too.

    Raises:
        CommitteeError: If the address cannot be had, or the cascade cannot be loaded.
    """
    serving = Serving(load, settings, tracing=tracing)
    with asyncio.Runner(loop_factory=_event_loop) as loop:
        threads = ThreadPoolExecutor(thread_name_prefix=f"{PREFIX}thread")
        loop.get_loop().set_default_executor(threads)
        try:
            loop.run(_serve(serving, ready, note, log, watched, observing or Observing()))
        finally:
            if tracing is not None:
                tracing.close()
        # The loop would wait for them at its end, however long an image or a disk takes.
        threads.shutdown(wait=False, cancel_futures=True)
        leave()


def _event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop: that of uvloop, which takes less time for a request, if it is there."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.new_event_loop()
    return new_event_loop()


async def _serve(
    serving: Serving,
    ready: Ready,
    note: Callable[[str], None],
    log: bool,
    watched: Path | None,
    observing: Observing,
) -> None:
    listening = listening_socket(serving.settings)
    line = log_line if log else None
    serving.observers, routes = observers_of(observing, serving, note)
    server = _Server(serving, make_app(serving, routes, log=line))
    # Before anything is loaded: a signal without a handler would end the process.
    hangup = asyncio.Event()
    _on_hangup(hangup.set)
    # And before it is read: it may change while models are loaded.
    seen = None if watched is None else file_state(watched)
    helpers = [asyncio.create_task(run_noted(each, note)) for each in serving.observers]
    async with _grpc_address(serving, line) as grpc_address:
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            served = await _unless_stopped(serving.swap(), running)
            if served is not None:
                collect_less()
                ready(served, _address(listening), grpc_address)
                helpers.append(asyncio.create_task(_reload_at(hangup, serving, note)))
                if watched is not None:
                    helpers.append(asyncio.create_task(_look_at(watched, seen, serving, note)))
        finally:
            if serving.current is None:
                server.should_exit = True
            await running
            for each in helpers:
                each.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)


def collect_less() -> None:
    """Let the garbage collector pass over what is loaded, and come less often.

    It looks at the objects of all requests that wait, again and again, which takes as long as their
    scheduling. Few of them are ever garbage that only it can find.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


def _collect_anew() -> None:
    """Free the memory of the cascade before, too, which the garbage collector would pass over."""
    gc.unfreeze()
    collect_less()


@asynccontextmanager
async def _grpc_address(serving: Serving, log: Log | None) -> AsyncIterator[str]:
    """Serve by gRPC too, if that is wanted; yield the address, or an empty text."""
    if serving.settings.grpc_port is None:
        yield ""
        return
    async with grpc_server(serving, log) as port:
        host = serving.settings.host
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _unless_stopped(work: Any, running: asyncio.Task[None]) -> ServedCascade | None:
    """Return what is loaded; None if the server was stopped before."""
    loading = asyncio.ensure_future(work)
    await asyncio.wait([loading, running], return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        loading.cancel()
        return None
    served: ServedCascade = loading.result()
    return served


def listening_socket(settings: Settings) -> socket.socket:
    """Return a socket that is bound to the address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _cannot_listen(settings, error) from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: who does not take an answer is cut off
            milliseconds = round(settings.slow * 1000)
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _cannot_listen(settings, error) from None
    return bound


def _cannot_listen(settings: Settings, error: OSError | UnicodeError) -> CascadeError:
    why = getattr(error, "strerror", None) or "it is no name of a machine"
    return CascadeError(
        f"serve: {settings.host}, port {settings.port}: cannot listen there ({why}). Name another "
        "--host or --port; --port 0 takes a free one"
    )


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _on_hangup(function: Callable[[], None]) -> None:
    if hasattr(signal, "SIGHUP"):  # not on Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, function)


async def _reload_at(wanted: asyncio.Event, serving: Serving, note: Callable[[str], None]) -> None:
    """Serve the cascade anew when that is wanted; what comes while one is loaded counts once."""
    while True:
        await wanted.wait()
        wanted.clear()
        await _reload(serving, note)


async def _reload(serving: Serving, note: Callable[[str], None]) -> None:
    """Serve the cascade anew; if it cannot be loaded, the one before goes on."""
    try:
        served = await serving.swap()
    except Exception as error:  # an engine may raise anything
        note(f"the new cascade is refused, the one before goes on: {reason_of(error)}")
    else:
        later = asyncio.get_running_loop().call_later
        serving.when_retired(lambda: later(_SETTLED, _collect_anew))
        note(f"serving {served.cascade}, version {served.version}")


async def _look_at(
    path: Path, seen: FileState | None, serving: Serving, note: Callable[[str], None]
) -> None:
    """Serve the cascade anew whenever its file is no longer as it was seen."""
    while True:
        await asyncio.sleep(_LOOK)
        now = file_state(path)
        if now not in (None, seen):
            seen = now
            await _reload(serving, note)


# Time of change, size and inode.
FileState = tuple[int, int, int]


def file_state(path: Path) -> FileState | None:
    """Return what changes when a file does; None if it is not there."""
    with suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino
    return None


class _Server(uvicorn.Server):
    """A server that answers what is under way before it stops."""

    def __init__(self, serving: Serving, app: Edge) -> None:
        settings = serving.settings
        super().__init__(
            uvicorn.Config(
                app,
                http=_protocol(settings),
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",  # it warns of what strangers send
                access_log=False,
                server_header=False,
                timeout_keep_alive=max(1, round(settings.slow)),
                timeout_graceful_shutdown=max(1, round(settings.slow)),
            )
        )
        self._serving = serving
        self._loop = asyncio.get_running_loop()
        self._ending: list[asyncio.Task[None]] = []

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; at the second signal refuse what is under way, at the third drop it."""
        self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        current = self._serving.current
        if not self._ending:
            self._ending.append(asyncio.create_task(self._stop()))
        elif len(self._ending) == 1 and current is not None:
            self._ending.append(asyncio.create_task(current.scheduler.close(0)))
        else:
            self.should_exit = self.force_exit = True

    async def _stop(self) -> None:
        try:
            await self._serving.stop()
        finally:
            self.should_exit = True


def _protocol(settings: Settings) -> type[HttpToolsProtocol]:
    """Return a protocol that limits connections, the size of headers and the time that they take.

    Bodies have limits of their own, where they are read. A request whose client goes away is
    cancelled.
    """

    class Protocol(HttpToolsProtocol):
        _waiting: TimerHandle | None = None
        _between = 0  # bytes that came since the last headers or the last part of a body

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()
            if len(self.connections) > settings.max_connections:
                self._refuse("503 Service Unavailable", "too many connections are open; ask again")

        def data_received(self, data: bytes) -> None:
            self._between += len(data)
            super().data_received(data)
            idle = self.cycle is None or self.cycle.response_complete
            if idle and self._waiting is None:  # the headers have not all come
                self._wait()
            if self._between > settings.max_header and not self.transport.is_closing():
                self._refuse(
                    "431 Request Header Fields Too Large",
                    f"the headers are above {settings.max_header:,} bytes; send less",
                )

        def send_400_response(self, msg: str) -> None:
            self._refuse("400 Bad Request", "this is no request of HTTP; send one of HTTP/1.1")

        def on_headers_complete(self) -> None:
            self._done()
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._between = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._between = 0
            self.scope[WHOLE] = True  # type: ignore[literal-required]
            super().on_message_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._done()
            super().connection_lost(exc)
            if self.cycle is not None:
                when_gone(self.cycle.scope)

        def _wait(self) -> None:
            self._waiting = self.loop.call_later(settings.slow, self.transport.close)

        def _done(self) -> None:
            self._between = 0
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _refuse(self, status: str, error: str) -> None:
            """Close the connection; say why, unless an answer is under way."""
            if not _is_answering(self.cycle):
                self.transport.write(_refusal(status, error))
            self.transport.close()

    return Protocol


def _is_answering(cycle: Any) -> bool:
    return cycle is not None and cycle.response_started and not cycle.response_complete


def _refusal(status: str, error: str) -> bytes:
    body = json.dumps({"error": error})
    head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    retry = "Retry-After: 1\r\n" if status.startswith("503") else ""
    return f"{head}{retry}Content-Length: {len(body)}\r\n\r\n{body}".encode()
