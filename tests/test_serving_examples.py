"""The container and the KServe service of examples/serving: what they name is there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from committee.cli import command

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "serving"


def steps() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each with what follows it."""
    text = (FOLDER / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in whole)]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for name, rest in steps():
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


def given(words: list[str]) -> dict[str, str]:
    """The options of a command line of `committee serve`, all of which the command has."""
    assert words[:2] == ["committee", "serve"]
    known = {name for p in command("serve").params for name in (*p.opts, *p.secondary_opts)}
    options = [word for word in words if word.startswith("--")]
    assert {*options} <= known
    return {word: words[words.index(word) + 1] for word in options}


def test_what_the_container_copies_is_there() -> None:
    build, run = stages()
    sources = [part for name, rest in build if name == "COPY" for part in rest.split()[:-1]]
    assert sources
    assert all((ROOT / each).exists() for each in sources)
    wheels = next(rest for name, rest in build if name == "RUN").split("--wheel-dir ")[1].split()[0]
    copied = [rest.split() for name, rest in run if name == "COPY"]
    assert copied == [["--from=build", wheels, wheels], ["bundle", "/cascade"]]
    # Only what the build needs: pyproject.toml names its files.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= {*sources}


def test_extras_that_the_container_installs_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = [re.findall(r"\[([\w,]+)\]", rest) for name, rest in steps() if name == "RUN"]
    assert named[0] == named[1]
    assert {*named[0][0].split(",")} <= extras.keys()


def test_the_container_is_slim_without_rights_and_ends_when_told() -> None:
    run = stages()[-1]
    assert run[0] == ("FROM", "python:3.11-slim")
    names = [name for name, _ in run]
    user = dict(run)["USER"]
    assert user.isdigit()
    assert int(user) > 0
    assert f"--uid {user}" in dict(run)["RUN"]
    assert names.index("RUN") < names.index("USER") < names.index("ENTRYPOINT")
    assert dict(run)["STOPSIGNAL"] == "SIGTERM"


def test_the_command_of_the_container_serves_what_was_copied() -> None:
    run = dict(stages()[-1])
    words = json.loads(run["ENTRYPOINT"])
    options = given(words)
    assert words[2] == run["COPY"].split()[-1]
    assert run["EXPOSE"].split() == [options["--port"], options["--grpc-port"]]
    assert f":{options['--port']}/v2/health/ready" in run["HEALTHCHECK"]


@pytest.mark.parametrize("status", [200, 503])
def test_the_health_check_fails_where_the_server_is_not_ready(status: int) -> None:
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server wants
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    check = dict(stages()[-1])["HEALTHCHECK"]
    words = json.loads(check[check.index("CMD ") + 4 :])
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        code = words[2].replace(":8000/", f":{server.server_port}/")
        done = subprocess.run(
            [sys.executable, words[1], code], capture_output=True, timeout=60, check=False
        )
        thread.join()
    assert asked == ["/v2/health/ready"]
    assert (done.returncode == 0) == (status == 200)


def test_the_service_of_kserve_names_what_the_server_has() -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML, to read the file")
    service = yaml.safe_load((FOLDER / "inference_service.yaml").read_text())
    kind = service["apiVersion"], service["kind"]
    assert kind == ("serving.kserve.io/v1beta1", "InferenceService")
    (container,) = service["spec"]["predictor"]["containers"]
    assert container["name"] == "kserve-container"
    options = given([*container["command"], *container["args"]])
    (port,) = container["ports"]
    assert str(port["containerPort"]) == options["--port"]
    for probe, path in (("startup", "ready"), ("readiness", "ready"), ("liveness", "live")):
        asked = container[f"{probe}Probe"]["httpGet"]
        assert asked == {"path": f"/v2/health/{path}", "port": port["containerPort"]}
    grace = service["spec"]["predictor"]["terminationGracePeriodSeconds"]
    assert float(options["--drain"]) < grace
    assert container["securityContext"]["runAsNonRoot"]


def test_the_page_names_every_file_of_the_folder() -> None:
    text = (FOLDER / "README.md").read_text()
    for path in FOLDER.iterdir():
        assert path.name == "README.md" or f"`{path.name}`" in text
    for line in (FOLDER / "Dockerfile").read_text().splitlines():
        found = re.match(r"#\s+(committee export .*)", line)
        if found:
            words = shlex.split(found[1])
            known = {name for p in command("export").params for name in p.opts}
            assert {word for word in words if word.startswith("--")} <= known
