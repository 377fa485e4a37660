"""Write docs/findings.md: the findings of the paper beside those of this pool, one by one.

    python examples/compound_scaling/findings.py [--data DIR] [--out docs/findings.md]

Takes the trainings of which all eight sizes are there. Without --out the page is printed. Whether
a finding holds is decided here, by rules that stand on the page; nothing is typed in.
"""

import argparse
import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from pool import DATA, PHIS, SEEDS, chosen_models, pool_of

from committee.errors import CommitteeError
from committee.files import write_text
from committee.pool.intervals import Estimate
from committee.report.text import gain_range, named, ratio_range
from committee.study import (
    calibration,
    confidence_functions,
    diversity,
    ensembles_as_cascades,
    number_of_models,
    scaled_family,
    self_cascades,
    threshold_sweep,
    training_cost,
    trainings,
    worst_case,
)
from committee.study.base import POINTS, Finding
from committee.study.columns import speedup
from committee.study.context import Study, Training, study_of
from committee.text import points, times

PAPER = Path(__file__).parents[2] / "benchmarks" / "paper"
HOLDS, WEAKER, FAILS, OPEN = "**holds**", "holds weaker", "**does not hold**", "not tested"


@dataclass(frozen=True)
class Found:
    """What this pool says of one finding."""

    verdict: str
    told: str


@dataclass(frozen=True)
class Question:
    """One finding of the paper.

    ``analysis`` is the name for ``committee study --only``, ``rule`` when it holds or holds weaker.
    """

    title: str
    analysis: str
    paper: str
    rule: str
    ask: Callable[[Study], Found]


def verdict(holds: bool, weaker: bool) -> str:
    return HOLDS if holds else WEAKER if weaker else FAILS


def clear(gains: Sequence[Estimate]) -> int:
    """How many gains are clear of 0."""
    return sum(gain.low > 0 for gain in gains)


def lost(gains: Sequence[Estimate]) -> int:
    return sum(gain.high < 0 for gain in gains)


def large_ensembles(study: Study) -> Found:
    gains = {}
    for single in study.singles:
        within = [e for e in study.ensembles if e.val.average_cost <= single.val.average_cost]
        if within:
            gains[single.name] = study.gain(within[-1].cascade, single.cascade)
    large = [
        gains[named(single.cascade)]
        for single in study.singles[-3:]
        if named(single.cascade) in gains
    ]
    small = next(iter(gains.items()))
    told = (
        f"The best ensemble for the cost of the three largest models gains {gain_range(large)} "
        f"points; {clear(large)} of {len(large)} gains are clear of 0. For {small[0]}, the "
        f"smallest with an ensemble at its cost: {POINTS.text(small[1])}."
    )
    holds = clear(large) == len(large) == 3 and small[1].value < 0
    return Found(verdict(holds, fmean(g.value for g in large) > max(0.0, small[1].value)), told)


def converted(study: Study) -> Found:
    both = ensembles_as_cascades.ANALYSIS.analyse(study).data
    ratios = [speedup(e, c) for e, c in both]
    gains = [study.gain(c.cascade, e.cascade) for e, c in both]
    told = (
        f"{sum(ratio > 1 for ratio in ratios)} of {len(ratios)} Pareto-optimal ensembles cost less "
        f"as a cascade, {ratio_range(ratios)}; accuracy changes by {gain_range(gains)} points, and "
        f"{lost(gains)} lose more than chance explains."
    )
    holds = min(ratios) > 1 and not lost(gains)
    return Found(verdict(holds, fmean(ratios) > 1 and lost(gains) < len(gains) / 2), told)


def functions(study: Study) -> Found:
    pair = threshold_sweep.pairs_on_front(study)[-1]
    found = confidence_functions.at_equal_cost(study, pair)
    usual = found.pop(study.settings.confidence)
    gains = {name: study.gain(each.cascade, usual.cascade) for name, each in found.items()}
    told = (
        f"{named(usual.cascade)} at equal cost, against {study.settings.confidence}: "
        + ", ".join(f"{name} {POINTS.text(gain)}" for name, gain in gains.items())
    )
    apart = [abs(g.value) for g in gains.values() if g.low > 0 or g.high < 0]
    return Found(verdict(not apart, max(apart, default=0) < 0.005), told + " points.")


def plateau(study: Study) -> Found:
    sweeps = threshold_sweep.ANALYSIS.analyse(study).data
    saved = [speedup(sweep.ensemble, sweep.cheapest) for sweep in sweeps]
    gains = [study.gain(s.cheapest.cascade, s.ensemble.cascade) for s in sweeps]
    told = (
        f"{len(sweeps)} cascades of two reach the accuracy that their ensemble has on val for "
        f"{ratio_range(saved)} less; on test they differ from it by {gain_range(gains)} points."
    )
    return Found(verdict(min(saved) > 1.1 and not lost(gains), fmean(saved) > 1.1), told)


def equal_cost(study: Study) -> Found:
    gains = [g for _, g in gains_at_equal_cost(study)]
    told = (
        f"Committees for the cost of the {len(gains)} models above the smallest gain "
        f"{gain_range(gains)} points, {points(fmean(g.value for g in gains))} on average; "
        f"{clear(gains)} of {len(gains)} gains are clear of 0."
    )
    return Found(verdict(clear(gains) == len(gains), min(g.value for g in gains) > 0), told)


def gains_at_equal_cost(study: Study) -> list[tuple[str, Estimate]]:
    """Of every model but the smallest, for which there is nothing cheaper to build from."""
    return [
        (named(p.single.cascade), study.gain(p.same_cost.cascade, p.single.cascade))
        for p in study.pairs[1:]
    ]


def ratios_at_equal_accuracy(study: Study) -> list[float]:
    return [speedup(p.single, p.same_accuracy) for p in study.pairs[1:]]


def equal_accuracy(study: Study) -> Found:
    ratios = ratios_at_equal_accuracy(study)
    gains = [study.gain(p.same_accuracy.cascade, p.single.cascade) for p in study.pairs[1:]]
    told = (
        f"As accurate on val, committees cost {ratio_range(ratios)} less than the {len(ratios)} "
        f"models above the smallest; on test they are {gain_range(gains)} points off, and "
        f"{lost(gains)} of {len(gains)} are clearly less accurate than their model."
    )
    return Found(verdict(min(ratios) > 1 and not lost(gains), fmean(ratios) > 1), told)


def rising(study: Study) -> Found:
    ratios = ratios_at_equal_accuracy(study)
    up = sum(later > earlier for earlier, later in pairwise(ratios))
    told = (
        f"{times(ratios[0])} for phi = 1, {times(ratios[-1])} for phi = 7; it rises in {up} of "
        f"{len(ratios) - 1} steps, and is most, {times(max(ratios))}, for phi = "
        f"{1 + ratios.index(max(ratios))}."
    )
    return Found(verdict(up == len(ratios) - 1, up > (len(ratios) - 1) / 2), told)


def guaranteed(study: Study) -> Found:
    rows = worst_case.ANALYSIS.analyse(study).data
    dear = [r for r in rows if r[1].val.worst_case_cost > r[0].val.worst_case_cost]
    before = [speedup(single, without) for single, without, _ in dear]
    after = [speedup(single, guaranteed) for single, _, guaranteed in dear]
    kept = [late / early for early, late in zip(before, after, strict=True)]
    told = (
        f"{len(dear)} of {len(rows)} cheapest equals cost more than their model at worst. With "
        f"the guarantee the speedup falls from {ratio_range(before)} to {ratio_range(after)}; for "
        f"{sum(late <= 1 for late in after)} of {len(dear)} nothing but the model itself is left."
    )
    holds = all(each > 0.9 for each in kept)
    return Found(verdict(holds, sum(late > 1.1 for late in after) > len(after) / 2), told)


def training(study: Study) -> Found:
    rows = [e for e in training_cost.ANALYSIS.analyse(study).data if e.kind == "ensemble"]
    ratios = [
        training_cost.time_of(row.committee, study.training)
        / training_cost.time_of(row.single, study.training)
        for row in rows
    ]
    less = sum(ratio < 1 for ratio in ratios)
    largest = ", ".join(
        f"{ratio:.2f} for {row.single.name}"
        for row, ratio in list(zip(rows, ratios, strict=True))[-2:]
    )
    told = (
        f"{less} of {len(ratios)} ensembles took less to train than the model that they match. "
        f"Training of the ensemble over that of the largest models matched: {largest}."
    )
    return Found(verdict(max(ratios[-2:]) < 1, less > 0), told)


def calibrations(study: Study) -> Finding:
    """The analysis of calibration, which takes long and answers two questions."""
    return study.once("calibration", lambda: calibration.ANALYSIS.analyse(study))


def underconfident(study: Study) -> Found:
    found = calibrations(study)
    cells = [row[4] for row in found.tables[0].rows]
    under = sum(cell.high < 0 for cell in cells)
    told = (
        f"Confidence less accuracy is {gain_range(cells)} points; {under} of {len(cells)} models "
        f"are clearly underconfident and {clear(cells)} clearly overconfident. They were trained "
        "without label smoothing."
    )
    return Found(verdict(under == len(cells), under > len(cells) / 2), told)


def calibrated(study: Study) -> Found:
    table = calibrations(study).tables[1]
    gains = [row[4] for row in table.rows]
    apart = clear(gains) + lost(gains)
    told = (
        f"Calibrating changes {len(gains)} best ensembles by {gain_range(gains)} points, "
        f"{points(fmean(g.value for g in gains))} on average; {apart} of them clearly."
    )
    most = max(abs(gain.value) for gain in gains)
    return Found(verdict(most < 0.0025, most < 0.005), told)


def scaled(study: Study) -> Found:
    members = scaled_family.ANALYSIS.analyse(study).data
    gains = [study.gain(m.scaled.cascade, m.single.cascade) for m in members]
    over = [study.gain(m.scaled.cascade, m.searched.cascade) for m in members if m.searched]
    told = (
        f"{named(members[0].scaled.cascade)} and {len(members) - 1} cascades scaled from it gain "
        f"{gain_range(gains)} points over single models of their cost, {clear(gains)} of "
        f"{len(gains)} clear of 0. Against committees searched at that cost they are "
        f"{gain_range(over)} points off. Eight sizes leave room for {len(members)} members only."
    )
    return Found(verdict(clear(gains) == len(gains), min(g.value for g in gains) > 0), told)


def exits(study: Study) -> Found:
    found = [p.same_accuracy for p in study.pairs if len(p.same_accuracy.cascade.stages) > 1]
    first = [100 * each.test.exit_ratios[0] for each in found]
    told = (
        f"{min(first):.1f} to {max(first):.1f} % of the samples exit after the first model of "
        f"the {len(found)} cascades that match a single model."
    )
    return Found(verdict(min(first) > 50, fmean(first) > 50), told)


def number(study: Study) -> Found:
    chosen = number_of_models.ANALYSIS.analyse(study).data
    means = {
        most: fmean(
            study.gain(more.cascade, fewer.cascade).value
            for more, fewer in zip(chosen[most], chosen[most - 1], strict=True)
        )
        for most in (3, 4)
    }
    told = (
        f"Over {len(chosen[2])} target costs three models gain {points(means[3])} points over two "
        f"on average, four {points(means[4])} over three."
    )
    return Found(verdict(means[3] > 2 * means[4] and means[3] > 0.001, means[3] > means[4]), told)


def spread(study: Study) -> Found:
    spreads = trainings.ANALYSIS.analyse(study).data
    deviations = {
        kind: [100 * s.deviation for s in spreads if s.kind == kind]
        for kind in ("single", "ensemble", "cascade")
    }
    pairs = [s for s in spreads if s.kind == "ensemble"]
    modest = [s.deviation < s.gain.value for s in pairs]
    told = (
        "Standard deviations of accuracy over trainings, architecture by architecture: "
        + ", ".join(
            f"{kind} {min(each):.2f} to {max(each):.2f}" for kind, each in deviations.items()
        )
        + f" points; two trainings gain {gain_range([s.gain for s in pairs])} over one."
    )
    return Found(verdict(all(modest), sum(modest) > len(modest) / 2), told)


def mixed(study: Study) -> Found:
    entries = diversity.ANALYSIS.analyse(study).data[3:]
    rows = list(zip(entries[::3], entries[1::3], entries[2::3], strict=True))
    one = [speedup(same.single, same.committee) for _, same, _ in rows]
    any_ = [speedup(mixed.single, mixed.committee) for _, _, mixed in rows]
    more = sum(b > a for a, b in zip(one, any_, strict=True))
    told = (
        f"Committees of one architecture cost {ratio_range(one)} less than the {len(rows)} models "
        f"above the smallest, those of any architectures {ratio_range(any_)}; mixing was cheaper "
        f"for {more}."
    )
    holds = more == len(rows) and sum(ratio > 1 for ratio in one) > len(rows) / 2
    return Found(verdict(holds, more > len(rows) / 2), told)


def resolutions(study: Study) -> Found:
    found = self_cascades.ANALYSIS.analyse(study)
    gains = [pair.gain for pair in found.data]
    return Found(verdict(clear(gains) == len(gains), clear(gains) > 0), " ".join(found.sentences))


QUESTIONS = (
    Question(
        "Ensembles pay for large models, not for small ones",
        "ensembles_vs_singles",
        "Two B5 match B7 for 20.5 of 37 B multiply-adds; small ensembles lose to single models.",
        "Holds if all gains for the three largest are clear of 0 and that for the smallest is "
        "below it; weaker if the large ones gain more, on average.",
        large_ensembles,
    ),
    Question(
        "An ensemble made a cascade costs less and stays as accurate",
        "ensembles_as_cascades",
        "All ensembles cost less as cascades; two B2 cost 1.3 B instead of 2 B.",
        "Holds if all cost less and none is clearly less accurate; weaker if most are so.",
        converted,
    ),
    Question(
        "All confidence functions do about equally well",
        "confidence_functions",
        "82.1 to 82.3 % for one ViT cascade at equal throughput.",
        "Holds if no difference is clear of 0; weaker if those that are stay below 0.5 points.",
        functions,
    ),
    Question(
        "The threshold has a plateau",
        "threshold_sweep",
        "All curves reach the ensemble's accuracy well before its cost.",
        "Holds if all cost 10 % less and none is clearly less accurate; weaker if on average.",
        plateau,
    ),
    Question(
        "At equal cost cascades are more accurate, in all regimes",
        "best_cascades",
        "0.7 to 1.2 points for B1 to B7.",
        "Holds if all gains are clear of 0; weaker if all are above it.",
        equal_cost,
    ),
    Question(
        "At equal accuracy cascades are cheaper, in all regimes",
        "best_cascades",
        "1.3 to 5.4 times for B1 to B7, all at least as accurate on the test split.",
        "Holds if all are cheaper and none is clearly less accurate; weaker if on average.",
        equal_accuracy,
    ),
    Question(
        "The speedup grows with the model",
        "best_cascades",
        "1.3, 1.5, 1.7, 2.2, 3.0, 4.7, 5.4 for B1 to B7.",
        "Holds if it rises in every step; weaker if in most.",
        rising,
    ),
    Question(
        "A guarantee on the worst case costs little",
        "worst_case",
        "2.9 instead of 3.0 times for B5, 4.5 instead of 4.7 times for B6.",
        "Holds if nine tenths of each speedup are kept; weaker if most keep a tenth over 1.",
        guaranteed,
    ),
    Question(
        "Ensembles take less training than the models they match",
        "training_cost",
        "88 instead of 128 days for B6, 96 instead of 160 for B7.",
        "Holds if so for the two largest; weaker if for any.",
        training,
    ),
    Question(
        "Models are slightly underconfident",
        "calibration",
        "All four models shown, trained with label smoothing.",
        "Holds if all are clearly underconfident; weaker if most.",
        underconfident,
    ),
    Question(
        "Calibration hardly changes ensembles",
        "calibration",
        "A small influence; no figures are given.",
        "Holds if no ensemble changes by 0.25 points; weaker if none by 0.5.",
        calibrated,
    ),
    Question(
        "A base cascade can be scaled to all costs",
        "scaled_family",
        "C0 to C7 gain 0.7 to 1.2 points over B0 to B7.",
        "Holds if all gains are clear of 0; weaker if all are above it.",
        scaled,
    ),
    Question(
        "Most samples exit after the first model",
        "exit_ratios",
        "67 to 79 % (58 % with a guarantee).",
        "Holds if so in every cascade; weaker if on average.",
        exits,
    ),
    Question(
        "Three models are much better than two, four little better than three",
        "number_of_models",
        "A big gap and then a diminishing return (figure 7).",
        "Holds if the third model brings 0.1 points and twice what the fourth does; weaker if it "
        "brings more.",
        number,
    ),
    Question(
        "Trainings of one architecture differ little",
        "trainings",
        "Standard deviation 0.04 (single), 0.05 (pairs) points over 8 trainings of B5; a pair "
        "gains 0.76.",
        "Holds if pairs deviate by less than they gain in every architecture; weaker if in most.",
        spread,
    ),
    Question(
        "Mixed architectures beat one architecture",
        "diversity",
        "One: 1.6 to 3.2 times cheaper; mixed: 2.2 to 5.4 times.",
        "Holds if mixing is cheaper for all and one architecture is cheaper than most models; "
        "weaker if mixing is cheaper for most.",
        mixed,
    ),
    Question(
        "Self-cascades of one model at two resolutions pay",
        "self_cascades",
        "1.2 to 1.7 times for B2 to B7.",
        "Holds if every higher resolution gains clearly; weaker if one does.",
        resolutions,
    ),
)


def complete_seeds(data: Path) -> tuple[int, ...]:
    """Trainings of which all eight sizes are there."""
    there = {(model["phi"], model["seed"]) for model in chosen_models(data=data)}
    return tuple(seed for seed in SEEDS if {(phi, seed) for phi in PHIS} <= there)


def studied(data: Path, seeds: Sequence[int]) -> Study:
    val, test = (pool_of(split, seeds=seeds, data=data) for split in ("val", "test"))
    times_ = {m["name"]: m["training_core_seconds"] for m in chosen_models(PHIS, seeds, data)}
    return study_of(val, test, training=Training("core seconds", times_))


def answer(question: Question, study: Study) -> Found:
    try:
        return question.ask(study)
    except CommitteeError as error:
        return Found(OPEN, f"{error}.")


def beside_table_13(study: Study) -> list[str]:
    """Gains and speedups of each size, the paper's in front."""
    with (PAPER / "table_13_cascades.csv").open(encoding="utf-8", newline="") as file:
        paper = [row for row in csv.DictReader(file) if row["family"] == "EfficientNet"]
    ratios = ratios_at_equal_accuracy(study)
    lines = [
        "| paper | gain at equal cost | speedup at equal accuracy | here | gain | speedup |",
        "|---|---|---|---|---|---|",
    ]
    rows = zip(paper, gains_at_equal_cost(study), ratios, strict=True)
    lines += [
        f"| {row['model']} | +{row['gain_points']} | {row['speedup']}× | {name} | "
        f"{POINTS.text(gain)} | {times(ratio)} |"
        for row, (name, gain), ratio in rows
    ]
    return lines


def page(data: Path = DATA, questions: Sequence[Question] = QUESTIONS) -> str:
    seeds = complete_seeds(data)
    study = studied(data, seeds)
    found = [(question, answer(question, study)) for question in questions]
    count = {v: sum(f.verdict == v for _, f in found) for v in (HOLDS, WEAKER, FAILS, OPEN)}
    asked = len(found) - count[OPEN]
    short = (
        ""
        if seeds == SEEDS
        else f" **Of the four trainings planned {len(seeds)} are complete; this page is of those, "
        "and is to be written again when all are there.**"
    )
    lines = [
        "# Findings: the paper's and ours",
        "",
        "<!-- Written by examples/compound_scaling/findings.py; do not edit. -->",
        "",
        f"The paper's findings are of ImageNet. Here they are asked of a pool of the same shape: "
        f"eight sizes of one network, scaled by phi = 0 to 7, {len(seeds)} trainings each, "
        f"{len(study.val.names)} models on Fashion-MNIST ([how they were trained]"
        f"(../examples/compound_scaling/README.md)).{short} Everything was {study.provenance}. "
        "Brackets hold 95 % intervals; those of gains are paired, on the same samples, in "
        "percentage points. phi1-seed0 is the first training of phi = 1.",
        "",
        f"Of {len(found)} findings {asked} can be asked of this pool: {count[HOLDS]} hold, "
        f"{count[WEAKER]} hold weaker, {count[FAILS]} do not hold.",
        "",
        "| finding | verdict |",
        "|---|---|",
        *(f"| [{q.title}](#{anchor(q.title)}) | {f.verdict} |" for q, f in found),
        "",
        "To repeat everything, and any single analysis by its name:",
        "",
        "    python examples/compound_scaling/pool.py --out predictions "
        f"--seed {' '.join(map(str, seeds))}",
        "    committee study predictions --out study",
        "    committee study predictions --out study --only best_cascades",
        "    python examples/compound_scaling/findings.py --out docs/findings.md",
        "",
        "## Size by size",
        "",
        "The right half of [the paper's table 13](../benchmarks/paper/README.md) beside ours. The "
        "smallest model is left out, for nothing is cheaper.",
        "",
        *beside_table_13(study),
    ]
    for question, each in found:
        lines += [
            "",
            f"## {question.title}",
            "",
            f"*{each.verdict.strip('*').capitalize()}.* `--only {question.analysis}`",
            "",
            f"- Paper: {question.paper}",
            f"- Here: {each.told}",
            f"- Rule: {question.rule}",
        ]
    lines += [
        "",
        "## What this pool cannot say",
        "",
        "Latency and throughput were not measured, so that all costs are multiply-adds; no "
        "networks found by architecture search are known for this data; video and segmentation "
        "are other pools. A tenth of a point is ten images. Verdicts follow the rules above and "
        "not judgement; with other numbers in the rules some would change.",
    ]
    return "\n".join(lines) + "\n"


def anchor(title: str) -> str:
    """What GitHub makes of a heading."""
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -")
    return kept.replace(" ", "-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="holds pool.json and the outputs")
    parser.add_argument("--out", type=Path, help="the page to write; printed if left out")
    arguments = parser.parse_args()
    text = page(arguments.data)
    if arguments.out is None:
        print(text, end="")
    else:
        write_text(arguments.out, text)


if __name__ == "__main__":
    main()
