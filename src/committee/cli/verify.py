"""``committee verify``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from committee.cli import options as opt
from committee.cli.options import refuse
from committee.cli.output import broken_text, print_json, progress_bar, say
from committee.cli.stores import open_split, with_models
from committee.data.base import readable_part
from committee.data.open import open_data
from committee.errors import needing
from committee.rule.cascade import Cascade
from committee.run.open import what_is
from committee.run.runner import Runner
from committee.run.verify import (
    Agreement,
    Flip,
    ModuleWay,
    OfflineWay,
    OnlineWay,
    Way,
    on_engine,
    stored_way,
)
from committee.run.verify import verify as compare
from committee.text import counted

# Most flips that are printed; JSON has all.
_LISTED = 10
TOO_MANY = 1


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
            min=1, help="Samples per forward pass; default: 32 images or 4 clips. Repeatable."
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
    if skip_broken:
        dataset, broken = readable_part(dataset)
    sizes = batch_size or [runner.task.batch_size]
    ways: dict[str, Way] = {}
    if predictions is not None:
        stored = open_split(predictions, split, "test")
        ways["stored predictions"] = stored_way(runner.cascade, stored, dataset)
    for size in sizes:
        ways[f"offline, batches of {size}"] = OfflineWay(runner, size)
    ways["online"] = OnlineWay(runner)
    ways |= _other_ways(runner.cascade, sizes[0], engine or [], module, against or [], code)
    with progress_bar("verify", "samples", not as_json) as progress:
        compared = compare(runner.cascade, ways, dataset, max(sizes), progress)
    most = max(len(each.flips) for each in compared)
    failed = max_flips is not None and most > max_flips
    if as_json:
        skipped = [{"id": name, "reason": reason} for name, reason in broken]
        results = [asdict(each) for each in compared]
        print_json({"ways": results, "failed": failed, "broken_left_out": skipped})
    else:
        _print(compared, runner.cascade)
        if broken:
            say(f"Skipped: {broken_text(broken, runner.task.sample)}")
    if failed:
        say(f"{most} flips are more than the {max_flips} allowed.", as_json)
        raise typer.Exit(TOO_MANY)


def _other_ways(
    cascade: Cascade,
    batch_size: int,
    engines: Sequence[str],
    module: bool,
    exports: Sequence[str],
    allow_code: Collection[str],
) -> dict[str, Way]:
    """Return the ways to run the cascade on other engines, as a torch module, and exported."""
    ways: dict[str, Way] = {}
    for engine in engines:
        runner = Runner(on_engine(cascade, engine), allow_code=allow_code)
        ways[f"offline, {engine}"] = OfflineWay(runner, batch_size)
    if module:
        with needing("--module", "torch", "torch"):
            from committee.export.torch_module import as_module
        ways["torch module"] = ModuleWay(as_module(cascade, allow_code=allow_code), batch_size)
    for path in exports:
        runner = Runner(path, allow_code=allow_code)
        ways[f"{what_is(path)}, {path}"] = OfflineWay(runner, batch_size)
    return ways


def _print(compared: Sequence[Agreement], cascade: Cascade) -> None:
    samples = counted(compared[0].samples, "sample")
    say(f"{samples}, each compared with: {compared[0].reference}")
    for each in compared:
        say(f"  {each.way}: {_flips(each)}; {_scores(each)}")
        for flip in each.flips[:_LISTED]:
            say(f"    {flip.id}: {flip_text(flip, cascade)}")
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


def flip_text(flip: Flip, cascade: Cascade) -> str:
    """Return a flip in words, with stages counted from 1."""
    reference, here = (
        f"stage {stage + 1} as {cascade.classes[index] if cascade.classes else f'class {index}'}"
        for stage, index in zip(flip.stages, flip.classes, strict=True)
    )
    text = f"{reference} by the reference, {here} here"
    stage = min(flip.stages) + 1
    if flip.distance is None:
        same_stage = flip.stages[0] == flip.stages[1]
        return text if same_stage else f"{text}; stage {stage} has no threshold"
    side = "below" if flip.distance < 0 else "above"
    return f"{text}; at stage {stage} its score was {abs(flip.distance):.2g} {side} the threshold"
