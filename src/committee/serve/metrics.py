"""Metrics for Prometheus, at ``/metrics``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from starlette.responses import Response

from committee.certificates.monitors import Reading, expected_of
from committee.errors import CascadeError
from committee.run.decision import Decision
from committee.run.runner import Runner
from committee.serve.observers import Observer

_SIZES = tuple(2.0**k for k in range(11))
_SECONDS = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class Metrics(Observer):
    """Counts what the server does.

    Args:
        pending: Returns how many samples wait for their decision.
    """

    def __init__(self, pending: Callable[[], int]) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"committee_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"committee_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, label: str, buckets: tuple[float, ...]) -> Histogram:
            name = f"committee_{name}"
            return Histogram(name, text, [label], registry=registry, buckets=buckets)

        self._requests = _children(
            counter("requests", "Requests that were answered.", "route", "code")
        )
        self._request = _children(
            histogram("request_seconds", "Seconds that a request took.", "route", _SECONDS)
        )
        self._exits = _children(counter("exits", "Samples that exited.", "stage"))
        self._failures = _children(counter("failed_samples", "Samples that failed.", "stage"))
        self._cost = _children(counter("cost", "Cost of the models that ran, in its unit.", "unit"))
        size = histogram("batch_size", "Samples of a batch.", "stage", _SIZES)
        queue = histogram(
            "queue_seconds", "Seconds that the samples of a batch waited.", "stage", _SECONDS
        )
        model = histogram(
            "model_seconds", "Seconds that the models of a batch ran.", "stage", _SECONDS
        )
        self._batch = [_children(each) for each in (size, queue, model)]
        gauge("pending_samples", "Samples that wait for a decision.").set_function(pending)
        self._expected = gauge("expected_exit_ratio", "Share of exits that was certified.", "stage")
        self._alarm = gauge("alarm", "1 if a monitor raised its alarm.", "monitor")
        self._evidence = gauge(
            "alarm_evidence", "Log of a monitor's e-process over that of its limit.", "monitor"
        )
        self._shadows = counter("shadow_samples", "Samples that the reference decided too.")
        self._flips = counter("shadow_flips", "Those that it decided otherwise.")
        self._webhook_failures = counter("webhook_failures", "Alarms that no webhook took.")
        self._promise = Info("committee_promise", "What is served and promised.", registry=registry)
        self._unit = ""

    def watching(self, runner: Runner, version: str) -> Observer:
        """Name the cascade that is served from now on."""
        cascade, self._unit = runner.cascade, runner.unit
        about = {"cascade": str(cascade), "version": version, "confidence": cascade.confidence}
        own = cascade.certificate if cascade.is_certified else None
        if own is not None:
            about |= {
                "promise": own.promise,
                "margin": f"{own.margin:g}",
                "level": f"{own.level:g}",
                "reference": own.reference,
                "lower_bound": f"{own.lower_bound:.6g}",
            }
        self._promise.info(about)
        for stage in range(len(cascade.stages)):
            _ = self._exits(stage), self._failures(stage)
        # What was said of the cascade before is gone; counters go on.
        for gauge in (self._expected, self._alarm, self._evidence):
            gauge.clear()
        with suppress(CascadeError):  # alarms say why nothing is expected
            expected = expected_of(cascade)
            for stage, count in enumerate(expected.exits):
                self._expected.labels(stage).set(count / expected.samples)
        return self

    def batch(self, stage: int, size: int, wait_s: float, model_s: float) -> None:
        """See :class:`Observer`."""
        for histogram, value in zip(self._batch, (size, wait_s, model_s), strict=True):
            histogram(stage).observe(value)

    def exited(self, made: Sequence[Decision], failed: Sequence[int]) -> None:
        """See :class:`Observer`."""
        stages = [each.stage for each in made]
        for stage in {*stages}:
            self._exits(stage).inc(stages.count(stage))
        for stage in failed:
            self._failures(stage).inc()
        costs = [each.cost for each in made if each.cost is not None]
        if costs:
            self._cost(self._unit).inc(sum(costs))

    def answered(self, route: str, status: int, seconds: float, samples: int) -> None:
        """See :class:`Observer`."""
        self._requests(route, status).inc()
        self._request(route).observe(seconds)

    def monitored(self, reading: Reading) -> None:
        """Show what a monitor reads."""
        self._alarm.labels(reading.name).set(reading.alarm_at is not None)
        self._evidence.labels(reading.name).set(reading.evidence / reading.limit)

    def shadowed(self, samples: int, flips: int) -> None:
        """Count samples that the reference decided too, and those that it decided otherwise."""
        self._shadows.inc(samples)
        self._flips.inc(flips)

    def webhook_failed(self) -> None:
        """Count an alarm that no webhook took."""
        self._webhook_failures.inc()

    def response(self) -> Response:
        """Return all metrics in the format of Prometheus."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)


def _children(metric: Any) -> Callable[..., Any]:
    """Return what finds the child of labels, of which there are few, without a lock."""
    found: Callable[..., Any] = cache(metric.labels)
    return found
