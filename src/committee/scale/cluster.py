"""Ray: joined, or started on this machine; what fails there in one line."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from committee.errors import ClusterError, CommitteeError, needing
from committee.scale.data import end_data
from committee.text import brief, first_line
from committee.version import __version__

OLDEST = (2, 60)
# Seconds in which a host answers. Ray itself waits for minutes.
_PATIENCE = 5.0
# Ray refuses who lacks its token as if it were not there.
_TOKEN = "If it is there and asks for a token, as `ray start` tells, set RAY_AUTH_MODE=token"
# What Ray writes its messages with; there is no setting.
_TELLS = "print_to_stdstream"
_AGAIN = "Run the same command again: what is done stays"


@dataclass(frozen=True)
class Cluster:
    """A Ray that runs.

    Args:
        address: Where it was joined; empty if it was started here, and ends with the job.
        nodes: How many machines it has now.
        cpus: How many processors they have.
        gpus: How many GPUs they have.
    """

    address: str
    nodes: int
    cpus: float
    gpus: float

    def room(self, cpus: float, gpus: float) -> int:
        """Return how many workers of some processors and GPUs each it has room for; at least 1.

        Raises:
            ClusterError: If this machine alone has no room for one. A cluster may grow.
        """
        pairs = ((self.cpus, cpus), (self.gpus, gpus))
        room = int(min((have // need for have, need in pairs if need), default=1))
        if not (room or self.address):
            raise ClusterError(
                f"--cpus {cpus:g}, --gpus {gpus:g}: this machine has {self.cpus:g} processors and "
                f"{self.gpus:g} GPUs. Name less, or a cluster with --address"
            )
        return max(room, 1)


@contextmanager
def connect(address: str | None = None) -> Iterator[Cluster]:
    """Join a Ray cluster, or start Ray on this machine; what was started here ends afterwards.

    Errors of Ray inside the block become one line; see :func:`one_line`.

    Args:
        address: ``auto`` or ``HOST:PORT`` of the cluster. None joins the one that ``RAY_ADDRESS``
            names, as in a submitted job, and without it starts Ray here. A Ray that this process
            has joined already is used as it is.

    Raises:
        MissingExtraError: If Ray is not installed.
        ClusterError: If Ray is too old or cannot be joined, or its workers lack this package.
    """
    ray = _ray()
    own = not ray.is_initialized()
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    with _joined(ray, where) if own else nullcontext(), one_line():
        if own and where != "local":
            _check_workers(ray)
        have = ray.cluster_resources()
        alive = sum(bool(node["Alive"]) for node in ray.nodes())
        there = "" if own and where == "local" else ray.get_runtime_context().gcs_address
        yield Cluster(there, alive, have.get("CPU", 0.0), have.get("GPU", 0.0))


@contextmanager
def _joined(ray: Any, where: str) -> Iterator[None]:
    """Begin Ray, and end it in order: first what is computed, then Ray, then what it has written.

    After an error its logs stay.
    """
    before, threads = signal.getsignal(signal.SIGTERM), threading.enumerate()
    with _muted():
        try:
            session = _start(ray, where)
            _at_sigterm(_stop)
            yield
        finally:
            try:
                end_data(threads)
            finally:
                ray.shutdown()
                _at_sigterm(before)
        if session:
            shutil.rmtree(session, ignore_errors=True)


def _at_sigterm(handler: Any) -> None:
    """Handle SIGTERM so; what Ray puts there ends the process as a fault would."""
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _stop(*_: object) -> None:
    """Stop as at Ctrl-C."""
    raise KeyboardInterrupt


@contextmanager
def one_line() -> Iterator[None]:
    """Turn what Ray raises inside into one line."""
    try:
        yield
    except Exception as error:
        told = _told(error)
        if told is None:
            raise
        raise told from error


def _ray() -> Any:
    """Return Ray, if it is new enough; it reports to nobody, and says only what has failed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # The part of Ray that is not Python writes to our standard error, whatever the logging.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    with needing("--on ray", "ray", "ray"):
        import ray
    found = re.match(r"(\d+)\.(\d+)", ray.__version__)
    if found is not None and (int(found[1]), int(found[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ClusterError(
            f"--on ray: Ray {ray.__version__} is installed, and {oldest} is the oldest that works. "
            f'Install it with: pip install "ray[data,serve]>={oldest}"'
        )
    return ray


def _start(ray: Any, where: str) -> str:
    """Join Ray or start it; return the folder of what was started here, empty if nothing was."""
    _check_reachable(where)
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if where == "local":
        options["include_dashboard"] = False
    try:
        with _silent():  # it writes of its log level there
            made = _init(ray, where, options)
    except SystemExit:  # what Ray makes of SIGTERM while it begins
        raise KeyboardInterrupt from None
    except Exception as error:
        if where == "auto":
            raise ClusterError(
                "--address auto: no Ray runs on this machine. Start it with: ray start --head; "
                "or name another place, HOST:PORT; or leave --address out, and Ray is started here"
                f". {_TOKEN}"
            ) from error
        if where == "local":
            raise ClusterError(f"Ray cannot be started here: {_reason(error)}") from error
        raise ClusterError(f"Ray at {where}: {_reason(error)}. {_TOKEN}") from error
    return str(made.address_info["session_dir"]) if where == "local" else ""


def _init(ray: Any, where: str, options: dict[str, Any]) -> Any:
    """Begin Ray; where a busy machine takes longer than Ray waits for it, begin once more."""
    try:
        return ray.init(where, **options)
    except Exception as error:
        if where != "local" or "timed out during startup" not in str(error):
            raise
        ray.shutdown()
        return ray.init(where, **options)


@contextmanager
def _muted() -> Iterator[None]:
    """Keep Ray from writing to standard output, where results are, that a worker has died."""
    from ray._private import worker

    told: Any = worker
    before = getattr(told, _TELLS, None)
    setattr(told, _TELLS, lambda *_, **__: None)
    try:
        yield
    finally:
        setattr(told, _TELLS, before)


@contextmanager
def _silent() -> Iterator[None]:
    """Hide what anything writes to standard error, Python or not."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check_reachable(where: str) -> None:
    """Refuse at once what Ray would try for minutes."""
    if where in ("local", "auto"):
        return
    host, colon, port = where.rpartition(":")
    if "://" in where:
        raise ClusterError(
            f"--address {where}: a job must start inside the cluster. Submit it: ray job submit "
            "--address http://HOST:8265 -- committee ...; or name HOST:PORT from one of its nodes"
        )
    if not (colon and host and port.isdigit()):
        raise ClusterError(f"--address {where}: must be auto or HOST:PORT, as in 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"--address {where}: nothing answers there ({error}). Is that the node on which "
            "`ray start --head` ran, is 6379 the port, and may this machine reach it?"
        ) from None


def _check_workers(ray: Any) -> None:
    """Refuse a cluster whose workers have another version of this package, or none."""

    def version() -> str:  # inside, so that it travels by value: the worker may not know us
        try:
            from committee.version import __version__ as found
        except ImportError:
            return ""
        return found

    found = ray.get(ray.remote(num_cpus=0)(version).remote())
    if found != __version__:
        there = f"committee {found}" if found else "no committee"
        raise ClusterError(
            f"--on ray: the workers of this cluster have {there}, and this is {__version__}. "
            "Install the same in their image, with the packages that the models need"
        )


def _told(error: BaseException) -> CommitteeError | None:
    """Return an error in one line; None if Ray has nothing to do with it."""
    from ray import exceptions as ray

    chain = _chain(error)
    for each in chain:
        if isinstance(each, CommitteeError):
            return each if not isinstance(each, ray.RayError) else _plain(each)
    found = next((each for each in chain if isinstance(each, ray.RayError)), None)
    if found is None:
        return None
    if isinstance(found, ray.OutOfMemoryError) or "low on memory" in str(found):
        return ClusterError(
            "--on ray: a worker was ended because its node ran out of memory. Let fewer models "
            "share a node (--actors), take smaller batches (--batch-size), or larger nodes. "
            + _AGAIN
        )
    if isinstance(found, ray.OutOfDiskError) or "No space left on device" in str(found):
        return ClusterError(
            "--on ray: the disk of a node is full, and Ray spills to it. Free some, or point Ray "
            f"elsewhere: ray start --object-spilling-directory. {_AGAIN}"
        )
    return ClusterError(f"--on ray: {_reason(found)}. {_AGAIN}; --debug shows all of it")


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an error and its causes, those that a worker raised included."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return found


def _plain(error: CommitteeError) -> CommitteeError:
    """Return what a worker raised without what Ray has put around it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, CommitteeError) else ClusterError(_reason(error))


def _reason(error: BaseException) -> str:
    """Return what an error says in one line; of one that a worker raised, what that one says."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return brief(first_line(cause), 300).rstrip(".")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Tracebacks end with what happened.
    told = lines[-1] if lines and "Traceback" in str(error) else first_line(error)
    return brief(told, 300).rstrip(".")
