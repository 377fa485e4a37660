"""Table 5 of the paper for a store: each set of weights alone at each size, and its self-cascades.

    python table.py STORE [--high NAME ...] [--time DATA [--images N] [--batch-size B]]

``val`` chooses, ``test`` judges. For each set of weights two self-cascades stand beside the model
at its highest resolution, or at the one that ``--high`` names: the cheapest that is as accurate on
val, and the most accurate for its cost. ``--time`` runs what of these is a cascade, and the single
model, over the last N images of DATA, in turns; DATA is what ``committee run --data`` takes, and
``--allow-code FILE`` lets models of a python: source run.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import committee as cm
from committee.data.open import open_data
from committee.models.inputs import RawSamples
from committee.report.rows import SINGLE, Report, Row
from committee.report.text import exits, interval
from committee.text import human_cost, percent, times

HEAD = "| models | val | test (95 % interval) | average cost | worst case | speedup | exits |"


def line(row: Row) -> str:
    cells = (
        f"{row.role}: {row.cascade}" if row.chosen else str(row.cascade),
        percent(row.val.accuracy),
        f"{percent(row.reported.accuracy)} ({interval(row.reported)})",
        human_cost(row.reported.average_cost, row.reported.unit),
        human_cost(row.reported.worst_case_cost, row.reported.unit),
        times(row.speedup),
        exits(row.reported) if row.kind == "self-cascade" else "",
    )
    return f"| {' | '.join(cells)} |"


def timing(
    rows: list[Row], pool: cm.Pool, images: RawSamples, batch: int, allow_code: list[str]
) -> None:
    """Processor time an image on one thread, runners in turns.

    Unlike the clock it counts nothing of what other programs do meanwhile. Images lie decoded in
    memory; resizing them is counted.
    """
    runners = [
        cm.Runner(replace(row.cascade, models=pool.specs), allow_code=allow_code, threads=1)
        for row in rows
    ]
    for what, step in ((f"batches of {batch}", 8 * batch), ("one by one", 1)):
        spent = np.zeros(len(runners))
        for runner in runners:
            runner.decide(images[:step], batch)  # warm
        for start in range(0, len(images), step):
            order = range(len(runners)) if (start // step) % 2 else reversed(range(len(runners)))
            for index in order:
                began = time.process_time()
                runners[index].decide(images[start : start + step], batch)
                spent[index] += time.process_time() - began
        for row, each in zip(rows, spent * 1e3 / len(images), strict=True):
            told = f"{each:.4f} ms an image, {spent[0] * 1e3 / len(images) / each:.2f} times"
            print(f"{what}: {row.role}: {row.cascade}: {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--high", nargs="*", default=[])
    parser.add_argument("--time", metavar="DATA")
    parser.add_argument("--images", type=int, default=1000, help="how many are timed")
    parser.add_argument("--rows", help="of DATA, as committee run takes them")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--allow-code", nargs="*", default=[])
    arguments = parser.parse_args()
    val, test = (cm.Pool.load(arguments.store / split) for split in ("val", "test"))
    for names in val.layout.same_weights:
        high = next((name for name in arguments.high if name in names), names[-1])
        ours = names[: names.index(high) + 1]
        front = cm.search(val.only(ours), min(3, len(ours)), self_cascades=True)
        rows = [row for row in Report(front, test, high).rows if row.role != "ensemble of all"]
        print(f"\nval {len(val):,}, test {len(test):,} samples, speedup over {high}\n\n{HEAD}")
        print("|---" * HEAD.count(" | ") + "|---|")
        print("\n".join(map(line, rows)))
        if arguments.time:
            data = open_data(arguments.time, "timed", val.samples.classes, arguments.rows)
            images = data.read(np.arange(len(data.samples))[-arguments.images :])
            single = [row for row in rows if row.role == SINGLE and str(row.cascade) == high]
            cascades = [row for row in rows if row.chosen and row.kind == "self-cascade"]
            if cascades:
                timing(single + cascades, val, images, arguments.batch_size, arguments.allow_code)


if __name__ == "__main__":
    main()
