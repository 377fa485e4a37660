"""The server of `committee serve` with other schedulers, to compare with; see benchmarks/serve.py.

    python benchmarks/serve_variants.py "per request"|"at once" CASCADE

per request  a batch holds the samples of one request and runs to its end before the next
at once      every sample is answered with one decision that was made before, and no model runs
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from committee.cli import main
from committee.serve import served
from committee.serve.calls import Served
from committee.serve.scheduler import Scheduler


class PerRequest(Scheduler):
    def __init__(self, stages, explained, *others) -> None:
        super().__init__(stages, explained, *others)
        self._runner = explained.__self__
        self._thread = ThreadPoolExecutor(1)

    def _decided(self, samples) -> list[Served]:
        if len(samples) == 1:
            return [Served(self._runner(samples[0]))]
        made = self._runner.decide(samples, len(samples))
        return [Served(self._runner.explained(made, row)) for row in range(len(samples))]

    async def decide(self, samples, **_) -> list[Served]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._decided, samples)


class AtOnce(Scheduler):
    def __init__(self, stages, explained, *others) -> None:
        super().__init__(stages, explained, *others)
        runner = explained.__self__
        recipe = runner.specs[runner.cascade.names[0]].image
        shape = recipe.size if recipe.channels == 1 else (*recipe.size, recipe.channels)
        self._made = Served(runner(np.zeros(shape, np.uint8)))

    async def decide(self, samples, **_) -> list[Served]:
        return [self._made] * len(samples)


if __name__ == "__main__":
    served.Scheduler = {"per request": PerRequest, "at once": AtOnce}[sys.argv[1]]
    sys.exit(main(["serve", sys.argv[2], "--threads", "1", "--port", "0", "--quiet"]))
