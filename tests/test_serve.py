"""The server, asked by the protocol's public client and by plain HTTP."""

from __future__ import annotations

import base64
import io
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image

from committee import Cascade, Runner
from committee.cli import main
from committee.embedded import embedded_images
from committee.run.results import read_results
from serve_world import RunningServer, chain_file, serving, until

IMAGES: Any = embedded_images("test").read(np.arange(60))
INFER = "/v2/models/cascade/infer"


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chain_file(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(cascade: Path) -> Iterator[RunningServer]:
    with serving(cascade, "--max-body", "1", "--max-pixels", "10000") as running:
        yield running


@pytest.fixture(scope="module")
def runner(cascade: Path) -> Runner:
    return Runner(cascade, threads=1)


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, timeout=60) as made:
        yield made


def images_input(images: Any, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput("images", list(images.shape), "UINT8")
    made.set_data_from_numpy(images, binary_data=binary)
    return made


@pytest.mark.parametrize("binary", [True, False])
def test_the_public_client_gets_the_decisions_of_the_runner(
    server: RunningServer, runner: Runner, binary: bool
) -> None:
    client = triton.InferenceServerClient(server.host)
    assert client.is_server_live()
    assert client.is_server_ready()
    version = server.about["version"]
    assert client.is_model_ready("cascade", version)
    about = client.get_model_metadata("cascade")
    assert about["versions"] == [version]
    assert about["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, -1, -1, -1]}]
    names = ["class", "label", "confidence", "stage", "cost", "probabilities"]
    assert set(names) <= {each["name"] for each in about["outputs"]}
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
    answer = client.infer(
        "cascade", [images_input(IMAGES, binary)], version, wanted, request_id="seven"
    )
    made = [runner(image) for image in IMAGES]
    head = answer.get_response()
    assert (head["id"], head["model_version"]) == ("seven", version)
    assert answer.as_numpy("class").tolist() == [each.class_index for each in made]
    labels = [text if isinstance(text, str) else text.decode() for text in answer.as_numpy("label")]
    assert labels == [each.class_name for each in made]
    assert answer.as_numpy("stage").tolist() == [each.stage for each in made]
    assert answer.as_numpy("cost").tolist() == [each.cost for each in made]
    scores = [each.confidence for each in made]
    assert answer.as_numpy("confidence") == pytest.approx(scores, 1e-6)
    shares = answer.as_numpy("probabilities")
    assert shares.sum(axis=1) == pytest.approx(np.ones(60), 1e-5)
    assert shares.max(axis=1) == pytest.approx(scores, 1e-5)
    client.close()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_files_of_run_say_what_the_server_answers(
    server: RunningServer, cascade: Path, tmp_path: Path, ending: str
) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    out = tmp_path / f"r.{ending}"
    words = ["run", str(cascade), "--data", str(tmp_path / "images.npy"), "--out", str(out)]
    assert main(words) == 0
    rows = read_results(out)
    assert {row.stage for row in rows} == {0, 1, 2}  # counted from 0, as the server does
    with triton.InferenceServerClient(server.host) as client:
        answer = client.infer("cascade", [images_input(IMAGES)])
    for name, field in (("class", "class_index"), ("stage", "stage"), ("cost", "cost")):
        assert answer.as_numpy(name).tolist() == [getattr(row, field) for row in rows]
    assert [name.decode() for name in answer.as_numpy("label")] == [r.class_name for r in rows]
    scores = [row.confidence for row in rows]
    assert answer.as_numpy("confidence").tolist() == pytest.approx(scores, 1e-6)


def test_a_limit_and_an_explanation_are_parameters(server: RunningServer, runner: Runner) -> None:
    client = triton.InferenceServerClient(server.host)
    parameters = {"max_stage": 1, "explain": True}
    answer = client.infer("cascade", [images_input(IMAGES)], parameters=parameters)
    made = [runner(image) for image in IMAGES]
    assert answer.as_numpy("stage").tolist() == [min(each.stage, 1) for each in made]
    assert answer.as_numpy("limited").tolist() == [each.stage == 2 for each in made]
    texts = [text.decode() for text in answer.as_numpy("explanation")]
    assert texts[0].startswith("stage 0 (nano): max_prob ")
    assert "reaches 0.9" in texts[[each.stage for each in made].index(1)]
    assert "but no later stage may run" in texts[[each.stage for each in made].index(2)]
    client.close()


def test_requests_at_once_are_answered_as_one_by_one(server: RunningServer, runner: Runner) -> None:
    def ask(image: Any) -> tuple[int, int]:
        with triton.InferenceServerClient(server.host) as client:
            answer = client.infer("cascade", [images_input(image[None])])
            return answer.as_numpy("class").item(), answer.as_numpy("stage").item()

    with ThreadPoolExecutor(16) as executor:
        answers = list(executor.map(ask, IMAGES))
    made = [runner(image) for image in IMAGES]
    assert answers == [(each.class_index, each.stage) for each in made]


def file_of(image: Any, form: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, form)
    return data.getvalue()


def test_images_are_classified_as_people_send_them(client: httpx.Client, runner: Runner) -> None:
    image = IMAGES[3]
    made = runner(image)
    answer = client.post(
        "/classify", content=file_of(image), headers={"content-type": "image/png"}
    ).json()
    assert len(answer) == 5
    assert answer[0] == {
        "label": made.class_name,
        "score": pytest.approx(made.confidence, 1e-6),
        "stage": made.stage,
        "confidence": pytest.approx(made.confidence, 1e-6),
        "cost": made.cost,
    }
    assert [each["score"] for each in answer] == sorted((e["score"] for e in answer), reverse=True)
    files = [("images", (f"{i}.png", file_of(IMAGES[i]), "image/png")) for i in range(3)]
    files.insert(1, ("images", ("x.png", b"no image", "image/png")))
    several = client.post("/classify?top_k=1&max_stage=0", files=files).json()
    assert several[1] == {"error": "no JPEG or PNG image"}
    assert [each[0]["stage"] for each in (several[0], *several[2:])] == [0, 0, 0]
    made = [runner(image) for image in IMAGES[:3]]
    limited = [each[0]["limited"] for each in (several[0], *several[2:])]
    assert limited == [each.stage > 0 for each in made]
    asked = {"inputs": base64.b64encode(file_of(IMAGES[0])).decode()}
    asked["parameters"] = {"max_stage": 0, "top_k": 1}
    assert client.post("/classify", json=asked).json() == several[0]


def tensor(images: Any, **own: Any) -> dict[str, Any]:
    return {
        "name": "images",
        "shape": list(images.shape),
        "datatype": "UINT8",
        "data": images.ravel().tolist(),
        **own,
    }


ONE = {"inputs": [tensor(IMAGES[:1])]}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("request_", "status", "told"),
    [
        (("POST", INFER, {"content": b"{"}), 400, "request"),
        (("POST", INFER, {"json": {**ONE, "outputs": [{"name": "clas"}]}}), 400, "'class'"),
        (("POST", INFER, {"json": {**ONE, "parameters": {"max_stag": 1}}}), 400, "'max_stage'"),
        (("GET", INFER, {}), 405, "is asked by POST, not GET"),
        (("GET", "/v2/models/other", {}), 404, "'cascade' is served"),
        (("GET", "/v2/models/cascade/versions/0", {}), 404, "no version '0'"),
        (("GET", "/nothing", {}), 404, "'/nothing' is not served here; /openapi.json lists"),
        (("POST", INFER, {"content": bytes(2**20 + 1)}), 413, "the body is above 1,048,576 bytes"),
        (("POST", INFER, {"content": b"x", "headers": {"content-type": "image/png"}}), 415, "type"),
        (
            ("POST", INFER, {"content": b"x", "headers": {"content-encoding": "gzip"}}),
            415,
            "compressed",
        ),
        (
            ("POST", "/classify", {"content": b"x", "headers": {"content-type": "text/html"}}),
            415,
            "'text/html'",
        ),
        (("POST", "/classify", {"content": b"{}", "headers": JSON}), 415, "not as JSON"),
        (("POST", "/classify", {"content": b"x"}), 422, "no JPEG or PNG image"),
        (
            ("POST", "/classify", {"content": file_of(np.zeros((200, 100), np.uint8))}),
            422,
            "10,000",
        ),
        (("POST", "/classify?max_stge=0", {"content": b""}), 400, "Did you mean 'max_stage'?"),
        (("POST", "/classify?topk=3", {"content": b""}), 400, "Did you mean 'top_k'?"),
        (("POST", "/classify?top_k=1&top_k=2", {"content": b""}), 400, "top_k stands twice"),
        (("POST", f"{INFER}?max_stage=0", {"json": ONE}), 400, "send parameters in the body"),
        (("POST", "/classify", {"json": {"inputs": "", "max_stage": 0}}), 400, "max_stage"),
        (
            ("POST", "/classify?max_stage=3", {"content": file_of(IMAGES[0])}),
            400,
            "max_stage: 3 is none of the 3 stages, which count from 0",
        ),
        (("POST", INFER, {"json": {**ONE, "parameters": {"max_stage": 3}}}), 400, "max_stage: 3"),
        (("GET", "/v2/models/cascade/config", {}), 404, "is not served here"),
        (("POST", "/classify?top_k=0", {"content": b""}), 400, "top_k: must be a whole number"),
        (
            ("POST", INFER, {"json": ONE, "headers": {"X-Request-Timeout-Ms": "soon"}}),
            400,
            "X-Request-Timeout-Ms",
        ),
    ],
)
def test_what_cannot_be_answered_gets_a_status_and_a_reason(
    client: httpx.Client, request_: tuple[str, str, dict[str, Any]], status: int, told: str
) -> None:
    method, path, options = request_
    answer = client.request(method, path, **options)
    assert (answer.status_code, told in answer.json()["error"]) == (status, True), answer.text


def test_each_request_has_a_line_in_the_log(server: RunningServer, client: httpx.Client) -> None:
    client.post(INFER, json={"inputs": [tensor(IMAGES[:2])]})
    client.get("/v2/health/live")
    infer, live = server.requests[-2:]
    assert (infer["path"], infer["status"], infer["samples"]) == (INFER, 200, 2)
    assert (live["path"], live["status"], live["samples"]) == ("/v2/health/live", 200, 0)
    assert infer["ms"] > 0


def test_headers_have_a_limit(server: RunningServer) -> None:
    host, _, port = server.host.partition(":")
    with socket.create_connection((host, int(port)), 60) as link:
        link.sendall(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n")
        line = b"X-Long: " + b"x" * 1000 + b"\r\n"
        with suppress(ConnectionError):  # it may have been answered and closed before the last
            for _ in range(2**15 // len(line) + 1):
                link.sendall(line)
        assert link.recv(100).startswith(b"HTTP/1.1 431 ")


def exchanged(server: RunningServer, *parts: bytes) -> bytes:
    """All that is answered to some bytes until the server closes the connection."""
    host, _, port = server.host.partition(":")
    with socket.create_connection((host, int(port)), 60) as link:
        got = b""
        try:
            for part in parts:
                link.sendall(part)
            while part := link.recv(2**16):
                got += part
        except ConnectionError:
            pass
        return got


BEGUN = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n".encode()


def test_headers_after_a_body_have_a_limit_too(server: RunningServer) -> None:
    # Nothing was answered when the connection was closed, so it was not for the time.
    line = b"X-Long: " + b"x" * 1000 + b"\r\n"
    trailers = [line] * 100_000
    began = time.monotonic()
    exchanged(server, BEGUN + b"\r\n1\r\n{\r\n0\r\n", *trailers)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    "sent",
    [
        BEGUN + b"Content-Length: 5\r\n\r\n0\r\n\r\nGET /v2 HTTP/1.1\r\n\r\n",
        BEGUN + b"\r\nno chunk",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_one_line_and_logged_by_nobody(
    server: RunningServer, sent: bytes
) -> None:
    notes = server.notes
    answer = exchanged(server, sent)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"].startswith(
        ("this is no request", "Host: stands twice")
    )
    new = server.notes[len(notes) :]
    assert all(line.startswith("{") for line in new.splitlines()), new


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1", 200),
        ("[::1]:1", 200),
        ("LOCALHOST", 200),
        ("example.org", 421),
        ("localhost.example.org:8000", 421),
        ("127.0.0.1.example.org", 421),
    ],
)
def test_no_page_of_strangers_asks_by_a_name_of_its_own(
    client: httpx.Client, host: str, status: int
) -> None:
    answer = client.get("/v2", headers={"Host": host})
    assert answer.status_code == status
    if status == 421:
        assert "Host: names another machine; ask 127.0.0.1" in answer.json()["error"]


def test_a_slow_client_is_not_waited_for(cascade: Path) -> None:
    with serving(cascade, "--slow", "0.3") as running:
        host, _, port = running.host.partition(":")
        with socket.create_connection((host, int(port)), 60) as silent:
            assert silent.recv(1) == b""
        with socket.create_connection((host, int(port)), 60) as slow:
            slow.sendall(
                f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{{".encode()
            )
            assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
        with httpx.Client(base_url=running.address) as client:
            assert client.post(INFER, json=ONE).status_code == 200


def ask_without_end(link: socket.socket) -> None:
    """Ask for more answers than all buffers hold, and take none."""
    while True:
        link.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has it")
def test_a_client_that_takes_no_answer_is_cut_off(cascade: Path) -> None:
    with serving(cascade, "--slow", "1") as running:
        host, _, port = running.host.partition(":")
        with socket.socket() as link:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            link.settimeout(60)
            link.connect((host, int(port)))
            with pytest.raises(ConnectionError):
                ask_without_end(link)
        with httpx.Client(base_url=running.address) as client:
            assert client.post(INFER, json=ONE).status_code == 200


def test_a_token_is_asked_for(cascade: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    with (
        serving(cascade, "--token-file", str(tmp_path / "token")) as running,
        httpx.Client(base_url=running.address) as client,
    ):
        assert client.get("/v2/health/ready").status_code == 200
        for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}):
            answer = client.get("/v2", headers=given)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            wrong = given.get("authorization", "").startswith("Bearer")
            told = "the token is not right" if wrong else "a token is needed"
            assert answer.json()["error"] == f"{told}: Authorization: Bearer TOKEN"
        assert client.get("/v2", headers={"authorization": "bearer secret"}).status_code == 200


def test_sigterm_answers_what_is_under_way(cascade: Path) -> None:
    answers: list[httpx.Response] = []
    with serving(cascade) as running:
        begun = threading.Barrier(5)

        def ask() -> None:
            with httpx.Client(base_url=running.address, timeout=60) as client:
                begun.wait()
                while True:
                    try:
                        answers.append(client.post(INFER, json={"inputs": [tensor(IMAGES)]}))
                    except httpx.TransportError:  # it no longer listens
                        return

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for each in threads:
            each.start()
        begun.wait()
        until(lambda: answers)
        running.signal()
        assert running.ended() == 0
        for each in threads:
            each.join()
    codes = {answer.status_code for answer in answers}
    assert 200 in codes
    assert codes <= {200, 503}
    assert all(int(a.headers["retry-after"]) >= 1 for a in answers if a.status_code == 503)


def wait_for_note(running: RunningServer, text: str) -> None:
    def is_there() -> bool:
        assert running.process.poll() is None, running.notes
        return text in running.notes

    until(is_there)


def test_a_new_cascade_is_swapped_in_without_a_lost_request(tmp_path: Path) -> None:
    path = chain_file(tmp_path)
    with serving(path) as running:
        statuses, versions = [], []
        stop = threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=running.address, timeout=60) as client:
                while not stop.is_set():
                    answer = client.post(INFER, json=ONE)
                    statuses.append(answer.status_code)
                    versions.append(answer.json()["model_version"])

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for each in threads:
            each.start()
        until(lambda: versions)
        chain_file(tmp_path, Cascade.of(["nano", "small"], [0.99]))
        running.signal(signal.SIGHUP)
        wait_for_note(running, "serving nano -> small, version")
        path.write_text("{")
        running.signal(signal.SIGHUP)
        wait_for_note(running, "the new cascade is refused, the one before goes on: ")
        seen = len(statuses)
        until(lambda: len(statuses) >= seen + 10)
        stop.set()
        for each in threads:
            each.join()
    assert set(statuses) == {200}
    assert len(set(versions)) == 2
    assert versions[0] == running.about["version"] != versions[-1]


def test_a_changed_file_is_served_anew(tmp_path: Path) -> None:
    path = chain_file(tmp_path)
    with serving(path, "--reload") as running:
        chain_file(tmp_path, Cascade.of(["nano"]))
        wait_for_note(running, "serving nano, version")


def test_a_bundle_and_one_onnx_file_are_served(
    cascade: Path, runner: Runner, tmp_path: Path
) -> None:
    wanted = [runner(image).stage for image in IMAGES]
    for out in ("bundle", "one.onnx"):
        assert main(["export", str(cascade), "--out", str(tmp_path / out)]) == 0
        with (
            serving(tmp_path / out) as running,
            triton.InferenceServerClient(running.host) as client,
        ):
            answer = client.infer("cascade", [images_input(IMAGES)])
            assert answer.as_numpy("stage").tolist() == wanted
            asked = [triton.InferRequestedOutput("probabilities")]
            shares = client.infer("cascade", [images_input(IMAGES)], outputs=asked)
            assert shares.as_numpy("probabilities").shape == (60, 10)
            if out == "one.onnx":  # its stages stand inside each other
                asked = {"parameters": {"max_stage": 0}}
                refused = httpx.post(f"{running.address}{INFER}", json={**ONE, **asked})
                assert refused.status_code == 400
                why = "max_stage: a cascade that is one ONNX file exits where the file says; serve"
                assert why in refused.json()["error"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("missing.json", "missing.json: cannot be read"),
        ("CASCADE --max-batch x", "--max-batch 'x': must be one number for all stages or one of"),
        ("CASCADE --max-batch 1,2", "max_batch has 2 numbers, but the cascade has 3 stages"),
        ("CASCADE --host 203.0.113.1", "203.0.113.1, port 0: cannot listen there"),
        ("CASCADE --token-file EMPTY", "holds no token"),
        ("CASCADE --hang 0", "hang must be above 0"),
        ("CASCADE --hang nan", "hang must be above 0 and finite, not nan"),
        ("CASCADE --max-delay inf", "--max-delay 'inf': must be one number for all stages"),
        ("CASCADE --max-batch 1.5", "one of each, whole and at least 1; write for example"),
        ("CASCADE --max-body nan", "--max-body: must be above 0"),
        ("CASCADE --host ...", "..., port 0: cannot listen there"),
        ("CASCADE --name a/b", "name 'a/b' is no part of an address"),
        ("CASCADE --token-file BYTES", "holds no token"),
    ],
)
def test_bad_input_gets_one_line(
    cascade: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, told: str
) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    text = words.replace("CASCADE", str(cascade)).replace("EMPTY", str(tmp_path / "empty"))
    text = text.replace("BYTES", str(tmp_path / "bytes"))
    assert main(["serve", *text.split(), "--port", "0"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert told in lines[-1]
