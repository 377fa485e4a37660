"""Table 7 of the paper for the networks of this folder: mIoU, cost, exits and time, by cell size.

    python table.py predictions --data ../../../shared/data/camvid --reference medium

For every size of cells: the cheapest cascade that reaches the reference on the half that chose, the
most accurate one, and the most accurate for 0.7 of the reference's cost. All figures are of the
half that judges. Time is of whole cascades at work, one picture at a time, one thread, in turns,
in seconds of the processor; the median over pictures.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from committee import Cascade, evaluate
from committee.data.segmentation import open_segmentation
from committee.dense import Segmenter, grids_of, load_cells, search_grids
from committee.evaluate import bootstrap_interval, decided, scored
from committee.utility import MEAN_IOU, mean_iou


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--reference", default="medium")
    parser.add_argument("--turns", type=int, default=20)
    given = parser.parse_args()
    val, test = given.store / "val", given.store / "test"
    whole = load_cells(test)
    rows = [(name, _known(Cascade.of([name]), whole), "full") for name in whole.names]
    rows.append(
        (" + ".join(whole.names), _known(Cascade.ensemble(list(whole.names)), whole), "full")
    )
    price = whole.costs.values("macs")[given.reference]
    for grid in grids_of(given.store):
        front = search_grids(val, test, [grid])
        rows.append((f"{grid}, matches on val", front.matching(given.reference).cascade, grid))
        rows.append((f"{grid}, best on val", front[-1].cascade, grid))
        rows.append((f"{grid}, at most 0.7x the cost", front.at_most(0.7 * price).cascade, grid))
    reference = _counts(rows[whole.names.index(given.reference)][1], whole)
    base = evaluate(Cascade.of([given.reference]), whole, utility=MEAN_IOU)
    seconds = _timed([cascade for _, cascade, _ in rows], given.data, given.turns)
    print(
        "| | cascade | val | test | 95 % | against the reference, 95 % | average | worst case "
        "| speedup | exits | ms | speedup in time |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    at = seconds[whole.names.index(given.reference)]
    for (name, cascade, grid), took in zip(rows, seconds, strict=True):
        pool = load_cells(test, grid)
        chose = evaluate(cascade, load_cells(val, grid), utility=MEAN_IOU)
        judged = evaluate(cascade, pool, utility=MEAN_IOU)
        pair = np.concatenate([_counts(cascade, pool), reference], axis=1)
        low, high = bootstrap_interval(pair, _difference)
        exits = "/".join(f"{100 * ratio:.0f}" for ratio in judged.exit_ratios)
        print(
            f"| {name} | {cascade} | {100 * chose.accuracy:.2f} | {100 * judged.accuracy:.2f} "
            f"| {100 * judged.interval[0]:.1f}–{100 * judged.interval[1]:.1f} "
            f"| {100 * low:+.2f} … {100 * high:+.2f} "
            f"| {judged.average_cost / 1e6:,.0f} M | {judged.worst_case_cost / 1e6:,.0f} M "
            f"| {base.average_cost / judged.average_cost:.2f}x | {exits} "
            f"| {1000 * took:.0f} | {at / took:.2f}x |",
            flush=True,
        )
    print(f"{judged.samples} pictures judge, {chose.samples} chose.")


def _known(cascade: Cascade, pool: object) -> Cascade:
    """A cascade that knows its models and how cells are scored."""
    data = cascade.to_json()
    confidence = next(iter(pool.outputs.values())).together.confidence
    specs = {name: pool.specs[name] for name in cascade.names}
    return Cascade.from_json({**data, "confidence": confidence, "models": specs})


def _counts(cascade: Cascade, pool: object) -> np.ndarray:
    """Counts of each picture, shape (pictures, 3 C)."""
    counts = scored(cascade, pool, decided(cascade, pool), MEAN_IOU)
    return counts.reshape(pool.samples.wholes, pool.samples.parts, -1).sum(axis=1)


def _difference(pair: np.ndarray) -> np.ndarray:
    half = pair.shape[-1] // 2
    return mean_iou(pair[..., :half]) - mean_iou(pair[..., half:])


def _timed(cascades: list[Cascade], data: Path, turns: int) -> list[float]:
    """Seconds of the processor for one picture, the median over pictures."""
    runners = [Segmenter(cascade, threads=1) for cascade in cascades]
    pictures = open_segmentation(data / "val", labels=False, rows="50:101:2")
    took = np.empty((turns, len(runners)))
    for turn in range(turns):
        row = turn * len(pictures.samples) // turns
        picture = pictures.picture(row, runners[0].grid.picture)[None]
        for number in np.roll(np.arange(len(runners)), turn):
            began = time.process_time()
            runners[number].decide(picture)
            took[turn, number] = time.process_time() - began
    return np.median(took, axis=0).tolist()


if __name__ == "__main__":
    main()
