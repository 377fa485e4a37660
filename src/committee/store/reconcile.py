"""Reconcile a data set with a store: the order of samples, broken samples, other splits."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace

import numpy as np

from committee.data.base import (
    BrokenSamplesError,
    Dataset,
    PartDataset,
    content_of,
    find_broken,
)
from committee.pool.identity import content_copies
from committee.pool.samples import Broken
from committee.store.folder import Store
from committee.store.split import Split, store_order


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
