"""``committee evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from committee.certificates.certificate import (
    Certificate,
    Checked,
    agreeing_with,
    checked_on,
    chosen_by,
)
from committee.certificates.stages import Gaps, gaps_on
from committee.cli import options as opt
from committee.cli.certify import say_checked
from committee.cli.choice import choice_lines, headings_text
from committee.cli.metrics import note_on_metric, with_metric_of
from committee.cli.options import refuse_for_segmentation
from committee.cli.output import (
    print_json,
    say_broken,
    say_committees,
    say_notes,
    say_pairs,
    say_wrapped,
    show,
)
from committee.cli.stores import check_models, counted_on, is_root, open_counted, root_of, skipped
from committee.errors import CascadeError, StoreError
from committee.pool.comparison import identity_of
from committee.pool.evaluate import Evaluation
from committee.pool.evaluate import evaluate as evaluate_cascade
from committee.pool.metrics import Metric
from committee.pool.pool import Pool
from committee.pool.sharded import Runs
from committee.report.promise import gaps_table
from committee.report.rows import CHOSEN, SINGLE, Row
from committee.rule.cascade import Cascade
from committee.rule.origin import Origin
from committee.run.open import open_cascade, what_is
from committee.selection.notes import few_samples, of_comparison, of_promises, target_of
from committee.selection.paired import Comparison, compare
from committee.selection.targets import Promise, promises_of
from committee.store.split import known_split, note_on_chooser
from committee.text import counted, listed


def evaluate(
    cascade: opt.CascadePath,
    store: opt.Stores,
    split: opt.TestSplit = None,
    unit: opt.Unit = None,
    metric: opt.MetricName = None,
    agree_with: opt.AgreeWith = None,
    per_stage: Annotated[
        bool,
        typer.Option(
            "--per-stage",
            help="Compare with the reference of the certificate, else with the model of --match, "
            "at each exit stage, with a lower bound for each.",
        ),
    ] = False,
    on: opt.CountOn = None,
    address: opt.Address = None,
    as_json: opt.AsJson = False,
) -> None:
    """Evaluate a cascade on stored predictions, beside its models and its reference.

    It exits with code 1 if the certificate is void or these samples break its promise.

    Example: committee evaluate c.json predictions
    """
    if _is_store(cascade):
        raise CascadeError(
            f"evaluate: {cascade} is a store; the cascade comes first: "
            "committee evaluate CASCADE STORE"
        )
    with counted_on(on, address, as_json) as run:
        findings, pool = findings_on(
            cascade, store, split, unit, metric, agree_with, per_stage, run
        )
    if as_json:
        print_json(findings.to_json(pool))
    else:
        _print(findings, pool)
    if findings.certificate is not None and findings.certificate.failed:
        raise typer.Exit(opt.FAILED)


def _is_store(path: str) -> bool:
    """Return True if a path is a store of predictions, or one split of it."""
    folder = Path(path)
    stored = is_root(folder) or is_root(folder.parent)
    return stored and folder.is_dir() and not (folder / "cascade.json").exists()


@dataclass(frozen=True)
class Findings:
    """A cascade on a split: its evaluation, comparisons, promises and notes."""

    cascade: Cascade
    evaluation: Evaluation
    models: Mapping[str, Evaluation]
    versus: Comparison | None
    promises: tuple[Promise, ...]
    certificate: Checked | None
    gaps: Gaps | None
    origin_notes: list[str]
    chose: bool  # These samples chose the cascade.
    fitted: bool  # They fitted one of its calibrations.

    def notes(self, pool: Pool) -> list[str]:
        """Return what should be known of the figures, one line each."""
        return [
            *(of_comparison(self.versus, pool.task) if self.versus else ()),
            *of_promises(self.promises),
            *few_samples(self.evaluation, pool.task, "evaluate"),
            *pool.notes,
        ]

    def to_json(self, pool: Pool) -> dict[str, Any]:
        """Return every figure by name."""
        return {
            **self.evaluation.to_json(),
            "models": {name: each.to_json() for name, each in self.models.items()},
            "versus": self.versus and self.versus.to_json(),
            "promises": [each.to_json() for each in self.promises],
            "certificate": self.certificate and self.certificate.to_json(),
            "per_stage": self.gaps and self.gaps.to_json(),
            "warnings": self.notes(pool),
            "chosen_on_these_samples": self.chose,
            "notes": self.origin_notes,
            "broken_left_out": skipped(pool),
        }


def findings_on(
    cascade: str,
    store: str,
    split: str | None = None,
    unit: str | None = None,
    metric: str | None = None,
    agree_with: str | None = None,
    per_stage: bool = False,
    run: Runs[Any] | None = None,
) -> tuple[Findings, Pool]:
    """Return what a split of a store says of a cascade, and that split; for options see above."""
    chosen = open_cascade(cascade).cascade
    _check_test_split(store, split)
    needs_rows = {"per_stage": per_stage, "agree_with": agree_with is not None}
    pool = open_counted(store, split, "test", run, **needs_rows)
    if not pool.keeps_outputs:
        refuse_for_segmentation(metric=metric is not None, agree_with=agree_with is not None)
    pool, by = with_metric_of(chosen, pool, metric, agree_with)
    if pool.samples.labels is None and (other := _agreed_with(chosen, pool)) is not None:
        pool = agreeing_with(pool, other)
        by = by if metric else pool.metric
    if what_is(cascade) == "cascade file":  # export writes other graphs of the same models
        check_models("evaluate", cascade, chosen, store, pool.holding(chosen.models_of_stages))
    gaps = gaps_on(chosen, pool, by) if per_stage else None
    return _findings(chosen, pool, unit, by, root_of(store), gaps), pool


def _findings(
    chosen: Cascade,
    pool: Pool,
    unit: str | None,
    metric: Metric,
    root: Path,
    gaps: Gaps | None,
) -> Findings:
    own = pool.holding(chosen.models_of_stages)
    # The default unit is that of the choice.
    usual = chosen.origin.unit
    if unit is None and usual in own.only(chosen.names).costs.units:
        unit = usual
    evaluation = evaluate_cascade(chosen, pool, unit, metric)
    chose = bool(chosen_by(replace(chosen, calibrations={}), own))
    about = "" if chose else note_on_chooser(root, chosen.origin, pool.samples)
    rule = (chosen.confidence, chosen.combine, chosen.calibrations)
    cascades = {
        name: Cascade.of([name], (), *rule)
        for stage in own.layout.on_wholes(chosen.models_of_stages)
        for name in stage
    }
    versus = None
    # A promise holds for the measure by which the cascade was chosen, and for no other.
    promised = chosen.origin.promised
    same_measure = promised is None or promised.measure == evaluation.measure
    target = _reference_of(chosen)
    if target is not None and all(name in own.outputs for name in target[1].names):
        name, reference, within = target
        cascades = {name: reference, **cascades}
        versus = compare(
            chosen,
            reference,
            pool,
            unit,
            metric,
            name=name,
            within=within if same_measure else None,
            chose=chose,
        )
    used = {**chosen.calibrations, **chosen.origin.target.known_calibrations()}
    there = {name: each for name, each in used.items() if name in own.outputs}
    fitted = [n for n, c in there.items() if c.samples == identity_of(own, [n]) != ""]
    return Findings(
        chosen,
        evaluation,
        {name: evaluate_cascade(each, pool, unit, metric) for name, each in cascades.items()},
        versus,
        promises_of(chosen, evaluation, pool) if same_measure and not chose else (),
        checked_on(chosen, pool, metric),
        gaps,
        [
            note
            for note in (
                about,
                _note_on_labels(root, chosen.origin),
                note_on_metric(chosen, metric),
            )
            if note
        ],
        chose,
        bool(fitted),
    )


def _note_on_labels(root: Path, origin: Origin) -> str:
    """Return a note if the split that chose a cascade has other labels now; else an empty text."""
    folder, then = root / origin.split, origin.labels_fingerprint
    known = known_split(folder, ()) if then and folder.is_dir() and folder != root else None
    if known is None or known.samples.labels_fingerprint in ("", then):
        return ""
    own = known.samples
    count = origin.promised and origin.promised.samples
    if count != len(own) or own.identity not in ("", origin.samples_fingerprint):
        return ""
    return (
        f"the labels of '{own.split}' in this store are not those that chose the cascade: what it "
        "had there it had by the labels of then. Search again"
    )


def _agreed_with(chosen: Cascade, pool: Pool) -> Cascade | None:
    """Return the reference of a certified agreement, which needs no labels; else None."""
    own = chosen.certificate
    if not chosen.is_certified or own is None or own.promise != "agreement":
        return None
    other = Certificate.of(chosen).reference()
    return other if other and all(name in pool.outputs for name in other.names) else None


def _reference_of(chosen: Cascade) -> tuple[str, Cascade, float | None] | None:
    """Return what a cascade should match: name, rule and margin; the last None if certified."""
    target = target_of(chosen)
    if target is not None or not chosen.is_certified:
        return target
    certificate = Certificate.of(chosen)
    other = certificate.reference()
    return None if other is None else (certificate.record.reference, other, None)


def _check_test_split(store: str, split: str | None) -> None:
    """Refuse a store without a test split, if no other split is named."""
    root = Path(store)
    if split or not is_root(root) or (root / "test").is_dir():
        return
    known = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if known:
        raise StoreError(
            f"evaluate: {store} has no split 'test'. There are: {listed(known)}. Predict or import "
            f"a test split, or name one with --split {known[0]}; the split that chose the cascade "
            "flatters it"
        )


def _promised(chosen: Cascade, measure: str) -> str:
    """Return a line on the accuracy on the validation split; empty if the file lacks it."""
    promised = chosen.origin.promised
    if promised is None:
        return ""
    then = promised.measure
    other = "" if then == measure else f", by another measure: {then}"
    share = f"{100 * promised.accuracy:.1f} %"
    own = chosen.certificate
    if own is not None and own.choosing and own.samples == promised.samples:
        tested = f"the {counted(own.samples, 'sample')} of {own.split} that tested it"
        return f"It had {share} on {tested} and did not choose it{other}."
    return f"It had {share} on {chosen.origin.split}, which chose it{other}."


def _rows(findings: Findings, pool: Pool) -> list[Row]:
    """Return the reference and the models, then the cascade, as rows of a table."""
    versus, task = findings.versus, pool.task
    reference = "" if versus is None else versus.reference
    cost = None if versus is None else findings.models[reference].average_cost

    def speedup(own: Evaluation) -> float | None:
        return cost / own.average_cost if cost is not None and own.average_cost else None

    rows = [
        Row(Cascade.of([name]), own, role=SINGLE, speedup=speedup(own), reference=reference)
        for name, own in findings.models.items()
        if name != str(findings.cascade)
    ]
    own = findings.evaluation
    chosen = Row(
        findings.cascade, own, role=CHOSEN, speedup=speedup(own), reference=reference, task=task,
        versus=versus, promises=findings.promises,
    )  # fmt: skip
    return [*rows, chosen]


def _print(findings: Findings, pool: Pool) -> None:
    own, task = findings.evaluation, pool.task
    rows = _rows(findings, pool)
    say_checked(findings.certificate)
    say_pairs(choice_lines(rows[-1], "--split"))
    if line := _promised(findings.cascade, own.measure):
        say_wrapped(line)
    on = f"On {own.split}, {own.samples:,} {task.samples}."
    say_committees(rows, rows[-1], f"{headings_text(rows[-1])} {on}")
    if findings.gaps is not None:
        show(gaps_table(findings.gaps).rich())
    say_notes((*few_samples(own, task, "evaluate"), *pool.notes))
    say_broken(pool)
    say_notes(findings.origin_notes)
    checked = findings.certificate
    if checked is not None and checked.certificate is not None and checked.problem:
        return  # It said so, and why.
    if findings.fitted:
        say_wrapped("These samples fitted calibrations of the cascade. Evaluate on another split.")
    if findings.chose:
        chose = f"These {task.samples} chose the cascade"
        say_wrapped(f"{chose}: expect less on new data. Evaluate on another split.")
