"""Spans of OpenTelemetry: requests, and inside them their stages."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest

from committee import Runner
from committee.cli import main
from committee.embedded import embedded_images
from committee.serve.app import make_app
from committee.serve.served import Serving
from committee.serve.settings import Settings
from committee.serve.tracing import Tracing, tracing_to
from serve_world import chain_file, serving

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra tracing is not installed")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_request_has_a_span_for_each_stage_that_it_reached(tmp_path: Path) -> None:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    path = chain_file(tmp_path)
    images = embedded_images("test").read(np.arange(20))
    data = {"name": "images", "shape": [20, 28, 28], "datatype": "UINT8"}
    body = {"inputs": [{**data, "data": images.ravel().tolist()}]}

    async def ask() -> httpx.Response:
        served = Serving(lambda: Runner(path, threads=1), Settings(), (), Tracing(provider))
        await served.swap()
        transport = httpx.ASGITransport(make_app(served))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.post(
                "/v2/models/cascade/infer", json=body, headers={"traceparent": PARENT}
            )
        await served.stop()
        return answer

    assert asyncio.run(ask()).status_code == 200
    *stages, request = memory.get_finished_spans()
    assert request.name == "POST /v2/models/cascade/infer"
    assert dict(request.attributes) == {"http.response.status_code": 200, "committee.samples": 20}
    assert request.parent.span_id == int(PARENT[36:52], 16)
    assert [each.name for each in stages] == ["stage 0", "stage 1", "stage 2"]
    assert [each.attributes["committee.models"] for each in stages] == ["nano", "tiny", "small"]
    assert stages[0].attributes["committee.batch"] == 20
    for each in stages:
        assert each.parent.span_id == request.context.span_id
        assert each.start_time < each.end_time


def test_spans_are_written_to_standard_error(tmp_path: Path) -> None:
    with serving(chain_file(tmp_path), "--trace", "console", "--quiet") as running:
        httpx.get(f"{running.address}/v2")
    assert '"name": "GET /v2"' in running.notes


def test_an_unknown_exporter_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(chain_file(tmp_path)), "--trace", "nowhere"]) == 2
    assert "--trace: no exporter 'nowhere'" in capsys.readouterr().err


class Collector(ThreadingHTTPServer):
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.taken: queue.Queue[tuple[str, dict[str, str], bytes]] = queue.Queue()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.taken.put((self.path, dict(self.headers), body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as made:
        yield made
        made.shutdown()


def test_spans_go_to_the_collector_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    pytest.importorskip(
        "opentelemetry.exporter.otlp.proto.http", reason="the exporter of OTLP is not installed"
    )
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    address = f"http://127.0.0.1:{collector.server_port}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=seven")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    with serving(chain_file(tmp_path), "--trace", "otlp", "--quiet") as running:
        assert httpx.get(f"{running.address}/v2", headers={"traceparent": PARENT}).is_success
    path, headers, body = collector.taken.get(timeout=30)
    assert path == "/v1/traces"
    assert headers["x-tenant"] == "seven"
    (found,) = ExportTraceServiceRequest.FromString(body).resource_spans
    about = {each.key: each.value.string_value for each in found.resource.attributes}
    assert about["service.name"] == "mine"
    (span,) = found.scope_spans[0].spans
    assert (span.name, span.parent_span_id.hex()) == ("GET /v2", PARENT[36:52])


def test_a_service_without_a_name_has_ours() -> None:
    about = tracing_to("console")._provider.resource.attributes
    assert about["service.name"] == "committee"


def test_the_exporter_of_otlp_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert main(["serve", str(chain_file(tmp_path)), "--trace", "otlp"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--trace otlp needs opentelemetry-exporter-otlp-proto-http. Install it with: pip" in line
