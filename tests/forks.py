"""Commands in processes of their own, without the second of a processor that imports take.

A process that has imported what servers need forks for each command. It has no engine of models,
whose threads would be lost.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any


class Fork:
    """A command that runs; what :class:`subprocess.Popen` can do of it."""

    def __init__(self, words: list[str], out: Path, errors: Path, **environment: str) -> None:
        told = {"words": words, "out": str(out), "errors": str(errors), "cwd": str(Path.cwd())}
        self.pid = int(_asked(start=told | {"environment": {**os.environ, **environment}}))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _asked(ended=self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise TimeoutError(f"it did not end within {timeout} s")
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def _forking() -> subprocess.Popen[str]:
    """The process that forks; it ends with this one."""
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(process.communicate)
    return process


def _asked(**what: Any) -> Any:
    process = _forking()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(what) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def _answered(what: dict[str, Any]) -> list[str] | None:
    """Answer; in the process that was forked, return the words of its command."""
    if "ended" in what:
        pid, status = os.waitpid(what["ended"], os.WNOHANG)
        print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
        return None
    start = what["start"]
    if pid := os.fork():
        print(pid, flush=True)
        return None
    for path, flags, number in (
        (os.devnull, os.O_RDONLY, 0),
        (start["out"], os.O_WRONLY, 1),
        (start["errors"], os.O_WRONLY, 2),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(start["environment"])
    os.chdir(start["cwd"])
    warnings.simplefilter(os.environ["PYTHONWARNINGS"])
    words: list[str] = start["words"]
    return words


if __name__ == "__main__":
    import committee.serve.process  # noqa: F401
    from committee.cli import command, main

    command("serve")
    for line in sys.stdin:
        if (own := _answered(json.loads(line))) is not None:
            sys.exit(main(own))
