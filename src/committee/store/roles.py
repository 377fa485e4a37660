"""What each column of a table of predictions is: every one has a role, or is refused by name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.data.table import TRUTH_WORDS
from committee.errors import DataError, MisalignedError, UnknownNameError
from committee.names import COUNTED, PREFIX, numbering
from committee.store.tables import Column, Table
from committee.text import listed, tidy, word

ROLES = ("id", "label", "class", "confidence", "cost", "outputs", "ignore")

# What columns are called, in any case and with any separators.
_WORDS: dict[str, frozenset[str]] = {
    role: frozenset(words.split())
    for role, words in {
        "id": "id ids sample samples sampleid sample_id index idx path paths filepath file_path "
        "file files filename filenames file_name image images imageid image_id image_path img "
        "img_path key keys uid uuid guid row_id item item_id doc_id document_id url uri",
        "label": " ".join(TRUTH_WORDS),
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
            _refuse_mixture(table, outputs)
        _refuse_beside(table, kind, found, outputs)
    if kind == "labels" and not found["label"]:
        alone = found["class"] or found["outputs"] or ([] if table.named else left)
        if len(alone) == 1:
            found["label"], found["class"], outputs = alone, [], []
            left = [name for name in left if name not in alone]
    _refuse_left(table, kind, left)
    return Roles(
        id=next(iter(found["id"]), None),
        label=next(iter(found["label"]), None),
        decided=next(iter(found["class"]), None),
        confidence=next(iter(found["confidence"]), None),
        costs={name: _unit_of(name) for name in found["cost"]},
        outputs=tuple(outputs),
        named=table.named and all(table.columns[name].rank == 1 for name in outputs),
    )


def _role(name: str, column: Column, kind: str, classes: frozenset[str]) -> str:
    """Return what a column's name says; nothing if it says nothing."""
    if name in classes:
        return "outputs"
    own = word(name)
    if column.rank == 2:
        return "outputs" if own in _WORDS["outputs"] and kind != "decisions" else ""
    if own in _WORDS["outputs"] - _WORDS["class"] - _WORDS["confidence"]:
        return "outputs" if kind != "decisions" else ""
    if own in _UNITS or own.startswith("cost_") or own.endswith("_cost"):
        return "cost"
    return next((role for role in ROLES if own in _WORDS.get(role, ())), "")


def id_column(table: Table) -> str | None:
    """Return the column that is called as ids are, for people; None if there is none."""
    return next((name for name in table.columns if word(name) in _WORDS["id"]), None)


def _unit_of(name: str) -> str:
    """Return the unit that a column's name says; empty if it says none.

    >>> unit_of("cost_usd"), unit_of("cost")
    ('dollars', '')
    """
    own = word(name)
    bare = own.removeprefix("cost_").removesuffix("_cost")
    return _UNITS.get(own) or _UNITS.get(bare) or ""


def _refuse_doubled_roles(table: Table, found: Mapping[str, Sequence[str]]) -> None:
    for role in ("id", "label", "class", "confidence"):
        names = found[role]
        if len(names) > 1:
            raise DataError(
                f"{table.path}: columns {listed(names)} can all be the {role}. Say which with "
                f"--columns {role}={names[0]},ignore={names[1]}"
            )
    units = [_unit_of(name) for name in found["cost"]]
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


def _refuse_mixture(table: Table, names: Sequence[str]) -> None:
    """Refuse columns of which only some count, or only some have the prefix of outputs.

    Raises:
        DataError: If so: the others are hardly classes.
    """
    bare = [tidy(name) for name in names]
    counted = [match["before"] if (match := COUNTED.fullmatch(name)) else None for name in bare]
    prefixed = [match[0] if (match := PREFIX.match(name)) else None for name in bare]
    for forms, is_form in ((counted, _counts), (prefixed, lambda group: len(group) > 1)):
        for form in dict.fromkeys(form for form in forms if form is not None):
            inside = [name for name, own in zip(names, forms, strict=True) if own == form]
            others = [name for name, own in zip(names, forms, strict=True) if own != form]
            if others and is_form(inside):
                raise DataError(
                    f"{table.path}: columns {listed(inside)} are named as outputs, "
                    f"not {listed(others)}. Leave them out with --columns "
                    f"{_ignoring(others)}; if they are classes, name all in --classes"
                )


def _counts(names: Sequence[str]) -> bool:
    return numbering([tidy(name) for name in names]) is not None


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


def refuse_counting(
    table: Table, names: Sequence[str], values: Array, takes_zeros: bool = True
) -> None:
    """Refuse a column of outputs that is constant or counts, or is whole where others are not.

    Args:
        table: The file, for the error.
        names: Of the columns.
        values: Shape (N, C).
        takes_zeros: Whether a column may be 0 throughout, as that of a class never probable.

    Raises:
        MisalignedError: If there is one: it is an index, a label or a number of something else.
    """
    if len(values) < _ENOUGH:
        return
    constant = (values == values[0]).all(axis=0)
    with np.errstate(invalid="ignore"):
        whole = (values == np.floor(values)).all(axis=0) & ~constant
        counting = (np.diff(values, axis=0) == 1).all(axis=0)
    strange = counting | (whole & (~whole & ~constant).any())
    same = constant & ~constant.all() & ~(takes_zeros & (values[0] == 0))
    _refuse_strange(table, names, strange, "holds whole numbers, unlike outputs")
    _refuse_strange(table, names, same, f"is {values[0, int(same.argmax())]:g} throughout")


def _refuse_strange(table: Table, names: Sequence[str], strange: Array, why: str) -> None:
    if not strange.any():
        return
    found = [name for name, is_strange in zip(names, strange, strict=True) if is_strange]
    raise MisalignedError(
        f"{table.path}: column {listed(found)} {why}: is it an index or a label? Say what it is "
        f"with --columns id={found[0]} or label={found[0]}, or leave it out with "
        f"ignore={found[0]}; if it is a class, name all classes in --classes"
    )
