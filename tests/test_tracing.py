"""Spans of OpenTelemetry: requests, and inside them their stages."""

from __future__ import annotations

import asyncio
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
from committee.serve.tracing import Tracing
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
