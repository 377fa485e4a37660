"""Semantic segmentation: a decision for each pixel, an exit for each cell of the picture.

The first stage of a cascade sees the whole picture. Each cell of a grid is then scored by itself,
and the cells that go on are seen by the next models, with some context around them. A model that
sees cells is a model of its own in the pool: the same weights at another size, at another cost. So
rows of such a pool are cells, and everything else is as for other tasks.
"""

from committee.dense.cells import Grid
from committee.dense.counting import Table, count_cells
from committee.dense.predict import predict_cells
from committee.dense.run import Segmented, Segmenter, check_table, grid_of, segment_into
from committee.dense.settings import Settings, read_settings
from committee.dense.store import (
    LeftOut,
    grids_of,
    is_cells_store,
    left_out,
    load_cells,
    load_pictures,
)

__all__ = [
    "Grid",
    "LeftOut",
    "Segmented",
    "Segmenter",
    "Settings",
    "Table",
    "check_table",
    "count_cells",
    "grid_of",
    "grids_of",
    "is_cells_store",
    "left_out",
    "load_cells",
    "load_pictures",
    "predict_cells",
    "read_settings",
    "segment_into",
]
