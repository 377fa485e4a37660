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
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from committee.arrays import Array
from committee.data.base import share_rows
from committee.errors import (
    CommitteeError,
    CostError,
    DamagedError,
    DataError,
    MisalignedError,
    ShapeError,
    UnknownNameError,
)
from committee.pool.comparison import shared_samples
from committee.pool.identity import shared
from committee.pool.outcomes import bounds_of
from committee.pool.plausibility import (
    check_alike,
    check_classes,
    check_declared,
    notes_on,
)
from committee.pool.pool import Pool
from committee.pool.pool_model import PoolModel, copies_in
from committee.pool.samples import Samples
from committee.rule.outputs import WITH_CONFIDENCE, Outputs, check_kind
from committee.spec.cost import MEAN, Cost
from committee.spec.model import ImportedModel, check_name, model_from_json
from committee.store.entry import CHUNK_ROWS, Entry, finished_models, read_index, read_manifest
from committee.store.folder import writing
from committee.store.foreign import Fill, Foreign, Note, Reader, filled
from committee.store.long_tables import completed, expanded
from committee.store.published_costs import TableRow, matched_costs
from committee.store.reader import stored_widths
from committee.store.roles import ROLES
from committee.store.sample_costs import write_costs
from committee.store.split import Split, check_split_name, known_split, other_splits
from committee.store.tables import Table, read_table
from committee.store.writer import check_identity
from committee.text import listed, printable

_MISSING = ("refuse", "wrong", "pass")


def import_predictions(
    files: Mapping[str, Path],
    store: str | Path,
    *,
    kind: str,
    split: str,
    labels: Path | None = None,
    classes: Sequence[str] = (),
    costs: Mapping[str, float] | None = None,
    unit: str | None = None,
    listed_costs: Sequence[TableRow] = (),
    families: Mapping[str, str] | None = None,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    normalise: bool = False,
    bounds: tuple[float, float] | None = None,
    missing: str = "refuse",
    fraction: str | None = None,
    seed: int = 0,
    note: Note | None = None,
) -> Pool:
    """Put outputs made elsewhere into a store.

    Args:
        files: For each model the file of its outputs; of a file with a column ``model`` the models
            are those it names, with one row for each of them and each sample.
        store: Folder of the store; made if it is not there.
        kind: ``logits``, ``probabilities``, ``decisions`` or ``outcomes``.
        split: Name of the split.
        labels: A file of labels, and maybe ids; else they stand in the files themselves.
        classes: Names of the classes, in the order that outputs are to have; those that the store
            knows already, or that the files name, if left out.
        costs: What one sample costs in each model, in ``unit``.
        unit: Unit of costs that name none; ``macs`` if left out, but outcomes have no default.
        listed_costs: Rows of a table of costs, in which models are found by name.
        families: Of models that are trainings of one architecture, the architecture's name.
        columns: What columns are, where their names do not say it: names by role, which is ``id``,
            ``label``, ``class``, ``value``, ``confidence``, ``cost``, ``outputs`` or ``ignore``.
        normalise: Whether rows of probabilities are divided by their sums.
        bounds: The least and the largest value of outcomes; without them each is 1 or 0.
        missing: What an outcome means that a model did not give: ``refuse``, ``wrong`` or ``pass``;
            see :func:`committee.store.foreign.filled`.
        fraction: The share of every class to take; see :func:`committee.data.base.share`.
        seed: Chooses the samples of the share.
        note: Called with a line for each thing that people should know.

    Returns:
        The pool of these models.

    Raises:
        CostError: If a model has several costs in one unit, or none is in ``listed_costs``.
        DataError: If a file cannot be read, or a column is none of what is taken.
        MisalignedError: If files differ in samples, classes or labels.
        ShapeError, NotFiniteError: If outputs cannot be used; the file is named.
    """
    kind, tell = check_kind("import", kind), note or (lambda line: None)
    unit = unit or ("" if kind == "outcomes" else "macs")
    if normalise and kind != "probabilities":
        raise ShapeError(f"import: --normalise is for probabilities; these are {kind}")
    fill, least = _fill_of(kind, missing, bounds)
    check_split_name(split)
    mapping = {r: [n] if isinstance(n, str) else list(n) for r, n in (columns or {}).items()}
    tables = _tables(files, kind, mapping)
    for what, own in (("cost", costs), ("family", families)):
        for name in own or {}:
            if name not in tables:
                raise UnknownNameError.of(f"import: {what}", "model", name, tables)
    folder = Path(store) / split
    index = Path(store) / "store.json"
    known = tuple(read_index(index)["classes"]) if index.is_file() else None
    # What a store has without names stays so.
    unnamed = not classes and known == ()
    classes = tuple(classes) or known or ()
    every = [*tables.values(), *([read_table(labels)] if labels else [])]
    reader = Reader(every, kind, mapping, classes, normalise, tell, fill)
    for table in tables.values():
        reader.learn(table.path)
    foreign = {name: reader.model(table.path) for name, table in tables.items()}
    if kind in WITH_CONFIDENCE:
        foreign = completed(foreign, missing, least, tell)
    beside = [] if labels is None else [reader.labels(labels)]
    classes = () if unnamed else reader.classes
    for each in foreign.values():
        assert each.outputs is not None
        check_classes(str(each.path), each.outputs, len(reader.classes))
        check_declared(str(each.path), each.outputs, "--kind probabilities")
    joined = _joined([*foreign.values(), *beside], known_split(folder, classes), tell)
    foreign = dict(zip(foreign, joined, strict=False))
    samples = _agreed(joined, classes, split, tell)
    given = _given_costs(foreign, costs or {}, unit, listed_costs, tell)
    specs = {
        name: ImportedModel(
            name,
            check_kind("import", kind),
            (families or {}).get(name, ""),
            tuple(_costs_of(name, each, given[name], unit, tell)),
            bounds=bounds,
        )
        for name, each in foreign.items()
    }
    # Building the pool checks that everything fits before anything is written.
    outputs = {name: each.outputs for name, each in foreign.items() if each.outputs is not None}
    widths = {n: o.values.shape[1] for n, o in outputs.items() if o.kind not in WITH_CONFIDENCE}
    check_alike("import", {**stored_widths(folder), **widths} if widths else {})
    models = {
        name: PoolModel(specs[name], own, sample_costs=_sample_costs(foreign[name], unit))
        for name, own in outputs.items()
    }
    pool = _share(Pool(samples, models), fraction, seed)
    apart = _apart_by_outputs(Path(store), pool)
    for line in _notes(Path(store), pool, apart):
        tell(line)
    write_pool(Path(store), pool, tell, apart)
    return Pool.load(Path(store) / split, list(tables))


def _tables(
    files: Mapping[str, Path], kind: str, columns: dict[str, list[str]]
) -> dict[str, Table]:
    """Return the table of each model, and take the column that names models from ``columns``."""
    for role in columns:
        if role not in ROLES:
            raise UnknownNameError.of("columns", "role of a column", role, ROLES)
    read = {name: read_table(file) for name, file in files.items()}
    tables = expanded(read, kind, columns.pop("model", ()), columns.get("ignore", ()))
    if not tables:
        raise DataError(f"{next(iter(read.values())).path}: holds no row")
    for name, table in tables.items():
        check_name(str(table.path) if table.part else "import", name)
    return tables


def _fill_of(
    kind: str, missing: str, bounds: tuple[float, float] | None
) -> tuple[Fill | None, float]:
    """Return what fills in missing answers, or None if they are refused; and the least value."""
    if missing not in _MISSING:
        raise UnknownNameError.of("import: --missing", "meaning", missing, _MISSING)
    least = 0.0 if bounds is None else bounds[0]
    if missing == "refuse":
        return None, least
    if kind != "outcomes":
        raise ShapeError(
            f"import: --missing {missing} is for outcomes; these are {kind}, which have no answer "
            "that is wrong for every label. Leave the samples out of all files"
        )
    return partial(filled, missing=missing, least=least), least


def _share(pool: Pool, fraction: str | None, seed: int) -> Pool:
    """Return the pool on a share of its samples; on all without one."""
    if fraction is None:
        return pool
    rows, rule = share_rows(pool.samples, fraction, seed)
    taken = pool.rows(rows, pool.samples.split)
    return replace(taken, samples=replace(taken.samples, rule=rule))


def _notes(store: Path, pool: Pool, apart: Sequence[str]) -> Iterator[str]:
    """Yield what to note on outputs before they are written, one line each."""
    samples = pool.samples
    splits = [each.samples.split for each in other_splits(store, samples.split)]
    if copies := copies_in(pool.samples, pool.models.values()):
        yield copies
    for name, own in pool.outputs.items():
        yield from notes_on(name, own, samples.labels, len(samples.classes), samples.classes)
    for other in apart:
        yield (
            f"splits {other!r} and {samples.split!r} have ids in common, but the same models "
            "answer otherwise there: they are taken for other samples. Certificates know "
            "samples by their ids, so give these ids of their own"
        )
    elsewhere = set[str]().union(*(finished_models(store / each) for each in splits))
    if elsewhere and not elsewhere & pool.models.keys():
        yield (
            f"no model of split {samples.split!r} is in another split: {listed(pool.models)} here, "
            f"{listed(sorted(elsewhere))} there. To name models alike, write NAME=FILE for each"
        )


def write_pool(store: Path, pool: Pool, tell: Note = print, apart: Sequence[str] = ()) -> None:
    """Put the outputs of a pool into a store.

    Args:
        store: Folder of the store; made if it is not there.
        pool: The pool.
        tell: Called with each note.
        apart: Splits that have other samples, although ids are in common.
    """
    samples = pool.samples
    specs = {name: each.to_json() for name, each in pool.specs.items()}
    entries = {name: _entry(samples, own) for name, own in pool.outputs.items()}
    _check_stored(store, pool, entries)
    with writing(store) as target:
        with target.all_or_nothing():
            notes = target.add_models(specs, samples.classes)
            target.add_samples(Split(samples), known_apart=apart)
            writers = {
                name: target.writer(samples, name, entries[name])
                for name, own in pool.outputs.items()
            }
            for each in pool.models.values():
                write_costs(store / samples.split, each.spec, samples, each.sample_costs)
        for line in notes:
            tell(line)
        for name, own in pool.outputs.items():
            writers[name].write_all(own)


def _entry(samples: Samples, own: Outputs) -> Entry:
    return Entry(
        kind=own.kind,
        samples=samples.ids_fingerprint,
        classes=samples.classes_fingerprint,
        fingerprint=_fingerprint(own),
        batch_size=0,
        dtype="float64" if own.kind in WITH_CONFIDENCE else str(own.values.dtype),
        rows=len(samples),
    )


def _check_stored(store: Path, pool: Pool, entries: Mapping[str, Entry]) -> None:
    """Refuse, before anything is written, what does not fit the outputs that a split has."""
    folder = store / pool.samples.split
    index = read_index(store / "store.json") if (store / "store.json").is_file() else None
    for name in sorted(finished_models(folder)):
        with suppress(DamagedError):
            entry = read_manifest(folder / f"{name}.json").entry
            if name in entries:
                check_identity(folder / f"{name}.npy", entry, entries[name])
            elif entry.kind != pool.kind:
                raise MisalignedError(
                    f"{folder}: {name!r} gives {entry.kind}, these are {pool.kind}, which no "
                    "committee mixes. Write to another store with --out"
                )
        known = (index or {"models": {}})["models"].get(name)
        if known and pool.kind == "outcomes" and name not in entries:
            stored = model_from_json(name, known, str(store))
            bounds_of([stored, *pool.specs.values()])


def _apart_by_outputs(root: Path, pool: Pool) -> list[str]:
    """Return the other splits with ids of these samples to which the same models answer otherwise.

    A split that cannot be opened says nothing.
    """
    apart = []
    for other in other_splits(root, pool.samples.split):
        if other.content is None and len(shared(other.samples, pool.samples)):
            with suppress(CommitteeError):
                if not len(shared_samples(Pool.load(root / other.samples.split), pool)):
                    apart.append(other.samples.split)
    return apart


def _given_costs(
    names: Collection[str],
    costs: Mapping[str, float],
    unit: str,
    rows: Sequence[TableRow],
    tell: Note,
) -> dict[str, list[Cost]]:
    """Return the costs of each model that its file does not hold."""
    for name, number in costs.items():
        if not unit:
            raise CostError(
                f"import: --cost {name}={number:g} has no unit. Name it: --unit dollars"
            )
    given = {n: [Cost(costs[n], unit)] if n in costs else [] for n in names}
    if rows:
        found, notes = matched_costs(rows, map(ImportedModel, names), {})
        for line in notes:
            tell(line)
        for name, own in found.items():
            given[name] += own
    for name, each in given.items():
        if len({cost.unit for cost in each}) < len(each):
            raise CostError(
                f"import: {name!r} has two costs in {unit}, by --cost and in the table of --costs. "
                "Leave one of the two out"
            )
    return given


def _costs_of(
    name: str, foreign: Foreign, given: Sequence[Cost], unit: str, tell: Note
) -> list[Cost]:
    """Return a model's costs: those given, and the means of its columns."""
    costs = {cost.unit: cost for cost in given}
    for column, own in foreign.roles.costs.items():
        if not own and not unit:
            raise CostError(
                f"{foreign.path}: column {column!r} is a cost without a unit. Name it: --unit "
                f"dollars, or leave the column out: --columns ignore={column}"
            )
        each = foreign.costs[column]
        mean = Cost(float(each.mean()) if len(each) else 0.0, own or unit, "given", _mark(each))
        if costs.get(mean.unit, mean).value != mean.value:
            raise CostError(
                f"{foreign.path}: column {column!r} has the mean {mean.value:.6g} {mean.unit}, but "
                f"{name} is also said to cost {costs[mean.unit].value:.6g}. Leave that cost out, "
                f"or the column with --columns ignore={column}"
            )
        costs[mean.unit] = mean
        tell(f"{name} costs {mean.value:.6g} {mean.unit} a sample, the mean of column {column!r}")
    return list(costs.values())


def _mark(each: Array) -> str:
    """Return the conditions of the mean of a column."""
    return MEAN if (each != each[:1]).any() else "the same for every sample"


def _sample_costs(foreign: Foreign, unit: str) -> dict[str, Array]:
    """Return what each sample cost, by unit, where that differs."""
    units = {column: own or unit for column, own in foreign.roles.costs.items()}
    return {units[c]: each for c, each in foreign.costs.items() if _mark(each) == MEAN}


def _fingerprint(outputs: Outputs) -> str:
    """Changes when any number does; the file's form does not matter."""
    digest = hashlib.sha256()
    for start in range(0, len(outputs), CHUNK_ROWS):
        rows = outputs.rows(slice(start, start + CHUNK_ROWS))
        digest.update(rows.values.tobytes())
        digest.update(b"" if rows.confidence is None else rows.confidence.tobytes())
    return digest.hexdigest()[:16]


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
    if known is not None and not known.samples.has_default_ids:
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
    parts = [f"{listed(only)} only in the latter"] if only else []
    parts += [f"{listed(lacking)} only in the former"] if lacking else []
    raise MisalignedError(
        f"import: {one.path} and {two.path} differ in ids: {', '.join(parts)}. Export all models "
        "on the same samples"
    )


def _agreed(foreign: Sequence[Foreign], classes: Sequence[str], split: str, tell: Note) -> Samples:
    """Return the samples that all files share."""
    first = foreign[0]
    labelled = [each for each in foreign if each.labels is not None]
    # What labels there are says how many samples there should be.
    right = labelled[-1] if labelled else first
    for each in foreign:
        if each.count != right.count:
            what = "the labels" if labelled else "another file"
            raise MisalignedError(
                f"{each.path}: has {each.count} samples, {what} {right.count}. "
                "Export all models on the same samples"
            )
    if not right.count:
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
    return Samples.of(labels, ids, classes, split, right.count)


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
