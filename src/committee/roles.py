"""What each column of a table of predictions is: every one has a role, or is refused by name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from committee.errors import DataError, MisalignedError, UnknownNameError
from committee.names import permutation
from committee.predictions import Array
from committee.tables import Column, Table
from committee.text import listed, tidy

ROLES = ("id", "label", "class", "confidence", "cost", "outputs", "ignore")

# What columns are called, in any case and with any separators.
_WORDS: dict[str, frozenset[str]] = {
    role: frozenset(words.split())
    for role, words in {
        "id": "id ids sample samples sampleid sample_id index idx path paths filepath file_path "
        "file files filename filenames file_name image images imageid image_id image_path img "
        "img_path key keys uid uuid guid row_id item item_id doc_id document_id url uri",
        "label": "label labels target targets y y_true ytrue truth true true_label true_class gt "
        "groundtruth ground_truth actual gold gold_label expected label_id",
        "class": "class classes class_id class_name prediction predictions predicted pred preds "
        "predicted_class predicted_label pred_class pred_label y_pred y_hat yhat answer answers "
        "decision decisions",
        "confidence": "confidence confidences conf score scores certainty probability prob proba p "
        "max_prob",
        "cost": "cost costs price prices",
        "outputs": "outputs output logits logit probabilities probs probas scores prediction "
        "predictions preds arr_0",
    }.items()
}
_UNITS = {
    "dollars": "dollars",
    "dollar": "dollars",
    "usd": "dollars",
    "euros": "euros",
    "eur": "euros",
    "latency_ms": "latency_ms",
    "ms": "latency_ms",
    "milliseconds": "latency_ms",
    "latency": "latency",
    "seconds": "seconds",
    "ms_per_sample": "ms_per_sample",
    "macs": "macs",
    "flops": "flops",
    "joules": "joules",
    "tokens": "tokens",
}
_UNNAMED = re.compile(r"|unnamed: \d+|__index_level_\d+__", re.IGNORECASE)
_COUNTED = re.compile(r"(?P<before>.*?)(?P<number>\d+)")
_PREFIX = re.compile(
    r"(logits?|probs?|probabilit(?:y|ies)|p|scores?|class|outputs?|out)[ _.:/-]+", re.IGNORECASE
)
# Rows without which whole numbers say nothing of what they are.
_ENOUGH = 3


@dataclass(frozen=True, eq=False)
class Roles:
    """Which columns of a table are what.

    Args:
        id: Name of the column of ids; None if there is none.
        label: Of labels.
        decided: Of decided classes.
        confidence: Of confidences.
        costs: Units, by name of the column of costs; empty where the name says none.
        outputs: Of outputs: one column of rows, or one a class.
        named: Whether outputs are columns that may be named by class.
    """

    id: str | None
    label: str | None
    decided: str | None
    confidence: str | None
    costs: Mapping[str, str]
    outputs: tuple[str, ...]
    named: bool


def check_mapping(columns: Mapping[str, Collection[str]]) -> None:
    """Refuse a role that there is not.

    Raises:
        UnknownNameError: If so.
    """
    for role in columns:
        if role not in ROLES:
            raise UnknownNameError.of("columns", "role of a column", role, ROLES)


def roles_of(
    table: Table,
    kind: str,
    columns: Mapping[str, Collection[str]],
    classes: Sequence[str] = (),
) -> Roles:
    """Return what each column of a file is.

    Args:
        table: The file.
        kind: ``logits``, ``probabilities`` or ``decisions``; ``labels`` of a file of labels.
        columns: Names of columns by role, which go before what names say.
        classes: Names of the classes; a column of such a name is an output.

    Raises:
        DataError: If a column has no role, or two have one; they are named, with the remedy.
    """
    asked = {tidy(name): role for role, names in columns.items() for name in names}
    known = frozenset(map(tidy, classes)) if kind in ("logits", "probabilities") else frozenset()
    found: dict[str, list[str]] = {role: [] for role in ROLES}
    left: list[str] = []
    for name, column in table.columns.items():
        role = asked.get(name) or _role(name, column, kind, known)
        (found[role] if role else left).append(name)
    _refuse_doubled_roles(table, found)
    outputs = found["outputs"]
    if kind in ("logits", "probabilities"):
        if not outputs and table.named:
            outputs, left = _of_classes(table, left)
        _refuse_beside(table, kind, found, outputs)
    if kind == "labels" and not found["label"]:
        alone = found["class"] or found["outputs"] or ([] if table.named else left)
        if len(alone) == 1 and table.columns[alone[0]].rank == 1:
            found["label"], found["class"], outputs = alone, [], []
            left = [name for name in left if name not in alone]
    _refuse_left(table, kind, left)
    return Roles(
        id=next(iter(found["id"]), None),
        label=next(iter(found["label"]), None),
        decided=next(iter(found["class"]), None),
        confidence=next(iter(found["confidence"]), None),
        costs={name: unit_of(name) for name in found["cost"]},
        outputs=tuple(outputs),
        named=table.named and all(table.columns[name].rank == 1 for name in outputs),
    )


def _role(name: str, column: Column, kind: str, classes: frozenset[str]) -> str:
    """Return what a column's name says; nothing if it says nothing."""
    if name in classes:
        return "outputs"
    word = _word(name)
    if column.rank == 2:
        return "outputs" if word in _WORDS["outputs"] and kind != "decisions" else ""
    if word in _WORDS["outputs"] - _WORDS["class"] - _WORDS["confidence"]:
        return "outputs" if kind != "decisions" else ""
    if word in _UNITS or word.startswith("cost_") or word.endswith("_cost"):
        return "cost"
    return next((role for role in ROLES if word in _WORDS.get(role, ())), "")


def _word(name: str) -> str:
    """Return a name in small letters with ``_`` for all that is no letter or digit.

    >>> _word("Sample ID"), _word("cost (USD)")
    ('sample_id', 'cost_usd')
    """
    return re.sub(r"[\W_]+", "_", tidy(name).casefold()).strip("_")


def id_column(table: Table) -> str | None:
    """Return the column that is called as ids are, for people; None if there is none."""
    return next((name for name in table.columns if _word(name) in _WORDS["id"]), None)


def unit_of(name: str) -> str:
    """Return the unit that a column's name says; empty if it says none.

    >>> unit_of("cost_usd"), unit_of("cost")
    ('dollars', '')
    """
    word = _word(name)
    bare = word.removeprefix("cost_").removesuffix("_cost")
    return _UNITS.get(word) or _UNITS.get(bare) or ""


def _refuse_doubled_roles(table: Table, found: Mapping[str, Sequence[str]]) -> None:
    for role in ("id", "label", "class", "confidence"):
        names = found[role]
        if len(names) > 1:
            raise DataError(
                f"{table.path}: columns {listed(names)} can all be the {role}. Say which with "
                f"--columns {role}={names[0]},ignore={names[1]}"
            )
    units = [unit_of(name) for name in found["cost"]]
    if len(set(units)) < len(units):
        raise DataError(
            f"{table.path}: columns {listed(found['cost'])} are costs of one unit. Leave out all "
            f"but one: --columns ignore={found['cost'][1]}"
        )


def _refuse_beside(
    table: Table, kind: str, found: Mapping[str, Sequence[str]], outputs: Sequence[str]
) -> None:
    """Refuse what stands beside outputs and belongs to decisions, and two arrays of outputs."""
    decided = [*found["class"], *found["confidence"]]
    if not outputs and len(decided) == 1 and found["confidence"]:
        raise DataError(
            f"{table.path}: {listed(decided)} is one number a sample; {kind} need one for each "
            "class. Of two classes give two columns, 1 - p and p"
        )
    if decided:
        raise DataError(
            f"{table.path}: columns {listed(decided)} are of decisions (--kind decisions), not "
            f"{kind}. Leave them out with --columns {_ignoring(decided)}"
        )
    rows = [name for name in outputs if table.columns[name].rank == 2]
    if rows and len(outputs) > 1:
        raise DataError(
            f"{table.path}: {listed(outputs)} can all be the outputs. Say which with --columns "
            f"outputs={outputs[0]},ignore={outputs[1]}"
        )


def _of_classes(table: Table, left: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return columns that can be outputs of a class each, and the others."""
    outputs = [n for n in left if table.columns[n].rank == 1 and not _UNNAMED.fullmatch(n)]
    return outputs, [name for name in left if name not in outputs]


def _refuse_left(table: Table, kind: str, left: Sequence[str]) -> None:
    if not left:
        return
    shown = [name or "(no name)" for name in left]
    takes = "id, label" if kind == "labels" else "id, label, class, confidence, cost"
    if kind in ("logits", "probabilities"):
        takes = "id, label, cost or outputs" if not table.named else "id, label, cost or a class"
    first = left[0] or ""
    if all(_UNNAMED.fullmatch(name) for name in left):
        raise DataError(
            f"{table.path}: column {listed(shown)} has no name; is it the index of pandas? "
            f"Write with index=False, or say what it is: --columns id={first} or ignore={first}"
        )
    use = "outputs" if table.columns[first].rank == 2 and kind != "decisions" else "id"
    raise DataError(
        f"{table.path}: columns {listed(shown)} are none of {takes}. Say what they are with "
        f"--columns {use}={first}, or leave them out with --columns {_ignoring(left)}"
    )


def _ignoring(names: Sequence[str]) -> str:
    """Return the option that leaves columns out; of many only the first."""
    return ",".join(f"ignore={name}" for name in names[:3]) + (",…" if len(names) > 3 else "")


def numbering(names: Sequence[str]) -> Array | None:
    """Return the order of columns that only count, shape (C,); None if they are names.

    >>> numbering(["c0", "c2", "c1"])
    array([0, 2, 1])
    """
    parsed = [_COUNTED.fullmatch(name) for name in names]
    befores = {match["before"] for match in parsed if match}
    if not all(parsed) or len(befores) != 1 or len(names) < 2:
        return None
    numbers = [int(match["number"]) for match in parsed if match]
    order = np.argsort(numbers, kind="stable")
    ranked = [numbers[i] for i in order]
    return order if ranked[0] in (0, 1) and ranked == [*range(ranked[0], ranked[-1] + 1)] else None


def class_order(
    where: str, names: Sequence[str], classes: Sequence[str]
) -> tuple[Array | None, tuple[str, ...]]:
    """Return in which order columns are the classes', and the names of classes that they bring.

    Args:
        where: The file, for errors.
        names: Of the columns of outputs, in their order.
        classes: Names of the classes; empty if they are not known.

    Returns:
        Indices of columns, shape (C,), or None where their order is right; and names, empty where
        columns only count.

    Raises:
        MisalignedError: If columns and classes differ in names.
    """
    bare = tuple(map(tidy, names))
    short = tuple(_PREFIX.sub("", name, count=1) for name in bare)
    if classes:
        known = [tidy(each) for each in classes]
        for told in (bare, short):
            if sorted(told) == sorted(known):
                return permutation(where, told, classes, "columns"), tuple(classes)
    order = numbering(bare)
    if order is not None:
        return order, ()
    if classes:
        return permutation(where, bare, classes, "columns"), tuple(classes)
    if len(set(short)) == len(short) and all(s != b for s, b in zip(short, bare, strict=True)):
        bare = short
    return None, bare


def refuse_counting(table: Table, names: Sequence[str], values: Array) -> None:
    """Refuse a column of outputs that holds whole numbers where others do not, or that counts.

    Args:
        table: The file, for the error.
        names: Of the columns.
        values: Shape (N, C).

    Raises:
        MisalignedError: If there is one: it is an index or a label.
    """
    if len(values) < _ENOUGH:
        return
    whole = np.array([_is_whole(column) for column in values.T])
    counts = [bool(np.isfinite(c).all() and (np.diff(c) == 1).all()) for c in values.T]
    strange = [
        name
        for name, is_whole, counting in zip(names, whole, counts, strict=True)
        if counting or (is_whole and not whole.all())
    ]
    if strange:
        raise MisalignedError(
            f"{table.path}: column {listed(strange)} holds whole numbers, unlike outputs: is it an "
            f"index or a label? Say what it is with --columns id={strange[0]} or "
            f"label={strange[0]}, or leave it out with ignore={strange[0]}"
        )


def _is_whole(column: Array) -> bool:
    # A class that is never probable is 0 throughout.
    with np.errstate(invalid="ignore"):
        return bool((column == np.floor(column)).all() and (column != column[0]).any())
