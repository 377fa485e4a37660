"""Synthetic pools with correlated errors, for the benchmarks of search."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

SEED = 2022
# Samples and rows by which the signal of an accuracy is found.
ROWS = 256


@dataclass(frozen=True)
class Model:
    """One model: its name, its architecture by name and number, its training, cost and accuracy."""

    name: str
    family: str
    architecture: int
    training: int
    macs: float
    accuracy: float


def noise(stream: int, rows: int, classes: int, start: int) -> np.ndarray:
    """Normal noise of some rows; the same whoever asks."""
    rng = np.random.Generator(np.random.SFC64([SEED, stream, start]))
    return rng.standard_normal((rows, classes), dtype=np.float32)


def logits(model: Model, labels: np.ndarray, classes: int, start: int, gain: float) -> np.ndarray:
    """Rows of one model: what all models share, what an architecture shares, and its own."""
    rows = len(labels)
    ease = np.random.Generator(np.random.SFC64([SEED, 1, start])).normal(size=rows)
    z = 1.0 * noise(2, rows, classes, start)
    z += 0.3 * noise(100 + model.architecture, rows, classes, start)
    z += 0.4 * noise(1000 + 100 * model.architecture + model.training, rows, classes, start)
    z[np.arange(rows), labels] += (gain + 2.6 * ease).astype(np.float32)
    return 1.6 * z


def gain_for(model: Model, classes: int) -> float:
    """The signal that gives the model's accuracy, by halving, on some samples."""
    labels = np.random.default_rng(SEED).integers(0, classes, ROWS)
    low, high = 0.0, 12.0
    for _ in range(9):
        middle = (low + high) / 2
        hits = [
            logits(model, labels, classes, start * ROWS, middle).argmax(1) == labels
            for start in range(4)
        ]
        low, high = (middle, high) if np.mean(hits) < model.accuracy else (low, middle)
    return (low + high) / 2


def make_store(root: Path, models: list[Model], samples: int, classes: int) -> None:
    """Write a store of logits, float32; what is there already is kept."""
    from committee.pool.samples import Samples
    from committee.rule.outputs import Outputs
    from committee.store.entry import CHUNK_ROWS, Entry
    from committee.store.folder import writing
    from committee.store.split import Split

    labels = np.random.default_rng(SEED).integers(0, classes, samples)
    split = Samples.of(labels, split="val")
    specs = {
        model.name: {
            "kind": "logits",
            "fingerprint": f"{SEED}-{model.name}",
            "family": model.family,
            "costs": [
                {"value": model.macs, "unit": "macs", "source": "given", "conditions": "synthetic"}
            ],
        }
        for model in models
    }
    gains: dict[str, float] = {}
    with writing(root) as store:
        store.add_models(specs, ())
        store.add_samples(Split(split))
        for model in models:
            entry = Entry(
                kind="logits",
                samples=split.ids_fingerprint,
                classes=split.classes_fingerprint,
                fingerprint=specs[model.name]["fingerprint"],
                batch_size=0,
                dtype="float32",
                rows=samples,
            )
            writer = store.writer(split, model.name, entry)
            if not writer.missing:
                continue
            key = f"{model.architecture} {model.accuracy}"
            gain = gains.setdefault(key, gain_for(model, classes))
            for chunk in writer.missing:
                start = chunk * CHUNK_ROWS
                own = labels[start : start + CHUNK_ROWS]
                writer.write(chunk, Outputs("logits", logits(model, own, classes, start, gain)))
            print(f"made {model.name}", flush=True)
