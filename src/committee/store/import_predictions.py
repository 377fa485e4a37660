"""Predictions made elsewhere: arrays and tables from any framework, into a store.

What a file may hold, by its ending:

    npy                 the outputs (N, C) alone
    npz, safetensors    ``outputs``, or ``class`` and ``confidence`` of decisions; maybe ``label``,
                        ``id`` and ``cost`` beside them
    csv, parquet        the same as columns; outputs are one column a class, or one column of lists

Every column has a role or is refused by name; see :mod:`committee.store.roles`. Columns
named by class are found by name, samples that have ids are joined by id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import (
    CommitteeError,
    CostError,
    DataError,
    MisalignedError,
    ShapeError,
    UnknownNameError,
)
from committee.names import class_names, class_order, permutation
from committee.pool.identity import shared
from committee.pool.labels import indices
from committee.pool.plausibility import (
    check_alike,
    check_classes,
    check_declared,
    normalised,
    notes_on,
)
from committee.pool.pool import Pool
from committee.pool.samples import Samples
from committee.rule.outputs import Kind, Outputs, check_kind, checked_outputs, refuse_one_output
from committee.spec.cost import Cost, CostTable
from committee.spec.model import ImportedModel, check_name
from committee.store.entry import CHUNK_ROWS, Entry
from committee.store.folder import known_classes, writing
from committee.store.reader import stored_widths
from committee.store.roles import Roles, check_mapping, id_column, refuse_counting, roles_of
from committee.store.split import Split, check_split_name, known_split, other_splits
from committee.store.tables import Table, read_table
from committee.text import listed, printable, tidy

# What an array of the names of classes is called.
_CLASS_WORDS = ("class_names", "classes", "names")
# Called with a line that people should know.
Note = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Foreign:
    """One file's content.

    Args:
        path: The file.
        table: What it was read from, for errors.
        roles: What its columns are.
        outputs: Outputs; None of a file of labels.
        labels: Index of each label, -1 where there is none, shape (N,), or None.
        ids: Ids, or None.
        costs: Mean cost of a sample, by unit; the unit is empty where the column names none.
    """

    path: Path
    table: Table
    roles: Roles
    count: int
    outputs: Outputs | None = None
    labels: Array | None = None
    ids: tuple[str, ...] | None = None
    costs: Mapping[str, float] = field(default_factory=dict)

    def rows(self, order: Array) -> Foreign:
        """Return the same samples in another order, indices of shape (N,)."""
        if (order == np.arange(self.count)).all():
            return self
        return replace(
            self,
            outputs=None if self.outputs is None else self.outputs.rows(order),
            labels=None if self.labels is None else self.labels[order],
            ids=None if self.ids is None else tuple(self.ids[row] for row in order.tolist()),
        )


def import_predictions(
    files: Mapping[str, Path],
    store: str | Path,
    *,
    kind: str,
    split: str,
    labels: Path | None = None,
    classes: Sequence[str] = (),
    costs: Mapping[str, float] | None = None,
    unit: str = "macs",
    families: Mapping[str, str] | None = None,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    normalise: bool = False,
    note: Note | None = None,
) -> Pool:
    """Put outputs made elsewhere into a store.

    Args:
        files: For each model the file of its outputs.
        store: Folder of the store; made if it is not there.
        kind: ``logits``, ``probabilities`` or ``decisions``.
        split: Name of the split.
        labels: A file of labels, and maybe ids; else they stand in the files themselves.
        classes: Names of the classes, in the order that outputs are to have; those that the store
            knows already, or that the files name, if left out.
        costs: What one sample costs in each model, in ``unit``.
        unit: Unit of the costs.
        families: Of models that are trainings of one architecture, the architecture's name.
        columns: What columns are, where their names do not say it: names by role, which is ``id``,
            ``label``, ``class``, ``confidence``, ``cost``, ``outputs`` or ``ignore``.
        normalise: Whether rows of probabilities are divided by their sums.
        note: Called with a line for each thing that people should know.

    Returns:
        The pool of these models.

    Raises:
        CostError: If a file and ``costs`` give a model other costs in one unit.
        DataError: If a file cannot be read, or a column is none of what is taken.
        MisalignedError: If files differ in samples, classes or labels.
        ShapeError, NotFiniteError: If outputs cannot be used; the file is named.
    """
    kind, tell = check_kind("import", kind), note or (lambda line: None)
    if normalise and kind != "probabilities":
        raise ShapeError(f"import: --normalise is for probabilities; these are {kind}")
    check_split_name(split)
    for name in files:
        check_name("import", name)
    for what, table in (("cost", costs), ("family", families)):
        for name in table or {}:
            if name not in files:
                raise UnknownNameError.of(f"import: {what}", "model", name, files)
    mapping = {r: [n] if isinstance(n, str) else list(n) for r, n in (columns or {}).items()}
    check_mapping(mapping)
    folder = Path(store) / split
    unnamed = not classes and (Path(store) / "store.json").is_file()
    classes = tuple(classes) or known_classes(Path(store))
    # What a store has without names stays so.
    unnamed = unnamed and not classes
    read = {path: read_table(path) for path in [*files.values(), *([labels] if labels else [])]}
    _check_columns(mapping, read)
    asked = {tidy(name) for names in mapping.values() for name in names}
    naming = {path: _class_column(table, kind, asked) for path, table in read.items()}
    tables = {path: _without(table, naming[path]) for path, table in read.items()}
    told = {path: _told_classes(read[path], name) for path, name in naming.items() if name}
    reader = _Reader(kind, mapping, classes, normalise, told)
    for path in files.values():
        reader.learn(tables[path], tell)
    foreign = {name: reader.model(tables[path], tell) for name, path in files.items()}
    beside = [] if labels is None else [reader.labels(tables[labels])]
    classes = () if unnamed else reader.classes
    for each in foreign.values():
        assert each.outputs is not None
        check_classes(str(each.path), each.outputs, len(reader.classes))
        check_declared(str(each.path), each.outputs, "--kind probabilities")
    known = known_split(folder, classes)
    joined = _joined([*foreign.values(), *beside], known, tell)
    foreign = dict(zip(foreign, joined, strict=False))
    samples = _agreed(joined, classes, split, tell)
    specs = {
        name: ImportedModel(
            name,
            check_kind("import", kind),
            (families or {}).get(name, ""),
            tuple(_costs_of(name, each, (costs or {}).get(name), unit, tell)),
        ).to_json()
        for name, each in foreign.items()
    }
    # Building the pool checks that everything fits before anything is written.
    outputs = {name: each.outputs for name, each in foreign.items() if each.outputs is not None}
    widths = {n: o.values.shape[1] for n, o in outputs.items() if o.values.ndim == 2}
    check_alike("import", {**stored_widths(folder), **widths} if widths else {})
    pool = Pool(samples, outputs, CostTable.of({name: [] for name in files}))
    apart = _apart_by_outputs(Path(store), pool)
    for line in _notes(pool, apart):
        tell(line)
    _write(Path(store), specs, pool, apart, tell)
    return Pool.load(Path(store) / split, list(files))


def _notes(pool: Pool, apart: Sequence[str]) -> Iterator[str]:
    """Yield what to note on outputs before they are written, one line each."""
    samples = pool.samples
    if pool.copies:
        yield pool.copies
    for name, own in pool.outputs.items():
        yield from notes_on(name, own, samples.labels, len(samples.classes), samples.classes)
    for other in apart:
        yield (
            f"splits {other!r} and {samples.split!r} have ids in common, but the same models "
            "answer otherwise there: they are taken for other samples"
        )


def _write(
    store: Path, specs: Mapping[str, Any], pool: Pool, apart: Sequence[str], tell: Note
) -> None:
    """Put the outputs of a pool into a store."""
    samples = pool.samples
    with writing(store) as target:
        for line in target.add_models(specs, samples.classes):
            tell(line)
        target.add_samples(Split(samples), known_apart=apart)
        for name, own in pool.outputs.items():
            entry = Entry(
                kind=own.kind,
                samples=samples.ids_fingerprint,
                classes=samples.classes_fingerprint,
                fingerprint=_fingerprint(own),
                batch_size=0,
                dtype="float64" if own.kind == "decisions" else str(own.values.dtype),
                rows=len(samples),
            )
            target.writer(samples, name, entry).write_all(own)


def _apart_by_outputs(root: Path, pool: Pool) -> list[str]:
    """Return the other splits with ids of these samples to which the same models answer otherwise.

    A split that cannot be opened says nothing.
    """
    found = []
    for other in other_splits(root, pool.samples.split):
        if other.content is None and len(shared(other.samples, pool.samples)):
            with suppress(CommitteeError):
                if not len(Pool.load(root / other.samples.split).shared_with(pool)):
                    found.append(other.samples.split)
    return found


def _class_column(table: Table, kind: str, asked: Collection[str]) -> str:
    """Return the array of an archive that names the classes in their order; empty if none does."""
    words = _CLASS_WORDS if kind != "decisions" else _CLASS_WORDS[:1]
    there = [] if table.named else [w for w in words if w in table.columns and w not in asked]
    named = (w for w in there if table.columns[w].rank == 1 and table.read(w).dtype.kind in "US")
    return next(named, "")


def _told_classes(table: Table, name: str) -> tuple[str, ...]:
    texts = [
        each.decode("utf-8", "surrogateescape") if isinstance(each, bytes) else str(each)
        for each in table.read(name).tolist()
    ]
    return class_names(f"{table.path}: {name!r}", texts)


def _without(table: Table, name: str) -> Table:
    """Return a table without one of its columns."""
    if not name:
        return table
    return replace(table, columns={n: c for n, c in table.columns.items() if n != name})


def _costs_of(
    name: str, foreign: Foreign, given: float | None, unit: str, tell: Note
) -> list[Cost]:
    """Return a model's costs: the one given, and the means of its columns."""
    costs = {} if given is None else {unit: Cost(given, unit)}
    for column, own in foreign.roles.costs.items():
        mean = Cost(foreign.costs[column], own or unit, "given", "mean of a column")
        if costs.get(mean.unit, mean).value != mean.value:
            raise CostError(
                f"{foreign.path}: column {column!r} has the mean {mean.value:.6g} {mean.unit}, "
                f"--cost says {costs[mean.unit].value:.6g}. Leave out --cost {name}=…, or the "
                f"column with --columns ignore={column}"
            )
        costs[mean.unit] = mean
        tell(f"{name} costs {mean.value:.6g} {mean.unit} a sample, the mean of column {column!r}")
    return list(costs.values())


def _fingerprint(outputs: Outputs) -> str:
    """Changes when any number does; the file's form does not matter."""
    digest = hashlib.sha256()
    for start in range(0, len(outputs), CHUNK_ROWS):
        rows = outputs.rows(slice(start, start + CHUNK_ROWS))
        digest.update(rows.values.tobytes())
        digest.update(b"" if rows.confidence is None else rows.confidence.tobytes())
    return digest.hexdigest()[:16]


def _check_columns(mapping: Mapping[str, Sequence[str]], tables: Mapping[Path, Table]) -> None:
    """Refuse a name that no file has."""
    there = {name for table in tables.values() for name in table.columns}
    for role, names in mapping.items():
        for name in names:
            if tidy(name) not in there:
                raise UnknownNameError.of(f"--columns {role}", "column", name, there)


class _Reader:
    """Reads files of one import: what one says of classes holds for the next.

    Args:
        kind: Kind of the outputs.
        columns: Names of columns by role.
        classes: Names of the classes; empty until a file names them.
        normalise: Whether rows of probabilities are divided by their sums.
        told: Names of classes in the order of the outputs, of files that hold such an array.
    """

    def __init__(
        self,
        kind: Kind,
        columns: Mapping[str, Sequence[str]],
        classes: tuple[str, ...],
        normalise: bool,
        told: Mapping[Path, tuple[str, ...]],
    ) -> None:
        self._told = told
        self._kind = kind
        self._columns = columns
        self._normalise = normalise
        self._named_by: Path | None = None
        self.classes = classes

    def learn(self, table: Table, tell: Note) -> None:
        """Take the names of classes from a file, if none are known and its columns have names."""
        if not self.classes and table.path in self._told:
            self.classes, self._named_by = self._told[table.path], table.path
            return
        roles = roles_of(table, self._kind, self._columns, self.classes)
        if not self.classes and roles.named and roles.outputs and self._kind != "decisions":
            _, self.classes = class_order(str(table.path), roles.outputs, ())
            self._named_by = table.path if self.classes else None
            if self.classes:
                tell(
                    f"{table.path}: its columns are taken for {len(self.classes):,} classes: "
                    f"{listed(self.classes)}; --classes holds them against a list"
                )

    def model(self, table: Table, tell: Note) -> Foreign:
        """Return what a file says of one model."""
        roles = roles_of(table, self._kind, self._columns, self.classes)
        if table.headless:
            tell(f"{table.path}: names no columns; all {len(roles.outputs)} are taken as outputs")
        decisions = self._kind == "decisions"
        outputs = self._decisions(table, roles) if decisions else self._outputs(table, roles, tell)
        refuse_one_output(str(table.path), outputs)
        return self._with_samples(table, roles, outputs, len(outputs))

    def labels(self, table: Table) -> Foreign:
        """Return what a file of labels says."""
        roles = roles_of(table, "labels", self._columns, self.classes)
        if roles.label is None:
            raise DataError(f"{table.path}: no 'label' in it; it has {listed(table.columns)}")
        return self._with_samples(table, roles, None, len(table.read(roles.label)))

    def _with_samples(
        self, table: Table, roles: Roles, outputs: Outputs | None, count: int
    ) -> Foreign:
        ids = None if roles.id is None else _ids(table, roles.id)
        own = self._told.get(table.path, ())
        labels = None if roles.label is None else _labels(table, roles.label, self.classes, own)
        costs = {name: _mean(table, name) for name in roles.costs}
        for what, each in (("ids", ids), ("labels", labels)):
            if each is not None and len(each) != count:
                raise MisalignedError(f"{table.path}: {len(each)} {what}, but {count} samples")
        return Foreign(table.path, table, roles, count, outputs, labels, ids, costs)

    def _decisions(self, table: Table, roles: Roles) -> Outputs:
        there = (("class", roles.decided), ("confidence", roles.confidence))
        missing = [role for role, name in there if name is None]
        if roles.decided is None or roles.confidence is None:
            raise DataError(
                f"{table.path}: decisions need {' and '.join(missing)}; see --help. It has columns "
                f"{listed(table.columns)}: say which is which with --columns {missing[0]}=NAME"
            )
        own = self._told.get(table.path, ())
        classes = _labels(table, roles.decided, self.classes, own)
        if (classes < 0).any():
            row = int((classes < 0).argmax())
            raise ShapeError(
                f"{table.path}: {table.place(row)}{_with_id(table, row)}: no class is decided in "
                f"{roles.decided!r}; classes must be indices 0, 1, … or names"
            )
        confidence = _numbers(table, roles.confidence)
        missing_rows = np.flatnonzero(np.isnan(confidence))
        if len(missing_rows):
            raise DataError(_no_number(table, roles.confidence, int(missing_rows[0]), None))
        return checked_outputs(str(table.path), "decisions", classes, confidence)

    def _outputs(self, table: Table, roles: Roles, tell: Note) -> Outputs:
        where, names = str(table.path), roles.outputs
        if not names:
            raise DataError(
                f"{where}: no 'outputs' in it; it has {', '.join(table.columns)}. Say which they "
                "are with --columns outputs=NAME"
            )
        by_name = False
        if roles.named:
            values = np.stack([_numbers(table, name) for name in names], axis=1)
            order, by_name = self._order(table, names, values)
            values = values if order is None else values[:, order]
        else:
            values = _kept(table.read(names[0]))
            own = self._told.get(table.path)
            if own is not None:
                check_classes(where, Outputs("logits", values), len(own))
                values = values[:, permutation(where, own, self.classes, "classes")]
                by_name = True
        if self._named_by is not None and not by_name:
            tell(f"{where}: names no classes; they are taken in the order of {self._named_by}")
        if self._normalise:
            values = normalised(where, values).astype(_single(values.dtype))
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


def _kept(values: Array) -> Array:
    """Return numbers of a type that stores keep: wider ones as float64."""
    wide = values.dtype.kind == "f" and values.dtype.itemsize > np.dtype(np.float64).itemsize
    return values.astype(np.float64) if wide else values


def _single(dtype: np.dtype[Any]) -> Any:
    return np.float64 if dtype == np.float64 else np.float32


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


def _numbers(table: Table, name: str) -> Array:
    """Return a column as numbers; what is missing or no number is named with its place."""
    column = table.read(name)
    try:
        numbers = np.asarray(column, dtype=np.float64)
    except (ValueError, TypeError):
        row = next(i for i, each in enumerate(column.tolist()) if not _is_number(each))
        raise DataError(_no_number(table, name, row, column[row])) from None
    return numbers


def _no_number(table: Table, name: str, row: int, value: Any) -> str:
    missing = value is None or not str(value).strip()
    told = "is missing" if missing else f"is {printable(str(value))[:40]!r}, no number"
    remedy = "fill it in, or leave the row out of all files"
    if not missing:
        remedy = f"outputs must be numbers. If it is none: --columns ignore={name}"
    return f"{table.path}: {table.place(row)}{_with_id(table, row)}: {name!r} {told}; {remedy}"


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


def _mean(table: Table, name: str) -> float:
    values = _numbers(table, name)
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise CostError(
            f"{table.path}: {table.place(row)}{_with_id(table, row)}: {name!r} is {values[row]}; a "
            f"cost is a number from 0. Mend it, or leave the column out: --columns ignore={name}"
        )
    return float(values.mean()) if len(values) else 0.0


def _labels(table: Table, name: str, classes: Sequence[str], named: Sequence[str]) -> Array:
    """Return a column of labels or decided classes as indices, -1 where there is none."""
    told = table.read(name)
    told = told[:, 0] if told.shape[1:] == (1,) else told
    if told.ndim > 1:
        raise ShapeError(
            f"{table.path}: {printable(name)!r}: labels must be class indices or names, one a "
            f"sample, not {told.dtype} {told.shape}; of one-hot rows give argmax(axis=1)"
        )
    return indices(
        f"{table.path}: {printable(name)!r}",
        told,
        classes,
        named,
        place=lambda row: table.place(row) + _with_id(table, row),
    )


def _joined(foreign: Sequence[Foreign], known: Split | None, tell: Note) -> list[Foreign]:
    """Return files in one order of samples: by id where there are ids, else as they stand.

    The first file with ids, or the store, if it has the split, gives the order.
    """
    named = [each for each in foreign if each.ids is not None]
    alone = [each for each in foreign if each.ids is None]
    if not named:
        return list(foreign)
    first = named[0]
    assert first.ids is not None
    for each in named[1:]:
        _check_same_ids(first, each)
    apart = [each for each in named if each.ids != first.ids]
    if alone and apart:
        raise MisalignedError(
            f"{alone[0].path}: has no ids, and {first.path} and {apart[0].path} have samples in "
            "another order. Write ids into all files, or one order"
        )
    for each in alone:
        if each.count == first.count:
            tell(f"{each.path}: has no ids; its rows are taken in the order of {first.path}")
    wanted: Sequence[str] = first.ids
    if known is not None and not known.samples.numbered:
        there = frozenset(first.ids)
        if there.issuperset(known.samples.ids):
            old = frozenset(known.samples.ids)
            wanted = [*known.samples.ids, *(name for name in first.ids if name not in old)]
    return [
        each.rows(_order(each.ids or first.ids, wanted)) if each.count == first.count else each
        for each in foreign
    ]


def _order(ids: Sequence[str], wanted: Sequence[str]) -> Array:
    place = {name: row for row, name in enumerate(ids)}
    return np.array([place[name] for name in wanted], np.int64)


def _check_same_ids(one: Foreign, two: Foreign) -> None:
    first, second = frozenset(one.ids or ()), frozenset(two.ids or ())
    if first == second:
        return
    only = [name for name in two.ids or () if name not in first]
    lacking = [name for name in one.ids or () if name not in second]
    told = [f"{listed(only)} only in the latter"] if only else []
    told += [f"{listed(lacking)} only in the former"] if lacking else []
    raise MisalignedError(
        f"import: {one.path} and {two.path} differ in ids: {', '.join(told)}. Export all models on "
        "the same samples"
    )


def _agreed(foreign: Sequence[Foreign], classes: Sequence[str], split: str, tell: Note) -> Samples:
    """Return the samples that all files share."""
    first = foreign[0]
    labelled = [each for each in foreign if each.labels is not None]
    # What labels there are says how many samples there should be.
    judge = labelled[-1] if labelled else first
    for each in foreign:
        if each.count != judge.count:
            what = "the labels" if labelled else "another file"
            raise MisalignedError(
                f"{each.path}: has {each.count} samples, {what} {judge.count}. "
                "Export all models on the same samples"
            )
    if not judge.count:
        raise DataError("import: the files hold no sample")
    ids = next((each.ids for each in foreign if each.ids is not None), None)
    labels = None
    for each in labelled:
        own = _complete(each, tell)
        if labels is not None and own is not None and not np.array_equal(labels, own):
            row = int(np.argmax(labels != own))
            name = ids[row] if ids is not None else str(row)
            raise MisalignedError(
                f"import: {labelled[0].path} and {each.path} differ in labels: of sample "
                f"{printable(name)!r} {labels[row]} and {own[row]}. Export the same samples"
            )
        labels = own if labels is None else labels
    return Samples.of(labels, ids, classes, split, judge.count)


def _complete(foreign: Foreign, tell: Note) -> Array | None:
    """Return labels; None, and a word, where no sample has one."""
    labels = foreign.labels
    assert labels is not None
    missing = labels < 0
    if missing.all() and len(labels):
        tell(f"{foreign.path}: none of the {len(labels):,} samples has a label")
        return None
    if missing.any():
        rows = np.flatnonzero(missing)
        place = foreign.ids or [str(row) for row in range(len(labels))]
        raise ShapeError(
            f"{foreign.path}: {len(rows):,} of {len(labels):,} samples have no label, "
            f"{listed([place[row] for row in rows.tolist()])}; labels must be indices 0, 1, … or "
            "names. Label them, or leave these samples out of all files"
        )
    return labels
