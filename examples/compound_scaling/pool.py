"""Turn the committed outputs of the family into a committee store, or into pools in memory.

    python examples/compound_scaling/pool.py --out predictions [--phi 0 1 ...] [--seed 0 1 ...]

Trains nothing and needs no torch. Without --phi and --seed it takes the 32 models of the study:
phi 0 to 7, seeds 0 to 3. Costs are multiply-adds.
"""

import argparse
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from committee import Pool
from committee.store.import_predictions import import_predictions

DATA = Path(__file__).parents[2] / "benchmarks" / "data" / "compound_scaling"
SPLITS = ("val", "test")
PHIS, SEEDS = tuple(range(8)), tuple(range(4))
# The candidates for the base cascade C0 of the paper's appendix E.2; each was trained once.
C0_PHIS = (-4, -3, -2, -1, 0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2)


def read_facts(data: Path = DATA) -> dict[str, Any]:
    """What pool.json says: classes, and the facts of every model."""
    return json.loads((data / "pool.json").read_text("utf-8"))


def chosen_models(
    phis: Collection[float] = PHIS, seeds: Collection[int] = SEEDS, data: Path = DATA
) -> list[dict[str, Any]]:
    """Facts of the models of some sizes and seeds, by phi and seed."""
    models = [m for m in read_facts(data)["models"] if m["phi"] in phis and m["seed"] in seeds]
    return sorted(models, key=lambda model: (model["phi"], model["seed"]))


def read_labels(split: str, data: Path = DATA) -> np.ndarray:
    """Class of each sample, shape (10000,)."""
    with np.load(data / f"{split}-labels.npz") as file:
        return file["label"]


def read_outputs(name: str, split: str, data: Path = DATA) -> np.ndarray:
    """Logits of one model, shape (10000, 10), float16."""
    with np.load(data / split / f"{name}.npz") as file:
        return file["outputs"]


def pool_of(
    split: str,
    phis: Collection[float] = PHIS,
    seeds: Collection[int] = SEEDS,
    data: Path = DATA,
) -> Pool:
    """The pool of one split, in memory."""
    models = chosen_models(phis, seeds, data)
    return Pool.from_arrays(
        read_labels(split, data),
        {model["name"]: read_outputs(model["name"], split, data) for model in models},
        kind="logits",
        costs={model["name"]: model["macs"] for model in models},
        unit="macs",
        classes=read_facts(data)["classes"],
        split=split,
        families={model["name"]: model["family"] for model in models},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="folder of the store")
    parser.add_argument("--phi", type=float, nargs="+", default=PHIS)
    parser.add_argument("--seed", type=int, nargs="+", default=SEEDS)
    arguments = parser.parse_args()
    models = chosen_models(arguments.phi, arguments.seed)
    for split in SPLITS:
        pool = import_predictions(
            {model["name"]: DATA / split / f"{model['name']}.npz" for model in models},
            arguments.out,
            kind="logits",
            split=split,
            labels=DATA / f"{split}-labels.npz",
            classes=read_facts()["classes"],
            costs={model["name"]: model["macs"] for model in models},
            unit="macs",
            families={model["name"]: model["family"] for model in models},
        )
        print(f"{arguments.out / split}: {len(pool.names)} models, {len(pool)} samples")


if __name__ == "__main__":
    main()
