"""What every request passes: the token, the access log, and the time that a client may take."""

from __future__ import annotations

import hmac
import json
import sys
import time
from asyncio import CancelledError
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from committee.serve.served import Serving

# Takes a dictionary for each request.
Log = Callable[[dict[str, Any]], None]
# Where a scope holds the headers by their names.
HEADERS = "committee.headers"
# Where it holds the moment at which the request came.
ARRIVED = "committee.arrived"
# What answers a path, and the names of the path's parts.
PathKey = tuple[Any, frozenset[str]]
# What a probe may ask without a token; and a page without data, which asks people for the token.
_OPEN = ("/v2/health/live", "/v2/health/ready", "/", "/openapi.json")
# The route of what is not served.
UNKNOWN = "unknown"
_ELSEWHERE = (
    "Host: names another machine; ask 127.0.0.1 or localhost. A proxy must send that as Host, or "
    "set a token"
)
BROKEN = "internal error; the log of the server says more"


class Edge:
    """An application that checks a token, and tells the log and the observers of each request.

    Args:
        app: What answers.
        serving: The settings and the observers.
        log: A function of one dictionary a request; None for no log.
        paths: Paths with the names of their parts, by what answers and by these names.
    """

    def __init__(
        self, app: ASGIApp, serving: Serving, log: Log | None, paths: Mapping[PathKey, str]
    ) -> None:
        self._app, self._serving, self._log, self._paths = app, serving, log, paths
        self._token = serving.settings.token.encode()
        # Who reaches only this machine may be a browser that a page of strangers drives.
        self._host = serving.settings.host if serving.settings.is_local else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        about: dict[str, Any] = {"samples": 0, "status": 500, "bytes": 0}
        scope["committee"] = about
        scope[ARRIVED] = began = time.perf_counter()
        scope[HEADERS] = headers = texts_of(scope["headers"])

        started = False

        async def sent(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                about["status"], started = message["status"], True
            await send(message)

        try:
            with traced(self._serving, scope["method"], scope["path"], headers, about):
                if problem := self._problem(scope["path"], headers):
                    await _refuse(sent, 401, f"{problem}: Authorization: Bearer TOKEN")
                elif [name for name, _ in scope["headers"]].count(b"host") > 1:
                    await _refuse(sent, 400, "Host: stands twice; send it once")
                elif not self._is_meant(headers.get("host", "")):
                    await _refuse(sent, 421, _ELSEWHERE)
                else:
                    await self._app(scope, receive, sent)
        except CancelledError:  # its time is over, while it was read or decoded
            if started or not self._serving.stopping:
                raise
            await _refuse(sent, 503, self._serving.not_ready)
        finally:
            self._serving.body_bytes -= about["bytes"]
            self._tell(scope, about, time.perf_counter() - began)

    def _problem(self, path: str, headers: Mapping[str, str]) -> str:
        if path in _OPEN:
            return ""
        return token_problem(headers.get("authorization", "").encode("latin-1"), self._token)

    def _is_meant(self, host: str) -> bool:
        """Return False if a name leads here that anybody may have made (DNS rebinding)."""
        if self._token or not self._host:
            return True
        return not host or _is_own(host, self._host)

    def _tell(self, scope: Scope, about: dict[str, Any], seconds: float) -> None:
        key = scope.get("endpoint"), frozenset(scope.get("path_params", ()))
        route = self._paths.get(key, UNKNOWN)
        client = (scope.get("client") or [""])[0]
        asked = client, scope["method"], scope["path"]
        tell(self._serving, self._log, route, asked, about, seconds)


def token_problem(given: bytes, token: bytes) -> str:
    """Return what is wrong with an authorization; empty if nothing is.

    Args:
        given: The header, or empty without one.
        token: What it must bring; empty for nothing.
    """
    if not token:
        return ""
    scheme, _, brought = given.partition(b" ")
    if scheme.lower() != b"bearer":
        return "a token is needed"
    return "" if hmac.compare_digest(brought.strip(), token) else "the token is not right"


def traced(
    serving: Serving, method: str, path: str, headers: Mapping[str, str], about: dict[str, Any]
) -> AbstractContextManager[None]:
    """Return the span of a request, if spans are written."""
    if serving.tracing is None:
        return nullcontext()
    return serving.tracing.request(f"{method} {path}", headers, about)


def tell(
    serving: Serving,
    log: Log | None,
    route: str,
    asked: tuple[str, str, str],
    about: dict[str, Any],
    seconds: float,
) -> None:
    """Tell the observers and the log of a request that was answered.

    Args:
        serving: The observers.
        log: The log; None for none.
        route: The path with the names of its parts.
        asked: The client, the method, and the path.
        about: Its status, the number of its samples, and an internal error.
        seconds: How long it took.
    """
    for observer in serving.observers:
        observer.answered(route, about["status"], seconds, about["samples"])
    if log is not None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        client, method, path = asked
        head = {"time": now, "client": client, "method": method, "path": path}
        log({**head, "ms": round(seconds * 1e3, 3), **about})


def texts_of(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by their names, the first of each name."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(headers)}


@lru_cache(64)
def _is_own(host: str, own: str) -> bool:
    """Return True if a header Host names this machine: by an address, or as it was told to."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        ip_address(name)
    except ValueError:
        return name.lower() in ("localhost", own.lower())
    return True


async def _refuse(send: Send, status: int, error: str) -> None:
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 503:
        headers.append((b"retry-after", b"1"))
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def log_line(about: dict[str, Any]) -> None:
    """Write one line of JSON to standard error."""
    sys.stderr.write(json.dumps(about) + "\n")
