"""Populations to draw samples from: what models say on every sample of a data set, a pool each.

Everything is read from ``benchmarks/data``.

>>> len(cifar10())
10000
"""

import importlib.util
import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np

from committee import Pool
from committee.store.published_costs import read_costs

ROOT = Path(__file__).parents[1]
DATA = ROOT / "benchmarks" / "data"
# The name of the split that holds all samples.
ALL = "all"


def imagenet() -> Pool:
    """Fourteen published models on the 50,000 ImageNet validation images: decisions.

    Costs are ``macs``, ``gpu_ms`` and ``cpu_ms``: milliseconds a sample.
    """
    folder = DATA / "imagenet_decisions"
    costs = {row.name: row.costs for row in read_costs(str(folder / "costs.csv"))}
    pool = Pool.from_arrays(
        _array(folder / "labels.npz", "label"),
        {name: _decisions(folder / f"{name}.npz") for name in costs},
        kind="decisions",
        split=ALL,
    )
    models = {
        name: replace(model, spec=replace(model.spec, costs=costs[name]))
        for name, model in pool.models.items()
    }
    return replace(pool, models=models)


def compound_scaling() -> Pool:
    """Eight sizes of one network, four trainings each, on 20,000 images of Fashion-MNIST."""
    return _compound_scaling(seeds=range(4))


def eight_sizes() -> Pool:
    """The first training of each size of :func:`compound_scaling`."""
    return _compound_scaling(seeds=[0])


def cifar10() -> Pool:
    """ResNet-20, 32, 44 and 56 on the 10,000 test images of CIFAR-10, in their order."""
    return _collected(DATA / "cifar10_resnet")


def embedded() -> Pool:
    """The six networks of ``committee demo`` on the 10,000 test images of Fashion-MNIST."""
    return _collected(DATA / "embedded")


def _compound_scaling(seeds: Collection[int]) -> Pool:
    example = _example("compound_scaling", "pool")
    parts = [example.pool_of(split, seeds=seeds) for split in example.SPLITS]
    return _joined(parts)


def _collected(folder: Path) -> Pool:
    """Return the pool whose files ``collect_outputs.py`` wrote."""
    facts = json.loads((folder / "pool.json").read_text("utf-8"))
    macs = {model["name"]: model["macs"] for model in facts["models"]}
    return Pool.from_arrays(
        _array(folder / "labels.npz", "label"),
        {name: _array(folder / f"{name}.npz", "outputs") for name in macs},
        kind=facts["kind"],
        costs=macs,
        ids=_array(folder / "labels.npz", "id"),
        classes=facts["classes"],
        split=ALL,
    )


def _joined(parts: list[Pool]) -> Pool:
    """Return one pool of logits of the samples of several splits, one split after the other."""
    first = parts[0]
    return Pool.from_arrays(
        np.concatenate([part.samples.labels for part in parts]),
        {name: np.concatenate([part.model(name).values for part in parts]) for name in first.names},
        kind="logits",
        costs=first.costs.values("macs"),
        ids=[f"{part.samples.split}-{id_}" for part in parts for id_ in part.samples.ids],
        classes=first.samples.classes,
        split=ALL,
        families=first.families,
    )


def _array(file: Path, name: str) -> np.ndarray:
    with np.load(file) as arrays:
        return arrays[name]


def _decisions(file: Path) -> tuple[np.ndarray, np.ndarray]:
    return _array(file, "class"), _array(file, "confidence")


def _example(folder: str, name: str) -> ModuleType:
    """Load a file of an example under a name of its own: several examples have a ``pool.py``."""
    path = ROOT / "examples" / folder / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{folder}_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
