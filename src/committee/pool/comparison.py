"""Which samples two pools share, where only outputs can tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from committee.arrays import Array
from committee.errors import UnknownNameError
from committee.pool.identity import Shared, places, same_rows, shared
from committee.pool.pool import Pool
from committee.pool.pool_model import summed_digests
from committee.pool.samples import CountedSamples, fingerprint
from committee.rule.outputs import Outputs

# Largest difference of a row between machines, as a share of its largest number.
_ROUNDED = 1e-2

# Rows whose outputs are compared.
_ROWS = 4096


def identity_of(pool: Pool, names: Iterable[str]) -> str:
    """Return a text that changes when the samples of a pool are others.

    See :attr:`committee.pool.samples.Samples.identity`; where ids only count, it is made of the
    outputs of some models.
    """
    if pool.samples.identity or not pool.keeps_outputs:
        return pool.samples.identity
    for name in (names := sorted(names)):
        if name not in pool.models:
            raise UnknownNameError.of("pool", "model", name, pool.models)
    return fingerprint(pool.models[name].fingerprint for name in names)


def sum_of(pool: Pool) -> Array:
    """Return three numbers for the set of a pool's samples; they add up over parts of it.

    They are made of contents where these are known, otherwise of ids. Ids that are numbers may only
    count, and then they are made of outputs.
    """
    each = pool.samples.numbers
    if each is None:
        each = pool.digests
    return np.array([len(each), each.sum(), (each * each).sum()], np.uint64)


def summed_identity(total: Array) -> str:
    """Return a fingerprint of the set of samples whose numbers :func:`sum_of` gave."""
    return fingerprint(map(str, total.tolist()))


def sum_identity_of(pool: Pool) -> str:
    """Return the fingerprint of the set of a pool's samples, which a folder of stores has too."""
    if isinstance(pool.samples, CountedSamples) or not pool.keeps_outputs:
        return ""
    return summed_identity(sum_of(pool))


def shared_samples(pool: Pool, other: Pool) -> Shared:
    """Return which samples two pools share: by content, by id, else by equal outputs.

    Samples of equal ids are not the same if the same models answer otherwise to them.
    """
    found = shared(pool.samples, other.samples)
    known = pool.samples.content is not None and other.samples.content is not None
    if known or not (pool.keeps_outputs and other.keeps_outputs):
        return found
    names = [n for n in pool.names if n in other.models and pool.kind == other.kind]
    if len(found) and not _answers_differ(pool, other, names):
        return found
    found = replace(found, first=found.first[:0], second=found.second[:0])
    each = (summed_digests((p.models[n] for n in names), len(p)) for p in (pool, other))
    rows = same_rows(*each) if names else ()
    return Shared(pool.samples, other.samples, *rows) if rows else found


def _answers_differ(pool: Pool, other: Pool, names: Sequence[str]) -> bool:
    rows = places(pool.samples, other.samples)
    theirs = np.flatnonzero(rows >= 0)[:_ROWS]
    return bool(names) and all(
        _mostly_differ(pool.model(name).rows(rows[theirs]), other.model(name).rows(theirs))
        for name in names
    )


def _mostly_differ(one: Outputs, two: Outputs) -> bool:
    """Return True if one model's outputs on two sets of samples differ in most rows.

    Rounding is no difference. Rows are compared in order.
    """
    first, second = (
        np.asarray(each.values if each.confidence is None else each.confidence, np.float64)
        for each in (one, two)
    )
    if first.shape != second.shape:
        return False
    first, second = (np.nan_to_num(each.reshape(len(each), -1)) for each in (first, second))
    off = np.abs(first - second).max(axis=1, initial=0)
    differ = off > _ROUNDED * np.abs(first).max(axis=1, initial=0)
    if one.confidence is not None:
        differ |= np.asarray(one.values != two.values)
    return bool(2 * differ.sum() > len(differ))
