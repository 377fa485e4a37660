"""``committee verify``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Annotated

import typer

from committee.cli.common import (
    AllowCode,
    AsJson,
    Chosen,
    Data,
    Loading,
    Rows,
    SkipBroken,
    counted,
    open_split,
    print_json,
    progress_bar,
    refuse,
    say,
    say_left_out,
    with_models,
)
from committee.data.open import open_data
from committee.data.subset import readable_part
from committee.errors import MissingExtraError
from committee.rule.cascade import Cascade
from committee.run.open import what_is
from committee.run.runner import Runner
from committee.run.verify import (
    Compared,
    Flip,
    Way,
    module_way,
    offline_way,
    on_engine,
    online_way,
    stored_way,
)
from committee.run.verify import verify as compare

SHOWN = 10
TOO_MANY = 1


def verify(
    cascade: Chosen,
    data: Data,
    predictions: Annotated[
        str | None,
        typer.Option(metavar="STORE", help="Stored predictions of the same samples."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="The split of the store; test if left out.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH", help="A bundle, an ONNX file or another cascade file. Repeatable."
        ),
    ] = None,
    rows: Rows = None,
    skip_broken: SkipBroken = False,
    batch_size: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Samples a forward pass; 32 images or 4 clips. Repeatable."),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="Run the models on this engine too. Repeatable."),
    ] = None,
    module: Annotated[
        bool, typer.Option("--module", help="Run the cascade as a torch module too.")
    ] = False,
    max_flips: Annotated[
        int | None, typer.Option(min=0, help="Fail, with code 1, if one way has more flips.")
    ] = None,
    pool: Loading = None,
    allow_code: AllowCode = None,
    as_json: AsJson = False,
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
        ways[f"offline, batches of {size}"] = offline_way(runner, size)
    ways["online"] = online_way(runner)
    ways |= _others(runner.cascade, sizes[0], engine or [], module, against or [], code)
    with progress_bar("verify", "samples", not as_json) as progress:
        found = compare(runner.cascade, ways, dataset, max(sizes), progress)
    most = max(len(each.flips) for each in found)
    failed = max_flips is not None and most > max_flips
    if as_json:
        left_out = [{"id": name, "reason": reason} for name, reason in broken]
        ways_told = [asdict(each) for each in found]
        print_json({"ways": ways_told, "failed": failed, "broken_left_out": left_out})
    else:
        _tell(found, runner.cascade)
        say_left_out(broken, runner.task.sample)
    if failed:
        say(f"{most} flips are more than the {max_flips} allowed.", as_json)
        raise typer.Exit(TOO_MANY)


def _others(
    cascade: Cascade,
    batch_size: int,
    engines: list[str],
    module: bool,
    exports: list[str],
    allow_code: Collection[str],
) -> dict[str, Way]:
    """The cascade on other engines, as a module, and exported."""
    ways: dict[str, Way] = {}
    for engine in engines:
        runner = Runner(on_engine(cascade, engine), allow_code=allow_code)
        ways[f"offline, {engine}"] = offline_way(runner, batch_size)
    if module:
        try:
            from committee.export.torch_module import as_module
        except ImportError:
            raise MissingExtraError.of("--module", "torch", "torch") from None
        built = as_module(cascade, allow_code=allow_code)
        ways["torch module"] = module_way(built, batch_size)
    for path in exports:
        runner = Runner(path, allow_code=allow_code)
        ways[f"{what_is(path)}, {path}"] = offline_way(runner, batch_size)
    return ways


def _tell(found: list[Compared], cascade: Cascade) -> None:
    count = found[0].samples
    say(f"{counted(count, 'sample')}, each compared with: {found[0].reference}")
    for each in found:
        flips = len(each.flips)
        alike = "all are decided alike"
        if flips:
            samples = "sample flips" if flips == 1 else "samples flip"
            alike = (
                f"{flips:,} {samples}; {each.same_class:,} have the same class, "
                f"{each.same_stage:,} leave at the same stage"
            )
        most = each.largest_difference
        scores = f"scores differ by up to {most:.2g}" if most else "all scores are the same"
        say(f"  {each.way}: {alike}; {scores}")
        for flip in each.flips[:SHOWN]:
            say(f"    {flip.id}: {_told(flip, cascade)}")
        if flips > SHOWN:
            say(f"    and {flips - SHOWN:,} more; --json lists all")


def _told(flip: Flip, cascade: Cascade) -> str:
    """What a flip is, in words; people count stages from 1."""
    there, here = (
        f"stage {stage + 1} as {cascade.classes[index] if cascade.classes else f'class {index}'}"
        for stage, index in zip(flip.stages, flip.classes, strict=True)
    )
    told = f"{there} by the reference, {here} here"
    stage = min(flip.stages) + 1
    if flip.distance is None:
        alike = flip.stages[0] == flip.stages[1]
        return told if alike else f"{told}; at stage {stage} it has no threshold"
    side = "below" if flip.distance < 0 else "above"
    return f"{told}; at stage {stage} its score was {abs(flip.distance):.2g} {side} the threshold"
