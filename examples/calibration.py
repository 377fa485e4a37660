"""What calibration does to single models, ensembles and cascades of a store.

    committee demo --out demo-out
    python examples/calibration.py demo-out/predictions

Half of val fits the calibrations, the other half chooses, test evaluates.
"""

import argparse
import itertools

import numpy as np

import committee as cm
from committee.calibration.fitting import fit_calibrations
from committee.calibration.reliability import expected_calibration_error, reliability
from committee.rule.calibration import calibrated
from committee.rule.combinations import mean_logits
from committee.rule.scores import softmax


def halves(val: cm.Pool) -> tuple[cm.Pool, cm.Pool]:
    """The halves of a split, as splits of their own."""
    middle = len(val) // 2
    return val.rows(slice(0, middle), "cal"), val.rows(slice(middle, None), "val")


def errors(pool: cm.Pool, calibrations: dict[str, cm.Calibration]) -> dict[str, float]:
    """Expected calibration error of each model, in percent."""
    found = {}
    for name in pool.names:
        outputs = pool.model(name)
        if name in calibrations:
            outputs = calibrations[name].apply(outputs)
        found[name] = 100 * expected_calibration_error(outputs, pool.samples.labels)
    return found


def by_chance(pool: cm.Pool, draws: int = 20) -> dict[str, float]:
    """Mean error, in percent, if each model were right exactly as often as it says."""
    rng, found = np.random.default_rng(0), {}
    for name in pool.names:
        outputs = pool.model(name)
        chances = np.cumsum(softmax(outputs.values, outputs.kind), axis=1)
        drawn = (rng.random((draws, len(pool), 1)) > chances[:, :-1]).sum(axis=2)
        errors = [expected_calibration_error(outputs, labels) for labels in drawn]
        found[name] = 100 * float(np.mean(errors))
    return found


def ensembles(pool: cm.Pool, calibrations: dict[str, cm.Calibration]) -> list[float]:
    """Accuracy of every ensemble of two and three models, in percent."""
    cascades = [
        cm.Cascade.ensemble(names, calibrations=calibrations)
        for size in (2, 3)
        for names in itertools.combinations(pool.names, size)
    ]
    return [100 * each.accuracy for each in cm.evaluate_all(cascades, pool)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", help="folder with the splits val and test")
    store = parser.parse_args().store
    cal, val = halves(cm.Pool.load(f"{store}/val"))
    test = cm.Pool.load(f"{store}/test")
    dearest = max(test.names, key=test.costs.values(test.costs.unit()).get)
    print(f"fitted on {len(cal)}, chosen on {len(val)}, evaluated on {len(test)} samples")
    summary = ", ".join(f"{n} {e:.2f}" for n, e in by_chance(test).items())
    print(f"expected calibration error on test by chance alone, percent: {summary}")
    plain = ensembles(test, {})
    for method in ("none", "temperature", "platt"):
        calibrations = {} if method == "none" else fit_calibrations(cal, method)
        summary = ", ".join(f"{n} {e:.2f}" for n, e in errors(test, calibrations).items())
        print(f"\n{method}: expected calibration error on test, percent: {summary}")
        accuracies = ensembles(test, calibrations)
        changes = [b - a for a, b in zip(plain, accuracies, strict=True)]
        print(
            f"ensembles of 2 and 3: mean accuracy {sum(accuracies) / len(accuracies):.2f} %, "
            f"changed by {min(changes):+.2f} to {max(changes):+.2f} points, "
            f"mean {sum(changes) / len(changes):+.3f}"
        )
        mean = reliability(mean_logits(calibrated(test.outputs, calibrations)), test.samples.labels)
        sure = np.average(mean.confidence, weights=mean.count)
        right = np.average(mean.accuracy, weights=mean.count)
        print(
            f"ensemble of all: confidence {100 * sure:.2f} % in the mean, right in "
            f"{100 * right:.2f} %, expected calibration error {100 * mean.error:.2f} %"
        )
        front = cm.search(val.with_calibrations(calibrations), 3, test=test)
        choice = front.matching(dearest)
        print(
            f"as accurate as {dearest} on val: {choice.cascade}, on test "
            f"{100 * choice.test.accuracy:.2f} % for {choice.test.average_cost:,.0f} "
            f"{choice.test.unit} on average"
        )


if __name__ == "__main__":
    main()
