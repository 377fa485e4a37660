"""The routes of the server: the Open Inference Protocol, and images as people send them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from committee.errors import CommitteeError, RequestError, UnknownNameError
from committee.serve.answers import labels_with_scores
from committee.serve.deadline import Deadline
from committee.serve.edge import ARRIVED, BROKEN, HEADERS, Edge, Log
from committee.serve.inference import LARGE, check_model, decided, in_thread, metadata_of
from committee.serve.inference import infer as infer_body
from committee.serve.json_response import JSONResponse
from committee.serve.oip import EXTENSION, JSON_SIZE, write_response
from committee.serve.openapi import openapi
from committee.serve.page import about, page
from committee.serve.served import ServedCascade, Serving
from committee.serve.settings import Settings
from committee.serve.tensors import named
from committee.serve.uploads import read_body
from committee.version import __version__

T = TypeVar("T")
# The header by which a request says how long it may take.
DEADLINE = "X-Request-Timeout-Ms"
# Classes of an answer, unless a request says how many.
_TOP = 5
# What the server adds to a scope: that the body has come, and the task that waits for a decision.
WHOLE, _WAITING = "committee.whole", "committee.waiting"
# Requests of tensors have no body of these types.
_NOT_TENSORS = ("multipart/", "image/")


def make_app(serving: Serving, routes: Sequence[BaseRoute] = (), log: Log | None = None) -> Edge:
    """Return the application.

    Args:
        serving: What is served.
        routes: Further routes; one of a known path takes its place.
        log: A function of one dictionary a request, for the access log; None for no log.
    """
    # Searched in this order, so the commonest are first.
    routes = [
        *(
            route
            for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
            for route in (
                Route(f"{path}/infer", infer, methods=["POST"]),
                Route(path, about_model),
                Route(f"{path}/ready", model_ready),
            )
        ),
        Route("/classify", classify, methods=["POST"]),
        *routes,
        Route("/v2", about_server),
        Route("/v2/", about_server, include_in_schema=False),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/", front_page),
        Route("/about", about_cascade),
        Route("/exits", exits),
        Route("/openapi.json", description),
    ]
    handlers: dict[Any, Any] = {
        RequestError: _refused,
        HTTPException: _http_error,
        CommitteeError: _broken,
        Exception: _broken,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    # A redirection would lead where the header Host says.
    app.router.redirect_slashes = False
    app.state.serving = serving
    known = [route for route in reversed(routes) if isinstance(route, Route)]
    paths = {(each.endpoint, frozenset(each.param_convertors)): each.path for each in known}
    return Edge(app, serving, log, paths)


async def about_server(request: Request) -> Response:
    """Say what answers, and which version of it."""
    return JSONResponse({"name": "committee", "version": __version__, "extensions": [EXTENSION]})


async def live(request: Request) -> Response:
    """Say that the server runs."""
    return JSONResponse({"live": True})


async def ready(request: Request) -> Response:
    """Say whether requests can be answered."""
    why = _serving(request).not_ready
    return _retry(JSONResponse({"ready": False, "error": why}, 503), 1) if why else _is_ready()


async def model_ready(request: Request) -> Response:
    """Say whether requests for a cascade can be answered."""
    if why := _serving(request).not_ready:
        return _retry(JSONResponse({"ready": False, "error": why}, 503), 1)
    with _serving(request).use() as served:
        _check_model(request, served)
        return JSONResponse({"name": served.name, "ready": True})


async def about_model(request: Request) -> Response:
    """Say which inputs and outputs a cascade has."""
    with _serving(request).use() as served:
        _check_model(request, served)
        return JSONResponse(metadata_of(served))


async def infer(request: Request) -> Response:
    """Decide on samples that are sent as tensors."""
    scope = request.scope
    if scope["query_string"]:
        raise RequestError("the query is not read here; send parameters in the body")
    with _serving(request).use() as served:
        _check_model(request, served)
        _check_type(scope[HEADERS].get("content-type", ""))
        deadline = _deadline(request)
        async with deadline.limit():
            body, json_size = await _body(request), scope[HEADERS].get(JSON_SIZE.lower())
            work = infer_body(served, body, json_size, scope["committee"], deadline)
            asked, tensors = await _while_connected(request, work)
        content, size = write_response(served.name, served.version, asked, tensors)
        if size is None:
            return Response(content, media_type="application/json")
        headers = {JSON_SIZE: str(size)}
        return Response(content, media_type="application/octet-stream", headers=headers)


async def classify(request: Request) -> Response:
    """Decide on images as files, one or several, or on records in JSON."""
    _check_query(request, ("top_k", "max_stage"))
    query = request.query_params
    top = _number("top_k", query.get("top_k"), 1, 10_000)
    last = _number("max_stage", query.get("max_stage"), 0, 10_000)
    with _serving(request).use() as served:
        kind = request.headers.get("content-type", "")
        deadline = _deadline(request)
        async with deadline.limit():
            body = await _body(request)
            # Decoding an image takes long however few bytes it has.
            size = len(body) if served.reader.task.records else LARGE
            upload = await in_thread(size, read_body, body, kind, served.reader)
            scope = request.scope["committee"]
            last = upload.max_stage if last is None else last
            work = decided(served, upload.samples, scope, last, True, deadline)
            made = await _while_connected(request, work)
        top = top or upload.top_k or _TOP
        if not upload.several:
            return JSONResponse(labels_with_scores(served.runner, made[0], top, last))
        return JSONResponse(
            [
                {"error": each.reason}
                if each.reason
                else labels_with_scores(served.runner, each, top, last)
                for each in made
            ]
        )


async def front_page(request: Request) -> Response:
    """Show what is served to people; the page asks for all data itself."""
    shown = page()
    headers = {"Content-Security-Policy": shown.policy, "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(shown.html, headers=headers)


async def about_cascade(request: Request) -> Response:
    """Say what is served, for people."""
    paths = {getattr(route, "path", "") for route in request.app.routes}
    with _serving(request).use() as served:
        shown = about(served.runner, served.reader, served.name, served.version)
        return JSONResponse({**shown, "alarms": "/alarms" in paths})


async def exits(request: Request) -> Response:
    """Say where samples exited since the cascade was loaded."""
    with _serving(request).use() as served:
        pending = served.scheduler.pending
        return JSONResponse({"version": served.version, **served.exits.shown(pending)})


async def description(request: Request) -> Response:
    """Describe all this in OpenAPI."""
    serving = _serving(request)
    with serving.use() as served:
        return JSONResponse(openapi(served.reader, token=bool(serving.settings.token)))


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """Return a result, unless the client goes away: then its places are freed."""
    scope = request.scope
    scope[_WAITING] = asyncio.current_task()
    try:
        return await work
    except asyncio.CancelledError:
        if scope[_WAITING] is None:
            raise _gone() from None
        raise
    finally:
        scope[_WAITING] = None


def when_gone(scope: Any) -> None:
    """Cancel what waits for a decision, if anything does, because the client has gone."""
    waiting, scope[_WAITING] = scope.get(_WAITING), None
    if waiting is not None:
        waiting.cancel()


async def _body(request: Request) -> bytes:
    """Return the body of a request, within the limits of size and time."""
    settings: Settings = _serving(request).settings
    headers = request.scope[HEADERS]
    if headers.get("content-encoding", "identity") != "identity":
        raise RequestError("compressed bodies are not read here; send it as it is", 415)
    length = headers.get("content-length", "")
    if length.isdigit() and len(length) < 20:
        _check_size(int(length), settings)
    try:
        # One that has come needs no timer.
        async with nullcontext() if WHOLE in request.scope else asyncio.timeout(settings.slow):
            return await _parts(request, settings)
    except TimeoutError:
        raise RequestError(f"the body did not arrive within {settings.slow:g} s", 408) from None


async def _parts(request: Request, settings: Settings) -> bytes:
    """Return a body, counting its bytes as they come."""
    serving, about = _serving(request), request.scope["committee"]
    parts, size, more = [], 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise _gone()
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        _check_size(size, settings)
        serving.count_bytes(about, len(part))
        parts.append(part)
    return b"".join(parts)


def _gone() -> RequestError:
    return RequestError("the client has gone", 499)


def _check_size(size: int, settings: Settings) -> None:
    if size > settings.max_body:
        raise RequestError(f"the body is above {settings.max_body:,} bytes; send less", 413)


def _deadline(request: Request) -> Deadline:
    """Return how long a request may take: as it says, or else as the setting does."""
    given = request.scope[HEADERS].get(DEADLINE.lower())
    milliseconds = _number(DEADLINE, given, 1, 10**9)
    usual = _serving(request).settings.deadline
    return Deadline(request.scope[ARRIVED], milliseconds / 1000 if milliseconds else usual)


def _check_query(request: Request, known: Collection[str]) -> None:
    """Refuse a query that nobody knows: a limit that is misspelt would not hold."""
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known:
            error = UnknownNameError.of("query", "parameter", name[:60], known)
            raise RequestError(str(error))
        if names.count(name) > 1:
            raise RequestError(f"query: {name} stands twice")


def _number(name: str, text: str | None, least: int, most: int) -> Any:
    """Return a whole number of the query or of a header; None if it is not there."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise RequestError(f"{name}: must be a whole number from {least} to {most:,}")
    return int(text)


def _check_model(request: Request, served: ServedCascade) -> None:
    check_model(served, request.path_params["name"], request.path_params.get("version"))


def _check_type(kind: str) -> None:
    if kind.startswith(_NOT_TENSORS):
        raise RequestError(
            f"content type {kind[:60]!r} is not read here; send the JSON of the protocol, or an "
            "image to /classify",
            415,
        )


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


def _is_ready() -> Response:
    return JSONResponse({"ready": True})


def _retry(response: Response, seconds: int) -> Response:
    response.headers["Retry-After"] = str(seconds)
    return response


async def _refused(request: Request, error: Exception) -> Response:
    """Answer a request that cannot be answered; the only place where errors become statuses."""
    assert isinstance(error, RequestError)
    response = JSONResponse({"error": str(error)}, error.status)
    if error.status != 503:
        return response
    served = _serving(request).current
    return _retry(response, 1 if served is None else served.scheduler.retry_after())


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text, path = error.detail, request.url.path
    if error.status_code == 404:
        text = f"{named(path)} is not served here; /openapi.json lists what is"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        text = f"{named(path)} is asked by {allowed}, not {request.method[:20]}"
    return JSONResponse({"error": text}, error.status_code, headers=error.headers)


async def _broken(request: Request, error: Exception) -> Response:
    request.scope["committee"]["error"] = f"{type(error).__name__}: {error}"
    return JSONResponse({"error": BROKEN}, 500)
