"""How a cascade is served: where, how fast, and within which limits."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path

from committee.certificates.monitors import ALPHA, MOST_FAILED, TAU, check_levels
from committee.errors import CascadeError
from committee.run.runner import Runner

_HTTP = re.compile(r"https?://[^/?#\s]+")


@dataclass(frozen=True)
class Settings:
    """How a cascade is served.

    Args:
        host: Address to listen on; others than this machine's own let strangers in.
        port: Port; 0 for one that the system chooses.
        grpc_port: The same for gRPC; None for no gRPC.
        name: Name of the cascade in addresses.
        token: What a request must bring; empty for nothing.
        threads: Threads of a model; 0 leaves their number to its engine.
        workers: How many batches may run at once.
        max_batch: Most samples of a batch: one number, or one a stage.
        max_delay: Seconds that samples wait at a stage for a fuller batch while others run: one
            number, or one a stage. Nothing waits while a worker is idle.
        queue: Most samples that may be pending; requests beyond are refused.
        deadline: Seconds within which a request is answered if it names no time; 0 for no limit.
        hang: Seconds after which a batch that does not end makes the server not ready.
        drain: Seconds that requests have to end when the server stops.
        max_body: Most bytes of a body.
        max_bodies: Most bytes of all bodies that are read at one time.
        max_header: Most bytes of the first line and the headers of a request.
        max_pixels: Most pixels of an image.
        max_samples: Most samples of a request.
        max_connections: Most connections at one time.
        slow: Seconds that a client has to send a request, and to take a part of the answer.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = None
    name: str = "cascade"
    token: str = ""
    threads: int = 0
    workers: int = 1
    max_batch: tuple[int, ...] = (64,)
    max_delay: tuple[float, ...] = (0.02,)
    queue: int = 2048
    deadline: float = 0.0
    hang: float = 60.0
    drain: float = 30.0
    max_body: int = 2**25
    max_bodies: int = 2**29
    max_header: int = 2**15
    max_pixels: int = 2**25
    max_samples: int = 1024
    max_connections: int = 1000
    slow: float = 20.0

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        for each in fields(self):
            value = getattr(self, each.name)
            values = value if isinstance(value, tuple) else (value,)
            zero = each.name in ("port", "grpc_port", "threads", "max_delay", "deadline", "drain")
            for number in values:
                if isinstance(number, int | float) and not _is_within(number, zero):
                    least = "at least 0" if zero else "above 0"
                    law = f"must be {least} and finite, not {number}"
                    raise CascadeError(f"serve: {each.name} {law}")
        if not self.host:
            raise CascadeError("serve: host is empty; name an address such as 127.0.0.1")
        if not self.name or "/" in self.name or not self.name.isprintable():
            raise CascadeError(
                f"serve: name {self.name!r} is no part of an address; name one without /"
            )

    @property
    def is_local(self) -> bool:
        """Return True if only this machine can reach the address."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def check_stages(self, count: int) -> None:
        """Refuse numbers for other stages than there are.

        Raises:
            CascadeError: If ``max_batch`` or ``max_delay`` has neither one number nor one a stage.
        """
        for name in ("max_batch", "max_delay"):
            given = len(getattr(self, name))
            if given not in (1, count):
                raise CascadeError(
                    f"serve: {name} has {given} numbers, but the cascade has {count} stages; give "
                    "one number, or one a stage"
                )

    def batch_of(self, stage: int) -> int:
        """Return the most samples of a batch of a stage."""
        return self.max_batch[stage if len(self.max_batch) > 1 else 0]

    def delay_of(self, stage: int) -> float:
        """Return the seconds that samples wait for a fuller batch of a stage."""
        return self.max_delay[stage if len(self.max_delay) > 1 else 0]


def _is_within(number: float, zero: bool) -> bool:
    return math.isfinite(number) and (number > 0 or (zero and number == 0))


@dataclass(frozen=True)
class AlarmSettings:
    """What raises an alarm, and who is told.

    Args:
        alpha: The chance that a false alarm is ever raised.
        tau: How far a share of exits may lie from the certified one.
        most_failed: The share of samples that may fail.
        state: The file that keeps what monitors know over a restart; None for none.
        webhook: The address that each alarm is sent to; empty for none.

    Raises:
        CascadeError: If a level is no share, the address is none of HTTP, or the file has no place.
    """

    alpha: float = ALPHA
    tau: float = TAU
    most_failed: float = MOST_FAILED
    state: Path | None = None
    webhook: str = ""

    def __post_init__(self) -> None:
        check_levels(self.alpha, self.tau, self.most_failed)
        if self.webhook and not _HTTP.match(self.webhook):
            raise CascadeError(f"webhook {self.webhook!r}: must be http://HOST… or https://HOST…")
        if self.state is not None and (self.state.is_dir() or not self.state.parent.is_dir()):
            raise CascadeError(
                f"alarm-state {self.state}: must be a file in a folder that exists; create the "
                "folder, or name another file"
            )


@dataclass(frozen=True)
class ShadowSettings:
    """Which samples the reference decides too.

    Args:
        share: Their share; 0 for none.
        folder: Where disagreements are written with the samples themselves; None for nowhere.

    Raises:
        CascadeError: If the share is none, or a folder has nothing to hold.
    """

    share: float = 0.0
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise CascadeError(f"shadow: {self.share:g} is no share of 1")
        if self.folder is not None and not self.share:
            raise CascadeError("to-label: goes with --shadow SHARE; leave it out or name a share")


@dataclass(frozen=True)
class Observing:
    """What watches the server.

    Args:
        alarms: What raises an alarm, and who is told.
        shadow: Which samples the reference decides too.
        load_reference: From the runner that is served to that of its reference.
    """

    alarms: AlarmSettings = field(default_factory=AlarmSettings)
    shadow: ShadowSettings = field(default_factory=ShadowSettings)
    load_reference: Callable[[Runner], Runner] | None = field(default=None, compare=False)
