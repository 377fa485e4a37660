"""What calibration by predicted class gains at equal budget, on halves that did not choose.

    python benchmarks/calibration_by_class.py [SPLITS]

Every pool is taken as decisions. A random half fits the calibrations and chooses, cross-fitted, the
best committee within each of twelve budgets; the other half evaluates it.
"""

import sys

import numpy as np

import committee as cm
import worlds
from committee.calibration.fitting import BY_CLASS, fit_calibrations
from committee.rule.scores import max_prob

BUDGETS = 12
# Models of a committee, and the methods that the number of classes allows.
WORLDS = {
    "ImageNet, 14 models": (worlds.imagenet, 2, ("per-class",)),
    "CIFAR-10, 4 ResNets": (worlds.cifar10, 3, BY_CLASS),
    "Fashion-MNIST, 6 models": (worlds.embedded, 3, BY_CLASS),
}


def as_decisions(pool: cm.Pool) -> cm.Pool:
    """The classes that models predict, with their largest probability as confidence."""
    if pool.kind == "decisions":
        return pool
    outputs = {n: (o.predicted(), max_prob(o.values, o.kind)) for n, o in pool.outputs.items()}
    return cm.Pool.from_arrays(
        pool.samples.labels, outputs, kind="decisions", costs=pool.costs.values("macs")
    )


def accuracies(val: cm.Pool, test: cm.Pool, most: int, method: str | None) -> list[float]:
    """Accuracy on test of the best on val within each budget, in percent."""
    known = fit_calibrations(val, method) if method else {}
    own = val.with_calibrations(known), test.with_calibrations(known)
    front = cm.search(own[0], most, test=own[1], unit="macs", grid=30)
    costs = val.costs.values("macs").values()
    budgets = np.geomspace(1.05 * min(costs), max(costs), BUDGETS)
    return [100 * front.at_most(cost=each).test.accuracy for each in budgets]


def main(splits: int) -> None:
    for world, (make, most, methods) in WORLDS.items():
        pool = as_decisions(make())
        gains = {method: [] for method in methods}
        for seed in range(splits):
            order = np.random.default_rng(seed).permutation(len(pool))
            first, second = np.sort(order[: len(pool) // 2]), np.sort(order[len(pool) // 2 :])
            halves = pool.rows(first, "val"), pool.rows(second, "test")
            plain = np.array(accuracies(*halves, most, None))
            for method in methods:
                gains[method].append(np.array(accuracies(*halves, most, method)) - plain)
        for method, each in gains.items():
            rows = np.array(each)
            by_budget = ", ".join(f"{gain:+.2f}" for gain in rows.mean(axis=0))
            spread = rows.mean(axis=1).std(ddof=1)
            print(
                f"{world}: {method}: {rows.mean():+.3f} points, from split to split {spread:.3f}; "
                f"by budget {by_budget}",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
