"""Spans of OpenTelemetry: one for a request, and inside it one for each stage that it reached."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any

from committee.errors import UnknownNameError, needing

_GROUP = "opentelemetry_traces_exporter"


class Tracing:
    """Writes spans.

    Args:
        provider: A provider of tracers, of OpenTelemetry's SDK.
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry import context, propagate, trace

        self._provider, self._tracer = provider, provider.get_tracer("committee")
        self._context, self._propagate, self._trace = context, propagate, trace

    def current(self) -> Any:
        """Return the context of the present request, for the spans of its stages."""
        return self._context.get_current()

    @contextmanager
    def request(
        self, name: str, headers: Mapping[str, str], about: dict[str, Any]
    ) -> Iterator[None]:
        """Write the span of a request, inside that of whoever sent it.

        Args:
            name: The method and the path.
            headers: May say which span the request belongs to.
            about: Holds the status at the end.
        """
        parent = self._propagate.extract(headers)
        kind = self._trace.SpanKind.SERVER
        with self._tracer.start_as_current_span(name, parent, kind) as span:
            yield
            span.set_attribute("http.response.status_code", about["status"])
            span.set_attribute("committee.samples", about["samples"])

    def stage(
        self, contexts: Iterable[Any], stage: int, models: str, size: int, times: tuple[int, int]
    ) -> None:
        """Write a span of a batch into each request that it had samples of.

        Args:
            contexts: What :meth:`current` returned for each request.
            stage: The stage, from 0.
            models: Its models.
            size: How many samples the batch had, of all requests.
            times: When it began and ended, in nanoseconds since 1970.
        """
        about = {"committee.stage": stage, "committee.models": models, "committee.batch": size}
        for context in contexts:
            span = self._tracer.start_span(
                f"stage {stage}", context, attributes=about, start_time=times[0]
            )
            span.end(times[1])

    def close(self) -> None:
        """Write what was not written yet."""
        self._provider.shutdown()


def tracing_to(exporter: str) -> Tracing:
    """Return what writes spans to an exporter.

    Args:
        exporter: ``console`` for standard error; ``otlp`` for OTLP over HTTP, to where
            OTEL_EXPORTER_OTLP_ENDPOINT says, or a collector on this machine; or the name of
            another that is installed. The variables OTEL_... of the environment say the rest.

    Raises:
        MissingExtraError: If OpenTelemetry, or the exporter of OTLP, is not installed.
        UnknownNameError: If no such exporter is.
    """
    with needing("--trace", "opentelemetry-sdk", "tracing"):
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import (
            BatchSpanProcessor,
            ConsoleSpanExporter,
            SimpleSpanProcessor,
        )
    own = Resource.create()
    if str(own.attributes.get("service.name")).startswith("unknown_service"):
        own = own.merge(Resource({"service.name": "committee"}))
    provider = TracerProvider(resource=own)
    if exporter == "console":
        provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
        return Tracing(provider)
    if exporter == "otlp":
        with needing("--trace otlp", "opentelemetry-exporter-otlp-proto-http", "tracing"):
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return Tracing(provider)
    known = {each.name: each for each in entry_points(group=_GROUP)}
    if exporter not in known:
        raise UnknownNameError.of("--trace", "exporter", exporter, {"console", "otlp", *known})
    provider.add_span_processor(BatchSpanProcessor(known[exporter].load()()))
    return Tracing(provider)
