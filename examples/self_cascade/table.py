"""Table 5 of the paper for a store: each set of weights alone at each size, and its self-cascades.

    python table.py STORE [--high NAME ...] [--time PICTURES.npz]

``val`` chooses, ``test`` judges. For each set of weights two self-cascades stand beside the model
at its highest resolution, or at the one that ``--high`` names: the cheapest that is as accurate on
val, and the most accurate for its cost. ``--time`` runs both and the single model over pictures, in
turns, on ONNX files.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

import committee as cm
from committee.report import Row, summary
from committee.report.tables import exits, human_cost, interval, percent, times
from committee.run import timed_offline, timed_online

HEAD = "| models | val | test (95 % interval) | average cost | worst case | speedup | exits |"


def line(row: Row) -> str:
    cells = (
        f"{row.role}: {row.cascade}" if row.chosen else str(row.cascade),
        percent(row.val.accuracy),
        f"{percent(row.judged.accuracy)} ({interval(row.judged)})",
        human_cost(row.judged.average_cost, row.judged.unit),
        human_cost(row.judged.worst_case_cost, row.judged.unit),
        times(row.speedup),
        exits(row.judged) if row.kind == "self-cascade" else "",
    )
    return f"| {' | '.join(cells)} |"


def timing(rows: list[Row], pool: cm.Pool, pictures: np.ndarray) -> None:
    """Milliseconds a picture beside those of the single model, all in turns."""
    cascades = [replace(row.cascade, models=pool.specs) for row in rows]
    for what, run in (("batches of 64", timed_offline), ("one by one", timed_online)):
        runners = [cm.Runner(cascade, threads=1) for cascade in cascades]
        found = run(runners, pictures)
        # The median forgives what other programs on the machine do.
        medians = [float(np.median(each.ms)) for each in found]
        means = [each.mean_ms for each in found]
        for row, median, mean in zip(rows, medians, means, strict=True):
            print(
                f"{what}: {row.cascade}: mean {mean:.4f} ms, median {median:.4f} ms, speedup by "
                f"means {means[0] / mean:.2f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--high", nargs="*", default=[])
    parser.add_argument("--time", type=Path)
    arguments = parser.parse_args()
    val, test = (cm.Pool.load(arguments.store / split) for split in ("val", "test"))
    for names in val.same_weights:
        high = next((name for name in arguments.high if name in names), names[-1])
        ours = names[: names.index(high) + 1]
        front = cm.search(val.only(ours), min(3, len(ours)), self_cascades=True)
        rows = [row for row in summary(front, test, high) if row.role != "ensemble of all"]
        print(f"\nval {len(val):,}, test {len(test):,} samples, speedup over {high}\n\n{HEAD}")
        print("|---" * HEAD.count(" | ") + "|---|")
        print("\n".join(map(line, rows)))
        if arguments.time:
            with np.load(arguments.time) as file:
                pictures = file["images"][-len(test) :]
            single = [row for row in rows if str(row.cascade) == high]
            timing(single + [row for row in rows if row.chosen], val, pictures)


if __name__ == "__main__":
    main()
