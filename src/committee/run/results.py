"""Decisions as rows in a file: csv, jsonl or parquet, by the file's ending."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from committee.errors import DataError, MissingExtraError
from committee.files import write_bytes

ENDINGS = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Result:
    """One decided sample.

    Args:
        id: Name of the sample.
        class_index: Predicted class.
        class_name: Its name; empty if classes are unnamed.
        confidence: Score at the exit.
        stage: Stage of exit, from 0.
        cost: Cost of the stages that ran; None if unknown.
        label: Class index, if the data has labels.
    """

    id: str
    class_index: int
    class_name: str
    confidence: float
    stage: int
    cost: float | None
    label: int | None


def check_ending(path: Path) -> None:
    """Refuse an ending that no writer knows, before any work is done.

    Raises:
        DataError: If the ending is unknown.
        MissingExtraError: If pyarrow is needed and not installed.
    """
    if path.suffix not in ENDINGS:
        raise DataError(f"{path}: results can be written as {', '.join(ENDINGS)}")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401  # only to name the remedy before any work is done
        except ImportError:
            raise MissingExtraError.of("Writing parquet", "pyarrow", "parquet") from None


def write_results(path: Path, results: Sequence[Result]) -> Path:
    """Write all results, whole or not at all.

    Raises:
        DataError: If the ending is unknown.
    """
    check_ending(path)
    encode = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}[path.suffix]
    return write_bytes(path, encode(results))


def _csv(results: Sequence[Result]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(Result.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(result) for result in results)
    return text.getvalue().encode()


def _jsonl(results: Sequence[Result]) -> bytes:
    return "".join(json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in results).encode()


def _parquet(results: Sequence[Result]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema(
        [
            ("id", pyarrow.string()),
            ("class_index", pyarrow.int64()),
            ("class_name", pyarrow.string()),
            ("confidence", pyarrow.float64()),
            ("stage", pyarrow.int64()),
            ("cost", pyarrow.float64()),
            ("label", pyarrow.int64()),
        ]
    )
    table = pyarrow.Table.from_pylist([asdict(result) for result in results], schema)
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded
