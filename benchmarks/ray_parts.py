"""What the parts of a job on Ray take, from which docs/scale.md reckons a large one."""

import shutil
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from committee.data.open import open_data
from committee.models.inputs import prepared
from committee.pool.samples import Samples
from committee.rule.cascade import Cascade
from committee.scale.blocks import Block
from committee.scale.cluster import connect
from committee.scale.parts import Parts
from committee.scale.plan import Plan, Pool
from committee.scale.run import decided, results_table, run_into_parts
from committee.spec.preprocessing import Preprocessing

# What models of ImageNet take, and what most photographs are brought to.
_PHOTO = Preprocessing((224, 224), mean=(0.5,) * 3, std=(0.25,) * 3)


def driver(work: Path, count: int = 2**14 * 16) -> dict[str, float]:
    """Processor seconds of the driver for a million samples: to list them, and to write them."""
    ids = tuple(f"n01440764/n01440764_{number:08}.JPEG" for number in range(count))
    began = time.process_time()
    samples = Samples(ids, np.zeros(count, np.int64), tuple(map(str, range(1000))))
    _ = samples.fingerprint
    listed = time.process_time() - began
    cascade = Cascade.of([["a"], ["b"], ["c"]], thresholds=[0.5, 0.5])
    parts = Parts.begun(str(work / "written"), count, 2**14, {}, overwrite=True)

    def table(block: Block):
        return results_table(block, samples, cascade, (1.0, 2.0, 3.0))

    blocks = [Block.begun(np.arange(at, at + 1024)) for at in range(0, count, 1024)]
    for block in blocks:
        block.stage[:] = 0
    began = time.process_time()
    for _ in run_into_parts(blocks, parts, table):
        pass
    written = time.process_time() - began
    shutil.rmtree(work / "written")
    scale = 1e6 / count
    return {"list a million samples, s": listed * scale, "write a million, s": written * scale}


def photographs(folder: Path, count: int = 200) -> dict[str, float]:
    """Milliseconds of a processor to decode a photograph and prepare it."""
    if not folder.is_dir():
        return {}
    dataset = open_data(folder, labels="none")
    began = time.process_time()
    for row in range(min(count, len(dataset.samples))):
        prepared(dataset.read(np.array([row])), _PHOTO)
    return {"decode and prepare a photograph, ms": 1000 * (time.process_time() - began) / count}


def batches(job, count: int) -> dict[str, float]:
    """Milliseconds of wall time that Ray takes for a batch of one stage, models aside.

    The same samples in batches of 32 and of 1,024, with one actor a stage: what more batches take
    is Ray's.
    """
    stages = len(job.cascade.stages)
    pools = (Pool(1, 0.5, 0.0),) * stages
    taken, used = {}, {}
    with connect():
        for size in (32, 1024):
            plan = Plan((size,) * stages, pools)
            first, own = time.perf_counter(), time.process_time()
            blocks = decided(replace(job, batch_size=32), plan, [(0, count)])
            for _ in islice(blocks, 1):  # actors have started
                first, own = time.perf_counter(), time.process_time()
            for _ in blocks:
                pass
            taken[size] = time.perf_counter() - first
            used[size] = time.process_time() - own
    more = stages * (count / 32 - count / 1024)
    return {
        "a batch of a stage, ms": 1000 * (taken[32] - taken[1024]) / more,
        "of it processor time of the driver, ms": 1000 * (used[32] - used[1024]) / more,
    }
