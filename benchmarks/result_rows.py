"""Results of a benchmark: rows in a csv file, and the tables that a page shows of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

Row = TypeVar("Row")
_TYPES = {"str": str, "int": int, "float": float}


def read(path: Path, kind: type[Row]) -> list[Row]:
    """Return the rows of a file, of a dataclass of texts and numbers; none if there is no file."""
    if not path.exists():
        return []
    columns: Any = fields(kind)  # type: ignore[arg-type]
    with path.open(encoding="utf-8", newline="") as file:
        return [
            kind(**{each.name: _TYPES[str(each.type)](row[each.name]) for each in columns})
            for row in csv.DictReader(file)
        ]


def append(path: Path, rows: Sequence[Any]) -> None:
    """Append rows of one dataclass to a file, which is made if it is not there."""
    if not rows:
        return
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        names = [each.name for each in fields(rows[0])]
        writer = csv.DictWriter(file, names, lineterminator="\n")
        if new:
            writer.writeheader()
        for row in rows:
            own = asdict(row)
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in own.items()})


def write_tables(page: Path, tables: Mapping[str, str]) -> None:
    """Write tables into a page, each between the marks of its name."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        start, stop = text.index(begin) + len(begin), text.index(end)
        text = f"{text[:start]}\n{table}\n{text[stop:]}"
    page.write_text(text, encoding="utf-8")
