"""Reads one file of an import: outputs, labels, ids and costs, by the roles of its columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import (
    CostError,
    DataError,
    MisalignedError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from committee.names import class_names, class_order, permutation
from committee.pool.labels import indices
from committee.pool.plausibility import check_classes
from committee.rule.outputs import (
    WITH_CONFIDENCE,
    Kind,
    Outputs,
    checked_outputs,
    refuse_one_output,
)
from committee.store.roles import Roles, id_column, refuse_counting, roles_of
from committee.store.tables import Table
from committee.text import listed, printable, tidy

# What an array of the names of classes is called.
_CLASS_WORDS = ("class_names", "classes", "names")
# What exports write where there is no value, in small letters.
_NO_VALUE = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>", "#n/a"})
_TRUTHS = {"true": 1.0, "false": 0.0}
# Makes outcomes of values and confidences, NaN where there is no answer.
Fill = Callable[[Array, Array], Outputs]
# Called with a line that people should know.
Note = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Foreign:
    """One file's content.

    ``outputs`` is None for a file of labels; a label is -1 where there is none; ``costs`` are
    those of each sample, by column; ``gaps`` are True where a model gave no answer.
    """

    path: Path
    table: Table
    roles: Roles
    count: int
    outputs: Outputs | None = None
    labels: Array | None = None
    ids: tuple[str, ...] | None = None
    costs: Mapping[str, Array] = field(default_factory=dict)
    gaps: Array | None = None

    def rows(self, order: Array) -> Foreign:
        """Return the same samples in another order, indices of shape (N,)."""
        if (order == np.arange(self.count)).all():
            return self
        return replace(
            self,
            outputs=None if self.outputs is None else self.outputs.rows(order),
            labels=None if self.labels is None else self.labels[order],
            ids=None if self.ids is None else tuple(self.ids[row] for row in order.tolist()),
            costs={name: each[order] for name, each in self.costs.items()},
            gaps=None if self.gaps is None else self.gaps[order],
        )


class Reader:
    """Reads the files of one import: what one says of classes holds for the next.

    ``columns`` are the user's, by role; ``classes`` are empty until a file names them; ``tell`` is
    called with each line that people should know. ``fill`` makes outcomes of values and confidences
    some of which are NaN; None if every answer must be there.
    """

    def __init__(
        self,
        tables: Iterable[Table],
        kind: Kind,
        columns: Mapping[str, Sequence[str]],
        classes: tuple[str, ...],
        normalise: bool,
        tell: Note,
        fill: Fill | None = None,
    ) -> None:
        read = {table.path: table for table in tables}
        columns = _columns_there(columns, read.values())
        taken = {tidy(name) for names in columns.values() for name in names}
        naming = {path: _class_column(table, kind, taken) for path, table in read.items()}
        self._tables = {
            path: replace(
                table, columns={n: c for n, c in table.columns.items() if n != naming[path]}
            )
            for path, table in read.items()
        }
        # Names of classes in the order of the outputs, by the file that holds them.
        self._names = {path: _names_in(read[path], name) for path, name in naming.items() if name}
        self._kind = kind
        self._columns = columns
        self._normalise = normalise
        self._tell = tell
        self._fill = fill
        self._named_by: Path | None = None
        self.classes = classes

    def learn(self, path: Path) -> None:
        """Take the names of classes from a file, if none are known and its columns have names."""
        if not self.classes and path in self._names:
            self.classes, self._named_by = self._names[path], path
            return
        roles = roles_of(self._tables[path], self._kind, self._columns, self.classes)
        if self._kind in WITH_CONFIDENCE:
            return
        if not self.classes and roles.per_class and roles.outputs:
            _, self.classes = class_order(str(path), roles.outputs, ())
            self._named_by = path if self.classes else None
            if self.classes:
                self._tell(
                    f"{path}: its columns are taken for {len(self.classes):,} classes: "
                    f"{listed(self.classes)}; --classes holds them against a list"
                )

    def model(self, path: Path) -> Foreign:
        """Return what a file says of one model."""
        table = self._tables[path]
        roles = roles_of(table, self._kind, self._columns, self.classes)
        if table.part and roles.id is None:
            raise DataError(
                f"{path}: no ids say which rows of two models are of one sample. Name their column "
                "with --columns id=NAME, or give each model a file, all in one order"
            )
        if table.headless:
            self._tell(f"{path}: names no columns; all {len(roles.outputs)} are taken as outputs")
        readers = {"decisions": self._decisions, "outcomes": self._outcomes}
        outputs = readers.get(self._kind, self._rows)(table, roles)
        refuse_one_output(str(path), outputs)
        return self._with_samples(table, roles, outputs, len(outputs))

    def labels(self, path: Path) -> Foreign:
        """Return what a file of labels says."""
        table = self._tables[path]
        roles = roles_of(table, "labels", self._columns, self.classes)
        if roles.label is None:
            raise DataError(f"{path}: no 'label' in it; it has {listed(table.columns)}")
        return self._with_samples(table, roles, None, len(table.read(roles.label)))

    def _with_samples(
        self, table: Table, roles: Roles, outputs: Outputs | None, count: int
    ) -> Foreign:
        ids = None if roles.id is None else _ids(table, roles.id)
        own = self._names.get(table.path, ())
        labels = None if roles.label is None else _labels(table, roles.label, self.classes, own)
        gaps = self._gaps(table, roles)
        costs = {name: _costs(table, name, gaps) for name in roles.costs}
        for what, each in (("ids", ids), ("labels", labels)):
            if each is not None and len(each) != count:
                raise MisalignedError(f"{table.path}: {len(each)} {what}, but {count} samples")
        return Foreign(table.path, table, roles, count, outputs, labels, ids, costs, gaps)

    def _decisions(self, table: Table, roles: Roles) -> Outputs:
        decision, confidence = _pair(table, "decisions", "class", roles.decision, roles.confidence)
        own = self._names.get(table.path, ())
        classes = _labels(table, decision, self.classes, own)
        if (classes < 0).any():
            row = int((classes < 0).argmax())
            raise ShapeError(
                f"{table.path}: {table.place(row)}{_with_id(table, row)}: no class is decided in "
                f"{decision!r}; classes must be indices 0, 1, … or names"
            )
        return checked_outputs(
            str(table.path), "decisions", classes, _known_numbers(table, confidence)
        )

    def _outcomes(self, table: Table, roles: Roles) -> Outputs:
        where = str(table.path)
        names = _pair(table, "outcomes", "value", roles.value, roles.confidence)
        if self._fill is None:
            say = ", or say what it means: --missing wrong, --missing pass"
            value, confidence = (_known_numbers(table, name, say) for name in names)
            return checked_outputs(where, "outcomes", value, confidence)
        value, confidence = (_numbers(table, name, gaps=True) for name in names)
        own = self._fill(value, confidence)
        return checked_outputs(where, "outcomes", own.values, own.confidence)

    def _gaps(self, table: Table, roles: Roles) -> Array | None:
        """Return which rows have no answer, shape (N,); None if each must have one."""
        if self._fill is None or roles.value is None or roles.confidence is None:
            return None
        pair = (_numbers(table, n, gaps=True) for n in (roles.value, roles.confidence))
        return np.asarray(np.isnan(sum(pair)))

    def _rows(self, table: Table, roles: Roles) -> Outputs:
        where, names = str(table.path), roles.outputs
        if not names:
            raise DataError(
                f"{where}: no 'outputs' in it; it has {', '.join(table.columns)}. Say which they "
                "are with --columns outputs=NAME"
            )
        by_name = False
        if roles.per_class:
            values = np.stack([_numbers(table, name) for name in names], axis=1)
            order, by_name = self._order(table, names, values)
            values = values if order is None else values[:, order]
        else:
            values = _storable(table.read(names[0]))
            own = self._names.get(table.path)
            if own is not None:
                check_classes(where, Outputs("logits", values), len(own))
                values = values[:, permutation(where, own, self.classes, "classes")]
                by_name = True
        if self._named_by is not None and not by_name:
            self._tell(
                f"{where}: names no classes; they are taken in the order of {self._named_by}"
            )
        if self._normalise:
            wide = values.dtype == np.float64
            values = _normalised(where, values).astype(np.float64 if wide else np.float32)
        return checked_outputs(where, self._kind, values)

    def _order(
        self, table: Table, names: tuple[str, ...], values: Array
    ) -> tuple[Array | None, bool]:
        """Return the order of columns, and whether their names say it."""
        order, named = class_order(str(table.path), names, self.classes)
        if not named or self._named_by is not None:
            zeros = order is not None or self._kind == "probabilities"
            refuse_counting(table, names, values, zeros)
        return order, bool(named)


def _normalised(where: str, values: Array) -> Array:
    """Return rows divided by their sums: percent, bytes or rounded probabilities become exact."""
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 2 or not numbers.size:
        return numbers
    sums = numbers.sum(axis=1, keepdims=True)
    wrong = (numbers < 0).any(axis=1) | ~(sums[:, 0] > 0)
    if wrong.any() or sums.max() >= 2 * sums.min():
        row = int(wrong.argmax()) if wrong.any() else int(sums.argmax())
        raise ShapeError(
            f"{where}: --normalise divides rows of probabilities by their sums, but sample {row} "
            f"sums to {sums[row, 0]:.4g}, others to {np.median(sums):.4g}, the least number is "
            f"{numbers.min():.4g}. Are these logits? Declare so"
        )
    quotients: Array = numbers / sums
    return quotients


def _pair(
    table: Table, kind: str, role: str, name: str | None, confidence: str | None
) -> tuple[str, str]:
    """Return the columns of what a model gave and of its confidence."""
    if name is not None and confidence is not None:
        return name, confidence
    missing = [r for r, each in ((role, name), ("confidence", confidence)) if each is None]
    raise DataError(
        f"{table.path}: {kind} need {' and '.join(missing)}; see --help. It has columns "
        f"{listed(table.columns)}: say which is which with --columns {missing[0]}=NAME"
    )


def _columns_there(
    mapping: Mapping[str, Sequence[str]], tables: Iterable[Table]
) -> dict[str, list[str]]:
    """Return the user's columns by role; ``a,b`` that is no column itself is several."""
    there = {name for table in tables for name in table.columns}
    columns: dict[str, list[str]] = {}
    for role, names in mapping.items():
        parts = [
            part for name in names for part in ([name] if tidy(name) in there else name.split(","))
        ]
        for part in parts:
            if tidy(part) not in there:
                raise UnknownNameError.of(f"--columns {role}", "column", part, there)
        columns[role] = parts
    return columns


def _class_column(table: Table, kind: str, taken: Collection[str]) -> str | None:
    """Return the name of the array that names the classes; None if there is none."""
    words = _CLASS_WORDS if kind != "decisions" else _CLASS_WORDS[:1]
    there = [] if table.tabular else [w for w in words if w in table.columns and w not in taken]
    named = (w for w in there if table.columns[w].rank == 1 and table.read(w).dtype.kind in "US")
    return next(named, None)


def _names_in(table: Table, name: str) -> tuple[str, ...]:
    """Return the names of classes that an array holds."""
    texts = [
        each.decode("utf-8", "surrogateescape") if isinstance(each, bytes) else str(each)
        for each in table.read(name).tolist()
    ]
    return class_names(f"{table.path}: {name!r}", texts)


def _storable(values: Array) -> Array:
    """Return numbers of a type that stores keep: wider ones as float64."""
    wide = values.dtype.kind == "f" and values.dtype.itemsize > np.dtype(np.float64).itemsize
    return values.astype(np.float64) if wide else values


def _ids(table: Table, name: str) -> tuple[str, ...]:
    column = table.read(name)
    if column.ndim != 1:
        raise ShapeError(f"{table.path}: {name!r} must be one id a sample, not {column.shape}")
    ids = tuple(map(str, column.tolist()))
    rows: dict[str, int] = {}
    for row, each in enumerate(ids):
        if each in ("", "None", "nan"):
            raise DataError(f"{table.path}: {table.place(row)} has no id in {name!r}")
        if rows.setdefault(each, row) != row:
            raise MisalignedError(
                f"{table.path}: id {printable(each)!r} stands twice, in {table.place(rows[each])} "
                f"and {table.place(row)}. Each sample has one row"
            )
    return ids


def _numbers(table: Table, name: str, gaps: bool = False, remedy: str = "") -> Array:
    """Return a column as numbers; what is missing or no number is named with its place.

    With ``gaps`` what is missing is NaN, and true and false are 1 and 0; ``remedy`` ends the error.
    """
    column = table.read(name)
    if column.dtype.kind in "mMc":
        raise DataError(f"{table.path}: {name!r} holds {column.dtype}; write plain numbers")
    numbers = _as_numbers(column, gaps)
    if numbers is None:
        remedy = remedy or (
            "write a number, or nothing where there is none"
            if gaps
            else f"outputs must be numbers. If it is none: --columns ignore={name}"
        )
        cells = column.tolist()
        row = next(i for i, each in enumerate(cells) if _as_numbers(np.array([each]), gaps) is None)
        raise DataError(_no_number(table, name, row, column[row], remedy))
    if np.isposinf(numbers).any():
        row = int(np.isposinf(numbers).argmax())
        place = f"{table.place(row)}{_with_id(table, row)}"
        raise NotFiniteError(f"{table.path}: {place}: {name!r} is infinite; write a finite number")
    return numbers


def _as_numbers(column: Array, gaps: bool) -> Array | None:
    """Return a column as numbers, or None if one is no number."""
    with suppress(ValueError, TypeError):
        return np.asarray(column, np.float64)
    cells = [_number_text(each) for each in column.tolist()] if gaps else column.tolist()
    with suppress(ValueError, TypeError):
        return np.array(cells, np.float64)
    return None


def _number_text(cell: Any) -> Any:
    """Return a cell as the number that exports write so; any other as it is."""
    if not isinstance(cell, str):
        return cell
    text = cell.strip().casefold()
    if text in _NO_VALUE:
        return np.nan
    amount = text.removeprefix("$")
    return _TRUTHS.get(text, amount if _is_number(amount) else cell)


def _known_numbers(table: Table, name: str, remedy: str = "") -> Array:
    """Return a column as numbers, none of which is missing; ``remedy`` ends the error."""
    numbers = _numbers(table, name, gaps=True)
    missing = np.flatnonzero(np.isnan(numbers))
    if len(missing):
        raise DataError(_no_number(table, name, int(missing[0]), None) + remedy)
    return numbers


def _no_number(table: Table, name: str, row: int, value: Any, remedy: str = "") -> str:
    missing = value is None or not str(value).strip()
    what = "is missing" if missing else f"is {printable(str(value))[:40]!r}, no number"
    if missing:
        remedy = "fill it in, or leave the row out of all files"
    return f"{table.path}: {table.place(row)}{_with_id(table, row)}: {name!r} {what}; {remedy}"


def _with_id(table: Table, row: int) -> str:
    """Return the id of a row, for people, where a column says it."""
    name = id_column(table)
    return "" if name is None else f" (id {printable(str(table.read(name)[row]))!r})"


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _costs(table: Table, name: str, gaps: Array | None) -> Array:
    """Return what each sample cost; one without answer may lack it, and costs what others do."""
    remedy = f"a cost is a number from 0. Fix it, or leave the column out: --columns ignore={name}"
    values = _numbers(table, name, gaps=True, remedy=remedy)
    if gaps is not None:
        others = values[~np.isnan(values)]
        values = np.where(gaps & np.isnan(values) & bool(len(others)), _mean(others), values)
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        row = int(wrong.argmax())
        is_what = "missing" if np.isnan(values[row]) else f"{values[row]}"
        raise CostError(
            f"{table.path}: {table.place(row)}{_with_id(table, row)}: {name!r} is {is_what}; "
            f"{remedy}"
        )
    return values


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else 0.0


def _labels(table: Table, name: str, classes: Sequence[str], named: Sequence[str]) -> Array:
    """Return a column of labels or decided classes as indices, -1 where there is none."""
    labels = table.read(name)
    labels = labels[:, 0] if labels.shape[1:] == (1,) else labels
    if labels.ndim > 1:
        raise ShapeError(
            f"{table.path}: {printable(name)!r}: labels must be class indices or names, one a "
            f"sample, not {labels.dtype} {labels.shape}; of one-hot rows give argmax(axis=1)"
        )
    return indices(
        f"{table.path}: {printable(name)!r}",
        labels,
        classes,
        named,
        place=lambda row: table.place(row) + _with_id(table, row),
    )


def filled(values: Array, confidence: Array, missing: str, least: float) -> Outputs:
    """Return outcomes in which a missing answer, NaN in either, has the least value.

    Args:
        values: Shape (N,).
        confidence: Shape (N,).
        missing: ``pass``: the model gave no answer, and a cascade goes on to the next. ``wrong``:
            it gave a wrong one, as sure as its surest, so that no threshold hides it.
        least: The least value of an outcome.
    """
    gone = np.isnan(values) | np.isnan(confidence)
    known = confidence[~gone]
    sure = -np.inf if missing == "pass" else known.max(initial=-np.inf)
    return Outputs("outcomes", np.where(gone, least, values), np.where(gone, sure, confidence))
