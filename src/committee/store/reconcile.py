"""Brings a data set into line with what a store knows: order, broken samples, what is left."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path

import numpy as np

from committee.data.base import BrokenSamplesError, Dataset, content_of, find_broken
from committee.data.subset import REST, PartDataset, share, without
from committee.errors import ChangedError
from committee.pool.identity import content_copies, shared
from committee.pool.samples import Broken, Samples
from committee.store.folder import Store
from committee.store.split import Split, changed_text, known_split, other_splits, store_order


def reconcile(
    store: Store, dataset: Dataset, skip_broken: bool
) -> tuple[Dataset, Split, list[str]]:
    """Bring a data set into the order of the store, and record it there.

    Args:
        store: Opened for writing.
        dataset: The samples.
        skip_broken: True to leave out samples that cannot be read; those that the store does not
            know are then read once.

    Returns:
        The data set as the store has it, what was recorded, and notes on samples that other splits
        have too or that are copies.

    Raises:
        BrokenSamplesError: If none can be read, or the store left out some that are broken still
            and ``skip_broken`` is not given again.
        ChangedError: If the store has other samples under that name.
        StoreError: If another split of the store has some of them.
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
    left = replace(given.samples.taken(rows), broken=tuple(broken.values()))
    was_checked = fewer is not None and fewer.checked and len(fewer.samples) == len(left)
    split = Split(left, checked=skip_broken or was_checked)
    notes = store.add_samples(split, fewer=is_fewer)
    copies = content_copies(left)
    return PartDataset(dataset, rows, left), split, [*notes, *([copies] if copies else [])]


def _broken(
    dataset: Dataset, given: Split, known: Split | None, skip_broken: bool
) -> dict[str, Broken]:
    """Return the samples to leave out, by id, in the order given.

    Raises:
        BrokenSamplesError: If the store left out samples that are still broken, and
            ``skip_broken`` is not given again.
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


def _without(known: Split | None, broken: AbstractSet[str]) -> Split | None:
    """Return what the store knows without the broken samples; the same split if none is broken."""
    if known is None or not broken & set(known.samples.ids):
        return known
    good = np.array([name not in broken for name in known.samples.ids], bool)
    return known.taken(np.flatnonzero(good))


def taken(whole: Dataset, store: str | Path, fraction: str, seed: int) -> Dataset:
    """Return a share of every class, which includes what a split of the store already has.

    Args:
        whole: All samples, with the name of the split.
        store: Folder of the store.
        fraction: As of :func:`committee.data.share`.
        seed: Chooses the samples.

    Returns:
        If the split is new, the share. Else the samples that it has, and of those that no split of
        the store has, those that the share takes: a folder may have grown since.

    Raises:
        DataError: If the fraction is not of that form, or takes no sample.
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
    """Return the ids of the store's split if it was taken by the same rule, else None."""
    if not (store / samples.split).is_dir():
        return None
    known = known_split(store / samples.split, ())
    if known is None or _share_of(known.samples.rule) != _share_of(samples.rule):
        return None
    return {*known.samples.ids, *(broken.id for broken in known.samples.broken)}


def _share_of(rule: str) -> str:
    """Return a rule without the number of samples it was applied to."""
    return rule.rpartition(",")[0]


def rest(dataset: Dataset, store: str | Path) -> Dataset:
    """Return what remains of a data set without the store's splits that were taken by fraction.

    Args:
        dataset: The samples. If their split is not called ``test``, or the store has no split that
            was taken from them by a rule, they are returned as they are.
        store: Folder of the store.

    Raises:
        ChangedError: If some samples of such a split have another content now.
        DataError: If nothing is left.
    """
    if dataset.samples.split != REST:
        return dataset
    others = [each for each in other_splits(Path(store), REST) if each.samples.rule]
    if not others:
        return dataset
    given = replace(dataset.samples, content=content_of(dataset))
    sources = [each.samples for each in others if _is_from(given, each.samples)]
    if not sources:
        return dataset
    ids = set()
    for each in sources:
        _refuse_changed(Path(store), each, given)
        # What has another name now is that split's too, and what is broken there.
        ids |= {given.ids[row] for row in shared(each, given).second.tolist()}
        ids |= {*each.ids, *(broken.id for broken in each.broken)}
    names = ", ".join(each.split for each in sources)
    return without(dataset, frozenset(ids), f"what {names} left ({sources[0].rule})")


def _is_from(given: Samples, split: Samples) -> bool:
    """Return True if a split was taken from these samples: most of it is there, unchanged."""
    return 2 * len(shared(split, given).first) > len(split)


def _refuse_changed(store: Path, split: Samples, given: Samples) -> None:
    """Refuse samples of a split that have another content now.

    Raises:
        ChangedError: If there are some.
    """
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
            f"{store}: split {split.split!r}, of which {given.split!r} is to take the rest: "
            f"{changed}. Give the samples as they were, or predict both splits into another store "
            "with --out"
        )
