"""Assign a role to each column of a table of predictions, or refuse the column by name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.data.table import TRUTH_WORDS
from committee.errors import DataError, MisalignedError
from committee.names import COUNTED, PREFIX, numbering
from committee.rule.outputs import WITH_CONFIDENCE
from committee.store.tables import Column, Table
from committee.text import listed, tidy, word

ROLES = ("model", "id", "label", "class", "value", "confidence", "cost", "outputs", "ignore")

# Usual names of columns by role, in any case and with any separators.
_WORDS: dict[str, frozenset[str]] = {
    role: frozenset(words.split())
    for role, words in {
        "id": "id ids sample samples sampleid sample_id index idx path paths filepath file_path "
        "file files filename filenames file_name image images imageid image_id image_path img "
        "img_path key keys uid uuid guid row_id item item_id doc_id document_id question_id "
        "prompt_id query_id example_id url uri",
        "label": " ".join(TRUTH_WORDS),
        "class": "class classes class_id class_name prediction predictions predicted pred preds "
        "predicted_class predicted_label pred_class pred_label y_pred y_hat yhat answer answers "
        "decision decisions",
        "confidence": "confidence confidences conf score scores certainty probability prob proba p "
        "max_prob",
        "value": "value values grade grades graded correct is_correct reward quality",
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
# With fewer rows, whole numbers do not tell an index from outputs.
_ENOUGH = 3
# The most columns that a remedy names.
_MOST_NAMED = 30


@dataclass(frozen=True, eq=False)
class Roles:
    """The columns of a table by role.

    ``costs`` maps columns to units, which are empty where the name says none. ``outputs`` is one
    column of rows or, with ``per_class``, one column per class.
    """

    id: str | None
    label: str | None
    decision: str | None
    value: str | None
    confidence: str | None
    costs: Mapping[str, str]
    outputs: tuple[str, ...]
    per_class: bool


def roles_of(
    table: Table,
    kind: str,
    columns: Mapping[str, Collection[str]],
    classes: Sequence[str] = (),
) -> Roles:
    """Return the role of each column of a file.

    ``columns`` are the user's by role and override the usual names; ``kind`` may be ``labels``.
    """
    chosen = {tidy(name): role for role, names in columns.items() for name in names}
    class_names = (
        frozenset(map(tidy, classes)) if kind in ("logits", "probabilities") else frozenset()
    )
    by_role: dict[str, list[str]] = {role: [] for role in ROLES}
    rest: list[str] = []
    for name, column in table.columns.items():
        role = chosen.get(name) or _role(name, column, kind, class_names)
        (by_role[role] if role else rest).append(name)
    _refuse_doubled_roles(table, by_role)
    outputs = by_role["outputs"]
    if kind in ("logits", "probabilities"):
        if not outputs and table.tabular:
            outputs, rest = _class_columns(table, rest)
            _refuse_mixture(table, outputs)
        _refuse_decisions(table, kind, by_role, outputs)
    if kind == "labels" and not by_role["label"]:
        candidates = by_role["class"] or by_role["outputs"] or ([] if table.tabular else rest)
        if len(candidates) == 1:
            by_role["label"], by_role["class"], outputs = candidates, [], []
            rest = [name for name in rest if name not in candidates]
    _refuse_rest(table, kind, rest, bool(by_role["id"]))
    return Roles(
        id=next(iter(by_role["id"]), None),
        label=next(iter(by_role["label"]), None),
        decision=next(iter(by_role["class"]), None),
        value=next(iter(by_role["value"]), None),
        confidence=next(iter(by_role["confidence"]), None),
        costs={name: _unit_of(name) for name in by_role["cost"]},
        outputs=tuple(outputs),
        per_class=table.tabular and all(table.columns[name].rank == 1 for name in outputs),
    )


def _role(name: str, column: Column, kind: str, classes: frozenset[str]) -> str:
    """Return the role that a column's name suggests; empty if it suggests none."""
    if name in classes:
        return "outputs"
    own = word(name)
    if column.rank == 2:
        return "outputs" if own in _WORDS["outputs"] and kind not in WITH_CONFIDENCE else ""
    if own in _WORDS["outputs"] - _WORDS["class"] - _WORDS["confidence"]:
        return "outputs" if kind not in WITH_CONFIDENCE else ""
    if own in _UNITS or own.startswith("cost_") or own.endswith("_cost"):
        return "cost"
    # Outcomes are graded already, and nothing else is.
    apart = ("label", "class") if kind == "outcomes" else ("value",)
    roles = (role for role in ROLES if role not in apart)
    return next((role for role in roles if own in _WORDS.get(role, ())), "")


def id_column(table: Table) -> str | None:
    """Return the first column whose name is usual for ids; None if there is none."""
    return next((name for name in table.columns if word(name) in _WORDS["id"]), None)


def _unit_of(name: str) -> str:
    """Return the unit in a column's name: ``dollars`` for ``cost_usd``, empty for ``cost``."""
    own = word(name)
    bare = own.removeprefix("cost_").removesuffix("_cost")
    return _UNITS.get(own) or _UNITS.get(bare) or ""


def _refuse_doubled_roles(table: Table, by_role: Mapping[str, Sequence[str]]) -> None:
    for role in ("id", "label", "class", "value", "confidence"):
        names = by_role[role]
        if len(names) > 1:
            raise DataError(
                f"{table.path}: columns {listed(names)} can all be the {role}. Say which with "
                f"--columns {role}={names[0]},ignore={names[1]}"
            )
    costs = by_role["cost"]
    units = [_unit_of(name) for name in costs]
    if len(set(units)) < len(units):
        raise DataError(
            f"{table.path}: columns {listed(costs)} are costs in the same unit. Leave out all but "
            f"one: --columns ignore={costs[1]}"
        )


def _refuse_decisions(
    table: Table, kind: str, by_role: Mapping[str, Sequence[str]], outputs: Sequence[str]
) -> None:
    """Refuse columns of decisions beside outputs, and two arrays of outputs."""
    decisions = [*by_role["class"], *by_role["confidence"]]
    if not outputs and len(decisions) == 1 and by_role["confidence"]:
        raise DataError(
            f"{table.path}: {listed(decisions)} is one number per sample; {kind} need one for each "
            "class. For two classes give two columns, 1 - p and p"
        )
    if decisions:
        raise DataError(
            f"{table.path}: columns {listed(decisions)} belong to decisions (--kind decisions), "
            f"not {kind}. Leave them out with --columns {_ignoring(decisions)}"
        )
    rows = [name for name in outputs if table.columns[name].rank == 2]
    if rows and len(outputs) > 1:
        raise DataError(
            f"{table.path}: {listed(outputs)} can all be the outputs. Say which with --columns "
            f"outputs={outputs[0]},ignore={outputs[1]}"
        )


def _class_columns(table: Table, rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the columns that can each hold the outputs of one class, and the other columns."""
    outputs = [n for n in rest if table.columns[n].rank == 1 and not _UNNAMED.fullmatch(n)]
    return outputs, [name for name in rest if name not in outputs]


def _refuse_mixture(table: Table, names: Sequence[str]) -> None:
    """Refuse columns of which only some are numbered or prefixed: the others are no classes."""
    bare = [tidy(name) for name in names]
    counted = [match["before"] if (match := COUNTED.fullmatch(name)) else None for name in bare]
    prefixed = [match[0] if (match := PREFIX.match(name)) else None for name in bare]
    for forms, is_form in ((counted, _is_numbering), (prefixed, lambda group: len(group) > 1)):
        for form in dict.fromkeys(form for form in forms if form is not None):
            inside = [name for name, own in zip(names, forms, strict=True) if own == form]
            others = [name for name, own in zip(names, forms, strict=True) if own != form]
            if others and is_form(inside):
                raise DataError(
                    f"{table.path}: columns {listed(inside)} are named as outputs, "
                    f"not {listed(others)}. Leave them out with --columns "
                    f"{_ignoring(others)}; if they are classes, name all in --classes"
                )


def _is_numbering(names: Sequence[str]) -> bool:
    return numbering([tidy(name) for name in names]) is not None


def _refuse_rest(table: Table, kind: str, rest: Sequence[str], has_id: bool) -> None:
    if not rest:
        return
    shown = [name or "(no name)" for name in rest]
    takes = "id, label" if kind == "labels" else "id, label, class, confidence, cost"
    if kind == "outcomes":
        takes = "id, value, confidence, cost"
    if kind in ("logits", "probabilities"):
        takes = "id, label, cost or outputs" if not table.tabular else "id, label, cost or a class"
    first = rest[0] or ""
    if all(_UNNAMED.fullmatch(name) for name in rest):
        raise DataError(
            f"{table.path}: column {listed(shown)} has no name; is it a pandas index? "
            f"Write with index=False, or say what it is: --columns id={first} or ignore={first}"
        )
    if table.columns[first].rank == 2 and kind not in WITH_CONFIDENCE:
        use = f"outputs={first}"
    else:
        use = "" if has_id else _likely_id(table, rest)
    if not use and not has_id and kind == "outcomes":
        use = "id=NAME"
    say = f"Say what they are with --columns {use}, or leave" if use else "Leave"
    raise DataError(
        f"{table.path}: columns {listed(shown)} are none of {takes}. {say} them out with "
        f"--columns {_ignoring(rest)}"
    )


def _likely_id(table: Table, names: Sequence[str]) -> str:
    """Return the option for the column that is most likely the id; empty if none looks like one."""
    for name in names:
        if word(name).endswith("id") and table.columns[name].rank == 1:
            values = table.read(name).tolist()
            if len(set(values)) == len(values):
                return f"id={name}"
    return ""


def _ignoring(names: Sequence[str]) -> str:
    """Return the option that leaves out these columns; of very many, the first three."""
    between = ",ignore=" if any("," in name for name in names) else ","
    few = names[:3] if len(names) > _MOST_NAMED else names
    more = ",…" if len(few) < len(names) else ""
    return shlex.quote(f"ignore={between.join(few)}") + more


def refuse_counting(
    table: Table, names: Sequence[str], values: Array, takes_zeros: bool = True
) -> None:
    """Refuse a column of outputs that looks like an index or a label.

    Such a column is constant, counts up by 1, or holds whole numbers where other columns do not.
    With ``takes_zeros`` a column may be 0 throughout, as for a class that is never probable.
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
    columns = [name for name, is_strange in zip(names, strange, strict=True) if is_strange]
    raise MisalignedError(
        f"{table.path}: column {listed(columns)} {why}: is it an index or a label? Say what it "
        f"is with --columns id={columns[0]} or label={columns[0]}, or leave it out with "
        f"ignore={columns[0]}; if it is a class, name all classes in --classes"
    )
