"""Everything that watches the server: metrics, alarms and shadow runs."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from committee.serve.alarms import Alarms
from committee.serve.json_response import JSONResponse
from committee.serve.metrics import Metrics
from committee.serve.observers import Observer
from committee.serve.served import Serving
from committee.serve.settings import Observing
from committee.serve.shadow import Shadow


def observers_of(
    observing: Observing, serving: Serving, note: Callable[[str], None]
) -> tuple[list[Observer], list[Route]]:
    """Return the observers of a server, and the routes that show what they know.

    Args:
        observing: What raises alarms, and which samples the reference decides too.
        serving: The server.
        note: Called with each message for the operator.
    """
    metrics = Metrics(lambda: serving.pending)
    alarms = Alarms(observing.alarms, metrics, note)
    observers: list[Observer] = [metrics, alarms]
    shadow = None
    if observing.shadow.share and observing.load_reference is not None:

        def idle() -> bool:
            return not serving.pending

        shadow = Shadow(
            observing.shadow, observing.load_reference, idle, metrics, note, alarms.tell
        )
        # A reference that cannot be loaded stops the others from following.
        observers.insert(0, shadow)

    async def show_metrics(request: Request) -> Response:
        await alarms.look()
        return metrics.response()

    async def show_alarms(request: Request) -> Response:
        await alarms.look()
        found, own = alarms.to_json(), None if shadow is None else shadow.to_json()
        broken = own is not None and own["alarm"]
        return JSONResponse({**found, "alarm": found["alarm"] or broken, "shadow": own})

    routes = [Route("/metrics", show_metrics), Route("/alarms", show_alarms)]
    return observers, routes
