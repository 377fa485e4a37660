"""Write the logits of a store into the folder of committed data, small enough for the repository.

    python benchmarks/collect_outputs.py predictions/all benchmarks/data/cifar10_resnet

Each model becomes NAME.npz; ``labels.npz`` and ``pool.json`` hold the rest. The files go into
``committee import`` as they are.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from committee import Pool
from committee.files import write_text


def compact(logits: np.ndarray) -> np.ndarray:
    """Logits less the largest of their row, which changes no probability, as float16.

    Float16 is finest near 0, so the classes that compete for the first place are told apart.

    >>> compact(np.array([[20.0, 20.001, 3.0]])).argmax()
    np.int64(1)
    """
    return (logits - logits.max(axis=1, keepdims=True)).astype(np.float16)


def write(pool: Pool, to: Path) -> None:
    """Write the outputs, the labels and what is known of the models of a pool."""
    to.mkdir(parents=True, exist_ok=True)
    for name, outputs in pool.outputs.items():
        small = compact(np.asarray(outputs.values))
        if (small.argmax(axis=1) != outputs.predicted()).any():
            raise SystemExit(f"{name}: float16 changes an answer; keep float32")
        np.savez_compressed(to / f"{name}.npz", outputs=np.asfortranarray(small))
    labels, ids = pool.samples.labels, np.array(pool.samples.ids)
    np.savez_compressed(to / "labels.npz", label=labels.astype(np.uint8), id=ids)
    macs = pool.costs.values("macs")
    facts = {
        "kind": pool.kind,
        "classes": pool.samples.classes,
        "models": [{"name": name, "macs": round(macs[name])} for name in pool.names],
    }
    write_text(to / "pool.json", json.dumps(facts, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("split", type=Path, help="STORE/SPLIT")
    parser.add_argument("to", type=Path, help="folder of benchmarks/data")
    arguments = parser.parse_args()
    write(Pool.load(arguments.split), arguments.to)


if __name__ == "__main__":
    main()
