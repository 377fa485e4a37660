"""What watches a server: metrics, alarms and shadow runs."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

import committee.serve.shadow as shadow_module
import committee.serve.webhook as webhook_module
from app_world import Answer, ask
from committee import Cascade, Runner
from committee.certificates.agreement import agreement_now
from committee.cli import main
from committee.embedded import embedded_images
from committee.errors import CascadeError, ModelError
from committee.rule.cascade import Stage
from committee.rule.certificate import CertificateRecord
from committee.rule.expected import Expected
from committee.rule.origin import Origin, RecordedTarget
from committee.run.decision import Decision
from committee.serve.alarms import Alarms
from committee.serve.app import make_app
from committee.serve.metrics import Metrics
from committee.serve.observers import Observer, run_noted
from committee.serve.observing import observers_of
from committee.serve.reference import check_loadable, reference_rule
from committee.serve.served import Serving
from committee.serve.settings import AlarmSettings, Observing, Settings, ShadowSettings
from committee.serve.shadow import _save
from export_world import embedded
from serve_world import serving

IMAGES: Any = embedded_images("test").read(np.arange(640))
INFER = "/v2/models/cascade/infer"
DASHBOARD = Path(__file__).parents[1] / "examples" / "serving" / "dashboard.json"


def made_cascade() -> Cascade:
    """Two models of the embedded pool; what exits are expected was counted on 2,000 images."""
    origin = Origin(unit="macs", target=RecordedTarget("small", ("small",)))
    cascade = replace(embedded(Cascade.of(["nano", "small"], [0.9])), origin=origin)
    made = Runner(cascade, threads=1).decide(embedded_images("val").read(np.arange(2000)))
    expected = Expected.of(cascade.rule_fingerprint, "val", made.stage, made.score, 2)
    return replace(cascade, expected=expected)


@pytest.fixture(scope="module")
def cascade() -> Cascade:
    return made_cascade()


@dataclass(eq=False)
class Observed:
    """A server without a network, with what watches it."""

    ask: Callable[..., Awaitable[Answer]]
    serving: Serving
    notes: list[str] = field(default_factory=list)

    async def infer(self, images: Any, **parameters: Any) -> Answer:
        tensor = {
            "name": "images",
            "shape": list(images.shape),
            "datatype": "UINT8",
            "data": images.ravel().tolist(),
        }
        body = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
        return await self.ask(INFER, body)

    async def get(self, path: str) -> Any:
        answer = await self.ask(path, method="GET")
        assert answer.status == 200
        return json.loads(answer.body)

    async def metrics(self) -> dict[tuple[str, ...], float]:
        """Values by name and labels."""
        answer = await self.ask("/metrics", method="GET")
        assert answer.headers[b"content-type"].startswith(b"text/plain")
        families = text_string_to_metric_families(answer.body.decode())
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
        }


def observed(
    cascade: Cascade,
    work: Callable[[Observed], Awaitable[None]],
    alarms: AlarmSettings | None = None,
    shadow: ShadowSettings | None = None,
    load: Callable[[], Runner] | None = None,
    **settings: Any,
) -> list[str]:
    """Do some work with a server; return the notes for its operator."""

    def reference(runner: Runner) -> Runner:
        return Runner(embedded(reference_rule(runner.cascade)), threads=1)

    async def run() -> list[str]:
        serving = Serving(load or (lambda: Runner(cascade, threads=1)), Settings(**settings))
        observing = Observing(alarms or AlarmSettings(), shadow or ShadowSettings(), reference)
        own = Observed(partial(ask, None), serving)
        serving.observers, routes = observers_of(observing, serving, own.notes.append)
        own.ask = partial(ask, make_app(serving, routes))
        helpers = [asyncio.create_task(each.run()) for each in serving.observers]
        try:
            await serving.swap()
            await work(own)
        finally:
            await serving.stop()
            for each in helpers:
                each.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        return own.notes

    return asyncio.run(run())


def test_metrics_are_what_was_decided(cascade):
    made = Runner(cascade, threads=1).decide(IMAGES[:100])

    async def work(server: Observed) -> None:
        before = await server.metrics()
        assert before["committee_exits_total", "1"] == 0
        for _ in range(2):
            assert (await server.infer(IMAGES[:100])).status == 200
        assert (await server.ask(INFER, b"{}")).status == 400
        found = await server.metrics()
        exits = np.bincount(made.stage) * 2
        assert [found["committee_exits_total", str(k)] for k in (0, 1)] == exits.tolist()
        macs = [spec.costs[0].value for spec in server.serving.current.runner.specs.values()]
        cost = exits.sum() * macs[0] + exits[1] * macs[1]
        assert found["committee_cost_total", "macs"] == pytest.approx(cost)
        route = "/v2/models/{name}/infer"
        assert found["committee_requests_total", "200", route] == 2
        assert found["committee_requests_total", "400", route] == 1
        assert found["committee_request_seconds_count", route] == 3
        for stage in (0, 1):
            sizes = found["committee_batch_size_sum", str(stage)]
            assert sizes == (200 if stage == 0 else exits[1])
            for name in ("queue", "model"):
                assert found[f"committee_{name}_seconds_count", str(stage)] >= 1
        assert found["committee_pending_samples",] == 0
        own = cascade.expected
        assert found["committee_expected_exit_ratio", "0"] == own.exits[0] / own.samples
        assert any(name == "committee_promise_info" for name, *_ in found)
        assert found["process_resident_memory_bytes",] > 0

    assert observed(cascade, work) == []


def test_the_dashboard_asks_for_metrics_that_there_are(cascade):
    board = json.loads(DASHBOARD.read_text())
    texts = [each["expr"] for panel in board["panels"] for each in panel.get("targets", ())]
    words = " ".join(texts).replace("(", " ").replace("{", " ").replace("[", " ").split()
    asked = {each.strip(")}],") for each in words if each.startswith(("committee_", "process_"))}
    assert len(texts) > 8
    assert len(asked) > 8

    async def work(server: Observed) -> None:
        await server.infer(IMAGES[:64])
        there = {name for name, *_ in await server.metrics()}
        assert asked <= there
        # Every one of ours is shown.
        ends = ("_created", "_sum", "_count")
        ours = {n for n in there if n.startswith("committee_") and not n.endswith(ends)}
        assert ours - {"committee_webhook_failures_total"} <= asked

    observed(cascade, work)


class Webhook(BaseHTTPRequestHandler):
    """Keeps what it is sent; the path ``/moved`` sends elsewhere."""

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        self.server.got.append(json.loads(self.rfile.read(size)))  # type: ignore[attr-defined]
        self.send_response(302 if self.path == "/moved" else 200)
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.server.came.set()  # type: ignore[attr-defined]

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def webhook() -> Iterator[Any]:
    server: Any = HTTPServer(("127.0.0.1", 0), Webhook)
    server.got, server.came = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def noisy(images: Any) -> Any:
    noise = np.random.default_rng(0).normal(scale=60, size=images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


def test_alarms_are_shown_noted_sent_and_kept(cascade, tmp_path):
    state = tmp_path / "state.json"

    async def quiet(server: Observed) -> None:
        await server.infer(IMAGES)
        found = await server.get("/alarms")
        assert (found["samples"], found["alarm"], found["shadow"]) == (640, False, None)
        assert (await server.metrics())["committee_alarm", "scores"] == 0

    assert observed(cascade, quiet, AlarmSettings(state=state)) == []

    with webhook() as hook:
        address = f"http://127.0.0.1:{hook.server_port}/"

        async def noise(server: Observed) -> None:
            # The state survived.
            assert (await server.get("/alarms"))["samples"] == 640
            await server.infer(noisy(IMAGES))
            found = await server.get("/alarms")
            assert found["samples"] == 1280
            raised = {each["name"]: each["alarm_at"] for each in found["monitors"]}
            assert 640 < raised["exits of stage 0"] <= 1280
            values = await server.metrics()
            assert values["committee_alarm", "exits of stage 0"] == 1
            assert values["committee_alarm_evidence", "exits of stage 0"] > 1
            assert values["committee_alarm", "failures"] == 0
            assert await asyncio.to_thread(hook.came.wait, 30)

        notes = observed(cascade, noise, AlarmSettings(state=state, webhook=address))
        assert any(each.startswith("alarm: exits of stage 0 at sample ") for each in notes)
        sent = hook.got[0]
        assert sent["cascade"] == str(cascade)
        assert sent["reading"]["name"] == sent["alarm"]

        async def after(server: Observed) -> None:
            assert (await server.get("/alarms"))["alarm"]
            await server.infer(IMAGES)

        # An alarm stays, and is told once.
        told = len(hook.got)
        assert observed(cascade, after, AlarmSettings(state=state, webhook=address)) == []
        assert len(hook.got) == told
    # Another setting begins anew, says so, and keeps what was known.
    before, kept = state.read_text(), tmp_path / "state.json.1"
    notes = observed(cascade, quiet, AlarmSettings(state=state, tau=0.1))
    assert "begin anew" in notes[0]
    assert notes[0].endswith(f"The state before is in {kept}")
    assert kept.read_text() == before
    state.write_text("{")
    notes = observed(cascade, quiet, AlarmSettings(state=state))
    assert notes[0].endswith(f"{tmp_path / 'state.json.2'}")


@pytest.mark.parametrize("path", ["/moved", None])
def test_a_webhook_that_fails_hurts_nobody(cascade, monkeypatch, path):
    monkeypatch.setattr(webhook_module, "_PAUSES", (0.0, 0.0))
    with webhook() as hook:
        port = hook.server_port
        if path is None:
            hook.shutdown()
            hook.server_close()

        async def work(server: Observed) -> None:
            await server.infer(noisy(IMAGES))
            assert (await server.get("/alarms"))["alarm"]
            while not any("did not take" in each for each in server.notes):
                await asyncio.sleep(0.01)
            assert (await server.metrics())["committee_webhook_failures_total",] >= 1
            assert (await server.infer(IMAGES[:2])).status == 200

        observed(cascade, work, AlarmSettings(webhook=f"http://127.0.0.1:{port}{path or '/'}"))
        # A redirect is not followed.
        assert all(each["alarm"] for each in hook.got)


def test_a_webhook_that_answers_by_drops_has_not_taken_an_alarm(monkeypatch):
    monkeypatch.setattr("committee.serve.webhook._PATIENCE", 0.1)
    monkeypatch.setattr("committee.serve.webhook._PAUSES", (0.0,))
    failed, closed, notes = asyncio.Event(), asyncio.Event(), []

    async def drop(_, writer) -> None:
        with suppress(ConnectionError):
            while not failed.is_set():
                writer.write(b"H")
                await asyncio.sleep(0.01)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        closed.set()

    async def run() -> None:
        async with await asyncio.start_server(drop, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            sender = webhook_module.Webhook(
                f"http://127.0.0.1:{port}/", None, failed.set, notes.append
            )
            sender.send({})
            await failed.wait()
            await sender.close()
            await closed.wait()

    asyncio.run(run())
    assert "the webhook did not take an alarm: no answer within 0.1 s" in notes


def test_an_alarm_that_no_webhook_took_is_sent_after_a_restart(cascade, tmp_path):
    state = tmp_path / "state.json"
    unsent = tmp_path / "state.json.unsent"

    async def noise(server: Observed) -> None:
        # The server ends before anybody has looked at them.
        await server.infer(noisy(IMAGES))

    with webhook() as hook:
        port = hook.server_port
    notes = observed(
        cascade, noise, AlarmSettings(state=state, webhook=f"http://127.0.0.1:{port}/")
    )
    raised = [each for each in notes if each.startswith("alarm: ")]
    assert raised
    assert any(each.startswith("the webhook has not taken an alarm yet: ") for each in notes)
    assert notes[-1].startswith(f"the webhook did not take {len(raised)} alarm")
    assert f"{unsent} keeps them" in notes[-1]

    with webhook() as hook:

        async def wait(server: Observed) -> None:
            assert await asyncio.to_thread(hook.came.wait, 30)

        address = f"http://127.0.0.1:{hook.server_port}/"
        assert observed(cascade, wait, AlarmSettings(state=state, webhook=address)) == []
        assert len(hook.got) == len(raised)
    assert not unsent.exists()
    # Without a file they are lost, and that is said.
    notes = observed(cascade, noise, AlarmSettings(webhook=f"http://127.0.0.1:{port}/"))
    assert notes[-1].endswith("Name --alarm-state to keep such alarms over a restart")
    # A file that is damaged hurts nobody.
    unsent.write_text("x")
    notes = observed(cascade, noise, AlarmSettings(webhook=address, state=tmp_path / "other.json"))
    unsent.rename(tmp_path / "new.json.unsent")
    notes = observed(cascade, noise, AlarmSettings(webhook=address, state=tmp_path / "new.json"))
    assert "cannot be read" in notes[0]
    # Of one that cannot be written nobody says that it keeps them.
    (tmp_path / "full.json.unsent").mkdir()
    nowhere = f"http://127.0.0.1:{port}/"
    full = AlarmSettings(state=tmp_path / "full.json", webhook=nowhere)
    assert "could not be written" in observed(cascade, noise, full)[-1]


def test_only_addresses_of_http_are_taken():
    for address in ("file:///etc/passwd", "ftp://x", "x", "http://", "https:///x"):
        with pytest.raises(CascadeError, match="http"):
            AlarmSettings(webhook=address)


def test_requests_that_do_not_let_all_stages_run_say_nothing(cascade):
    async def work(server: Observed) -> None:
        await server.infer(IMAGES[:64], max_stage=0)
        assert (await server.get("/alarms"))["samples"] == 0

    observed(cascade, work)


def test_samples_count_in_the_order_in_which_they_came(cascade):
    alarms = Alarms(AlarmSettings(), Metrics(lambda: 0), lambda _: None)
    watch: Any = alarms.watching(Runner(cascade, threads=1), "1")
    for number in range(4):
        watch.began(number)
    early, late = Decision(0, "0", 0.95, 0, None), Decision(0, "0", 0.5, 1, None)
    watch.decided(3, IMAGES[:2], [early, None])
    watch.decided(1, IMAGES[:1], [early])
    new = watch.new
    assert new == []
    watch.decided(0, IMAGES[:1], [late])
    assert new == [(1, 0.5), (0, 0.95)]
    # The same cascade is loaded again; its requests are numbered anew.
    again: Any = alarms.watching(Runner(cascade, threads=1), "1")
    again.began(0)
    again.decided(0, IMAGES[:1], [late])
    watch.decided(2, IMAGES[:1], [])  # given up
    assert new == [(1, 0.5), (0, 0.95), (1, 0.5), (0, 0.95), (-1, 0.0)]


def test_failures_raise_their_alarm(cascade):
    def failing() -> Runner:
        runner = Runner(cascade, threads=1)

        def usable_outputs(*_: Any) -> Any:
            raise ModelError("broken")

        runner.usable_outputs = usable_outputs  # type: ignore[method-assign]
        return runner

    async def work(server: Observed) -> None:
        assert (await server.infer(IMAGES[:64])).status == 200
        found = await server.get("/alarms")
        assert found["monitors"][-1]["alarm_at"] == 32
        assert (await server.metrics())["committee_failed_samples_total", "0"] == 64

    observed(cascade, work, load=failing)


def test_a_file_that_expects_nothing_is_served_without_alarms(cascade):
    async def work(server: Observed) -> None:
        found = await server.get("/alarms")
        assert "does not say which exits" in found["problem"]
        assert (await server.infer(IMAGES[:2])).status == 200

    notes = observed(replace(cascade, expected=None), work)
    assert notes[0].startswith("no alarms: ")


def test_another_cascade_begins_anew_and_the_same_goes_on(cascade, tmp_path):
    served, state = [cascade], tmp_path / "state.json"

    async def work(server: Observed) -> None:
        await server.infer(IMAGES[:64])
        # Samples that nobody has looked at yet are not lost.
        await server.serving.swap()
        assert (await server.get("/alarms"))["samples"] == 64
        served[0] = replace(cascade, expected=replace(cascade.expected, split="other"))
        await server.serving.swap()
        await server.infer(IMAGES[:32])
        assert (await server.get("/alarms"))["samples"] == 32

    alarms = AlarmSettings(state=state)
    notes = observed(cascade, work, alarms, load=lambda: Runner(served[0], threads=1))
    assert notes == [
        f"alarms begin anew: another cascade is served. The state before is in {state}.1"
    ]
    assert json.loads((tmp_path / "state.json.1").read_text())["blocks"] == 2
    assert json.loads(state.read_text())["blocks"] == 1


def test_metrics_say_nothing_of_the_cascade_before(cascade):
    served = [cascade]

    async def names(server: Observed) -> set[tuple[str, ...]]:
        return {key for key in await server.metrics() if "alarm" in key[0] or "expected" in key[0]}

    async def work(server: Observed) -> None:
        await server.infer(noisy(IMAGES))
        assert (await server.metrics())["committee_alarm", "exits of stage 0"] == 1
        assert ("committee_expected_exit_ratio", "1") in await names(server)
        # What the file expects is of other decisions.
        first = replace(cascade.stages[0], threshold=0.8)
        served[0] = replace(cascade, stages=(first, cascade.stages[1]))
        await server.serving.swap()
        assert (await server.get("/alarms"))["problem"]
        assert not await names(server)
        served[0] = cascade
        await server.serving.swap()
        assert (await server.metrics())["committee_alarm", "exits of stage 0"] == 0

    observed(cascade, work, load=lambda: Runner(served[0], threads=1))


def test_two_servers_do_not_share_the_file_of_a_state(cascade, tmp_path):
    state = tmp_path / "state.json"

    async def work(server: Observed) -> None:
        await server.infer(IMAGES[:64])
        await server.get("/alarms")
        await asyncio.to_thread(observed, cascade, other, AlarmSettings(state=state))

    async def other(server: Observed) -> None:
        await server.infer(IMAGES[:96])

    (note,) = observed(cascade, work, AlarmSettings(state=state))
    assert note.startswith("the state of alarms is written no more: ")
    assert str(state) in note
    assert json.loads(state.read_text())["blocks"] == 3


def test_a_cascade_that_cannot_be_served_leaves_the_alarms_of_the_one_before(cascade):
    served = [cascade]

    async def work(server: Observed) -> None:
        served[0] = embedded(Cascade.of(["nano", "tiny", "small"], [0.9, 0.9]))
        with pytest.raises(CascadeError, match="max_batch"):
            await server.serving.swap()
        await server.infer(IMAGES[:32])
        found = await server.get("/alarms")
        assert (found["samples"], found["cascade"]) == (32, str(cascade))

    observed(cascade, work, load=lambda: Runner(served[0], threads=1), max_batch=(8, 8))


async def until_decided(server: Observed, samples: int) -> Any:
    while (found := (await server.get("/alarms"))["shadow"])["samples"] < samples:
        await asyncio.sleep(0.01)
    return found


def test_shadow_runs_count_and_write_disagreements(cascade, tmp_path):
    images = IMAGES[:200]
    own, other = (
        Runner(each, threads=1).decide(images).predicted
        for each in (cascade, embedded(Cascade.of(["small"])))
    )
    flips = np.flatnonzero(own != other)
    assert 2 < len(flips) < 40

    async def work(server: Observed) -> None:
        await server.infer(images, max_stage=0)  # says nothing of the cascade
        for start in range(0, 200, 50):
            await server.infer(images[start : start + 50])
        found = await until_decided(server, 200)
        assert (found["flips"], found["left_out"], found["failed"]) == (len(flips), 0, 0)
        assert found["low"] < len(flips) / 200 < found["high"]
        assert found["promise"] == ""
        values = await server.metrics()
        assert values["committee_shadow_samples_total",] == 200
        assert values["committee_shadow_flips_total",] == len(flips)

    folder = tmp_path / "disagreements"
    assert observed(cascade, work, shadow=ShadowSettings(1.0, folder)) == []
    with (folder / "to_label.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = cascade.classes
    written = {
        np.asarray(Image.open(folder / f"{row['id']}.png")).tobytes(): (
            row["cascade"], row["reference"], row["label"],
        )
        for row in rows
    }  # fmt: skip
    assert len(rows) == len(flips)
    assert written == {images[k].tobytes(): (names[own[k]], names[other[k]], "") for k in flips}


def test_disagreements_on_images_of_one_channel_are_written(cascade, tmp_path):
    async def work(server: Observed) -> None:
        await server.infer(IMAGES[:100, ..., None])
        await until_decided(server, 100)

    assert observed(cascade, work, shadow=ShadowSettings(1.0, tmp_path)) == []
    written = {np.asarray(Image.open(path)).tobytes() for path in tmp_path.glob("*.png")}
    assert written
    assert written <= {image.tobytes() for image in IMAGES[:100]}


def test_an_observer_that_fails_says_so():
    class Broken(Observer):
        async def run(self) -> None:
            raise ValueError("no place")

    notes: list[str] = []
    asyncio.run(run_noted(Broken(), notes.append))
    assert notes == ["broken: has failed and looks at nothing any more: ValueError: no place"]


def test_a_broken_promise_raises_an_alarm(cascade):
    own = replace(
        record("agreement", margin=0.001), reference_rule=reference_rule(cascade).rule_json()
    )
    certified = cascade.certified(own)

    async def work(server: Observed) -> None:
        for start in range(0, 256, 64):
            await server.infer(IMAGES[start : start + 64])
            await until_decided(server, start + 64)
        found = await server.get("/alarms")
        assert found["alarm"]
        assert (found["shadow"]["promise"], found["shadow"]["alarm"]) == ("broken", True)
        assert not any(each["alarm_at"] for each in found["monitors"])
        about = next(n for n, *_ in await server.metrics() if n == "committee_promise_info")
        assert about

    notes = observed(certified, work, shadow=ShadowSettings(1.0))
    # Later samples may leave it open again: the log says so, and the alarm rings once.
    assert notes[0].startswith("alarm: the promise is broken: the reference decides ")
    assert all(note.startswith("shadow: ") for note in notes[1:])


def test_requests_at_once_raise_no_alarm(cascade):
    async def work(server: Observed) -> None:
        # Samples that exit early are answered long before the others.
        answers = await asyncio.gather(*(server.infer(image[None]) for image in IMAGES))
        assert {each.status for each in answers} == {200}
        found = await server.get("/alarms")
        assert (found["samples"], found["alarm"]) == (640, False)

    observed(cascade, work)


def test_the_options_of_the_command(cascade, tmp_path):
    path, state = cascade.save(tmp_path / "c.json"), tmp_path / "state.json"
    options = ["--shadow", "1", "--to-label", str(tmp_path / "label"), "--alarm-state", str(state)]
    with serving(
        path, *options, "--tau", "0.5", "--most-failed", "0.2", "--alpha", "0.3"
    ) as server:
        body = io.BytesIO()
        Image.fromarray(IMAGES[0]).save(body, "PNG")
        with httpx.Client(base_url=server.address, timeout=60) as client:
            assert client.post("/classify", content=body.getvalue()).status_code == 200
            found = client.get("/alarms").json()
            assert "committee_exits_total" in client.get("/metrics").text
        assert (found["alpha"], found["tau"], found["most_failed"]) == (0.3, 0.5, 0.2)
        assert (found["samples"], found["shadow"]["share"]) == (1, 1.0)
    assert len(json.loads(state.read_text())["pending"]) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--shadow", "0.1"], "names no reference"),
        (["--shadow", "2"], "no share"),
        (["--to-label", "x"], "goes with --shadow"),
        (["--webhook", "file:///x"], "http"),
        (["--alpha", "2"], "alpha 2 must lie between 0 and 1"),
        (["--tau", "3"], "tau 3 must be"),
        (["--most-failed", "0"], "most_failed 0 must"),
        (["--alarm-state", "missing/state.json"], "folder that exists"),
    ],
)
def test_options_that_cannot_be_kept_are_refused(cascade, tmp_path, capsys, options, told):
    path = replace(cascade, origin=Origin()).save(tmp_path / "c.json")
    assert main(["serve", str(path), "--port", "0", *options]) == 2
    error = capsys.readouterr().err.splitlines()
    assert told in error[-1]


def test_ctrl_c_before_it_is_ready_says_so(cascade, tmp_path, capsys, monkeypatch):
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("committee.serve.process.run_server", interrupted)
    path = cascade.save(tmp_path / "c.json")
    assert main(["serve", str(path), "--port", "0"]) == 130
    assert capsys.readouterr().err == "committee: stopped before it was ready\n"


def test_the_reference_waits_while_anybody_does(cascade):
    async def work(server: Observed) -> None:
        pending = True
        server.serving.__class__ = type(
            "Busy", (Serving,), {"pending": property(lambda _: pending)}
        )
        await server.infer(IMAGES[:300])
        await asyncio.sleep(0.1)
        found = (await server.get("/alarms"))["shadow"]
        assert (found["samples"], found["left_out"]) == (0, 300 - 256)
        pending = False
        assert (await until_decided(server, 256))["samples"] == 256

    observed(cascade, work, shadow=ShadowSettings(1.0))


def test_samples_that_wait_are_like_all_of_a_busy_time(cascade):
    runner = Runner(cascade, threads=1)
    watch = shadow_module._Watch(runner, runner, "1", None, 1.0, lambda: None)
    early, late = Decision(0, "0", 0.95, 0, None), Decision(0, "0", 0.5, 1, None)
    # Those that exit early come first; 3 in 4 of all.
    for number, made in enumerate([early] * 3 + [late]):
        watch.decided(number, [0] * 500, [made] * 500)
    assert (len(watch.waiting), watch.left_out) == (256, 2000 - 256)
    # Five standard deviations of 256 draws.
    assert abs(sum(made.stage for _, made in watch.waiting) - 64) < 5 * np.sqrt(256 * 3 / 16)
    # Nor are the first that are taken all early.
    stages = [watch.take()[1].stage for _ in range(128)]
    assert abs(sum(stages) - 32) < 5 * np.sqrt(128 * 3 / 16)
    assert len(watch.waiting) == 128


@pytest.mark.parametrize("hangs", [True, False])
def test_a_reference_that_hangs_or_fails_hurts_nobody(cascade, monkeypatch, hangs):
    gate = threading.Event()

    def broken(own: Any, sample: Any) -> None:
        if hangs:
            gate.wait(30)
        raise ModelError("broken")

    if hangs:
        monkeypatch.setattr(shadow_module, "_PATIENCE", 0.05)

    async def work(server: Observed) -> None:
        reference = server.serving.current.followers[0].reference
        reference.__class__ = type("Broken", (Runner,), {"__call__": broken})
        await server.infer(IMAGES[:20])
        while not server.notes:
            await asyncio.sleep(0.01)
        assert (await server.infer(IMAGES[:20])).status == 200
        assert (await server.get("/alarms"))["shadow"]["share"] == (0 if hangs else 1)

    try:
        (note,) = observed(cascade, work, shadow=ShadowSettings(1.0))
    finally:
        gate.set()
    end = "hangs; it is asked no more" if hangs else "fails: ModelError: broken"
    assert note == f"shadow: the reference {end}"


def test_a_share_of_the_samples_is_chosen_by_chance(cascade):
    async def work(server: Observed) -> None:
        for _ in range(4):
            await server.infer(IMAGES)
        shadow = server.serving.current.followers[0]
        chosen = shadow.samples + len(shadow.waiting)
        # 2,560 samples; four standard deviations.
        assert abs(chosen - 128) < 4 * np.sqrt(128)

    observed(cascade, work, shadow=ShadowSettings(0.05))


def test_the_reference_of_a_cascade(cascade):
    assert str(reference_rule(cascade)) == "small"
    with pytest.raises(CascadeError, match="no reference"):
        reference_rule(replace(cascade, origin=Origin()))
    with pytest.raises(CascadeError, match="the reference itself"):
        reference_rule(replace(cascade, stages=(Stage(("small",)),)))
    with pytest.raises(CascadeError, match="--pool"):
        check_loadable(replace(reference_rule(cascade), models={}))
    for share, folder in ((2.0, None), (0.0, Path("x"))):
        with pytest.raises(CascadeError):
            ShadowSettings(share, folder)


def record(promise: str, margin: float = 0.02) -> CertificateRecord:
    return CertificateRecord(
        promise=promise, margin=margin, level=0.95, measure="top-1", checksum="", samples=1000,
        choosing=0, estimate=0.0, lower_bound=0.0, split="val", samples_fingerprint="",
        date="2026-11-29", version="0", procedure="p", reference_rule={"a": 1},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("promise", "samples", "flips", "outcome"),
    [
        ("agreement", 5000, 20, "kept"),
        ("agreement", 5000, 100, "open"),
        ("agreement", 5000, 300, "broken"),
        ("within", 5000, 20, "kept"),
        # A flip may be to the better.
        ("within", 5000, 300, "open"),
        ("at least", 5000, 0, "open"),
        ("agreement", 0, 0, "open"),
    ],
)
def test_disagreements_renew_or_break_a_promise(promise, samples, flips, outcome):
    found = agreement_now(samples, flips, record(promise))
    assert found.promise == outcome
    assert 0 <= found.low <= flips / max(samples, 1) <= found.high <= 1
    assert agreement_now(samples, flips, None).promise == ""


def test_bounds_of_agreement_hold_at_all_times():
    rng, missed = np.random.default_rng(0), 0
    looks = [20, 100, 400, 800]
    for _ in range(30):
        flips = (rng.random(looks[-1]) < 0.05).cumsum()
        found = [agreement_now(n, int(flips[n - 1]), None, level=0.8) for n in looks]
        missed += any(not each.low <= 0.05 <= each.high for each in found)
    # 0.2 is the bound; the looks are few.
    assert missed <= 6


def test_a_cmyk_image_is_written_as_one_that_png_holds(tmp_path):
    _save(Image.new("CMYK", (4, 4)), tmp_path / "one", image=True)
    with Image.open(tmp_path / "one.png") as image:
        assert image.mode == "RGB"


def test_records_are_written_as_json(tmp_path):
    _save(np.ones(2, np.float32), tmp_path / "array")
    assert json.loads((tmp_path / "array.json").read_text()) == [1, 1]
    _save({"text": "a", "bytes": b"\x01", "number": np.int64(3)}, tmp_path / "one")
    assert json.loads((tmp_path / "one.json").read_text()) == {
        "text": "a", "bytes": "01", "number": 3,
    }  # fmt: skip
