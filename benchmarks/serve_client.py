"""The load of benchmarks/serve.py: prebuilt requests on kept connections, by one cheap process.

    python benchmarks/serve_client.py < job.json > result.json

The job: host, port, requests (a file of equally long HTTP requests, one after the other), length,
seconds, connections, core (the processor that it may use; none if null), and rate. Without a rate
each connection sends when its answer is there (a closed loop). With one, requests begin at random
moments, that many a second on average, whether or not answers are there (an open loop); if all
connections are busy, the time of an answer counts from the moment at which its request was due, so
that a server that stalls is not spared. Rates and times leave out the answers of the first tenth of
the time and those after its end, which are awaited. `all` counts every answer: what the processor
of the server did, it did for all of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections import deque
from pathlib import Path

WARM, PATIENCE = 0.1, 30.0
LENGTH = b"content-length:"


class Load:
    """What all connections share."""

    def __init__(self, job: dict) -> None:
        data = Path(job["requests"]).read_bytes()
        size = job["length"]
        self.requests = [data[i : i + size] for i in range(0, len(data), size)]
        self.rate, self.number = job["rate"], 0
        self.idle: list[Connection] = []
        self.due: deque[float] = deque()
        self.answers: list[tuple[float, float]] = []
        self.failed: dict[str, int] = {}
        self.late, self.stopped = 0, False

    def next(self) -> bytes:
        self.number += 1
        return self.requests[self.number % len(self.requests)]

    def free(self, connection: Connection) -> None:
        """Give a connection that has its answer the next request, if there is one."""
        if self.stopped:
            return
        if self.rate is None:
            connection.send(time.perf_counter())
        elif self.due:
            connection.send(self.due.popleft())
        else:
            self.idle.append(connection)

    def begin(self, moment: float) -> None:
        """Send a request that is due, or keep it until a connection is free."""
        if self.idle:  # late by the clock of the loop, if at all
            self.idle.pop().send(time.perf_counter())
        else:
            self.late += 1
            self.due.append(moment)


class Connection(asyncio.Protocol):
    """One request at a time; reads no more of an answer than its status and its length."""

    def __init__(self, load: Load) -> None:
        self.load, self.began, self.left, self.head = load, 0.0, 0, b""
        self.busy = False

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.load.free(self)

    def send(self, moment: float) -> None:
        self.began, self.busy = moment, True
        self.transport.write(self.load.next())

    def data_received(self, data: bytes) -> None:
        if not self.left:
            data = self.head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.head = data
                return
            head = data[:end].lower()
            at = head.find(LENGTH) + len(LENGTH)
            self.left = int(head[at:].split(b"\r\n", 1)[0]) + end + 4
            self.head, status = b"", head[9:12].decode()
            if status != "200":
                self.load.failed[status] = self.load.failed.get(status, 0) + 1
        self.left -= len(data)
        if not self.left:
            now, self.busy = time.perf_counter(), False
            self.load.answers.append((now, now - self.began))
            self.load.free(self)

    def connection_lost(self, error) -> None:
        if not self.load.stopped and self.busy:
            self.load.failed["lost"] = self.load.failed.get("lost", 0) + 1


async def measure(job: dict) -> dict:
    load, loop = Load(job), asyncio.get_running_loop()
    began = time.perf_counter()
    connections = [
        (await loop.create_connection(lambda: Connection(load), job["host"], job["port"]))[1]
        for _ in range(job["connections"])
    ]
    if job["rate"] is None:
        await asyncio.sleep(job["seconds"])
    else:
        draw, moment = random.Random(0), began
        while moment < began + job["seconds"]:
            moment += draw.expovariate(job["rate"])
            wait = moment - time.perf_counter()
            if wait > 0:  # in whole milliseconds, which is how finely the loop waits
                await asyncio.sleep(wait)
            load.begin(moment)
    load.stopped = True
    ended = time.perf_counter()
    # What is under way is answered before anything else is measured.
    while any(each.busy for each in connections) and time.perf_counter() < ended + PATIENCE:
        await asyncio.sleep(0.01)
    for connection in connections:
        connection.transport.close()
    first = began + WARM * (ended - began)
    times = sorted(taken for moment, taken in load.answers if first <= moment < ended)
    return {
        "per_second": len(times) / (ended - first),
        "all": len(load.answers),
        "failed": load.failed,
        "waited_for_a_connection": load.late,
        "ms": {
            f"p{q}": 1e3 * times[min(len(times) * q // 100, len(times) - 1)] for q in (50, 90, 99)
        }
        if times
        else {},
        "client_cpu": time.process_time(),
    }


def main() -> None:
    job = json.load(sys.stdin)
    if job.get("core") is not None:
        os.sched_setaffinity(0, {job["core"]})
    json.dump(asyncio.run(measure(job)), sys.stdout)


if __name__ == "__main__":
    main()
