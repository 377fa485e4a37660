"""A data set brought into line with what a store knows: order, broken samples, what is left."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from committee.data import BrokenSamplesError, Dataset, PartDataset, content_of, without
from committee.data.base import find_broken
from committee.data.part import REST
from committee.samples import Broken
from committee.store.folder import Store
from committee.store.split import Split, other_splits, shared_ids, store_order


def settled(store: Store, dataset: Dataset, skip_broken: bool) -> tuple[Dataset, Split]:
    """Bring a data set into the order of the store, and record it there.

    Args:
        store: Opened for writing.
        dataset: The samples.
        skip_broken: Whether those that cannot be read are left out; those that the store does not
            know are then read once.

    Returns:
        The data set as the store has it, and what was recorded.

    Raises:
        BrokenSamplesError: If none can be read, or the store left out some that are broken still
            and ``skip_broken`` is not given again.
        ChangedError: If the store has other samples under that name.
        StoreError: If another split of the store has some of them.
    """
    samples = dataset.samples
    known = store.split(samples.split, samples.classes)
    given = Split(samples, content_of(dataset))
    broken = _broken(dataset, given, known, skip_broken)
    good = np.array([name not in broken for name in samples.ids], bool)
    if not good.any():
        raise BrokenSamplesError([(each.id, each.reason) for each in broken.values()])
    rows = np.flatnonzero(good)
    fewer, first_changed = _without(known, broken)
    rows = rows[store_order(store.root / samples.split, fewer, given.taken(rows))]
    left = replace(samples.taken(rows), broken=tuple(broken.values()))
    was_checked = fewer is not None and fewer.checked and len(fewer.samples) == len(left)
    split = replace(given.taken(rows), samples=left, checked=skip_broken or was_checked)
    store.add_samples(split, first_changed)
    return PartDataset(dataset, rows, left), split


def _broken(
    dataset: Dataset, given: Split, known: Split | None, skip_broken: bool
) -> dict[str, Broken]:
    """What is to be left out, by id, in the order given.

    Raises:
        BrokenSamplesError: If the store left out samples that are broken still, and that was not
            asked for again.
    """
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


def _without(known: Split | None, broken: Collection[str]) -> tuple[Split | None, int | None]:
    """What the store knows less what is broken, and the first row that this changes, if any."""
    if known is None:
        return None, None
    bad = np.array([name in broken for name in known.samples.ids], bool)
    if not bad.any():
        return known, None
    return known.taken(np.flatnonzero(~bad)), int(np.argmax(bad))


def rest(dataset: Dataset, store: str | Path) -> Dataset:
    """What the splits of a store that were taken by fraction leave of a data set.

    Args:
        dataset: The samples. If their split is not called ``test``, or the store has no split that
            was taken from them by a rule, they are returned as they are.
        store: Folder of the store.

    Raises:
        DataError: If nothing is left.
    """
    if dataset.samples.split != REST:
        return dataset
    others = [each for each in other_splits(Path(store), REST) if each.samples.rule]
    if not others:
        return dataset
    given = Split(dataset.samples, content_of(dataset))
    taken = {each.samples.split: shared_ids(each, given) for each in others}
    whole = [each for each in others if len(taken[each.samples.split]) == len(each.samples)]
    if not whole:
        return dataset
    ids = {name for each in whole for name in taken[each.samples.split]}
    # What is broken in another split is that split's.
    ids |= {broken.id for each in whole for broken in each.samples.broken}
    names = ", ".join(each.samples.split for each in whole)
    return without(dataset, frozenset(ids), f"what {names} left ({whole[0].samples.rule})")
