"""Certify: choose the cheapest committee that passes an exact test, or test a given one."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from committee.arrays import Array
from committee.certificates.candidates import USUAL, rules_to_try
from committee.certificates.certificate import (
    Certificate,
    agreeing_with,
    chosen_by,
    enough_text,
    promised_goal,
)
from committee.certificates.costs import cost_bound
from committee.certificates.disagreements import check_labelled, disagreements
from committee.certificates.exact_tests import paired_lower_bound, share_lower_bound
from committee.certificates.figures import level_text, share_text
from committee.certificates.procedure import (
    COST_SHARE,
    PROCEDURE,
    Passed,
    Rule,
    Tested,
    divided,
    tested_paths,
)
from committee.certificates.promised import Promised, checked_promise
from committee.errors import CascadeError, Infeasible, MisalignedError
from committee.pool.comparison import identity_of
from committee.pool.costs import spent
from committee.pool.evaluate import (
    Evaluation,
    evaluate,
    exits_of,
    measure_of,
    source_of,
    stage_costs,
    with_expected,
)
from committee.pool.metrics import TOP_1, Metric
from committee.pool.pool import Pool
from committee.pool.prefixes import StageSequence
from committee.rule.calibration import Calibration
from committee.rule.cascade import Cascade
from committee.rule.certificate import CertificateRecord
from committee.selection.front import committee_of
from committee.selection.options import most_models, processors
from committee.selection.paired import compared_counts
from committee.selection.rules import Progress
from committee.selection.sequences import within_bounds
from committee.text import counted, human_cost, percent, printable
from committee.version import __version__

# Stages of a cascade that paths know.
_MOST_STAGES = 3
# Samples below which no promise is tried.
_LEAST = 40
_FIXED = "fixed committee 1"


@dataclass(frozen=True)
class Certified:
    """A cascade with its certificate.

    Args:
        cascade: The cascade; its file carries the certificate.
        certificate: The certificate.
        evaluation: Of the cascade on the samples that tested it.
        enough: If nothing cheaper than the reference passed, about how many samples would do; None
            if something did, or no number would.
    """

    cascade: Cascade
    certificate: Certificate
    evaluation: Evaluation
    enough: int | None = None

    def __str__(self) -> str:
        return f"{self.cascade}: {self.certificate}"

    def __repr__(self) -> str:
        return f"<Certified: {printable(str(self))}>"

    def _repr_html_(self) -> str:
        return self.certificate._repr_html_()


def certify(
    pool: Pool,
    *,
    match: str | Sequence[str] | Cascade | None = None,
    agree_with: str | Sequence[str] | Cascade | None = None,
    within: float = 0.0,
    min_accuracy: float | None = None,
    max_cost: float | None = None,
    cost_limit: float | None = None,
    level: float = 0.95,
    cascade: Cascade | None = None,
    labels: Mapping[str, int] | None = None,
    max_models: int | None = None,
    confidence: str | None = None,
    combine: str | None = None,
    unit: str | None = None,
    metric: Metric | None = None,
    worst_case: float | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Certified:
    """Return the cheapest committee that can be certified to keep a promise on new data.

    A part of the samples chooses, the others test, so the promise holds at its level for new
    samples like these. Give one of ``match``, ``agree_with`` and ``min_accuracy``. For the first
    two the result is never empty: if nothing cheaper passes, it is the reference itself.

    Args:
        pool: Predictions; labels unless the promise is agreement. None of the samples may have
            trained, tuned or calibrated the models.
        match: The reference, a model, an ensemble or a cascade in use. The promise is an accuracy
            of at most ``within`` less.
        agree_with: The reference. The promise is its answer on at least ``1 - within`` of new
            samples, which needs no label.
        within: A share of 1; 0.005 is half a point.
        min_accuracy: The promise is at least this accuracy, a share of 1.
        max_cost: Beside the promise, the most that a sample may cost on average.
        cost_limit: Beside ``max_cost`` where costs differ by sample, the most that one sample can
            cost, all stages together; samples of the past do not tell it.
        level: The chance that the procedure promises nothing false, 0.5 to 0.999999.
        cascade: Test this cascade, on all samples, instead of choosing one.
        labels: Beside ``cascade`` and ``match``, of samples without labels: class index by id,
            where cascade and reference disagree. One that is missing or negative counts as a loss.
        max_models: Most stages, up to 3.
        confidence: Name of the confidence function; by default the usual one, and for decisions
            ranked agreement where several models precede the last stage.
        combine: Name of the combination; by default the mean of what models give and ``last``.
        unit: Unit of the costs; see :meth:`committee.spec.cost.CostTable.unit` for the default.
        metric: What a sample scores, 1 or 0; by default top-1.
        worst_case: The most that all stages together may cost.
        seed: Divides and orders the samples; the same seed gives the same certificate.
        threads: Threads to use; all processors by default.
        progress: See :data:`~committee.selection.rules.Progress`.

    Raises:
        CascadeError: If the promise is none or several, or a level or margin is no share of 1.
        MisalignedError: If there are too few samples or no labels, or they chose or calibrated
            what is tested.
        Infeasible: If no committee can be certified; the nearest that can is named.
        UnknownNameError: If a model is not in the pool.
        CostError: If a model has no cost in the unit.

    References:
        Laufer-Goldshtein, Fisch, Barzilay, Jaakkola (2023), Efficiently controlling multiple risks
        with Pareto testing: a fixed sequence of tests.
    """
    promised = checked_promise(
        pool, match, agree_with, within, min_accuracy, max_cost, cost_limit, level, unit,
        metric, combine, confidence or USUAL, labels is not None,
    )  # fmt: skip
    if seed < 0:
        raise CascadeError(f"certify: seed {seed} must be 0 or more")
    if promised.kind == "agreement":
        assert promised.reference is not None
        pool = agreeing_with(pool, promised.reference)
    if labels is not None and cascade is None:
        raise CascadeError("certify: labels of disagreements go with cascade")
    if cascade is not None:
        return _fixed(pool, cascade, promised, labels, seed)
    _refuse_calibrated(pool, promised.reference)
    if len(pool) < _LEAST:
        raise MisalignedError(
            f"certify: {counted(len(pool), 'sample')} of {pool.samples.split!r}; a promise needs "
            f"{_LEAST} or more, and usually thousands"
        )
    most = most_models(max_models, min(_MOST_STAGES, pool.most_models), "stages of certificates")
    choosing, testing = (pool.rows(rows, pool.samples.split) for rows in divided(len(pool), seed))
    useful, limit = (_limit(promised, each) for each in (choosing, testing))
    rules = rules_to_try(choosing, testing, promised, most, combine, confidence)
    if worst_case is not None:
        rules = _bounded(pool, rules, {promised.unit: worst_case})
    hypotheses = promised.hypothesis(choosing), promised.hypothesis(testing)
    error = (1 - level) * (1 if max_cost is None else 1 - COST_SHARE)
    test = partial(tested_paths, rules, *hypotheses, promised.unit, error)
    workers = threads or processors()
    tested = test(useful, workers, progress)
    paths = tested.paths + 1  # the reference is one more
    cheaper = (each for each in tested.passed if each.cost < limit)
    best = next((b for b in cheaper if _affordable(b, testing, promised, seed, paths)), None)
    bound = max_cost
    if best is not None:
        chosen = best.path.cascade(best.step).simplified()
        counts = best.wins, best.losses
    elif promised.reference is not None:
        chosen = promised.reference
        counts = (len(testing) if promised.kind == "agreement" else 0, 0)
        bound = _cost_bound(testing, chosen, promised, seed, paths)
        if (bound or 0.0) > (max_cost or math.inf):
            free = test(_limit(replace(promised, max_cost=None), choosing), workers, None)
            raise Infeasible(_nearest_cost(testing, free, promised))
    else:
        raise Infeasible(_nearest(testing, rules, promised))
    record = _record(
        pool, testing, chosen, promised, counts, PROCEDURE,
        choosing=len(choosing), seed=seed, tested=tested.steps, considered=tested.considered,
        bound=bound,
    )  # fmt: skip
    return _result(pool, testing, chosen, record, promised, None if best else tested.enough)


def _refuse_calibrated(pool: Pool, reference: Cascade | None) -> None:
    """Refuse samples on which calibrations of the pool's models or the reference were fitted."""
    fitted = _fitted(pool, pool.calibrations)
    fitted += [] if reference is None else _fitted(pool, reference.calibrations)
    if fitted:
        raise MisalignedError(
            f"certify: the calibrations of {', '.join(sorted({*fitted}))} were fitted on the "
            f"samples of {pool.samples.split!r}. Calibrate on a split of its own, or leave "
            "calibrations out"
        )


def _fitted(pool: Pool, calibrations: Mapping[str, Calibration]) -> list[str]:
    """Return the models whose calibrations were fitted on the samples of a pool."""
    return [n for n, c in calibrations.items() if c.samples == identity_of(pool, [n]) != ""]


def _limit(promised: Promised, pool: Pool) -> float:
    """Return the average cost on some samples that a committee must stay below to be of use."""
    limits = [float("inf") if promised.max_cost is None else promised.max_cost * (1 + 1e-12)]
    if promised.reference is not None:
        limits.append(_average(pool, promised.reference, promised)[1])
    return min(limits)


def _average(pool: Pool, cascade: Cascade, promised: Promised) -> tuple[Array, float]:
    """Return the cost of each sample, shape (N,), and its mean."""
    stages, _ = exits_of(cascade, source_of(cascade, pool, promised.metric))
    each = spent(stage_costs(cascade, pool, promised.unit), stages)
    return each, float(each.mean())


def _average_cost(pool: Pool, cascade: Cascade, promised: Promised) -> float:
    return evaluate(cascade, pool, promised.unit, promised.metric).average_cost


def _cost_bound(
    pool: Pool, cascade: Cascade, promised: Promised, seed: int, paths: int = 1
) -> float | None:
    """Return the upper bound of an average cost, if one is promised, at the share of a path."""
    if promised.max_cost is None:
        return None
    each, _ = _average(pool, cascade, promised)
    mixed = np.random.default_rng(seed).permutation(each)
    level = 1 - (1 - promised.level) * COST_SHARE / paths
    return cost_bound(cascade, pool, promised.unit, mixed, level, promised.cost_limit)


def _affordable(passed: Passed, pool: Pool, promised: Promised, seed: int, paths: int) -> bool:
    """Return True if a step keeps the promise of a cost, and so do all later ones.

    The accuracy of the same samples ended the path at this step, so a bound of it alone would not
    be valid. Costs fall along a path: tests from its end backwards, up to the first failure, are.
    """
    most = promised.max_cost
    if most is None:
        return True
    cascades = map(passed.path.cascade, range(len(passed.path) - 1, passed.step - 1, -1))
    bounds = (_cost_bound(pool, each, promised, seed, paths) for each in cascades)
    return all(bound is not None and bound <= most for bound in bounds)


def _record(
    pool: Pool,
    testing: Pool,
    chosen: Cascade,
    promised: Promised,
    counts: tuple[int, int],
    procedure: str,
    *,
    choosing: int = 0,
    seed: int = 0,
    tested: int = 1,
    considered: int = 1,
    bound: float | None = None,
    lower_bound: float | None = None,
    unlabelled: int = 0,
) -> CertificateRecord:
    """Return the record of a committee that passed.

    A chosen committee is certain to be no worse than promised. A bound of its own, as a given
    committee has, would not be valid for the best of many.
    """
    wins, losses = counts
    reference = promised.reference
    average = _average_cost(testing, chosen, promised)
    if bound is not None and promised.max_cost is not None and bound > promised.max_cost:
        raise Infeasible(
            f"certify: on new data {chosen} may cost up to "
            f"{human_cost(bound, promised.unit, 'up')} on average, more than the "
            f"promised {human_cost(promised.max_cost, promised.unit)}; here it is "
            f"{human_cost(average, promised.unit)}. Allow a higher cost, or less accuracy"
        )
    same = reference is not None and reference.rule_json() == chosen.rule_json()
    record = CertificateRecord(
        promise=promised.kind,
        margin=promised.margin,
        level=promised.level,
        measure=measure_of(pool, promised.metric),
        checksum="",
        samples=len(testing),
        choosing=choosing,
        estimate=(wins - losses) / len(testing),
        lower_bound=0.0,
        split=pool.samples.split,
        samples_fingerprint=identity_of(pool, chosen.names),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        version=__version__,
        procedure=procedure,
        seed=seed,
        tested=tested,
        considered=considered,
        reference=str(reference or ""),
        reference_rule={} if reference is None else reference.rule_json(),
        wins=wins if promised.kind == "within" else None,
        losses=losses if promised.kind == "within" else None,
        unlabelled=unlabelled,
        max_cost=promised.max_cost,
        cost_limit=promised.cost_limit,
        cost_bound=bound,
        average_cost=average,
        reference_cost=None if reference is None else _average_cost(testing, reference, promised),
        unit=promised.unit,
    )
    certain = 1.0 if promised.kind == "agreement" else 0.0
    least = certain if same else promised_goal(record)
    return replace(record, lower_bound=least if lower_bound is None else lower_bound)


def _result(
    pool: Pool,
    testing: Pool,
    chosen: Cascade,
    record: CertificateRecord,
    promised: Promised,
    enough: int | None = None,
) -> Certified:
    evaluation = evaluate(chosen, testing, promised.unit, promised.metric)
    described = committee_of(chosen, evaluation, pool).cascade
    if record.procedure == _FIXED:
        # These samples did not choose it, and its file may say how models are loaded.
        models = {**described.models, **chosen.models}
        described = replace(described, models=models, origin=chosen.origin)
    described = with_expected(described, testing, promised.metric)
    certified = described.certified(record)
    return Certified(certified, Certificate.of(certified), evaluation, enough)


def _fixed(
    pool: Pool, cascade: Cascade, promised: Promised, labels: Mapping[str, int] | None, seed: int
) -> Certified:
    """Return a given committee with the bound that all samples show, if it keeps the promise."""
    cascade = pool.bound(cascade)
    seen, reference = chosen_by(cascade, pool), promised.reference
    if not seen and reference is not None and _fitted(pool, reference.calibrations):
        seen = "these samples fitted calibrations of the reference"
    if seen:
        raise MisalignedError(
            f"certify: split {pool.samples.split!r}: {seen}. Certify it on others, or let the "
            "promise choose, without cascade="
        )
    if labels is not None:
        return _labelled(pool, cascade, promised, labels, seed)
    compared = reference if promised.kind == "within" else None
    wins, losses = compared_counts(cascade, compared, promised.metric, pool)
    return _fixed_result(pool, cascade, promised, wins, losses, seed=seed)


def _labelled(
    pool: Pool, cascade: Cascade, promised: Promised, labels: Mapping[str, int], seed: int
) -> Certified:
    """Return the certificate of a given committee from the labels of disagreements."""
    reference = promised.reference
    if reference is None or promised.kind != "within" or promised.metric != TOP_1:
        raise CascadeError("certify: labels of disagreements go with match, and with top-1")
    if pool.samples.labels is not None:
        raise MisalignedError(
            f"certify: {pool.samples.split!r} has labels of its own. Leave labels out, or certify "
            "on a split without labels"
        )
    found = disagreements(cascade, reference, pool)
    check_labelled(found, pool, labels)
    return _fixed_result(pool, cascade, promised, *found.compared(labels), seed=seed)


def _fixed_result(
    pool: Pool,
    cascade: Cascade,
    promised: Promised,
    wins: int,
    losses: int,
    unlabelled: int = 0,
    seed: int = 0,
) -> Certified:
    """Return the certificate of a given committee."""
    share = (1 - promised.level) * (0 if promised.max_cost is None else COST_SHARE)
    level = promised.level + share
    paired = promised.kind == "within"
    bound = (
        paired_lower_bound(wins, losses, len(pool), level) if paired
        else share_lower_bound(wins, len(pool), level)
    )  # fmt: skip
    counts = (wins, losses if paired else 0)
    testing = pool
    unlabelled_pool = pool.samples.labels is None and promised.metric.needs_labels
    if promised.reference is not None and unlabelled_pool:
        testing = agreeing_with(pool, promised.reference)
    record = _record(
        pool, testing, cascade, promised, counts, _FIXED, lower_bound=bound, unlabelled=unlabelled,
        seed=seed, bound=_cost_bound(testing, cascade, promised, seed),
    )  # fmt: skip
    if not paired:
        record = replace(record, estimate=wins / len(pool))
    if bound < promised_goal(record):
        lost = f"; {counted(unlabelled, 'sample')} without a label count as lost, so label more"
        remedy = lost if unlabelled else enough_text(record, wins, losses)
        raise Infeasible(
            f"certify: {cascade} cannot be certified on {counted(len(pool), 'sample')} of "
            f"{pool.samples.split!r} at level {level_text(promised.level)}: the bound reached is "
            f"{share_text(bound, paired, 'down')}, the promise "
            f"{share_text(promised_goal(record), paired)}"
            f"{remedy}"
        )
    return _result(pool, testing, cascade, record, promised)


def _bounded(pool: Pool, rules: Sequence[Rule], bounds: Mapping[str, float]) -> list[Rule]:
    """Return the rules with the sequences that are within bounds on the worst case."""
    every = dict.fromkeys(sequence for rule in rules for sequence in rule.sequences)
    allowed = set(within_bounds(pool, every, bounds))
    own = (replace(r, sequences=[s for s in r.sequences if s in allowed]) for r in rules)
    return [rule for rule in own if rule.sequences]


def _nearest_cost(testing: Pool, tested: Tested, promised: Promised) -> str:
    """Return why no cost could be certified, with the nearest that keeps the rest."""
    assert promised.max_cost is not None
    assert promised.reference is not None
    nearest = [each.path.cascade(each.step).simplified() for each in tested.passed[:1]]
    cascade = next(iter(nearest), promised.reference)
    _, average = _average(testing, cascade, promised)
    most, cost = (human_cost(each, promised.unit) for each in (promised.max_cost, average))
    return (
        f"certify: nothing that keeps the promise can be certified to cost {most} or less on "
        f"average, on {counted(len(testing), 'sample')} at level {level_text(promised.level)}. "
        f"Nearest: {cascade}, which costs {cost} here. Allow a higher cost, or less accuracy"
    )


def _nearest(testing: Pool, rules: Sequence[Rule], promised: Promised) -> str:
    """Return why no accuracy could be certified, with the nearest that can be."""
    ensembles = [(rule, each) for rule in rules for each in rule.sequences]

    def on(pool_of: Pool, rule: Rule, sequence: StageSequence) -> Array:
        source = replace(rule.testing, pool=pool_of)
        key = source.key([name for stage in sequence for name in stage])
        return source.values(key, np.arange(len(pool_of)))

    choosing = rules[0].choosing.pool
    # The committee is picked on the samples that choose, so that its bound is valid.
    rule, best = max(ensembles, key=lambda each: float(on(choosing, *each).mean()))
    correct = int(on(testing, rule, best).sum())
    bound = share_lower_bound(correct, len(testing), promised.level)
    every = [name for stage in best for name in stage]
    # Of several models by last the newest alone answers.
    nearest = Cascade.of([every], combine=rule.testing.combine).simplified()
    limit = promised.max_cost
    bounded = f" for at most {human_cost(limit, promised.unit)}" if limit is not None else ""
    return (
        f"certify: no committee can be certified to reach accuracy {percent(promised.margin)}"
        f"{bounded} on "
        f"{counted(len(testing), 'sample')} at level {level_text(promised.level)}. Nearest at "
        f"any cost: {nearest}, which would be certain to reach {percent(bound, 'down')} if it "
        "alone were tested"
    )
