"""``committee predict``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from committee.cli import options as opt
from committee.cli.options import check_on, refuse, refuse_for_segmentation
from committee.cli.output import Notes, joined, print_json, progress_bar, say, say_next
from committee.cli.stores import next_step
from committee.cli.tasks import commands_of
from committee.data.base import REST, Dataset, PartDataset, content_of, share, without
from committee.data.open import open_data
from committee.errors import ChangedError
from committee.models.pool_file import PoolFile, read_pool_file
from committee.paths import anywhere
from committee.pool.identity import shared
from committee.pool.labels import LabelMode
from committee.pool.samples import Samples
from committee.predict import predict as compute
from committee.predict_batches import Compute, compute_here
from committee.scale.predict import Actors, compute_on
from committee.store.split import changed_text, known_split, other_splits, read_split
from committee.text import counted


def predict(
    pool: opt.PoolPath,
    data: opt.Data,
    split: opt.SplitName,
    out: opt.NewStore = "predictions",
    rows: opt.Rows = None,
    fraction: opt.Fraction = None,
    seed: opt.Seed = None,
    skip_broken: Annotated[
        bool,
        typer.Option(
            "--skip-broken",
            help="Skip samples that cannot be read or on which a model fails, and name them.",
        ),
    ] = False,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Read no labels; committee relabel adds them.")
    ] = False,
    only: opt.Only = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Samples per forward pass, a divisor of 256; default: 32 images, 4 clips or 256 "
            "records."
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Stored numbers: float32 or float16.")] = "float32",
    on: opt.On = None,
    address: opt.Address = None,
    actors: Annotated[
        int | None,
        typer.Option(min=1, help="With --on ray: most workers; default: as many as have room."),
    ] = None,
    cpus: opt.Cpus = 1.0,
    gpus: opt.Gpus = 0.0,
    allow_code: opt.AllowCode = None,
    as_json: opt.AsJson = False,
) -> None:
    """Compute the outputs of every model on every sample; stop and resume at will.

    --fraction 0.5 takes half of every class, and with --split test the other half. If the store
    has such splits already, --split test without --fraction takes what remains.

    Example: committee predict pool.toml --data images/val --split val
    """
    refuse("--fraction", seed=seed is not None and fraction is None)
    given = {"address": address is not None, "actors": actors is not None}
    check_on(on, **given, cpus=cpus != 1, gpus=gpus != 0)
    models = read_pool_file(pool)
    if only:
        models = models.only(only)
    code = allow_code or ()
    own = commands_of(models.task)
    if own is not None:
        refuse_for_segmentation(
            fraction=fraction is not None,
            skip_broken=skip_broken,
            unlabelled=unlabelled,
            dtype=dtype != "float32",
            on=on is not None,
        )
        own.predict(models, data, split, out, rows, batch_size, code, as_json)
        return
    dataset = _open(models, data, split, out, rows, fraction, seed or 0, unlabelled)
    notes = Notes(as_json, [*dataset.samples.notes, _labels_note(dataset.samples)])
    there = anywhere(data)
    opening = partial(open_data, there, split, models.classes, models=models.models, labels="none")
    room = actors or 0, cpus, gpus
    with (
        _where(on, address, opening, code, room, as_json) as where,
        progress_bar("predict", "outputs", not as_json) as update,
    ):

        def progress(done: int, total: int) -> None:
            # The call was not refused: show its notes before the first progress.
            notes.show()
            if update is not None:
                update(done, total)

        folder = compute(
            models,
            dataset,
            out,
            batch_size=batch_size,
            dtype=dtype,
            skip_broken=skip_broken,
            allow_code=code,
            progress=progress,
            note=notes.append,
            compute=where,
        )
    notes.show()
    samples = read_split(folder, dataset.samples.classes).samples
    names = [model.name for model in models.models]
    if as_json:
        print_json(_shown(folder, names, samples, notes))
        return
    rule = f" ({samples.rule})" if samples.rule else ""
    outputs = f"{counted(len(names), 'model')} x {counted(len(samples), 'sample')}"
    say(f"{outputs} are in {folder}{rule}")
    say_next(next_step(out, split))


def _shown(folder: Path, names: list[str], samples: Samples, notes: Notes) -> dict[str, Any]:
    """Return what is in a store now, for programs."""
    return {
        "split": str(folder),
        "models": names,
        "samples": len(samples),
        "rule": samples.rule,
        "broken": [vars(each) for each in samples.broken],
        "notes": notes,
    }


@contextmanager
def _where(
    on: str | None,
    address: str | None,
    opening: Callable[[], Dataset],
    code: Sequence[str],
    room: tuple[int, float, float],
    as_json: bool,
) -> Iterator[Compute]:
    """Yield where the models run: in this process, or on a cluster that is joined."""
    if on is None:
        yield compute_here
        return
    with joined(address, as_json) as cluster:
        yield compute_on(cluster, opening, code, Actors(*room))


def _labels_note(samples: Samples) -> str:
    """Return a note if samples have no labels, or some classes have no samples; else empty."""
    if samples.labels is None:
        return "without labels: committee relabel adds them, search --agree-with needs none"
    if not samples.classes:
        return ""
    count, total = len(np.unique(samples.labels)), len(samples.classes)
    have = "has" if count == 1 else "have"
    return f"{count:,} of {total:,} classes {have} samples" if count < total else ""


def _open(
    models: PoolFile,
    data: str,
    split: str,
    store: str,
    rows: str | None,
    fraction: str | None,
    seed: int,
    unlabelled: bool,
) -> Dataset:
    """Return the dataset of the split."""
    labels: LabelMode = "none" if unlabelled else "must fit"
    dataset = open_data(data, split, models.classes, rows, models=models.models, labels=labels)
    if fraction is not None:
        return _grown_share(dataset, store, fraction, seed)
    return dataset if rows is not None else _without_stored_shares(dataset, store)


def _without_stored_shares(dataset: Dataset, store: str | Path) -> Dataset:
    """Return a data set without the samples of the store's splits that were taken by fraction.

    It is returned unchanged if its split is not called ``test``, or the store has no such split.
    """
    if dataset.samples.split != REST:
        return dataset
    others = [each for each in other_splits(Path(store), REST) if each.samples.rule]
    if not others:
        return dataset
    given = replace(dataset.samples, content=content_of(dataset))
    # Most of such a split is among these samples, unchanged.
    sources = [s for s in (o.samples for o in others) if 2 * len(shared(s, given).first) > len(s)]
    if not sources:
        return dataset
    ids = set()
    for each in sources:
        _refuse_changed(Path(store), each, given)
        # Renamed samples belong to that split too, and so do its broken ones.
        ids |= {given.ids[row] for row in shared(each, given).second.tolist()}
        ids |= {*each.ids, *(broken.id for broken in each.broken)}
    names = ", ".join(each.split for each in sources)
    return without(dataset, frozenset(ids), f"what {names} left ({sources[0].rule})")


def _refuse_changed(store: Path, split: Samples, given: Samples) -> None:
    assert split.content is not None
    assert given.content is not None
    place = {name: row for row, name in enumerate(given.ids)}
    then = np.array([row for row, name in enumerate(split.ids) if name in place], np.int64)
    now = np.array([place[split.ids[row]] for row in then.tolist()], np.int64)
    # A sample that could not be read may have been fixed.
    differ = (split.content[then] != given.content[now]) & (split.content[then] != 0)
    if differ.any():
        changed = changed_text(split, given, then[differ], now[differ])
        raise ChangedError(
            f"{store}: split {split.split!r}, which {given.split!r} is to leave out: {changed}. "
            "Give the samples as they were, or predict both splits into another store with --out"
        )


def _grown_share(whole: Dataset, store: str | Path, fraction: str, seed: int) -> Dataset:
    """Return a share of every class, consistent with the splits of a store.

    If the split is new, this is :func:`committee.data.base.share`. Otherwise it is the samples
    of the stored split, and those of the share that are new to the store: the folder may have
    grown.
    """
    part = share(whole, fraction, seed)
    known = _recorded(Path(store), part.samples)
    ids = whole.samples.ids
    if known is None or not known <= set(ids):
        return part
    others = {n for each in other_splits(Path(store), part.samples.split) for n in each.samples.ids}
    new = set(part.samples.ids) - others
    rows = [row for row, name in enumerate(ids) if name in known or name in new]
    chosen = np.array(rows, np.int64)
    return PartDataset(whole, chosen, replace(whole.samples.taken(chosen), rule=part.samples.rule))


def _recorded(store: Path, samples: Samples) -> set[str] | None:
    """Return the ids of the stored split if it was taken by the same rule, else None."""
    if not (store / samples.split).is_dir():
        return None
    known = known_split(store / samples.split, ())
    if known is None or _share_of(known.samples.rule) != _share_of(samples.rule):
        return None
    return {*known.samples.ids, *(broken.id for broken in known.samples.broken)}


def _share_of(rule: str) -> str:
    """Return a rule without its last part, the number of samples."""
    return rule.rpartition(",")[0]
