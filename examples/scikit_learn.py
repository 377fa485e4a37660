"""CommitteeClassifier beside VotingClassifier and TunedThresholdClassifierCV, with predict times.

    pip install -e ".[sklearn]"
    python examples/scikit_learn.py

Data are the 10,000 images of Fashion-MNIST that the package carries. Of these 40 % fit the
estimators, 30 % choose, and 30 % evaluate. Times are of predict on all images that evaluate, and on
200 of them one by one.
"""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from committee import CommitteeClassifier
from committee.embedded import FOLDER
from committee.pool.intervals import wilson_interval
from committee.profile.measure import conditions, in_turns

SHIRT = 6
TURNS = 7
ONE_BY_ONE = 200


def pool(rows: Any, labels: Any) -> list[tuple[str, Any]]:
    """Two estimators: a quick one, and a slow one that is more accurate."""
    small = make_pipeline(PCA(40, random_state=0), StandardScaler(), LogisticRegression())
    machine = make_pipeline(PCA(80, random_state=0), StandardScaler(), SVC(C=3))
    large = CalibratedClassifierCV(machine, cv=3, ensemble=False)
    return [("small", small.fit(rows, labels)), ("large", large.fit(rows, labels))]


def voting(estimators: list[tuple[str, Any]], rows: Any, labels: Any) -> VotingClassifier:
    """Both, always. It would fit them again, unless they are frozen."""
    frozen = [(name, FrozenEstimator(own)) for name, own in estimators]
    return VotingClassifier(frozen, voting="soft").fit(rows, labels)


def tuned(estimator: Any, rows: Any, labels: Any) -> TunedThresholdClassifierCV:
    """The same estimator, with the threshold of highest balanced accuracy."""
    own = TunedThresholdClassifierCV(FrozenEstimator(estimator), cv="prefit", refit=False)
    return own.fit(rows, labels)


def milliseconds(estimators: Iterable[Any], blocks: list[Any]) -> Any:
    """Milliseconds a row of predict on each of some blocks of rows, estimators taking turns."""
    turns = in_turns([own.predict for own in estimators], blocks)
    return np.array([[ms for _, ms in turn] for turn in turns]) / len(blocks[0])


def table(contenders: Mapping[str, Any], rows: Any, labels: Any) -> str:
    """Accuracy with its interval, balanced accuracy, and milliseconds an image."""
    together = np.median(milliseconds(contenders.values(), [rows] * TURNS), axis=0)
    # Rows differ in what they need, so their mean counts.
    alone = milliseconds(contenders.values(), list(rows[:ONE_BY_ONE, None])).mean(axis=0)
    lines = [
        "| | accuracy | balanced | ms an image | one by one |",
        "|---|---:|---:|---:|---:|",
    ]
    for (name, own), *ms in zip(contenders.items(), together, alone, strict=True):
        answers = own.predict(rows)
        correct = int((answers == labels).sum())
        low, high = (100 * end for end in wilson_interval(correct, len(rows)))
        balanced = balanced_accuracy_score(labels, answers)
        share = f"{correct / len(rows):.1%} ({low:.1f}–{high:.1f})"
        lines.append(f"| {name} | {share} | {balanced:.1%} | {ms[0]:.3f} | {ms[1]:.2f} |")
    return "\n".join(lines)


def main(images: int) -> None:
    data = np.load(FOLDER / "fashion_mnist_test.npz")
    rows = data["images"][:images].reshape(images, -1) / 255.0
    kinds = data["labels"][:images]
    train, val, test = np.split(np.arange(images), [images * 4 // 10, images * 7 // 10])

    estimators = pool(rows[train], kinds[train])
    within = 0.005
    own = CommitteeClassifier(estimators, within=within).fit(rows[val], kinds[val])
    print(f"**Ten classes**, {len(test):,} images, {conditions(0, len(test))}\n")
    contenders = {
        **dict(estimators),
        "`VotingClassifier`": voting(estimators, rows[val], kinds[val]),
        f"`CommitteeClassifier`, within {within}": own,
    }
    print(table(contenders, rows[test], kinds[test]))
    share = own.decision_path(rows[test])[:, 1].mean()
    print(f"\nThe committee is {own.cascade_}; large ran for {share:.0%} of the images.")
    promise = CommitteeClassifier(estimators, within=0.02, level=0.95).fit(rows[val], kinds[val])
    print(f"With `within=0.02, level=0.95`: {promise.certificate_.text}.\n")

    shirts = kinds == SHIRT
    estimators = pool(rows[train], shirts[train])
    own = CommitteeClassifier(estimators, within=within).fit(rows[val], shirts[val])
    fair = CommitteeClassifier(estimators, within=within, scoring="balanced_accuracy")
    print(f"**A shirt or not**, {shirts[test].mean():.0%} are\n")
    contenders = {
        **dict(estimators),
        "`TunedThresholdClassifierCV` of large": tuned(estimators[1][1], rows[val], shirts[val]),
        "`CommitteeClassifier`": own,
        'the same, `scoring="balanced_accuracy"`': fair.fit(rows[val], shirts[val]),
        "`TunedThresholdClassifierCV` of that": tuned(fair, rows[val], shirts[val]),
    }
    print(table(contenders, rows[test], shirts[test]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=10_000, help="fewer are quicker")
    main(parser.parse_args().images)
