"""``committee verify``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from committee.cli.common import (
    AllowCode,
    AsJson,
    Data,
    Rows,
    open_split,
    print_json,
    progress_bar,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from committee.cascade import Cascade
    from committee.run.verify import Compared, Way

SHOWN = 10
TOO_MANY = 1


def verify(
    cascade: Annotated[str, typer.Argument(metavar="CASCADE.json", help="The cascade.")],
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
        typer.Option(metavar="PATH", help="A bundle or a graph. Repeatable."),
    ] = None,
    rows: Rows = None,
    batch_size: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Samples a forward pass; 32 pictures or 4 clips. Repeatable."),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="Run the models on this engine too, in float32. Repeatable."),
    ] = None,
    module: Annotated[
        bool, typer.Option("--module", help="Run the cascade as a torch module too.")
    ] = False,
    max_flips: Annotated[
        int | None, typer.Option(min=0, help="Fail, with code 1, if one way has more flips.")
    ] = None,
    allow_code: AllowCode = None,
    as_json: AsJson = False,
) -> None:
    """Compare the decisions of stored predictions, of running, and of exports, one by one."""
    from committee.data import open_data
    from committee.run import Runner
    from committee.run import verify as compare
    from committee.run.verify import offline_way, online_way, stored_way

    code = allow_code or ()
    runner = Runner(cascade, allow_code=code)
    models = list(runner.specs.values())
    dataset = open_data(data, "verify", runner.cascade.classes, rows, models=models)
    sizes = batch_size or [runner.task.batch_size]
    ways: dict[str, Way] = {}
    if predictions is not None:
        pool = open_split(predictions, split, "test")
        ways["stored predictions"] = stored_way(runner.cascade, pool, dataset)
    for size in sizes:
        ways[f"offline, batches of {size}"] = offline_way(runner, size)
    ways["online"] = online_way(runner)
    ways |= _others(runner.cascade, sizes[0], engine or [], module, against or [], code)
    with progress_bar("verify", "samples", not as_json) as progress:
        found = compare(runner.cascade, ways, dataset, max(sizes), progress)
    most = max(len(each.flips) for each in found)
    failed = max_flips is not None and most > max_flips
    if as_json:
        print_json({"ways": [asdict(each) for each in found], "failed": failed})
    else:
        _tell(found)
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
    from committee.run import Runner
    from committee.run.verify import module_way, offline_way, on_engine

    ways: dict[str, Way] = {}
    for engine in engines:
        runner = Runner(on_engine(cascade, engine), allow_code=allow_code)
        ways[f"offline, {engine}"] = offline_way(runner, batch_size)
    if module:
        built = cascade.as_module(allow_code=allow_code)
        ways["torch module"] = module_way(built, batch_size)
    for path in exports:
        ways[f"exported, {path}"] = offline_way(Runner(path, allow_code=allow_code), batch_size)
    return ways


def _tell(found: list[Compared]) -> None:
    say(f"{found[0].samples} samples, each compared with: {found[0].reference}")
    for each in found:
        say(
            f"  {each.way}: {len(each.flips)} flips; {each.same_class} classes and "
            f"{each.same_stage} exits are the same; scores differ by up to "
            f"{each.largest_difference:.1e}"
        )
        for flip in each.flips[:SHOWN]:
            near = "" if flip.distance is None else f", {flip.distance:.1e} above the threshold"
            say(
                f"    {flip.id}: stage {flip.stages[0]} -> {flip.stages[1]}, "
                f"class {flip.classes[0]} -> {flip.classes[1]}{near}"
            )
        if len(each.flips) > SHOWN:
            say(f"    and {len(each.flips) - SHOWN} more; --json lists all")
