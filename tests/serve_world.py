"""A server in a process of its own, for tests that ask it as a client does."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from committee import Cascade
from export_world import embedded
from forks import Fork


def until(holds: Callable[[], Any], seconds: float = 120, pause: float = 0.005) -> None:
    """Wait for what another thread or process does; the seconds are those of a busy machine."""
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends
        time.sleep(pause)


CHAIN = Cascade.of(["nano", "tiny", "small"], [0.9, 0.9])


@dataclass(eq=False)
class RunningServer:
    """What runs, where it answers, and what it wrote to standard error."""

    process: Fork
    about: dict[str, Any]
    log: Path

    @property
    def address(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return str(self.about["address"])

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``, as tritonclient wants it."""
        return self.address.removeprefix("http://")

    @property
    def notes(self) -> str:
        return self.log.read_text()

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The access log."""
        return [json.loads(line) for line in self.notes.splitlines() if line.startswith("{")]

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end; return the exit code."""
        return self.process.wait(60)


@contextmanager
def serving(cascade: Path, *options: str, warnings: str = "error") -> Iterator[RunningServer]:
    """A server of a cascade, ready; it is stopped at the end, and must end well."""
    log, out = (cascade.with_name(f"{cascade.name}.{ending}") for ending in ("log", "out"))
    log.write_text("")
    out.unlink(missing_ok=True)
    os.mkfifo(out)
    words = ["serve", str(cascade), "--port", "0", "--threads", "1", "--json", *options]
    process = Fork(words, out, log, PYTHONWARNINGS=warnings)
    try:
        text = ""
        with out.open() as told:
            while not text.rstrip().endswith("}"):
                line = told.readline()
                assert line, f"it ended: {log.read_text()}"
                text += line
            yield RunningServer(process, json.loads(text), log)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()


def chain_file(folder: Path, cascade: Cascade = CHAIN) -> Path:
    """A cascade file of models of the embedded pool."""
    return embedded(cascade).save(folder / "cascade.json")
