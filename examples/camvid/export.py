"""Export trained networks to ONNX graphs that take images of any size.

python export.py --weights /tmp/camvid --out models
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from networks import LAYOUTS, network


def main() -> None:
    """Export every network that has weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    for name in LAYOUTS:
        file = given.weights / f"{name}.pt"
        if not file.exists():
            continue
        model = network(name).eval()
        model.load_state_dict(torch.load(file, weights_only=True))
        target = given.out / f"{name}.onnx"
        torch.onnx.export(
            model,
            (torch.zeros(2, 3, 168, 200),),
            target,
            dynamo=True,
            dynamic_shapes=({0: batch, 2: height, 3: width},),
            external_data=False,
            verbose=False,
        )
        print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
