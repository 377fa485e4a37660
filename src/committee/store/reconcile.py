"""Reconcile a data set with a store: the order of samples, broken samples, other splits."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path

import numpy as np

from committee.data.base import (
    REST,
    BrokenSamplesError,
    Dataset,
    PartDataset,
    content_of,
    find_broken,
    share,
    without,
)
from committee.errors import ChangedError
from committee.pool.identity import content_copies, shared
from committee.pool.samples import Broken, Samples
from committee.store.folder import Store
from committee.store.split import Split, changed_text, known_split, other_splits, store_order


def reconcile(
    store: Store, dataset: Dataset, skip_broken: bool
) -> tuple[Dataset, Split, list[str]]:
    """Bring a data set into the order of the store, and record its samples there.

    With ``skip_broken`` samples that are new to the store are read once, and left out if they
    cannot be read.

    Returns:
        The data set in the store's order, the recorded split, and notes on samples that are copies
        or also in other splits.
    """
    samples = dataset.samples
    known = store.split(samples.split, samples.classes)
    given = Split(replace(samples, content=content_of(dataset)))
    broken = _broken(dataset, given, known, skip_broken)
    good = np.array([name not in broken for name in samples.ids], bool)
    if not good.any():
        raise BrokenSamplesError([(each.id, each.reason) for each in broken.values()])
    rows = np.flatnonzero(good)
    fewer = _without(known, broken.keys())
    is_fewer = fewer is not known
    rows = rows[store_order(store.root / samples.split, fewer, given.taken(rows))]
    readable = replace(given.samples.taken(rows), broken=tuple(broken.values()))
    was_checked = fewer is not None and fewer.checked and len(fewer.samples) == len(readable)
    split = Split(readable, checked=skip_broken or was_checked)
    notes = store.add_samples(split, fewer=is_fewer)
    copies = content_copies(readable)
    return PartDataset(dataset, rows, readable), split, [*notes, *([copies] if copies else [])]


def _broken(
    dataset: Dataset, given: Split, known: Split | None, skip_broken: bool
) -> dict[str, Broken]:
    """Return the samples to leave out, by id, in the order of the data set."""
    recorded = {} if known is None else {(b.id, b.content): b for b in known.samples.broken}
    if given.content is None or not (skip_broken or recorded):
        return {}
    ids = given.samples.ids
    contents = [f"{each:016x}" for each in given.content.tolist()]
    broken = {
        pair[0]: recorded[pair] for pair in zip(ids, contents, strict=True) if pair in recorded
    }
    if not skip_broken:
        if broken:
            raise BrokenSamplesError([(each.id, each.reason) for each in broken.values()])
        return {}
    readable = set(known.samples.ids) if known is not None and known.checked else set()
    unsure = [row for row, name in enumerate(ids) if name not in readable and name not in broken]
    content_by_id = dict(zip(ids, contents, strict=True))
    for name, reason in find_broken(dataset, np.array(unsure, np.int64)):
        broken[name] = Broken(name, reason, content_by_id[name])
    return {name: broken[name] for name in ids if name in broken}


def _without(known: Split | None, broken: AbstractSet[str]) -> Split | None:
    """Return the split without the broken samples; the same object if none is broken."""
    if known is None or not broken & set(known.samples.ids):
        return known
    good = np.array([name not in broken for name in known.samples.ids], bool)
    return known.taken(np.flatnonzero(good))


def grown_share(whole: Dataset, store: str | Path, fraction: str, seed: int) -> Dataset:
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


def without_stored_shares(dataset: Dataset, store: str | Path) -> Dataset:
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
