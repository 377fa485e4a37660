"""The examples of docs/serving.md, asked of a server."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app_world import images_runner, records_runner, served
from small_world import CLASSES

PAGE = (Path(__file__).parent.parent / "docs" / "serving.md").read_text(encoding="utf-8")
ADDRESS, GRPC_ADDRESS = "127.0.0.1:8000", "127.0.0.1:8001"
SHELL = re.findall(r"^```sh\n(.*?)```", PAGE, re.M | re.S)
_SNIPPETS = re.findall(r"^```py\n(.*?)```", PAGE, re.M | re.S)
GRPC = [each for each in _SNIPPETS if GRPC_ADDRESS in each]
PYTHON = [each for each in _SNIPPETS if each not in GRPC]
LINES = [line for line in re.findall(r"^    (curl [^\n]*)", PAGE, re.M) if "classify" in line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("asked")
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    for name in ("cat.jpg", "dog.png"):
        Image.fromarray(pixels).save(made / name)
    return made


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with served(lambda: images_runner(folder)) as found:
        yield found.removeprefix("http://")


@pytest.fixture(scope="module")
def grpc_address(folder: Path) -> Iterator[str]:
    pytest.importorskip("tritonclient.grpc", reason="needs tritonclient[grpc]")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    with served(lambda: images_runner(folder), grpc_port=port):
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def of_records(folder: Path) -> Iterator[str]:
    with served(lambda: records_runner(folder)) as found:
        yield found.removeprefix("http://")


def test_there_is_something_to_test() -> None:
    assert len(SHELL) + len(LINES) >= 5
    assert len(PYTHON) == 3
    assert len(GRPC) == 1
    assert all(ADDRESS in each for each in (*SHELL, *LINES, *PYTHON))


@pytest.mark.parametrize("command", [*SHELL, *LINES])
def test_curl_is_answered(command: str, address: str, of_records: str, folder: Path) -> None:
    asked = of_records if '"text"' in command else address
    words = command.replace(ADDRESS, asked).replace("curl ", "curl -sS --fail-with-body ")
    shell = ["sh", "-c", words]
    done = subprocess.run(shell, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    if "infer" in command:
        assert [each["name"] for each in answer["outputs"]] == [
            *("label", "probabilities", "explanation"),
        ]
        return
    several = isinstance(answer[0], list)
    assert several == (command.count("@") + command.count('"text"') > 1)
    for labels in answer if several else [answer]:
        assert {"label", "score", "stage", "confidence", "cost"} <= labels[0].keys()


@pytest.mark.parametrize("snippet", PYTHON)
def test_clients_are_answered(snippet: str, address: str, folder: Path) -> None:
    if "huggingface_hub" in snippet:
        pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    check_answered(snippet.replace(ADDRESS, address), folder)


@pytest.mark.parametrize("snippet", GRPC)
def test_the_client_of_grpc_is_answered(snippet: str, grpc_address: str, folder: Path) -> None:
    check_answered(snippet.replace(GRPC_ADDRESS, grpc_address), folder)


def check_answered(snippet: str, folder: Path) -> None:
    said = StringIO()
    with chdir(folder), redirect_stdout(said):
        exec(compile(snippet, "serving.md", "exec"), {})
    assert any(name in said.getvalue() for name in CLASSES)
