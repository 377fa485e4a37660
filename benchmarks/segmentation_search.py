"""Search over the tiles of 500 images of 1024 x 2048 with 19 classes: time and memory.

    python benchmarks/segmentation_search.py [--models 3] [--tile 128] [--images 500]

Scores and counts are drawn at random; time and memory depend on how many there are alone.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from committee import search
from committee.pool.layout import Layout
from committee.pool.pool_model import PoolModel
from committee.pool.samples import Samples
from committee.rule.outputs import Outputs
from committee.segment.pool import Table, TilePool
from committee.segment.store import _keys_of
from committee.segment.tiling import Grid
from committee.spec.cost import Cost
from committee.spec.model import ImportedModel

CLASSES = 19


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--images", type=int, default=500)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    grid = Grid((1024, 2048), given.tile, 32)
    whole = [f"model{i}" for i in range(given.models)]
    views = {f"{name}@{grid.name}": name for name in whole}
    keys = _keys_of(whole, views, min(3, given.models))
    tiles = given.images * len(grid)
    pixels = given.tile**2
    labelled = rng.multinomial(pixels, np.full(CLASSES, 1 / CLASSES), tiles).astype(np.uint32)
    both = np.empty((len(keys), tiles, CLASSES), np.uint32)
    predicted = np.empty_like(both)
    for row, key in enumerate(keys):
        predicted[row] = labelled[rng.permutation(tiles)]
        share = 0.5 + 0.1 * len(key)
        both[row] = rng.binomial(np.minimum(predicted[row], labelled), share)
    scores = rng.random((len(keys), tiles))
    named = {key: row for row, key in enumerate(keys)}
    table = Table(named, scores, both, predicted, labelled, "mean_logits", "tile_max_prob>0.5")
    kept = sum(each.nbytes for each in (scores, both, predicted, labelled))
    names = [*whole, *views]
    models = {
        name: PoolModel(
            ImportedModel(name, costs=(Cost(float(1 + i % given.models), "macs"),)),
            Outputs("logits", np.empty((tiles, 0))),
        )
        for i, name in enumerate(names)
    }
    ids = tuple(map(str, range(tiles)))
    pool = TilePool(
        Samples(ids, None, split="val", parts=len(grid)),
        models,
        Layout(whole_of=views),
        table=table,
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter(), time.process_time()
    front = search(pool)
    wall, core = time.perf_counter() - began[0], time.process_time() - began[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{given.models} models, {given.images} images, {tiles:,} tiles of {given.tile}: "
        f"{kept / 1e6:,.0f} MB kept for {len(keys)} sets of models; "
        f"{front.settings.cascades:,.0f} cascades of {front.settings.sequences} sequences in "
        f"{core:.1f} core-seconds ({wall:.0f} s), peak {peak / 1e3:,.0f} MB "
        f"(before the search {before / 1e3:,.0f} MB)"
    )


if __name__ == "__main__":
    main()
