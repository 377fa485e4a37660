"""Time `committee serve` under load, beside the largest model, other ways and the offline limit.

    python benchmarks/serve.py [--pools fashion,cifar] [--rounds 2] [--seconds 2.5] [--quick]
    python benchmarks/serve.py --soak MINUTES [--share 0.7]

All load comes from this machine. Every server is a process that may use one processor, and the load
is a process of its own on another (benchmarks/serve_client.py), so that neither takes time from the
other. That client is small and our own: it keeps a rate without sparing a server that stalls, as
wrk2 and oha do, which no package of Python brings. What a request takes is also counted in
processor time of the server, which does not change when others use the machine. On a machine of one
processor they share it, and only that count holds. All servers stay up and are loaded in turns, in
every round in another order.

cascade      `committee serve`, the cascade that search chose
largest      `committee serve`, the largest model alone
per request  the same server, whose batches hold the samples of one request
by hand      a Starlette handler that calls the runner, benchmarks/serve_by_hand.py
at once      the same server without models: what HTTP and decoding take

Requests of the protocol hold the bytes of one image, or of several, and ask for class, label,
confidence and stage. The offline limit is that of benchmarks/run.py: the share of images that reach
a stage times what its models alone take an image in batches, on the same processor and in turns.

Results go to benchmarks/results/serve.json and serve.md, with the conditions. Those of --soak,
and of one pool, are added to what is there.
"""

import argparse
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import measured_page
from run import conditions, offline, online
from run_worlds import WORLDS, World
from serve_report import markdown

HERE = Path(__file__).parent
RESULTS = HERE / "results"
CORES = sorted(os.sched_getaffinity(0))
SERVER, CLIENT = CORES[0], CORES[-1]
WORK = Path(tempfile.gettempdir()) / "committee-bench-serve"
TICKS = os.sysconf("SC_CLK_TCK")
SEVERAL = 16
# Connections of closed loops, and of open ones.
CLOSED, OPEN, MOST = (1, 16, 256), (0.25, 0.5, 0.75), 256
# Of the offline limit, and of the offline speedup, that the server is to reach.
SHARE = 0.85
SERVERS = ("cascade", "largest", "per request", "by hand", "at once")


@dataclass
class Server:
    """A server that runs."""

    process: subprocess.Popen
    port: int
    # Files of requests with one image and with several, and the length of each request.
    requests: dict[int, tuple[Path, int]]

    @property
    def cpu(self) -> float:
        """Seconds of the processor since it began."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def resident(self) -> float:
        """Megabytes of memory that it holds."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1e3

    def load(self, seconds: float, connections: int, rate: float | None, images: int = 1) -> dict:
        """Load it, and return rates and times with what one image took of the processor."""
        path, length = self.requests[images]
        job = {
            **{"host": "127.0.0.1", "port": self.port, "requests": str(path), "length": length},
            **{"seconds": seconds, "connections": connections, "rate": rate, "core": CLIENT},
        }
        before = self.cpu
        words = [sys.executable, str(HERE / "serve_client.py")]
        done = subprocess.run(
            words, input=json.dumps(job), capture_output=True, text=True, check=True
        )
        made = json.loads(done.stdout)
        if made["failed"] or not made["all"]:
            raise SystemExit(
                f"{' '.join(self.process.args)}: {made['all']:,} answers, of which failed, by "
                f"status: {made['failed'] or 'none'}; a server that fails cannot be measured"
            )
        made["server_ms"] = 1e3 * (self.cpu - before) / max(made["all"] * images, 1)
        made["images_per_second"] = made["per_second"] * images
        return made


@contextlib.contextmanager
def started(words: list[str], requests: dict[int, tuple[Path, int]]) -> Iterator[Server]:
    """Start a server; it says its port in a line."""
    os.sched_setaffinity(0, {SERVER})  # which the process inherits
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(0, CORES)
    try:
        line = process.stdout.readline()
        found = re.search(r"(?:^|:)(\d+)(?:/|$)", line.strip())
        if not found:
            raise SystemExit(f"{' '.join(words)}: said {line!r}, and no port")
        yield Server(process, int(found[1]), requests)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def request(path: str, body: bytes, **headers: object) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def of_protocol(images: np.ndarray) -> bytes:
    """A request of the Open Inference Protocol with the bytes of images."""
    tensor = {
        "name": "images",
        "shape": list(images.shape),
        "datatype": "UINT8",
        "parameters": {"binary_data_size": images.nbytes},
    }
    outputs = [{"name": name} for name in ("class", "label", "confidence", "stage")]
    head = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
    return request(
        "/v2/models/cascade/infer",
        head + images.tobytes(),
        content_type="application/octet-stream",
        inference_header_content_length=len(head),
    )


def written(folder: Path, images: np.ndarray) -> dict[int, tuple[Path, int]]:
    """Write requests of one image and of several each, and return the files with their lengths."""
    made = {}
    for count in (1, SEVERAL):
        groups = [images[i : i + count] for i in range(0, len(images) - count + 1, count)]
        requests = [of_protocol(group) for group in groups]
        random.Random(0).shuffle(requests)
        assert len({len(each) for each in requests}) == 1
        path = folder / f"requests_{count}.bin"
        path.write_bytes(b"".join(requests))
        made[count] = path, len(requests[0])
    return made


@contextlib.contextmanager
def all_started(world: World, folder: Path, names=SERVERS) -> Iterator[dict[str, Server]]:
    """Start the servers of a pool."""
    cascade = world.known(world.chosen).save(folder / "cascade.json")
    largest = world.alone(world.largest).save(folder / "largest.json")
    python, ours = sys.executable, ["--threads", "1", "--port", "0", "--quiet"]
    words = {
        "cascade": [python, "-m", "committee", "serve", str(cascade), *ours],
        "largest": [python, "-m", "committee", "serve", str(largest), *ours],
        "per request": [python, str(HERE / "serve_variants.py"), "per request", str(cascade)],
        "at once": [python, str(HERE / "serve_variants.py"), "at once", str(cascade)],
        "by hand": [python, str(HERE / "serve_by_hand.py"), str(cascade)],
    }
    with contextlib.ExitStack() as stack:
        servers = {}
        requests = written(folder, np.asarray(world.images))
        for name in names:
            servers[name] = stack.enter_context(started(words[name], requests))
        for server in servers.values():
            server.load(0.3, 4, None)
        yield servers


def in_rounds(servers: dict[str, Server], rounds: int, seconds: float) -> dict:
    """Load all servers in turns; return for each load and server the answers of all rounds."""
    found: dict[str, dict[str, list[dict]]] = {}

    def turn(load: str, number: int, **how) -> None:
        names = list(servers)
        names = names[number % len(names) :] + names[: number % len(names)]
        for name in names:
            made = servers[name].load(seconds, **how)
            found.setdefault(load, {}).setdefault(name, []).append(made)

    saturated = 0.0
    for number in range(rounds):
        for connections in CLOSED:
            turn(f"{connections} at a time", number, connections=connections, rate=None)
        several = {"connections": CLOSED[1], "rate": None, "images": SEVERAL}
        turn(f"{CLOSED[1]} at a time, {SEVERAL} images each", number, **several)
        # The same rates for all, and in all rounds.
        saturated = saturated or found[f"{CLOSED[-1]} at a time"]["cascade"][0]["per_second"]
        for share in OPEN:
            turn(
                f"{share * saturated:.0f} a second",
                number,
                connections=MOST,
                rate=share * saturated,
            )
    return found


def middle(rounds: list[dict]) -> dict:
    """Medians over rounds; no times where no answer came in time."""
    keys = ("per_second", "images_per_second", "server_ms")
    made: dict = {key: float(np.median([each[key] for each in rounds])) for key in keys}
    for q in ("p50", "p90", "p99"):
        times = [each["ms"][q] for each in rounds if each["ms"]]
        made[q] = float(np.median(times)) if times else None
    return made


def goals(loads: dict, ideal: float, largest: float, online_p50: float) -> dict:
    """The figures of which something is asked, with their parts; see :func:`asked`."""
    several = next(load for load in loads if load.endswith("images each"))
    rows = {}
    for load, images in ((f"{CLOSED[-1]} at a time", 1), (several, SEVERAL)):
        each = loads[load]
        http = each["at once"]["server_ms"]
        own, other = each["cascade"]["server_ms"], each["largest"]["server_ms"]
        rate = each["cascade"]["images_per_second"]
        rows[f"{images} in a request"] = {
            "HTTP and decoding, ms an image": http,
            "offline limit, ms an image": ideal,
            "of the offline limit, net of HTTP": ideal / (own - http),
            "offline speedup": largest / ideal,
            "speedup over the largest": other / own,
            "speedup over the largest, net of HTTP": (other - http) / (own - http),
            "over per request": each["per request"]["server_ms"] / own,
            "over by hand": each["by hand"]["server_ms"] / own,
            **{
                f"images a second over {name}": rate / each[name]["images_per_second"]
                for name in ("per request", "by hand")
            },
        }
    low = loads[f"{CLOSED[0]} at a time"]["cascade"]["p50"]
    rows["alone"] = {
        "p50, ms": low,
        "online runner's p50, ms": online_p50,
        "more": low - online_p50,
    }
    return rows


def asked(figures: dict) -> dict:
    """What the goals of a load ask: the least that a figure may be, or in milliseconds the most."""
    if "more" in figures:
        return {"more": 1.0}
    least = {
        "of the offline limit, net of HTTP": SHARE,
        "speedup over the largest, net of HTTP": SHARE * figures["offline speedup"],
    }
    return least | {name: 1.0 for name in figures if name.startswith(("over ", "images a second"))}


def ideal_ms(found: dict, cascade) -> float:
    """Milliseconds of the processor that the models of a cascade take for an image, offline."""
    reached = zip(found["reach"], cascade.stages, strict=True)
    return sum(share * found["ms"][f"{m} cpu"] for share, stage in reached for m in stage.models)


def measured(world: World, rounds: int, seconds: float) -> dict:
    cascade = world.known(world.chosen)
    with tempfile.TemporaryDirectory() as name, all_started(world, Path(name)) as servers:
        # This process computes the limits on the processor of the servers, which are idle then.
        os.sched_setaffinity(0, {SERVER})
        limit = offline(world, cascade, 1, rounds)
        single = world.alone(world.largest)
        ideal = ideal_ms(limit, cascade)
        largest = ideal_ms(offline(world, single, 1, rounds), single)
        runner = online(world, cascade, world.largest, 1, world.online)
        os.sched_setaffinity(0, CORES)
        raw = in_rounds(servers, rounds, seconds)
    loads = {load: {n: middle(each) for n, each in by.items()} for load, by in raw.items()}
    p50 = runner["percentiles_ms"]["committee"]["p50"]
    reached = goals(loads, ideal, largest, p50)
    return {
        "what": world.what,
        "cascade": str(cascade),
        "largest": world.largest,
        "reach": limit["reach"],
        "loads": loads,
        "goals": reached,
        "asked": {name: asked(figures) for name, figures in reached.items()},
    }


def soak(world: World, minutes: float, share: float) -> dict:
    """Load the server at a share of what it can, and watch its memory."""
    rows = []
    with (
        tempfile.TemporaryDirectory() as name,
        all_started(world, Path(name), ["cascade"]) as servers,
    ):
        server = servers["cascade"]
        rate = share * server.load(5, CLOSED[-1], None)["per_second"]
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            made = server.load(min(10, 60 * minutes), MOST, rate)
            rows.append({"mb": server.resident, "answers": made["all"], **made["ms"]})
            print(json.dumps(rows[-1]), flush=True)
    memory = np.array([row["mb"] for row in rows])
    hours = np.arange(len(memory)) * 10 / 3600
    # The first tenth fills caches.
    late = slice(len(memory) // 10, None)
    slope = float(np.polyfit(hours[late], memory[late], 1)[0]) if len(memory) > 10 else None
    return {
        "minutes": minutes,
        "share": share,
        "per_second": rate,
        "answers": sum(row["answers"] for row in rows),
        "mb": {"first": memory[0], "last": memory[-1], "most": memory.max(), "per hour": slope},
        "p99": {
            "median": float(np.median([r["p99"] for r in rows])),
            "most": max(r["p99"] for r in rows),
        },
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pools", default="fashion,cifar")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.5, help="of each load")
    parser.add_argument("--quick", action="store_true", help="short loads, to see that it runs")
    parser.add_argument("--soak", type=float, metavar="MINUTES", default=None)
    parser.add_argument("--share", type=float, default=0.7, help="of what it can, for --soak")
    parser.add_argument("--work", type=Path, default=WORK, help="keeps predictions between runs")
    parser.add_argument("--out", type=Path, default=RESULTS / "serve.json")
    given = parser.parse_args()
    rounds, seconds = (1, 0.6) if given.quick else (given.rounds, given.seconds)
    before = json.loads(given.out.read_text()) if given.out.is_file() else {"pools": {}}
    now = conditions(1, rounds)
    # What is not measured now stays, with its conditions.
    results: dict = {**before, "conditions": now}
    if given.soak is not None:
        results |= before
    given.work.mkdir(exist_ok=True)
    for name in given.pools.split(","):
        world, missing = WORLDS[name](given.data, given.work, 1, given.quick)
        if world is None:
            results["pools"][name] = {"left out": missing}
            print(f"{name}: left out, {missing}")
            continue
        found = (
            {**measured(world, rounds, seconds), "conditions": now}
            if given.soak is None
            else {
                "what": world.what,
                "soak": {**soak(world, given.soak, given.share), "conditions": now},
            }
        )
        # A soak is measured apart from loads; each leaves the other.
        earlier = before["pools"].get(name, {})
        if given.soak is None:
            earlier = {key: value for key, value in earlier.items() if key == "soak"}
        found = {**earlier, **found}
        results["pools"][name] = found
        print(markdown({"conditions": {}, "pools": {name: found}}), flush=True)
    measured_page.write(results, given.out, markdown)


if __name__ == "__main__":
    main()
