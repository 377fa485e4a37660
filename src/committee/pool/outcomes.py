"""Outcomes: how good the answer of each model to each sample was, with the model's confidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from committee.arrays import Array
from committee.errors import CascadeError, ShapeError
from committee.pool.metrics import GRADED, VALUE, Metric
from committee.rule.outputs import Outputs
from committee.spec.model import ImportedModel, KnownModel
from committee.text import printable

Bounds = tuple[float, float]


def bounds_of(models: Iterable[KnownModel]) -> Bounds | None:
    """Return the least and the largest value of outcomes; None if they are graded 1 or 0."""
    known = {each.bounds if isinstance(each, ImportedModel) else None for each in models}
    if len(known) > 1:
        text = " and ".join("0 or 1" if b is None else f"{b[0]:g} to {b[1]:g}" for b in known)
        raise ShapeError(
            f"Pool: values of outcomes must have the same bounds, not {text}. Import all models "
            "with one --bounds"
        )
    return next(iter(known), None)


def metric_of(models: Iterable[KnownModel]) -> Metric:
    """Return what outcomes score: 1 or 0 where answers are graded so, else their values."""
    return GRADED if bounds_of(models) is None else VALUE


def check_values(
    ids: Sequence[str], outputs: Mapping[str, Outputs], models: Iterable[KnownModel]
) -> None:
    """Refuse values of outcomes beyond their bounds."""
    bounds = bounds_of(models)
    for name, own in outputs.items():
        wrong = _beyond(own.values, bounds)
        if wrong.any():
            row = int(wrong.argmax())
            every = [each.values for each in outputs.values()]
            low = min(0.0, *(float(each.min(initial=0)) for each in every))
            high = max(1.0, *(float(each.max(initial=0)) for each in every))
            law = "0 or 1" if bounds is None else f"from {bounds[0]:g} to {bounds[1]:g}"
            raise ShapeError(
                f"model {name!r}: sample {printable(ids[row])!r} has the value "
                f"{own.values[row]:g}; values are {law} here. Fix it, or state other bounds: "
                f"--bounds {low:g},{high:g}, in Python bounds=({low:g}, {high:g})"
            )


def _beyond(values: Array, bounds: Bounds | None) -> Array:
    if bounds is None:
        return ~np.isin(values, (0, 1))
    return np.asarray((values < bounds[0]) | (values > bounds[1]))


def refuse_outcomes(where: str, kind: str) -> None:
    """Refuse outcomes where the answers of models are compared with each other."""
    if kind == "outcomes":
        raise CascadeError(
            f"{where}: outcomes tell how good an answer was, not which it was, so answers cannot "
            "be compared. Import decisions, or match a model in value"
        )
