"""Output of commands: lines, notes, tables, JSON and progress, all without control characters."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from committee.cli.choice import committee_table
from committee.pool.pool import Pool
from committee.report.rows import Row
from committee.scale.cluster import Cluster, connect
from committee.spec.model import ModelSpec
from committee.text import counted, human_cost, printable

T = TypeVar("T")
# Most broken samples that are printed; a results file has all.
_NAMED = 5
# Characters of a line that no terminal wraps.
_PIPED = 10_000
# On a narrower terminal, a text begins in the line of its label but goes on at the left.
_NARROW = 60


def print_json(data: Any) -> None:
    """Write JSON to standard output, in ASCII, so that no name controls a terminal.

    JSON has no infinity, so a bound that is none is null.
    """
    try:
        text = json.dumps(data, allow_nan=False)
    except (TypeError, ValueError):
        text = json.dumps(_finite(data), allow_nan=False)
    try:
        text = msgspec.json.format(text, indent=2)  # several times as fast as json's own
    except msgspec.DecodeError:  # a name of a file that is no UTF-8
        text = json.dumps(json.loads(text), indent=2)
    sys.stdout.write(text + "\n")


def _finite(data: Any) -> Any:
    """Return data for JSON, None in place of what is no finite number."""
    if isinstance(data, Mapping):
        return {key: _finite(each) for key, each in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(each) for each in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def say(text: str, quiet: bool = False) -> None:
    """Write one line to standard output."""
    if not quiet:
        typer.echo(printable(text))


def say_joining(address: str | None, quiet: bool) -> None:
    """Say to a terminal that Ray is joined or started, which takes a while; results stay alone."""
    if sys.stderr.isatty() and not quiet:
        where = address or os.environ.get("RAY_ADDRESS")
        told = f"Joining Ray at {where} ..." if where else "Starting Ray on this machine ..."
        typer.echo(printable(told), err=True)


@contextmanager
def joined(address: str | None, quiet: bool) -> Iterator[Cluster]:
    """Join Ray or start it, and say so; see :func:`committee.scale.cluster.connect`."""
    say_joining(address, quiet)
    with connect(address) as cluster:
        yield cluster


# A command up to the end of its clause.
_COMMAND = re.compile(r"committee [^;,(]*[^;,( ]")


def say_wrapped(text: str, indent: int = 2) -> None:
    """Write a text wrapped to the terminal's width, or in one line to a file."""
    for line in _wrapped(printable(text), indent=indent):
        say(line)


def say_next(text: str) -> None:
    """Write what comes next; no command in it is broken, so that it can be copied."""
    whole = _COMMAND.sub(lambda found: found[0].replace(" ", "\0"), printable(text))
    for line in _wrapped(whole):
        say(line.replace("\0", " "))


def _wrapped(text: str, first: str = "", indent: int = 2) -> list[str]:
    wrap = textwrap.TextWrapper(
        terminal_width(), initial_indent=first, subsequent_indent=" " * indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return wrap.wrap(text)


def terminal_width() -> int:
    """Return the characters of a line of the terminal; of a file or a pipe, as many as needed."""
    return shutil.get_terminal_size(fallback=(_PIPED, 24)).columns


def console(stderr: bool = False) -> Console:
    """Return where tables and progress are drawn; with NO_COLOR, plain text without any style."""
    plain = bool(os.environ.get("NO_COLOR"))
    return Console(
        stderr=stderr, markup=False, emoji=False, highlight=False,
        color_system=None if plain else "auto",
        width=None if stderr else terminal_width(),
    )  # fmt: skip


def say_notes(notes: Iterable[str]) -> None:
    """Write notes, without their Markdown backticks."""
    for note in notes:
        text = note.replace("`", "").removesuffix(".")
        say_wrapped(f"Note: {text}{'' if text.endswith('?') else '.'}")


class Notes(list[str]):
    """Notes that are shown once each, or never if the command prints JSON."""

    def __init__(self, quiet: bool, first: Iterable[str] = ()) -> None:
        super().__init__(filter(None, first))
        self._shown = 0
        self.quiet = quiet

    def show(self) -> None:
        """Write the notes that have not been shown yet."""
        if not self.quiet:
            say_notes(self[self._shown :])
            self._shown = len(self)


def say_broken(*pools: Pool | None) -> None:
    """Write which samples of each split were skipped because they could not be read."""
    for pool in pools:
        if pool is not None and pool.samples.broken:
            say(f"{pool.samples.left_out}.")


def say_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Write texts with their labels; a text that is wrapped goes on beside its label."""
    longest = max(len(label) for label, _ in pairs)
    indent = longest + 2 if terminal_width() >= _NARROW else 2
    for label, text in pairs:
        first = label.ljust(indent) if indent > longest else f"{label}: "
        for line in _wrapped(printable(text), first, indent):
            say(line)


def say_committees(
    rows: Sequence[Row], choice: Row | None, caption: str, details: bool = False
) -> None:
    """Write a table of one line a committee, and under it what it shows."""
    say("")
    show(committee_table(rows, choice, terminal_width(), details))
    say_wrapped(caption)


def broken_text(broken: Sequence[tuple[str, str]], sample: str) -> str:
    """Return the number of broken samples, and the first of them with their reasons.

    >>> broken_text([("a.png", "no image"), ("b.png", "empty")], "image")
    '2 broken images: a.png (no image); b.png (empty)'
    """
    named = "; ".join(f"{printable(name)} ({printable(why)})" for name, why in broken[:_NAMED])
    more = f"; and {len(broken) - _NAMED:,} more" if len(broken) > _NAMED else ""
    return f"{counted(len(broken), f'broken {sample}')}: {named}{more}"


def cost_text(average: float | None, unit: str, specs: Mapping[str, ModelSpec]) -> str:
    """Return a line on the average cost of a sample, or why it is unknown; empty if nothing ran."""
    if average is not None:
        return f"Average cost: {human_cost(average, unit)}"
    if unit:
        return ""
    lacking = [name for name, spec in specs.items() if not spec.costs]
    why = (
        f"{', '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no costs"
        if lacking
        else "the models share no unit"
    )
    return (
        f"Average cost: unknown, because {why}. Write costs.macs = NUMBER for each model in the "
        "pool file; then name it with --pool, or predict and search again"
    )


def print_table(
    rows: Iterable[T], columns: Sequence[tuple[str, Callable[[T], str]]], title: str = ""
) -> None:
    """Print a table; a column is its heading and a function from a row to its cell."""
    table = Table(title=title or None, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for k, (heading, _) in enumerate(columns):
        table.add_column(heading, justify="right" if k else "left", overflow="fold")
    for row in rows:
        table.add_row(*(getter(row) for _, getter in columns))
    show(table)


def show(table: Table) -> None:
    """Print a table with its cells as plain text, without markup and control characters."""
    table.title = _plain(table.title)
    for column in table.columns:
        column.header = _plain(column.header)
        column._cells = [_plain(cell) for cell in column._cells]
    console().print(table)


def _plain(cell: Any) -> Any:
    text = cell.plain if isinstance(cell, Text) else cell
    if not isinstance(text, str):
        return cell
    shown = "\n".join(map(printable, text.split("\n")))
    return cell if isinstance(cell, Text) and shown == text else Text(shown)


class _Update(Protocol):
    """Advances a progress bar."""

    def __call__(self, done: int, total: int, text: str = "") -> None:
        """Show ``done`` of ``total``, followed by a text."""


@contextmanager
def progress_bar(what: str, unit: str, shown: bool) -> Iterator[_Update | None]:
    """Draw a progress bar with rate and remaining time on standard error, from the first update.

    The rate also counts from there, without the work of an earlier run. Nothing is drawn if
    ``shown`` is false or standard error is no terminal.
    """
    if not shown:
        yield None
        return
    first: list[tuple[int, float]] = []
    drawn = console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    bar = Progress(*columns, console=drawn, expand=True, disable=not drawn.is_terminal)
    task = bar.add_task(printable(what), total=None, rate="", text="")

    def update(done: int, total: int, text: str = "") -> None:
        bar.start()
        now = time.perf_counter()
        first[:] = first or [(done, now)]
        rate = f"{(done - first[0][0]) / max(now - first[0][1], 1e-9):,.0f} {unit}/s"
        bar.update(task, completed=done, total=total, rate=rate, text=printable(text))

    try:
        yield update
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def search_progress(shown: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """Draw one progress bar after another, for the parts of a search."""
    with ExitStack() as stack:
        bars: dict[str, _Update | None] = {}

        def update(part: str, done: int, total: int) -> None:
            if part not in bars:
                stack.close()
                what, _, unit = f"search, {part}".rpartition(": " if ": " in part else ", ")
                bars[part] = stack.enter_context(progress_bar(what, unit, shown))
            bar = bars[part]
            if bar is not None:
                bar(done, total)

        yield update if shown else None
