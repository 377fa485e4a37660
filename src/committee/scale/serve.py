"""``serve`` on Ray: an application of Ray Serve, each replica of which is a server of its own.

A replica drives the application and the scheduler of :mod:`committee.serve`, so requests share the
batches of every stage within it. Ray Serve hands requests to replicas, begins and ends them by the
samples that wait, and replaces them one after the other when another cascade is to be served.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any
from urllib.request import urlopen

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from committee.errors import CascadeError, ClusterError
from committee.models.failures import reason_of
from committee.rule.cascade import Cascade
from committee.run.open import CascadeLike
from committee.run.runner import Runner
from committee.scale.cluster import Cluster
from committee.scale.watcher import Teller, Watcher
from committee.serve.app import make_app
from committee.serve.edge import Edge, log_line
from committee.serve.json_response import JSONResponse
from committee.serve.process import collect_less, file_state, listening_socket
from committee.serve.served import Serving, version_of
from committee.serve.settings import AlarmSettings, Settings
from committee.serve.stages import stages_of
from committee.serve.tracing import tracing_to
from committee.text import brief

# Takes the cascade, its version and the address.
Ready = Callable[[Cascade, str, str], None]
_DEPLOYMENT = "cascade"
# Seconds between two looks at messages and files, and in which a proxy must answer.
_LOOK, _PATIENCE = 1.0, 20.0
# Seconds that a replica stays after it was told to end: until then a proxy may not have learnt it.
_LEAVE = 5.0
# Requests that ask for no decision, such as probes, beyond those that the queue has places for.
_SPARE = 64
# Seconds of load before replicas are added, and of calm before they end.
_UP, _DOWN = 10.0, 300.0
# How often a replica is begun that cannot load its models.
_TRIES = 3


@dataclass(frozen=True)
class Service:
    """What every replica serves, and how.

    Args:
        cascade: The cascade; of one ONNX file, the path.
        settings: Sizes, delays and limits.
        allow_code: Python files and modules that may be run.
        log: Write a line of JSON to the replica's standard error for each request.
        trace: The exporter of spans; None for none.
    """

    cascade: CascadeLike
    settings: Settings
    allow_code: tuple[str, ...] = ()
    log: bool = True
    trace: str | None = None

    def runner(self) -> Runner:
        """Load the models."""
        return Runner(self.cascade, allow_code=self.allow_code, threads=self.settings.threads)


@dataclass(frozen=True)
class Replicas:
    """How many replicas there are, and what each takes.

    Args:
        least: Fewest.
        most: Most; 0 for as many as the cluster has room for when it begins.
        target: Samples that wait at a replica, on average, beyond which one more is begun.
        cpus: Processors of a replica.
        gpus: GPUs of a replica.
    """

    least: int = 1
    most: int = 0
    target: float = 64.0
    cpus: float = 1.0
    gpus: float = 0.0

    @classmethod
    def of(cls, text: str | None, target: float | None, cpus: float, gpus: float) -> Replicas:
        """Return what ``N`` or ``N,N`` says: their number, or the fewest and the most.

        Raises:
            CascadeError: If it says nothing of the kind.
        """
        numbers = (
            [1, 0] if text is None else [int(n) if n.isdigit() else -1 for n in text.split(",")]
        )
        least, most = numbers[0], numbers[-1]
        if len(numbers) > 2 or least < 1 or (text is not None and most < least):
            raise CascadeError(
                f"--replicas {text}: must be a whole number above 0, or the fewest and the most, "
                "as in 1,8"
            )
        goal = cls.target if target is None else target
        if not 0 < goal < math.inf:
            raise CascadeError(f"--target: must be above 0 and finite, not {goal:g}")
        return cls(least, most, goal, cpus, gpus)


class Replica:
    """One server among several; Ray Serve hands it requests as ASGI does.

    Args:
        service: What it serves.
        watcher: The actor that watches all replicas.
    """

    def __init__(self, service: Service, watcher: Any) -> None:
        from ray import serve

        tracing = None if service.trace is None else tracing_to(service.trace)
        self._service = service
        self._teller = Teller(serve.get_replica_context().replica_id.unique_id, watcher)
        self._serving = Serving(service.runner, service.settings, [self._teller], tracing)
        self._watcher = watcher
        self._telling: asyncio.Task[None] | None = None

    def __serve_build_asgi_app__(self) -> Edge:
        """Return what answers requests; called once by Ray."""
        log = log_line if self._service.log else None
        return make_app(self._serving, self._routes(), log)

    async def reconfigure(self, expected: dict[str, str]) -> None:
        """Load the models; called once by Ray, with the version that is expected."""
        served = await self._serving.swap()
        if served.version != expected["version"]:
            raise CascadeError("serve: a replica loads another cascade than the command")
        collect_less()
        self._teller.pending = lambda: self._serving.pending
        self._telling = asyncio.create_task(self._teller.run())

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return how many samples wait, for :func:`by_pending`."""
        return {"pending": float(self._serving.pending)}

    def check_health(self) -> None:
        """Raise an error if a model hangs, so that Ray begins another replica."""
        current = self._serving.current
        if current is not None and current.scheduler.hanging:
            raise RuntimeError(self._serving.not_ready)

    async def __del__(self) -> None:
        """End what is under way; Ray has sent no request since a while."""
        await self._serving.stop()
        if self._telling is not None:
            self._telling.cancel()
        await self._teller.report()

    def _routes(self) -> list[Route]:
        """Return the routes that show what all replicas together did."""
        watcher = self._watcher

        async def show_metrics(request: Request) -> Response:
            await self._teller.report()
            return Response(await watcher.metrics.remote(), media_type=CONTENT_TYPE_LATEST)

        async def show_alarms(request: Request) -> Response:
            await self._teller.report()
            return JSONResponse(await watcher.alarms.remote())

        async def show_exits(request: Request) -> Response:
            await self._teller.report()
            return JSONResponse(await watcher.exits.remote())

        return [
            Route("/metrics", show_metrics),
            Route("/alarms", show_alarms),
            Route("/exits", show_exits),
        ]


def by_pending(context: Any) -> tuple[float, dict[str, Any]]:
    """Return how many replicas the samples that wait need; a policy of Ray Serve."""
    pending = (context.aggregated_metrics or {}).get("pending", {})
    return math.ceil(sum(pending.values()) / context.config.target_ongoing_requests), {}


def serve_on(
    cluster: Cluster,
    read: Callable[[], Service],
    replicas: Replicas,
    alarms: AlarmSettings,
    ready: Ready,
    note: Callable[[str], None],
    watched: Path | None = None,
) -> None:
    """Serve a cascade on a Ray cluster until a signal stops this process.

    Args:
        cluster: The cluster, joined.
        read: Opens the cascade.
        replicas: How many replicas there are, and what each takes.
        alarms: What raises an alarm, and who is told.
        ready: Called once requests can be answered.
        note: Called with each message for the operator.
        watched: A file whose change serves the cascade anew; None for none.

    Raises:
        CommitteeError: If the cascade cannot be loaded, or the address cannot be had.
    """
    import ray
    from ray import serve

    # Before it is read: it may change while replicas begin.
    seen = None if watched is None else file_state(watched)
    service, cascade = _checked(read)
    name, settings = service.settings.name, service.settings
    _start(settings)
    watcher = _watcher(name, alarms)
    try:
        _deploy(cluster, service, cascade, replicas, watcher)
        _check_answers(settings)
        with _signals() as (stop, again):
            ready(cascade, version_of(cascade), _address(settings))
            while not stop.wait(_LOOK):
                for line in _notes(watcher):
                    note(line)
                now = None if watched is None else file_state(watched)
                if again.is_set() or now not in (None, seen):
                    again.clear()
                    seen = now
                    _again(cluster, read, replicas, watcher, note)
    finally:
        serve.delete(name)
        with suppress(Exception):
            ray.get(watcher.close.remote(), timeout=settings.drain)
        ray.kill(watcher)


def _notes(watcher: Any) -> list[str]:
    """Return what the watcher has to say; nothing while it is begun anew."""
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError

    try:
        notes: list[str] = ray.get(watcher.notes.remote(), timeout=_PATIENCE)
    except (RayActorError, GetTimeoutError):
        return []
    return notes


def _watcher(name: str, alarms: AlarmSettings) -> Any:
    """Return the actor that watches what is served under a name; one that runs already goes on."""
    import ray

    actor: Any = ray.remote(Watcher)
    return actor.options(
        name=f"committee watcher of {name}",
        namespace="committee",
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
    ).remote(alarms)


def _checked(read: Callable[[], Service]) -> tuple[Service, Cascade]:
    """Return what is to be served, if its models can be loaded here."""
    service = read()
    runner = service.runner()
    service.settings.check_stages(stages_of(runner).queues)
    return service, runner.cascade


def _start(settings: Settings) -> None:
    """Begin Ray Serve, unless it runs."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    if serve.status().proxies:  # its address is what it is
        return
    if not settings.port:
        raise CascadeError("--port 0: with --on ray every node listens at one port; name it")
    listening_socket(settings).close()  # says in one line why that cannot be
    serve.start(
        http_options={
            "host": settings.host,
            "port": settings.port,
            "keep_alive_timeout_s": max(1, round(settings.slow)),
        },
        logging_config=_quiet(),
    )


def _quiet() -> Any:
    from ray.serve.schema import LoggingConfig

    return LoggingConfig(log_level="ERROR", enable_access_log=False)


def _deploy(
    cluster: Cluster, service: Service, cascade: Cascade, replicas: Replicas, watcher: Any
) -> None:
    """Serve a cascade; where one is served already, replace its replicas one after the other."""
    import ray
    from ray import serve
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

    settings, cpus, gpus = service.settings, replicas.cpus, replicas.gpus
    most = max(replicas.most or cluster.room(cpus, gpus), replicas.least)
    available: Callable[[], dict[str, float]] = ray.available_resources
    free = available()
    is_room = free.get("CPU", 0.0) >= cpus and free.get("GPU", 0.0) >= gpus
    policy: Any = AutoscalingPolicy
    deployment = serve.deployment(
        name=_DEPLOYMENT,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        user_config={"version": version_of(cascade)},
        # Ray would let batches have no more samples than requests that it lets in, without a word.
        max_ongoing_requests=settings.queue + _SPARE,
        autoscaling_config=AutoscalingConfig(
            min_replicas=replicas.least,
            max_replicas=most,
            target_ongoing_requests=replicas.target,
            upscale_delay_s=_UP,
            downscale_delay_s=_DOWN,
            policy=policy(policy_function=by_pending),
        ),
        graceful_shutdown_timeout_s=settings.drain,
        graceful_shutdown_wait_loop_s=_LEAVE,
        max_constructor_retry_count=_TRIES,
        # A new replica begins before an old one ends, where the cluster has room for both.
        max_surge_percent=100 if is_room else 0,
    )(serve.ingress()(Replica))
    application = deployment.bind(service, watcher)
    try:
        serve.run(application, name=settings.name, route_prefix="/", logging_config=_quiet())
    except RuntimeError as error:
        raise _not_begun(settings.name, error) from error


def _not_begun(name: str, error: RuntimeError) -> ClusterError:
    """Return why no replica could be begun: the last line of what one of them raised."""
    from ray import serve

    application = serve.status().applications.get(name)
    deployments = [] if application is None else [*application.deployments.values()]
    text = next((each.message for each in deployments if each.message), str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return ClusterError(f"serve: no replica could be begun: {brief(lines[-1], 300)}")


def _again(
    cluster: Cluster,
    read: Callable[[], Service],
    replicas: Replicas,
    watcher: Any,
    note: Callable[[str], None],
) -> None:
    """Serve the cascade anew; if it cannot be loaded, the one before goes on."""
    try:
        service, cascade = _checked(read)
    except Exception as error:  # an engine may raise anything
        note(f"the new cascade is refused, the one before goes on: {reason_of(error)}")
        return
    try:
        _deploy(cluster, service, cascade, replicas, watcher)
    except ClusterError as error:
        note(f"{error}. Replicas of the cascade before go on; restore its file and send SIGHUP")
    else:
        note(f"serving {cascade}, version {version_of(cascade)}")


def _check_answers(settings: Settings) -> None:
    """Refuse an address at which no proxy of Ray Serve answers."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            with urlopen(f"{_address(settings)}/v2/health/ready", timeout=_PATIENCE):
                return
        except OSError as error:
            if time.monotonic() > until:
                raise CascadeError(
                    f"serve: nothing answers at {_address(settings)} ({error}). Ray Serve runs on "
                    "this cluster already, at an address of its own: name its --host and --port, "
                    "or end it with: serve shutdown"
                ) from None
            time.sleep(_LOOK)


def _address(settings: Settings) -> str:
    """Return where this machine reaches the application."""
    own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{own}]:{settings.port}" if ":" in own else f"http://{own}:{settings.port}"


@contextmanager
def _signals() -> Iterator[tuple[Event, Event]]:
    """Yield what SIGTERM and Ctrl-C set, and what SIGHUP sets; the second SIGTERM interrupts."""
    stop, again = Event(), Event()

    def end(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    wanted: dict[Any, Callable[..., None]] = {signal.SIGTERM: end, signal.SIGINT: end}
    if hasattr(signal, "SIGHUP"):  # not on Windows
        wanted[signal.SIGHUP] = lambda *_: again.set()
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield stop, again
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
