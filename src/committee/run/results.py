"""Decisions as rows of a csv, jsonl or parquet file; its ending selects the format."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from committee.arrays import Array
from committee.errors import DataError, require
from committee.files import whole_file, write_bytes
from committee.store.chunks import is_begun
from committee.text import csv_text, first_line, from_cell, printable, writable

ENDINGS = (".csv", ".jsonl", ".parquet")
# Rows of a file that are in memory at once, where only exits are read.
_ROWS = 2**16
# What names of parts say of their samples: the first, and the end.
_SPAN = re.compile(r"part-(\d+)-(\d+)$")
# A larger number is no stage.
_MOST_STAGES = 2**31


@dataclass(frozen=True)
class Result:
    """The decision for one sample, or the reason why it could not be read.

    Args:
        id: Name of the sample.
        class_index: Predicted class; None if the sample is broken.
        class_name: Its name, or its index where classes are unnamed; empty if the sample is broken.
        confidence: Score at the exit; None if the sample is broken.
        stage: Stage of exit, from 0; None if the sample is broken.
        cost: Cost of the stages that ran; None if unknown.
        label: Class index, if the data has labels.
        label_name: Name of the label, or its index where classes are unnamed; empty without label.
        error: Why the sample could not be read; empty if it could.
        cascade: Fingerprint of the rule that decided; empty if unknown.
    """

    id: str
    class_index: int | None
    class_name: str
    confidence: float | None
    stage: int | None
    cost: float | None
    label: int | None
    label_name: str = ""
    error: str = ""
    cascade: str = field(default="", compare=False)

    @classmethod
    def broken(
        cls, name: str, reason: str, label: int | None, label_name: str = "", cascade: str = ""
    ) -> Result:
        """Return the row of a sample that cannot be read."""
        return cls(name, None, "", None, None, None, label, label_name, reason, cascade)


_TEXTS = ("id", "class_name", "label_name", "error", "cascade")


def check_ending(path: Path) -> None:
    """Raise an error, before any work is done, if results cannot be written to a path."""
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"{path}: results can be written as {', '.join(ENDINGS)}")
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file")
    if not path.parent.is_dir():
        raise DataError(
            f"{path}: folder {path.parent} does not exist; create it, or name another path"
        )
    if path.suffix.lower() == ".parquet":
        require("Writing parquet", "parquet")


def check_free(path: Path) -> None:
    """Raise an error, before any work is done, if a file of results exists.

    It may exist beside the parts of an interrupted run, which had permission to replace it.
    """
    if path.is_file() and not is_begun(path):
        raise DataError(f"{path}: is there already; name another file, or replace it: --overwrite")


def _write_results(path: Path, results: Sequence[Result]) -> Path:
    """Write all results atomically."""
    check_ending(path)
    return write_bytes(path, encoded_results(path, results))


def encoded_results(path: Path, results: Sequence[Result]) -> bytes:
    """Return the bytes of a file of results in the format that the path's ending names."""
    return encoded_rows(path, list(map(vars, results)), [each.name for each in fields(Result)])


def encoded_rows(path: Path, rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> bytes:
    """Return rows of these names in the format that the path's ending names."""
    # Any Unicode file can hold these texts.
    rows = [{k: writable(v) if isinstance(v, str) else v for k, v in r.items()} for r in rows]
    ending = path.suffix.lower()
    if ending == ".csv":
        return csv_text([names, *(row.values() for row in rows)]).encode()
    if ending == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema()), sink)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def read_results(path: Path) -> list[Result]:
    """Return the results of a file of ``committee run``, or of a folder of parquet parts."""
    try:
        return [Result(**row) for part in parts_of(path) for row in read_rows(part)]
    except (ValueError, TypeError, csv.Error) as error:
        raise DataError(
            f"{path}: holds no valid results ({printable(str(error))}). Delete it and run again"
        ) from None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file that :func:`encoded_rows` made."""
    ending = path.suffix.lower()
    if ending == ".jsonl":
        # splitlines would also split at characters that JSON does not escape.
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    if ending == ".csv":
        return _csv_rows(path)
    import pyarrow.parquet

    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


def parts_of(path: Path) -> list[Path]:
    """Return the files of results: the path, or of a folder its parquet parts in their order.

    Raises:
        DataError: If a folder has no parts, or the name of one says that samples before it lack.
    """
    if not path.is_dir():
        return [path]
    parts = sorted(path.glob("*.parquet"))
    if not parts:
        raise DataError(f"{path}: is a folder without *.parquet; name results of committee run")
    end = 0
    for span in filter(None, (_SPAN.search(part.stem) for part in parts)):
        if int(span[1]) != end:
            raise DataError(
                f"{path}: lacks samples {end:,} to {int(span[1]) - 1:,}, before {span[0]}. End the "
                "run first: the same command goes on"
            )
        end = int(span[2])
    return parts


def read_exits(path: Path, rule: str = "") -> Iterator[tuple[Array, Array]]:
    """Yield the exits of a file of results in their order, some rows at a time.

    Args:
        path: A file.
        rule: Fingerprint of the rule whose rows they must be, where they say it; empty for any.

    Yields:
        Stage of exit, -1 of a sample that failed, shape (n,), and score at the exit, shape (n,).

    Raises:
        DataError: If it holds no results, or rows of another rule.
    """
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"{path}: results are {', '.join(ENDINGS)}")
    read = {".csv": _csv_exits, ".jsonl": _jsonl_exits, ".parquet": _parquet_exits}
    try:
        for exits, rules in read[path.suffix.lower()](path):
            if rule:
                _check_rules(path, {*rules} - {"", None, rule}, rule)
            yield _checked_exits(exits)
    except (ValueError, TypeError, LookupError, ArithmeticError, OSError, csv.Error) as error:
        if getattr(error, "errno", None):  # of the disk; Arrow raises others of damage
            raise
        raise DataError(
            f"{path}: holds no results of committee run, with columns stage and confidence "
            f"({printable(first_line(error))})"
        ) from None


def _check_rules(path: Path, others: Collection[Any], own: str) -> None:
    for other in sorted(map(str, others))[:1]:
        raise DataError(
            f"{path}: another cascade made some or all of these results: its rule is "
            f"{printable(other)}, not {own}. Name the cascade file that was run, and give each "
            "cascade its own file of results"
        )


def _checked_exits(exits: Array) -> tuple[Array, Array]:
    if exits.ndim != 2:
        raise ValueError("a stage or a confidence is no number")
    stages, scores = exits
    failed = np.isnan(stages)
    if (np.isnan(scores) & ~failed).any():
        raise ValueError("a row has a stage, but no confidence")
    whole = (stages >= 0) & (stages < _MOST_STAGES) & (stages == np.floor(stages))
    if (wrong := ~failed & ~whole).any():
        raise ValueError(f"{stages[wrong][0]:g} is no stage, which are counted from 0")
    return np.where(failed, -1, stages).astype(np.int64), scores


# Stages and scores, shape (2, n), and the rules that the rows name.
_Exits = Iterator[tuple[Array, Iterable[Any]]]


def _csv_exits(path: Path) -> _Exits:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        stage, score = header.index("stage"), header.index("confidence")
        rule = header.index("cascade") if "cascade" in header else None
        while some := list(islice(rows, _ROWS)):
            exits = [[float(row[k] or "nan") for row in some] for k in (stage, score)]
            yield np.array(exits), [] if rule is None else {row[rule] for row in some}


def _jsonl_exits(path: Path) -> _Exits:
    with path.open(encoding="utf-8", newline="\n") as file:
        while some := [json.loads(line) for line in islice(file, _ROWS)]:
            exits = [[row[k] for row in some] for k in ("stage", "confidence")]
            yield np.array(exits, np.float64), {row.get("cascade") for row in some}


def _parquet_exits(path: Path) -> _Exits:
    require("Reading parquet", "parquet")
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
        rule = [name for name in file.schema_arrow.names if name == "cascade"]
        for batch in file.iter_batches(_ROWS, columns=["stage", "confidence", *rule]):
            columns = [batch.column(name) for name in ("stage", "confidence")]
            exits = [column.to_numpy(zero_copy_only=False) for column in columns]
            rules = batch.column("cascade").unique().to_pylist() if rule else []
            yield np.array(exits, np.float64), rules


def join_results(path: Path, parts: Sequence[Path]) -> Path:
    """Join several files of results into one, in order; memory holds one of them at a time."""
    if not parts:
        return _write_results(path, [])
    join = _join_parquet if path.suffix.lower() == ".parquet" else _join_text
    with whole_file(path) as file:
        join(file, parts)
    return path


def _join_text(file: IO[bytes], parts: Sequence[Path]) -> None:
    for number, part in enumerate(parts):
        data = part.read_bytes()
        # Only the first header is written; a header is one line.
        skip = data.index(b"\n") + 1 if part.suffix == ".csv" and number else 0
        file.write(data[skip:])


def _join_parquet(file: IO[bytes], parts: Sequence[Path]) -> None:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetWriter(file, schema()) as writer:
        for part in parts:
            writer.write_table(pyarrow.parquet.read_table(part))


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return [
        {
            k: from_cell(v) if k in _TEXTS else json.loads(v) if v else None
            for k, v in zip(header, row, strict=True)
        }
        for row in rows
    ]


def schema() -> Any:
    """Return the columns of results, for Arrow."""
    import pyarrow

    types = {"str": pyarrow.string(), "int | None": pyarrow.int64()}
    return pyarrow.schema(
        [(f.name, types.get(str(f.type), pyarrow.float64())) for f in fields(Result)]
    )
