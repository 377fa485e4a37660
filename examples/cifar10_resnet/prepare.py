"""Write the CIFAR-10 test images as the arrays that ``committee predict --data`` reads.

    python prepare.py DATA OUT

DATA holds test_batch.png (10,000 rows, one image of 32 x 32 RGB pixels a row) and test_labels.json.
OUT receives cifar10_val.npz (images 0-4999, to choose on), cifar10_test.npz (5000-9999, to judge
on) and cifar10_all.npz.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES = 10_000
PARTS = {"val": slice(0, 5_000), "test": slice(5_000, IMAGES), "all": slice(0, IMAGES)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="holds test_batch.png and test_labels.json")
    parser.add_argument("out", type=Path, help="folder for the arrays")
    arguments = parser.parse_args()
    image, answers = arguments.data / "test_batch.png", arguments.data / "test_labels.json"
    for file in (image, answers):
        if not file.is_file():
            parser.error(f"no file {file}")

    images = np.asarray(Image.open(image).convert("RGB")).reshape(IMAGES, 32, 32, 3)
    labels = np.array(json.loads(answers.read_text("utf-8")), np.int64)
    ids = np.array([f"test-{index:05d}" for index in range(IMAGES)])
    names = (Path(__file__).parent / "classes.txt").read_text("utf-8").split()

    arguments.out.mkdir(parents=True, exist_ok=True)
    for part, rows in PARTS.items():
        file = arguments.out / f"cifar10_{part}.npz"
        np.savez(
            file, images=images[rows], labels=labels[rows], ids=ids[rows], classes=np.array(names)
        )
        print(f"{file}: {len(labels[rows])} images")


if __name__ == "__main__":
    main()
