"""Exact search at the paper's scale: 32 models x 25,000 samples x 1,000 classes, from a store.

    python benchmarks/search.py [--folder DIR] [--samples 25000] [--classes 1000] [--threads N]

Eight architectures with the multiply-adds of EfficientNet B0 to B7, four trainings of each, errors
correlated, accuracies like the paper's. The store (3.2 GB, float32) is made once from a seed and
kept in DIR. One fresh process then opens it and searches all sequences of up to four models with
100 percentiles per threshold; memory is what the process holds besides files mapped from disk. The
same run times a plain NumPy enumeration of a stated part of the same search.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from pools import SEED, Model, make_store

# Wang et al. (2022), table 13: multiply-adds (G) and top-1 (%) of the architectures.
ARCHITECTURES = {
    "b0": (0.39, 77.1),
    "b1": (0.69, 79.1),
    "b2": (1.0, 80.0),
    "b3": (1.8, 81.3),
    "b4": (4.4, 82.5),
    "b5": (10.3, 83.3),
    "b6": (19.1, 83.7),
    "b7": (37.0, 84.1),
}
TRAININGS = 4
MODELS = [
    Model(f"{name}-{t + 1}", name, number, t, 1e9 * macs, accuracy / 100)
    for number, (name, (macs, accuracy)) in enumerate(ARCHITECTURES.items())
    for t in range(TRAININGS)
]


class Memory(threading.Thread):
    """The most memory that the process held itself, files mapped from disk apart."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            status = Path("/proc/self/status").read_text()
            self.peak = max(self.peak, int(status.split("RssAnon:")[1].split()[0]) * 1024)


def measure(folder: Path, threads: int | None) -> None:
    """What the fresh process does; prints one line of JSON."""
    memory = Memory()
    memory.start()
    start = time.perf_counter()
    import committee as cm

    imported = time.perf_counter()
    pool = cm.Pool.load(folder / "val")
    opened = time.perf_counter()
    front = cm.search(pool, 4, threads=threads)
    ended = time.perf_counter()
    memory.over.set()
    accuracies = {
        name: cm.evaluate(cm.Cascade.of([name]), pool).accuracy for name in ("b0-1", "b7-1")
    }
    best = front.matching("b7-1")
    print(
        json.dumps(
            {
                "import": imported - start,
                "reading": opened - imported,
                **front.settings.seconds,
                "total": ended - start,
                "memory": memory.peak,
                "sequences": front.settings.sequences,
                "cascades": front.settings.cascades,
                "members": len(front),
                "exact": front.exact,
                "accuracies": accuracies,
                "matching b7": [
                    str(best.cascade),
                    best.evaluation.accuracy,
                    best.evaluation.average_cost / 1e9,
                ],
                "warnings": front.warnings,
            }
        )
    )


def enumeration(folder: Path, vectors: int) -> tuple[float, float]:
    """Seconds that plain NumPy takes for one prefix of four models, and for one cascade of four."""
    import committee as cm
    from committee.rule.scores import max_prob

    pool = cm.Pool.load(folder / "val")
    labels = pool.samples.labels
    names = pool.names[:: 2 * TRAININGS]
    start = time.perf_counter()
    mean = np.mean([pool.outputs[name].values for name in names], axis=0)
    scores, hits = max_prob(mean), mean.argmax(1) == labels
    per_prefix = time.perf_counter() - start
    levels = np.percentile(scores, np.linspace(1, 100, 100))
    costs = [pool.costs.values("macs")[name] for name in names]
    start = time.perf_counter()
    for v in range(vectors):
        alive = np.ones(len(labels), bool)
        correct, cost = 0, costs[0]
        for k in range(3):
            exiting = alive & (scores >= levels[(v * (k + 7)) % 100])
            correct += np.count_nonzero(hits[exiting])
            alive &= ~exiting
            cost += costs[k + 1] * alive.mean()
        correct += np.count_nonzero(hits[alive])
    return per_prefix, (time.perf_counter() - start) / vectors


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--samples", type=int, default=25_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    usual = f"committee-bench-search-{arguments.samples}x{arguments.classes}"
    folder = arguments.folder or Path(tempfile.gettempdir()) / usual
    if arguments.measure:
        measure(folder, arguments.threads)
        return
    make_store(folder, MODELS, arguments.samples, arguments.classes)
    print(f"{processor()}, Python {platform.python_version()}, NumPy {np.__version__}")
    print(f"store: {folder}, seed {SEED}")
    command = [sys.executable, __file__, "--measure", "--folder", str(folder)]
    command += ["--threads", str(arguments.threads)] if arguments.threads else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    summary = json.loads(done.stdout)
    for part in ("import", "reading", "prefixes", "thresholds", "front", "total"):
        print(f"  {part:<12}{summary[part]:8.2f} s")
    print(f"  memory      {summary['memory'] / 1e9:8.2f} GB at most, mapped files apart")
    print(
        f"{summary['cascades']:,} cascades of {summary['sequences']:,} sequences, "
        f"{'all' if summary['exact'] else 'not all'} covered; {summary['members']} on the front"
    )
    low, high = summary["accuracies"].values()
    cascade, accuracy, cost = summary["matching b7"]
    print(f"b0-1 {low:.2%}, b7-1 {high:.2%}; matches b7-1: {cascade}, {accuracy:.2%}, {cost:.2f} G")
    per_prefix, per_cascade = enumeration(folder, 300)
    prefixes = 494
    plain = per_prefix * prefixes + per_cascade * summary["cascades"]
    print(
        f"plain NumPy, one thread: {per_prefix:.2f} s a prefix (1 of {prefixes} timed) and "
        f"{1e6 * per_cascade:.0f} us a cascade (300 of {summary['cascades']:,} timed):\n"
        f"  scaled to all {plain / 3600:,.0f} h, {plain / summary['total']:,.0f} times as long"
    )


if __name__ == "__main__":
    main()
