"""``committee watch``."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from committee.arrays import Array
from committee.certificates.monitors import (
    ALPHA,
    BLOCK,
    MOST_FAILED,
    TAU,
    Monitors,
    Reading,
    State,
)
from committee.certificates.state_file import StateFile
from committee.cli import options as opt
from committee.cli.output import print_json, print_table, say_wrapped
from committee.errors import DataError
from committee.run.open import open_cascade
from committee.run.results import parts_of, read_exits
from committee.text import counted, percent


def watch(
    cascade: opt.CascadePath,
    results: Annotated[
        list[Path],
        typer.Argument(
            help="Results of committee run: .csv, .jsonl or .parquet, or a folder of parquet parts."
            " They are read in order."
        ),
    ],
    alpha: opt.Alpha = ALPHA,
    tau: opt.Tau = TAU,
    most_failed: opt.MostFailed = MOST_FAILED,
    state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Go on from this file if it exists, and write it."),
    ] = None,
    shuffle: Annotated[
        bool,
        typer.Option(
            "--shuffle",
            help="Take the rows of each in random order: a folder has its classes one by one.",
        ),
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Raise an alarm if new samples differ from those that certified the cascade.

    No labels are needed. Exit code 1 says that there was an alarm. Rows must be in the order in
    which samples came. Samples that depend on each other, such as frames of a film or copies, raise
    alarms. So does a folder that is read class by class: --shuffle.

    Example: committee watch c.json results.csv --tau 0.02
    """
    loaded = open_cascade(cascade)
    monitors = Monitors.of(loaded.cascade, alpha=alpha, tau=tau, most_failed=most_failed)
    file = None if state is None else StateFile(state)
    now = (file.read(monitors) if file else None) or monitors.start()
    for path in results:
        parts = parts_of(path)
        for part in parts:
            now = _counted_once(part, now)
        pieces = (read_exits(part, loaded.cascade.rule_fingerprint) for part in parts)
        exits = chain.from_iterable(pieces)
        for stages, scores in _shuffled(exits) if shuffle else exits:
            now = monitors.advance(now, monitors.cells(stages, scores))
    if file is not None:
        file.write(now)
    readings = monitors.readings(now)
    if as_json:
        print_json(monitors.report(now))
    else:
        _print(monitors, now, readings)
    if any(each.alarm_at for each in readings):
        raise typer.Exit(opt.FAILED)


def _shuffled(exits: Iterable[tuple[Array, Array]]) -> Iterator[tuple[Array, Array]]:
    """Yield the exits of a whole file in random order, the same each time."""
    pieces = list(exits)
    if pieces:
        stages, scores = (np.concatenate(each) for each in zip(*pieces, strict=True))
        order = np.random.default_rng(0).permutation(len(stages))
        yield stages[order], scores[order]


def _counted_once(path: Path, now: State) -> State:
    """Return a state that knows a file; refuse one whose samples were counted before."""
    with path.open("rb") as file:
        fingerprint = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    if fingerprint in now.files:
        raise DataError(
            f"{path}: its samples were counted before, from this file or a copy. Leave it out"
        )
    return replace(now, files=(*now.files, fingerprint))


def _print(monitors: Monitors, now: State, readings: Sequence[Reading]) -> None:
    expected = monitors.expected
    title = f"{counted(now.samples, 'sample')}, against {expected.samples:,} of {expected.split}"
    columns = [
        ("monitor", lambda own: own.name),
        ("share", lambda own: _share(own.share)),
        ("expected range", _range),
        ("evidence", lambda own: _e_value(own.evidence)),
        ("alarm from", lambda own: _e_value(own.limit)),
        ("alarm", lambda own: f"sample {own.alarm_at:,}" if own.alarm_at else "none"),
    ]
    print_table(readings, columns, title)
    alarms = [each.name for each in readings if each.alarm_at]
    calm = "No alarm" if now.blocks else "No sample was looked at yet"
    text = f"Alarm: {', '.join(alarms)}" if alarms else calm
    say_wrapped(
        f"{text}. As long as nothing changes, the chance that there is ever an alarm is at most "
        f"{100 * monitors.alpha:g} %."
    )
    if any(each.alarm_at is None and _is_outside(each) for each in readings):
        say_wrapped(
            "A share outside its expected range may be chance. It is an alarm once the evidence "
            "reaches the number under “alarm from”."
        )
    if now.pending:
        say_wrapped(
            f"The last {counted(len(now.pending), 'sample')} will be looked at when there are "
            f"{BLOCK}."
        )


def _share(share: float | None) -> str:
    return "" if share is None else percent(share)


def _is_outside(own: Reading) -> bool:
    """Return True if a share lies outside the range that is expected."""
    if own.share is None or own.low is None or own.high is None:
        return False
    return not own.low <= own.share <= own.high


def _range(own: Reading) -> str:
    if own.low is None or own.high is None:
        return ""
    low, high = percent(own.low, "down"), percent(own.high, "up")
    return f"{low.removesuffix(' %')} to {high}" if own.low else f"up to {high}"


def _e_value(log: float) -> str:
    """Return an e-value; a large one in powers of ten."""
    if abs(log) < math.log(1e4):
        return f"{math.exp(log):.3g}"
    return f"1e{log / math.log(10):+.0f}"
