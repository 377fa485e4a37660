"""What a user writes without `committee serve`: a Starlette handler that calls the runner.

    python benchmarks/serve_by_hand.py CASCADE HEIGHT WIDTH CHANNELS

One request holds the bytes of one image or of several, and is decided on by itself.
"""

import contextlib
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


def application(cascade: str, shape: tuple[int, ...]) -> Starlette:
    runner = committee.Runner(cascade, threads=1)
    runner.warm()
    names = runner.cascade.classes

    def decided(images: np.ndarray) -> list:
        if len(images) == 1:
            decision = runner(images[0])
            return [(decision.class_index, decision.confidence, decision.stage)]
        made = runner.decide(images)
        return list(
            zip(*(a.tolist() for a in (made.predicted, made.score, made.stage)), strict=True)
        )

    async def classify(request: Request) -> JSONResponse:
        images = np.frombuffer(await request.body(), np.uint8).reshape(-1, *shape)
        return JSONResponse(
            [
                {"label": names[index], "score": score, "stage": stage}
                for index, score, stage in await run_in_threadpool(decided, images)
            ]
        )

    return Starlette(routes=[Route("/classify", classify, methods=["POST"])])


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
    serve(application(sys.argv[1], tuple(int(side) for side in sys.argv[2:] if int(side))))
