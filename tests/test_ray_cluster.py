"""Joining Ray: what cannot be joined is refused at once and in one line."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from committee.errors import ClusterError, CommitteeError, MissingExtraError, ModelError
from committee.scale import cluster
from committee.scale.cluster import connect, one_line
from committee.scale.data import end_data, tables_of
from test_imports import loaded

ray = pytest.importorskip("ray", reason="ray is not installed")


def test_nothing_of_ours_loads_ray_before_it_is_joined() -> None:
    heavy, _ = loaded("import committee, committee.cli.run, committee.scale.cluster")
    assert "ray" not in heavy


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (
            "auto",
            "no Ray runs on this machine. Start it with: ray start --head; .*RAY_AUTH_MODE=token",
        ),
        ("ray://head:10001", "Submit it: ray job submit"),
        ("head", "must be auto or HOST:PORT"),
        ("no.such.host.invalid:6379", "nothing answers there"),
        ("127.0.0.1:FREE", "nothing answers there"),
        ("127.0.0.1:99999", "nothing answers there"),
    ],
)
def test_an_address_that_cannot_be_joined_is_refused_at_once(
    address: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(where: str, **_: object) -> None:
        assert where == "auto"
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(ray, "init", init)  # one may run beside the tests
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = str(probe.getsockname()[1])
    with pytest.raises(ClusterError, match=told), connect(address.replace("FREE", free)):
        pass
    assert not ray.is_initialized()


def test_an_old_ray_is_named_with_the_line_that_renews_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "__version__", "2.59.1")
    with (
        pytest.raises(ClusterError, match=r'2\.59\.1.*pip install "ray\[data,serve\]>=2\.60"'),
        connect(),
    ):
        pass


def test_without_ray_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match="--on ray needs ray"), connect():
        pass


_TERMINATED = """
import os, signal, sys, time
from committee.scale.cluster import connect
try:
    with connect():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
except KeyboardInterrupt:
    sys.exit(7 if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL else 8)
"""


def test_sigterm_stops_a_job_as_ctrl_c_does() -> None:
    words = [sys.executable, "-c", _TERMINATED]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (7, "")


def test_what_is_still_computed_ends_before_ray_does() -> None:
    stopped, before = threading.Event(), threading.enumerate()

    def work() -> None:
        stopped.wait()
        time.sleep(0.2)  # a thread of Ray Data looks so often whether it shall end

    def iter_batches(**_: object) -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            stopped.set()

    thread = threading.Thread(target=work, name="iter_threaded", daemon=True)
    thread.start()
    tables = tables_of(SimpleNamespace(iter_batches=iter_batches))
    next(tables)
    end_data(before)
    assert stopped.is_set()
    assert not thread.is_alive()
    assert list(tables) == []


def test_ray_writes_nothing_among_results(capsys: pytest.CaptureFixture[str]) -> None:
    from ray._private import worker

    with cluster._muted():
        worker.print_to_stdstream({"lines": ["it died"], "pid": "raylet", "is_err": False}, False)
    assert capsys.readouterr() == ("", "")
    worker.print_to_stdstream({"lines": ["it died"], "pid": "raylet", "is_err": False}, False)
    assert "it died" in capsys.readouterr().out


def test_a_ray_that_was_started_here_leaves_its_folder_only_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SimpleNamespace(address_info={"session_dir": str(tmp_path / "session")})
    fake = SimpleNamespace(init=lambda *_, **__: made, shutdown=lambda: None)
    for where, error, stays in (
        ("auto", "", True),
        ("local", "failed", True),
        ("local", "", False),
    ):
        (tmp_path / "session").mkdir(exist_ok=True)
        with suppress(ValueError), cluster._joined(fake, where):
            if error:
                raise ValueError(error)
        assert (tmp_path / "session").exists() == stays


class _Ray(ModuleType):
    """A Ray whose workers have another version of this package."""

    def __init__(self, version: str) -> None:
        super().__init__("ray")
        self.version = version

    def remote(self, *_: Any, **options: Any) -> Any:
        return (lambda _: self) if options else self

    def get(self, _: object) -> str:
        return self.version


@pytest.mark.parametrize(("version", "told"), [("", "no committee"), ("0.0.1", "committee 0.0.1")])
def test_workers_with_another_version_are_refused(version: str, told: str) -> None:
    with pytest.raises(ClusterError, match=f"workers of this cluster have {told}, and this is"):
        cluster._check_workers(_Ray(version))


def _of_a_worker(cause: Exception) -> Exception:
    """Return what Ray raises here when a task raised ``cause`` there."""
    text = f"Traceback (most recent call last):\n  File\n{cause}"
    return ray.exceptions.RayTaskError(
        "task", text, cause, "name", 1, "127.0.0.1"
    ).as_instanceof_cause()


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (_of_a_worker(ModelError("model 'a': broken")), ModelError, "^model 'a': broken$"),
        (_of_a_worker(KeyError("x")), ClusterError, "^--on ray: KeyError: 'x'. Run the same"),
        (ray.exceptions.OutOfMemoryError("killed"), ClusterError, "ran out of memory"),
        (ray.exceptions.OutOfDiskError("full"), ClusterError, "the disk of a node is full"),
        (ray.exceptions.WorkerCrashedError(), ClusterError, "The worker died unexpectedly"),
    ],
)
def test_what_fails_on_a_worker_is_one_line(error: Exception, kind: type, told: str) -> None:
    with pytest.raises(CommitteeError, match=told) as caught, one_line():
        raise error
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_what_is_not_of_ray_stays_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError), one_line():
        raise ZeroDivisionError
