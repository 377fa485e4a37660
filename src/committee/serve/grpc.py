"""The service of the Open Inference Protocol by gRPC: the same samples, batches and answers."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from committee.errors import CascadeError, RequestError, needing
from committee.serve.deadline import Deadline
from committee.serve.edge import BROKEN, UNKNOWN, Log, tell, texts_of, token_problem, traced
from committee.serve.grpc_messages import SERVICE, answer_of, body_of, message_of, methods
from committee.serve.inference import check_model, infer, metadata_of
from committee.serve.oip import EXTENSION
from committee.serve.served import Serving
from committee.serve.settings import Settings
from committee.text import brief
from committee.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Names of gRPC's codes, by the status of HTTP that an error has; INTERNAL for others.
CODES = {
    **dict.fromkeys((400, 415, 422), "INVALID_ARGUMENT"),
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
# What a probe may ask without a token.
_OPEN = ("ServerLive", "ServerReady")


async def _live(serving: Serving, message: Any, about: Any, deadline: Deadline) -> Any:
    return {"live": True}


async def _ready(serving: Serving, message: Any, about: Any, deadline: Deadline) -> Any:
    return {"ready": not serving.not_ready}


async def _model_ready(serving: Serving, message: Any, about: Any, deadline: Deadline) -> Any:
    if serving.not_ready:
        return {"ready": False}
    with serving.use() as served:
        check_model(served, message.name, message.version)
        return {"ready": True}


async def _about_server(serving: Serving, message: Any, about: Any, deadline: Deadline) -> Any:
    return {"name": "committee", "version": __version__, "extensions": [EXTENSION]}


async def _about_model(serving: Serving, message: Any, about: Any, deadline: Deadline) -> Any:
    with serving.use() as served:
        check_model(served, message.name, message.version)
        return metadata_of(served)


async def _infer(serving: Serving, message: Any, about: dict[str, Any], deadline: Deadline) -> Any:
    with serving.use() as served:
        check_model(served, message.model_name, message.model_version)
        asked, tensors = await infer(served, *body_of(message), about, deadline)
        raw = bool(message.raw_input_contents)
        return answer_of(served.name, served.version, asked, tensors, raw=raw)


# From what is served, a message, what is known of the request, and its deadline, to fields of the
# answer or to it.
_METHODS: dict[str, Callable[[Serving, Any, dict[str, Any], Deadline], Awaitable[Any]]] = {
    "ServerLive": _live,
    "ServerReady": _ready,
    "ModelReady": _model_ready,
    "ServerMetadata": _about_server,
    "ModelMetadata": _about_model,
    "ModelInfer": _infer,
}


@asynccontextmanager
async def grpc_server(serving: Serving, log: Log | None = None) -> AsyncIterator[int]:
    """Serve by gRPC in the running event loop, beside what else serves; yield the port.

    Args:
        serving: What is served, its settings and its observers.
        log: Takes a dictionary for each request; None for no log.

    Raises:
        CascadeError: If the address cannot be had.
        MissingExtraError: If grpcio is not installed.
    """
    # The part of gRPC that is not Python writes to our standard error what we say in one line.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with needing("--grpc-port", "grpc", "grpc"):
        from grpc import aio, method_handlers_generic_handler
    settings = serving.settings
    server = aio.server(
        options=_options(settings), maximum_concurrent_rpcs=settings.max_connections
    )
    handlers = {name: _handler(serving, log, f"/{SERVICE}/{name}", name) for name in methods()}
    known = method_handlers_generic_handler(SERVICE, handlers)
    server.add_generic_rpc_handlers((known, _unknown_methods(serving, log)))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        port: int = server.add_insecure_port(f"{host}:{settings.grpc_port}")
    except RuntimeError:
        raise CascadeError(
            f"serve: {settings.host}, port {settings.grpc_port}: cannot listen there by gRPC. Name "
            "another --grpc-port, or --grpc-port 0 for a free one"
        ) from None
    await server.start()
    try:
        yield port
    finally:
        await server.stop(settings.drain)


def _options(settings: Settings) -> list[tuple[str, int]]:
    """Return the limits of the transport, in gRPC's words."""
    return [
        ("grpc.max_receive_message_length", settings.max_body),
        ("grpc.max_metadata_size", settings.max_header),
        # A compressed message could become any size; the first bit is for those that are not.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        # Two servers at one port would share its requests.
        ("grpc.so_reuseport", 0),
    ]


def _handler(serving: Serving, log: Log | None, path: str, name: str) -> Any:
    """Return what answers a method, in gRPC's form; what refuses it, if its name is empty."""
    from grpc import StatusCode, unary_unary_rpc_method_handler

    route = f"/{SERVICE}/{name}" if name else UNKNOWN

    async def answer(data: bytes, context: Any) -> Any:
        # The status if the client goes away.
        about: dict[str, Any] = {"samples": 0, "status": 499, "bytes": 0}
        metadata = [
            (key.encode(), value.encode() if isinstance(value, str) else value)
            for key, value in context.invocation_metadata() or ()
        ]
        began, made = time.perf_counter(), b""
        deadline = Deadline(began, serving.settings.deadline)
        try:
            _check_token(serving.settings.token, name, metadata)
            serving.count_bytes(about, len(data))
            with traced(serving, "gRPC", path, texts_of(metadata), about):
                async with deadline.limit():
                    made = await _answer(serving, path, name, data, about, deadline)
            about["status"], refusal = 200, ""
        except RequestError as error:
            about["status"], refusal = error.status, str(error)
        except Exception as error:
            about |= {"status": 500, "error": f"{type(error).__name__}: {error}"}
            refusal = BROKEN
        finally:
            serving.body_bytes -= about["bytes"]
            asked = context.peer(), "gRPC", path
            tell(serving, log, route, asked, about, time.perf_counter() - began)
        if refusal:
            code = getattr(StatusCode, CODES.get(about["status"], "INTERNAL"))
            await context.abort(code, refusal, _retry(serving, about["status"]))
        return made

    # Messages are decoded by us: gRPC would tell nobody of one that cannot be.
    return unary_unary_rpc_method_handler(answer)


async def _answer(
    serving: Serving, path: str, name: str, data: bytes, about: dict[str, Any], deadline: Deadline
) -> bytes:
    """Return the bytes of the message that answers those of another."""
    if not name:
        raise RequestError(f"{path} is not served here; {SERVICE} has {', '.join(_METHODS)}", 501)
    response = methods()[name][1]
    made = await _METHODS[name](serving, message_of(name, data), about, deadline)
    encoded: bytes = (response(**made) if isinstance(made, dict) else made).SerializeToString()
    return encoded


def _unknown_methods(serving: Serving, log: Log | None) -> Any:
    """Return what refuses all other methods, in gRPC's form."""
    from grpc import GenericRpcHandler

    class Unknown(GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
        def service(self, handler_call_details: Any) -> Any:
            return _handler(serving, log, brief(handler_call_details.method), "")

    return Unknown()


def _check_token(token: str, method: str, metadata: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a call without the token, if there is one."""
    given = dict(metadata).get(b"authorization", b"")
    if method not in _OPEN and (problem := token_problem(given, token.encode())):
        raise RequestError(f"{problem} in the metadata: authorization: Bearer TOKEN", 401)


def _retry(serving: Serving, status: int) -> tuple[tuple[str, str], ...]:
    """Return the metadata that say when to ask again."""
    if status != 503 or serving.current is None:
        return ()
    return (("retry-after", str(serving.current.scheduler.retry_after())),)
