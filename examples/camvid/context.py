"""What it costs and saves to see a tile with context around it: quality at seams, macs, time.

    python context.py --data CAMVID --models /tmp/camvid/models --only medium

Every tile of every image is seen through its window, as if all tiles went on, so that nothing but
the windows differs from seeing whole images. Only images of the half that chooses are opened.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from committee.data.segmentation import open_segmentation
from committee.models.inputs import prepared
from committee.models.load import load_model
from committee.segment.metric import mean_iou
from committee.segment.outputs import pixel_logits, window_logits
from committee.segment.predict import _count_tiles
from committee.segment.tiling import Grid
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing

SIZE, IGNORED = (360, 480), 11
CLASSES = ("sky", "building", "pole", "road", "pavement", "tree")
CLASSES += ("sign", "fence", "car", "pedestrian", "bicyclist")
TILES = (120, 72, 40)
CONTEXTS = (0, 8, 16, 24, 32, 48, 64)


def main() -> None:
    """Print one row for each size of tiles and each context."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--only", default="medium")
    parser.add_argument("--rows", default="0:50:4")
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    recipe = Preprocessing(size=SIZE)
    path = (given.models / f"{given.only}.onnx").resolve()
    model, spec = load_model(ModelSpec(given.only, f"onnx:{path}", recipe), threads=1)
    data = open_segmentation(given.data / "val", "val", CLASSES, IGNORED, given.rows)
    inputs, labels = [], []
    for row in range(len(data.samples)):
        inputs.append(prepared(data.image(row, SIZE)[None], recipe)[0])
        labels.append(data.label(row, SIZE))
    grids = [Grid(SIZE)] + [Grid(SIZE, tile, context) for tile in TILES for context in CONTEXTS]
    counts = dict.fromkeys(grids, 0)
    same = dict.fromkeys(grids, 0.0)
    for image, label in zip(inputs, labels, strict=True):
        whole = pixel_logits(model, spec, image[None])[0].argmax(axis=0)
        for grid in grids:
            seen = _seen(model, spec, grid, image)
            own = np.where(grid.owned, grid.cut(label), -1)
            table = _count_tiles({"m": seen}, own, [("m",)], "tile_max_prob", IGNORED)
            counts[grid] = counts[grid] + table.of(("m",), np.arange(len(grid))).values.sum(axis=0)
            same[grid] += (grid.pasted(seen.argmax(axis=1)) == whole).mean() / len(inputs)
    # In turns, so that a drifting machine favours none; the least of all turns.
    best = dict.fromkeys(grids, float("inf"))
    for _ in range(given.turns):
        for grid in grids:
            began = time.process_time()
            _seen(model, spec, grid, inputs[0])
            best[grid] = min(best[grid], time.process_time() - began)
    full = float(spec.costs[0].value)
    print(f"{given.only}, {len(inputs)} images of the choosing half, one thread")
    print("| tiles | context | mIoU | as the whole image | multiply-adds | time |")
    print("|---|---|---|---|---|---|")
    for grid in grids:
        macs = full
        if grid.tile:
            window = replace(spec, preprocessing=replace(recipe, size=grid.window), costs=())
            macs = load_model(window, threads=1)[1].costs[0].value * len(grid)
        print(
            f"| {grid.tile or 'full'} | {grid.context} | {100 * float(mean_iou(counts[grid])):.2f} "
            f"| {100 * same[grid]:.2f} % of pixels | {macs / full:.2f}x "
            f"| {best[grid] / best[grids[0]]:.2f}x |",
            flush=True,
        )


def _seen(model: object, spec: ModelSpec, grid: Grid, image: np.ndarray) -> np.ndarray:
    if not grid.tile:
        return pixel_logits(model, spec, image[None])
    tiles = np.arange(len(grid))
    return window_logits(model, spec, grid, image[None], 0 * tiles, tiles, 16)


if __name__ == "__main__":
    main()
