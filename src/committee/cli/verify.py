"""``committee verify``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
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
    from committee.data import Dataset
    from committee.run.runner import Runner
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
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a forward pass.")] = 32,
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

    runner = Runner(cascade, allow_code=allow_code or ())
    dataset = open_data(data, "verify", runner.cascade.classes, rows)
    exports = {path: Runner(path, allow_code=allow_code or ()) for path in against or ()}
    ways = _ways(runner, dataset, exports, batch_size, predictions, split)
    with progress_bar("verify", "samples", not as_json) as progress:
        found = compare(runner.cascade, ways, dataset, batch_size, progress)
    most = max(len(each.flips) for each in found)
    failed = max_flips is not None and most > max_flips
    if as_json:
        print_json({"ways": [asdict(each) for each in found], "failed": failed})
    else:
        _tell(found)
    if failed:
        say(f"{most} flips are more than the {max_flips} allowed.", as_json)
        raise typer.Exit(TOO_MANY)


def _ways(
    runner: Runner,
    dataset: Dataset,
    exports: dict[str, Runner],
    batch_size: int,
    predictions: str | None,
    split: str | None,
) -> dict[str, Way]:
    from committee.run.verify import offline_way, online_way, stored_way

    ways: dict[str, Way] = {}
    if predictions is not None:
        ways["stored predictions"] = stored_way(
            runner.cascade, open_split(predictions, split, "test"), dataset
        )
    ways[f"offline, batches of {batch_size}"] = offline_way(runner, batch_size)
    ways["online"] = online_way(runner)
    for path, exported in exports.items():
        ways[f"exported, {Path(path).name}"] = offline_way(exported, batch_size)
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
