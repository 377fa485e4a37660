"""What exits between views save, on the clips of make_clips.py: single models, cascades, time.

    python table.py CLIPS [--store predictions] [--timed 500]

Val chooses, test evaluates. Time is that of the models on clips that lie decoded in memory, all
committees in turns on the same clips.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

import committee as cm
from committee.cli.demo import _timed
from committee.data.open import open_data

HERE = Path(__file__).parent
VIEWS = 10
# Most models of a cascade, so exits after one to five views; with so many thresholds, 10
# percentiles of each are enough.
EXITS, GRID = 5, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--store", type=Path, default=Path("predictions"))
    parser.add_argument("--timed", type=int, default=500)
    args = parser.parse_args()
    val, test = (cm.Pool.load(args.store / split) for split in ("val", "test"))
    blocks = {
        name: [f"{name}.{i + 1:02}of{VIEWS}" for i in range(VIEWS)] for name in ("small", "large")
    }
    found, whole = {}, {}
    for name, names in blocks.items():
        for count in (1, 2, 3, VIEWS):
            found[f"{name}, {count} views"] = cm.Cascade.ensemble(names[:count])
        whole[name] = cm.evaluate(found[f"{name}, {VIEWS} views"], val).accuracy
        front = cm.search(val.only(names), max_models=EXITS, grid=GRID)
        found[f"{name}, exits between views"] = as_good(front, whole[name])
    both = cm.search(val, max_models=2, stages=list(blocks.values()))
    found[f"small, then large, {VIEWS} views each"] = as_good(both, whole["large"])
    free = cm.search(val, max_models=EXITS, grid=GRID)
    found["both, exits between views"] = as_good(free, whole["large"])
    print_table(found, val, test)
    print_times(found, val, args)


def as_good(front: cm.Front, accuracy: float) -> cm.Cascade:
    """The cheapest cascade as accurate on val, or the most accurate if none is."""
    most = max(each.evaluation.accuracy for each in front)
    return front.at_least(min(accuracy, most)).cascade


def print_table(found: dict[str, cm.Cascade], val: cm.Pool, test: cm.Pool) -> None:
    print(f"| | val, n = {len(val)} (chose) | test, n = {len(test)} | average | worst | exits |")
    print("|---|---|---|---|---|---|")
    for name, cascade in found.items():
        chose, evaluated = (cm.evaluate(cascade, pool) for pool in (val, test))
        low, high = evaluated.interval
        exits = " / ".join(f"{ratio:.0%}" for ratio in evaluated.exit_ratios)
        cells = (
            name,
            f"{chose.accuracy:.1%}",
            f"{evaluated.accuracy:.1%} ({low:.1%}-{high:.1%})",
            f"{evaluated.average_cost / 1e6:.1f} M",
            f"{evaluated.worst_case_cost / 1e6:.1f} M",
            exits,
        )
        print(f"| {' | '.join(cells)} |")


def print_times(found: dict[str, cm.Cascade], val: cm.Pool, args: argparse.Namespace) -> None:
    allowed = [str(HERE / "network.py")]
    runners = [
        cm.Runner(replace(each, models=val.specs, classes=val.samples.classes), allow_code=allowed)
        for each in found.values()
    ]
    models = [spec for runner in runners for spec in runner.specs.values()]
    data = open_data(args.clips / "test", "run", val.samples.classes, models=models)
    chosen = np.random.default_rng(0).permutation(len(data.samples))[: args.timed]
    times = _timed(runners, data.read(np.sort(chosen)), batch_size=32)
    for name, each in zip(found, times, strict=True):
        print(f"{name}: {each.mean_ms:.2f} ms a clip")


if __name__ == "__main__":
    main()
