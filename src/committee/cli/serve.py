"""``committee serve``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from committee.certificates.monitors import ALPHA, MOST_FAILED, TAU
from committee.cli import options as opt
from committee.cli.options import by_stage, check_on, refuse
from committee.cli.output import joined, print_json, say
from committee.cli.stores import with_models
from committee.errors import CascadeError, require
from committee.rule.cascade import Cascade
from committee.run.open import open_cascade
from committee.run.runner import Runner
from committee.scale.cluster import Cluster
from committee.serve.reference import check_loadable, reference_rule
from committee.serve.samples import check_served
from committee.serve.settings import AlarmSettings, Observing, Settings, ShadowSettings
from committee.serve.tracing import tracing_to
from committee.text import printable

if TYPE_CHECKING:
    from committee.scale.serve import Service
    from committee.serve.served import ServedCascade

# The variable of the environment that holds the token.
_TOKEN = "COMMITTEE_TOKEN"
_MIB = 2**20


def serve(
    cascade: opt.CascadePath,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = Settings.host,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port; 0 for a free one, which is printed.")
    ] = Settings.port,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Serve the protocol by gRPC too, at this port; 0 for a free one."
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of the cascade in addresses: /v2/models/NAME.")
    ] = Settings.name,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of a model; 0 leaves their number to its engine.")
    ] = Settings.threads,
    workers: Annotated[
        int, typer.Option(min=1, help="Batches that may run at once.")
    ] = Settings.workers,
    max_batch: Annotated[
        str,
        typer.Option(
            metavar="N[,N...]", help="Most samples of a batch; one number, or one a stage."
        ),
    ] = "64",
    max_delay: Annotated[
        str,
        typer.Option(
            metavar="MS[,MS...]",
            help="Milliseconds that samples wait at a stage for a fuller batch while another runs.",
        ),
    ] = "20",
    queue: Annotated[
        int, typer.Option(min=1, help="Most samples that wait; requests beyond get 503.")
    ] = Settings.queue,
    deadline: Annotated[
        float | None, typer.Option(help="Milliseconds within which a request is answered, or 504.")
    ] = None,
    hang: Annotated[
        float, typer.Option(help="Seconds after which a batch that does not end hangs.")
    ] = Settings.hang,
    drain: Annotated[
        float, typer.Option(help="Seconds that requests have to end when the server stops.")
    ] = Settings.drain,
    slow: Annotated[
        float, typer.Option(help="Seconds that a client has to send a request.")
    ] = Settings.slow,
    max_body: Annotated[
        float, typer.Option(help="Most MiB of a request's body.")
    ] = Settings.max_body / _MIB,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Most pixels of an image.")
    ] = Settings.max_pixels,
    max_samples: Annotated[
        int, typer.Option(min=1, help="Most samples of a request.")
    ] = Settings.max_samples,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Its text must come with each request: Authorization: Bearer TEXT. Without it: "
            f"what {_TOKEN} holds.",
        ),
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Serve the cascade anew when its file changes.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Write no access log to standard error.")
    ] = False,
    trace: Annotated[
        str | None,
        typer.Option(
            metavar="EXPORTER",
            help="Write spans of OpenTelemetry: console, otlp, or any exporter that is installed.",
        ),
    ] = None,
    alpha: opt.Alpha = ALPHA,
    tau: opt.Tau = TAU,
    most_failed: opt.MostFailed = MOST_FAILED,
    alarm_state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keeps what alarms rest on over a restart."),
    ] = None,
    webhook: Annotated[
        str, typer.Option(metavar="URL", help="Each alarm is sent there, as JSON.")
    ] = "",
    shadow: Annotated[
        float,
        typer.Option(help="Share of the samples that the reference decides too, in idle time."),
    ] = 0.0,
    to_label: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="With --shadow: disagreements go into its to_label.csv, and the samples beside.",
        ),
    ] = None,
    on: opt.On = None,
    address: opt.Address = None,
    replicas: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N]",
            help="With --on ray: servers, or the fewest and the most; default: from 1 to as many "
            "as have room.",
        ),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            help="With --on ray: samples that wait at a server, beyond which one more begins; "
            "default: 64."
        ),
    ] = None,
    cpus: opt.Cpus = 1.0,
    gpus: opt.Gpus = 0.0,
    pool: opt.LoadedAs = None,
    allow_code: opt.AllowCode = None,
    as_json: opt.AsJson = False,
) -> None:
    """Serve a cascade over HTTP; requests share the batches of every stage.

    Speaks the Open Inference Protocol (version 2) at /v2, and takes images at /classify.
    SIGTERM answers what is under way and stops; SIGHUP serves the cascade file anew.

    Example: committee serve cascade.json --port 8000
    """
    require("committee serve", "serve")
    from committee.serve.process import run_server

    settings = Settings(
        host=host,
        port=port,
        grpc_port=grpc_port,
        name=name,
        token=_token(token_file),
        threads=threads,
        workers=workers,
        max_batch=tuple(by_stage("--max-batch", max_batch, int, least=1)),
        max_delay=tuple(each / 1000 for each in by_stage("--max-delay", max_delay, float)),
        queue=queue,
        deadline=(deadline or 0) / 1000,
        hang=hang,
        drain=drain,
        slow=slow,
        max_body=_bytes(max_body),
        max_pixels=max_pixels,
        max_samples=max_samples,
    )
    _check_open(settings)
    code = tuple(allow_code or ())
    alarms = AlarmSettings(alpha, tau, most_failed, alarm_state, webhook)
    shadows = ShadowSettings(shadow, to_label)
    watched = _file(cascade) if reload else None
    given = {"address": address is not None, "replicas": replicas is not None}
    check_on(on, **given, target=target is not None, cpus=cpus != 1, gpus=gpus != 0)
    if on is not None:
        given = {"grpc_port": grpc_port is not None, "shadow": shadow != 0}
        refuse("a server that is one process, not --on ray", **given)
        settings = replace(settings, threads=threads or max(1, int(cpus)))
        read = partial(_service, cascade, pool, settings, code, not quiet, trace)
        room = replicas, target, cpus, gpus
        _serve_on_ray(
            joined(address, as_json), read, room, alarms, partial(_ready, as_json, name), watched
        )
        return
    run_server(
        partial(_load, cascade, pool, code, threads),
        settings,
        partial(_ready_here, as_json),
        _warn,
        log=not quiet,
        watched=watched,
        tracing=None if trace is None else tracing_to(trace),
        observing=Observing(alarms, shadows, partial(_load_reference, pool, code, threads)),
    )


def _serve_on_ray(
    joining: AbstractContextManager[Cluster],
    read: Callable[[], Service],
    room: tuple[str | None, float | None, float, float],
    alarms: AlarmSettings,
    ready: Callable[[Cascade, str, str], None],
    watched: Path | None,
) -> None:
    from committee.scale.serve import Replicas, serve_on

    replicas = Replicas.of(*room)
    with joining as cluster:
        serve_on(cluster, read, replicas, alarms, ready, _warn, watched)


def _service(
    cascade: str,
    pool: str | None,
    settings: Settings,
    code: tuple[str, ...],
    log: bool,
    trace: str | None,
) -> Service:
    """Return what replicas serve: the cascade, or the path of one ONNX file."""
    from committee.scale.serve import Service

    loaded = with_models(open_cascade(cascade), pool)
    what = loaded if loaded.graph is None else cascade
    return Service(what, settings, code, log, trace)


def _load(cascade: str, pool: str | None, allow_code: tuple[str, ...], threads: int) -> Runner:
    loaded = with_models(open_cascade(cascade, threads), pool)
    check_served(loaded.task)  # before it is loaded
    return Runner(loaded, allow_code=allow_code, threads=threads)


def _load_reference(
    pool: str | None, allow_code: tuple[str, ...], threads: int, runner: Runner
) -> Runner:
    """Return the reference of what is served, loaded and warm."""
    reference = reference_rule(runner.cascade)
    if pool is not None:
        reference = with_models(reference, pool).cascade
    check_loadable(reference)
    loaded = Runner(reference, allow_code=allow_code, threads=threads)
    loaded.warm()
    return loaded


def _ready_here(as_json: bool, served: ServedCascade, address: str, grpc_address: str) -> None:
    _ready(as_json, served.name, served.cascade, served.version, address, grpc_address)


def _ready(
    as_json: bool, name: str, cascade: Cascade, version: str, address: str, grpc_address: str = ""
) -> None:
    """Say where what is served, in one line."""
    where = f"{address}/v2/models/{name}"
    if as_json:
        about: dict[str, Any] = {
            "address": address,
            "model": where,
            "grpc": grpc_address or None,
            "cascade": str(cascade),
            "version": version,
        }
        print_json(about)
    else:
        more = f" and by gRPC at {grpc_address}" if grpc_address else ""
        say(f"Ready: {cascade}, version {version}, at {where}{more}")
    sys.stdout.flush()


def _bytes(mebibytes: float) -> int:
    if not 0 < mebibytes < _MIB:
        raise CascadeError(f"--max-body: must be above 0 and below {_MIB:,} MiB, not {mebibytes:g}")
    return int(mebibytes * _MIB)


def _token(file: Path | None) -> str:
    """Return the token of a file, or of the environment; empty for none."""
    if file is None:
        return os.environ.get(_TOKEN, "").strip()
    try:
        words = file.read_text(encoding="utf-8").split()
    except UnicodeDecodeError:
        words = []
    if len(words) != 1:
        raise CascadeError(
            f"{file}: holds no token, which is one word. Write it there, or leave --token-file out"
        )
    return words[0]


def _warn(text: str) -> None:
    typer.echo(printable(text), err=True)


def _check_open(settings: Settings) -> None:
    """Say it if everybody who reaches the machine may ask."""
    if not settings.is_local and not settings.token:
        _warn(
            f"Note: everybody who reaches {settings.host}, port {settings.port}, may ask. Name "
            f"--token-file, set {_TOKEN}, or put a proxy before it."
        )


def _file(cascade: str) -> Path:
    """Return the file that says what is served."""
    path = Path(cascade)
    if not path.exists():
        raise CascadeError(f"--reload: {cascade} is no file on this machine; leave --reload out")
    return path / "cascade.json" if path.is_dir() else path
