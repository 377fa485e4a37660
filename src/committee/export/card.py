"""The card of a bundle: its README, whose first lines the Hugging Face Hub reads.

It tells what the cascade file knows, so that the same cascade has the same card. No checksum covers
it: who publishes a bundle names the licence, and may write more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files

from committee.certificates.certificate import Certificate
from committee.export.model_files import segmenting
from committee.pool.evaluate import Evaluation
from committee.pool.intervals import wilson_interval
from committee.rule.cascade import Cascade
from committee.spec.cost import Cost
from committee.spec.model import ModelSpec, task_of
from committee.text import counted, human_cost, listed, percent, points_text, printable, shares

CARD = "README.md"
# What the Hub calls tasks; of records it tells by what they hold.
_PIPELINES = {
    "image-classification": "image-classification",
    "semantic-segmentation": "image-segmentation",
    "video-classification": "video-classification",
}


def card(
    cascade: Cascade, specs: Sequence[ModelSpec], evaluations: Mapping[str, Evaluation]
) -> str:
    """Return the card of a cascade."""
    page = _program_page(cascade, specs)
    before, heading, after = page.partition("## Run it\n")
    facts = "\n".join(_facts(cascade, specs, evaluations))
    return f"{_front_matter(cascade, specs, evaluations)}{before}{facts}\n{heading}{after}"


def _front_matter(
    cascade: Cascade, specs: Sequence[ModelSpec], evaluations: Mapping[str, Evaluation]
) -> str:
    """Return the lines that the Hub reads, YAML; strings are written as JSON, which YAML reads."""
    task = task_of(specs).name
    lines = [
        "# Name the licence: license: apache-2.0, or what those of the models allow.",
        "library_name: committee",
        *([f"pipeline_tag: {_PIPELINES[task]}"] if task in _PIPELINES else []),
        "tags: [model-cascade, early-exit, onnx]",
    ]
    for own in list(evaluations.values())[:1]:
        low, high = own.interval
        measured = f"{own.measure}, {counted(own.samples, 'sample')}, 95 %: {low:.4f} to {high:.4f}"
        lines += [
            "model-index:",
            f"- name: {_quoted(str(cascade))}",
            "  results:",
            f"  - task: {{type: {_PIPELINES.get(task, task)}}}",
            f"    dataset: {{type: {_quoted(own.split)}, name: {_quoted(own.split)}}}",
            f"    metrics: [{{type: accuracy, value: {own.accuracy:.6g}, "
            f"name: {_quoted(measured)}}}]",
        ]
    return "\n".join(["---", *lines, "---", ""])


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _facts(
    cascade: Cascade, specs: Sequence[ModelSpec], evaluations: Mapping[str, Evaluation]
) -> Iterator[str]:
    """Yield the lines of what is known of the cascade."""
    yield from ("## What it is for", "", *_purpose(cascade), "")
    yield from ("## What it costs", "", *_costs(cascade, specs), "")
    yield from ("## Evaluation", "", *_evaluation(cascade, evaluations), "")
    yield from ("## Certificate", "", *_certificate(cascade), "")
    yield from ("## Limits", "", *_limits(cascade), "")
    yield from ("## Licence", "", "Not chosen yet: name it in the first lines of this file.", "")


def _purpose(cascade: Cascade) -> Iterator[str]:
    target, record = cascade.origin.target, cascade.certificate
    reference, within = target.match or " + ".join(target.models), target.within
    if not reference and cascade.is_certified and record is not None and record.reference:
        reference, within = record.reference, record.margin
    if cascade.classes:
        yield f"It tells {len(cascade.classes):,} classes apart: {listed(cascade.classes)}."
    if reference:
        less = f"at most {points_text(100 * within)} less accurate" if within else "as accurate"
        yield f"It stands in for {reference}: the cheapest found that is {less}."
    if target.min_accuracy is not None:
        yield f"It was chosen for an accuracy of {percent(target.min_accuracy)} or more."
    if target.max_cost is not None:
        most = human_cost(target.max_cost, cascade.origin.unit)
        yield f"It was chosen to cost at most {most} on average."


def _costs(cascade: Cascade, specs: Sequence[ModelSpec]) -> Iterator[str]:
    rows = [(spec.name, cost) for spec in specs for cost in spec.costs]
    if not rows:
        yield "Unknown."
        return
    yield from ("| model | one sample | how it is known |", "|---|---|---|")
    for name, cost in rows:
        yield f"| {name} | {human_cost(cost.value, cost.unit)} | {_known_by(cost)} |"
    promised = cascade.origin.promised
    if promised is not None:
        unit, stages = cascade.origin.unit, shares(promised.exit_ratios)
        average = human_cost(promised.average_cost, unit)
        yield ""
        yield (
            f"A sample costs {average} on average and {human_cost(promised.worst_case_cost, unit)} "
            f"at worst; {stages} of samples exit at the stages, in their order. These figures are "
            f"of {counted(promised.samples, 'sample')} of {cascade.origin.split}."
        )


def _known_by(cost: Cost) -> str:
    # That it is of one sample the heading says.
    conditions = "" if cost.conditions.startswith("one ") else cost.conditions
    parts = filter(None, (cost.source, conditions, cost.detail))
    return printable("; ".join(parts)).replace("|", "/")


def _evaluation(cascade: Cascade, evaluations: Mapping[str, Evaluation]) -> Iterator[str]:
    for own in list(evaluations.values())[:1]:
        yield f"On the {counted(own.samples, 'sample')} of {own.split}, which did not choose it:"
        yield ""
        yield f"| | {own.measure} | 95 % interval | average cost | worst case |"
        yield "|---|---|---|---|---|"
    for name, each in evaluations.items():
        figures = _share(each.accuracy, each.is_share), _interval(each.interval, each.is_share)
        costs = [human_cost(c, each.unit) for c in (each.average_cost, each.worst_case_cost)]
        yield f"| {' | '.join((name, *figures, *costs))} |"
    if not evaluations:
        yield _promised(cascade)


def _promised(cascade: Cascade) -> str:
    """Return what the cascade scored where it was chosen or certified."""
    own, record = cascade.origin.promised, cascade.certificate
    if own is None:
        return "None."
    share = _share(own.accuracy, 0 <= own.accuracy <= 1)
    interval = ""
    if own.measure.startswith("top-"):
        ends = wilson_interval(round(own.accuracy * own.samples), own.samples)
        interval = f", 95 % interval {_interval(ends, True)}"
    figure = f"{own.measure} {share} on {counted(own.samples, 'sample')} of {cascade.origin.split}"
    # Others than those that chose may have tested it.
    tested = record is not None and record.choosing and record.samples == own.samples
    which = "These tested it" if tested else "These chose it, so expect less on new data"
    return f"{figure}{interval}. {which}; with `--test STORE` the export evaluates it on others."


def _share(value: float, is_share: bool) -> str:
    return percent(value) if is_share else f"{value:.4g}"


def _interval(ends: tuple[float, float], is_share: bool) -> str:
    return " to ".join(_share(end, is_share) for end in ends)


def _certificate(cascade: Cascade) -> Iterator[str]:
    if not cascade.is_certified:
        yield "None: nothing is promised of new data."
        return
    own = Certificate.of(cascade)
    text, record = own.text, own.record
    yield f"{text[:1].upper()}{text[1:]}."
    yield (
        f"Tested on {counted(record.samples, 'sample')} of {record.split} on {record.date} with "
        f"committee {record.version}, which calls this procedure '{record.procedure}'. It holds "
        "for data like those, and for these models."
    )


def _limits(cascade: Cascade) -> Iterator[str]:
    yield "- Figures hold for data like those of the splits named here; other data may differ."
    yield "- Accuracy is that of all samples: single classes and groups of samples may fare worse."
    if cascade.confidence != "agreement" and len(cascade.stages) > 1:
        yield (
            "- A sample exits where its score says so. On data unlike these, scores may be high "
            "and wrong."
        )


def _exit_text(threshold: float | str) -> str:
    """Return a threshold as a cascade file has it, a number to four digits."""
    return threshold if isinstance(threshold, str) else f"{threshold:.4g}"


def _program_page(cascade: Cascade, specs: Sequence[ModelSpec]) -> str:
    """Return the stages of the cascade, and how the program of its bundle is run."""
    records = any(spec.does.records for spec in specs)
    page = "RECORDS.md" if records else "SEGMENT.md" if segmenting(cascade) else "README.md"
    template = (files("committee.export") / "recipe" / page).read_text(encoding="utf-8")
    stages = "\n".join(
        f"| {index} | {' + '.join(stage['models'])} | {_exit_text(stage['threshold'])} |"
        for index, stage in enumerate(cascade.to_json()["stages"])
    )
    tile = next((spec.tile for spec in specs if spec.tile is not None), None)
    whole = next(spec for spec in specs if spec.tile is None)
    size = "" if records else " x ".join(map(str, whole.image.size))
    columns = dict.fromkeys(c for spec in specs if records for c in spec.record.columns)
    return (
        template.replace("TILE_NAME", f"{tile.side}+{tile.context}" if tile else "full")
        .replace("IMAGE_SIZE", size)
        .replace("COLUMN_NAMES", ", ".join(f"`{name}`" for name in columns) or "their only column")
        .replace("CASCADE_NAME", str(cascade))
        .replace("STAGE_ROWS", stages)
        .replace("CONFIDENCE_NAME", cascade.confidence)
        .replace("COMBINE_NAME", cascade.combination)
    )
