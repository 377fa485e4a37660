"""Commands: the line that chooses a committee of a report again and saves it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from committee.errors import CostError
from committee.report.rows import BEST_ENSEMBLE, ENSEMBLE, SINGLE, Row
from committee.rule.combinations import DEFAULT_COMBINE
from committee.selection.front import Front
from committee.selection.rules import AUTO

_FILE = "cascade.json"
_NOT_ON_FRONT = (SINGLE, ENSEMBLE, BEST_ENSEMBLE)


@dataclass(frozen=True)
class Saving:
    """The command that saves a committee: ``before``, the target of the committee, ``after``."""

    language: str
    before: str
    after: str

    def target(self, row: Row) -> str:
        """Return the part of the command that chooses one committee."""
        if self.language == "python":
            return _python_target(row)
        options = _target_options(row)
        if options:
            return shlex.join(options)
        if row.role in _NOT_ON_FRONT:
            return f"--ensemble {shlex.quote(','.join(row.cascade.names))}"
        # Full precision selects exactly this member of the front.
        return f"--max-cost {row.val.average_cost!r}"

    def line(self, row: Row) -> str:
        """Return the whole command for one committee."""
        return f"{self.before}{self.target(row)}{self.after}"


def saving_of(front: Front, store: str | None = None, split: str | None = None) -> Saving:
    """Return the command that saves committees of a front.

    It is a line of Python if no options of ``committee search`` give the same front.
    """
    words = None if store is None else _search(front, store, split)
    if words is None:
        return Saving("python", "", f'.cascade.save("{_FILE}")')
    return Saving("shell", shlex.join(words) + " ", f" --out {_FILE}")


def _target_options(row: Row) -> list[str]:
    """Return the options that chose a committee for its accuracy; empty for any other."""
    target = row.cascade.origin.target
    if not target.match and target.min_accuracy is None:
        return []
    words = ["--match", target.match] if target.match else []
    words += ["--within", repr(target.within)] if target.within else []
    for option, value in (("--min-accuracy", target.min_accuracy), ("--max-cost", target.max_cost)):
        words += [] if value is None else [option, repr(value)]
    return words


def _python_target(row: Row) -> str:
    if row.role in _NOT_ON_FRONT:
        combine = row.cascade.combine
        names = list(row.cascade.names)
        return f"cm.as_ensemble({names!r}, front.pool, combine={combine!r})"
    return f"front.at_most(cost={row.val.average_cost!r})"


def _search(front: Front, store: str, split: str | None) -> list[str] | None:
    """Return ``committee search`` with the settings of a front; None if no options give them."""
    own, pool = front.settings, front.pool
    options = _measure(front)
    if options is None or not front.exact:
        return None
    words = ["committee", "search", store, "--max-models", str(own.max_models)]
    words += ["--split", split] if split else []
    usual = pool.confidence_or("max_prob")
    combines, confidences = ({rule[part] for rule in own.rules} for part in (0, 1))
    confidence = AUTO if len(confidences) > 1 else own.confidence
    combine = AUTO if len(combines) > 1 else own.combine
    words += _unless(confidence == usual, "--confidence", confidence)
    words += _unless(combine == DEFAULT_COMBINE[pool.combined_kind], "--combine", combine)
    words += _unless(own.grid == 100, "--grid", str(own.grid))
    words += _unless(own.unit == _usual_unit(front), "--unit", own.unit)
    words += _unless(not own.self_cascades, "--self-cascades")
    words += _unless(own.families or own.self_cascades or not pool.families, "--no-families")
    words += _unless(not pool.calibrations, "--calibrated")
    for option, bounds in (("--worst-case", own.worst_case), ("--average-case", own.average_case)):
        for unit, bound in bounds.items():
            words += [option, f"{unit}={bound!r}"]
    return words + options


def _measure(front: Front) -> list[str] | None:
    """Return the options for the metric and the labels; None if there are none for them."""
    pool, metric = front.pool, front.settings.metric
    options = []
    if pool.samples.labelled_by:
        models = pool.samples.labelled_by.split("+")
        if not set(models) <= set(pool.names):
            return None
        options += ["--agree-with", ",".join(models)]
    if metric == pool.metric:
        return options
    return [*options, "--metric", metric.option] if metric.option else None


def _usual_unit(front: Front) -> str:
    """Return the default unit of costs; empty if there is none."""
    try:
        return front.pool.costs.unit()
    except CostError:
        return ""


def _unless(usual: bool, *words: str) -> list[str]:
    return [] if usual else list(words)
