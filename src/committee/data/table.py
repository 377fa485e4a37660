"""``FILE.csv``: paths of sample files and, if known, their labels."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from committee.arrays import Array
from committee.data.base import Dataset
from committee.data.files import IMAGES, FileKind
from committee.errors import DataError
from committee.pool.labels import LabelMode, indices, labelled, unused_note
from committee.pool.samples import Samples
from committee.text import from_cell, is_ours, listed, printable, tidy, word

# Names of columns, in small letters; the first that is there counts.
PATH_WORDS = (
    *("path", "paths", "file", "files", "filename", "file_name", "filepath", "file_path"),
    *("image", "image_path", "img", "img_path", "image_file", "clip", "video", "video_path"),
)
# Names of labels in any table; beside predictions a column "class" is what a model decided.
TRUTH_WORDS = (
    *("label", "labels", "target", "targets", "category", "categories", "y", "y_true", "ytrue"),
    *("truth", "true", "true_label", "true_class", "gt", "gt_label", "groundtruth", "ground_truth"),
    *("actual", "actual_label", "gold", "gold_label", "expected", "expected_label", "label_id"),
    *("label_name", "label_index", "label_idx"),
)
LABEL_WORDS = (*TRUTH_WORDS, "class", "class_name", "classname", "class_index", "class_id")
ID_WORDS = ("id", "ids", "sample", "sample_id")


@dataclass(frozen=True, eq=False)
class Table:
    """A csv file with a header.

    ``header`` is in small letters and ``spelled`` as the file has it; ``lines`` has the line in
    which each row ends.
    """

    path: Path
    header: tuple[str, ...]
    spelled: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """Return the cells of a column."""
        at = self.header.index(name)
        return [row[at] for row in self.rows]

    def place(self, row: int) -> str:
        """Return where a row stands, for errors."""
        return f"line {self.lines[row]}"

    def named(self, words: Sequence[str]) -> str:
        """Return the column that has one of these names; empty if none has."""
        spelled = {word(name): name for name in reversed(self.header)}
        return next((spelled[each] for each in words if each in spelled), "")

    def unused(self, used: Collection[str]) -> str:
        """Return a note on the columns that are not used; empty if all are."""
        others = [name for name in self.header if name not in used]
        near = [each for each in others if difflib.get_close_matches(each, LABEL_WORDS, 1, 0.75)]
        hint = "; a column of labels is called 'label'" if near and len(used) < 2 else ""
        return f"{unused_note(others)}{hint}"


def read_table(path: Path) -> Table:
    """Read a csv file with a header; names in it may hold bytes that are no UTF-8."""
    rows, lines = [], []
    try:
        # Spreadsheets put a byte order mark before the header.
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.reader(file)
            for row in reader:
                rows.append(row)
                lines.append(reader.line_num)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: no readable csv file ({error})") from None
    spelled = tuple(map(tidy, rows[0])) if rows else ()
    header = tuple(name.lower() for name in spelled)
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"{path}: columns {listed(twice)} stand twice; give each a name of its own")
    full = [number for number, row in enumerate(rows) if row and number]
    uneven = [lines[number] for number in full if len(rows[number]) != len(header)]
    if uneven:
        raise DataError(f"{path}: line {uneven[0]} has not the {len(header)} columns of the header")
    if is_ours(header):
        rows = [[*map(from_cell, row)] for row in rows]
    return Table(path, header, spelled, [rows[n] for n in full], [lines[n] for n in full])


def read_labels(path: Path, classes: Sequence[str]) -> tuple[list[str], Array]:
    """Return the ids of a csv file with columns id (or path) and label, and their class indices.

    A label of -1 is none, as an empty cell gives it. Ids are as the file writes them.
    """
    table = read_table(path)
    name, label = table.named((*ID_WORDS, *PATH_WORDS)), table.named(LABEL_WORDS)
    if not name or not label:
        raise DataError(
            f"{path}: its first line must name the columns id (or path) and label, separated by "
            f"commas; it names {listed(table.header)}"
        )
    texts = [text if text in classes else from_cell(text) for text in table.column(label)]
    return table.column(name), indices(str(path), texts, classes, place=table.place)


def open_csv(
    path: Path,
    split: str,
    classes: Sequence[str],
    kind: FileKind = IMAGES,
    labels: LabelMode = "must fit",
) -> Dataset:
    """Open a csv file with a header that names ``path`` and, if known, ``label``.

    Paths are relative to the folder of the file, and may lead out of it. A label is the name of a
    class or, where none of the labels is, an index 0, 1, ….
    """
    table = read_table(path)
    paths, label = table.named(PATH_WORDS), table.named(LABEL_WORDS)
    if not paths:
        raise DataError(
            f"{path}: its first line must name the columns path and, if known, label, with commas "
            f"between; it is '{printable(','.join(table.header)[:60])}'"
        )
    if not table.rows:
        raise DataError(f"{path}: names no {kind.word}; write one path per line after the header")
    notes = [table.unused({paths, label} - {""})]
    if not label and labels == "must fit":
        notes.append("no labels, because no column is called label, class or target")
    ids = tuple(table.column(paths))
    samples = Samples(ids, None, tuple(classes), split, notes=tuple(filter(None, notes)))
    if label:
        cells = table.column(label)
        samples = labelled(
            samples, labels, lambda: indices(str(path), cells, samples.classes, place=table.place)
        )
    return kind.open(path.parent, samples)
