"""``committee certify``, ``committee search --promise``, and what they print of certificates."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, overload

import typer

from committee.certificates.certificate import (
    Checked,
    agreeing_with,
    checked_on,
    reference_of,
)
from committee.certificates.certify import Certified
from committee.certificates.certify import certify as certified
from committee.certificates.figures import promise_text
from committee.cli import options as opt
from committee.cli.choice import caption_of, choice_lines
from committee.cli.metrics import with_metric
from committee.cli.options import (
    amount,
    amounts,
    names,
    refuse,
    refuse_for_segmentation,
    wide_margin,
)
from committee.cli.output import (
    print_json,
    say,
    say_broken,
    say_committees,
    say_next,
    say_notes,
    say_pairs,
    say_wrapped,
    search_progress,
)
from committee.cli.stores import (
    certifiable_split,
    confidence_for,
    counted_on,
    next_words,
    open_split,
    open_test,
    root_of,
    skipped,
    unit_for,
)
from committee.data.table import read_labels
from committee.errors import CascadeError, CostError, MisalignedError
from committee.pool.evaluate import check_test_pool, evaluate, shared_warnings
from committee.pool.metrics import Metric
from committee.pool.pool import Pool
from committee.report.rows import CHOSEN, SINGLE, Report, Row
from committee.rule.cascade import Cascade
from committee.rule.certificate import CertificateRecord
from committee.run.open import open_cascade, what_is
from committee.selection.exhaustive import search as exact
from committee.selection.front import Front, check_within
from committee.selection.rules import refuse_auto
from committee.selection.targets import Target
from committee.text import about, counted, from_cell, listed

_CASCADES = (".json", ".onnx")

Reference = Annotated[
    str | None,
    typer.Option(
        metavar="A[,B,...]|CASCADE",
        help="The promise: at most --within less accurate than this model, ensemble or cascade "
        "file.",
    ),
]
Agreement = Annotated[
    str | None,
    typer.Option(
        metavar="A[,B,...]|CASCADE",
        help="The promise: its answer on all but --within of new samples; needs no labels.",
    ),
]


def certify(
    cascade: opt.CascadePath,
    store: opt.Stores,
    split: Annotated[
        str | None,
        typer.Option(
            help="The split that tests; it must not have chosen. Default: val; if that chose, the "
            "only other split."
        ),
    ] = None,
    match: Reference = None,
    within: Annotated[float, typer.Option(help="A share, 0 to 1; 0.005 is half a point.")] = 0.0,
    agree_with: Agreement = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="The promise: at least this accuracy, 0 to 1.")
    ] = None,
    max_cost: Annotated[
        str | None, typer.Option(metavar="COST", help="Beside it: at most this average cost.")
    ] = None,
    cost_limit: opt.CostLimit = None,
    level: Annotated[
        float, typer.Option(help="How certain the promise is, 0.5 to 0.999999.")
    ] = 0.95,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="DONE.csv",
            help="With --match: the list of committee label with its column label filled in. "
            "Samples without a label count as lost.",
        ),
    ] = None,
    unit: opt.Unit = None,
    metric: opt.MetricName = None,
    seed: Annotated[int, typer.Option(help="The order in which --max-cost takes samples.")] = 0,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="CASCADE.json", help="Default: the given file, if it has no certificate."
        ),
    ] = None,
    on: opt.CountOn = None,
    address: opt.Address = None,
    as_json: opt.AsJson = False,
) -> None:
    """Certify what a given cascade promises on new data.

    Give one of --match, --agree-with and --min-accuracy. The split that tests must not have chosen,
    trained or calibrated anything; the certificate becomes part of the cascade file.

    Example: committee certify c.json predictions --split test --match large --within 0.02
    """
    _check_promise("certify", match, agree_with, min_accuracy, within)
    refuse("--max-cost", cost_limit=cost_limit is not None and max_cost is None)
    refuse("--match", labels=labels is not None and match is None)
    refuse("--metric top-1", labels=labels is not None and metric not in (None, "top-1"))
    given = open_cascade(cascade).cascade
    target = out or cascade
    if out is None:
        _check_place(cascade, given)
    with counted_on(on, address, as_json) as run:
        pool = certifiable_split(
            "certify", cascade, given, store, split, run,
            agree_with=agree_with is not None, labels=labels is not None,
            max_cost=max_cost is not None,
        )  # fmt: skip
        pool, by = with_metric(pool, metric, None)
        if agree_with is None and labels is None and by.needs_labels:
            _check_has_labels(pool, cascade, store, match, within)
        found = certified(
            pool,
            match=reference(match, pool),
            agree_with=reference(agree_with, pool),
            within=within,
            min_accuracy=min_accuracy,
            max_cost=None if max_cost is None else amount("--max-cost", max_cost),
            cost_limit=None if cost_limit is None else amount("--cost-limit", cost_limit),
            level=level,
            cascade=given,
            labels=None if labels is None else _labels(Path(labels), pool),
            unit=unit,
            metric=by,
            seed=seed,
        )
    note = [
        *wide_margin(within), *_replaced(target), *_uncalibrated(given, match or agree_with)
    ]  # fmt: skip
    found.cascade.save(target)
    if as_json:
        print_json({**_certified_json(found), "written": target, "warnings": [*note, *pool.notes]})
        return
    _say_certified(found)
    say_notes([*note, *pool.notes])
    say(f"Written: {target}")


def _check_promise(
    command: str,
    match: str | None,
    agree_with: str | None,
    min_accuracy: float | None,
    within: float | None,
) -> None:
    """Refuse what is no promise, in the words of the options."""
    if sum(each is not None for each in (match, agree_with, min_accuracy)) != 1:
        raise CascadeError(
            f"{command}: give one of --match, --agree-with and --min-accuracy; each is a "
            "promise by itself, and --max-cost goes beside it"
        )
    check_within(within or 0.0, "--within")
    if min_accuracy is not None and not 0 < min_accuracy < 1:
        raise CascadeError(f"--min-accuracy {min_accuracy:g}: it must lie between 0 and 1")


def _check_has_labels(pool: Pool, path: str, store: str, match: str | None, within: float) -> None:
    """Refuse a split without labels, and name every way to certify on it."""
    if pool.samples.labels is not None:
        return
    split = pool.samples.split
    few = "" if match is None else (
        f" only the few on which answers differ: committee label {path} {store} --split {split} "
        f"--against {match}, then committee certify {path} {store} --split {split} --match {match} "
        f"--within {within:g} --labels to_label.csv; or label"
    )  # fmt: skip
    raise MisalignedError(
        f"certify: split {split!r} has no labels. Label{few} all samples: committee relabel "
        f"{root_of(store)} --split {split} --labels FILE; or certify that answers agree: "
        "--agree-with MODEL"
    )


def _uncalibrated(given: Cascade, named: str | None) -> list[str]:
    """Return a note on a reference whose answers a calibration would change; often empty."""
    if named is None or not given.calibrations or _is_file(named):
        return []
    relabels = any(each.made("decisions") != "decisions" for each in given.calibrations.values())
    if not relabels and "," not in named:
        return []
    return [
        f"{named} is the reference as its outputs stand, without the calibrations that the cascade "
        "carries. To compare with it calibrated, name a cascade file that has them"
    ]


def _check_place(path: str, given: Cascade) -> None:
    """Refuse to write into what is no cascade file, or to replace a certificate unasked."""
    if what_is(path) != "cascade file":
        raise CascadeError(f"certify: {path} is no cascade file to write to; name one by --out")
    if given.is_certified and given.certificate is not None:
        raise CascadeError(
            f"certify: {path} has a certificate: {_told(given.certificate)}. Name another file by "
            f"--out, or replace it by --out {path}"
        )


def _told(own: CertificateRecord) -> str:
    """Return what a certificate promises, and what tested it."""
    tested = f"tested on {counted(own.samples, 'sample')} of {own.split}, {own.date}"
    return f"{promise_text(own)}, {tested}"


def _replaced(path: str) -> list[str]:
    """Return a note on the certificate that a file has and is about to lose; empty without one."""
    if not Path(path).is_file() or what_is(path) != "cascade file":
        return []
    own = open_cascade(path).cascade.certificate
    if own is None:
        return []
    return [
        f"replaces the certificate that was in {path}: {_told(own)}. Of several on the same "
        "samples choose none by its result; --out writes another file"
    ]


@overload
def reference(text: str, pool: Pool) -> list[str] | Cascade: ...


@overload
def reference(text: None, pool: Pool) -> None: ...


def reference(text: str | None, pool: Pool) -> list[str] | Cascade | None:
    """Return the models or the cascade that a reference names, or None without one."""
    if text is None:
        return None
    if text and text not in pool.models and _is_file(text):
        return open_cascade(text).cascade
    return names(text)


def _is_file(text: str) -> bool:
    """Return True if a reference is named by a file or a bundle, not by its models."""
    return Path(text).suffix in _CASCADES or Path(text).is_dir()


def _labels(path: Path, pool: Pool) -> dict[str, int]:
    """Return the labels of a list of disagreements by id, without those that are empty."""
    ids, labels = read_labels(path, pool.samples.classes)
    known = set(pool.samples.ids)
    ids = [name if name in known else from_cell(name) for name in ids]
    twice = (
        sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
    )
    if twice:
        raise MisalignedError(f"{path}: {listed(twice)} appear twice; give each one label")
    return dict(zip(ids, labels.tolist(), strict=True))


def _certified_json(found: Certified) -> dict[str, Any]:
    """Return a certificate with the evaluation of its cascade on the samples that tested it."""
    return {
        "certificate": found.certificate.to_json(),
        "cascade": found.cascade.to_json(),
        "tested": found.evaluation.to_json(),
        "reference_kept": found.certificate.is_reference,
        "enough": found.enough,
    }


def _say_certified(found: Certified) -> None:
    """Print the sentence of a certificate, then what it rests on."""
    own = found.certificate.record
    say_wrapped(f"Certificate: {found.certificate.text}.")
    if own.wins is not None and not found.certificate.is_reference:
        lost = f", {own.unlabelled:,} of them without a label" if own.unlabelled else ""
        say_wrapped(
            f"Of {counted(own.samples, 'sample')} of {own.split} only the cascade is correct on "
            f"{own.wins:,}, only {own.reference} on {own.losses:,}{lost}."
        )
    if found.enough:
        many = about(found.enough, "sample")
        say_wrapped(f"{many[:1].upper()}{many[1:]} in all would probably do.")
    elif found.certificate.is_reference and own.choosing:
        say_wrapped("Many more samples would probably not do either; a larger --within might.")


def say_checked(found: Checked | None) -> None:
    """Print what a split says of a certificate, if there is one."""
    if found is not None:
        for line in found.lines:
            say_wrapped(line)


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
    _check_promise("search --promise", match, agree_with, min_accuracy, within)
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
        found = certified(
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
        """Notes on the margin and on the samples of both splits."""
        own = self.found.certificate.record
        within = None if own.promise == "at least" else own.margin
        return (*wide_margin(within), *shared_warnings(self.singles.pool, self.test))

    def to_json(self) -> dict[str, Any]:
        row = self.rows[-1]
        return {
            **_certified_json(self.found),
            "evaluation": row.val.to_json(),
            "test": row.test and row.test.to_json(),
            "versus": row.versus and row.versus.to_json(),
            "promise_on_test": self.checked and self.checked.to_json(),
            "warnings": list(self.notes),
            "broken_left_out": skipped(self.singles.pool, self.test),
        }


def _print(result: _Result, out: str | None, store: str) -> None:
    cascade, choice = result.found.cascade, result.rows[-1]
    say_pairs(choice_lines(choice))
    _say_certified(result.found)
    if result.checked is None:
        say("No other split with labels checks the promise; name one with --test.")
    else:
        say_wrapped(result.checked.lines[-1])
    say_committees(result.rows, choice, caption_of(result.rows))
    say_notes(result.notes)
    say_broken(result.singles.pool, result.test)
    if not out:
        say_wrapped("Next: add --out cascade.json to save what is certified.")
    else:
        say_wrapped(f"Written: {out}")
        say_next(f"Next: committee {shlex.join(next_words(cascade, out, store, result.metric))}")
