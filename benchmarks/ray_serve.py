"""Time `committee serve --on ray` under load, beside one process and a deployment a stage by hand.

    python benchmarks/ray_serve.py [--rounds 2] [--seconds 3] [--quick] [--servers "ray;by stage"]

one process  `committee serve`
ray          `committee serve --on ray --replicas 1`: one server that Ray Serve hands requests to
ray, two     the same with two servers
by stage     benchmarks/ray_serve_by_stage.py: a deployment a stage and one that asks them

The cascade is the one that search chose of the embedded pool. Servers run one after the other, each
on all processors of this machine, which the load and Ray's own processes use too; so rates say what
a small machine does, and only the milliseconds of the processor that an image took (the server and
all processes that it started) can be compared with other machines. Loads are those of
benchmarks/serve_client.py. Results go to benchmarks/results/ray_serve.json and ray_serve.md; with
--servers those of the others stay there.
"""

import argparse
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from run import conditions
from run_worlds import WORLDS
from serve import HERE, RESULTS, SEVERAL, TICKS, WORK, written

SERVERS = ("one process", "ray", "ray, two", "by stage")
# Connections that ask as soon as they are answered, and images of a request.
LOADS = ((1, 1), (16, 1), (64, 1), (16, SEVERAL))


def tree(root: int) -> set[int]:
    """The numbers of a process and of all that it started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found, new = set(), {root}
    while new:
        found |= new
        new = {pid for pid, parent in parents.items() if parent in new}
    return found


def cpu_of(root: int) -> float:
    """Seconds of the processor that a process and all that it started have taken."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(name: str, cascade: Path) -> Iterator[tuple[subprocess.Popen, int, float]]:
    """Start a server; yield its process, its port and the seconds that it took."""
    port, began = free_port(), time.perf_counter()
    ours = [sys.executable, "-m", "committee", "serve", str(cascade), "--threads", "1", "--quiet"]
    ours += ["--port", str(port)]
    words = {
        "one process": ours,
        "ray": [*ours, "--on", "ray", "--replicas", "1"],
        "ray, two": [*ours, "--on", "ray", "--replicas", "2", "--cpus", "0.9"],
        "by stage": [sys.executable, str(HERE / "ray_serve_by_stage.py"), str(cascade), str(port)],
    }[name]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            if not re.search(r"\d", line):
                raise SystemExit(f"{' '.join(words)}: said {line!r}, and is not ready")
            yield process, port, time.perf_counter() - began
        finally:
            process.terminate()
            process.wait(60)


def loaded(process: subprocess.Popen, port: int, requests, seconds: float, load) -> dict:
    """Load a server; return rates, times, and milliseconds of the processor an image."""
    connections, images = load
    path, length = requests[images]
    job = {
        **{"host": "127.0.0.1", "port": port, "requests": str(path), "length": length},
        **{"seconds": seconds, "connections": connections, "rate": None, "core": None},
    }
    before = cpu_of(process.pid)
    words = [sys.executable, str(HERE / "serve_client.py")]
    done = subprocess.run(words, input=json.dumps(job), capture_output=True, text=True, check=True)
    made = json.loads(done.stdout)
    if made["failed"]:
        raise SystemExit(f"{process.args}: answers that failed, by status: {made['failed']}")
    taken = cpu_of(process.pid) - before
    return {
        "images_per_second": made["per_second"] * images,
        "cpu_ms": 1e3 * taken / max(made["all"] * images, 1),
        **made["ms"],
    }


def measured(name: str, cascade: Path, requests, rounds: int, seconds: float) -> dict:
    with started(name, cascade) as (process, port, start):
        loaded(process, port, requests, 1.0, LOADS[1])
        made: dict = {"start_s": start}
        for load in LOADS:
            each = [loaded(process, port, requests, seconds, load) for _ in range(rounds)]
            keys = each[0]
            title = f"{load[0]} at a time, {load[1]} in a request"
            made[title] = {key: float(np.median([one[key] for one in each])) for key in keys}
    return made


def markdown(results: dict) -> str:
    """The results as a page."""
    about = results["conditions"]
    lines = [
        "# serve --on ray",
        "",
        f"Cascade {results['cascade']} of the embedded pool; {json.dumps(about)}.",
        "",
        "| load | server | images/s | p50, ms | p99, ms | processor, ms an image |",
        "|---|---|---|---|---|---|",
    ]
    for connections, images in LOADS:
        title = f"{connections} at a time, {images} in a request"
        for name, own in results["servers"].items():
            row = own[title]
            lines.append(
                f"| {title} | {name} | {row['images_per_second']:,.0f} | {row['p50']:.1f} | "
                f"{row['p99']:.1f} | {row['cpu_ms']:.2f} |"
            )
    starts = ", ".join(f"{name} {own['start_s']:.0f} s" for name, own in results["servers"].items())
    return "\n".join([*lines, "", f"Until ready: {starts}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument("--quick", action="store_true", help="short loads, to see that it runs")
    parser.add_argument("--servers", default="")
    parser.add_argument("--work", type=Path, default=WORK, help="keeps predictions between runs")
    parser.add_argument("--out", type=Path, default=RESULTS / "ray_serve.json")
    given = parser.parse_args()
    rounds, seconds = (1, 1.0) if given.quick else (given.rounds, given.seconds)
    given.work.mkdir(exist_ok=True)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    world, missing = WORLDS["fashion"](None, given.work, 1, given.quick)
    assert world is not None, missing
    results = {"conditions": conditions(1, rounds), "cascade": str(world.chosen), "servers": {}}
    if given.servers and given.out.exists():
        results["servers"] = json.loads(given.out.read_text())["servers"]
    with tempfile.TemporaryDirectory() as name:
        requests = written(Path(name), np.asarray(world.images))
        cascade = world.known(world.chosen).save(Path(name) / "cascade.json")
        for server in given.servers.split(";") if given.servers else SERVERS:
            results["servers"][server] = measured(server, cascade, requests, rounds, seconds)
            print(server, json.dumps(results["servers"][server]), flush=True)
            given.out.write_text(json.dumps(results, indent=1) + "\n")
            given.out.with_suffix(".md").write_text(markdown(results))


if __name__ == "__main__":
    main()
