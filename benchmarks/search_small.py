"""Time exact search on small pools, beside a plain NumPy enumeration of part of it.

    python benchmarks/search_small.py [--models 8] [--samples 10000] [--classes 10] [--max-models 4]
    python benchmarks/search_small.py --plain    # the same without the compiled part

The enumeration evaluates cascades one by one from precomputed scores and hits, as one would write
it by hand; its time on a stated number of cascades is scaled to the number that search covers.
"""

import argparse
import itertools
import sys
import time

import numpy as np

if "--plain" in sys.argv:
    sys.modules["committee._native"] = None  # type: ignore[assignment]  # as if nothing was compiled

import committee as cm
from committee.rule.scores import max_prob

SEED = 2022


def synthetic_pool(models: int, samples: int, classes: int) -> cm.Pool:
    """Models of rising cost and accuracy whose errors are correlated."""
    rng = np.random.default_rng(SEED)
    labels = rng.integers(0, classes, samples)
    shared = rng.normal(size=(samples, classes))
    outputs, costs = {}, {}
    for i in range(models):
        logits = 0.8 * shared + rng.normal(size=(samples, classes))
        logits[np.arange(samples), labels] += 1.5 + 0.35 * i
        outputs[f"m{i}"] = logits.astype(np.float32)
        costs[f"m{i}"] = float(int(1e6 * 1.9**i))
    return cm.Pool.from_arrays(labels, outputs, kind="logits", costs=costs)


def enumeration(pool: cm.Pool, cascades: int, grid: int) -> float:
    """Seconds that a plain enumeration of three-model cascades takes."""
    labels = pool.samples.labels
    names = pool.names[:3]
    costs = [pool.costs.values("macs")[name] for name in names]
    scores, hits = [], []
    for k in range(3):
        mean = np.mean([pool.outputs[name].values for name in names[: k + 1]], axis=0)
        scores.append(max_prob(mean))
        hits.append(mean.argmax(1) == labels)
    percentiles = [np.percentile(score, np.linspace(1, 100, grid)) for score in scores]
    start = time.perf_counter()
    for first, second in itertools.islice(itertools.product(*percentiles[:2]), cascades):
        at_first = scores[0] >= first
        at_second = ~at_first & (scores[1] >= second)
        correct = np.where(at_first, hits[0], np.where(at_second, hits[1], hits[2]))
        correct.mean()
        costs[0] + costs[1] * (~at_first).mean() + costs[2] * (~at_first & ~at_second).mean()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--max-models", type=int, default=4)
    parser.add_argument("--plain", action="store_true", help="without the compiled part")
    arguments = parser.parse_args()
    small = synthetic_pool(4, 5_000, 10)
    cm.search(small, 3)
    start = time.perf_counter()
    front = cm.search(small, 3)
    print(
        f"4 models x 5000 x 10, max_models=3, warm: {time.perf_counter() - start:.3f} s, "
        f"{len(front)} on the front"
    )
    pool = synthetic_pool(arguments.models, arguments.samples, arguments.classes)
    print(f"{arguments.models} models x {arguments.samples} x {arguments.classes}, seed {SEED}")
    for most in range(2, arguments.max_models + 1):
        start = time.perf_counter()
        front = cm.search(pool, most)
        seconds = time.perf_counter() - start
        print(
            f"max_models={most}: {seconds:.2f} s, {front.settings.cascades:,} cascades of "
            f"{front.settings.sequences} sequences, {len(front)} on the front"
        )
    sample = 500
    plain = enumeration(pool, sample, front.settings.grid)
    scaled = plain / sample * front.settings.cascades
    print(f"plain enumeration: {plain:.2f} s for {sample} cascades")
    print(f"  scaled to all: {scaled:,.0f} s, {scaled / seconds:,.0f} times search's time")


if __name__ == "__main__":
    main()
