"""Cascade, router, early exit, ensemble or one smaller model, on the embedded pool.

Writes the tables of docs/which_one.md. The first 5,000 images choose, the others evaluate; a router
and the heads of early exits are fitted on the images that choose, out of fold where they choose.
It takes about two minutes of one core and needs scikit-learn, onnx and onnxruntime.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import committee as cm
import worlds
from committee.embedded import FOLDER, embedded_images, pool_file
from committee.models.inputs import prepared
from committee.pool.costs import spent
from committee.pool.evaluate import exits_of, source_of, stage_costs
from committee.pool.intervals import Estimate, paired_difference
from committee.profile.macs import graph_macs
from result_rows import write_tables

PAGE = Path(__file__).parents[1] / "docs" / "which_one.md"
LARGE, SHARE, FOLDS = "large", 0.25, 5
GRID = np.linspace(0, 1, 101)
# Where the network `large` may end early: the last outputs of its first two groups of blocks.
ENDS = ("relu_4", "relu_11")
HEAD = (
    "",
    "as accurate on val",
    "cheaper",
    "points to `large` on test",
    "at a quarter of the cost",
    "accuracy on test, %",
)

Array = np.ndarray[Any, Any]
# Whether each sample is answered correctly, and what it costs.
Outcome = tuple[Array, Array]


@dataclass(frozen=True)
class Option:
    """One way to answer: its name, and what it does on the images that choose and that evaluate."""

    name: str
    val: Outcome
    test: Callable[[], Outcome]


def halves() -> dict[str, cm.Pool]:
    """Return the images that choose and those that evaluate, as in ``committee demo``."""
    pool = worlds.embedded()
    rows = {"val": np.arange(5000), "test": np.arange(5000, 10_000)}
    return {split: pool.rows(some, split) for split, some in rows.items()}


def outcome(cascade: cm.Cascade, pool: cm.Pool) -> Outcome:
    """Return what a cascade does on a pool."""
    stages, values = exits_of(cascade, source_of(cascade, pool))
    return values, spent(stage_costs(cascade, pool, "macs"), stages)


def singles(pools: dict[str, cm.Pool]) -> Iterator[Option]:
    """Yield each model by itself."""
    return options(pools, [cm.Cascade.of([name]) for name in pools["val"].names])


def ensembles(pools: dict[str, cm.Pool]) -> Iterator[Option]:
    """Yield models and the ensembles of up to three of them."""
    yield from singles(pools)
    yield from options(pools, [each.cascade for each in cm.ensembles(pools["val"], 3)])


def cascades(pools: dict[str, cm.Pool]) -> Iterator[Option]:
    """Yield the front of all cascades of up to three models."""
    return options(pools, [each.cascade for each in cm.search(pools["val"], max_models=3)])


def options(pools: dict[str, cm.Pool], some: Sequence[cm.Cascade]) -> Iterator[Option]:
    """Yield committees, to be evaluated on the other images where they are chosen."""
    for each in some:
        yield Option(str(each), outcome(each, pools["val"]), partial(outcome, each, pools["test"]))


def pixels(split: str) -> Array:
    """Return what a router sees: each image as means of 2 x 2 pixels, shape (N, 196)."""
    images = embedded_images(split).read(range(5000)).reshape(-1, 14, 2, 14, 2)
    return images.mean((2, 4)).reshape(len(images), -1)


def fitted(model: Any, seen: dict[str, Array], target: Array) -> dict[str, Array]:
    """Return what a model predicts: out of fold on the images that fit it, and on the others."""
    val = cross_val_predict(model, seen["val"], target, cv=FOLDS, method="predict_proba")
    return {"val": val, "test": model.fit(seen["val"], target).predict_proba(seen["test"])}


def routers(pools: dict[str, cm.Pool]) -> Iterator[Option]:
    """Yield routers between a cheaper model and the largest, at every threshold.

    A router predicts from the image whether the cheaper model will be right; it costs nothing here.
    """
    seen = {split: pixels(split) for split in pools}
    alone = {
        name: {split: outcome(cm.Cascade.of([name]), pool) for split, pool in pools.items()}
        for name in pools["val"].names
    }
    large = alone.pop(LARGE)
    for name, cheap in alone.items():
        router = HistGradientBoostingClassifier(max_iter=40, random_state=0)
        ask = fitted(router, seen, cheap["val"][0] > 0)

        def routed(split: str, least: float, cheap: Any = cheap, ask: Any = ask) -> Outcome:
            sure = ask[split][:, 1] >= least
            both = zip(cheap[split], large[split], strict=True)
            correct, cost = (np.where(sure, each, other) for each, other in both)
            return correct, cost

        for least in np.quantile(ask["val"][:, 1], GRID):
            yield Option(f"{name} or {LARGE}", routed("val", least), partial(routed, "test", least))


def features(folder: Path, end: str) -> tuple[dict[str, Array], int]:
    """Return the features at an end of the largest network, and the multiply-adds up to there."""
    recipe, part = pool_file().models[-1].image, folder / f"{end}.onnx"
    onnx.utils.extract_model(str(FOLDER / f"{LARGE}.onnx"), str(part), ["image"], [end])
    run, found = onnxruntime.InferenceSession(part), {}
    for split in ("val", "test"):
        images = prepared(embedded_images(split).read(range(5000)), recipe)
        outputs = run.run(None, {"image": images})[0]
        side = outputs.shape[-1] // 7
        tiles = outputs.reshape(*outputs.shape[:2], 7, side, 7, side)
        found[split] = tiles.mean((3, 5)).reshape(len(images), -1)
    return found, graph_macs(part, (1, *images.shape[1:]))


def early_exits(pools: dict[str, cm.Pool]) -> Iterator[Option]:
    """Yield the largest network with early exits after its first two groups, at every threshold."""
    labels = {split: pool.samples.labels for split, pool in pools.items()}
    whole = {split: outcome(cm.Cascade.of([LARGE]), pool) for split, pool in pools.items()}
    with tempfile.TemporaryDirectory() as folder:
        found, macs = zip(*(features(Path(folder), end) for end in ENDS), strict=True)
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=200))
    chances = [fitted(head, each, labels["val"]) for each in found]
    costs = np.array([*macs, whole["val"][1][0]])

    def exited(split: str, least: tuple[float, float]) -> Outcome:
        sure = [each[split].max(1) >= t for each, t in zip(chances, least, strict=True)]
        right = [(each[split].argmax(1) == labels[split]) * 1.0 for each in chances]
        ends = np.select(sure, [0, 1], 2)
        return np.stack([*right, whole[split][0]])[ends, np.arange(len(ends))], costs[ends]

    grids = [np.append(np.quantile(each["val"].max(1), GRID[::4]), np.inf) for each in chances]
    for least in itertools.product(*grids):
        name = f"{LARGE}, two early exits"
        yield Option(name, exited("val", least), partial(exited, "test", least))


def figures(some: Sequence[Option], large: dict[str, Outcome]) -> list[str]:
    """Return the cells of the two choices of a method."""
    least, most = large["val"][0].mean() - 1e-12, SHARE * large["val"][1].mean()
    fits = [each for each in some if each.val[0].mean() >= least]
    cheapest = min(fits, key=lambda each: float(each.val[1].mean()))
    correct, cost = cheapest.test()
    gain = paired_difference(correct, large["test"][0])
    within = [each for each in some if each.val[1].mean() <= most]
    best = max(within, key=lambda each: float(each.val[0].mean()))
    return [
        cheapest.name,
        f"{large['test'][1].mean() / cost.mean():.2f}×",
        points(gain),
        best.name,
        f"{100 * best.test()[0].mean():.2f}",
    ]


def points(gain: Estimate) -> str:
    """Return a paired difference in points, with its interval."""
    ends = (f"{100 * each:+.2f}".replace("-", "−") for each in (gain.value, gain.low, gain.high))
    return "{} ({} to {})".format(*ends)


def main() -> None:
    """Write the table, and print each line as soon as it is there."""
    pools = halves()
    large = {split: outcome(cm.Cascade.of([LARGE]), pool) for split, pool in pools.items()}
    rows = []
    for name, method in METHODS.items():
        rows.append([name, *figures(list(method(pools)), large)])
        print(*rows[-1], sep=" | ", flush=True)
    write_tables(PAGE, {"methods": table_of(rows)})


def table_of(rows: Sequence[Sequence[str]]) -> str:
    """Return the table of all methods."""
    return "\n".join(f"| {' | '.join(each)} |" for each in (HEAD, ["---"] * len(HEAD), *rows))


METHODS = {
    "one model": singles,
    "ensemble of up to three": ensembles,
    "router": routers,
    "early exit": early_exits,
    "cascade of up to three": cascades,
}

if __name__ == "__main__":
    main()
