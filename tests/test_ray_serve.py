"""serve on Ray: the decisions of the runner, counts that are sums, and no request that is lost."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from committee import Cascade, Runner
from committee.cli import main
from committee.embedded import embedded_images
from committee.run.decision import Decision
from committee.scale.serve import _notes, by_pending
from committee.scale.watcher import Teller, Watcher
from committee.serve.settings import AlarmSettings
from serve_world import RunningServer, chain_file, serving
from serve_world import until as wait_until
from test_serve import INFER, tensor
from test_serve_observing import made_cascade

pytest.importorskip("ray", reason="ray is not installed")
ActorUnavailableError = pytest.importorskip("ray.exceptions").ActorUnavailableError

COUNT = 60
IMAGES: Any = embedded_images("test").read(np.arange(COUNT))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def server(folder: Path, ray_address: str) -> Iterator[RunningServer]:
    """Two servers, one a node."""
    there = ["--on", "ray", "--address", ray_address, "--port", str(free_port())]
    path = chain_file(folder)
    with serving(path, *there, "--replicas", "2", "--quiet", warnings="ignore") as running:
        yield running


until = partial(wait_until, seconds=240, pause=0.05)


def total(metrics: str, name: str) -> float:
    """The sum of a metric over its labels."""
    lines = [line for line in metrics.splitlines() if line.startswith(name)]
    return sum(float(line.split()[-1]) for line in lines)


def test_decisions_are_those_of_the_runner_and_counts_are_sums(
    server: RunningServer, folder: Path
) -> None:
    runner = Runner(folder / "cascade.json", threads=1)
    made = [runner(image) for image in IMAGES]
    with httpx.Client(base_url=server.address, timeout=60) as client:
        # The page, what is served, and probes are there as in one process.
        for path in ("/", "/about", "/openapi.json", "/v2/health/live", "/v2/models/cascade/ready"):
            assert client.get(path).status_code == 200, path

        def ask(image: Any) -> tuple[int, int]:
            body = {"inputs": [tensor(image[None])]}
            found = client.post(INFER, json=body).json()["outputs"]
            outputs = {each["name"]: each["data"][0] for each in found}
            return outputs["class"], outputs["stage"]

        with ThreadPoolExecutor(8) as executor:
            answers = list(executor.map(ask, IMAGES))
        infer = client.post(INFER, json={"inputs": [tensor(IMAGES)]}).json()
        exits = np.bincount([each.stage for each in made], minlength=3).tolist()
        until(lambda: sum(client.get("/exits").json()["exits"]) == 2 * COUNT)
        shown, metrics = client.get("/exits").json(), client.get("/metrics").text
        alarms = client.get("/alarms").json()
        missing = client.get("/v2/models/other")
    assert answers == [(each.class_index, each.stage) for each in made]
    outputs = {each["name"]: each["data"] for each in infer["outputs"]}
    assert outputs["class"] == [each.class_index for each in made]
    assert outputs["confidence"] == pytest.approx([each.confidence for each in made], 1e-6)
    assert shown["exits"] == [2 * each for each in exits]
    assert shown["version"] == server.about["version"] == infer["model_version"]
    assert total(metrics, "committee_exits_total") == 2 * COUNT
    assert total(metrics, "committee_batch_size_sum") >= 2 * COUNT
    assert alarms["alarm"] is False
    assert missing.status_code == 404


def test_a_new_cascade_replaces_the_servers_without_a_lost_request(
    server: RunningServer, folder: Path
) -> None:
    answers: list[tuple[int, str]] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.address, timeout=60) as client:
            while not stop.is_set():
                found = client.post(INFER, json={"inputs": [tensor(IMAGES[:1])]})
                is_good = found.status_code == 200
                told = found.json()["model_version"] if is_good else found.text
                answers.append((found.status_code, told))
                time.sleep(0.05)  # the processors are for the servers that start

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for each in threads:
        each.start()
    until(lambda: answers)
    chain_file(folder, Cascade.of(["nano", "small"], [0.99]))
    server.signal(signal.SIGHUP)
    until(lambda: "serving nano -> small, version" in server.notes)
    (folder / "cascade.json").write_text("{")
    server.signal(signal.SIGHUP)
    until(lambda: "the new cascade is refused, the one before goes on: " in server.notes)
    seen = len(answers)
    until(lambda: len(answers) >= seen + 20)
    stop.set()
    for each in threads:
        each.join()
    assert not [each for each in answers if each[0] != 200]
    versions = [version for _, version in answers]
    assert versions[0] == server.about["version"] != versions[-1]
    assert len(set(versions)) == 2
    with httpx.Client(base_url=server.address, timeout=60) as client:
        assert client.get("/v2").status_code == 200
        assert client.get("/about").json()["cascade"] == "nano -> small"


def test_samples_that_wait_say_how_many_servers_there_are() -> None:
    config = SimpleNamespace(target_ongoing_requests=64.0)
    for pending, wanted in (({}, 0), ({"a": 1.0}, 1), ({"a": 100.0, "b": 64.0}, 3)):
        context = SimpleNamespace(aggregated_metrics={"pending": pending}, config=config)
        assert by_pending(context) == (wanted, {})
    assert by_pending(SimpleNamespace(aggregated_metrics=None, config=config)) == (0, {})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--address", "auto", "--replicas", "2"], "--address, --replicas go with --on ray"),
        (["--on", "ray", "--grpc-port", "0"], "--grpc-port goes with a server that is one process"),
        (["--on", "ray", "--shadow", "0.1"], "--shadow goes with a server that is one process"),
        (["--on", "ray", "--replicas", "3,2"], "--replicas 3,2: must be a whole number"),
        (["--on", "ray", "--replicas", "x"], "--replicas x: must be a whole number"),
        (["--on", "ray", "--target", "0"], "--target: must be above 0"),
        (["--on", "ray", "--address", "127.0.0.1:1"], "nothing answers there"),
    ],
)
def test_bad_input_gets_one_line(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(chain_file(tmp_path)), *options]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


EARLY, LATE = (Decision(0, "0", 0.95, stage, 1.0) for stage in (0, 1))


class Actor:
    """Calls an object as Ray calls an actor; while it ``is_dead`` that fails."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.own, self.is_dead = Watcher(AlarmSettings()), False

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            if self.is_dead:
                raise RuntimeError("the actor died")
            return await getattr(self.own, name)(*arguments)

        return SimpleNamespace(remote=call)


def replica(name: str, actor: Actor, runner: Any, pending: int = 0) -> Teller:
    """What a replica tells of two samples, of which one failed; four wait at each."""
    teller = Teller(name, actor)
    teller.watching(runner, "1")
    teller.pending = lambda: pending
    teller.began(0)
    teller.exited([EARLY], [1])
    teller.decided(0, [None, None], [EARLY, None])
    teller.answered("/classify", 200, 0.3, 2)
    return teller


@pytest.fixture(scope="module")
def runner() -> Any:
    return SimpleNamespace(cascade=made_cascade(), unit="macs")


def test_the_watcher_counts_all_replicas_as_one_server(runner: Any) -> None:
    async def work() -> None:
        actor = Actor()
        tellers = [replica("a", actor, runner, 3), replica("b", actor, runner, 4)]
        for teller in tellers:
            await teller.report()
        metrics = (await actor.own.metrics()).decode()
        names = ("exits_total", "failed_samples_total", "requests_total", "pending_samples ")
        assert [total(metrics, f"committee_{name}") for name in names] == [2, 2, 2, 7]
        shown = await actor.own.exits()
        assert (shown["exits"][0], shown["failed"], shown["pending"]) == (2, 2, 7)
        assert (await actor.own.alarms())["samples"] == 4
        # Alarms and exits are those of the newest cascade alone.
        await actor.own.serves(runner.cascade, runner.unit, "2")
        tellers[0].exited([EARLY], [])
        await tellers[0].report()
        assert (await actor.own.exits())["exits"][0] == 0
        assert total((await actor.own.metrics()).decode(), "committee_exits_total") == 3
        await actor.own.close()

    asyncio.run(work())


def test_what_a_watcher_missed_is_told_to_the_next(runner: Any) -> None:
    async def work() -> None:
        actor = Actor()
        teller = replica("a", actor, runner)
        await teller.report()
        actor.is_dead = True
        teller.exited([LATE], [])
        await teller.report()
        actor.begin()
        await teller.report()
        assert (await actor.own.exits())["exits"] == [0, 1]
        await teller.report()
        assert (await actor.own.exits())["exits"] == [0, 1]
        await actor.own.close()

    asyncio.run(work())


def test_a_watcher_that_is_begun_anew_ends_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(_: Any, timeout: float) -> None:
        raise ActorUnavailableError("it restarts", None)

    monkeypatch.setattr("ray.get", get)
    assert _notes(SimpleNamespace(notes=SimpleNamespace(remote=list))) == []
