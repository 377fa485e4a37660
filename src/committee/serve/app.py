"""The routes of the server: the Open Inference Protocol, and images as people send them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from committee.errors import CommitteeError, RequestError
from committee.serve.answers import (
    OUTPUTS,
    answer_tensors,
    check_outputs,
    labels_with_scores,
)
from committee.serve.edge import Edge
from committee.serve.oip import EXTENSION, JSON_SIZE, read_request, write_response
from committee.serve.samples import ReadSamples
from committee.serve.scheduler import Served
from committee.serve.served import ServedCascade, Serving
from committee.serve.settings import Settings
from committee.version import __version__

T = TypeVar("T")
# The header by which a request says how long it may take.
DEADLINE = "X-Request-Timeout-Ms"
# Bodies above this size are read into samples in a thread.
_LARGE = 2**16
# Requests of tensors have no body of these types.
_NOT_TENSORS = ("multipart/", "image/")


def make_app(serving: Serving, routes: Sequence[BaseRoute] = (), log: Any = None) -> Edge:
    """Return the application.

    Args:
        serving: What is served.
        routes: Further routes.
        log: A function of one dictionary a request, for the access log; None for no log.
    """
    routes = [
        Route("/v2", about_server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        *(
            route
            for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
            for route in (
                Route(path, about_model),
                Route(f"{path}/ready", model_ready),
                Route(f"{path}/infer", infer, methods=["POST"]),
            )
        ),
        Route("/classify", classify, methods=["POST"]),
        *routes,
    ]
    handlers: dict[Any, Any] = {
        RequestError: _refused,
        HTTPException: _http_error,
        CommitteeError: _broken,
        Exception: _broken,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.state.serving = serving
    return Edge(app, serving, log)


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
        runner = served.runner
        rows = {"probabilities": [-1, len(served.cascade.classes) or -1]}
        return JSONResponse(
            {
                "name": served.name,
                "versions": [served.version],
                "platform": "committee",
                "inputs": [
                    {"name": name, "datatype": datatype, "shape": list(shape)}
                    for name, datatype, shape in served.reader.inputs
                ],
                "outputs": [
                    {"name": name, "datatype": datatype, "shape": rows.get(name, [-1])}
                    for name, datatype in OUTPUTS.items()
                    if name != "cost" or runner.unit
                ],
            }
        )


async def infer(request: Request) -> Response:
    """Decide on samples that are sent as tensors."""
    with _serving(request).use() as served:
        _check_model(request, served)
        _check_type(request.headers)
        body = await _body(request)
        asked = read_request(body, request.headers.get(JSON_SIZE))
        check_outputs(asked.outputs, served.runner)
        read = await _in_thread(len(body), served.reader.tensors, asked.inputs)
        made = await _decided(
            request, served, read, asked.max_stage, "probabilities" in asked.outputs
        )
        if len(made) == 1 and made[0].reason:
            raise RequestError(made[0].reason, 422)
        tensors = answer_tensors(served.runner, asked, made)
        content, size = write_response(served.name, served.version, asked, tensors)
        if size is None:
            return Response(content, media_type="application/json")
        headers = {JSON_SIZE: str(size)}
        return Response(content, media_type="application/octet-stream", headers=headers)


async def classify(request: Request) -> Response:
    """Decide on images as files, one or several, or on records in JSON."""
    top = _number(request, "top_k", 5, 1, 10_000)
    last = _number(request, "max_stage", None, 0, 10_000)
    with _serving(request).use() as served:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = await _body(request)
        several = kind == "multipart/form-data"
        if several:
            files = await _files(request.headers, body, served)
            read = await _in_thread(len(body), served.reader.files, files)
        elif kind == "application/json":
            if not served.runner.task.records:
                raise RequestError("send an image as JPEG or PNG, not as JSON", 415)
            records = _json(body)
            several = isinstance(records, list)
            read = await _in_thread(len(body), served.reader.records, records)
        elif kind in ("image/jpeg", "image/png", "application/octet-stream", ""):
            read = await _in_thread(_LARGE, served.reader.files, [body])
        else:
            raise RequestError(
                f"content type {kind[:60]!r} is not read here; send image/jpeg, image/png, "
                "multipart/form-data, or records as application/json",
                415,
            )
        made = await _decided(request, served, read, last, True)
        if not several:
            return JSONResponse(labels_with_scores(served.runner, made[0], top))
        return JSONResponse(
            [
                {"error": each.reason}
                if each.reason
                else labels_with_scores(served.runner, each, top)
                for each in made
            ]
        )


async def _decided(
    request: Request,
    served: ServedCascade,
    read: ReadSamples,
    max_stage: int | None,
    values: bool,
) -> list[Served]:
    """Return what is decided on the samples of a request, failed ones too, in their order."""
    request.scope["committee"]["samples"] = read.count
    if max_stage is not None and served.runner.graph is not None:
        raise RequestError(
            "max_stage: a cascade that is one ONNX file exits where the file says; serve the "
            "cascade file, or a bundle"
        )
    made: list[Served] = []
    if read.rows:
        deadline = _number(request, DEADLINE, None, 1, 10**9, header=True)
        work = served.scheduler.decide(
            read.samples,
            max_stage=max_stage,
            deadline=None if deadline is None else deadline / 1000,
            values=values,
        )
        made = await _while_connected(request, work)
    decided = dict(zip(read.rows, made, strict=True))
    return [
        decided[row] if row in decided else Served(None, None, read.failed[row])
        for row in range(read.count)
    ]


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """Return a result, unless the client goes away: then its places are freed."""
    own = asyncio.current_task()
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        assert own is not None
        own.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if not gone:
            raise
        raise RequestError("the client has gone", 499) from None
    finally:
        watcher.cancel()


async def _body(request: Request) -> bytes:
    """Return the body of a request, within the limits of size and time."""
    settings: Settings = _serving(request).settings
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RequestError("compressed bodies are not read here; send it as it is", 415)
    length = request.headers.get("content-length", "")
    if length.isdigit() and len(length) < 20:
        _check_size(int(length), settings)
    parts, size = [], 0
    try:
        async with asyncio.timeout(settings.slow):
            async for part in request.stream():
                size += len(part)
                _check_size(size, settings)
                parts.append(part)
    except TimeoutError:
        raise RequestError(f"the body did not arrive within {settings.slow:g} s", 408) from None
    except ClientDisconnect:
        raise RequestError("the client has gone", 499) from None
    return b"".join(parts)


def _check_size(size: int, settings: Settings) -> None:
    if size > settings.max_body:
        raise RequestError(f"the body is above {settings.max_body:,} bytes; send less", 413)


async def _files(headers: Headers, body: bytes, served: ServedCascade) -> list[bytes]:
    """Return the files of a form."""

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    most = served.reader.most_samples
    parser = MultiPartParser(headers, whole(), max_files=most, max_fields=most)
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, KeyError) as error:
        raise RequestError(f"the form cannot be read ({error})") from None
    files = []
    for _, value in form.multi_items():
        if isinstance(value, str):
            raise RequestError("the form has a field that is no file; send files only")
        files.append(await value.read())
    await form.close()
    if not files:
        raise RequestError("the form has no file")
    return files


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is no JSON ({str(error).splitlines()[0]})") from None


async def _in_thread(size: int, function: Callable[..., T], *arguments: Any) -> T:
    """Return what a function makes of a body; in a thread if it is large."""
    if size < _LARGE:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


def _number(
    request: Request, name: str, usual: int | None, least: int, most: int, header: bool = False
) -> Any:
    """Return a whole number of the query or of a header."""
    text = (request.headers if header else request.query_params).get(name)
    if text is None:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise RequestError(f"{name}: must be a whole number from {least} to {most:,}")
    return int(text)


def _check_model(request: Request, served: ServedCascade) -> None:
    name, version = request.path_params["name"], request.path_params.get("version")
    if name != served.name:
        raise RequestError(f"no model {name[:60]!r}; {served.name!r} is served", 404)
    if version not in (None, served.version):
        raise RequestError(
            f"no version {version[:60]!r} of {name!r}; {served.version} is served", 404
        )


def _check_type(headers: Headers) -> None:
    kind = headers.get("content-type", "")
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
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _broken(request: Request, error: Exception) -> Response:
    request.scope["committee"]["error"] = f"{type(error).__name__}: {error}"
    return JSONResponse({"error": "internal error; the log of the server says more"}, 500)
