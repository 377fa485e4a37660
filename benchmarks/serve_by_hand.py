"""What a user writes without `committee serve`: a Starlette handler that calls the runner.

    python benchmarks/serve_by_hand.py CASCADE

It reads requests as benchmarks/serve.py sends them and answers in the form of the protocol, without
a check or a limit. A request is decided on by itself.
"""

import contextlib
import json
import socket
import sys

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import committee

OUTPUTS = (("class", "INT64"), ("label", "BYTES"), ("confidence", "FP64"), ("stage", "INT32"))


def application(cascade: str) -> Starlette:
    runner = committee.Runner(cascade, threads=1)
    runner.warm()
    names = runner.cascade.classes

    def decided(images: np.ndarray) -> list:
        if len(images) == 1:
            one = runner(images[0])
            return [[one.class_index], [one.class_name], [one.confidence], [one.stage]]
        made = runner.decide(images)
        classes = made.predicted.tolist()
        labels = [names[each] for each in classes]
        return [classes, labels, made.score.tolist(), made.stage.tolist()]

    async def infer(request: Request) -> JSONResponse:
        body = await request.body()
        size = int(request.headers["inference-header-content-length"])
        shape = json.loads(body[:size])["inputs"][0]["shape"]
        images = np.frombuffer(body, np.uint8, offset=size).reshape(shape)
        outputs = [
            {"name": name, "datatype": datatype, "shape": [len(images)], "data": data}
            for (name, datatype), data in zip(
                OUTPUTS, await run_in_threadpool(decided, images), strict=True
            )
        ]
        return JSONResponse({"model_name": "cascade", "model_version": "1", "outputs": outputs})

    return Starlette(routes=[Route("/v2/models/cascade/infer", infer, methods=["POST"])])


def serve(app: Starlette) -> None:
    """Listen at a port of the system's choice, and say which."""
    # Named TCP, or asyncio leaves Nagle's algorithm on and every answer waits for 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(app, http="httptools", log_level="warning", access_log=False)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    serve(application(sys.argv[1]))
