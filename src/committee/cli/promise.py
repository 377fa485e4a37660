"""``committee search --promise``: the cheapest committee that can be certified."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from committee.certificates.certificate import Checked, agreeing_with, checked_on, reference_of
from committee.certificates.certify import Certified, certify
from committee.cli.certify import certified_json, check_promise, reference, say_certified
from committee.cli.metrics import with_metric
from committee.cli.options import amount, amounts, refuse, refuse_for_segmentation
from committee.cli.output import (
    print_json,
    say,
    say_broken,
    say_next,
    say_rows,
    say_wrapped,
    search_progress,
)
from committee.cli.stores import (
    confidence_for,
    next_words,
    open_split,
    open_test,
    skipped,
    unit_for,
)
from committee.errors import CostError
from committee.pool.evaluate import check_test_pool, evaluate, shared_warnings
from committee.pool.metrics import Metric
from committee.pool.pool import Pool
from committee.report.rows import CHOSEN, SINGLE, Report, Row
from committee.report.text import at_thresholds
from committee.rule.cascade import Cascade
from committee.selection.exhaustive import search as exact
from committee.selection.front import Front
from committee.selection.rules import refuse_auto
from committee.selection.targets import Target


def search_with_promise(
    store: str,
    split: str | None,
    test: str | None,
    out: str | None,
    as_json: bool,
    *,
    level: float,
    match: str | None,
    agree_with: str | None,
    within: float | None,
    min_accuracy: float | None,
    max_cost: str | None,
    cost_limit: str | None,
    worst_case: list[str] | None,
    max_models: int | None,
    confidence: str | None,
    combine: str | None,
    calibrated: bool,
    metric: str | None,
    unit: str | None,
    threads: int | None,
) -> None:
    """Certify a committee on the split that chooses, print it and write it; see ``search``."""
    check_promise("search --promise", match, agree_with, min_accuracy, within)
    refuse("--match or --agree-with", within=within is not None and min_accuracy is not None)
    refuse("promises without --agree-with", metric=metric is not None and agree_with is not None)
    refuse_auto("search --promise", combine, confidence or "")
    pool = open_split(store, split, "val", calibrated)
    if not pool.keeps_outputs:
        refuse_for_segmentation(promise=True)
    test_pool = open_test(store, split, test, calibrated)
    named = reference(match or agree_with, pool)
    usual = confidence_for(pool, confidence)
    other = None if named is None else reference_of(pool, named, combine, usual)
    if agree_with is not None and other is not None:
        pool = agreeing_with(pool, other)
        test_pool = test_pool and agreeing_with(test_pool, other)
    pool, by = with_metric(pool, metric, None)
    unlabelled = test_pool is not None and test_pool.samples.labels is None
    if test is None and unlabelled and by.needs_labels:
        test_pool = None
    unit = unit_for(pool, unit, as_json)
    rule: dict[str, Any] = {"combine": combine, "unit": unit, "metric": by, "threads": threads}
    singles = exact(pool, 1, confidence=usual, **rule)
    if test_pool is not None:
        check_test_pool(pool, test_pool, by, unit)
    with search_progress(not as_json) as progress:
        found = certify(
            pool,
            match=other if match else None,
            agree_with=other if agree_with else None,
            within=within or 0.0,
            min_accuracy=min_accuracy,
            max_cost=_most(max_cost, singles, other),
            cost_limit=None if cost_limit is None else amount("--cost-limit", cost_limit),
            worst_case=_worst(worst_case, unit),
            level=level,
            max_models=max_models,
            confidence=confidence,
            progress=progress,
            **rule,
        )
    if out:
        found.cascade.save(out)
    result = _Result(found, singles, test_pool, by, match)
    if as_json:
        print_json(result.to_json())
    else:
        _print(result, out, store)


def _most(max_cost: str | None, singles: Front, reference: Cascade | None) -> float | None:
    """Return the cost that ``--max-cost`` names; a percentage is of the reference's."""
    if max_cost is None:
        return None
    most = amount("--max-cost", max_cost.removesuffix("%"))
    if not max_cost.endswith("%"):
        return most
    if reference is None:
        return Target(max_cost=most / 100, share=True).cost(singles)
    own = singles.settings
    return most / 100 * evaluate(reference, singles.pool, own.unit, own.metric).average_cost


def _worst(worst_case: list[str] | None, unit: str) -> float | None:
    bounds = amounts("--worst-case", worst_case, unit)
    if bounds.keys() - {unit}:
        raise CostError(f"--worst-case: with --promise it is in the unit of the promise, {unit}")
    return bounds.get(unit)


@dataclass(frozen=True)
class _Result:
    """A certified committee beside the single models."""

    found: Certified
    singles: Front
    test: Pool | None
    metric: Metric
    match: str | None

    @cached_property
    def rows(self) -> list[Row]:
        """The single models by rising cost, then the choice, on both splits."""
        pool, own = self.singles.pool, self.singles.settings
        names = pool.singles(own.combine)
        costs = pool.costs.values(own.unit)
        ordered = sorted(names, key=lambda name: sum(costs[each] for each in names[name]))
        report = Report(self.singles, self.test, self.match if self.match in names else None)
        alone = [(SINGLE, self.singles.alone(name)) for name in ordered]
        return report.rows_of([*alone, (CHOSEN, self.found.cascade)])

    @cached_property
    def checked(self) -> Checked | None:
        """What the test split says of the promise."""
        if self.test is None:
            return None
        return checked_on(self.found.cascade, self.test, self.metric)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the samples of both splits."""
        return shared_warnings(self.singles.pool, self.test)

    def to_json(self) -> dict[str, Any]:
        row = self.rows[-1]
        return {
            **certified_json(self.found),
            "evaluation": row.val.to_json(),
            "test": row.test and row.test.to_json(),
            "versus": row.versus and row.versus.to_json(),
            "promise_on_test": self.checked and self.checked.to_json(),
            "warnings": list(self.notes),
            "broken_left_out": skipped(self.singles.pool, self.test),
        }


def _print(result: _Result, out: str | None, store: str) -> None:
    say_certified(result.found)
    say_rows(result.rows, result.notes)
    say_broken(result.singles.pool, result.test)
    if result.checked is None:
        say("No other split with labels checks the promise; name one with --test.")
    else:
        say_wrapped(result.checked.lines[-1])
    if out:
        cascade = result.found.cascade
        say_wrapped(f"Chosen: {cascade}{at_thresholds(cascade)}, written to {out}")
        say_next(f"Next: committee {shlex.join(next_words(cascade, out, store, result.metric))}")
