"""What the user brings to a study, as csv: models outside the pool and training times."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from committee.errors import DataError
from committee.pool.pool import Pool
from committee.study.context import Reference, Training

_REFERENCE = ("name", "accuracy", "cost")


def read_references(path: Path) -> tuple[Reference, ...]:
    """Return models outside the pool from a csv: ``name``, ``accuracy`` and ``cost``."""
    where = f"--reference {path}"
    columns, records = _read(path, where)
    if missing := [name for name in _REFERENCE if name not in columns]:
        raise DataError(f"{where}: no column {missing[0]!r}; there must be {', '.join(_REFERENCE)}")
    references = []
    for line, record in records:
        accuracy = _number(record["accuracy"], f"{where}, line {line}: accuracy")
        cost = _number(record["cost"], f"{where}, line {line}: cost")
        if not 0 <= accuracy <= 1:
            raise DataError(
                f"{where}, line {line}: accuracy {accuracy:g} is not a share of 1: 0.795, not 79.5"
            )
        references.append(Reference(record["name"], accuracy, cost))
    return tuple(references)


def read_training(path: Path, pool: Pool) -> Training:
    """Return how long each model took to train, from a csv with ``name`` and a second column.

    Args:
        path: The heading of the second column is the unit of the times. A name is that of a model,
            or of a family, of which each training then took that time.
        pool: Whose models they are.
    """
    where = f"--training {path}"
    columns, records = _read(path, where)
    if len(columns) != 2 or columns[0] != "name":
        raise DataError(
            f"{where}: columns {', '.join(columns)}; there must be two, 'name' and the times, "
            "headed by their unit"
        )
    known_times = {}
    names = {n for each in pool.divisions for n in each.names} | pool.singles().keys()
    weights = {name: pool.weights_of(name) for name in sorted(names)}
    known = {*weights, *pool.families.values()}
    for line, record in records:
        if record["name"] not in known:
            raise DataError(
                f"{where}, line {line}: {record['name']!r} is neither a model nor a family"
            )
        known_times[record["name"]] = _number(record[columns[1]], f"{where}, line {line}: time")
    times = {}
    for name, trained in weights.items():
        keys = (name, trained, pool.families.get(trained, ""), pool.families.get(name, ""))
        key = next((key for key in keys if key in known_times), None)
        if key is None:
            raise DataError(f"{where}: no time for {name}; add a line for it or for its family")
        times[name] = known_times[key]
    return Training(columns[1], times, weights)


def _read(path: Path, where: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or [])
            records = [(reader.line_num, record) for record in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where}: cannot be read ({error})") from None
    for line, record in records:
        if None in record or None in record.values():
            raise DataError(f"{where}, line {line}: not as many cells as the heading has columns")
    return columns, records


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise DataError(f"{where} {text!r} is not a number of 0 or more")
    return number
