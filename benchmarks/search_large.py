"""Search of a large pool: 100 models x 10,000 samples x 1,000 classes.

    python benchmarks/search_large.py [--folder DIR] [--models 100] [--keep 20]

Pairs are searched exactly; committees of up to four models by the guided search and by Streeter's
greedy algorithm. On sub-pools of 12 models, drawn from a seed, both are compared with the exact
answer: the accuracy they lose, averaged over 200 costs in equal ratios. The store (4 GB) is made
once from a seed and kept in DIR.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

import committee as cm
from pools import SEED, Model, make_store

SUB_POOLS, SUB_MODELS = 3, 12


def models(count: int) -> list[Model]:
    """Costs from 0.3 G to 40 G in equal ratios, accuracies that rise with them, not every time."""
    rng = np.random.default_rng(SEED)
    ranks = np.linspace(0, 1, count)
    accuracies = np.clip(0.76 + 0.085 * ranks**0.7 + rng.normal(0, 0.006, count), 0.5, 0.9)
    return [
        Model(f"m{i:02}", "", i, 0, float(round(0.3e9 * (40 / 0.3) ** r)), float(a))
        for i, (r, a) in enumerate(zip(ranks, accuracies, strict=True))
    ]


def lost(front: cm.Front, exact: cm.Front) -> tuple[float, float]:
    """Mean and greatest accuracy lost against the exact front, in percentage points."""

    def accuracy(of: cm.Front, levels: np.ndarray) -> np.ndarray:
        cost = np.array([m.evaluation.average_cost for m in of])
        best = np.array([m.evaluation.accuracy for m in of])
        at = np.searchsorted(cost, levels * (1 + 1e-9), side="right") - 1
        return np.where(at >= 0, best[np.maximum(at, 0)], np.nan)

    cheapest = max(f[0].evaluation.average_cost for f in (front, exact))
    levels = np.geomspace(cheapest, exact[-1].evaluation.average_cost, 200)
    gaps = 100 * (accuracy(exact, levels) - accuracy(front, levels))
    return float(gaps.mean()), float(gaps.max())


def timed(search, *arguments, **options) -> tuple[cm.Front, float]:
    start = time.perf_counter()
    front = search(*arguments, **options)
    return front, time.perf_counter() - start


def decisions(count: int, samples: int, classes: int) -> cm.Pool:
    """What models of rising cost and accuracy decide; their errors share a cause and families."""
    rng = np.random.default_rng(SEED)
    labels = rng.integers(0, classes, samples)
    hardness, families = rng.normal(size=samples), rng.normal(size=(40, samples))
    outputs, costs = {}, {}
    for number, rank in enumerate(np.linspace(0, 1, count)):
        family = families[rng.integers(len(families))]
        error = 0.8 * hardness + 0.35 * family + 0.45 * rng.normal(size=samples)
        margin = 0.6 + 0.5 * rank**0.7 + rng.normal(0, 0.05) - error
        wrong = (labels + 1 + rng.integers(0, 3, samples)) % classes
        confidence = 1 / (1 + np.exp(-1.2 * margin - 0.8 * rng.normal(size=samples)))
        name = f"m{number:03}"
        outputs[name] = (np.where(margin > 0, labels, wrong), confidence.astype(np.float32))
        costs[name] = float(round(0.1e9 * 200**rank * np.exp(rng.normal(0, 0.3))))
    return cm.Pool.from_arrays(labels, outputs, kind="decisions", costs=costs)


def search_decisions(count: int) -> None:
    """Print how long a pool as large as timm's takes, and its memory."""
    pool = decisions(count, 50_000, 1_000)
    print(f"{count} models, 50,000 samples, decisions, seed {SEED}")
    for what, search, most in (
        ("exact, up to 2 models", cm.search, 2),
        ("guided, up to 3 models", cm.guided, 3),
    ):
        cpu = time.process_time()
        front, seconds = timed(search, pool, most)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{what}: {seconds:.1f} s ({time.process_time() - cpu:.1f} s of CPU), "
            f"{front.settings.sequences:,} sequences, {len(front)} on the front, {memory:.1f} GB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--decisions", type=int, metavar="MODELS")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--keep", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.decisions:
        search_decisions(arguments.decisions)
        return
    shape = f"{arguments.models}x{arguments.samples}x{arguments.classes}"
    folder = arguments.folder or Path(tempfile.gettempdir()) / f"committee-bench-large-{shape}"
    make_store(folder, models(arguments.models), arguments.samples, arguments.classes)
    pool = cm.Pool.load(folder / "val")
    print(f"{shape}, seed {SEED}")
    front, seconds = timed(cm.search, pool, 2)
    summary = front.settings
    print(
        f"exact, up to 2 models: {seconds:.1f} s, {summary.sequences:,} sequences, "
        f"{len(front)} on the front"
    )
    found, seconds = timed(cm.guided, pool, 4, keep=arguments.keep)
    gained = -lost(front, found)[0] if len(found) else 0.0
    print(f"guided, up to 4 models: {seconds:.1f} s, {len(found)} on the front")
    print(f"  {found.inexact}")
    print(f"  pairs alone lose {-gained:.2f} points on average against it")
    for combine in ("last", "mean_logits"):
        built, seconds = timed(cm.greedy, pool, 4, combine=combine)
        mean, most = lost(built, found)
        print(
            f"greedy, {combine}: {seconds:.1f} s, "
            f"loses {mean:.2f} (most {most:.2f}) points against it"
        )
    rng = np.random.default_rng(SEED)
    print(f"against the exact answer, up to 4 models, {SUB_POOLS} sub-pools of {SUB_MODELS}:")
    for number in range(SUB_POOLS):
        names = sorted(rng.choice(pool.names, SUB_MODELS, replace=False).tolist())
        part = pool.only(names)
        exact, seconds = timed(cm.search, part, 4)
        print(f"  {number + 1}: exact {seconds:.1f} s, {exact.settings.cascades:,} cascades")
        others = {
            "guided, keep 8": timed(cm.guided, part, 4, keep=8),
            "guided, keep 6": timed(cm.guided, part, 4, keep=6),
            "greedy, last": timed(cm.greedy, part, 4, combine="last"),
            "greedy, mean": timed(cm.greedy, part, 4),
        }
        for name, (other, seconds) in others.items():
            mean, most = lost(other, exact)
            print(f"     {name}: {seconds:.1f} s, loses {mean:.3f} points, {most:.2f} at most")


if __name__ == "__main__":
    main()
