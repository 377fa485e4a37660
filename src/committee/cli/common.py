"""What several commands share: options, progress, tables and JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from committee.pool import Pool

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
AllowCode = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-code",
        metavar="FILE",
        help="A Python file or module that may be run for python: sources. Repeatable.",
    ),
]
Rows = Annotated[
    str | None,
    typer.Option(metavar="START:STOP:STEP", help="Take only these samples, as in Python."),
]
Data = Annotated[
    str,
    typer.Option(
        metavar="PATH",
        help="A folder with one folder of pictures a class, or an npz with images and labels.",
    ),
]
Only = Annotated[
    list[str] | None, typer.Option(metavar="MODEL", help="Only this model. Repeatable.")
]
Unit = Annotated[str | None, typer.Option(help="Unit of the costs, if there are several.")]


@contextmanager
def progress_bar(what: str, unit: str, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on standard error with rate and time left, once there is progress.

    Nothing is drawn if it is not to be shown, or where nobody watches: in a file or a pipe.
    """
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    started = time.perf_counter()
    first: list[int] = []
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        Remaining(),
    )
    bar = Progress(*columns, console=console, expand=True, disable=not console.is_terminal)
    task = bar.add_task(what, total=None, rate="")

    def update(done: int, total: int) -> None:
        bar.start()
        first[:] = first or [done]
        rate = (done - first[0]) / max(time.perf_counter() - started, 1e-9)
        bar.update(task, completed=done, total=total, rate=f"{rate:,.0f} {unit}/s")

    try:
        yield update
    finally:
        if bar.live.is_started:
            bar.stop()


def print_json(data: Any) -> None:
    """Write JSON to standard output."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def say(text: str, quiet: bool = False) -> None:
    """Write a line for people to standard output."""
    if not quiet:
        typer.echo(text)


def next_step(store: str, split: str) -> str:
    """What to do after a split is in the store: the split that chose must not judge."""
    if split == "val":
        return f"Next: the same with --split test, for what judges; then: committee search {store}"
    return f"Next: committee search {store}"


def open_split(store: str, split: str) -> Pool:
    """Open ``STORE`` at a split, or ``STORE/SPLIT`` as it is named."""
    return Pool.load(_folder(store, split))


def usual_judge(store: str, split: str) -> Pool | None:
    """The store's test split, unless it is not there or is the one that chooses."""
    chosen = _folder(store, split)
    usual = chosen.parent / "test"
    return Pool.load(usual) if usual.is_dir() and usual.name != chosen.name else None


def _folder(store: str, split: str) -> Path:
    path = Path(store)
    return path / split if (path / "store.json").exists() else path
