"""The service by gRPC, asked by the protocol's public client."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from committee import Cascade, Runner
from committee.errors import CascadeError, RequestError
from committee.serve.settings import Settings
from export_world import embedded, some_images

grpc = pytest.importorskip("grpc", reason="needs grpcio")
grpcclient = pytest.importorskip("tritonclient.grpc", reason="needs tritonclient")
service = pytest.importorskip("tritonclient.grpc.service_pb2")
pytest.importorskip("starlette", reason="needs the extra serve")
from tritonclient.utils import InferenceServerException  # noqa: E402  # after the line that skips

from committee.serve.grpc import grpc_server  # noqa: E402  # likewise
from committee.serve.observers import Observer  # noqa: E402  # likewise
from committee.serve.served import Serving  # noqa: E402  # likewise

CASCADE = embedded(Cascade.of(["nano", "tiny"], [0.9]))
IMAGES = some_images(40)
PATIENCE = 60.0


class Watching(Observer):
    def __init__(self) -> None:
        self.answers: list[tuple[str, int, int]] = []

    def answered(self, route: str, status: int, seconds: float, samples: int) -> None:
        self.answers.append((route.rpartition("/")[2], status, samples))


class Server:
    """A server in a thread with an event loop of its own; ``gate`` lets models run."""

    def __init__(self, **settings: Any) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.watching, self.log = Watching(), list[dict[str, Any]]()
        self.settings = Settings(grpc_port=0, threads=1, **settings)
        self._started: Future[int] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        self.port = self._started.result(PATIENCE)
        self.client = grpcclient.InferenceServerClient(f"127.0.0.1:{self.port}")

    def _load(self) -> Runner:
        self.runner = Runner(CASCADE, threads=1)
        run = self.runner.usable_outputs

        def gated(*arguments: Any) -> Any:
            assert self.gate.wait(PATIENCE)
            return run(*arguments)

        self.runner.usable_outputs = gated  # type: ignore[method-assign]
        return self.runner

    async def _run(self) -> None:
        self.loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self.serving = Serving(self._load, self.settings, [self.watching])
        try:
            async with grpc_server(self.serving, self.log.append) as port:
                await self.serving.swap()
                self._started.set_result(port)
                await self._end.wait()
                await self.serving.stop()
        except Exception as error:
            self._started.set_exception(error)

    def stop(self) -> None:
        self.gate.set()
        self.client.close()
        with suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    @property
    def pending(self) -> int:
        served = self.serving.current
        assert served is not None
        return served.scheduler.pending

    def failing(self, patch: pytest.MonkeyPatch, error: Exception) -> None:
        """Let decisions fail."""

        async def decide(*_: Any, **__: Any) -> None:
            raise error

        assert self.serving.current is not None
        patch.setattr(self.serving.current.scheduler, "decide", decide)


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(**settings: Any) -> Server:
        started.append(Server(**settings))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server(max_body=2**20)
    yield started
    started.stop()


def images_input(images: Any) -> Any:
    given = grpcclient.InferInput("images", list(images.shape), "UINT8")
    given.set_data_from_numpy(images)
    return given


def until(true: Callable[[], bool]) -> None:
    """Wait for an event in another thread."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def code_of(caught: Any) -> str:
    return str(caught.value.status()).removeprefix("StatusCode.")


def test_images_are_decided_as_by_the_runner(server: Server) -> None:
    expected = Runner(CASCADE, threads=1).decide(IMAGES, len(IMAGES))
    found = server.client.infer("cascade", [images_input(IMAGES)], request_id="x7")
    assert found.get_response().id == "x7"
    assert (found.as_numpy("class") == expected.predicted).all()
    assert (found.as_numpy("stage") == expected.stage).all()
    assert (found.as_numpy("confidence") == expected.score).all()
    labels = [CASCADE.classes[row] for row in expected.predicted]
    assert [each.decode() for each in found.as_numpy("label")] == labels
    assert server.watching.answers[-1] == ("ModelInfer", 200, len(IMAGES))


def test_outputs_and_parameters_are_those_of_the_request(server: Server) -> None:
    wanted = [grpcclient.InferRequestedOutput(name) for name in ("probabilities", "stage")]
    found = server.client.infer(
        "cascade", [images_input(IMAGES)], outputs=wanted, parameters={"max_stage": 0}
    )
    assert [each.name for each in found.get_response().outputs] == [
        *("probabilities", "stage", "limited")
    ]
    np.testing.assert_allclose(found.as_numpy("probabilities").sum(1), 1, rtol=1e-6)
    assert not found.as_numpy("stage").any()
    assert found.as_numpy("limited").any()


def test_typed_contents_are_answered_in_kind(server: Server) -> None:
    request = service.ModelInferRequest(model_name="cascade")
    tensor = request.inputs.add(name="images", datatype="UINT8", shape=[2, 28, 28])
    tensor.contents.uint_contents.extend(IMAGES[:2].ravel().tolist())
    answer = server.client._client_stub.ModelInfer(request)
    assert not answer.raw_output_contents
    expected = Runner(CASCADE, threads=1).decide(IMAGES[:2])
    assert [*answer.outputs[0].contents.int64_contents] == expected.predicted.tolist()


def test_what_is_served_is_told(server: Server) -> None:
    client = server.client
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("cascade")
    assert client.get_server_metadata().name == "committee"
    found = client.get_model_metadata("cascade")
    assert [(each.name, each.datatype) for each in found.inputs] == [("images", "UINT8")]
    assert {"class", "stage", "cost"} <= {each.name for each in found.outputs}
    (version,) = found.versions
    assert client.infer("cascade", [images_input(IMAGES[:1])], model_version=version)


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ({"model_name": "other"}, "NOT_FOUND", "no model 'other'; 'cascade' is served"),
        ({"model_version": "0"}, "NOT_FOUND", "no version '0' of 'cascade'"),
        ({"inputs": [images_input(IMAGES[0])]}, "INVALID_ARGUMENT", "must be UINT8"),
        (
            {"outputs": [grpcclient.InferRequestedOutput("klass")]},
            "INVALID_ARGUMENT",
            "no output 'klass'",
        ),
        ({"parameters": {"max_stage": 3}}, "INVALID_ARGUMENT", "none of the 2 stages"),
        ({"parameters": {"max_stages": 1}}, "INVALID_ARGUMENT", "no parameter 'max_stages'"),
        ({"inputs": [images_input(np.zeros((1400, 28, 28), np.uint8))]}, "RESOURCE_EXHAUSTED", ""),
        ({"compression_algorithm": "gzip"}, "UNIMPLEMENTED", ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_answered_has_the_code_of_its_kind(
    server: Server, change: dict[str, Any], code: str, told: str
) -> None:
    words = {"model_name": "cascade", "inputs": [images_input(IMAGES[:1])], **change}
    with pytest.raises(InferenceServerException) as caught:
        server.client.infer(**words)
    assert code_of(caught) == code
    assert told in caught.value.message()
    assert server.pending == 0


def test_methods_that_are_not_served_say_which_are(server: Server) -> None:
    with pytest.raises(InferenceServerException, match="ModelConfig is not served here") as caught:
        server.client.get_model_config("cascade")
    assert code_of(caught) == "UNIMPLEMENTED"
    assert "ModelInfer" in caught.value.message()
    assert server.watching.answers[-1] == ("unknown", 501, 0)
    assert server.log[-1]["path"] == "/inference.GRPCInferenceService/ModelConfig"


def test_bytes_that_are_no_message_are_refused_and_told(server: Server) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            ask(b"\xff\xff\xff")
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "request: is no ModelInferRequest" in caught.value.details()
    assert server.watching.answers[-1] == ("ModelInfer", 400, 0)
    assert (server.log[-1]["status"], server.log[-1]["bytes"]) == (400, 3)


def test_a_sample_that_fails_does_so_alone(server: Server) -> None:
    def encoded(*files: bytes) -> Any:
        given = grpcclient.InferInput("images", [len(files)], "BYTES")
        return given.set_data_from_numpy(np.array(files, object))

    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(IMAGES[0]).save(file, "png")
    found = server.client.infer("cascade", [encoded(file.getvalue(), b"\xffnone")])
    assert found.as_numpy("class").tolist() == [Runner(CASCADE)(IMAGES[0]).class_index, -1]
    assert found.as_numpy("error").tolist() == [b"", b"no JPEG or PNG image"]
    with pytest.raises(InferenceServerException, match="no JPEG or PNG image") as caught:
        server.client.infer("cascade", [encoded(b"\xffnone")])
    assert code_of(caught) == "INVALID_ARGUMENT"
    assert server.watching.answers[-1] == ("ModelInfer", 422, 1)


def test_a_full_queue_says_when_to_ask_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.failing(monkeypatch, RequestError("the queue is full: 7 samples wait", 503))
    request = service.ModelInferRequest(model_name="cascade")
    given = images_input(IMAGES[:1])
    request.inputs.append(given._get_tensor())
    request.raw_input_contents.append(given._get_content())
    with pytest.raises(grpc.RpcError) as caught:
        server.client._client_stub.ModelInfer(request)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert int(dict(caught.value.trailing_metadata())["retry-after"]) >= 1


def test_an_internal_error_is_in_the_log_alone(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.failing(monkeypatch, ValueError("secret"))
    with pytest.raises(InferenceServerException, match="internal error") as caught:
        server.client.infer("cascade", [images_input(IMAGES[:1])])
    assert code_of(caught) == "INTERNAL"
    assert "secret" not in str(caught.value)
    assert server.log[-1]["error"] == "ValueError: secret"
    assert (server.log[-1]["method"], server.log[-1]["status"]) == ("gRPC", 500)


@pytest.mark.parametrize("own", [True, False], ids=["of the server", "of the client"])
def test_a_request_that_is_late_frees_its_places(start: Callable[..., Server], own: bool) -> None:
    server = start(deadline=0.2 if own else 0.0)
    server.gate.clear()
    with pytest.raises(InferenceServerException) as caught:
        server.client.infer("cascade", [images_input(IMAGES)], client_timeout=None if own else 0.2)
    assert code_of(caught) == "DEADLINE_EXCEEDED"
    until(lambda: server.pending == 0)
    until(lambda: bool(server.watching.answers))
    assert server.watching.answers[-1] == ("ModelInfer", 504 if own else 499, len(IMAGES))
    server.gate.set()
    assert server.client.infer("cascade", [images_input(IMAGES)]).as_numpy("class").size == 40


def test_a_token_is_needed_for_all_but_probes(start: Callable[..., Server]) -> None:
    client = start(token="s3cret").client
    assert client.is_server_live()
    assert client.is_server_ready()
    given = [images_input(IMAGES[:1])]
    for headers, told in (
        (None, "a token is needed"),
        ({"authorization": "Bearer other"}, "the token is not right"),
        ({"authorization": "s3cret"}, "a token is needed"),
    ):
        with pytest.raises(InferenceServerException, match=told) as caught:
            client.infer("cascade", given, headers=headers)
        assert code_of(caught) == "UNAUTHENTICATED"
    assert client.infer("cascade", given, headers={"authorization": "Bearer s3cret"})


def test_what_runs_ends_before_the_server_stops(start: Callable[..., Server]) -> None:
    server = start()
    server.gate.clear()
    thread = ThreadPoolExecutor(1)
    waiting = thread.submit(server.client.infer, "cascade", [images_input(IMAGES)])
    until(lambda: server.pending == len(IMAGES))
    server.loop.call_soon_threadsafe(server._end.set)
    until(lambda: bool(server.serving.not_ready))
    assert not server.client.is_server_ready()
    with pytest.raises(InferenceServerException, match="the server stops") as caught:
        server.client.infer("cascade", [images_input(IMAGES)])
    assert code_of(caught) == "UNAVAILABLE"
    server.gate.set()
    assert waiting.result(PATIENCE).as_numpy("class").size == len(IMAGES)


def test_bodies_have_a_limit_together(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server.serving.body_bytes == 0
    monkeypatch.setattr(server.serving, "body_bytes", server.settings.max_bodies - 100)
    with pytest.raises(InferenceServerException, match="too many bodies") as caught:
        server.client.infer("cascade", [images_input(IMAGES)])
    assert code_of(caught) == "UNAVAILABLE"
    assert server.serving.body_bytes == server.settings.max_bodies - 100


def test_a_port_that_is_taken_is_named(server: Server) -> None:
    async def second() -> None:
        async with grpc_server(Serving(lambda: server.runner, Settings(grpc_port=server.port))):
            raise AssertionError

    with pytest.raises(CascadeError, match=f"port {server.port}: cannot listen there by gRPC"):
        asyncio.run(second())


def test_nothing_comes_before_the_message_that_a_port_is_taken() -> None:
    code = """
import asyncio, socket
from committee.serve.grpc import grpc_server
from committee.serve.served import Serving
from committee.serve.settings import Settings

async def main(port):
    async with grpc_server(Serving(None, Settings(grpc_port=port))):
        pass

with socket.create_server(("127.0.0.1", 0)) as taken:
    try:
        asyncio.run(main(taken.getsockname()[1]))
    except Exception as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot listen there by gRPC" in done.stdout
    assert done.stderr == ""
