"""What several commands share: options, progress, tables and JSON."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.table import Table
from rich.text import Text

from committee.errors import CascadeError, CostError, ShapeError, StoreError
from committee.models.pool_file import read_pool_file
from committee.pool.metrics import Metric, top_k
from committee.pool.pool import Pool
from committee.report.rows import Row, choice_of
from committee.report.tables import rich_table, versus_lines
from committee.rule.cascade import Cascade
from committee.rule.combinations import COMBINES
from committee.rule.scores import BUILT_IN
from committee.run.open import opened
from committee.segment.store import load_images
from committee.selection.front import Front, check_within
from committee.selection.notes import notes_of
from committee.selection.targets import Target
from committee.spec.model import ModelSpec
from committee.store.entry import read_index
from committee.store.split import known_split
from committee.text import human_cost, printable

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
        help="A folder with one folder of files a class; a csv of paths and labels; an npz or "
        "npy of images; a folder saved by Hugging Face datasets; one image or clip; "
        "embedded:val or embedded:test, the demo's; NAME:REST of a plug-in.",
    ),
]
Top = Annotated[int, typer.Option(help="A sample is right if its label is among the top K.")]
AgreeWith = Annotated[
    str | None,
    typer.Option(
        metavar="A[,B,...]",
        help="In place of labels, what this model or ensemble of models predicts.",
    ),
]
Fraction = Annotated[
    str | None,
    typer.Option(
        metavar="F|START:STOP",
        help="Take a share of every class, 0 to 1; the split 'test' takes what F leaves.",
    ),
]
Seed = Annotated[int | None, typer.Option(help="Chooses the samples of --fraction; 0 if left out.")]
SkipBroken = Annotated[
    bool, typer.Option("--skip-broken", help="Leave out samples that cannot be read, and say so.")
]
Only = Annotated[
    list[str] | None, typer.Option(metavar="MODEL", help="Only this model. Repeatable.")
]
Match = Annotated[str | None, typer.Option(metavar="MODEL", help="Cheapest, as accurate as MODEL.")]
Within = Annotated[
    float | None,
    typer.Option(help="With --match: how much less accurate it may be, 0 to 1; 0 if left out."),
]
MinAccuracy = Annotated[
    float | None, typer.Option(help="Cheapest with at least this accuracy, 0 to 1.")
]
MaxCost = Annotated[
    str | None,
    typer.Option(
        metavar="COST|PERCENT",
        help="Most accurate for at most this average cost: 5M, 1.2G, or 50% of the cost of the "
        "model of --match, else of the most accurate model.",
    ),
]
ConfidenceName = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(BUILT_IN), help="What a threshold is compared with; max_prob if left out."
    ),
]
Combine = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(COMBINES), help="How outputs are combined; what their kind implies."
    ),
]
ThresholdGrid = Annotated[int, typer.Option(help="Percentiles tried for each threshold.")]
Calibrated = Annotated[
    bool,
    typer.Option("--calibrated", help="Apply what committee calibrate kept before averaging."),
]
SelfCascades = Annotated[
    bool,
    typer.Option(
        "--self-cascades", help="Only cascades of one set of weights at rising resolutions."
    ),
]
ChoosingSplit = Annotated[str | None, typer.Option(help="The split that chooses; val if left out.")]
Unit = Annotated[str | None, typer.Option(help="Unit of the costs, if there are several.")]
Chosen = Annotated[
    str,
    typer.Argument(metavar="CASCADE", help="A cascade file, a bundle, or a cascade as ONNX file."),
]
Loading = Annotated[
    str | None,
    typer.Option(
        "--pool",
        metavar="POOL.toml",
        help="Lists the models of the cascade as they are loaded now, in place of what it says.",
    ),
]


# Broken samples that are named; a results file has all.
SHOWN = 5


class Update(Protocol):
    """Tells a progress bar how far things are."""

    def __call__(self, done: int, total: int, told: str = "") -> None:
        """So many of so many are done; ``told`` is what else is to be seen."""


@contextmanager
def progress_bar(what: str, unit: str, shown: bool) -> Iterator[Update | None]:
    """A progress bar on standard error with rate and time left, once there is progress.

    The rate is that since the first update: what an earlier run did counts for nothing.
    Nothing is drawn if it is not to be shown, or where nobody watches: in a file or a pipe.
    """
    if not shown:
        yield None
        return

    first: list[tuple[int, float]] = []
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        Remaining(),
        TextColumn("{task.fields[told]}", markup=False),
    )
    bar = Progress(*columns, console=console, expand=True, disable=not console.is_terminal)
    task = bar.add_task(printable(what), total=None, rate="", told="")

    def update(done: int, total: int, told: str = "") -> None:
        bar.start()
        now = time.perf_counter()
        first[:] = first or [(done, now)]
        rate = (done - first[0][0]) / max(now - first[0][1], 1e-9)
        bar.update(
            task, completed=done, total=total, rate=f"{rate:,.0f} {unit}/s", told=printable(told)
        )

    try:
        yield update
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def search_progress(shown: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """One bar after another for the parts of a search."""
    with ExitStack() as stack:
        bars: dict[str, Callable[[int, int], None] | None] = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in bars:
                stack.close()
                bars[what] = stack.enter_context(progress_bar("search", what, shown))
            bar = bars[what]
            if bar is not None:
                bar(done, total)

        yield update if shown else None


def judged_by(pool: Pool, top: int, agree_with: str | None) -> tuple[Pool, Metric]:
    """The pool with the labels that are asked for, and what a sample scores."""
    if agree_with is not None:
        pool = pool.labelled_by([name.strip() for name in agree_with.split(",")])
    values = next(iter(pool.outputs.values())).values if pool.outputs else None
    if values is not None and values.ndim == 2 and top > max(values.shape[1], 1):
        raise ShapeError(f"--top {top}: outputs have {values.shape[1]} classes only; name fewer")
    return pool, pool.task.metric if top == 1 else top_k(top)


_MULTIPLES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def amount(option: str, text: str) -> float:
    """A cost as people write it: ``5e6``, ``5M``, ``1.2G``.

    Raises:
        CostError: If it is no number.
    """
    multiple = _MULTIPLES.get(text[-1:], 1.0)
    try:
        return float(text if multiple == 1.0 else text[:-1]) * multiple
    except ValueError:
        raise CostError(f"{option}: {text!r} is no cost; write 5000000, 5e6 or 5M") from None


def amounts(option: str, texts: Sequence[str] | None, unit: str | None) -> dict[str, float]:
    """Costs by unit from ``UNIT=COST``; ``unit`` is meant where none is named.

    Raises:
        CostError: If a cost is no number, or has no unit.
    """
    found = {}
    for text in texts or ():
        own, _, number = text.rpartition("=")
        if not (own or unit):
            raise CostError(f"{option}: {text!r} names no unit; write UNIT=COST")
        found[own or str(unit)] = amount(option, number)
    return found


def with_models(path: str, pool: str | None) -> str | Cascade:
    """A cascade's path, or the cascade with its models loaded as a pool file says.

    Raises:
        CascadeError: If the cascade is one ONNX file, which has its models inside.
        MisalignedError: If the pool file names other classes, kinds or preprocessing.
        UnknownNameError: If it lacks a model.
    """
    if pool is None:
        return path

    found = opened(path)
    if found.graph is not None:
        raise CascadeError(f"--pool {pool}: {path} has its models inside; leave --pool out")
    return read_pool_file(pool).described(found.cascade, f"--pool {pool}")


def target_of(
    match: str | None, within: float | None, min_accuracy: float | None, max_cost: str | None
) -> Target:
    """What is asked of a committee of the front.

    Raises:
        CascadeError: If ``within`` stands without a match, or is no share of 1.
        CostError: If the cost is none.
    """
    if within is not None:
        if match is None:
            raise CascadeError("--within needs --match MODEL")
        check_within(within, "--within")
    share = max_cost is not None and max_cost.endswith("%")
    most = None if max_cost is None else amount("--max-cost", max_cost.removesuffix("%"))
    if share and most is not None:
        most /= 100
    return Target(match, within or 0.0, min_accuracy, most, share)


def refuse(why: str, /, **given: bool) -> None:
    """Refuse options that a call would not use.

    Args:
        why: What they belong to, such as ``--match``.
        given: By the option's name, whether it stands where it is not used.

    Raises:
        CascadeError: If one does.
    """
    named = [f"--{name.replace('_', '-')}" for name, is_given in given.items() if is_given]
    if named:
        plural = "go" if len(named) > 1 else "goes"
        raise CascadeError(f"{', '.join(named)} {plural} with {why}; leave it out or change that")


def confidence_for(pool: Pool, confidence: str | None) -> str:
    """The confidence that is asked for, or that the outputs imply.

    Raises:
        CascadeError: If one is asked for where the outputs bring their own.
    """
    if confidence is not None and pool.kind == "decisions":
        raise CascadeError(
            f"--confidence {confidence}: decisions bring their own confidence; leave it out"
        )
    return confidence or "max_prob"


def notes_for(front: Front, rows: Sequence[Row]) -> tuple[str, ...]:
    """What to note on a front and on the choice among its rows: the chosen one, else the match."""
    row = choice_of(rows)
    return notes_of(front, None if row is None else row.versus)


def say_rows(rows: Sequence[Row], notes: Sequence[str]) -> None:
    """Write rows as a table, what each choice gains and loses, and what to note."""
    show(rich_table(rows))
    for line in versus_lines(rows):
        say_wrapped(line)
    say_notes(notes)


def say_notes(notes: Sequence[str]) -> None:
    """Write what to note, a line each."""
    for note in notes:
        # Backticks are for Markdown.
        say_wrapped(f"Note: {note.replace('`', '')}.")


def say_share(front: Front, target: Target) -> None:
    """Write what a share of a cost was of."""
    if target.share:
        say_wrapped(f"--max-cost is {target.cost_told(front)}.")


def say_wrapped(text: str) -> None:
    """Write a text in lines of a terminal's width; in one line where the output is a file."""
    width = shutil.get_terminal_size(fallback=(10_000, 24)).columns
    wrap = textwrap.TextWrapper(
        width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    for line in wrap.wrap(printable(text)):
        say(line)


def print_json(data: Any) -> None:
    """Write JSON to standard output."""
    # Escapes keep programs' input what it was, and terminals from obeying it.
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def say(text: str, quiet: bool = False) -> None:
    """Write a line for people to standard output."""
    if not quiet:
        # One line, of which a terminal obeys nothing, whatever names it holds.
        typer.echo(printable(text))


def show(table: Table) -> None:
    """Print a table; what stands in it is text, neither markup nor anything a terminal obeys."""
    table.title = _plain(table.title)
    for column in table.columns:
        column.header = _plain(column.header)
        column._cells = [_plain(cell) for cell in column._cells]
    Console(markup=False, emoji=False, highlight=False).print(table)


def _plain(cell: Any) -> Any:
    """Return a cell as it may be shown; lines of our own stay lines."""
    text = cell.plain if isinstance(cell, Text) else cell
    if not isinstance(text, str):
        return cell
    shown = "\n".join(map(printable, text.split("\n")))
    return cell if isinstance(cell, Text) and shown == text else Text(shown)


def say_broken(*pools: Pool | None) -> None:
    """Say of each split what was left out of it because it could not be read."""
    for pool in pools:
        if pool is not None and pool.samples.broken:
            say(f"{pool.samples.left_out}.")


def say_left_out(broken: Sequence[tuple[str, str]], sample: str) -> None:
    """Name samples that could not be read and were left out, with the reason of each."""
    if broken:
        say(f"Left out: {listed_broken(broken, sample)}")


def listed_broken(broken: Sequence[tuple[str, str]], sample: str) -> str:
    """How many samples are broken, and the first of them with their reasons.

    >>> listed_broken([("a.png", "no image"), ("b.png", "empty")], "image")
    '2 broken images: a.png (no image); b.png (empty)'
    """
    named = "; ".join(f"{printable(n)} ({printable(why)})" for n, why in broken[:SHOWN])
    more = f"; and {len(broken) - SHOWN:,} more" if len(broken) > SHOWN else ""
    plural = "" if len(broken) == 1 else "s"
    return f"{len(broken):,} broken {sample}{plural}: {named}{more}"


def counted(count: int, what: str) -> str:
    """So many of something.

    >>> counted(1, "model"), counted(2000, "model")
    ('1 model', '2,000 models')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def cost_line(average: float | None, unit: str, specs: Mapping[str, ModelSpec]) -> str:
    """What a sample cost on average, or why nobody knows and the remedy; empty if none was run.

    Args:
        average: The cost, or None.
        unit: Its unit; empty if costs are unknown.
        specs: The models, by name.
    """
    if average is not None:
        return f"Average cost: {human_cost(average, unit)}"
    if unit:
        return ""
    lacking = [name for name, spec in specs.items() if not spec.costs]
    why = f"nothing is known of {', '.join(lacking)}" if lacking else "the models share no unit"
    return (
        f"Average cost: unknown, for {why}. Write costs.macs = NUMBER for each model in the pool "
        "file; then name it with --pool, or predict and search again"
    )


def left_out(*pools: Pool | None) -> dict[str, int]:
    """For JSON: how many broken samples were left out of each split."""
    known = [pool.samples for pool in pools if pool is not None]
    return {samples.split: len(samples.broken) for samples in known}


def next_step(store: str, split: str) -> str:
    """What to do after a split is in the store: the split that chose must not evaluate.

    Args:
        store: What the user named.
        split: Name of the split.
    """
    root = Path(store)
    if split == "cal":
        return f"Next: committee calibrate {store}"
    steps = [_missing_costs(root, split), _missing_split(root), _missing_labels(root)]
    return "Next: " + "; then: ".join([*filter(None, steps), f"committee search {store}"])


def _missing_split(root: Path) -> str:
    if not (root / "val").is_dir():
        return "the same with --split val, for what chooses"
    if not (root / "test").is_dir():
        return "the same with --split test, for what evaluates"
    return ""


def _missing_costs(root: Path, split: str) -> str:
    """How models get the costs that search needs; empty if they share a unit."""
    folder = root / ("val" if (root / "val").is_dir() else split)
    if not (root / "store.json").is_file():
        return ""
    models = read_index(root / "store.json")["models"]
    own = {n: each for n, each in models.items() if (folder / f"{n}.json").is_file()}
    units = [{cost["unit"] for cost in each["costs"]} for each in own.values()]
    if not units or set.intersection(*units):
        return ""
    if any(not each["source"] for each in own.values()):
        return "the same with --cost NAME=NUMBER for each model, for search needs costs"
    return (
        f"committee profile POOL.toml --store {root}, or the same with costs.macs = NUMBER for "
        "each model in the pool file, for search needs costs"
    )


def _missing_labels(root: Path) -> str:
    """How the split that chooses gets labels; empty if it has some, or is not there."""
    known = known_split(root / "val", ()) if (root / "store.json").is_file() else None
    if known is None or known.samples.labels is not None:
        return ""
    return (
        f"committee relabel {root} --split val --labels FILE (or none, and search with "
        "--agree-with MODEL)"
    )


def open_split(
    store: str,
    split: str | None,
    usual: str,
    calibrated: bool = False,
    grids: Sequence[str] | None = None,
) -> Pool:
    """Open one split: that of ``STORE/SPLIT``, else the named one of ``STORE``, else the usual.

    Args:
        store: What the user named.
        split: The split that is asked for, or None.
        usual: The split if none is.
        calibrated: Whether to apply calibrations.
        grids: Names of sizes of tiles, where only these are meant.

    Raises:
        StoreError: If there is no such split, or tiles are asked for where there are none.
    """
    folder = _folder(store, split, usual)
    if grids:
        return load_images(folder, grids=grids, calibrated=calibrated)
    return Pool.load(folder, calibrated=calibrated)


def usual_judge(store: str, split: str | None, calibrated: bool = False) -> Pool | None:
    """The store's test split, unless it is not there or is the one that chooses."""
    chosen = _folder(store, split, "val")
    usual = chosen.parent / "test"
    if not usual.is_dir() or usual.name == chosen.name:
        return None
    return Pool.load(usual, calibrated=calibrated)


def store_of(store: str) -> Path:
    """The folder of a store that is named as ``STORE`` or as ``STORE/SPLIT``."""
    return _folder(store, None, "any").parent


def is_store(path: str) -> bool:
    """True if a path is a store of predictions, or one split of it."""
    folder = Path(path)
    marks = ("store.json", "tiles.json")
    return any((each / mark).is_file() for each in (folder, folder.parent) for mark in marks) and (
        folder.is_dir() and not (folder / "cascade.json").exists()
    )


def _folder(store: str, split: str | None, usual: str) -> Path:
    path = Path(store)
    if any((path / name).exists() for name in ("store.json", "tiles.json")):
        return path / (split or usual)
    if split not in (None, path.name):
        raise StoreError(f"--split {split}: {store} names a split already; give one of the two")
    return path
