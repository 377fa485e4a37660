"""How much less a committee keeps than it promised, by the number of samples that chose it.

    committee demo --out demo-out
    python examples/winners_curse.py demo-out/predictions

Takes the 10,000 labelled images of both splits together, draws some of them to choose the
cheapest committee that matches the largest model, judges it on the rest, and repeats. "With a
margin" asks for two standard errors of a paired difference more than the model has.
"""

import argparse
import dataclasses
import json
import math
from pathlib import Path

import numpy as np

import committee as cm
from committee.pool.evaluate import stored_decisions
from committee.pool.samples import Samples
from committee.rule.outputs import Outputs

SIZES = (250, 500, 1_000, 2_000, 5_000)
SEED = 2022


def whole(store: str) -> cm.Pool:
    """Both splits of a store as one pool."""
    val, test = cm.Pool.load(f"{store}/val"), cm.Pool.load(f"{store}/test")
    labels = np.concatenate([val.samples.labels, test.samples.labels])
    models = {}
    for name, model in val.models.items():
        values = np.concatenate([model.outputs.values, test.model(name).values])
        models[name] = dataclasses.replace(model, outputs=Outputs(val.kind, values))
    samples = Samples.of(labels, classes=val.samples.classes, split="all")
    return dataclasses.replace(val, samples=samples, models=models)


def right(cascade: cm.Cascade, pool: cm.Pool) -> np.ndarray:
    return stored_decisions(cascade, pool).predicted == pool.samples.labels


def draw(pool: cm.Pool, size: int, reference: str, margin: float, rng: np.random.Generator) -> dict:
    order = rng.permutation(len(pool))
    val = pool.rows(np.sort(order[:size]), "val")
    test = pool.rows(np.sort(order[size:]), "test")
    alone = cm.Cascade.of([reference])
    front = cm.search(val, 3)
    goal = right(alone, val)
    chosen = front[-1]
    for member in front:
        other = right(member.cascade, val)
        error = math.sqrt((other != goal).sum()) / size
        if member.evaluation.accuracy >= goal.mean() + margin * error:
            chosen = member
            break
    evaluated, single = cm.evaluate(chosen.cascade, test), cm.evaluate(alone, test)
    return {
        "promised": 100 * (chosen.evaluation.accuracy - goal.mean()),
        "kept": 100 * (evaluated.accuracy - single.accuracy),
        "speedup": single.average_cost / evaluated.average_cost,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    pool = whole(arguments.store)
    costs = pool.costs.values("macs")
    reference = max(costs, key=lambda name: costs[name])
    rows = []
    print(f"reference {reference}, {arguments.draws} draws each, seed {SEED}")
    print("chose on   margin   promised     kept   kept it in   speedup")
    for size in SIZES:
        for margin in (0.0, 2.0):
            rng = np.random.default_rng([SEED, size])
            draws = [draw(pool, size, reference, margin, rng) for _ in range(arguments.draws)]
            mean = {key: float(np.mean([d[key] for d in draws])) for key in draws[0]}
            share = float(np.mean([d["kept"] >= 0 for d in draws]))
            rows.append({"samples": size, "margin": margin, **mean, "share": share})
            print(
                f"{size:8,} {margin:8.0f} {mean['promised']:+10.2f} {mean['kept']:+8.2f} "
                f"{share:12.0%} {mean['speedup']:8.2f}x"
            )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
