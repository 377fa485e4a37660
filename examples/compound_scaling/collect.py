"""Gather what train.py wrote into the folder of committed outputs, and print the README's table.

    python examples/compound_scaling/collect.py --data DIR --out DIR [--to benchmarks/data/...]

--data and --out are those of train.py. Models that are not done are left out, by name.
"""

import argparse
import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from pool import C0_PHIS, DATA, PHIS, SEEDS, SPLITS, chosen_models, read_labels, read_outputs
from train import BATCH, EPOCHS, HELD_OUT, LEARNING_RATE, WEIGHT_DECAY, name_of, read_idx

from committee.files import write_bytes, write_text

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
STUDY = [(phi, seed) for phi in PHIS for seed in SEEDS]
C0 = [(phi, 0) for phi in C0_PHIS]
EPOCH_COLUMNS = ("epoch", "loss", "training_accuracy", "core_seconds", "wall_seconds")


def repacked(file: Path) -> bytes:
    """The outputs of an npz as an npz that is 4 % smaller, number for number the same.

    One class after the other, and LZMA, which np.load reads though np.savez does not write it:
    this keeps all models within 15 MB.
    """
    with np.load(file) as opened:
        outputs = np.asfortranarray(opened["outputs"])
    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, outputs, allow_pickle=False)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as npz:
        # A ZipInfo of its own carries no time of day, so that equal outputs make equal files.
        entry = zipfile.ZipInfo("outputs.npy")
        npz.writestr(entry, array.getvalue(), zipfile.ZIP_LZMA)
    return archive.getvalue()


def write_labels(data: Path, to: Path) -> None:
    """Labels of both splits, as ``committee import --labels`` reads them."""
    val = read_idx(data / "train-labels-idx1-ubyte.gz")[-HELD_OUT:]
    test = read_idx(data / "t10k-labels-idx1-ubyte.gz")
    for split, labels in zip(SPLITS, (val, test), strict=True):
        buffer = io.BytesIO()
        np.savez_compressed(buffer, label=labels)
        write_bytes(to / f"{split}-labels.npz", buffer.getvalue())


def write_facts(logs: list[dict[str, Any]], to: Path) -> None:
    """Facts of every model as pool.json, and the training log, one line an epoch."""
    recipe = {
        "epochs": EPOCHS,
        "batch": BATCH,
        "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
    }
    # The accuracies follow from the outputs, and the epochs stand in training.csv.
    models = [
        {key: value for key, value in log.items() if key not in ("epochs", "val_accuracy")}
        for log in logs
    ]
    facts = {
        "dataset": "Fashion-MNIST",
        "kind": "logits",
        "classes": CLASSES,
        "training": recipe,
        "models": models,
    }
    write_text(to / "pool.json", json.dumps(facts, indent=1) + "\n")
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(("name", *EPOCH_COLUMNS))
    for log in logs:
        writer.writerows((log["name"], *(e[k] for k in EPOCH_COLUMNS)) for e in log["epochs"])
    write_text(to / "training.csv", lines.getvalue())


def spread(values: list[float]) -> str:
    """Mean, and with more than one value the sample standard deviation."""
    mean = f"{np.mean(values):.2f}"
    return f"{mean} ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else mean


def table_row(phi: float, seeds: tuple[int, ...], data: Path) -> str:
    models = chosen_models([phi], seeds, data)
    first = models[0]
    accuracies = [
        [
            100 * float((read_outputs(m["name"], s, data).argmax(1) == read_labels(s, data)).mean())
            for m in models
        ]
        for s in SPLITS
    ]
    seconds = np.mean([model["training_core_seconds"] for model in models])
    cells = (
        f"{phi:g}",
        first["resolution"],
        ", ".join(map(str, first["widths"])),
        ", ".join(map(str, first["blocks"])),
        f"{first['macs'] / 1e6:.3f} M",
        f"{first['parameters']:,}",
        *map(spread, accuracies),
        f"{seconds:.0f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="holds the *-ubyte.gz files")
    parser.add_argument("--out", type=Path, required=True, help="what train.py wrote")
    parser.add_argument("--to", type=Path, default=DATA)
    arguments = parser.parse_args()
    logs = []
    for phi, seed in dict.fromkeys((*STUDY, *C0)):
        name = name_of(phi, seed)
        log = arguments.out / "logs" / f"{name}.json"
        if not log.is_file():
            print(f"{name} is not done, and left out")
            continue
        logs.append(json.loads(log.read_text("utf-8")))
        for split in SPLITS:
            file = Path(split) / f"{name}.npz"
            write_bytes(arguments.to / file, repacked(arguments.out / file))
    write_labels(arguments.data, arguments.to)
    write_facts(logs, arguments.to)
    for experiment in (STUDY, C0):
        done = {log["phi"] for log in logs} & {phi for phi, _ in experiment}
        seeds = tuple(sorted({seed for _, seed in experiment}))
        print()
        for phi in sorted(done):
            print(table_row(phi, seeds, arguments.to))


if __name__ == "__main__":
    main()
