"""Table 7 of the paper for the networks of this folder: mIoU, cost, exits and time, by tile size.

    python table.py predictions --data CAMVID --reference medium

For every size of tiles: the cheapest cascade that reaches the reference on the half that chose, the
most accurate one, and the most accurate for 0.7 of the reference's cost. All figures are of the
half that evaluates. Time is of whole cascades at work, one image at a time, one thread, in turns,
in seconds of the processor; the median over images.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from committee import Cascade, Pool, as_ensemble, evaluate, search
from committee.data.segmentation import open_segmentation
from committee.segment.run import Segmenter
from committee.selection.evaluate_many import values_on
from committee.selection.paired import mean_difference


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--reference", default="medium")
    parser.add_argument("--turns", type=int, default=20)
    given = parser.parse_args()
    chosen_on, evaluated_on = Pool.load(given.store / "val"), Pool.load(given.store / "test")
    names = chosen_on.names
    rows = [
        (" + ".join(some), as_ensemble(some, chosen_on).cascade)
        for some in [*([name] for name in names), names]
    ]
    price = chosen_on.costs.values("macs")[given.reference]
    for division in chosen_on.divisions:
        grid, front = division.layout.tiling, search(division)
        rows.append((f"{grid}, matches on val", front.matching(given.reference).cascade))
        rows.append((f"{grid}, best on val", front[-1].cascade))
        rows.append((f"{grid}, at most 0.7x the cost", front.at_most(0.7 * price).cascade))
    alone = dict(rows)[given.reference]
    reference, base = values_on(alone, evaluated_on), evaluate(alone, evaluated_on)
    seconds = _timed([cascade for _, cascade in rows], given.data, given.turns)
    print(
        "| | cascade | val | test | 95 % | against the reference, 95 % | average | worst case "
        "| speedup | exits | ms | speedup in time |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    at = seconds[names.index(given.reference)]
    for (name, cascade), took in zip(rows, seconds, strict=True):
        chose, evaluated = evaluate(cascade, chosen_on), evaluate(cascade, evaluated_on)
        gain = mean_difference([values_on(cascade, evaluated_on)], [reference], evaluated_on)
        exits = "/".join(f"{100 * ratio:.0f}" for ratio in evaluated.exit_ratios)
        print(
            f"| {name} | {cascade} | {100 * chose.accuracy:.2f} | {100 * evaluated.accuracy:.2f} "
            f"| {100 * evaluated.interval[0]:.1f}–{100 * evaluated.interval[1]:.1f} "
            f"| {100 * gain.low:+.2f} … {100 * gain.high:+.2f} "
            f"| {evaluated.average_cost / 1e6:,.0f} M | {evaluated.worst_case_cost / 1e6:,.0f} M "
            f"| {base.average_cost / evaluated.average_cost:.2f}x | {exits} "
            f"| {1000 * took:.0f} | {at / took:.2f}x |",
            flush=True,
        )
    print(f"{evaluated.samples} images evaluate, {chose.samples} chose.")


def _timed(cascades: list[Cascade], data: Path, turns: int) -> list[float]:
    """Seconds of the processor for one image, the median over images."""
    runners = [Segmenter(cascade, threads=1) for cascade in cascades]
    images = open_segmentation(data / "val", labels=False, rows="50:101:2")
    took = np.empty((turns, len(runners)))
    for turn in range(turns):
        row = turn * len(images.samples) // turns
        image = images.image(row, runners[0].grid.image)[None]
        for number in np.roll(np.arange(len(runners)), turn):
            began = time.process_time()
            runners[number].decide(image)
            took[turn, number] = time.process_time() - began
    return np.median(took, axis=0).tolist()


if __name__ == "__main__":
    main()
