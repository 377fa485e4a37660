"""A cascade on Ray Serve as one writes it by hand: a deployment a stage, and one that asks them.

    python benchmarks/ray_serve_by_stage.py CASCADE PORT

Each stage batches over requests with serve.batch. What asks them combines outputs, scores them and
compares the score with the threshold. It reads requests as benchmarks/serve.py sends them, without
a check or a limit. Handles are not chained: Ray would then wait for one stage inside the other.
"""

import json
import logging
import signal
import sys
import threading

import numpy as np
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

import committee
from committee.models.inputs import prepared
from committee.models.load import load_models
from committee.rule.scores import CONFIDENCES
from committee.scale.cluster import connect

OUTPUTS = (("class", "INT64"), ("label", "BYTES"), ("confidence", "FP64"), ("stage", "INT32"))
MOST, WAIT = 64, 0.002


@serve.deployment(max_ongoing_requests=2048, ray_actor_options={"num_cpus": 0.3})
class Stage:
    """The models of one stage: the sum of their logits."""

    def __init__(self, cascade: committee.Cascade, stage: int) -> None:
        specs = [cascade.models[name] for name in cascade.stages[stage].models]
        self._loaded = load_models(specs, threads=1, classes=cascade.classes)

    @serve.batch(max_batch_size=MOST, batch_wait_timeout_s=WAIT, max_concurrent_batches=1)
    async def __call__(self, groups: list[np.ndarray]) -> list[np.ndarray]:
        images = np.concatenate(groups)
        total: np.ndarray = sum(
            model(prepared(images, spec.preprocessing)) for model, spec in self._loaded
        )
        return np.split(total, np.cumsum([len(each) for each in groups])[:-1])


@serve.deployment(max_ongoing_requests=2048, ray_actor_options={"num_cpus": 0.3})
class Front:
    """Asks one stage after the other about the images that have not exited."""

    def __init__(self, cascade: committee.Cascade, *stages: object) -> None:
        self._cascade, self._stages = cascade, stages

    async def __call__(self, request: Request) -> JSONResponse:
        body = await request.body()
        size = int(request.headers["inference-header-content-length"])
        shape = json.loads(body[:size])["inputs"][0]["shape"]
        made = await self._decided(np.frombuffer(body, np.uint8, offset=size).reshape(shape))
        outputs = [
            {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}
            for (name, datatype), data in zip(OUTPUTS, made, strict=True)
        ]
        return JSONResponse({"model_name": "cascade", "model_version": "1", "outputs": outputs})

    async def _decided(self, images: np.ndarray) -> list[list]:
        cascade, count = self._cascade, len(images)
        rows, totals, ran = np.arange(count), 0.0, 0
        classes, scores, exits = (np.zeros(count, kind) for kind in (int, float, int))
        for number, (stage, handle) in enumerate(zip(cascade.stages, self._stages, strict=True)):
            ran += len(stage.models)
            totals = totals + await handle.remote(images[rows])
            mean = totals / ran
            score = CONFIDENCES[cascade.confidence](mean)
            leave = score >= stage.threshold
            if number == len(cascade.stages) - 1:
                leave[:] = True
            gone = rows[leave]
            classes[gone], scores[gone], exits[gone] = mean[leave].argmax(1), score[leave], number
            rows, totals = rows[~leave], totals[~leave]
            if not len(rows):
                break
        labels = [cascade.classes[each] for each in classes.tolist()]
        return [classes.tolist(), labels, scores.tolist(), exits.tolist()]


def main() -> None:
    cascade, port = committee.Cascade.load(sys.argv[1]), int(sys.argv[2])
    stop = threading.Event()
    with connect():
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        stages = [
            Stage.options(name=f"stage {number}").bind(cascade, number)
            for number in range(len(cascade.stages))
        ]
        quiet = {"log_level": "ERROR", "enable_access_log": False}
        serve.run(Front.bind(cascade, *stages), logging_config=quiet)
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        print(port, flush=True)
        stop.wait()
        serve.shutdown()


if __name__ == "__main__":
    main()
