"""Predictions on disk: resumable at any moment, checked, memory-mapped.

    STORE/store.json            classes, and of each model how it is loaded, what it costs, and
                                maybe how it is calibrated
    STORE/SPLIT/samples.json    ids, labels, a digest of each sample, and what was left out
    STORE/SPLIT/MODEL.npy       outputs (N, C); of decisions (N, 2): class and confidence
    STORE/SPLIT/MODEL.json      kind, fingerprints, and a checksum of every chunk of rows

While a model is being written its rows grow in MODEL.npy.part, and MODEL.json.part gets one line a
chunk, after the chunk itself is safely on disk. Whatever moment a process dies at, the chunks that
the journal vouches for are kept, the rest is computed again, and the files end up the same bytes.
"""

from committee.store.calibrations import (
    keep_calibrations,
    models_of,
    read_calibrations,
    remove_calibrations,
)
from committee.store.entry import CHUNK_ROWS, SCHEMA, Entry
from committee.store.folder import Store, known_classes, writing
from committee.store.reader import load_pool, stored_widths
from committee.store.relabel import Relabelled, relabel
from committee.store.settle import rest, settled, taken
from committee.store.split import (
    Split,
    check_split_name,
    known_split,
    note_on_chooser,
    note_on_labels,
    read_split,
)
from committee.store.writer import Writer

__all__ = [
    "CHUNK_ROWS",
    "SCHEMA",
    "Entry",
    "Relabelled",
    "Split",
    "Store",
    "Writer",
    "check_split_name",
    "keep_calibrations",
    "known_classes",
    "known_split",
    "load_pool",
    "models_of",
    "note_on_chooser",
    "note_on_labels",
    "read_calibrations",
    "read_split",
    "relabel",
    "remove_calibrations",
    "rest",
    "settled",
    "stored_widths",
    "taken",
    "writing",
]
