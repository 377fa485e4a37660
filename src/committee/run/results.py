"""Decisions as rows in a file: csv, jsonl or parquet, by the file's ending."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from committee.errors import DataError, MissingExtraError
from committee.files import naming, write_bytes

ENDINGS = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Result:
    """One sample: what was decided, or why it could not be read.

    Args:
        id: Name of the sample.
        class_index: Predicted class; None if the sample is broken.
        class_name: Its name; empty if classes are unnamed.
        confidence: Score at the exit; None if the sample is broken.
        stage: Stage of exit, from 0; None if the sample is broken.
        cost: Cost of the stages that ran; None if unknown.
        label: Class index, if the data has labels.
        error: Why the sample could not be read; empty if it could.
    """

    id: str
    class_index: int | None
    class_name: str
    confidence: float | None
    stage: int | None
    cost: float | None
    label: int | None
    error: str = ""

    @classmethod
    def broken(cls, name: str, reason: str, label: int | None) -> Result:
        """The row of a sample that cannot be read."""
        return cls(name, None, "", None, None, None, label, reason)


_TEXTS = ("id", "class_name", "error")


def check_ending(path: Path) -> None:
    """Refuse an ending that no writer knows, or a folder, before any work is done.

    Raises:
        DataError: If the ending is unknown, or a folder is there.
        MissingExtraError: If pyarrow is needed and not installed.
    """
    if path.suffix not in ENDINGS:
        raise DataError(f"{path}: results can be written as {', '.join(ENDINGS)}")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file that may be written")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401  # only to name the remedy before any work is done
        except ImportError:
            raise MissingExtraError.of("Writing parquet", "pyarrow", "parquet") from None


def check_free(path: Path) -> None:
    """Refuse a file of results that is there already, before any work is done.

    Beside the parts of a run that was stopped it may be: whoever began that run was asked.

    Raises:
        DataError: If it is there.
    """
    if path.is_file() and not path.with_name(f"{path.name}.part").exists():
        raise DataError(f"{path}: is there already; name another file, or replace it: --overwrite")


def write_results(path: Path, results: Sequence[Result]) -> Path:
    """Write all results, whole or not at all.

    Raises:
        DataError: If the ending is unknown.
    """
    check_ending(path)
    encode = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}[path.suffix]
    return write_bytes(path, encode(results))


def read_results(path: Path) -> list[Result]:
    """Read what :func:`write_results` wrote."""
    rows = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}[path.suffix](path)
    return [Result(**row) for row in rows]


def join_results(path: Path, parts: Sequence[Path]) -> Path:
    """Write one file of the results in several, in their order; memory holds one of them.

    Raises:
        DataError: If the ending is unknown.
    """
    check_ending(path)
    if not parts:
        return write_results(path, [])
    unfinished = path.with_name(f"{path.name}.tmp")
    with naming(path):
        if path.suffix == ".parquet":
            _join_parquet(unfinished, parts)
        else:
            with unfinished.open("wb") as file:
                for number, part in enumerate(parts):
                    data = part.read_bytes()
                    # Only the first header is kept; it has no line feed in it.
                    skip = data.index(b"\n") + 1 if path.suffix == ".csv" and number else 0
                    file.write(data[skip:])
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
    return path


def _join_parquet(path: Path, parts: Sequence[Path]) -> None:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetWriter(path, _schema()) as writer:
        for part in parts:
            writer.write_table(pyarrow.parquet.read_table(part))


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {k: v if k in _TEXTS else json.loads(v) if v else None for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


def _jsonl_rows(path: Path) -> list[dict[str, Any]]:
    # Not splitlines: it breaks lines at characters that JSON leaves as they are.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


def _csv(results: Sequence[Result]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(Result.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(result) for result in results)
    return text.getvalue().encode()


def _jsonl(results: Sequence[Result]) -> bytes:
    return "".join(json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in results).encode()


def _schema() -> Any:
    import pyarrow

    return pyarrow.schema(
        [
            ("id", pyarrow.string()),
            ("class_index", pyarrow.int64()),
            ("class_name", pyarrow.string()),
            ("confidence", pyarrow.float64()),
            ("stage", pyarrow.int64()),
            ("cost", pyarrow.float64()),
            ("label", pyarrow.int64()),
            ("error", pyarrow.string()),
        ]
    )


def _parquet(results: Sequence[Result]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist([asdict(result) for result in results], _schema())
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded
