"""``committee verify``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated

import numpy as np
import typer

from committee.arrays import Array
from committee.certificates.certificate import Checked
from committee.cli import options as opt
from committee.cli.certify import say_checked
from committee.cli.options import refuse
from committee.cli.output import broken_text, print_json, progress_bar, say, say_wrapped
from committee.cli.stores import check_models, open_split, with_models
from committee.data.base import BrokenSamplesError, Dataset, PartDataset, find_broken
from committee.data.open import open_data
from committee.errors import CascadeError, needing
from committee.export.graph import INSIDE
from committee.pool.samples import Broken
from committee.rule.cascade import Cascade
from committee.run.certificate import PromiseCheck
from committee.run.open import what_is
from committee.run.runner import Runner
from committee.run.verify import (
    Agreement,
    Flip,
    ModuleWay,
    OfflineWay,
    OnlineWay,
    Stored,
    Way,
    compare_all,
    decide_all,
    on_engine,
)
from committee.spec.model import ModelSpec
from committee.text import counted

# Most flips that are printed; JSON has all.
_LISTED = 10
# The way of the certificate's reference, which is not compared.
_REFERENCE = "reference of the certificate"


def verify(
    cascade: opt.CascadePath,
    data: opt.Data,
    predictions: Annotated[
        str | None,
        typer.Option(metavar="STORE", help="Stored predictions of the same samples."),
    ] = None,
    split: opt.TestSplit = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH", help="A bundle, an ONNX file or another cascade file. Repeatable."
        ),
    ] = None,
    rows: opt.Rows = None,
    skip_broken: opt.SkipBroken = False,
    batch_size: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Samples per forward pass; default: 32 images, 4 clips or 256 records. "
            "Repeatable.",
        ),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="Also run the models on this engine. Repeatable."),
    ] = None,
    module: Annotated[
        bool, typer.Option("--module", help="Also run the cascade as a torch module.")
    ] = False,
    max_flips: Annotated[
        int | None, typer.Option(min=0, help="Fail, with code 1, if any has more flips.")
    ] = None,
    promise: Annotated[
        bool,
        typer.Option(
            "--promise",
            help="Say whether the certificate is kept on these samples, by the decisions of the "
            "first run offline; fail, with code 1, if it is broken or void.",
        ),
    ] = False,
    pool: opt.LoadedAs = None,
    allow_code: opt.AllowCode = None,
    as_json: opt.AsJson = False,
) -> None:
    """Compare the decisions of stored predictions, runs and exports, one by one.

    Example: committee verify c.json --data images/test --predictions predictions/test
    """
    refuse("--predictions", split=split is not None and predictions is None)
    code = allow_code or ()
    runner = Runner(with_models(cascade, pool), allow_code=code)
    models = list(runner.specs.values())
    dataset = open_data(
        data, "verify", runner.cascade.classes, rows, models=models, labels="if they fit"
    )
    broken: list[tuple[str, str]] = []
    known = None if predictions is None else open_split(predictions, split, "test")
    if skip_broken:
        dataset, broken = _readable_part(dataset, () if known is None else known.samples.broken)
    sizes = batch_size or [runner.task.batch_size]
    ways: dict[str, Way] = {}
    stored = None
    if known is not None:
        stored = Stored.of(known, dataset)
        ways["stored predictions"] = stored.way(runner.cascade)
    for size in sizes:
        ways[_offline(size)] = OfflineWay(runner, size, skip_broken)
    ways["online"] = OnlineWay(runner, skip_broken)
    offline = partial(OfflineWay, batch_size=sizes[0], go_on=skip_broken)
    ways |= _other_ways(runner.cascade, offline, engine or [], module, against or [], code)
    check = None
    if promise:
        way_of = partial(
            _reference_way, runner, (cascade, predictions), stored, offline, pool, code
        )
        check = PromiseCheck.of(runner.cascade, dataset, data, stored, way_of)
    with progress_bar("verify", "samples", not as_json) as progress:
        all_ways = {**ways, **_reference_of(check)}
        made = decide_all(runner.cascade, all_ways, dataset, max(sizes), progress)
    decided, failed = _decided_part(dataset, all_ways.values())
    made = {name: decisions.rows(decided) for name, decisions in made.items()}
    broken += failed
    reference = made.pop(_REFERENCE, None)
    ids = dataset.samples.ids
    _report(
        compare_all(runner.cascade, tuple(ids[row] for row in decided), made),
        None if check is None else check.checked(made[_offline(sizes[0])], reference, decided),
        runner,
        max_flips,
        broken,
        as_json,
    )


def _readable_part(
    dataset: Dataset, left_out: Iterable[Broken]
) -> tuple[Dataset, list[tuple[str, str]]]:
    """Return the samples that can be read, and the id and reason of each other one.

    Samples that were ``left_out`` of the predictions count as such, whatever the reason.
    """
    known = {each.id: each.reason for each in left_out}
    broken = [(name, known[name]) for name in dataset.samples.ids if name in known]
    rows = np.flatnonzero([name not in known for name in dataset.samples.ids])
    broken += find_broken(dataset, rows)
    if not broken:
        return dataset, []
    bad = {name for name, _ in broken}
    rows = np.flatnonzero([name not in bad for name in dataset.samples.ids])
    if not len(rows):
        raise BrokenSamplesError(broken, len(bad))
    return PartDataset(dataset, rows), broken


def _decided_part(dataset: Dataset, ways: Iterable[Way]) -> tuple[Array, list[tuple[str, str]]]:
    """Return the rows that no way failed on, and the id and reason of each other one."""
    failed: dict[int, str] = {}
    for way in ways:
        failed = {**way.failed, **failed}
    ids = dataset.samples.ids
    broken = [(ids[row], reason) for row, reason in sorted(failed.items())]
    rows = np.array([row for row in range(len(ids)) if row not in failed], np.int64)
    if not len(rows):
        raise BrokenSamplesError(broken, len(ids))
    return rows, broken


def _offline(batch_size: int) -> str:
    return f"offline, batches of {batch_size}"


def _reference_of(check: PromiseCheck | None) -> dict[str, Way]:
    way = None if check is None else check.reference
    return {} if way is None else {_REFERENCE: way}


def _reference_way(
    runner: Runner,
    paths: tuple[str, str | None],
    stored: Stored | None,
    offline: Callable[[Runner], Way],
    pool: str | None,
    allow_code: Collection[str],
    reference: Cascade,
) -> Way:
    """Return how the reference decides: on stored predictions of its models, else by a run."""
    known = runner.cascade
    reference = replace(reference, models=known.models, classes=known.classes)
    path, store = paths
    if store is not None and stored is not None and {*reference.names} <= stored.pool.models.keys():
        check_models("verify", path, reference, store, stored.pool)
        return stored.way(reference)
    if pool is not None:
        reference = with_models(reference, pool).cascade
    models = (reference.models.get(name) for name in reference.names)
    if not all(isinstance(m, ModelSpec) and not m.source.startswith(INSIDE) for m in models):
        raise CascadeError(
            f"verify: --promise: nothing says what the certificate's reference, {reference}, "
            "decides on these samples. Name predictions of it by --predictions STORE, or the pool "
            "file that lists its models by --pool POOL.toml"
        )
    return offline(Runner(reference, allow_code=allow_code))


def _report(
    compared: Sequence[Agreement],
    checked: Checked | None,
    runner: Runner,
    max_flips: int | None,
    broken: Sequence[tuple[str, str]],
    as_json: bool,
) -> None:
    """Print what was found; exit with code 1 if there are too many flips or a broken promise."""
    most = max(len(each.flips) for each in compared)
    flipped = max_flips is not None and most > max_flips
    failed = flipped or (checked is not None and checked.failed)
    if as_json:
        print_json({
            "ways": [asdict(each) for each in compared],
            "certificate": checked and checked.to_json(),
            "failed": failed,
            "broken_left_out": [{"id": name, "reason": reason} for name, reason in broken],
        })  # fmt: skip
    else:
        say_checked(checked)
        _print(compared, runner.cascade)
        if broken:
            say_wrapped(f"Skipped: {broken_text(broken, runner.task.sample)}")
    if flipped:
        say(f"{most} flips are more than the {max_flips} allowed.", as_json)
    if failed:
        raise typer.Exit(opt.FAILED)


def _other_ways(
    cascade: Cascade,
    offline: partial[OfflineWay],
    engines: Sequence[str],
    module: bool,
    exports: Sequence[str],
    allow_code: Collection[str],
) -> dict[str, Way]:
    """Return the ways to run the cascade on other engines, as a torch module, and exported."""
    ways: dict[str, Way] = {}
    for engine in engines:
        runner = Runner(on_engine(cascade, engine), allow_code=allow_code)
        ways[f"offline, {engine}"] = offline(runner)
    if module:
        with needing("--module", "torch", "torch"):
            from committee.export.torch_module import as_module
        ways["torch module"] = ModuleWay(
            as_module(cascade, allow_code=allow_code), offline.keywords["batch_size"]
        )
    for path in exports:
        runner = Runner(path, allow_code=allow_code)
        ways[f"{what_is(path)}, {path}"] = offline(runner)
    return ways


def _print(compared: Sequence[Agreement], cascade: Cascade) -> None:
    samples = counted(compared[0].samples, "sample")
    say_wrapped(f"{samples}, each compared with: {compared[0].reference}")
    for each in compared:
        say_wrapped(f"  {each.way}: {_flips(each)}; {_scores(each)}", indent=4)
        for flip in each.flips[:_LISTED]:
            say_wrapped(f"    {flip.id}: {_flip_text(flip, cascade)}", indent=6)
        if len(each.flips) > _LISTED:
            say(f"    and {len(each.flips) - _LISTED:,} more; --json lists all")


def _flips(each: Agreement) -> str:
    flips = len(each.flips)
    if not flips:
        return "all decisions are the same"
    return (
        f"{flips:,} {'sample flips' if flips == 1 else 'samples flip'}; {each.same_class:,} have "
        f"the same class, {each.same_stage:,} exit at the same stage"
    )


def _scores(each: Agreement) -> str:
    most = each.largest_difference
    return f"scores differ by up to {most:.2g}" if most else "all scores are the same"


def _flip_text(flip: Flip, cascade: Cascade) -> str:
    """Return a flip in words; stages count from 0, as in results files."""
    reference, here = (
        f"stage {stage} as {cascade.classes[index] if cascade.classes else f'class {index}'}"
        for stage, index in zip(flip.stages, flip.classes, strict=True)
    )
    text = f"{reference} by the reference, {here} here"
    stage = min(flip.stages)
    if flip.distance is None:
        same_stage = flip.stages[0] == flip.stages[1]
        return text if same_stage else f"{text}; stage {stage} has no threshold"
    side = "below" if flip.distance < 0 else "above"
    return f"{text}; at stage {stage} its score was {abs(flip.distance):.2g} {side} the threshold"
